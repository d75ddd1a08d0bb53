# SPDX-License-Identifier: Apache-2.0
"""factory_boy's factories, bound to a test's session for as long as the test runs.

factory_boy is never imported here: whoever binds a factory has imported it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
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
    for factory in _without_session(factories):
        undo.callback(_set, factory._meta, {_OPTIONS[1]: None})
        _set(factory._meta, {_OPTIONS[1]: partial(_session_of, factory)})
    return undo.close


def _without_session(factories: Sequence[Any]) -> list[Any]:
    """The SubFactories and RelatedFactories of these, and theirs, that would only say "No session provided."."""
    found: list[Any] = []
    seen = [*factories]
    for factory in seen:  # Grows while it is gone through.
        for declaration in factory._meta.declarations.values():
            # Not one of them; or one by a path that leads nowhere yet.
            with contextlib.suppress(ImportError, AttributeError):
                if (other := declaration.get_factory()) not in seen:
                    seen.append(other)
                    if not any(getattr(other._meta, option) for option in _OPTIONS[:2]):
                        found.append(other)
    return found


def _session_of(factory: Any) -> Any:
    if factory._meta.sqlalchemy_session is None:
        raise RuntimeError(
            f"{factory.__name__}, which a bound factory refers to, has no session: bind({factory.__name__}) too"
        )
    return factory._meta.sqlalchemy_session  # The test has given it one since.


def _set(meta: Any, options: dict[str, Any]) -> None:
    for name, value in options.items():
        setattr(meta, name, value)
