# SPDX-License-Identifier: Apache-2.0
"""Where a local Apache Kafka comes from: a Java, and the jars of an installation or of Maven's repository."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from itest import naming, trace, versions
from itest.clock import Deadline
from itest.config import Config
from itest.errors import ConfigError, Unavailable
from itest.lock import locked
from itest.packages import no_program

JAVA = 17
"""The oldest Java that runs a broker of Kafka 4 (https://kafka.apache.org/documentation/#java)."""

OLDEST = (4, 0)
"""The oldest Kafka used from an installation: the first that has no other mode than KRaft."""

RESOLVE_TIMEOUT = 300.0
"""Seconds that Maven may take: 43 MB, downloaded once."""

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>itest</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{version}</version>
    </dependency>
    <!-- A logger that writes to standard error: what the broker says is the evidence when something fails. -->
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


@dataclass(frozen=True, slots=True)
class Jars:
    """An Apache Kafka. `paths` are in a fixed order, because a class-data archive is valid for one class path only."""

    paths: tuple[str, ...]
    version: str
    source: str

    @property
    def path(self) -> str:
        """As a class path."""
        return os.pathsep.join(self.paths)

    def __str__(self) -> str:
        return f"Apache Kafka {self.version} from {self.source}"


def find_java(config: Config) -> str:
    """The `java` program of JAVA_HOME, or the one on PATH. Raises Unavailable, saying what to install."""
    found = []
    if home := config.variable("JAVA_HOME"):
        found.append((str(Path(home, "bin", "java")), "JAVA_HOME"))
    if program := _which("java", config):
        found.append((program, "PATH"))
    wrong = []
    for program, source in found:
        version, problem = _java_version(program)
        if version >= JAVA:
            return program
        wrong.append(f"{source}, where {program} " + (f"does not run: {problem}" if problem else f"is Java {version}"))
    raise no_program(
        f"Java {JAVA} or later, which Apache Kafka needs,",
        wrong or ["JAVA_HOME", "PATH"],
        f"install one (openjdk-{JAVA}-jre-headless) or set JAVA_HOME",
    )


def find_jars(config: Config, version: str) -> Jars:
    """An installed Kafka, or the jars of this version from the cache; resolved into it by Maven the first time.

    Raises ConfigError for a wrong `kafka_home`, Unavailable (saying what to install) where there are no jars. Asked
    for each class of a run, so that the answer, a failure too, is remembered.
    """
    key = (config.kafka_home, config.cache_dir, config.variable("PATH"), version)
    with _lock:
        if key not in _answers:
            try:
                _answers[key] = _find(config, version)
            except Unavailable as error:
                _answers[key] = error
        answer = _answers[key]
    if isinstance(answer, Unavailable):
        raise answer.with_traceback(None)
    return answer


_answers: dict[tuple[object, ...], Jars | Unavailable] = {}
_lock = threading.Lock()


def present(config: Config, version: str) -> Jars | None:
    """A Kafka that is on this machine, looked for without fetching one. Raises ConfigError for a wrong `kafka_home`,
    Unavailable where Java could not read its path."""
    if config.kafka_home:
        if jars := _jars(Path(config.kafka_home, "libs"), "the setting kafka_home"):
            return jars
        raise ConfigError(
            f"the setting kafka_home names {config.kafka_home!r}, which has no libs/kafka_2.13-*.jar of version "
            f"{OLDEST[0]}.{OLDEST[1]} or later"
        )
    for directory in _installations(config):
        if jars := _jars(directory, str(directory)):
            return jars
    return _jars(config.cache_dir / f"kafka-{version}", "Maven")


def find_maven(config: Config) -> str | None:
    """What fetches the jars where there are none."""
    return _which("mvn", config)


def _find(config: Config, version: str) -> Jars:
    if jars := present(config, version):
        return jars
    cached = config.cache_dir / f"kafka-{version}"
    if maven := find_maven(config):
        why = f" with mvn into {config.cache_dir}, once (43 MB)"
        with trace.step("fetch", "kafka", title=f"Apache Kafka {version}", why=why):
            return _resolve(config, version, cached, maven)
    raise no_program(
        "Apache Kafka",
        ["the setting kafka_home", "kafka-server-start.sh on PATH", str(cached), "mvn on PATH to fetch it"],
        "unpack https://kafka.apache.org/downloads and set ITEST_KAFKA_HOME to it, or install Maven",
    )


def _installations(config: Config) -> Iterator[Path]:
    """Directories of jars beside a start script: the archive of kafka.apache.org, and Homebrew's layout."""
    for name in ("kafka-server-start.sh", "kafka-server-start"):
        if program := _which(name, config):
            root = Path(program).resolve().parent.parent
            yield from (root / "libs", root / "libexec" / "libs")


def _jars(directory: Path, source: str) -> Jars | None:
    """The Kafka in a directory of jars, if there is one that can be used. Raises Unavailable for a path that no jars can have."""
    if os.pathsep in str(directory):
        raise Unavailable(
            f"Apache Kafka cannot run from {directory}: to Java a path ends at {os.pathsep!r}; set ITEST_CACHE_DIR, or "
            f"ITEST_KAFKA_HOME, to a directory without one in its path"
        )
    try:
        paths = tuple(sorted(map(str, directory.glob("*.jar"))))
    except PermissionError:
        return None
    for path in paths:
        found = re.fullmatch(r"kafka_2\.\d+-((\d+)\.(\d+)\S*)\.jar", os.path.basename(path))
        if found and (int(found[2]), int(found[3])) >= OLDEST:
            return Jars(paths, found[1], source)
    return None


def _resolve(config: Config, version: str, target: Path, maven: str) -> Jars:
    """Have Maven put the jars into the cache. Under a lock, and renamed into place: never half there."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(f"{target.name}.lock")
        with locked(lock, RESOLVE_TIMEOUT, f"resolving Apache Kafka {version}") as held:
            if jars := _jars(target, "Maven"):
                return jars  # Another process was faster.
            for old in [*target.parent.glob(f".{target.name}-*"), target]:
                shutil.rmtree(old, ignore_errors=True)  # Whoever made it is dead: we have the lock.
            with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as place:
                directory = Path(place, "libs")
                _run_maven(maven, version, Path(place), directory, config, held)
                jars = _jars(directory, "Maven")
                if jars is None:
                    raise Unavailable(f"`mvn` found no Apache Kafka {version}; is there such a version?")
                directory.rename(target)
    except OSError as error:
        raise Unavailable(
            f"Apache Kafka {version} could not be put into the cache directory {target.parent}: "
            f"{error.strerror or error}; set ITEST_CACHE_DIR to a directory that can be written"
        ) from error
    return _jars(target, "Maven") or jars


def _run_maven(maven: str, version: str, place: Path, directory: Path, config: Config, lock: int) -> None:
    pom = place / "pom.xml"
    pom.write_text(POM.format(version=version), encoding="utf-8")
    command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={directory}"]
    deadline = Deadline.after(RESOLVE_TIMEOUT)
    with subprocess.Popen(
        command,
        cwd=place,
        env=config.child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(lock,),  # Should we be killed, it goes on writing: until it ends nobody may clear up after it.
    ) as process:
        try:
            output, _ = process.communicate(timeout=deadline.remaining)
        except BaseException as error:
            process.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Unavailable(f"`mvn` did not fetch Apache Kafka {version} in {deadline.seconds:g} s") from error
            raise
    if process.returncode != 0:
        from itest import causes  # Only errors need it.

        lines = [line for line in output.splitlines() if "ERROR" in line] or output.splitlines() or ["it said nothing"]
        said = " ".join(naming.clean_log(lines[0]).split())
        if len(said) > 400:
            said = f"{said[:100]} … {said[-300:]}"  # Why is said last.
        cure = "unpack https://kafka.apache.org/downloads and set ITEST_KAFKA_HOME to it"
        if causes.is_said(causes.NO_SPACE, output, causes.LOG):
            cure = (
                f"make room, 43 MB in {config.cache_dir} and as much in Maven's own repository (~/.m2), or set "
                f"ITEST_CACHE_DIR to a larger directory"
            )
        raise Unavailable(f"`mvn` could not fetch Apache Kafka {version}: {said}; {cure}")


def _which(name: str, config: Config) -> str | None:
    return shutil.which(name, path=config.variable("PATH") or os.defpath)


@cache
def _java_version(program: str) -> tuple[int, str]:
    """The major version; or 0, and why the program does not run."""
    with contextlib.suppress(OSError):
        # Java's own description of itself; running it takes 50 ms.
        text = Path(os.path.realpath(program)).parent.parent.joinpath("release").read_text(encoding="utf-8")
        if os.access(program, os.X_OK) and (found := re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', text, re.MULTILINE)):
            return int(found[1]), ""
    text, problem = versions.ask(program, "-version")
    found = re.search(r'version "(?:1\.)?(\d+)', text)  # Java 8 says 1.8.
    if problem or not found:
        return 0, problem or f"`-version` printed {naming.shorten(text)!r}"
    return int(found[1]), ""
