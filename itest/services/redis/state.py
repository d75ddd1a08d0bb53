# SPDX-License-Identifier: Apache-2.0
"""What belongs to the server as a whole and no FLUSHDB undoes: settings, functions, scripts, users, its role, clients.

Whether a test touched any of it is read from the server's own command counters, which costs one more answer in the
round trip of the reset; only what was touched is undone.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from itest import leaks
from itest.clock import Deadline
from itest.services.redis.clients import KEPT_NAME, Kept, package
from itest.services.redis.round_trip import Command, RoundTrip

if TYPE_CHECKING:
    from redis import Redis as Client

SETTINGS = ("config|set", "config|rewrite")
FUNCTIONS = ("function|load", "function|delete", "function|flush", "function|restore")
SCRIPTS = ("eval", "eval_ro", "script|load", "script|flush")
USERS = ("acl|setuser", "acl|deluser", "acl|load")
ROLE = ("replicaof", "slaveof")
ALL = frozenset((*SETTINGS, *FUNCTIONS, *SCRIPTS, *USERS, *ROLE))

RESET = "config|resetstat"
"""Begins all counters anew, so anything may have been called before. To undo ALL is counted, so that there is more than this
one when the next test calls it."""

LOOK: tuple[Command, ...] = (("CLIENT", "LIST"), ("INFO", "commandstats"))
"""Whose answers `ServerState.restore` needs, as the server wrote them."""

CLOSE_GRACE = 1.0
"""Seconds in which the server notices that a client was closed: on a busy machine Docker's proxy takes long to hang up."""

KILL_SECONDS = 5.0
"""Time that a script has to end when it is told to: the server asks it every 100 000 instructions."""


