# SPDX-License-Identifier: Apache-2.0
"""Settings: one frozen `Config`, from `[tool.itest]`, `[itest]` in setup.cfg and `ITEST_*`. The only environment
reader.

The environment wins over setup.cfg, setup.cfg over pyproject.toml. Files are looked for in the working directory and
the directories above it, up to the first that has one.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import MISSING, dataclass, field, fields
from os.path import isfile
from pathlib import Path
from typing import Any, TypeAlias

from itest import naming
from itest.clock import LONGEST
from itest.errors import ConfigError, no_url

PREFIX = "ITEST_"


# What `dataclass` would write is compiled at each start, in 2 ms. Nobody compares settings or shows them: URLs are among them.
@dataclass(init=False, repr=False, eq=False, match_args=False)
class Config:
    """The settings of a session. Each is `ITEST_<NAME>` in the environment and `<name>` in a file."""

    engine: str = "auto"
    """`auto` (docker when one answers, else process), `docker` or `process`."""

    require: str = ""
    """`1`: a service that cannot run here is an error, not a skip; `docker` or `process`: and it must be that engine.
    `0` skips again. Default: `1` where the variable CI is set, else `0`."""

    startup_timeout: float = 60.0
    """Seconds in which a service must be ready, its image's pull not counted. A declaration's own wins."""

    pull_timeout: float = 600.0
    """Seconds that pulling one image may take."""

    build_timeout: float = 1200.0
    """Seconds that building one image may take."""

    mirror: str = ""
    """Where Docker Hub's images are pulled from instead, `registry.example.com/dockerhub`; other registries' are not."""

    parallel_start: bool = True
    """Start all services of the selected tests at once before the first test, where plain unittest runs them."""

    timing: bool = False
    """Print at the end of the run where its time went."""

    report: str = ""
    """A file for a page (HTML) that shows the run: its timeline, services, tests, failures and logs."""

    logging: bool = False
    """Pass the lines of the servers' logs on to Python's `logging`, as `itest.postgres`, `itest.redis` and so on."""

    quiet: bool = False
    """Do not announce which server runs where, nor what takes long."""

    artifacts: str = ""
    """Directory for all that failing tests' services logged meanwhile, and their states, which the notes show in part."""

    keep: str = ""
    """`failed`: what failed tests leave in their services stays after the run, to be looked at."""

    keep_time: float = 3600.0
    """Seconds that it stays."""

    strict: bool = False
    """What a test leaves behind (sessions, clients, consumers, threads) fails it."""

    cache_dir: Path = field(default_factory=lambda: _default_cache())
    """Where files are kept between runs. Default: `$XDG_CACHE_HOME/itest`, or what the platform has for that."""

    warm: bool = True
    """Begin with the state that an earlier run kept of a server, and keep it for later ones."""

    warm_size: int = 2048
    """Megabytes that kept states may take, images included; those not used for longest go first."""

    reuse: bool = False
    """Leave the servers running at the end of the run; the next one uses them."""

    reuse_time: float = 3600.0
    """Seconds that such a server stays after its last use."""

    postgres_url: str = ""
    """An external PostgreSQL server, `postgresql://user:password@host:port/database`."""

    redis_url: str = ""
    """An external Redis server, `redis://:password@host:port`."""

    kafka_bootstrap_servers: str = ""
    """An external Kafka cluster, `host:port,...`."""

    postgres_bin: str = ""
    """Directory with `postgres` and `initdb`, for the process engine."""

    redis_bin: str = ""
    """A `redis-server` or `valkey-server` program, for the process engine."""

    kafka_home: str = ""
    """An unpacked Apache Kafka (its `libs` directory is used), for the process engine."""

    compose: str = ""
    """A `docker-compose` program, or a `docker` that has the plugin. Default: the one that `docker compose` runs."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """The environment as it was when the settings were read; see `variable`."""

    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each setting stands that was read, in words; see `source`."""

    def __init__(self, **values: Any) -> None:
        if unknown := values.keys() - self.__annotations__.keys():
            raise TypeError(f"no setting is called {', '.join(sorted(unknown))}")
        for item in fields(self):
            if item.default_factory is not MISSING:
                values.setdefault(item.name, item.default_factory())
        vars(self).update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"settings are frozen, {name} too")

    def variable(self, name: str) -> str:
        """An environment variable by name; empty when it is not set."""
        return self.environment.get(name, "")

    def source(self, name: str) -> str:
        """Where a setting stands, as an error names it: its variable, or `redis_url in [tool.itest] in pyproject.toml`."""
        variable = f"{PREFIX}{name.upper()}"
        source = self.sources.get(name, variable)
        return variable if variable in source else f"{name} in {source}"

    @property
    def ci(self) -> bool:
        """Whether nobody looks on, as far as the variable CI says."""
        return _is_ci(self.environment)

    @property
    def required(self) -> bool:
        """Whether a service that cannot run here is an error instead of a skip."""
        return self.require not in ("", "0")

    def child_environment(self, **extra: str) -> Environment:
        """The environment for a helper process that must find what this one finds."""
        return Environment({**self.environment, **extra})


