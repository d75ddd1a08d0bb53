# SPDX-License-Identifier: Apache-2.0
"""Choosing what runs a service: the engines that can be used here, and what each is asked to run."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from itest import naming
from itest.config import Config
from itest.engines import Engine
from itest.errors import Unavailable
from itest.service import Service
from itest.spec import Spec

if TYPE_CHECKING:
    from itest.engines.docker import DockerEngine

MAKERS = {
    "docker": "itest.engines.docker:DockerEngine",
    "process": "itest.engines.process:ProcessEngine",
    "thread": "itest.engines.thread:ThreadEngine",
    "compose": "itest.engines.compose:ComposeEngine",
    "external": "itest.engines.external:ExternalEngine",
}
"""Every engine by its name, which is what a spec says of itself (`spec.engine`)."""

CHOSEN = ("docker", "process")
"""Those that a service can be run by, as it happens, the preferred one first."""


class Engines:
    """The engines of a session, each made when it is needed."""

    def __init__(self, config: Config, given: Sequence[Engine] | None = None) -> None:
        self._config = config
        self._given = given
        self._usable: list[Engine] | None = None
        self._reasons: dict[str, str] = {}
        self._passed_over = ""
        self._others: dict[str, Engine] = {}
        self._specs: WeakKeyDictionary[Service[Any], Spec] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def spec(self, service: Service[Any], secret: str) -> Spec:
        """What to run for this declaration, and thereby on which engine: found out once, since for a local process
        programs are looked for. Raises Unavailable."""
        if (known := self._specs.get(service)) is None:
            known = self._specs[service] = self._spec(service, secret)
        return known

    def _spec(self, service: Service[Any], secret: str) -> Spec:
        if service.external:
            if url := self._config.variable(service.external):
                spec = service.external_spec(url, service.external)
                naming.url_password(url)  # From here on masked; those of the settings are since they were read.
                return spec
        elif service.external_setting and (url := getattr(self._config, service.external_setting)):
            return service.external_spec(url, self._config.source(service.external_setting))
        if (own := service.own_spec(secret, self._config)) is not None:
            return own
        engines = self.usable()
        reasons = dict(self._reasons)
        for engine in engines:
            if engine.name != "process":
                return service.container(secret)
            try:
                return service.process(secret, self._config)
            except Unavailable as error:
                reasons[engine.name] = str(error)
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        if not why:
            settings = f"engine = {self._config.engine!r} and require = {self._config.require!r}"
            why = f"the settings {settings} leave no engine"
        raise Unavailable(f"nothing here can run {service.title}: {why}", reasons)

    def usable(self) -> list[Engine]:
        """The engines that can be used here, the preferred one first. Asked once per session."""
        with self._lock:
            if self._usable is None:
                usable: list[Engine] = []
                for engine in self._given if self._given is not None else allowed(self._config):
                    if reason := engine.unavailable():
                        self._reasons[engine.name] = reason
                        if getattr(engine, "heard", False):
                            self._passed_over = reason
                        engine.close()
                    else:
                        usable.append(engine)
                        if self._given is None:
                            break  # One engine runs all: services must reach one another.
                self._usable = usable
            return self._usable

    def passed_over(self) -> str:
        """Why Docker runs nothing, though it seems to be there; empty where it is not, and from the second call on."""
        with self._lock:
            reason, self._passed_over = self._passed_over, ""
            return reason

    def that_runs(self, spec: Spec) -> Engine:
        """The engine of a spec. What a service runs by itself, whatever runs the others, may need one more."""
        usable = self.usable() if spec.engine in CHOSEN else []
        fitting = [engine for engine in usable if (engine.name == "process") == (spec.engine == "process")]
        if fitting:
            return fitting[0]
        with self._lock:
            if spec.engine not in self._others:
                engine = make(spec.engine, self._config)
                if reason := engine.unavailable():
                    raise Unavailable(f"{spec} cannot be run here: {reason}", {engine.name: reason})
                self._others[spec.engine] = engine
            return self._others[spec.engine]

    def docker(self) -> DockerEngine | None:
        """The docker engine, if that is what runs containers here."""
        return cast("DockerEngine | None", next((each for each in self.usable() if each.name == "docker"), None))

    def close(self) -> None:
        """Give back what the engines themselves hold."""
        for engine in (*(self._usable or []), *self._others.values()):
            engine.close()


def allowed(config: Config) -> list[Engine]:
    """The engines that the settings allow, the preferred one first."""
    wanted = [config.engine] if config.engine != "auto" else list(CHOSEN)
    if config.require in CHOSEN:
        wanted = [name for name in wanted if name == config.require]
    return [make(name, config) for name in wanted]


def make(name: str, config: Config) -> Engine:
    """The engine of that name. Its module is imported here, and no other's."""
    module, _, attribute = MAKERS[name].partition(":")
    engine: Engine = getattr(importlib.import_module(module), attribute)(config)
    return engine
