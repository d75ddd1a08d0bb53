# SPDX-License-Identifier: Apache-2.0
"""Building images: once per content of what they are built from, whoever asks; the failing step where it fails."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import textwrap
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import build_context, naming, warm_store
from itest.build import Build
from itest.clock import Clock, Deadline, wall
from itest.config import Config
from itest.engines import docker_built, dockerfile
from itest.engines.docker_errors import translated
from itest.engines.docker_progress import Steps, messages
from itest.errors import BuildError, ImageError, ItestError, StartError
from itest.lock import locked
from itest.spec import BUILT
from itest.trace import Recorder, Span

if TYPE_CHECKING:
    from itest.engines.docker_pull import Images

LOCK_TIME = 24 * 3600.0
"""Seconds after which a lock's file is removed."""


class Builds:
    """The images that are built on one Docker host. Usable from any thread, and by several processes at once."""

    def __init__(self, client: Any, config: Config, images: Images, clock: Clock) -> None:
        self._client = client
        self._config = config
        self._images = images
        self._clock = clock
        self._locks: dict[str, threading.Lock] = {}
        self._built: set[str] = set()

    def need(self, build: Build, pull: str, platform: str, trace: Recorder, subject: str = "") -> str:
        """The name of the image, once it is there. Raises BuildError, and ImageError for one that it is built from."""
        name = name_of(build, platform)
        with self._locks.setdefault(name, threading.Lock()):
            anew = pull == "always" and name not in self._built
            if not anew and self._present(name):
                return name
            with self._alone(name, build):
                if anew or not self._present(name):  # Somebody else may have built it meanwhile.
                    self._make(build, name, pull, platform, trace, subject)
            self._built.add(name)
        return name

    def _make(self, build: Build, name: str, pull: str, platform: str, trace: Recorder, subject: str) -> None:
        root, recipe = build_context.find(build.context, build.dockerfile)
        text = recipe.read_text(encoding="utf-8", errors="replace")
        naming.remember_named(build.arguments)
        for base in dockerfile.bases(text, build.arguments, build.target):
            try:
                self._images.get(base.image, pull, base.platform or platform, trace, subject)
            except ImageError as error:
                error.add_note(f"it is needed to build the {build}")
                raise
        with trace.span("build", subject or name, image=name, title=str(build)) as span:
            self._build(build, name, platform, root, recipe, span)
        with contextlib.suppress(ItestError):
            docker_built.trim(self._client, self._config.cache_dir, name)

    @contextlib.contextmanager
    def _alone(self, name: str, build: Build) -> Iterator[None]:
        """Within the `with`, no other process builds the same image, if the cache directory can be written to."""
        with contextlib.ExitStack() as stack:
            try:
                place = self._config.cache_dir / "builds"
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
                _tidy(place)
                file = place / f"{name.rpartition(':')[2]}.lock"
                stack.enter_context(locked(file, self._config.build_timeout, f"building the {build}", self._clock))
            except OSError:
                pass  # Then each builds it, which does no harm.
            except ItestError as error:
                raise BuildError(str(error)) from None
            yield

    def _present(self, name: str) -> bool:
        from docker.errors import NotFound

        try:
            with translated(f"look for image {name}", StartError, passing=(NotFound,)):
                self._client.inspect_image(name)
        except NotFound:
            return False
        return True

    def _build(self, build: Build, name: str, platform: str, root: Path, recipe: Path, span: Span) -> None:
        from docker.errors import DockerException
        from requests.exceptions import RequestException
        from urllib3.exceptions import HTTPError

        deadline = Deadline.after(self._config.build_timeout, self._clock)
        steps = Steps(span)
        try:
            for message in self._messages(build, name, platform, root, recipe, deadline):
                steps.note(message)
                if "error" in message:
                    text = recipe.read_text(encoding="utf-8", errors="replace")
                    raise _failed(build, steps, deadline, message, text)
                if deadline.passed:
                    raise TimeoutError
        except (TimeoutError, RequestException, DockerException, HTTPError) as error:
            if isinstance(error, TimeoutError) or "timed out" in str(error).lower():
                reason = f"it was given up after {deadline.elapsed:.0f} s at {span.amount}: raise build_timeout"
            else:
                reason = f"Docker does not answer: {naming.shorten(str(error), 300)}"
            raise _with_output(BuildError(f"could not build the {build}: {reason}"), steps, deadline, None) from None

    def _messages(
        self, build: Build, name: str, platform: str, root: Path, recipe: Path, deadline: Deadline
    ) -> Iterator[dict[str, Any]]:
        """What Docker says while it builds. Not by the SDK's `build()`, which knows no time limit and another
        .dockerignore."""
        labels = {
            docker_built.FINGERPRINT: name.rpartition(":")[2],
            docker_built.RECIPE: f"{recipe}{f', target {build.target}' if build.target else ''}",
            docker_built.CACHE: warm_store.identity(self._config.cache_dir),
        }
        with tempfile.TemporaryFile() as archive:
            params = {
                "dockerfile": build_context.pack(archive, root, recipe),
                "t": name,
                "buildargs": json.dumps(build.arguments),
                "labels": json.dumps(labels),
                "target": build.target,
                "platform": platform,
                "rm": "1",
                "forcerm": "1",
            }
            yield from messages(
                self._client,
                "build",
                params={key: value for key, value in params.items() if value},
                headers={"Content-Type": "application/x-tar"},
                data=archive,
                timeout=max(deadline.remaining, 0.001),
            )


