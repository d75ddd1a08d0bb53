# SPDX-License-Identifier: Apache-2.0
"""What is the same for every instance that is no container: nobody stands between it and its endpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from itest.engines import Endpoint, from_inside


class LocalInstance(ABC):
    """Base of such instances; see the protocol `Instance`."""

    @abstractmethod
    def endpoint(self, name: str = "") -> Endpoint: ...

    def direct_endpoint(self, name: str = "") -> Endpoint | None:
        """None: the way to its endpoints is the direct one."""
        return None

    def root(self) -> Path | None:
        """None: its files are this machine's."""
        return None

    def inside_endpoint(self, name: str = "", alias: str = "") -> Endpoint:
        return from_inside(self.endpoint(name))

    def silence(self, name: str = "") -> str:
        """Empty: whoever could connect was answered by itself."""
        return ""

    def ending(self) -> bool:
        """False: nothing is seen of its end before `state` tells it."""
        return False

    def removal(self) -> tuple[str, str] | None:
        """None: `stop` is the only way."""
        return None

    def disown(self) -> None:  # noqa: B027  # Most are no child of this process, and need nothing.
        """It may go on when this process has ended."""
