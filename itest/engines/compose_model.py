# SPDX-License-Identifier: Apache-2.0
"""A Compose project made fit to run beside others: what of it is fixed for the whole machine becomes its own.

It changes the model that `docker compose config` has resolved (merged, with its variables, absolute paths), and not the
files by one more file: what is there is known, so that all of it can be seen to, and the tags by which a file takes
back what another says (`!reset`, `!override`) are not in every version. In that model a dollar is written twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from itest import naming
from itest.engines import HOST_INSIDE, docker_built
from itest.spec import BUILT, ComposeSpec

CLASS_NETWORK = "itest-class"
"""What the network of the test class is called in the model."""

PROBE_SECONDS = 1.0
"""Seconds between two runs of a health check: most files say 5 to 30, and nothing can start sooner after it."""

START_PROBE = "200ms"
"""The same until the first success, with a Docker that can have it otherwise afterwards."""

SHARED = ("network_mode", "ipc", "pid")
"""What a service can have of another one, `service:NAME`, or of any container, `container:NAME`."""

Model = dict[str, Any]


def followed(services: Mapping[str, Model]) -> dict[str, Model]:
    """The services, with each other's names in place of those that their containers have on the whole machine: these
    are taken from them, and may be those of the developer's own containers."""
    names = {service["container_name"]: name for name, service in services.items() if service.get("container_name")}

    def own(text: str, kind: str = "") -> str:
        container, *mode = text.removeprefix("container:").split(":")
        if not text.startswith("container:") or container not in names:
            return text
        return ":".join([f"{kind}{names[container]}", *mode])

    found = {name: dict(service) for name, service in services.items()}
    for service in found.values():
        service.update({key: own(service[key], "service:") for key in SHARED if key in service})
        if "volumes_from" in service:
            service["volumes_from"] = [own(source) for source in service["volumes_from"]]
        for link in service.pop("external_links", None) or ():
            name, _, alias = link.partition(":")
            key, value = ("links", f"{names[name]}:{alias or name}") if name in names else ("external_links", link)
            service[key] = [*(service.get(key) or ()), value]
    return found


def isolated(
    model: Model,
    spec: ComposeSpec,
    labels: Mapping[str, str],
    publish: Callable[[], tuple[str, str]],
    *,
    network: str = "",
    host: str = "",
    cache: str = "",
) -> Model:
    """The model to run. `publish` gives interface and host port of a port to publish, the latter empty where Docker is
    to choose; `network` is the name of the class's network, and `host` the address of this machine on it, if it has one;
    `cache` says whose images are built (docker_built.py)."""
    ours = {name: value.replace("$", "$$") for name, value in labels.items()}
    services = chosen(model["services"], spec)
    for name, service in services.items():
        service.pop("profiles", None)  # It was chosen already.
        service["labels"] = {**service.get("labels", {}), **ours}
        _rename(service)
        _publish(service, spec.ports.get(name, ()), publish)
        if "build" in service and not service.get("image"):
            _name(service, f"{spec.files[0]}, service {name}", cache)
        if network:
            _join(service, spec.aliases if name == main(services, spec) else (), host or "host-gateway")
    result = {**model, "services": services}
    for kind in ("networks", "volumes"):
        found = {key: dict(value or {}) for key, value in model.get(kind, {}).items()}
        for key, value in found.items():
            if not value.get("external"):
                value["name"] = f"{model['name']}_{key}"
                value["labels"] = {**value.get("labels", {}), **ours}
        result[kind] = found
    if network:
        result["networks"][CLASS_NETWORK] = {"name": network, "external": True}
    return result


def chosen(services: Mapping[str, Model], spec: ComposeSpec) -> dict[str, Model]:
    """The services to run: all, or those of the spec with what they depend on; none that it leaves out."""
    left = {name: dict(service) for name, service in services.items() if name not in spec.without}
    for service in left.values():
        needs = {name: how for name, how in (service.get("depends_on") or {}).items() if name in left}
        service.pop("depends_on", None)
        if needs:
            service["depends_on"] = needs
        if links := service.pop("links", None):
            service["links"] = [link for link in links if link.partition(":")[0] in left]
    if not spec.services:
        return left
    wanted: set[str] = set()
    names = list(spec.services)
    for name in names:
        if name in left and name not in wanted:
            wanted.add(name)
            names += left[name].get("depends_on", ())
    return {name: service for name, service in left.items() if name in wanted}


def ties(service: Model) -> Iterator[tuple[str, str]]:
    """What of it stands and falls with another service, as the file says it, and the name of that one."""
    for key in SHARED:
        kind, _, name = service.get(key, "").partition(":")
        if kind == "service":
            yield f"{key}: {service[key]}", name
    for source in service.get("volumes_from") or ():
        if not source.startswith("container:"):
            yield f"volumes_from: {source}", source.partition(":")[0]


def names(services: Mapping[str, Model]) -> dict[str, str]:
    """Which service is meant by each name that others of the project can call one by."""
    found: dict[str, str] = {}
    for name, service in services.items():
        if service.get("network_mode"):
            continue  # It is on none of these networks.
        networks = (service.get("networks") or {}).values()
        aliases = [alias for network in networks for alias in (network or {}).get("aliases") or ()]
        found.update({alias: name for alias in (*aliases, service.get("container_name")) if alias})
        found[name] = name
    return found


