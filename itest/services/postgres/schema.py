# SPDX-License-Identifier: Apache-2.0
"""isolation="schema": a schema of its own for each class, in the database of the server's URL, by its search_path.

The schema's name carries a token of the run, its comment says so, and a session holds an advisory lock on that token as
long as the run lives: what a killed run left is known by its free lock, and dropped by the next.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from itest import naming, trace
from itest.errors import ExternalError, ResetError
from itest.evidence import Evidence
from itest.lease import Lease
from itest.migrations import migrate
from itest.packages import client_package
from itest.services.postgres import evidence, leaks
from itest.services.postgres.kept import Kept
from itest.services.postgres.probe import WITHIN_REACH, Probe, Refused
from itest.services.postgres.probe_session import LOCK_TIMEOUT
from itest.services.postgres.standing import Ask, Standing, key
from itest.services.postgres.structure import catalogs_of, shapes_of, state_of
from itest.services.postgres.view import PostgresView

if TYPE_CHECKING:
    from itest.services.postgres.declaration import Postgres
    from itest.services.postgres.server import PostgresServer

COMMENT = "itest: a test class's schema, of the run {token}"
LOCK = int.from_bytes(b"itst", "big") & 0x7FFFFFFF
"""The first key of the advisory locks; the second is the run's token."""


