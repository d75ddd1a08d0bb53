# SPDX-License-Identifier: Apache-2.0
"""Who has done what in a sandbox since the last commit, and the savepoints by which each can take back its own."""

from __future__ import annotations

import re

SAVEPOINT = "itest_sandbox"

READING = ("SELECT", "SHOW", "FETCH", "EXPLAIN")
"""How the status of a statement begins that changed nothing; a SELECT of a function that writes is taken for reading."""

PASSING = ("SET", "RESET", "LOCK TABLE", "DECLARE", "SAVEPOINT", "RELEASE", "ROLLBACK")
"""And of one whose change goes with its transaction without a loss."""

# The status is that of the last statement, and of a WITH that of what it ends in.
_WRITING = re.compile(
    rb";\s*[^\s;]|\b(insert\s+into|update\b.{1,300}?\bset|delete\s+from|merge\s+into)\b", re.IGNORECASE | re.DOTALL
)


class Use:
    """What a holder has done, up to where another one went on. `changed`: a rollback must take it back; `wrote`: whoever did
    not ask for that misses it."""

    __slots__ = ("changed", "holder", "savepoint", "wrote")

    def __init__(self, holder: object, savepoint: str) -> None:
        self.holder = holder
        self.savepoint = savepoint
        self.changed = self.wrote = False


class Uses:
    """The uses since the last commit, each inside the savepoint of the one before it."""

    def __init__(self) -> None:
        self._uses: list[Use] = []
        self._savepoints = 0

    def __bool__(self) -> bool:
        return bool(self._uses)

    @property
    def last(self) -> object:
        """The holder that did something last; None: nobody did."""
        return self._uses[-1].holder if self._uses else None

    @property
    def holders(self) -> list[object]:
        return [use.holder for use in self._uses]

    @property
    def writers(self) -> set[object]:
        return {use.holder for use in self._uses if use.wrote}

    def enter(self, holder: object) -> str:
        """Have a holder go on; what must be sent before it does. Savepoints of those that only read do not pile up: with each
        that is open, PostgreSQL takes longer to tell which rows are the transaction's own."""
        if not self._uses:
            self._uses.append(Use(holder, SAVEPOINT))
            return ""
        if self.last == holder:
            return ""
        send = []
        if len(self._uses) > 1 and not self._uses[-1].changed:
            send.append(f"RELEASE SAVEPOINT {self._uses.pop().savepoint}")
        if self.last != holder:
            self._savepoints += 1
            self._uses.append(Use(holder, f"{SAVEPOINT}_{self._savepoints}"))
            send.append(f"SAVEPOINT {self._uses[-1].savepoint}")
        return "; ".join(send)

    def did(self, status: str, statement: bytes) -> None:
        """The last holder ran a statement, with this status."""
        use, told = self._uses[-1], status.startswith((*READING, *PASSING))
        use.wrote |= not told or bool(_WRITING.search(statement))
        use.changed |= use.wrote or not status.startswith(READING)

    def take_back(self, holder: object, failed: bool) -> tuple[str, bool]:
        """Forget what a holder did, and what came after it. `failed`: its last statement has. Returns the savepoint to go back
        to, empty where nothing need be undone, and whether others miss what they wrote by that."""
        own = [number for number, use in enumerate(self._uses) if use.holder == holder]
        if own and len(self._uses) - own[0] > len(own):  # What it only read before others went on stays where it is.
            own = [number for number in own if self._uses[number].changed or (failed and number == own[-1])]
        first = own[0] if own else len(self._uses)
        undone = self._uses[first:]
        self._uses = [use for use in self._uses[:first] if use.holder != holder]
        return undone[0].savepoint if undone else "", any(use.wrote and use.holder != holder for use in undone)

    def clear(self) -> None:
        self._uses.clear()
