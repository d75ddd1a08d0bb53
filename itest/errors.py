# SPDX-License-Identifier: Apache-2.0
"""Every error itest raises, in one tree.

    ItestError
    ├── ConfigError                 a setting is unknown, or its value cannot be used
    ├── DeclarationError            a test class or a declaration is wrong (also a TypeError)
    ├── NotStarted                  a view was asked for where there is none (also an AttributeError)
    ├── LoopError                   an async client has no loop or a wrong one, or a coroutine is cancelled (also a RuntimeError)
    ├── Unavailable                 no engine here can run the service: its tests skip
    ├── MissingPackage              a client package is not installed (also an ImportError)
    ├── StartError                  a service could not be started
    │   ├── ImageError              its image is missing and could not be pulled
    │   ├── BuildError              its image could not be built
    │   ├── PortTaken               its host port was taken meanwhile; retried where a new port helps
    │   ├── InstanceDied            its container or process ended before it was ready
    │   └── StartTimeout            it never became ready (also a TimeoutError)
    ├── StopError                   an app has ended, and the end of its lifespan raised
    ├── ExecTimeout                 a command run by `exec` did not end in time (also a TimeoutError)
    ├── ServerDied                  a server ended while tests were using it
    ├── ExternalError               an external server cannot be reached or used
    ├── MigrationError              a migration failed
    ├── FixtureError                a fixture is missing, cannot be read or cannot be loaded
    ├── ResetError                  the data of a test could not be reset
    ├── IsolationError              a test did what its isolation cannot undo (also an AssertionError)
    ├── LeftBehind                  with `strict`: a test left something behind (also an AssertionError)
    └── ReceiveTimeout              fewer messages than expected arrived (also an AssertionError)

A message says what was being done, to what, for how long, the last reason and what to try. The facts are
attributes too, and log lines travel as a note (PEP 678). Passwords are masked by whoever builds the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class ItestError(Exception):
    """Base of all errors of itest."""


class ConfigError(ItestError):
    """A setting is unknown, or its value cannot be used."""


ENCODED = "the characters / ? # [ ] @ of a user or password must be percent-encoded (%2F %3F %23 %5B %5D %40)"


def no_url(what: str) -> ConfigError:
    """For a URL that cannot be read. Python's own reason for it may have a part of the password in it."""
    return ConfigError(f"{what} is no URL: its port must be a number up to 65535, and {ENCODED}")


def hides(other: str) -> str:
    """That a file of this path is found in place of a package, and what to do."""
    return (
        f"Python finds another one of that name first, {other}: rename it, or have it found as a part of the tests' package, "
        f"with an __init__.py beside it and `python -m unittest discover -s tests -t .`"
    )


class DeclarationError(ItestError, TypeError):
    """A test class, a declaration or an argument is wrong. What can be seen of a class is raised when it is created, before
    anything starts."""


class NotStarted(ItestError, AttributeError):
    """A view was asked for before its service was started, or after it was stopped.

    It is an AttributeError too, so that `inspect` and test runners can look at the class.
    """


class LoopError(ItestError, RuntimeError):
    """An async client was asked for where no event loop is running, or belongs to another loop than its test's; or a
    coroutine that a class runs was cancelled."""


