# SPDX-License-Identifier: Apache-2.0
"""A spec as the command line that starts it without itest: what a startup error shows, passwords masked."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from itest import naming
from itest.config import live_environment
from itest.container_options import ContainerOptions, Healthcheck
from itest.spec import ContainerSpec, ProcessSpec, Spec, fill

if TYPE_CHECKING:
    from itest.engines import Instance

LONGEST = 160
"""Characters of one word: Kafka's command has a script and a file among its arguments, which are of no use here."""


def add(error: BaseException, spec: Spec, instance: Instance | None = None) -> None:
    """Give an error how the server of a spec was started as a note, where that can be said."""
    if text := command(spec, instance):
        error.add_note(f"it was started as: {text}")


def command(spec: Spec, instance: Instance | None = None) -> str:
    """`docker run ...`, or the program with its variables; empty for what is not started. Placeholders stay as they are,
    but for those of a local process with its instance."""
    more = ""
    if isinstance(spec, ContainerSpec):
        options = spec.options or ContainerOptions()
        # Docker refuses both at once.
        words = ["docker", "run", *(() if options.restart not in ("", "no") else ("--rm",)), *_options(spec, options)]
        if options.api:  # Of which docker run may have no option.
            more = f" # and api={{{', '.join(f'{name!r}: ...' for name in options.api)}}}"
        entrypoint = spec.entrypoint or ()
        if entrypoint:
            words += ["--entrypoint", entrypoint[0]]
        words += [spec.image if spec.build is None else "IMAGE", *entrypoint[1:], *spec.command]
    elif isinstance(spec, ProcessSpec):
        own = {name: value for name, value in spec.env.items() if name != "PATH" or value not in _inherited_paths()}
        words = [*(f"{name}={value}" for name, value in own.items()), *spec.argv]
        if instance is not None:
            endpoints = {name: instance.endpoint(name) for name in spec.ports}
            words = [fill(word, endpoints, str(getattr(instance, "place", ""))) for word in words]
    else:
        return ""
    # Each by itself: what `join` makes of a quote is no SQL any more.
    hidden = naming.hide_options(words)
    shown = [naming.shorten(word, LONGEST) if len(word) > LONGEST else naming.mask(word) for word in hidden]
    return shlex.join(shown) + more


def _inherited_paths() -> tuple[str, str]:
    """What PATH is by itself, and as an app has it that declares none (services/app/command.py)."""
    path = live_environment().get("PATH", os.defpath)
    return path, f"{os.path.dirname(sys.executable)}{os.pathsep}{path}"


def _options(spec: ContainerSpec, options: ContainerOptions) -> Iterator[str]:
    """The options of `docker run` that matter for whether it starts."""
    for variable, text in spec.env.items():
        if variable == "BASH_FUNC_pg_ctl%%":  # It only has PostgreSQL start sooner (services/postgres/customs.py).
            continue
        yield from ("-e", f"{variable}={naming.MASK if variable in spec.secrets and text else text}")
    for port in spec.ports.values():
        yield from ("-p", f"127.0.0.1::{port.number}{'' if port.protocol == 'tcp' else f'/{port.protocol}'}")
    for path, size in spec.tmpfs.items():
        yield from ("--tmpfs", f"{path}:size={size}" if size else path)
    for name, value in {
        "platform": spec.platform,
        "user": options.user,
        "workdir": options.workdir,
        "memory": options.memory,
        "cpus": options.cpus,
        "shm-size": options.shm_size,
        "hostname": options.hostname,
        "restart": options.restart,
    }.items():
        if value:
            yield from (f"--{name}", str(value))
    for path, mount in options.mounts.items():
        yield from ("-v", f"{mount.source}:{path}{':ro' if mount.read_only else ''}")
    for limit, (soft, hard) in options.ulimits.items():
        yield from ("--ulimit", f"{limit}={soft}:{hard}")
    for capability in options.cap_add:
        yield from ("--cap-add", capability)
    for capability in options.cap_drop:
        yield from ("--cap-drop", capability)
    for host, address in options.extra_hosts.items():
        yield from ("--add-host", f"{host}:{address}")
    if options.healthcheck is not None:
        yield from _health_options(options.healthcheck)
    if options.privileged:
        yield "--privileged"


def _health_options(check: Healthcheck) -> Iterator[str]:
    if not check.test:
        yield "--no-healthcheck"
        return
    yield from ("--health-cmd", check.test if isinstance(check.test, str) else shlex.join(map(str, check.test)))
    yield from ("--health-interval", f"{check.interval:g}s", "--health-timeout", f"{check.timeout:g}s")
    yield from ("--health-retries", str(check.retries), "--health-start-period", f"{check.start_period:g}s")
