# SPDX-License-Identifier: Apache-2.0
"""Assertions about services, in unittest's manner: camelCase, `msg=`, and messages that show what was there instead."""

from __future__ import annotations

import inspect
import sys
import unittest
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from itest import naming
from itest.clock import SYSTEM, Clock, Deadline
from itest.errors import ReceiveTimeout
from itest.service import declarations

__unittest = True  # Hides these frames from the traceback of a failed assertion (unittest/result.py).

if TYPE_CHECKING:
    from sqlalchemy import FromClause

    from itest.services.kafka import Message

    _Base = unittest.TestCase
else:
    _Base = object

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.010, 0.100, 1.5
"""Seconds between two attempts of what waits: the first, the longest, and how they grow."""

SHOWN = 5
"""How many rows, messages or keys a message shows."""


class _Any:
    """Equal to everything; `unittest.mock.ANY` would cost the import of asyncio."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # as of everything with an __eq__ of its own

    def __repr__(self) -> str:
        return "ANY"


ANY: Any = _Any()
"""Any value at all."""


class Assertions(_Base):
    """Mixin of ContainerTestCase. `service` is always the name of the declaration that is meant."""

    _itest_clock: ClassVar[Clock] = SYSTEM

    def unique(self, name: str = "") -> str:
        """`name` with a tail that no other test, worker or run has: `user-3f9c21ab-4711-1`. At most 40 characters."""
        return naming.unique(str(name))  # A number does as well.

    def assertEventually(self, call: Callable[[], T], timeout: float = 5.0, msg: object = None) -> T:
        """Fail unless `call()` returns something true within `timeout` seconds; returns that.

        It is called again and again, after 10 ms first, later every 100 ms, and at least once. An AssertionError that
        it raises means "not yet", and the last one is in the message; any other exception escapes at once.
        """
        if not callable(call) or isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise TypeError(
                f"assertEventually({naming.shorten(repr(call), 80)}, {timeout!r}): it takes a function that it calls without "
                f"arguments, and seconds: assertEventually(lambda: self.assertRowCount('orders', 1), timeout=5)"
            )
        calls = 0
        for _ in _attempts(Deadline.after(timeout, self._itest_clock)):
            cause: AssertionError | None = None
            calls += 1
            try:
                value = call()
            except AssertionError as error:
                cause, reason = error, f"it raised {type(error).__name__}: {naming.mask(str(error))}"
            else:
                if inspect.isawaitable(value):
                    if inspect.iscoroutine(value):
                        value.close()  # Or Python warns that nobody awaited it.
                    raise TypeError(
                        "assertEventually calls a plain function; this one is async and was never awaited. In an async test: "
                        "async with asyncio.timeout(5): while not await call(): await asyncio.sleep(0.05)"
                    )
                if value:
                    return value
                reason = f"it returned {value!r}"
                if value is None:
                    reason += "; a check made of assertions must end with `return True`"
        times = "once" if calls == 1 else f"{calls} times"
        text = f"not true within {timeout:g} s, tried {times}; at last {reason}{_held_up('assertEventually', timeout)}"
        raise self._itest_failure(msg, text) from cause

    def assertRowCount(
        self,
        table: str | type | FromClause,  # As which SQLAlchemy declares Model.__table__.
        n: int,
        where: str = "",
        params: Any = None,
        service: str = "postgres",
        msg: object = None,
        timeout: float = 0.0,
    ) -> Literal[True]:
        """Fail unless the table has `n` committed rows (`where` an SQL condition, `params` its parameters) within `timeout`
        seconds, at once without. Returns True, so that it can be a check of `assertEventually`.

        The table's name is taken as fixtures have it: as it is first, then in lower case; a dot parts a schema. A class that
        SQLAlchemy maps to a table, or its Table, stands for the name.
        """
        name = _table_name(table)
        if type(n) is not int or n < 0:
            raise ValueError(f"n={n!r}: a table has a whole number of rows")
        if not isinstance(where, str | None):  # None is no condition.
            raise TypeError(
                f"where={naming.shorten(repr(where), 80)}: it takes an SQL condition, and its values in params: "
                f"where='name = %s', params=['ann']"
            )
        view = self._itest_named(service, "execute")
        relation = getattr(view, "relation", str)(name)  # A service of a user's own may have no such thing.
        condition = f" WHERE {where}" if where else ""
        for _ in _attempts(Deadline.after(timeout, self._itest_clock)):
            [(found,)] = view.execute(f"SELECT count(*) FROM {relation}{condition}", params)
            if found == n:
                return True
        rows = view.execute(f"SELECT * FROM {relation}{condition} LIMIT {SHOWN}", params)
        shown = "".join(f"\n  {naming.shorten(repr(row))}" for row in rows)
        more = f"\n  and {found - SHOWN} more" if found > SHOWN else ""
        fewer = "; rows that are not committed are not counted" if found < n else ""
        what = f"{name} where {where}" if where else name
        within = f" within {timeout:g} s" if timeout else ""
        within += _held_up("assertRowCount", timeout)
        text = f"{found} row{'' if found == 1 else 's'} in {what}, not {n}{within}{fewer}{shown}{more}"
        raise self._itest_failure(msg, text)

    def assertProduced(
        self,
        topic: str,
        value: Any = ANY,
        count: int = 1,
        timeout: float = 5.0,
        service: str = "kafka",
        msg: object = None,
        key: Any = ANY,
    ) -> list[Message]:
        """Fail unless `count` messages (equal to `value`, with that `key`, text or bytes) arrive on the topic within `timeout`
        seconds; returns them. With `count=0`: unless none arrives in all that time.

        It goes on where the last `receive` of this test ended. Messages with another value or key are passed over: they count as
        received, and the next `assertProduced` looks at them first, as it does at all that one which fails has seen.
        """
        if type(count) is not int or count < 0:
            raise ValueError(f"count={count!r}: a whole number of messages can be waited for, or none with count=0")
        queue = self._itest_named(service, "queue").queue
        wanted = f"message{'' if count == 1 else 's'} on topic {topic!r}"
        wanted += "" if value is ANY else f" equal to {naming.shorten(repr(value))}"
        wanted += "" if key is ANY else f" with the key {naming.shorten(repr(key), 80)}"
        deadline = Deadline.after(timeout, self._itest_clock)

        def is_wanted(message: Message) -> bool:
            return bool(value == message.value and (key is ANY or _text(key) == _text(message.key)))

        arrived: list[Message] = queue.passed_over(topic)
        within = f"within {timeout:g} s{' or before' if arrived else ''}"
        found = list(filter(is_wanted, arrived))[: max(count, 1)]
        while len(found) < max(count, 1):
            try:
                # One at a time, so that what comes after the last one wanted is left for the next call.
                [message] = queue.receive(topic, count=1, timeout=deadline.remaining)
            except ReceiveTimeout as error:
                if not count:
                    return found
                others = [message for message in arrived if not is_wanted(message)]
                # The newest: those before them may be what earlier assertions passed over.
                shown = "; ".join(naming.shorten(repr(message.value), 80) for message in others[-SHOWN:])
                what = "values" if key is ANY else "values or keys"
                what += f", the last {SHOWN}" if len(others) > SHOWN else ""
                rest = f"; {len(others)} with other {what}: {shown}" if others else ""
                rest += _held_up("assertProduced", timeout)
                text = f"{len(found)} of {count} {wanted} arrived {within}{rest}. {error.looked}"
                raise self._itest_failure(msg, text) from error
            arrived.append(message)
            if is_wanted(message):
                found.append(message)
        if not count:
            text = f"no {wanted} were to arrive {within}, but one did: {naming.shorten(repr(found[0].value))}"
            raise self._itest_failure(msg, text)
        given = set(map(id, found))  # To compare thousands by their values takes seconds.
        arrived[:] = [message for message in arrived if id(message) not in given]
        return found

    def assertCached(self, key: str, value: Any = ANY, service: str = "redis", msg: object = None) -> Any:
        """Fail unless the key exists (and holds `value`); returns what it holds.

        A hash is compared as a dict, a list as a list, a set as a set, a sorted set as a dict of scores, a stream as a list
        of its entries' dicts; of a type of a module None is returned, and TypeError raised for a `value`. Text is equal
        to its UTF-8 bytes and a number to its text (1.0 to `1`, `1.0` and `1e0`), because Redis keeps nothing but bytes.
        """
        cache = self._itest_named(service, "cache").cache
        kind = _text(cache.type(key))
        if kind == "none":
            keys = [_text(name) for name in cache.scan_iter(count=1000)]
            there = ", ".join(sorted(keys)[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")
            raise self._itest_failure(msg, f"no key {key!r} in {service}; there are {there or 'none'}")
        if kind not in _READ and value is not ANY:
            raise TypeError(
                f"{key!r} in {service} is of the type {kind}, whose value itest does not read: ask {service}.cache"
            )
        found = _READ[kind](cache, key) if kind in _READ else None
        if value is not ANY and not _same(found, value):
            text = f"{key!r} in {service} is {naming.shorten(repr(found), 300)}, not {naming.shorten(repr(value), 300)}"
            if kind == "string" and isinstance(value, Mapping | list | tuple | set | frozenset):
                text += (
                    f"; a dict is equal to a hash, a list to a list, a set to a set, and this is a string: "
                    f"if it is JSON, compare json.loads(self.assertCached({key!r}))"
                )
            raise self._itest_failure(msg, text)
        return found

    def _itest_named(self, service: object, member: str) -> Any:
        """The view of the declaration so named."""
        if not isinstance(service, str):
            shown, example = naming.shorten(repr(service), 80), _KINDS[member].lower()
            raise TypeError(f"service={shown}: it takes the name of a declaration, service={example!r}")
        view = getattr(self, service, None)
        if _has(view, member):
            return view
        others = [name for name, _ in declarations(type(self)) if _has(getattr(self, name, None), member)]
        kind = _KINDS[member]
        cure = f"; name the declaration: {' or '.join(f'service={name!r}' for name in others)}"
        if not others:
            cure = f": add {kind}Mixin to the bases of the class, or declare a {kind}"
        raise TypeError(f"{type(self).__qualname__} has no service {service!r} for this{cure}")

    def _itest_failure(self, msg: Any, text: str) -> BaseException:
        return self.failureException(self._formatMessage(msg, naming.mask(text)))


def _attempts(deadline: Deadline) -> Iterator[None]:
    """Once for each attempt, with pauses in between; the last one begins when the deadline has passed."""
    pause = FIRST_PAUSE
    while not deadline.passed:
        yield
        deadline.pause(pause)
        pause = min(pause * GROWTH, LONGEST_PAUSE)
    yield


def _held_up(assertion: str, seconds: float) -> str:
    """What to do where an assertion has waited in vain on the thread of an event loop; else empty."""
    asyncio: Any = sys.modules.get("asyncio")  # Without it there is no loop.
    if not seconds or asyncio is None or asyncio._get_running_loop() is None:
        return ""
    return (
        f"; all tasks of the event loop that runs in this thread stood still meanwhile: "
        f"await asyncio.to_thread(self.{assertion}, ...)"
    )


def _table_name(table: object) -> str:
    name = getattr(getattr(table, "__table__", table), "fullname", table)
    if not isinstance(name, str) or not name:
        raise TypeError(
            f"table={naming.shorten(repr(table), 80)}: it takes a table's name, a class that SQLAlchemy maps to a table, or "
            f"its Table; of a Django model the name is Model._meta.db_table"
        )
    return name


_KINDS = {"execute": "Postgres", "queue": "Kafka", "cache": "Redis"}
"""By what an assertion needs of a view: the declaration whose views have it."""


def _has(view: object, member: str) -> bool:
    """Whether a view has what an assertion needs."""
    return view is not None and (hasattr(type(view), member) or hasattr(view, member))


_READ: Mapping[str, Callable[[Any, str], Any]] = {
    "string": lambda cache, key: cache.get(key),
    "hash": lambda cache, key: cache.hgetall(key),
    "list": lambda cache, key: cache.lrange(key, 0, -1),
    "set": lambda cache, key: cache.smembers(key),
    "zset": lambda cache, key: dict(cache.zrange(key, 0, -1, withscores=True)),
    "stream": lambda cache, key: [fields for _, fields in cache.xrange(key)],
}


def _same(found: Any, value: Any) -> bool:
    """Whether what Redis holds is this value, inside collections too."""
    if isinstance(value, Mapping):
        texts = {_text(key): item for key, item in value.items()}
        held = {_text(key): item for key, item in found.items()} if isinstance(found, Mapping) else {}
        return texts.keys() == held.keys() and all(_same(held[key], item) for key, item in texts.items())
    if isinstance(value, list | tuple):
        return isinstance(found, list) and len(found) == len(value) and all(map(_same, found, value))
    if isinstance(value, set | frozenset):
        return isinstance(found, set | frozenset) and set(map(_text, found)) == set(map(_text, value))
    if isinstance(found, float) and isinstance(value, int | float):  # The score of a member.
        return bool(found == value)
    if isinstance(value, float):
        try:
            return isinstance(found, bytes | str) and float(found) == value
        except ValueError:
            return False
    return bool(_text(found) == _text(value))


def _text(value: Any) -> Any:
    """Bytes and numbers as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
