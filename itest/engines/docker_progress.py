# SPDX-License-Identifier: Apache-2.0
"""How far Docker is with a pull or a build, from its own messages, for the span that times it."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from itest import naming
from itest.trace import Span

LABELS = 3
"""Labels that an image is given when it is built."""

LINES = 20
"""Lines of a failed step's output that go with the error."""


def messages(client: Any, resource: str, **request: Any) -> Iterator[dict[str, Any]]:
    """What Docker says while it does what was asked, one after the other; `{"error": ...}` where it refuses. Raises what the
    SDK's HTTP session raises."""
    url = f"{client.base_url}/v{client.api_version}/{resource}"
    with client.post(url, stream=True, **request) as response:
        if response.ok:
            yield from (json.loads(line) for line in response.iter_lines() if line)
        else:
            yield {"error": _explanation(response.text)}


def _explanation(body: str) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, LookupError, TypeError):
        return body


class Layers:
    """How far a pull is."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._layers: dict[str, tuple[int, int]] = {}
        span.amount = "nothing downloaded yet"

    def note(self, message: Mapping[str, Any]) -> None:
        """Take in one of Docker's messages about a layer."""
        layer, detail = str(message.get("id")), message.get("progressDetail") or {}
        if message.get("status") == "Downloading" and detail.get("total"):
            self._layers[layer] = (int(detail.get("current") or 0), int(detail["total"]))
        elif message.get("status") == "Download complete" and layer in self._layers:
            self._layers[layer] = (self._layers[layer][1], self._layers[layer][1])
        else:
            return
        done = sum(current for current, _ in self._layers.values())
        total = sum(total for _, total in self._layers.values())
        self._span.amount = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
        self._span.share = min(1.0, done / total)


class Steps:
    """How far a build is."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.number = self.step = ""
        self._said: deque[str] = deque(maxlen=500)
        span.amount = "its beginning"

    def note(self, message: Mapping[str, Any]) -> None:
        """Take in one of Docker's messages."""
        text = str(message.get("stream") or "")
        if match := _STEP.match(text):
            # Docker counts a step for each label too, which nobody finds in the Dockerfile.
            step, last = int(match[1]), max(int(match[1]), int(match[2]) - LABELS)
            self.number, self.step = f"{step}/{last}", naming.clean_log(match[3]).strip()
            self._span.amount, self._span.share = f"step {self.number}", (step - 1) / last
            self._said.clear()
        elif not text.startswith((" ---> ", "Removing intermediate container ", "--> ")):
            self._said.append(text)

    @property
    def output(self) -> str:
        """The last lines that the step has printed."""
        return "\n".join(naming.clean_log("".join(self._said)).strip("\n").splitlines()[-LINES:])


_STEP = re.compile(r"STEP (\d+)/(\d+) ?: (.*)", re.IGNORECASE | re.DOTALL)
