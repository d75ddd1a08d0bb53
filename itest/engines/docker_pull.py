# SPDX-License-Identifier: Apache-2.0
"""Getting an image onto the Docker host: by which policy, progress for people, one sentence when it fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from itest.clock import SYSTEM, Clock, Deadline
from itest.config import Config
from itest.engines.docker_build import Builds
from itest.engines.docker_errors import translated
from itest.engines.docker_login import Login, Logins
from itest.engines.docker_progress import Layers, messages
from itest.engines.docker_registry import explain, fits, mirrored, registry_of
from itest.errors import DeclarationError, ImageError, StartError
from itest.spec import PULLS, ContainerSpec
from itest.trace import Recorder, Span

STALLED = 300.0
"""Seconds without a word from Docker after which a pull is given up: unpacking a large layer is silent too."""


class Images:
    """The images of one Docker host. Usable from any thread; an image is got once however many ask for it."""

    def __init__(self, client: Any, config: Config, clock: Clock = SYSTEM) -> None:
        self._client = client
        self._config = config
        self._clock = clock
        self._locks: dict[str, threading.Lock] = {}
        self._ids: dict[tuple[str, str], str] = {}
        self._pulled: set[tuple[str, str]] = set()
        self._logins = Logins(client, config.environment)
        self._builds = Builds(client, config, self, clock)

    def need(self, spec: ContainerSpec, trace: Recorder, subject: str = "") -> str:
        """The name or id of the image of a spec, which `subject` needs, once it is there.

        Raises ImageError when it cannot be pulled or may not be, BuildError when it cannot be built.
        """
        if spec.pull not in PULLS:
            raise DeclarationError(f"pull={spec.pull!r} of {spec}: it must be one of {', '.join(PULLS)}")
        if spec.build is not None:
            return self._builds.need(spec.build, spec.pull, spec.platform, trace, subject)
        return self.get(spec.image, spec.pull, spec.platform, trace, subject)

    def get(self, image: str, pull: str, platform: str, trace: Recorder, subject: str = "") -> str:
        """As `need`, for an image by its name."""
        with self._locks.setdefault(image, threading.Lock()):
            asked = mirrored(image, self._config.mirror)
            if "@" in image and not self._present(image, platform):
                image = asked  # What is named by a digest cannot be given another name.
            key = image, platform
            there = key in self._pulled or (pull != "always" and self._present(image, platform))
            if not there:
                if pull == "never":
                    raise ImageError(
                        f"image {image} is not on the Docker host{_for(platform)}, and pull='never' says not to pull it: "
                        f"bring it (`docker pull`, `docker load`), or say pull='missing'",
                        image=image,
                    )
                newer = pull == "always"
                why = "" if newer else f", which is not on the Docker host{_for(platform)}"
                with trace.span("pull", subject or image, image=image, why=why) as span:
                    self._pull(image, asked, platform, newer, span)
                self._pulled.add(key)
                self._ids.pop(key, None)
            # The name may soon stand for the image of another platform, if somebody else asks for that.
            return image if not platform or not self._present(image, platform) else self._ids[key]

    def identity(self, image: str, platform: str = "") -> str:
        """The image's id, which is a digest of its content; empty when it is not there. Asked once."""
        return self._ids[image, platform] if self._present(image, platform) else ""

    def _present(self, image: str, platform: str) -> bool:
        from docker.errors import APIError, NotFound

        if (image, platform) in self._ids:
            return True
        try:
            with translated(f"look for image {image}", StartError, passing=(APIError,)):
                found = self._client.inspect_image(image)
        except NotFound:
            return False
        except APIError as error:
            raise ImageError(explain(image, str(error.explanation or error)), image=image) from None
        if platform and not fits(platform, *(str(found.get(name) or "") for name in ("Os", "Architecture", "Variant"))):
            return False
        self._ids[image, platform] = str(found["Id"])
        return True

    def _pull(self, image: str, asked: str, platform: str, newer: bool, span: Span) -> None:
        """Pull what is asked for, and have it known as `image` too. `newer`: one may be there already."""
        from docker.errors import DockerException
        from docker.utils import parse_repository_tag
        from requests.exceptions import RequestException

        deadline = Deadline.after(self._config.pull_timeout, self._clock)
        layers = Layers(span)
        login = self._logins.to(registry_of(asked))

        def failed(said: str) -> ImageError:
            text = explain(
                image,
                said,
                asked=asked,
                platform=platform,
                login=login.source,
                problem=login.problem,
                there=newer,
            )
            return ImageError(text, seconds=deadline.elapsed, image=image)

        try:
            for message in self._messages(asked, platform, login):
                if error := message.get("error"):
                    raise failed(str(error))
                layers.note(message)
                if deadline.passed:
                    raise TimeoutError
        except (TimeoutError, RequestException, DockerException) as error:
            if isinstance(error, TimeoutError) or "timed out" in str(error).lower():
                state = "" if newer else f"image {image} is not on the Docker host, and "
                raise ImageError(
                    f"{state}{f'the pull of image {image}' if newer else 'its pull'} was given up after "
                    f"{deadline.elapsed:.0f} s ({span.amount}): raise pull_timeout, or `docker pull` by hand",
                    seconds=deadline.elapsed,
                    image=image,
                ) from None
            raise failed(str(error)) from None
        if asked != image:
            repository, tag = parse_repository_tag(image)
            with translated(f"name image {asked} {image}", ImageError):
                self._client.tag(asked, repository, tag or "latest")

    def _messages(self, image: str, platform: str, login: Login) -> Iterator[dict[str, Any]]:
        """What Docker says while it pulls.

        Asked through the SDK's own HTTP session, since its `pull()` switches the read timeout off: a stalled registry
        would hang the run for ever.
        """
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(image)
        return messages(
            self._client,
            "images/create",
            params={
                "fromImage": repository,
                "tag": tag or "latest",
                **({"platform": platform} if platform else {}),
            },
            headers=dict(login.headers),
            timeout=min(self._config.pull_timeout, STALLED),
        )


def _for(platform: str) -> str:
    return f" for platform {platform}" if platform else ""
