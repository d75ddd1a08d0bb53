# SPDX-License-Identifier: Apache-2.0
"""What of a PostgreSQL server of ours is kept for later runs: its initialised files and its migrated templates.

All else must be as it was when the server started, or nothing is kept: what a test left in a database that nobody
resets would come back in every later run.
"""

from __future__ import annotations

import contextlib
import posixpath
import signal
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from itest import naming
from itest.clock import wall
from itest.engines import place_of
from itest.services.postgres import init, shared
from itest.services.postgres.customs import hashed, password_statement
from itest.spec import Keep

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

MOST = 8
"""Templates that are kept; each takes 8 MB or more and a hundredth of a second at the start."""

NEW = "itest: a template database, to be kept"
PASSING = "itest: a template database of this run"
IMPURE = "itest: a template database of this run, with roles or settings that belong to it"
KEPT = "itest: a template database, last used at {}"

TEMPLATE = "itest_t_"
"""How the names of template databases begin on our own servers."""

WAL_ELSEWHERE = "its write-ahead log lies outside of its data directory"

OURS = r"^itest_(t_[0-9a-f]{16}|r_[0-9a-f]{16}_[0-9a-f]{8}|kept_[0-9a-z_]+|[0-9a-f]{8}_[0-9]+)$"
"""The names of the databases that itest makes, in any process of a run."""


def footprint(server: PostgresServer) -> object:
    """What there is on the server besides our databases; equal as long as nobody has changed it.

    Of the other databases, what was written to them: the statistics of sessions that have ended are complete.
    """
    return sorted(
        server.admin(
            "SELECT 'role', a::text FROM pg_authid a "
            "UNION ALL SELECT 'member', m::text FROM pg_auth_members m "
            "UNION ALL SELECT 'setting', s::text FROM pg_db_role_setting s "
            "  WHERE setdatabase = 0 OR setdatabase IN (SELECT oid FROM pg_database WHERE datname !~ %s) "
            "UNION ALL SELECT 'system', pg_read_file(%s) "
            "UNION ALL SELECT 'space', spcname FROM pg_tablespace "
            "UNION ALL SELECT 'here', relname FROM pg_class WHERE oid >= 16384 "
            "UNION ALL SELECT 'function', proname FROM pg_proc WHERE oid >= 16384 "
            "UNION ALL SELECT datname, CASE WHEN datname = current_database() THEN '' ELSE concat_ws(' ', "
            "  pg_stat_get_db_tuples_inserted(oid), pg_stat_get_db_tuples_updated(oid), pg_stat_get_db_tuples_deleted(oid)) END "
            "  FROM pg_database WHERE datname !~ %s",
            OURS,
            shared.SYSTEM_FILE,
            OURS,
        )
    )


