# SPDX-License-Identifier: Apache-2.0
"""The base types of a service, by lifetime: declaration (`Service`), running `Server`, a class's `Lease`, a test's `View`.

A class holds its data on a server through a lease, which cuts the views. Nothing here knows the session that starts
servers or the test case that asks for views: they meet in the user's class body.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import unittest
from abc import ABC, abstractmethod
from collections.abc import KeysView, Mapping, MutableSequence, Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

from itest import naming
from itest.clock import LONGEST
from itest.config import Config
from itest.engines import Instance
from itest.errors import DeclarationError, NotStarted
from itest.lease import Lease
from itest.spec import ContainerSpec, ExternalSpec, Keep, ProcessSpec, Spec
from itest.view import View

if TYPE_CHECKING:
    from typing import Self

    from itest.sharing import Share
    from itest.wait import Check

    Scope: TypeAlias = Literal["session", "class", "test"]

SCOPES = ("session", "class", "test")

V = TypeVar("V", bound=View)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Service(ABC, Generic[V]):
    """A declaration: a frozen value in a class body that says which service the tests need.

    Constructing one touches no network, file or environment. As a descriptor it gives the test its view:
    `self.postgres` the view of this test, `cls.postgres` (after `super().setUpClass()`) the class-level view, whose
    data is the baseline of every test of the class. Before that, NotStarted is raised.
    """

    kind: ClassVar[str]
    """The service's name in labels, settings and sentences: `postgres`."""
    title: ClassVar[str]
    """Its name as its makers write it: `PostgreSQL`."""
    isolations: ClassVar[tuple[str, ...]]
    """The kinds of isolation it supports, the default first."""
    external_setting: ClassVar[str] = ""
    """The setting that holds the URL of an external server; empty for a service that has none."""
    url_parts: ClassVar[str] = "host and port"
    """What may be wrong with that URL, for an error."""
    texts: ClassVar[tuple[str, ...]] = ()
    """The fields whose texts may refer to neighbours: `"{postgres.url}"` (see references.py)."""
    in_container: ClassVar[bool] = False
    """Whether it always runs in a container: it then reaches its neighbours by their names on the class's network."""

    start_seconds: ClassVar[float] = 0.3
    """About how long its server takes to start, beside those of other services: the slowest of a run is started first."""

    asks_to_connect: ClassVar[bool] = False
    """Whether `connect` has a client's answer itself, so that a server which was ready before need not be asked first."""
    announced: ClassVar[bool] = True
    """Whether it is told, when one is started, which server runs where."""

    isolation: str = ""
    """How a test's data is undone; empty for the service's default."""
    scope: Scope = "session"
    """How long a server lives and who shares it: `session` (all classes of the run), `class` or `test`."""
    startup_timeout: float | None = None
    """Seconds in which it must be ready; None for the setting of the same name."""
    start_attempts: int = 1
    """How often it is started at most, where it ends or is not ready in time."""
    reuse: bool = False
    """Leave the server running at the end of the run, for the next one; only with `scope="session"`."""
    external: str = ""
    """Name of an environment variable with the URL of a server to use instead of starting one."""
    depends_on: Sequence[str] = ()
    """Names of services of the class that must be ready before it is started, besides those that it refers to."""

    def __post_init__(self) -> None:
        for field in fields(self):  # A list is what people write; a declaration must not change after it is made.
            value = getattr(self, field.name)
            if isinstance(value, set | frozenset) and field.default == ():
                value = sorted(value, key=str)  # A set has another order in each process.
            if isinstance(value, MutableSequence | KeysView) and not isinstance(value, bytearray):
                object.__setattr__(self, field.name, tuple(value))

    def __set_name__(self, owner: type, name: str) -> None:
        if getattr(self, "_module", owner.__module__) != owner.__module__:
            # Classes of several modules have it, and its paths start at each one's own.
            copies: dict[str, Service[V]] = vars(self).setdefault("_copies", {})
            if owner.__module__ not in copies:
                copies[owner.__module__] = own = copy(self)
                vars(own).update(_module=owner.__module__, _name=name, _copies={})
            setattr(owner, name, copies[owner.__module__])
        elif not hasattr(self, "_module"):  # Assigned again in its module, it keeps its first name.
            vars(self).update(_module=owner.__module__, _name=name)

    def __repr__(self) -> str:
        # Not by `dataclass`, which would write one at the import of each kind of service.
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.repr}
        return naming.show(type(self).__qualname__, {name: _shown(value) for name, value in values.items()})

    @property
    def directory(self) -> Path:
        """The directory of the module in whose class body the declaration stands: its paths start there."""
        file = getattr(sys.modules.get(getattr(self, "_module", "")), "__file__", None)
        return Path(file).resolve().parent if file else Path.cwd()

    def check_client(self) -> None:
        """Raise MissingPackage where the client package is not installed, before anything is started for it. It is only
        looked for: importing it takes time in which the server could be starting already."""

    @property
    def sharable(self) -> bool:
        """Whether other processes may use its server at the same time, as its data is isolated there."""
        return self.isolation_or_default != "none"

    @property
    def keepable(self) -> bool:
        """Whether the state of its server can be kept, and later runs begin with it."""
        return True

    def import_ahead(self) -> None:  # some services need nothing more
        """Import what a running server will need. Called on a thread of its own while an engine is starting it."""

    # What an engine is asked to run. Pure, but for `process`, which looks for programs on this machine.

    def own_spec(self, secret: str, config: Config) -> Spec | None:
        """What to run whatever engines there are; None: the session chooses between the next two. Raises Unavailable."""
        return None

    @abstractmethod
    def container(self, secret: str) -> ContainerSpec:
        """The container that runs it, with this password."""

    @abstractmethod
    def process(self, secret: str, config: Config) -> ProcessSpec:
        """The local process that runs it. Raises Unavailable, saying what to install."""

    def identity(self, spec: Spec) -> str:
        """Equal for declarations that share a server: what they ask for, without this run's password."""
        if isinstance(spec, ExternalSpec):
            return spec.fingerprint()
        return naming.fingerprint(type(spec).__name__, self.container("").fingerprint())

    @abstractmethod
    def external_spec(self, url: str, source: str) -> ExternalSpec:
        """The running server that a URL from the variable `source` names. Raises ConfigError for a wrong URL."""

    @abstractmethod
    def address(self, instance: Instance, secret: str) -> str:
        """The URL of an instance that was started with this password."""

    @abstractmethod
    def readiness(self, address: str) -> Check:
        """What is waited for: a real client's real round trip to this URL, or the user's own check."""

    def ready_again(self, address: str, secret: str) -> Check:
        """As `readiness`, for a server that began with a kept state, at the URL with that state's password. After it, the
        server's password is `secret`."""
        return self.readiness(address)

    @abstractmethod
    def connect(self, instance: Instance, address: str) -> Server[V]:
        """The server that this ready instance runs."""

    def during(self, view: V) -> contextlib.AbstractContextManager[object]:
        """What a class runs in while it has this view. Of what it gives, nothing but a `Held` is used."""
        return contextlib.nullcontext()

    # What a class body is checked for.

    def check(self, owner: str, name: str) -> None:
        """Raise DeclarationError for what can be seen to be wrong before anything starts."""
        try:
            self._check()
        except DeclarationError as error:
            raise DeclarationError(f"{owner}.{name}: {error}") from None

    def _check(self) -> None:
        """As `check`, by a sentence that class and attribute are put in front of."""
        if self.isolation and self.isolation not in self.isolations:
            raise DeclarationError(
                f"unknown isolation {self.isolation!r}; {self.title} supports {_quoted(self.isolations)}"
            )
        if self.scope not in SCOPES:
            raise DeclarationError(f"unknown scope {self.scope!r}; it must be one of {_quoted(SCOPES)}")
        seconds = self.startup_timeout
        if seconds is not None and (type(seconds) not in (int, float) or not 0 < seconds <= LONGEST):
            raise DeclarationError(
                f"startup_timeout={seconds!r} is no number of seconds above 0, at most {LONGEST:.0f}"
            )
        if type(self.start_attempts) is not int or self.start_attempts < 1:
            raise DeclarationError(f"start_attempts={self.start_attempts!r} is no number from 1 on")
        if self.reuse and self.scope != "session" == type(self).scope:
            raise DeclarationError(
                f"reuse=True is for a server of the whole run, and one with scope={self.scope!r} ends before"
            )
        if self.external and not self.external.isidentifier():
            raise DeclarationError(
                "external is the name of an environment variable that has the URL, "
                "external='TEST_SERVER_URL', and not the URL itself"
            )

    @property
    def isolation_or_default(self) -> str:
        return self.isolation or self.isolations[0]

    def replace(self, **changes: Any) -> Self:
        """A copy of the declaration with some of its fields changed."""
        return replace(self, **changes)

    def at_place_of(self, other: Service[Any]) -> Self:
        """This declaration, which was made of another one, where that one stands."""
        for name in ("_module", "_name"):
            if hasattr(other, name):
                object.__setattr__(self, name, getattr(other, name))
        return self

    def __get__(self, instance: object | None, owner: type | None = None) -> V:
        """The view of this service for a test instance, or the class-level view for a class."""
        if instance is not None and (find := getattr(instance, "_itest_view", None)):
            return find(self)  # type: ignore[no-any-return]  # the hook is looked up by name: case.py is above us
        try:
            if owner is not None and (find := getattr(owner, "_itest_class_view", None)):
                return find(self)  # type: ignore[no-any-return]  # as above
            raise NotStarted(
                f"{self.title} is only declared on {getattr(owner, '__qualname__', owner)}; its view exists on a "
                f"ContainerTestCase while its tests run"
            )
        except NotStarted as error:
            if instance is not None or owner is None:
                raise
            return self._without_view(owner, error, sys._getframe(1))

    def _without_view(self, owner: type, error: NotStarted, reader: FrameType) -> V:
        from itest.shorthand import Later, reads_all  # Only errors need it.

        if reads_all(reader):
            return Later(str(error))  # type: ignore[return-value]  # whatever is asked of it raises
        if (
            reader.f_code.co_flags & inspect.CO_OPTIMIZED
        ):  # A function; the body of a class wants a declaration like it.
            raise error
        bodies = ((base.__name__, *each) for base in owner.__mro__ for each in vars(base).items())
        place = next(f"vars({base})[{name!r}]" for base, name, value in bodies if value is self)
        raise NotStarted(
            f"{error}; in a class's body, {place}.replace(...) is this declaration with fields changed"
        ) from None


