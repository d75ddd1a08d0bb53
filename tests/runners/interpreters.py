# SPDX-License-Identifier: Apache-2.0
"""Other Pythons: where they are, and for each a virtual environment with what itest and its services need.

The environments are made at the first use and kept in build/test-venvs (or ITEST_TEST_VENVS) until the requirements in
pyproject.toml change. They do not contain itest itself: a suite gets this tree's by PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
import unittest
from pathlib import Path

from itest.lock import locked

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("postgres", "redis", "kafka", "embedded", "asyncpg")

INSTALL_TIMEOUT = 300.0
"""Seconds that making one environment may take; it takes 10 when pip has the wheels in its cache."""


def interpreter(version: str) -> str:
    """A Python of this version that can run the samples. Raises SkipTest where there is no such Python."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
        return sys.executable
    base = _find(version)
    place = Path(os.environ.get("ITEST_TEST_VENVS") or ROOT / "build" / "test-venvs") / version
    place.parent.mkdir(parents=True, exist_ok=True)
    python, stamp = place / "bin" / "python", place / "requirements"
    wanted = _requirements()
    identity = hashlib.sha256("\n".join([base, *wanted]).encode()).hexdigest()
    with locked(place.with_name(f"{version}.lock"), INSTALL_TIMEOUT, f"making {place}"):
        if not (stamp.is_file() and stamp.read_text() == identity and python.exists()):
            shutil.rmtree(place, ignore_errors=True)
            _call(base, "-m", "venv", str(place))
            _call(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted)
            stamp.write_text(identity)
    return str(python)


def _find(version: str) -> str:
    """ITEST_TEST_PYTHONS (paths, separated as in PATH) first, then PATH, then pyenv's versions."""
    candidates = os.environ.get("ITEST_TEST_PYTHONS", "").split(os.pathsep)
    candidates.append(shutil.which(f"python{version}") or "")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    candidates += [str(path) for path in sorted(pyenv.glob(f"{version}*/bin/python"), reverse=True)]
    for path in filter(None, candidates):
        if _version_of(path) == version:
            return path
    raise unittest.SkipTest(f"there is no Python {version} here: name one in ITEST_TEST_PYTHONS")


def _version_of(path: str) -> str:
    """Empty for what does not run: pyenv's shims exist for versions that are not selected."""
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([path, "-I", "-c", code], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