def keep(server: PostgresServer, first: object, impure: shared.Shared | None, *, cold: bool) -> Keep | None:
    """Bring the server to what it was at `first`, its footprint then, but for templates that may stay; None: not worth
    it, or not possible. `impure` is the shared state before migrations changed it."""
    templates = dict(
        server.admin(
            "SELECT datname, coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database "
            "WHERE datname ~ '^itest_t_[0-9a-f]{16}$'"
        )
    )
    from itest.services.postgres.schema import Schemas

    was_impure = IMPURE in templates.values()
    if (not cold and (was_impure or NEW not in templates.values())) or (was_impure and impure is None):
        return None
    # Of those made beside a template with roles of its own nobody knows whether they could be without these.
    gone = (PASSING, IMPURE, NEW) if was_impure else (PASSING,)
    lasting = {name: comment for name, comment in templates.items() if comment not in gone}
    # Those used in this run have the greatest comment: now.
    lasting.update(dict.fromkeys(lasting.keys() & server.templates, NEW))
    stay = sorted(lasting, key=lambda name: (lasting[name] == NEW, lasting[name]))[-MOST:]
    for (name,) in server.admin("SELECT datname FROM pg_database WHERE datname ~ %s", OURS):
        if name not in stay:
            server.drop_foreign(name)
    if impure is not None:
        shared.restore(server, impure)
    if server.part_made(Schemas) or footprint(server) != first:
        return None
    elsewhere = "SELECT spcname FROM pg_tablespace WHERE pg_tablespace_location(oid) LIKE '/%' ORDER BY spcname"
    if spaces := server.admin(elsewhere):
        names = ", ".join(name for (name,) in spaces)
        return Keep((), failed=f"its tablespaces ({names}) lie outside of its data directory, which alone can be kept")
    place = place_of(server.instance)
    if place is not None and (place / "data" / "pg_wal").is_symlink():
        return Keep((), failed=WAL_ELSEWHERE)
    unlogged = "SELECT 1 FROM pg_class WHERE relpersistence = 'u' LIMIT 1"
    directory = logs = ""
    if place is None:  # A container: its copy recovers as after a crash, which empties them.
        [(directory, logs)] = server.admin("SELECT current_setting('data_directory'), current_setting('log_directory')")
        with server.visit(server.base) as cursor:
            cursor.execute(unlogged)
            if cursor.fetchall():
                return None
    now = KEPT.format(f"{wall():.0f}")
    for name in stay:
        server.end_sessions(name)
        if lasting[name] == NEW:
            server.admin(f'COMMENT ON DATABASE "{name}" IS %s', now)
    secret = server.chosen_password or naming.secret()
    server.admin(password_statement(server.user), hashed(secret))
    server.admin("CHECKPOINT")
    if not directory:
        tidy = f"{__name__}:tidy"
        return Keep(("data",), secret=secret, stop_signal=signal.SIGINT, tidy=tidy)
    return Keep(
        (directory,),
        secret=secret,
        launch=_LAUNCH,
        before=(
            ("0", ("sh", "-c", f'[ ! -h "$1" ] || {{ echo "{WAL_ELSEWHERE}"; exit 1; }}', "sh", f"{directory}/pg_wal")),
            # Everything but the server's first process, which writes nothing by itself: the copy must not change meanwhile.
            ("0", ("sh", "-c", "kill -STOP -1")),
        ),
        # What a script has written elsewhere would be missing, for it does not run again. What passes at an end, and logs, are
        # no data.
        besides=(init.PLACE, "/tmp", "/run", "/var/log", posixpath.join(directory, logs)) if server.has_init else (),
        after=(("postgres", ("sh", "-c", _AFTER, "sh", f"/itest-warm{directory}", *server.options)),),
    )


_LAUNCH = """\
if [ "$1 $2" = "docker-entrypoint.sh postgres" ] && [ "$(id -u)" = 0 ]; then
    run=/var/run/postgresql
    { [ -d $run ] || mkdir -p $run; } && chown postgres:postgres $run && chmod 3777 $run
    as="setpriv --reuid=postgres --regid=postgres --init-groups"
    if command -v gosu >/dev/null; then shift; exec gosu postgres "$@"; fi
    if $as true 2>/dev/null; then shift; HOME=/var/lib/postgresql exec $as "$@"; fi
fi
"""
"""The official image's entrypoint, for a directory that is initialised: it would look at each of its files, in 35 ms."""

_AFTER = """\
data=$1; shift
rm -f $data/postmaster.pid
postgres --single -D $data "$@" template1 </dev/null || exit 1
last=$(pg_controldata -D $data | sed -n 's/.*REDO WAL file: *//p')
[ -n "$last" ] || exit 0
for file in $data/pg_wal/0*; do
    [ ${file##*/} = "$last" ] || rm -f $file
done
"""
"""Recovers the copy, which looks like that of a server that was killed, and leaves out what it does not need of the
write-ahead log."""


def tidy(place: Path) -> None:
    """Remove what a server that was shut down does not need of its write-ahead log: all files but the last written."""
    with contextlib.suppress(OSError, ValueError, struct.error):
        files = [file for file in (place / "data" / "pg_wal").iterdir() if len(file.name) == 24]
        written = max(_written(files), default=None)
        for file in files if written else ():
            if file.name != written:
                file.unlink()


def _written(files: Iterable[Path]) -> Iterable[str]:
    """The names of those that hold what their name says, and no older log whose file is to be used again.

    XLogLongPageHeaderData (access/xlog_internal.h): the page's address at byte 8, the size of a file at 32.
    """
    for file in files:
        with file.open("rb") as stream:
            head = stream.read(40)
        address, size = struct.unpack_from("=Q", head, 8)[0], struct.unpack_from("=I", head, 32)[0]
        if size and f"{address // (1 << 32):08X}{address % (1 << 32) // size:08X}" == file.name[8:]:
            yield file.name
