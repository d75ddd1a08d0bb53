# SPDX-License-Identifier: Apache-2.0
"""What a class has of each of its services: the server that was lent, and the lease of its data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from itest import alive, references
from itest import network as networks
from itest import session as sessions
from itest.errors import ExternalError, NotStarted, ResetError, ServerDied, StopError
from itest.fixture_files import directory_of
from itest.lease import Held, Lease
from itest.network import ClassNetwork
from itest.service import Server, Service, View

__unittest = True  # Hides these frames from the traceback of a failed test (unittest/result.py).


def loans_of(
    owner: type,
    declared: Sequence[tuple[str, Service[Any]]],
    session: sessions.Session,
    network: ClassNetwork | None,
) -> list[Loan]:
    """A loan for each service of a class, none of them taken yet, in an order in which they can be."""
    services = dict(declared)
    loans: dict[str, Loan] = {}
    for wave in references.waves(owner.__qualname__, declared):
        for name in wave:
            loans[name] = Loan(owner, name, services[name], session, network, loans)
    return list(loans.values())


def network_of(
    cls: type, declared: Sequence[tuple[str, Service[Any]]], session: sessions.Session
) -> ClassNetwork | None:
    """The network of its containers, where it has any to be on one."""
    _, network = networks.declared(cls)
    if network is None and (len(declared) < 2 or not any(service.in_container for _, service in declared)):
        return None
    return session.network(cls.__name__.lower(), network.aliases if network else {}, dict(declared))


def take_all(loans: Sequence[Loan], session: sessions.Session) -> None:
    """Have the servers of these loans started, those side by side that do not wait for one another.

    Those that start fast come first: their leases are taken, migrations and all, while the others still start.
    """
    left = {loan.name: loan for loan in loans if loan.service.scope != "test"}
    for names in references.waves("", [(name, loan.service) for name, loan in left.items()]):
        wave = sorted((left[name] for name in names), key=lambda loan: loan.service.start_seconds)
        session.lend_all([loan.wanted() for loan in wave], partial(_take, wave), wave[0].owner_name)


def _take(loans: Sequence[Loan], number: int, server: Server[Any]) -> None:
    loans[number].take(server)


class Loan:
    """One service of one class: the server that was lent, the lease of its data, and when each is reset."""

    def __init__(
        self,
        owner: type,
        name: str,
        service: Service[Any],
        session: sessions.Session,
        network: ClassNetwork | None,
        neighbours: Mapping[str, Loan],
    ) -> None:
        self.owner = owner
        self.name = name
        self.service = service
        self._session = session
        self._network = network
        self._neighbours = neighbours
        self._needs = references.needs(service)
        self._resolved = service
        self._directory = directory_of(owner.__module__)
        self._server: Server[Any] | None = None
        self._lease: Lease[Any] | None = None
        self.around = contextlib.ExitStack()
        """What the class runs in while it has the lease."""
        self._held: Held | None = None
        self._sealed = self._end_told = False
        self._last_test = self.owner_name
        self.mark: Callable[[], object] = _nothing
        """Called when a test begins, for a server whose log does not tell the time of its lines."""
        self._cuts = 0
        self._stop_error: StopError | None = None

    @property
    def owner_name(self) -> str:
        """The class, by a name that runners print too."""
        return f"{self.owner.__module__}.{self.owner.__qualname__}"

    @property
    def label(self) -> str:
        return f"{self.owner.__qualname__}.{self.name}"

    @property
    def scope_key(self) -> str:
        return "" if self.service.scope == "session" else f"{self.owner.__module__}.{self.label}"

    def wanted(self) -> tuple[Service[Any], str, ClassNetwork | None, str]:
        """What `Session.lend` is asked for. Its neighbours run by now."""
        if self._needs:
            views = {name: self._neighbours[name].class_view() for name in self._needs}
            self._resolved = references.resolved(self.service, self.label, views)
        return self._resolved, self.scope_key, self._network, self.name

    def take(self, server: Server[Any]) -> None:
        self._server = server
        owner = self.owner_name
        with self._session.trace.span("lease", self.service.kind, owner=owner, server=server.instance.id):
            try:
                self._lease = server.lease(self._resolved, owner)
            except Exception as error:
                self._session.ask(self._resolved, server)
                sessions.note_name(error, self.service, self.name)
                raise
        self._lease.used_by = [name for name, loan in self._neighbours.items() if self.name in loan._needs]
        self._place(self._lease.view)
        given = self.around.enter_context(self._resolved.during(self._lease.view))
        self._held = given if isinstance(given, Held) else None
        self._sealed = self._end_told = False
        self.mark = getattr(server.instance, "mark", _nothing)
        self._cuts = self._cuts_of_neighbours

    @property
    def lent(self) -> tuple[Server[Any], Lease[Any]] | None:
        """The server and the lease, while there are any."""
        return None if self._server is None or self._lease is None else (self._server, self._lease)

    @property
    def is_held(self) -> bool:
        """Whether it was lent under somebody's transaction, whose end undoes what tests do."""
        return self._held is not None and not self._sealed

    def given_to(self, test: str) -> bool:
        """Whether that is who has it now; a class, by its name, until the first test."""
        return self._last_test == test

    def class_view(self) -> View:
        if self._lease is None:
            ahead = ", or have it made by migrations= and fixtures=" if hasattr(self.service, "fixtures") else ""
            raise NotStarted(
                f"{self.label}: scope='test' has no class-level view, as each test gets a server of its own: write its data in "
                f"setUp{ahead}"
            )
        return self._lease.view  # type: ignore[no-any-return]  # a Lease[Any]: loans are of any service

    def rest(self) -> None:
        """Before the first test: what its server still does of the class's set-up belongs to the baseline."""
        if self._lease is not None and not self._sealed:
            self._lease.rest(self.owner_name)

    def reset(self, test: str) -> View:
        """The view of the next test, on data that equals the baseline."""
        if self.service.scope == "test":
            try:
                self.give_back()
            except StopError as error:  # Of an earlier test's: told at the class's end, as this test has no part in it.
                self._stop_error = error
            self.take(self._session.lend(*self.wanted()))
        assert self._lease is not None and self._server is not None
        if self._end_told or self._server.hung_up():
            self._report_death(test)
        kind, server = self.service.kind, self._server.instance.id
        with self._session.trace.span("reset", kind, test=test, server=server) as span:
            try:
                held = self._held is not None and self._held.now()
                if not held and not self._sealed:
                    self._lease.seal()
                    self._sealed = True
                if self._needs:
                    self._mend()
                view: View | None = self._lease.lend(test) if held else self._lease.reset(test)
                if view is None:
                    raise ResetError(
                        f"{self.label}: somebody holds a transaction for the whole class, as django.test.TestCase does, and "
                        f"isolation={self.service.isolation!r} can undo nothing under it: leave isolation out, and what "
                        f"the tests do is undone with it, or derive from django.test.SimpleTestCase"
                    )
            except Exception:
                try:
                    self._report_death(test)
                except (ServerDied, ExternalError) as error:
                    raise error from None  # What a client says of a server that is gone explains nothing.
                raise
            span.facts["way"] = self._lease.way
        self._place(view)
        view.give_to(test)
        self._last_test = test
        return view

    def _place(self, view: View) -> None:
        view.directory, view.attribute = self._directory, self.name

    def _report_death(self, test: str) -> None:
        """Raise ServerDied if the server has ended, ExternalError if an external one is gone: that is why it could not be
        used. Its log is told once."""
        server = self._server
        if server is not None:
            self._session.ask(self._resolved, server)
        if server is None or server.tells_its_end or (state := alive.ended(server, alive.GRACE)) is None:
            return
        known, self._end_told = self._end_told, True
        raise alive.died(
            f"{self.label} ended before {test}: {server.title} ({server.instance}) {alive.told(state)}. The last test that "
            f"used it was {self._last_test}{'; its end is told above' if known else ''}. No other test of this class can "
            f"run; the next class gets a new one",
            server,
            state,
            log=not known,
        )

    def found_dead(self) -> None:
        """Its server's end has been told, log and all."""
        self._end_told = True

    def _mend(self) -> None:
        """Have the server started again where it has lost its connections to neighbours, which are reset before it."""
        if (cuts := self._cuts_of_neighbours) != self._cuts and self._server is not None:
            self._cuts = cuts
            with self._session.trace.span("reconnect", self.service.kind):
                if self._server.reconnect():
                    for lease in self._leases_of_neighbours:
                        lease.reconnected()

    @property
    def _cuts_of_neighbours(self) -> int:
        return sum(lease.cuts for lease in self._leases_of_neighbours)

    @property
    def _leases_of_neighbours(self) -> list[Lease[Any]]:
        leases = [self._neighbours[name]._lease for name in self._needs]
        return [lease for lease in leases if lease is not None]

    @property
    def finishes(self) -> bool:
        """Whether there is anything to `finish`."""
        return self._lease is not None and type(self._lease).finish is not Lease.finish

    def finish(self, test: str) -> None:
        if self._lease is not None:
            self._lease.finish(test)

    def settle(self, test: str, since: float) -> None:
        """With `strict`: see `Lease.settle`."""
        if self._lease is not None:
            # Of AsyncContainerTestCase: a pool of such a class connects within its tests.
            is_alone = getattr(self.owner, "loop_scope", "test") == "test"
            self._lease.settle(test, since, is_alone and not self._lease.used_by)

    def give_back(self) -> None:
        """Raises StopError."""
        lease, self._lease = self._lease, None
        server, self._server = self._server, None
        with self.around:  # Left after the lease, which ends what uses its data.
            if lease is not None:
                lease.close()
        if server is not None and self.service.scope != "session":
            self._session.take_back(server)
        elif server is not None:
            self._session.has_ended(self.service, server)
        if self._stop_error is not None:
            raise self._stop_error

    @property
    def stopped(self) -> bool:
        return self._session.closed

    @property
    def usable(self) -> bool:
        return not self.stopped and self._session is sessions.opened()


def _nothing() -> None:
    """For an instance whose log needs no mark."""
