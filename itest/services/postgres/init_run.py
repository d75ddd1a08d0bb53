# SPDX-License-Identifier: Apache-2.0
"""Running the scripts of `init` on a new local process, as the official image's entrypoint runs them in a container."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from itest import naming, script
from itest.engines import place_of
from itest.errors import StartError, StartTimeout
from itest.services.postgres.init import scripts
from itest.wait import current_deadline
from itest.wait_errors import with_log

if TYPE_CHECKING:
    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.server import PostgresServer

MODULES = {".gz": "gzip", ".xz": "lzma"}
"""What takes a compressed script apart."""


def run(server: PostgresServer, service: Postgres, database: str) -> None:
    """Make the database on a new server and run the scripts in it, as the image's entrypoint does.

    They are a part of the server's start, and have what is left of its startup_timeout. Raises StartError that names the
    statement which failed, StartTimeout that names the script which still ran.
    """
    if place_of(server.instance) is None:
        raise StartError(
            f"image {service.image} made no database {database!r}: init and database want an image that begins as the "
            f"official postgres image does",
            service=service.kind,
        )
    server.admin(f'CREATE DATABASE "{database}"')
    deadline = current_deadline()
    for file in scripts(service).values():
        try:
            sql = _text(file)
            # A connection for each, as psql has: what a script sets for its session is not for the next one.
            script.run_alone(server.connection(database, "itest init"), sql, server, deadline)
        except script.ScriptError as error:
            hint = ""
            if error.statement.startswith("\\"):
                hint = "; local processes run SQL only, use Docker for what psql itself does"
            raise StartError(
                f"init failed on {server.version}: {error.sentence(file)}{hint}", service=service.kind
            ) from error.__cause__
        except TimeoutError:
            assert deadline is not None, "else nothing ends it"
            late = StartTimeout(
                f"init {script.shown(file)}: still running after {deadline.seconds:g} s, in which {server.version} was to be "
                f"ready, and cancelled. If it only needs longer, raise startup_timeout.",
                service=service.kind,
                seconds=deadline.elapsed,
                reason=f"init {script.shown(file)}: still running",
            )
            raise with_log(server.instance, late) from None
    server.end_sessions(database)  # One that is still leaving would keep the next from cloning it.


def _text(file: Path) -> str:
    if (name := MODULES.get(file.suffix)) is None:
        return script.read(file)
    try:
        module = importlib.import_module(name)  # Few scripts are compressed.
    except ImportError as error:
        raise script.ScriptError(f"this Python cannot read it, as it was built without {name}; use Docker") from error
    try:
        text: str = module.decompress(file.read_bytes()).decode("utf-8-sig")
    except Exception as error:  # Each module has its own.
        raise script.ScriptError(f"it is no {file.suffix[1:]} of UTF-8: {naming.shorten(str(error))}") from error
    return text