def live_environment() -> MutableMapping[str, str]:
    """The environment of this process itself: what a program that it starts inherits, and an app on a thread reads."""
    return os.environ


class Environment(dict[str, str]):
    """The environment of a process. A traceback that shows local variables (`unittest --locals`) shows only how many it has:
    CI's secrets are among them."""

    def __repr__(self) -> str:
        return f"<{len(self)} variables>"


def load(environment: Mapping[str, str] | None = None, directory: Path | None = None, *, files: bool = True) -> Config:
    """Read the settings. Raises ConfigError that names the setting, where it stands and what it could be.

    Without `files` those of the environment alone: a helper of a run has the run's there, and works in a directory of
    nobody's project.
    """
    environment = Environment(os.environ if environment is None else environment)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if _is_ci(environment):
        values["require"] = "1"
    here = directory or _here()
    for name, value, source, place in [*(_from_files(here) if files else ()), *_from_environment(environment, here)]:
        if str(value).strip():  # CI writes an empty text for a variable that is not set.
            values[name] = _convert(name, value, source, place)
            sources[name] = source
    return Config(environment=environment, sources=sources, **values)


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError(f"the settings cannot be looked for: the working directory is gone ({error})") from None


def _is_ci(environment: Mapping[str, str]) -> bool:
    return environment.get("CI", "").lower() not in ("", "0", "false")


_SETTINGS = {name: kind for name, kind in Config.__annotations__.items() if name not in ("environment", "sources")}
"""Their names, and the types of their values as they are written above."""

_PATHS = ("report", "artifacts", "postgres_bin", "kafka_home")
_PROGRAMS = ("redis_bin", "compose")
"""Paths too, or names to be looked for on PATH."""

_CHOICES = {
    "engine": ("auto", "docker", "process"),
    "require": ("0", "1", "docker", "process"),
    "keep": ("0", "failed"),
}


_Found: TypeAlias = tuple[str, object, str, Path]
"""A setting's name, its value, where that stands in words, and the directory where a relative path begins."""


def _from_files(directory: Path) -> list[_Found]:
    """Settings in pyproject.toml and setup.cfg of the nearest directory that has one; an unknown name is an error."""
    for place in (directory, *directory.parents):
        toml, cfg = place / "pyproject.toml", place / "setup.cfg"
        if isfile(toml) or isfile(cfg):  # Path.is_file raises where a directory may not be entered.
            break
    else:
        return []
    found = [*_from_toml(toml), *_from_cfg(cfg)]
    for name, _, source, _ in found:
        if name not in _SETTINGS:
            raise ConfigError(f"unknown setting {name!r} in {source}{_hint(name)}")
    return found


def _from_toml(file: Path) -> list[_Found]:
    if not _may_hold(file, b"tool.itest", b"tool:itest", b"\n[itest", b"\n[tool]", b"\ntool="):
        return []
    import tomllib

    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the settings in {file} cannot be read: {error}") from None
    tool = tables.get("tool")
    tool = tool if isinstance(tool, dict) else {}
    _refuse([*tables, *(f"tool.{name}" for name in tool)], "tool.itest", file)
    table = tool.get("itest", {})
    if not isinstance(table, dict):
        raise ConfigError(f"the settings in {file} cannot be read: [tool.itest] must be a table")
    return [(name, value, f"[tool.itest] in {file}", file.parent) for name, value in table.items()]


def _from_cfg(file: Path) -> list[_Found]:
    if not _may_hold(file, b"[itest", b"[tool.itest", b"[tool:itest"):
        return []
    import configparser

    # Without a section of defaults: what stands in [DEFAULT] is not for itest.
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read(file, encoding="utf-8")
    except configparser.ParsingError as error:  # It quotes the lines, and passwords stand in some.
        if isinstance(error, configparser.MissingSectionHeaderError):
            lines = [error.lineno]
        else:
            lines = [number for number, _ in error.errors]
        raise ConfigError(
            f"the settings in {file} cannot be read: line {', '.join(map(str, lines))} is neither a [section] nor "
            f"`name = value` in one"
        ) from None
    except (configparser.DuplicateSectionError, configparser.DuplicateOptionError) as error:
        what = f"{error.option} in " if isinstance(error, configparser.DuplicateOptionError) else ""
        raise ConfigError(
            f"the settings in {file} cannot be read: line {error.lineno} has {what}[{error.section}] a second time"
        ) from None
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ConfigError(f"the settings in {file} cannot be read: {error}") from None
    _refuse(parser.sections(), "itest", file)
    if not parser.has_section("itest"):
        return []
    return [(name, value, f"[itest] in {file}", file.parent) for name, value in parser.items("itest")]


def _refuse(sections: Iterable[str], right: str, file: Path) -> None:
    """Sections with the names that they have in other files, or in capitals, would be passed over in silence."""
    for name in sections:
        if name != right and name.lower() in ("itest", "tool.itest", "tool:itest"):
            raise ConfigError(f"the settings in {file} stand in [{name}]; there they must stand in [{right}]")


