# SPDX-License-Identifier: Apache-2.0
"""`ContainerOptions` in the Engine API's own words (POST /containers/create)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import naming
from itest.engines.docker_address import LOOPBACK, Address
from itest.errors import StartError
from itest.spec import ContainerSpec

if TYPE_CHECKING:
    from itest.container_options import ContainerOptions, Healthcheck, Mount

_NANOSECONDS = 1_000_000_000


def add(config: dict[str, Any], spec: ContainerSpec, labels: Mapping[str, str], address: Address) -> None:
    """Add a spec's options to what Docker is asked to create. Raises StartError for what cannot work there."""
    if (options := spec.options) is None:
        return
    plain = {"User": options.user, "WorkingDir": options.workdir, "Hostname": options.hostname}
    config.update({name: value for name, value in plain.items() if value})
    if options.labels:
        config["Labels"] = {**options.labels, **config["Labels"]}
    if options.healthcheck is not None:
        config["Healthcheck"] = _healthcheck(options.healthcheck)
    host = config["HostConfig"]
    limits: dict[str, object] = {
        "Memory": options.memory,
        # Without this, Docker grants as much swap again, and a process that needs too much is slow and not ended.
        "MemorySwap": options.memory,
        "NanoCpus": round(options.cpus * _NANOSECONDS),
        "ShmSize": options.shm_size,
        "Ulimits": [{"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in options.ulimits.items()],
        "CapAdd": list(options.cap_add),
        "CapDrop": list(options.cap_drop),
        "Privileged": options.privileged,
        "RestartPolicy": _restart(options),
        "Mounts": [_mount(spec, path, mount, labels, address) for path, mount in options.mounts.items()],
    }
    host.update({name: value for name, value in limits.items() if value})
    if options.extra_hosts:
        hosts = [f"{name}:{address}" for name, address in options.extra_hosts.items()]
        host["ExtraHosts"] = [*host.get("ExtraHosts", ()), *hosts]
    _merge(config, options.api)


def volume_name(labels: Mapping[str, str], name: str) -> str:
    """What Docker calls a volume of this name: each session has its own, which all its containers share."""
    return f"itest-{labels.get(naming.SESSION, '')}-{name}"


def _mount(spec: ContainerSpec, path: str, mount: Mount, labels: Mapping[str, str], address: Address) -> dict[str, Any]:
    if isinstance(mount.source, Path):
        if address.host != LOOPBACK:
            raise StartError(
                f"could not start {spec}: {mount.source} of this machine cannot be mounted at {path}, because Docker is "
                f"on {address.host}; have it copied there with files={{...}}"
            )
        return {"Type": "bind", "Source": str(mount.source), "Target": path, "ReadOnly": mount.read_only}
    return {
        "Type": "volume",
        "Source": volume_name(labels, mount.source),
        "Target": path,
        "ReadOnly": mount.read_only,
    }


def _healthcheck(check: Healthcheck) -> dict[str, Any]:
    if not check.test:
        return {"Test": ["NONE"]}
    return {
        "Test": ["CMD-SHELL", check.test] if isinstance(check.test, str) else ["CMD", *check.test],
        "Interval": round(check.interval * _NANOSECONDS),
        "Timeout": round(check.timeout * _NANOSECONDS),
        "Retries": check.retries,
        "StartPeriod": round(check.start_period * _NANOSECONDS),
    }


def _restart(options: ContainerOptions) -> dict[str, Any]:
    name, _, times = options.restart.partition(":")
    return {"Name": name, "MaximumRetryCount": int(times or 0)} if name else {}


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value