def hasten(service: Model, of_image: Mapping[str, Any], start_interval: bool) -> None:
    """Have a health check run more often, and give up after the same time as before. `of_image` is what its image says of
    it, in the words of Docker's API: that counts where the file says nothing. `start_interval`: Docker knows that."""
    check = {**_in_words_of_compose(of_image), **(service.get("healthcheck") or {})}
    if check.get("disable") or not check.get("test") or check["test"][0] == "NONE":
        return
    interval, retries = _seconds(check.get("interval", "30s")), int(check.get("retries", 3))
    if interval <= PROBE_SECONDS:
        return
    if not start_interval:
        check["interval"], check["retries"] = f"{PROBE_SECONDS:g}s", math.ceil(retries * interval / PROBE_SECONDS)
    elif "start_interval" not in check:
        check["start_interval"] = START_PROBE
        check["start_period"] = f"{_seconds(check.get('start_period', '0s')) + interval * retries:g}s"
    service["healthcheck"] = check


def jobs(services: Mapping[str, Model]) -> set[str]:
    """The services whose end others wait for."""
    return {
        name
        for service in services.values()
        for name, how in (service.get("depends_on") or {}).items()
        if how.get("condition") == "service_completed_successfully"
    }


def lasting(services: Mapping[str, Model], spec: ComposeSpec) -> set[str]:
    """The services that are no jobs: somebody is to use their ports, or asks whether they are ready."""
    awaited = jobs(services)
    return {
        name
        for name, service in services.items()
        if name not in spec.jobs and (name in spec.ready or (service.get("ports") and name not in awaited))
    }


def published(services: Mapping[str, Model]) -> dict[str, dict[str, str]]:
    """The ports that each service publishes, by their names here: `{"web": {"8000": "8000/tcp"}}`."""
    found: dict[str, dict[str, str]] = {name: {} for name in services}
    for name, service in services.items():
        for port in service.get("ports") or ():
            number, protocol = port["target"], port.get("protocol", "tcp")
            found[name][str(number) if protocol == "tcp" else f"{number}/{protocol}"] = f"{number}/{protocol}"
    return found


def remember_secrets(services: Mapping[str, Model]) -> None:
    """Have no text show what variables of containers and arguments of builds are given as passwords."""
    for service in services.values():
        for given in (service.get("environment"), (service.get("build") or {}).get("args")):
            naming.remember_named({name: value.replace("$$", "$") for name, value in (given or {}).items() if value})


def main(services: Mapping[str, Model], spec: ComposeSpec) -> str:
    """The service that stands for the project: the first that publishes a port, of those that the declaration names, or
    else the only one that does. Empty where that could be several."""
    publishing = [name for name, service in services.items() if service.get("ports") or name in spec.ports]
    for name in (*spec.services, *spec.ready, *spec.ports):
        if name in publishing:
            return name
    return publishing[0] if len(publishing) == 1 else ""


def _name(service: Model, recipe: str, cache: str) -> None:
    """An image that is built and has no name has always the same one, so that no run leaves one of its own; and it is
    listed, bounded and removed with those that itest builds itself."""
    fingerprint = naming.fingerprint("compose", recipe)
    labels = {
        docker_built.FINGERPRINT: fingerprint,
        docker_built.RECIPE: recipe.replace("$", "$$"),
        docker_built.CACHE: cache,
    }
    service["image"] = f"{BUILT}:{fingerprint}"
    service["build"] = {**service["build"], "labels": {**service["build"].get("labels", {}), **labels}}


def _rename(service: Model) -> None:
    """The name that a container has on the whole machine becomes one that it has on its networks, where others of the
    project may know it by that."""
    name = service.pop("container_name", "")
    if not name or service.get("network_mode"):
        return
    service["networks"] = {
        key: {**(value or {}), "aliases": [*(value or {}).get("aliases", ()), name]}
        for key, value in service.get("networks", {}).items()
    }


def _publish(service: Model, more: Iterable[int], publish: Callable[[], tuple[str, str]]) -> None:
    """Every port, by host ports of this run's own."""
    order = [(int(port["target"]), port.get("protocol", "tcp")) for port in service.get("ports") or ()]
    order += [(number, "tcp") for number in more]
    service.pop("ports", None)
    several = int(service.get("scale") or service.get("deploy", {}).get("replicas") or 1) > 1
    ports = []
    for number, protocol in dict.fromkeys(order):
        interface, host_port = publish()
        port = {"mode": "ingress", "target": number, "protocol": protocol, "host_ip": interface}
        # Two containers cannot have one port, and that one is free was seen for TCP only.
        ports.append(port if several or protocol != "tcp" or not host_port else {**port, "published": host_port})
    if ports:
        service["ports"] = ports


def _in_words_of_compose(check: Mapping[str, Any]) -> Model:
    """An image's health check. What is 0 there is not said; how often it runs at the start, we know better."""
    lengths = {"interval": "Interval", "timeout": "Timeout", "start_period": "StartPeriod"}
    found: Model = {name: f"{check[theirs] / 1e9:.9g}s" for name, theirs in lengths.items() if check.get(theirs)}
    if check.get("Retries"):
        found["retries"] = check["Retries"]
    return {**found, "test": [word.replace("$", "$$") for word in check.get("Test") or ()]}


_DURATION = re.compile(r"([\d.]+)(h|ms|us|µs|ns|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def _seconds(duration: object) -> float:
    """Seconds of a Go duration, `1m30s`."""
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(str(duration)))


def _join(service: Model, aliases: Iterable[str], host: str) -> None:
    """Have it on the class's network too, where it calls this machine by that address, unless it has no network of its
    own."""
    if service.get("network_mode"):
        return
    service["networks"] = {**service.get("networks", {}), CLASS_NETWORK: {"aliases": list(aliases)}}
    hosts = service.get("extra_hosts") or []
    if isinstance(hosts, dict):
        service["extra_hosts"] = {HOST_INSIDE: host, **hosts}
    elif not any(host.startswith(HOST_INSIDE) for host in hosts):
        service["extra_hosts"] = [*hosts, f"{HOST_INSIDE}:{host}"]
