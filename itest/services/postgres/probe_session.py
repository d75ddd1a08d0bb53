# SPDX-License-Identifier: Apache-2.0
"""The session in which a probe asks and undoes: set up so that nothing else fires, and opened anew where somebody has cut it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

LARGEST_STOCK = 20
"""Prepared statements that are kept; each state of the baseline rows has its own."""

LOCK_TIMEOUT = "2s"
NO_PRIVILEGE = "42501"


class ProbeSession:
    """`connect` opens its connection, in autocommit."""

    def __init__(self, driver: Any, connect: Callable[[], Any]) -> None:
        self._driver = driver
        self._connect = connect
        self._own: Any = None
        self._prepared: dict[str, str] = {}
        self.replica = False
        """Whether no trigger fires in it, and no foreign key is checked."""

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return self.twice(lambda: self._rows(sql))

    def ask_again(self, sql: str, lock_timeout: str = "") -> list[tuple[Any, ...]]:
        """`ask`, for statements that come again and again: planning one costs more than running it. `lock_timeout` in place of
        the session's."""
        within = f"SET LOCAL lock_timeout = '{lock_timeout}'; " if lock_timeout else ""
        return self.twice(lambda: self._rows_again(sql, within))

    def twice(self, do: Callable[[], T]) -> T:
        """Once more, on a new connection, where somebody has cut ours: a limit for idle ones, a test that ends all sessions."""
        try:
            return do()
        except (self._driver.OperationalError, self._driver.InterfaceError):
            if self._own is None or not self._own.closed:
                raise
        return do()

    @contextlib.contextmanager
    def cursor(self) -> Iterator[Any]:
        try:
            if not self.open:
                self._own = self._connect()
                self._prepared.clear()
                with self._own.cursor() as cursor:
                    self._set_up(cursor)
            with self._own.cursor() as cursor:
                yield cursor
        except self._driver.Error:
            raise
        except BaseException:  # A signal handler's: what it is in the middle of ends with the connection.
            self.close()
            raise

    @property
    def open(self) -> bool:
        """Whether it has a connection that nobody has ended."""
        return self._own is not None and not self._own.closed

    def close(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            own.close()

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def _rows_again(self, sql: str, within: str) -> list[tuple[Any, ...]]:
        with self.cursor() as cursor:
            if sql not in self._prepared:
                if len(self._prepared) == LARGEST_STOCK:
                    cursor.execute("DEALLOCATE ALL")
                    self._prepared.clear()
                name = f"itest_{len(self._prepared)}"
                cursor.execute(f"{within}PREPARE {name} AS {sql}")
                self._prepared[sql] = name
            cursor.execute(f"{within}EXECUTE {self._prepared[sql]}")
            return cursor.fetchall()  # type: ignore[no-any-return]  # psycopg2 is not a typed package here

    def _set_up(self, cursor: Any) -> None:
        cursor.execute(
            # With row security off, a policy that hides rows from us is an error instead of a leak.
            f"SET lock_timeout = '{LOCK_TIMEOUT}'; SET statement_timeout = '30s'; SET row_security = off; "
            "SET extra_float_digits = 3"  # Fewer would round the baseline's numbers.
        )
        try:  # No trigger fires then, no foreign key is checked. Superusers may, and whom they let.
            cursor.execute("SET session_replication_role = replica")
            self.replica = True
        except self._driver.Error as error:
            if error.pgcode != NO_PRIVILEGE:
                raise