_HEREDOC = re.compile(r"^\s*(RUN|COPY|ADD)\b.*<<", re.IGNORECASE | re.MULTILINE)
_CODE = re.compile(r"non-zero code: (\d+)|exit status (\d+)")
# Docker's words, and Podman's.
_NO_TARGET = re.compile(r"failed to reach build target|target \S+ was not found in the provided")
_NO_SOURCE = re.compile(r"(COPY|ADD) failed|checking on sources under|no items matching glob")


def name_of(build: Build, platform: str = "") -> str:
    """What the image is called. Raises BuildError where what it is built from cannot be read."""
    suffix = f"-{re.sub('[^a-z0-9]+', '-', platform.lower())}" if platform else ""
    return f"{BUILT}:{build.fingerprint()}{suffix}"


def _failed(build: Build, steps: Steps, deadline: Deadline, message: Mapping[str, Any], text: str) -> BuildError:
    """The error for what Docker says is wrong; `text` is the Dockerfile's."""
    from itest import causes  # Only errors need it.

    said = str(message["error"])
    code = (message.get("errorDetail") or {}).get("code")
    if code is None and (match := _CODE.search(said)):
        code = int(match[1] or match[2])
    step = f"step {steps.number}, `{naming.shorten(steps.step, 200)}`," if steps.step else "a command"
    reason = naming.shorten(said, 400)
    if code is not None:
        reason = f"{step} ended with exit code {code} after {deadline.elapsed:.1f} s"
    elif steps.step:
        reason = f"{step} failed: {reason}"
    if "buildkit" in said.lower() or ("unknown instruction" in said and _HEREDOC.search(text)):
        reason += "; this needs BuildKit, and itest builds without: `docker build -t NAME` by hand, and use that image"
    elif _NO_TARGET.search(said):
        reason += "; check the name given as target"
    elif _NO_SOURCE.search(said) and "--from=" not in steps.step:
        reason += f"; paths are relative to the context {Path(build.context).absolute()}"
    elif (known := causes.find(f"{said}\n{steps.output}", causes.DOCKER)) is not None:
        reason += f"; {known.cure}"
        return _with_output(
            BuildError(f"could not build the {build}: {reason}", cause=known.name), steps, deadline, code
        )
    return _with_output(BuildError(f"could not build the {build}: {reason}"), steps, deadline, code)


def _with_output(error: BuildError, steps: Steps, deadline: Deadline, code: int | None) -> BuildError:
    error.seconds = deadline.elapsed
    error.step, error.exit_code, error.output = steps.step, code, steps.output
    if steps.step and (steps.output or code is not None):
        lines = textwrap.indent(steps.output or "(none)", "  | ")
        error.add_note(f"output of `{naming.shorten(steps.step, 200)}`:\n{lines}")
    return error


def _tidy(place: Path) -> None:
    """Remove the locks of old: there would be one for each version of each context."""
    for file in place.glob("*.lock"):
        with contextlib.suppress(OSError):
            if file.stat().st_mtime + LOCK_TIME < wall():
                file.unlink()