def _may_hold(file: Path, *marks: bytes) -> bool:
    """Whether a file may have settings of ours: one of the marks stands in it, spaces and quotes left out, in whatever case. Most
    have none, only a dependency on itest, and importing the parsers and reading a file with them takes 6 ms."""
    try:
        text = b"\n" + file.read_bytes().translate(None, b" \t\"'").lower()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"the settings in {file} cannot be read: {error}") from error
    return any(mark in text for mark in marks)


def _from_environment(environment: Mapping[str, str], here: Path) -> list[_Found]:
    """`ITEST_*` settings. A name that is almost one is an error: a setting that is silently ignored costs hours."""
    found: list[_Found] = []
    for variable, value in environment.items():
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX):
            continue
        if name in _SETTINGS:
            found.append((name, value, f"the variable {variable}", here))
        elif _near(name, 0.85):  # With less, a user's own ITEST_EXPORT would be `report`.
            raise ConfigError(f"unknown setting in the variable {variable}{_hint(name, PREFIX)}")
    return found


def _hint(name: str, prefix: str = "") -> str:
    near = _near(name)
    spell = str.upper if prefix else str
    if near:
        return f"; did you mean {prefix}{spell(near[0])}?"
    return f"; the settings are {', '.join(sorted(_SETTINGS))}"


def _near(name: str, cutoff: float = 0.6) -> list[str]:
    from difflib import get_close_matches

    swapped = [each for each in _SETTINGS if each[0] == name[:1] and sorted(each) == sorted(name)]
    return swapped or get_close_matches(name, _SETTINGS, n=1, cutoff=cutoff)


def _convert(name: str, value: object, source: str, place: Path) -> object:
    """The value as the setting's type, from one that is not empty. Raises ConfigError."""
    kind = _SETTINGS[name]
    if kind in ("str", "Path") and not isinstance(value, (str, int) if name in ("require", "keep") else str):
        raise ConfigError(f"{name} in {source} must be a text, not {type(value).__name__}")
    try:
        if kind == "bool":
            return _boolean(value)
        if kind == "float":
            return _seconds(value)
        if kind == "int":
            return _megabytes(value)
        if kind == "Path":
            return place / Path(str(value).strip()).expanduser()
    except (ValueError, RuntimeError) as error:  # The latter for ~nobody/cache, where there is no such user.
        raise ConfigError(f"{name} = {value!r} in {source}: {error}") from error
    text = str(int(value)) if isinstance(value, int) else str(value).strip()
    if name in _PATHS or (name in _PROGRAMS and os.path.dirname(text)):
        return str(place / os.path.expanduser(text))
    if name.endswith("_url"):
        try:
            naming.url_password(text)
        except ValueError:
            raise no_url(f"{name} in {source}") from None
    if name == "mirror":
        text = text.rstrip("/")
        if "://" in text or "@" in text or " " in text:
            raise ConfigError(
                f"mirror in {source} must be the beginning of an image's name, registry.example.com/dockerhub, without "
                f"scheme and password; a login is taken from where `docker login` keeps it, or DOCKER_AUTH_CONFIG"
            )
    if name == "require":
        text = {"true": "1", "yes": "1", "on": "1", "false": "0", "no": "0", "off": "0"}.get(text.lower(), text)
    if name == "keep" and text.lower() in ("0", "false", "no", "off"):
        return ""
    if name in _CHOICES and text not in _CHOICES[name]:
        raise ConfigError(f"{name} = {text!r} in {source}: it must be one of {', '.join(_CHOICES[name])}")
    return text


def _boolean(value: object) -> bool:
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise ValueError("it must be true or false")


def _seconds(value: object) -> float:
    """A length that a wait can end after."""
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(str(value))) <= LONGEST:
            return seconds
    raise ValueError(f"it must be a number of seconds above 0, at most {LONGEST:.0f}")


def _megabytes(value: object) -> int:
    with contextlib.suppress(ValueError):
        if not isinstance(value, bool) and (number := int(str(value))) >= 0:
            return number
    raise ValueError("it must be a whole number, 0 or more")


def _cache_without_home() -> Path:
    """One under the temporary directory, where anybody can make it beforehand and put there what later runs begin with."""
    import stat
    import tempfile

    place = Path(tempfile.gettempdir()) / f"itest-cache-{os.getuid()}"
    with contextlib.suppress(OSError):  # Who cannot make it is told by whoever needs it.
        place.mkdir(0o700)  # Now: after a look, somebody else could still make it.
    with contextlib.suppress(FileNotFoundError):
        status = place.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise ConfigError(
                f"the cache directory {place} is not this user's alone, and there is no home directory to take instead: remove "
                f"it, or set ITEST_CACHE_DIR to another one"
            )
    return place


def _default_cache() -> Path:
    """The user's cache directory by the platform's rules; one under the temporary directory where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # Another one is invalid, says the XDG Base Directory Specification, and does not count.
        return Path(base) / "itest"
    try:
        home = Path.home()
    except RuntimeError:
        return _cache_without_home()
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "itest"
