# SPDX-License-Identifier: Apache-2.0
"""Logins to registries: from DOCKER_AUTH_CONFIG, else from the docker command's own configuration."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from itest import naming
from itest.trace import say
from itest.tuples import NamedTuple

VARIABLE = "DOCKER_AUTH_CONFIG"
"""Holds what `~/.docker/config.json` would hold; CI services set it."""

FILE = "the configuration of the docker command"


class Login(NamedTuple):
    """The headers that carry a login to Docker; none without one. For messages: where it comes from, or why none."""

    headers: Mapping[str, str]
    source: str = ""
    problem: str = ""

    def __repr__(self) -> str:
        return naming.show("Login", {**self._asdict(), "headers": list(self.headers)})


class Logins:
    """The logins that this machine has."""

    def __init__(self, client: Any, environment: Mapping[str, str]) -> None:
        self._client = client
        self._given = environment.get(VARIABLE, "")
        self._parsed: Any = None

    def to(self, registry: str) -> Login:
        """The login to a registry. Never raises: most images need none."""
        first, second = self._from_variable(registry), Login({})
        if not first.source:
            second = self._looked_up(self._client._auth_configs, registry, FILE)
        return first if first.source else second._replace(problem=first.problem or second.problem)

    def _from_variable(self, registry: str) -> Login:
        if not self._given:
            return Login({})
        if self._parsed is None:
            try:
                self._parsed = parse(self._given)
            except ValueError as error:
                say(f"the variable {VARIABLE} is ignored, because it cannot be read: {error}")
                self._given = ""
                return Login({})
        return self._looked_up(self._parsed, registry, f"the variable {VARIABLE}")

    def _looked_up(self, logins: Any, registry: str, source: str) -> Login:
        from docker import auth
        from docker.errors import DockerException

        try:
            found = auth.resolve_authconfig(logins, registry)
        except (DockerException, ValueError, LookupError, OSError, Warning) as error:  # Where warnings are errors.
            # A credential helper that is configured but not installed, or that has nobody to ask.
            return Login({}, problem=f"{source} could not be asked: {naming.shorten(str(error), 200)}")
        if not found:
            return Login({})
        for name, value in found.items():
            if name.lower() in ("password", "identitytoken", "registrytoken"):
                naming.remember_secret(str(value or ""))
        return Login({"X-Registry-Auth": str(auth.encode_header(found), "ascii")}, source)


def parse(text: str) -> Any:
    """The SDK's `AuthConfig` of a JSON text. An entry that cannot be read is left out. Raises ValueError.

    The SDK's own reading gives up all entries for one bad one, and knows no entry with its name and password as they are.
    """
    from docker.auth import AuthConfig

    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is no JSON ({error})") from None
    if not isinstance(content, dict) or not isinstance(content.get("auths", {}), dict):
        raise ValueError('it must look like {"auths": {"registry.example.com": {"auth": "..."}}}')
    auths = {}
    for registry, entry in content.get("auths", {}).items():
        try:
            auths[registry] = _entry(registry, entry)
        except (ValueError, TypeError, AttributeError):
            say(f"the entry {registry} of the variable {VARIABLE} is ignored: its auth must be base64 of user:password")
    helpers = {name: content[name] for name in ("credsStore", "credHelpers") if content.get(name)}
    return AuthConfig({"auths": auths, **helpers})


def _entry(registry: str, entry: Mapping[str, str]) -> dict[str, str]:
    for key, name in (("identitytoken", "IdentityToken"), ("registrytoken", "RegistryToken")):
        if entry.get(key):
            return {name: entry[key], "serveraddress": registry}
    user, password = entry.get("username", ""), entry.get("password", "")
    if encoded := entry.get("auth"):
        user, colon, password = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
        if not colon:
            raise ValueError("no colon")
    return {"username": user, "password": password, "serveraddress": registry} if user else {}
