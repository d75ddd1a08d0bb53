# SPDX-License-Identifier: Apache-2.0
"""The shorthands of mixins: `self.db` for `self.postgres.connection`; and what stands for a view until there is one."""

from __future__ import annotations

from types import FrameType
from typing import Any, Generic, TypeVar

from itest.errors import NotStarted

T = TypeVar("T")


class Shorthand(Generic[T]):
    """An attribute of the view of the class's service: the test's own on an instance; on the class, once its services are
    started, that of the class's view."""

    def __init__(self, service: str, attribute: str) -> None:
        self.service = service
        self._attribute = attribute
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object | None, owner: type) -> T:
        try:
            view = getattr(owner if instance is None else instance, self.service)
            if view is None:
                raise NotStarted(
                    f"{owner.__qualname__}.{self.service} is None, which opts out of the service, so there is no {self._name!r}"
                )
        except NotStarted as error:
            if instance is not None:
                raise
            return Later(str(error))  # type: ignore[return-value]  # whatever is asked of it raises
        return getattr(view, self._attribute)  # type: ignore[no-any-return]  # looked up by name


def reads_all(reader: FrameType) -> bool:
    """Whether this is the code of one of those who read every attribute of a class and end at any error: nose2 while it loads
    tests (`iter_attrs`), `mock.patch.dict` as a decorator of a class (`decorate_class`)."""
    return reader.f_globals.get("__name__") in ("nose2.util", "unittest.mock")


class Later:
    """Given in place of what there is only while tests run, for a shorthand of a class, and to `reads_all`: whoever looks at all
    attributes of classes must not fail. Whatever is asked of it raises NotStarted."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        raise NotStarted(self._reason)

    def _refuse(self, *_: object) -> Any:
        raise NotStarted(self._reason)

    # What people do with clients beside calling methods (`with cls.db:`, `cls.cache["key"]`) is looked up on the type.
    __enter__ = __exit__ = __getitem__ = __setitem__ = __delitem__ = __contains__ = _refuse
