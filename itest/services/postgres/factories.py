# SPDX-License-Identifier: Apache-2.0
"""factory_boy's factories, bound to a test's session for as long as the test runs.

factory_boy is never imported here: whoever binds a factory has imported it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

PERSISTENCE = ("commit", "flush", None)

_OPTIONS = ("sqlalchemy_session", "sqlalchemy_session_factory", "sqlalchemy_session_persistence")


def bind(factories: Sequence[Any], session: Any, persistence: str | None) -> Callable[[], None]:
    """Bind these SQLAlchemyModelFactory classes to a session and start their sequences over. Returns what undoes it.

    Each class for itself, because subclasses do not follow their base: factory_boy copies its options when a class is
    made. Raises TypeError for anything else and ValueError for an unknown persistence; then nothing is bound.
    """
    if persistence not in PERSISTENCE:
        raise ValueError(f"persistence={persistence!r}: it must be 'commit', 'flush' or None")
    for factory in factories:
        if not hasattr(getattr(factory, "_meta", None), _OPTIONS[0]):
            raise TypeError(
                f"bind() takes classes of factory.alchemy.SQLAlchemyModelFactory, not {factory!r}; "
                f"factories of other kinds need no session"
            )
    undo = contextlib.ExitStack()
    for factory in factories:
        meta = factory._meta
        before = {option: getattr(meta, option) for option in _OPTIONS}
        undo.callback(_set, meta, before)
        _set(meta, dict(zip(_OPTIONS, (session, None, persistence), strict=True)))
        factory.reset_sequence(force=True)  # force: a factory may share the counter of its base.
    return undo.close


def _set(meta: Any, options: dict[str, Any]) -> None:
    for name, value in options.items():
        setattr(meta, name, value)