class Schemas:
    """The schemas that a run makes in a database. Raises ExternalError where the user may not make any."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._token = naming.random_hex(4)
        self._numbers = itertools.count(1)
        self._made: set[str] = set()
        self._own = Standing(server, f"itest schemas {self._token}", self._hold)
        self._ask = self._own.ask
        try:
            self._sweep()
        except BaseException:
            self._own.close()
            raise

    def create(self, name: str = "") -> str:
        """Make an empty schema; under a new name unless one is given. Returns the name."""
        name = name or f"itest_{self._token}_{next(self._numbers)}"
        comment = COMMENT.format(token=self._token).replace("'", "''")
        try:
            self._ask(f"BEGIN; CREATE SCHEMA {name}; COMMENT ON SCHEMA {name} IS '{comment}'; COMMIT")
        except self._server.driver.errors.InsufficientPrivilege as error:
            self._ask("ROLLBACK")
            server = self._server
            raise ExternalError(
                f"the user {server.user!r} may not create a schema in the database {server.database!r}, and with "
                f"isolation='schema' each class gets one: GRANT CREATE ON DATABASE {server.database} TO {server.user}"
            ) from error
        self._made.add(name)
        return name

    def drop(self, name: str, test: str) -> None:
        """Drop a schema, and end what `test` has left running in it. Raises ResetError where others hold it fast."""
        assert name.startswith(f"itest_{self._token}_"), f"{name} was not made here"
        leaks.end_users(self._server, f"n.nspname = '{name}'", test)
        try:
            self._ask(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        except self._server.driver.errors.LockNotAvailable as error:
            raise ResetError(
                f"the schema {name} could not be dropped: {str(error).strip()}. {leaks.in_transaction(self._ask)}"
            ) from error
        self._made.discard(name)
        if self._server.instance.owned:  # It has no autovacuum, and each reset goes through all of these.
            self._ask(f"VACUUM (SKIP_LOCKED) {', '.join(catalogs_of(name))}")

    def close(self) -> None:
        try:
            for name in list(self._made):
                with contextlib.suppress(self._server.driver.Error):
                    try:
                        self.drop(name, "a test")
                    except ResetError as error:
                        trace.say(f"{error}; a later run on {self._server.database} drops it")
        finally:
            self._own.close()

    def _sweep(self) -> None:
        """Drop what killed runs left: schemas of our kind of name, with our comment, whose run holds no lock."""
        rows = self._ask(
            "SELECT nspname, obj_description(oid, 'pg_namespace') FROM pg_namespace "
            "WHERE nspname LIKE 'itest\\_%%' AND pg_has_role(nspowner, 'USAGE')"
        )
        for name in self._own.left_by_dead(rows, COMMENT, LOCK):
            left = f"the schema {name}, which a killed run had left in {self._server.database}"
            try:
                self._ask(f"DROP SCHEMA IF EXISTS {name} CASCADE")
                trace.say(f"dropped {left}")
            except self._server.driver.Error as error:
                trace.say(f"{left}, could not be dropped: {naming.shorten(str(error))}")

    def _hold(self, ask: Ask) -> None:
        ask(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        ask("SELECT pg_advisory_lock(%s, %s)", LOCK, key(self._token))


class SchemaLease(Lease[PostgresView]):
    """A schema of a class's own, migrated for it, and brought back to its baseline before each test."""

    def __init__(self, server: PostgresServer, service: Postgres, owner: str) -> None:
        self._server = server
        self._service = service
        self._directory = service.directory
        self._schemas = server.part(Schemas)
        self._schema = self._schemas.create()
        self._last_test = owner
        self._kept = SchemaKept(server, self._schema, naming.application_name(owner))
        self.view = self._view(owner)
        self._probe = self._new_probe()
        try:
            if not server.instance.owned:
                self._check_search_path()
            self._migrate()
            self._probe.look_at_schema()
        except BaseException:
            self.close()
            raise

    def seal(self) -> None:
        self.view.report_uncommitted()
        self.view.close()
        self._kept.close()
        made = self._probe.structure
        self._probe.learn()
        self._can_be_made_again = self._probe.structure == made

    def reset(self, test: str) -> SchemaView:
        try:
            self._kept.scrub(test=self._last_test)
            try:
                undone = self._probe.undo(lambda: self._probe.end_users(self._last_test))
            except Refused:
                if not self._can_be_made_again:
                    raise
                undone = False  # The rows come with the schema: they were there before the constraint.
            if not undone:
                self._make_again(test)
        except (ResetError, self._server.driver.Error) as error:
            raise ResetError(
                f"the schema {self._schema} could not be reset for {test}: {str(error).strip()}"
            ) from error
        self._last_test = test
        return self._view(test)

    def evidence(self, since: float) -> Evidence:
        return evidence.evidence(self._server, self._server.database, since, {})

    def close(self) -> None:
        self.view.close()
        self._kept.close()
        with contextlib.suppress(self._server.driver.Error, ResetError):  # It is tried again, and told, in the end.
            self._probe.close()
            self._schemas.drop(self._schema, self._last_test)

    def _view(self, test: str) -> SchemaView:
        return SchemaView(self._schema, self._server, self._server.database, test, self._kept, self._directory)

    def _new_probe(self) -> Probe:
        return Probe(
            self._server,
            self._connect,
            f"n.nspname = '{self._schema}' AND {WITHIN_REACH}",
            state_of(catalogs_of(self._schema)),
            shapes_of(self._schema),
        )

    def _connect(self) -> Any:
        """For the reset: what its statements call may count on the search_path."""
        server = self._server
        options = _options(with_search_path(server.nearest_url_of(server.database), self._schema))
        return server.connection(server.database, "itest reset", options=options)

    def _check_search_path(self) -> None:
        """See that connections by the view's address work in the schema: where a pooler drops their `options`, migrations and
        resets would change what is somebody else's. Raises ExternalError."""
        try:
            [(found,)] = self.view.execute("SELECT current_schema()")
            if found == self._schema:
                return
            reason = f"drops these, so that connections would work in the schema {found!r}"
        except self._server.driver.OperationalError as error:
            if "unsupported startup parameter" not in str(error):
                raise
            reason = f"refuses these ({str(error).strip()})"
        raise ExternalError(
            f"isolation='schema' leads connections into the schema {self._schema} by their `options`, and a pooler at "
            f"{self._server.instance} {reason}: name the server itself, or declare isolation='database' or 'truncate'"
        )

    def _migrate(self) -> None:
        if self._service.migrations is not None:
            with trace.step("migrate", self._service.kind, server=self._server.instance.id):
                migrate(self._service.migrations, self.view, self._directory)
        if self._service.fixtures:
            self.view.load(*self._service.fixtures)

    def _make_again(self, test: str) -> None:
        """The schema was changed: make it anew, and bring the baseline's rows into it."""
        if not self._can_be_made_again:
            raise ResetError(
                f"{self._last_test} changed the schema, and so had the set-up of its class, which cannot be done again: "
                f"make in migrations or fixtures what is made there, and refresh materialized views there, too"
            )
        before = self._probe
        self._kept.close()
        self._schemas.drop(self._schema, self._last_test)
        self._schemas.create(self._schema)
        self.view = self._view(test)
        self._migrate()
        self.view.close()
        self._kept.close()
        probe = self._new_probe()
        probe.adopt(before)
        self._probe = probe  # Not before: if this is interrupted, the rows of the baseline are in the other one only.
        before.close()


class SchemaKept(Kept):
    """The kept connections of a schema."""

    def __init__(self, server: PostgresServer, schema: str, label: str) -> None:
        super().__init__(server, server.database, label)
        self._schema = schema
        self._url = with_search_path(self._url, schema)

    def nearest_url(self) -> str:
        return with_search_path(super().nearest_url(), self._schema)


class SchemaView(PostgresView):
    """A test's schema: every address that it gives carries the search_path."""

    def __init__(self, schema: str, *args: Any) -> None:
        super().__init__(*args)
        self.schema = schema

    @property
    def url(self) -> str:
        return with_search_path(super().url, self.schema)

    @property
    def dsn(self) -> str:
        make_dsn = client_package("psycopg2.extensions", "postgres", "PostgresView.dsn").make_dsn
        return str(make_dsn(super().dsn, options=_options(self.url)))

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "PGOPTIONS": _options(self.url)}


def with_search_path(url: str, schema: str) -> str:
    """The URL with `options=-csearch_path=...` added to what it has."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query["options"] = f"{query.get('options', '')} -csearch_path={schema}".strip()
    return parts._replace(query=urlencode(query, quote_via=quote)).geturl()


def _options(url: str) -> str:
    return dict(parse_qsl(urlsplit(url).query)).get("options", "")
