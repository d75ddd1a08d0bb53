# SPDX-License-Identifier: Apache-2.0
"""What an image is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from itest import naming
from itest.arguments import Text, variables_of


@dataclass(frozen=True, slots=True, repr=False)
class Build:
    """An image to be built: `docker build -f DOCKERFILE --build-arg ... --target TARGET CONTEXT`.

    A relative `dockerfile` is one of the context, a relative `context` one of the working directory. An image is built
    once per content of what Docker would be sent. Values of `args` whose names look like passwords are shown nowhere;
    Docker itself keeps them in the image's history.
    """

    context: str | Path
    dockerfile: str | Path = "Dockerfile"
    args: Mapping[str, Text] = field(default_factory=dict)
    target: str = ""

    def __post_init__(self) -> None:
        variables_of("Build: args", self.args)

    def fingerprint(self) -> str:
        """Equal for equal Dockerfiles, files, arguments and targets. Raises BuildError where they cannot be read."""
        from itest import build_context  # tarfile and more, for the few that build

        content = build_context.digest(*build_context.find(self.context, self.dockerfile))
        return naming.fingerprint("build", content, self.arguments, self.target)

    @property
    def arguments(self) -> dict[str, str]:
        """`args` as texts."""
        return variables_of("Build: args", self.args)

    def __str__(self) -> str:
        target = f", target {self.target}" if self.target else ""
        return f"image of {Path(self.context, self.dockerfile)}{target}"

    def __repr__(self) -> str:
        return naming.show("Build", {**asdict(self), "args": naming.hide_named(self.arguments)})
