# SPDX-License-Identifier: Apache-2.0
"""The way to Docker, gone as far as it is needed: where it is, whether it answers, and the SDK's client, whose import takes
longer than many a start."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from itest.config import Config
from itest.engines.docker_address import Address, is_forbidden, locate, problem
from itest.engines.docker_client import connected, greet, no_sdk
from itest.engines.docker_errors import OutOfReach
from itest.engines.docker_quick import ANSWER_TIMEOUT, API_TIMEOUT
from itest.errors import MissingPackage, Unavailable
from itest.packages import need_client

if TYPE_CHECKING:
    from itest.engines.docker_pull import Images


class Link:
    """All of it may be used by several threads. That Docker is not there is a reason to skip tests (Unavailable) as long as
    it has not answered; from then on it is an error (OutOfReach), or a run that it left halfway would be taken for a good one."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._address: Address | None = None
        self._made: tuple[Any, Images] | None = None
        self.heard = False
        """Whether Docker seems to be there, as far as it was looked, or was asked for in vain: that it is unavailable has a
        reason that people want to know."""

    @property
    def address(self) -> Address:
        """Where Docker answers. Raises Unavailable."""
        return self.reach()

    @property
    def client(self) -> Any:
        """The SDK's client, made at the first call. Raises OutOfReach, and as `reach`."""
        return self._connect()[0]

    @property
    def images(self) -> Images:
        """Docker's images. Raises as `client`."""
        return self._connect()[1]

    @property
    def quick(self) -> bool:
        """Whether `docker_quick` can ask, and is quicker: as long as there is no client. Raises Unavailable."""
        return self.reach().parts.scheme == "unix" and self._made is None

    def reach(self) -> Address:
        """See that Docker answers, and where, until it has once. Raises Unavailable.

        On a Unix socket the SDK is not needed for that, nor to find what runs.
        """
        with self._lock:
            if self._address is None:
                try:
                    address = locate(self._config.environment)
                except Unavailable:
                    self.heard = True
                    raise
                if reason := problem(address):
                    self.heard = is_forbidden(address)
                    raise Unavailable(reason)
                self.heard = True
                if address.parts.scheme != "unix":
                    try:
                        self._made = self._make(address, ANSWER_TIMEOUT)
                    except OutOfReach as error:
                        raise Unavailable(str(error)) from None
                else:
                    try:
                        need_client("docker", "", "the engine docker")
                    except MissingPackage:
                        raise Unavailable(no_sdk(address)) from None
                    greet(address)
                self._address = address
            return self._address

    def close(self) -> None:
        with self._lock:
            made, self._made, self._address = self._made, None, None
        if made is not None:
            made[0].close()

    def _connect(self) -> tuple[Any, Images]:
        address = self.reach()
        with self._lock:
            if self._made is None:
                if reason := problem(address):  # By now; the SDK would leave a socket open.
                    raise OutOfReach(reason)
                # It has answered. For its version it asks others, which takes Podman seconds on a busy machine.
                self._made = self._make(address, API_TIMEOUT)
            return self._made

    def _make(self, address: Address, timeout: int) -> tuple[Any, Images]:
        client = connected(address, timeout)
        from itest.engines.docker_pull import Images

        return client, Images(client, self._config)


class Later:
    """The SDK's client, made when something is asked of it. Docker answered before: that it does not any more is told as
    the client tells it, and is no reason to skip a test."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def __getattr__(self, name: str) -> Any:
        try:
            client = self._link.client
        except (Unavailable, OutOfReach) as error:
            from requests.exceptions import ConnectionError

            raise ConnectionError(str(error)) from None
        return getattr(client, name)