class ServerState:
    """The server's settings, functions and users as they were when `remember` was called.

    They are only restored with `whole`: where other processes use the server too, they may be what those have set.
    """

    def __init__(self, admin: Client, *, whole: bool = True) -> None:
        self._admin: Any = admin
        self._whole = whole
        self._ask = RoundTrip(admin, LOOK)
        self._counts: dict[str, int] = {}
        self._newest_client = 0
        self._ended: dict[tuple[str | None, ...], str] = {}
        """What was ended last of each kind of clients, and the test that left it."""
        self._settings: dict[str, str] = {}
        self._functions: bytes | None = None
        self._users: list[str] = []
        self.remember()
        self._has_scripts = False
        self._first = (self._settings, self._functions, self._users)

    def remember(self) -> None:
        """What is there now is what `restore` brings back."""
        self._settings, self._functions, self._users = state_of(self._admin)
        listed, stats = self._ask()
        counts = _counts(stats)
        # What the class's baseline has loaded. Redis does not list its scripts, so they could not be put back.
        self._has_scripts = any(counts.get(name) != self._counts.get(name) for name in SCRIPTS)
        self._counts = counts
        self._newest_client = _newest(clients_of(listed))

    def forget(self) -> None:
        """Bring back what was there before the class, whatever the class's own baseline added to it."""
        self._settings, self._functions, self._users = self._first
        self._undo(frozenset((*SETTINGS, *FUNCTIONS, *USERS)))
        if self._whole and self._has_scripts:
            self._admin.script_flush()

    def restore(self, answers: list[Any], database: int, kept: Kept, test: str) -> bool:
        """Undo what was touched since the last call, and end the clients that the test left waiting.

        The first of the answers are those to `LOOK`. Whether settings were other ones when they were given.
        """
        changed = False
        listed, stats, *_ = answers
        clients = self._to_look_at(listed, database, kept)
        self._end_leaked(clients, database, kept, test)
        counts = _counts(stats)
        if counts != self._counts:
            touched = frozenset(name for name, _ in counts.items() ^ self._counts.items())
            changed = self._undo(ALL if RESET in touched else touched)
            listed, stats = self._ask()
            clients, counts = clients_of(listed), _counts(stats)
        self._counts = counts
        self._newest_client = max(self._newest_client, _newest(clients))
        return changed

    def rescue(self, error: Exception, test: str) -> None:
        """Undo what may have the server refuse a reset, or not answer it, with this error. Raises what cannot be undone."""
        if str(error).startswith("BUSY "):
            self._end_script(test)
            return
        if not self._whole:
            error.add_note(
                "other processes use this server too, so what was changed of it as a whole is not undone; a test that "
                'changes settings, users or roles wants a server of its own: Redis(scope="class")'
            )
            raise error
        if isinstance(error, package().TimeoutError):
            self._admin.execute_command("CLIENT", "UNPAUSE")  # A pause of all, not of writes alone, holds this up too.
        self._undo(ALL)

    def _end_script(self, test: str) -> None:
        deadline = Deadline.after(KILL_SECONDS)
        while running := [said for kind in ("SCRIPT", "FUNCTION") if "NOTBUSY" not in (said := self._kill(kind))]:
            if self._whole and any(said.startswith("UNKILLABLE") for said in running):
                self._admin.shutdown(nosave=True)
                raise package().ResponseError(
                    f"{test} left a script running that has written, which Redis does not kill, so the server was ended; the "
                    f"next class gets a new one"
                )
            if deadline.passed:
                raise package().ResponseError(f"a script runs on after {KILL_SECONDS:g} s of SCRIPT KILL: {running}")
            deadline.pause(0.005)
        leaks.report(f"{test if self._whole else 'a test'} left a script running, which was killed")

    def _kill(self, kind: str) -> str:
        try:
            return str(self._admin.execute_command(kind, "KILL"))
        except package().ResponseError as error:
            return str(error)

    def leave(self, database: int, kept: Kept, test: str) -> None:
        """The class is over: end what its last test left waiting, and bring back what was there before."""
        try:
            self.settle(database, kept, test, idle=False)
        except (package().ResponseError, package().TimeoutError) as error:
            self.rescue(error, test)
            self.settle(database, kept, test, idle=False)
        self.forget()

    def _to_look_at(self, listed: bytes, database: int, kept: Kept) -> list[dict[str, str]]:
        """The new clients, and the kept ones that are not just as they were when new. To split up the other lines as well
        would take longer than all the rest."""
        newest, ids, lines = self._newest_client, kept.ids, []
        user, protocol = f" user={kept.user} ".encode(), f" resp={kept.protocol} ".encode()
        for line in listed.splitlines():
            number = int(line[3 : line.index(b" ")])
            if number in ids:
                quiet = _QUIET.search(line)
                if (
                    quiet is None
                    or int(quiet[1]) != database
                    or any(as_new not in line for as_new in (_KEPT, user, protocol))
                ):
                    lines.append(line)
            elif number > newest:
                lines.append(line)
        return clients_of(b"\n".join(lines)) if lines else []

    def _undo(self, touched: frozenset[str]) -> bool:
        """Whether settings were other ones. Users and role come first: they may forbid the rest."""
        if not self._whole:
            return False
        if touched.intersection(USERS):
            names = {_user(line) for line in self._users}
            for line in self._users:
                _, name, *rules = line.split(" ")
                self._admin.execute_command("ACL SETUSER", name, "reset", *rules)
            for line in self._admin.acl_list():
                if _user(line) not in names:
                    self._admin.acl_deluser(_user(line))
        if touched.intersection(ROLE):
            with contextlib.suppress(package().ResponseError):  # A node of a cluster has none.
                self._admin.execute_command("REPLICAOF", "NO", "ONE")
        changed = False
        if touched.intersection(SETTINGS):
            now = self._admin.config_get("*")
            for name, value in self._settings.items():
                if now.get(name) != value:
                    with contextlib.suppress(package().ResponseError):  # Some can be read but not set.
                        self._admin.config_set(name, value)
                        changed = True
        if touched.intersection(FUNCTIONS) and self._functions is not None:
            self._admin.function_restore(self._functions, "FLUSH")
        if touched.intersection(SCRIPTS) and not self._has_scripts:
            self._admin.script_flush()
        return changed

    def settle(self, database: int, kept: Kept, test: str, idle: bool) -> None:
        """As `restore`, of what there is now; with `idle` it also ends the clients of this database that the test only
        did not close, and gives the server time to notice those that it did."""
        answers = [*self._ask()]
        if idle:
            own = str(self._admin.client_id())
            grace = Deadline.after(CLOSE_GRACE)
            while (left := self._new(answers[0], database, own, kept)) and not grace.passed:
                grace.pause(0.005)
                answers = [*self._ask()]
            for client in left:
                if waiting(client):
                    continue  # `restore` ends it.
                with contextlib.suppress(package().ResponseError):  # Gone by itself.
                    self._admin.client_kill_filter(_id=client["id"])
                leaks.report(
                    f"{test} did not close a Redis client, and it was ended: client {client['id']}, last command: "
                    f"{client['cmd']}"
                )
        self.restore(answers, database, kept, test)

    def _new(self, listed: bytes, database: int, own: str, kept: Kept) -> list[dict[str, str]]:
        """The new clients of the database, but for the one that asks."""
        return [
            client
            for client in clients_of(listed)
            if int(client["id"]) > self._newest_client
            and not _is_kept(client, kept)
            and client["id"] != own
            and int(client["db"]) == database
        ]

    def _end_leaked(self, clients: list[dict[str, str]], database: int, kept: Kept, test: str) -> None:
        """Kill clients that connected during the test and are still blocked, subscribed or in MULTI.

        Those that connected before belong to the class, a live app for instance, and idle ones harm nobody.
        """
        strangers = [client for client in clients if not _is_kept(client, kept)]
        if any(int(client["id"]) in kept.ids and unclean(client, database, kept) for client in clients):
            kept.close()
        for client in strangers:
            doing = waiting(client)
            if int(client["id"]) <= self._newest_client or not doing:
                continue
            if not self._whole and int(client["db"]) != database:
                continue  # It may belong to the running test of another process.
            with contextlib.suppress(package().ResponseError):  # Gone by itself.
                self._admin.client_kill_filter(_id=client["id"])
            kind = tuple(client.get(name) for name in ("name", "user", "lib-name", "db", "cmd"))
            first = self._ended.setdefault(kind, test)
            again = f"; or it is the one that {first} left, which connects again by itself" if first != test else ""
            leaks.report(
                f"{test} left a Redis client behind, which was ended: it was {doing}, last command: {client['cmd']}{again}"
            )