class Server(ABC, Generic[V]):
    """A running service. It outlives classes and is lent to them as leases."""

    origin: object = None
    """For the session: what the server began with."""

    share: Share | None = None
    """For the session: where it is shared with other processes."""

    fresh = True
    """Whether this process started it, or found it running."""

    tells_its_end: ClassVar[bool] = False
    """Whether its lease sees by itself, in a reset, that it has ended."""

    routine: str = ""
    """A regular expression for what is in the lines that it logs when all is well, which only bury those that tell
    something."""

    silent = ""
    """Why nothing is asked of it any more, though it runs: it has stopped answering. The next class gets another one."""

    shared = False
    """Whether other processes use it at the same time: then what belongs to the server as a whole is left alone."""

    def __init__(self, title: str, kind: str, instance: Instance) -> None:
        self.title = title
        self.kind = kind
        self.instance = instance

    @property
    @abstractmethod
    def version(self) -> str:
        """What it really is, by its own word: `PostgreSQL 17.6`."""

    @abstractmethod
    def lease(self, service: Service[V], owner: str) -> Lease[V]:
        """Data of one's own on this server, for the class named `owner`, as `service` declares it."""

    def prune(self, to_come: Sequence[Service[Any]]) -> None:  # few services hold what others do not need
        """Let go of what nobody needs any more, as the classes that are still to come have these declarations."""

    def keep(self, *, cold: bool) -> Keep | None:
        """At the end of the run: make its state one that later runs can begin with, close its clients and say how the
        state is taken. None: it is not worth it, nothing was done and `close` is still to be called, as where it has failed.

        `cold`: it did not begin with a kept state.
        """
        return None

    def footprint(self) -> str:
        """What belongs to the server as a whole, in short: equal as long as nobody has changed it. Asked when it is new,
        and again before a later run uses it."""
        return ""

    @property
    def after_its_end(self) -> str:
        """What happens once it has ended under a test."""
        return "the next class gets a new one"

    def lives(self) -> bool:
        """Whether it can still be used."""
        return not self.silent and self.instance.state().lives_on

    def hung_up(self) -> bool:
        """Whether it has ended a connection of ours, as far as that shows without a round trip; it may live on."""
        return False

    def clear(self) -> None:
        """Remove what earlier runs have left on it. Called before a later run uses it, when nobody else does."""

    def reconnect(self) -> bool:
        """Neighbours that it refers to have ended its connections: have it connect again, if need be by a restart at the
        same address. Whether nothing of it can still have one of those. Raises ItestError."""
        return False

    def close(self) -> None:  # several have none
        """Close the server's own clients. What it runs on is stopped by the session."""