class Unavailable(ItestError):
    """No engine here can run the service. `reasons` maps each engine's name to why not."""

    def __init__(self, message: str, reasons: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.reasons = dict(reasons or {})


class MissingPackage(ItestError, ImportError):
    """A client package is not installed. `extra` is the extra of itest-containers that brings it; `other` is the file of
    another package of that name, where Python finds that one."""

    def __init__(self, package: str, extra: str, purpose: str, other: str = "") -> None:
        missing = f"which is not installed: pip install 'itest-containers[{extra}]'"
        super().__init__(f"{purpose} needs the package {package!r}, {f'but {hides(other)}' if other else missing}")
        self.package = package
        self.extra = extra
        self.purpose = purpose
        self.other = other

    def __reduce__(self) -> tuple[object, ...]:
        return (MissingPackage, (self.package, self.extra, self.purpose, self.other), self.__dict__)


class StartError(ItestError):
    """A service could not be started. `service` is its name, `postgres` or that of a Compose project's service; empty where it
    had been ready before. `seconds`: how long was spent on it.

    `cause` is the name of the known cause (causes.py) that it looks like; empty for none.
    """

    def __init__(self, message: str, *, service: str = "", seconds: float = 0.0, cause: str = "") -> None:
        super().__init__(message)
        self.service = service
        self.seconds = seconds
        self.cause = cause


class ImageError(StartError):
    """The image is not on this machine and could not be pulled, or may not be. `image` is its name."""

    def __init__(
        self, message: str, *, service: str = "", seconds: float = 0.0, cause: str = "", image: str = ""
    ) -> None:
        super().__init__(message, service=service, seconds=seconds, cause=cause)
        self.image = image


class BuildError(StartError):
    """The image could not be built. `step` is the failing one as the Dockerfile has it, empty where none was begun.

    `exit_code` is that of its command, None where no command failed; `output` the last lines that it printed.
    """

    def __init__(
        self,
        message: str,
        *,
        service: str = "",
        seconds: float = 0.0,
        cause: str = "",
        step: str = "",
        exit_code: int | None = None,
        output: str = "",
    ) -> None:
        super().__init__(message, service=service, seconds=seconds, cause=cause)
        self.step = step
        self.exit_code = exit_code
        self.output = output


class PortTaken(StartError):
    """The chosen host port was taken between choosing it and starting the service."""


class InstanceDied(StartError):
    """The container or process ended before it was ready. `exit_code` is None where it is not known."""

    def __init__(
        self, message: str, *, service: str = "", seconds: float = 0.0, cause: str = "", exit_code: int | None = None
    ) -> None:
        super().__init__(message, service=service, seconds=seconds, cause=cause)
        self.exit_code = exit_code


class StartTimeout(StartError, TimeoutError):
    """The service did not become ready within its startup_timeout. `reason` is the last one it gave."""

    def __init__(
        self, message: str, *, service: str = "", seconds: float = 0.0, cause: str = "", reason: str = ""
    ) -> None:
        super().__init__(message, service=service, seconds=seconds, cause=cause)
        self.reason = reason


class StopError(ItestError):
    """The end of an app's lifespan raised, which is the cause. It has ended all the same. An error of the app's class."""


class ExecTimeout(ItestError, TimeoutError):
    """A command that was run beside a server did not end in time."""


class ServerDied(ItestError):
    """A server ended while tests were using it. `exit_code` is None where it is not known."""

    def __init__(self, message: str, *, exit_code: int | None = None, oom_killed: bool = False) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.oom_killed = oom_killed


class ExternalError(ItestError):
    """An external server, named by a URL, cannot be reached or cannot be used."""


class MigrationError(ItestError):
    """A migration failed. `file` and `line` say where (None and 0 where that is not known), `statement` in what."""

    def __init__(self, message: str, *, file: Path | None = None, line: int = 0, statement: str = "") -> None:
        super().__init__(message)
        self.file = file
        self.line = line
        self.statement = statement


class FixtureError(ItestError):
    """A fixture is missing, cannot be read or cannot be loaded.

    `row` counts the rows of its table in `file` from 1, `line` the lines of a .sql or .csv file; 0 is not known.
    """

    def __init__(
        self, message: str, *, file: Path | None = None, table: str = "", row: int = 0, line: int = 0, column: str = ""
    ) -> None:
        super().__init__(message)
        self.file = file
        self.table = table
        self.row = row
        self.line = line
        self.column = column


class ResetError(ItestError):
    """The data of a test could not be brought back to the class's baseline."""


class IsolationError(ItestError, AssertionError):
    """A test did what the isolation of its class cannot undo or must not touch. It fails the test that did it."""


class LeftBehind(ItestError, AssertionError):
    """A test left something behind: sessions, transactions, clients, consumers, tasks or threads. Raised with `strict`;
    what could be ended was. `left` has a sentence for each."""

    def __init__(self, left: list[str]) -> None:
        super().__init__("\n".join(left))
        self.left = list(left)

    def __reduce__(self) -> tuple[object, ...]:
        return (LeftBehind, (self.left,), self.__dict__)


class ReceiveTimeout(ItestError, AssertionError):
    """Fewer messages than expected arrived in time. `received` holds those that did; `looked` is the part of the message
    that says where they were looked for, and what to try."""

    def __init__(self, message: str, received: list[object] | None = None, looked: str = "") -> None:
        super().__init__(message)
        self.received = list(received or [])
        self.looked = looked or message