def state_of(admin: Any) -> tuple[dict[str, str], bytes | None, list[str]]:
    """A server's settings, its functions (None before Redis 7) and its users."""
    functions = None
    with contextlib.suppress(package().ResponseError):
        functions = admin.function_dump()
    return admin.config_get("*"), functions, admin.acl_list()


_KEPT = f" name={KEPT_NAME} ".encode()

_QUIET = re.compile(rb" flags=N db=(\d+) sub=0 psub=0 (?:ssub=0 )?multi=-?\d+ (?:watch=0 |(?!watch=))")
"""In the line of a client that waits for nothing, as all versions write it; one that is written otherwise is looked at."""

_WATCHED = re.compile(  # Without a ^ it is found three times as fast.
    rb"cmdstat_(%s):calls=(\d+)" % b"|".join(re.escape(name.encode()) for name in sorted((*ALL, RESET)))
)


def as_it_is(answer: bytes, **options: object) -> bytes:
    return answer


def _counts(stats: bytes) -> dict[str, int]:
    """How often the commands were called that change what belongs to the whole server."""
    return {name.decode(): int(calls) for name, calls in _WATCHED.findall(stats)}


def clients_of(listed: bytes) -> list[dict[str, str]]:
    """The fields of each client. A value may hold anything but spaces, and be empty."""
    lines = listed.decode("utf-8", "replace").splitlines()
    return [dict(word.split("=", 1) for word in line.split(" ") if "=" in word) for line in lines if line]


def _newest(clients: list[dict[str, str]]) -> int:
    return max((int(client["id"]) for client in clients), default=0)


def waiting(client: dict[str, str]) -> str:
    """What a client is in the middle of; empty for one that only is connected."""
    if "b" in client["flags"]:
        return "blocked"
    if any(int(client.get(name, 0)) > 0 for name in ("sub", "psub", "ssub")):
        return "subscribed"
    return "in MULTI" if "x" in client["flags"] else ""  # Valkey 9.1 says multi=0 of all that ever were.


def _is_kept(client: dict[str, str], kept: Kept) -> bool:
    """Whether it is this lease's kept client, or another one's, which ends it itself."""
    return int(client["id"]) in kept.ids or client["name"] == KEPT_NAME


def unclean(client: dict[str, str], database: int, kept: Kept) -> bool:
    """Whether it is not as it was when new. Before Redis 7 it does not say which protocol it speaks."""
    as_new = {
        "name": KEPT_NAME,
        "db": str(database),
        "flags": "N",
        "watch": "0",
        "user": kept.user,
        "resp": kept.protocol,
    }
    return bool(waiting(client)) or any(client.get(name, value) != value for name, value in as_new.items())


def _user(line: str) -> str:
    return line.split(" ", 2)[1]
