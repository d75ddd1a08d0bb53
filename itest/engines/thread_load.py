# SPDX-License-Identifier: Apache-2.0
"""Finding an app in its module, and having its factory make it."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from typing import Any

from itest import naming
from itest.errors import StartError
from itest.spec import ThreadSpec

ARGUMENTS = {"wsgi": ("environ", "start_response"), "asgi": ("scope", "receive", "send")}
"""What an app is called with."""

_imported: set[str] = set()
"""Modules whose first import was an app's, in its environment."""


def load(spec: ThreadSpec, subject: str) -> tuple[Any, str]:
    """The app, and a sentence on what it may have read before its environment was set; empty where it cannot have.

    Raises StartError, whose cause is what its module or its factory has raised.
    """
    early = _early(spec)
    app: Any = _find(spec, spec.app, subject) if isinstance(spec.app, str) else spec.app
    if spec.factory or (spec.factory is None and _is_factory(app)):
        early = ""
        try:
            app = app()
        except (Exception, SystemExit) as error:
            raise failed(spec, f"its factory raised {text_of(error)}", subject) from error
    if not callable(app):
        raise failed(spec, f"it is no app but {naming.shorten(repr(app), 80)}", subject)
    if reason := _refusal(app, spec.interface):
        raise failed(spec, reason, subject)
    return app, _read_by_migrations(spec) or early


def _early(spec: ThreadSpec) -> str:
    if not spec.env:
        return ""
    what = f"{spec} was made"
    if isinstance(spec.app, str):
        module = spec.app.partition(":")[0]
        if module not in sys.modules:
            _imported.add(module)
        if module in _imported:  # What it read is another class's at worst, whose database is gone: that shows.
            return ""
        what = f"{module} was imported (by the tests?)"
    return f"{what} before itest set {', '.join(spec.env)}: {_CURE}"


def _read_by_migrations(spec: ThreadSpec) -> str:
    """Of a factory too: it may use an engine of a module that env.py has imported."""
    from itest import early_reads  # A run without such apps or migrations does without it.

    found = [f"{module} read {', '.join(names)}" for module, names in early_reads.kept(spec.env).items()]
    return f"{' and '.join(found)} while migrations ran, before the app's env was set: {_CURE}" if found else ""


_CURE = "what it read then is not the tests'; let a factory or the lifespan read it, or use App.command"


def _find(spec: ThreadSpec, text: str, subject: str) -> Any:
    module, _, names = text.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise failed(
                spec,
                f"there is no module {error.name!r} on sys.path; the current directory is {os.getcwd()}, so run the "
                f"tests from where it can be imported, or set PYTHONPATH",
                subject,
            ) from error
        raise failed(spec, f"importing {module} raised {text_of(error)}", subject) from error
    except (Exception, SystemExit) as error:
        raise failed(spec, f"importing {module} raised {text_of(error)}", subject) from error
    value: Any = found
    for name in names.split("."):
        if not hasattr(value, name):
            near = difflib.get_close_matches(name, dir(value), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise failed(spec, f"{module} has no {names!r}{hint}", subject)
        value = getattr(value, name)
    return value


def _is_factory(app: object) -> bool:
    """Whether it can be called without arguments, which no app can."""
    try:
        inspect.signature(app).bind()  # type: ignore[arg-type]  # what is no callable raises TypeError too
    except (TypeError, ValueError):
        return False
    return True


def _refusal(app: Any, interface: str) -> str:
    """Why it cannot be called as an app of that interface; empty where it can, or where it does not tell."""
    try:
        signature = inspect.signature(app, follow_wrapped=False)  # What is called is the wrapper.
    except (TypeError, ValueError):
        return ""
    name, other = getattr(app, "__name__", type(app).__name__), "asgi" if interface == "wsgi" else "wsgi"
    rest = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [
        each.name for each in signature.parameters.values() if each.default is each.empty and each.kind not in rest
    ]
    if not needed or _can_be_called(signature, interface):
        return ""
    if needed == ["scope"]:
        return (
            f"{name} takes the scope alone, as apps of ASGI 2 do, and must be one of ASGI 3: "
            f"App.asgi(guarantee_single_callable({name})), which asgiref.compatibility has"
        )
    made = f"{name}(...)" if name.isidentifier() else "..."  # A lambda has no name.
    cure = f"use App.{other}" if _can_be_called(signature, other) else f"App.{interface}(lambda: {made})"
    return f"{name} takes {', '.join(needed)}, so it is no {interface.upper()} app and no factory without arguments: {cure}"


def _can_be_called(signature: inspect.Signature, interface: str) -> bool:
    try:
        signature.bind(*ARGUMENTS[interface])
    except TypeError:
        return False
    return True


def text_of(error: BaseException) -> str:
    return naming.shorten(f"{type(error).__name__}: {error}", 300)


def failed(spec: ThreadSpec, reason: str, subject: str, seconds: float = 0.0) -> StartError:
    """The error of an app that could not be started for that reason, with the cause where it is a known one."""
    from itest import causes  # Only errors need it.

    known = causes.find(reason, causes.DRIVER)
    message = f"{spec} could not be started: {reason}{f'. {known.sentence}' if known else ''}"
    return StartError(message, service=subject, seconds=seconds, cause=known.name if known else "")
