# SPDX-License-Identifier: Apache-2.0
"""The process engine: real servers as local processes, for machines without Docker.

Each instance has a directory of its own, in memory where possible. The state file in it is written before anything
runs, so whoever finds the directory can end what runs there: the owner, its reaper, a later sweep.
"""

from __future__ import annotations

import os
import signal
import textwrap
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

from itest import naming
from itest.clock import Deadline
from itest.config import Config, Environment, live_environment
from itest.engines import Instance, Thing, directory, launcher, remove_all
from itest.engines.directory import Record
from itest.engines.launcher import Launcher
from itest.engines.ports import HOST, free_port
from itest.engines.process_instance import LOG_FILE, ProcessInstance, end_child, process_of
from itest.engines.process_warm import unpack
from itest.errors import ItestError, StartError, StartTimeout
from itest.spec import ProcessSpec, Spec, fill
from itest.trace import Recorder

if TYPE_CHECKING:
    import subprocess

    from itest.engines.privileges import Identity, Privileges

INHERITED = ("PATH", "HOME", "JAVA_HOME")
"""All that a server inherits of the environment; PG*, REDIS* or JAVA_TOOL_OPTIONS would change what it is."""

PREPARE_LOG = "itest.prepare.log"


class ProcessEngine:
    """Runs `ProcessSpec`s. Linux and macOS."""

    name = "process"

    def __init__(self, config: Config) -> None:
        self._environment = {
            "PATH": os.defpath,
            **{name: value for name in INHERITED if (value := config.variable(name))},
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        self._launcher = Launcher()
        self._started: weakref.WeakValueDictionary[str, ProcessInstance] = weakref.WeakValueDictionary()

    @cached_property
    def _privileges(self) -> Privileges:
        from itest.engines.privileges import Privileges

        return Privileges(self._environment["PATH"])

    def unavailable(self) -> str | None:
        """Why no local processes can be used here; None when they can."""
        if os.name != "posix":
            return "servers as local processes need Linux or macOS; use Docker here"
        return None

    def start(self, spec: Spec, labels: Mapping[str, str], deadline: Deadline, trace: Recorder) -> ProcessInstance:
        """Start it; readiness is not waited for. Raises StartError, with nothing left behind."""
        if not isinstance(spec, ProcessSpec):
            raise TypeError(f"the process engine cannot run {spec}")
        subject = labels.get(naming.SERVICE, "") or str(spec)
        identity = self._privileges.identity(spec)
        place = directory.create(labels)
        instance = None
        try:
            ports = {name: free_port() for name in spec.ports}
            spec = _filled(spec, {name: (HOST, port) for name, port in ports.items()}, str(place))
            record = Record(
                dict(labels),
                spec.version,
                spec.stop_signal,
                spec.argv,
                ports,
                identity.prefix,
                identity.user,
                workplace=spec.directory,
                env=spec.env,
            )
            directory.write(place, record._replace(preparing=bool(spec.prepare) and not spec.warm))
            instance = ProcessInstance(place, record, self._environment)
            self._started[instance.id] = instance
            if identity.owner is not None:
                directory.share_with(place, identity.owner)
            identity.check_reach(spec, place)
            _write_files(place, spec.files, identity)
            environment = self._environment_of(spec, place)
            launch = _Launch(self._launcher, self._privileges, identity, place, spec, environment)
            if spec.warm:
                with trace.span("prepare", subject):
                    unpack(Path(spec.warm), place, identity.owner)
            elif spec.prepare:
                with trace.span("prepare", subject):
                    for argv in spec.prepare:
                        launch.complete(argv, deadline, subject)
                directory.write(place, record)
            if spec.prepare:  # They were for that.
                for name in spec.files:
                    if name.endswith(".secret"):
                        (place / name).unlink(missing_ok=True)
            number = None if naming.SHARED in labels else spec.stop_signal
            instance.run(lambda: launch.server(number), spec.argv[0], launch.environment)
            return instance
        except BaseException as error:
            try:
                instance.stop() if instance is not None else directory.remove(place)
            except ItestError as failure:
                error.add_note(str(failure))
            if isinstance(error, OSError) and not isinstance(error, ItestError):
                from itest import causes  # Only errors need it.

                known = causes.of_error(error, str(place.parent))
                cure = f". {known.sentence}" if known else ""
                said = f"{spec} could not be started: {naming.mask(str(error))}{cure}"
                raise StartError(said, service=subject, cause=known.name if known else "") from error
            raise

    def find(self, labels: Mapping[str, str]) -> list[Instance]:
        """What runs, or is left over, under these labels, of this user and on this machine."""
        found: list[Instance] = []
        for place in directory.scan():
            record = directory.read(place)
            if all(record.labels.get(name) == value for name, value in labels.items()):
                found.append(self._instance(place, record))
                if naming.SHARED in record.labels and naming.SESSION in labels:
                    break  # It is the only one of that session.
        return found

    def remove(self, labels: Mapping[str, str]) -> int:
        return remove_all(self.things(), labels)

    def things(self) -> list[Thing]:
        """The instances of this user on this machine, whoever's they are."""
        found = []
        for place in directory.scan():
            record = directory.read(place)
            pid, runs = process_of(place, record)
            kind, name = ("process", str(pid)) if pid else ("directory", place.name)
            remove = self._instance(place, record).stop
            found.append(Thing(kind, name, record.version, record.labels, directory.created(place), runs, remove))
        return found

    def _environment_of(self, spec: ProcessSpec, place: Path) -> dict[str, str]:
        own = Environment({"PATH": os.defpath, **live_environment()} if spec.inherits else self._environment)
        mark = {launcher.MARK: str(place)} if spec.directory else {}
        return Environment({**own, **spec.env, **mark})

    def _instance(self, place: Path, record: Record) -> ProcessInstance:
        return self._started.get(place.name) or ProcessInstance(place, record, self._environment)

    def close(self) -> None:
        """End the launcher thread. It stays while something it started still runs, because that would end with it; a
        shared server would not, and is left to the others."""
        own = [instance for instance in list(self._started.values()) if naming.SHARED not in instance.labels]
        if not any(instance.state().running for instance in own):
            self._launcher.close()


class _Launch:
    """Starts the programs of one instance."""

    def __init__(
        self,
        starter: Launcher,
        privileges: Privileges,
        identity: Identity,
        place: Path,
        spec: ProcessSpec,
        environment: Mapping[str, str],
    ) -> None:
        self.environment = environment
        self._starter = starter
        self._privileges = privileges
        self._identity = identity
        self._place = place
        self._spec = spec

    def __call__(self, argv: Sequence[str], output: IO[bytes], death_signal: int | None) -> subprocess.Popen[bytes]:
        """Start a program that gets this signal when its owner dies; None: it outlives its owner."""
        signals = () if death_signal is None else self._privileges.death_signal(death_signal)
        return self._starter.start(
            argv,
            prefix=(*self._identity.prefix, *signals),
            directory=self._place,
            environment=self.environment,
            user=self._identity.user,
            output=output,
            workplace=self._spec.directory,
            umask=-1 if self._spec.inherits else 0o077,
        )

    def server(self, death_signal: int | None) -> subprocess.Popen[bytes]:
        """Start what the instance is for; its output is added to its log."""
        with (self._place / LOG_FILE).open("ab") as log:
            return self(self._spec.argv, log, death_signal)

    def complete(self, argv: Sequence[str], until: Deadline, subject: str) -> None:
        """Run a command to its end. Raises StartError when it fails, StartTimeout when it takes too long.

        The server's stop signal is not for it: SIGQUIT, or any signal to its children, has initdb leave shared memory
        behind, while SIGTERM to it alone lets it finish its step and clean up.
        """
        path = self._place / PREPARE_LOG
        with path.open("w+b") as output:
            process = self(argv, output, signal.SIGTERM)
            try:
                in_time = launcher.wait_exit(process, until.remaining)
            finally:
                end_child(process, signal.SIGTERM, group=False)
            if in_time and process.returncode == 0:
                return
            output.seek(max(0, output.seek(0, os.SEEK_END) - 4000))
            lines = naming.clean_log(output.read().decode(errors="replace")).strip()
        import shlex

        from itest import causes

        command = shlex.join(map(naming.mask, argv))
        error: StartError
        known = causes.of_death(lines, None, oom_killed=False, place=str(self._place.parent))
        if in_time:
            error = StartError(
                f"preparing {self._spec} failed: `{command}` {naming.exit_text(process.returncode)}, "
                f"{until.elapsed:.1f} s after the start began{f'. {known.sentence}' if known else ''}",
                service=subject,
                seconds=until.elapsed,
                cause=known.name if known else "",
            )
        else:
            error = StartTimeout(
                f"preparing {self._spec} took too long: `{command}` had not ended within {until.seconds:g} s. "
                f"If it only needs longer, raise startup_timeout",
                service=subject,
                seconds=until.elapsed,
            )
        error.add_note(f"output of `{command}`:\n" + textwrap.indent(lines or "(none)", "  | "))
        raise error


def _filled(spec: ProcessSpec, endpoints: Mapping[str, tuple[str, int]], place: str) -> ProcessSpec:
    """The spec with the placeholders in its commands, environment and files filled."""
    return spec._replace(
        argv=tuple(fill(word, endpoints, place) for word in spec.argv),
        prepare=tuple(tuple(fill(word, endpoints, place) for word in argv) for argv in spec.prepare),
        env={name: fill(value, endpoints, place) for name, value in spec.env.items()},
        files={
            name: content if isinstance(content, bytes) else fill(content, endpoints, place)
            for name, content in spec.files.items()
        },
    )


def _write_files(place: Path, files: Mapping[str, str | bytes], identity: Identity) -> None:
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if identity.owner is not None:
            for item in (path, *path.parents):
                if item == place:
                    break
                os.chown(item, identity.owner, identity.owner)
