# SPDX-License-Identifier: Apache-2.0
"""The shorthands of mixins: `self.db` for `self.postgres.connection`."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from itest.errors import NotStarted

T = TypeVar("T")


class Shorthand(Generic[T]):
    """An attribute of the view of the class's service: the test's own on an instance; on the class, once its services are
    started, that of the class's view."""

    def __init__(self, service: str, attribute: str) -> None:
        self._service = service
        self._attribute = attribute
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object | None, owner: type) -> T:
        try:
            view = getattr(owner if instance is None else instance, self._service)
        except NotStarted as error:
            if instance is not None:
                raise
            return _Later(str(error))  # type: ignore[return-value]  # whatever is asked of it raises
        if view is None:
            raise NotStarted(
                f"{owner.__qualname__}.{self._service} is None, which opts out of the service, so there is no {self._name!r}"
            )
        return getattr(view, self._attribute)  # type: ignore[no-any-return]  # looked up by name


class _Later:
    """Given for a shorthand of a class whose services are not started: whoever looks at all attributes of classes, as
    runners and `inspect` do, must not fail."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        raise NotStarted(self._reason)

    def _refuse(self, *_: object) -> Any:
        raise NotStarted(self._reason)

    # What people do with clients beside calling methods (`with cls.db:`, `cls.cache["key"]`) is looked up on the type.
    __enter__ = __exit__ = __getitem__ = __setitem__ = __delitem__ = __contains__ = _refuse