class ServiceMixin:
    """Base of the mixins. A mixin only declares: an attribute with a declaration, and typed shorthands for it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if issubclass(cls, unittest.TestCase) and not hasattr(cls, "_itest_view"):
            names = [name for name, _ in declarations(cls)]
            raise DeclarationError(
                f"{cls.__qualname__} declares {', '.join(names)} but is not a ContainerTestCase, so nothing would "
                f"start: write class {cls.__name__}({', '.join(_mixins(cls))}, {_test_cases(cls)})"
            )


def attributes(cls: type) -> dict[str, Any]:
    """What the class has by its own and its bases' bodies, as it stands there."""
    return {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}


def declarations(cls: type) -> list[tuple[str, Service[Any]]]:
    """The declarations of a class by attribute, in order of first mention, bases first; `None` opts out."""
    found: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Service) or name in found:
                found[name] = value
    return [(name, value) for name, value in found.items() if isinstance(value, Service)]


def _mixins(cls: type) -> list[str]:
    return [base.__name__ for base in cls.__mro__ if ServiceMixin in base.__bases__]


def _test_cases(cls: type) -> str:
    """What makes it one of ours, with a test case of others that it derives from."""
    for base in cls.__mro__[1:]:
        if issubclass(base, unittest.TestCase) and base.__module__.partition(".")[0] != "unittest":
            return f"ContainerMixin, {base.__name__}"
    return "ContainerTestCase"


def _shown(value: Any) -> Any:
    """A field without passwords, as far as names tell them."""
    if isinstance(value, Mapping):
        return naming.hide_named(value)
    if isinstance(value, tuple) and all(isinstance(word, str) for word in value):
        return naming.hide_options(value)
    if isinstance(value, str):  # A command may be written as one text.
        return " ".join(naming.hide_options(value.split(" ")))
    return value


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(repr(word) for word in words)


__all__ = [
    "SCOPES",
    "Lease",
    "Server",
    "Service",
    "ServiceMixin",
    "View",
    "declarations",
]
