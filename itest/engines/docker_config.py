# SPDX-License-Identifier: Apache-2.0
"""What Docker is asked to create for a `ContainerSpec`, in the Engine API's own words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from itest import naming
from itest.engines import HOST_INSIDE, docker_options
from itest.engines.docker_address import LOOPBACK, Address
from itest.engines.docker_instance import IMAGE, PORTS
from itest.errors import StartError
from itest.spec import ContainerSpec, fill


def wanted(
    spec: ContainerSpec,
    labels: Mapping[str, str],
    address: Address,
    chosen: Mapping[str, tuple[str, int]],
    host: str = "",
) -> dict[str, Any]:
    """What the Engine API is asked to create. `host`: the address of this machine on the spec's network, if it has one."""

    def filled(text: str) -> str:
        try:
            return fill(text, chosen)
        except KeyError as error:
            raise StartError(
                f"could not start {spec}: it mentions the host port of {error}, which only Docker will choose; "
                f"declare that port with Port(..., chosen=True)"
            ) from None

    # The loopback of another machine is out of our reach: a daemon there must publish for its network.
    interface = LOOPBACK if address.host == LOOPBACK else "0.0.0.0"
    ports = published(spec)
    config: dict[str, Any] = naming.Masked(
        {
            "Image": spec.warm or spec.image,
            "Env": [f"{variable}={filled(value)}" for variable, value in spec.env.items()],
            "ExposedPorts": {port: {} for port in ports.values()},
            "Labels": {
                **labels,
                PORTS: json.dumps(ports),
                **({IMAGE: spec.image if spec.build is None else str(spec.build)} if spec.warm else {}),
            },
            "HostConfig": {
                "PortBindings": {
                    port: [{"HostIp": interface, "HostPort": str(chosen[name][1]) if name in chosen else ""}]
                    for name, port in ports.items()
                },
                "Tmpfs": {path: f"size={size}" if size else "" for path, size in spec.tmpfs.items()},
                # A daemon's default may be a driver whose logs cannot be read back (syslog, awslogs).
                "LogConfig": {"Type": "json-file", "Config": {}},
            },
        }
    )
    if spec.network:
        config["HostConfig"].update(NetworkMode=spec.network, ExtraHosts=[f"{HOST_INSIDE}:{host or 'host-gateway'}"])
        config["NetworkingConfig"] = {"EndpointsConfig": {spec.network: {"Aliases": list(spec.aliases)}}}
    if spec.command:
        config["Cmd"] = [filled(argument) for argument in spec.command]
    # An image with a kept state has an entrypoint of its own, which goes on with the one that is wanted here.
    if spec.entrypoint is not None and not spec.warm:
        config["Entrypoint"] = [filled(argument) for argument in spec.entrypoint]
    docker_options.add(config, spec, labels, address)
    return config


def published(spec: ContainerSpec) -> dict[str, str]:
    """Docker's names of the ports by ours: `{"http": "9200/tcp"}`."""
    return {name: f"{port.number}/{port.protocol}" for name, port in spec.ports.items()}
