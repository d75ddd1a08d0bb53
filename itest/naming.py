# SPDX-License-Identifier: Apache-2.0
"""Names: session ids, labels, database names, fingerprints; and the passwords that no text may show.

The only place that knows length limits and which characters a name may have.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from urllib.parse import quote, unquote, urlsplit

from itest import owners

SESSION = "itest.session"
"""Label: the session (one run) that made the thing."""
SERVICE = "itest.service"
"""Label: the name of the service it runs."""
FINGERPRINT = "itest.fingerprint"
"""Label: the fingerprint of the spec it was made from."""
OWNER = "itest.owner"
"""Label: the process that made it, `pid@host` and more (owners.py); a sweep asks whether that process still lives."""

SHARED = "itest.shared"
"""Label: the directory of a server that several processes use (see sharing.py). Its owner's end is not its end."""

IDENTIFIER_LIMIT = 63
"""Bytes in a PostgreSQL identifier (NAMEDATALEN - 1)."""

MASK = "***"

DISTINCT = 12
"""A secret of this many characters or more is no part of an ordinary word, so it is hidden inside words too."""

_known_secrets: set[str] = set()


def random_hex(size: int) -> str:
    """So many random bytes as hex digits: what secrets.token_hex gives, whose module imports four others for it."""
    return os.urandom(size).hex()


def session_id() -> str:
    """A name for one run, unique among runs: `20-hex-digits`. Random, because two runs must never meet."""
    return random_hex(10)


def owner(pid: int | None = None) -> str:
    """The value of the label OWNER for what this process makes, or for what lives as long as another one."""
    return str(owners.current(pid))


def start_time(pid: int) -> str:
    """When a process started, in ticks of its kernel since that booted; empty where that cannot be known."""
    return owners.start_time(pid)


def import_path() -> list[str]:
    """Where a Python of ours finds the same modules: absolute, because it works elsewhere, and with the place of itest
    itself, which an editable install does not put on the path but into an import hook."""
    return [*map(os.path.abspath, sys.path), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]


def secret() -> str:
    """A random password that `mask` hides from now on. URL-safe, so that it can stand in a URL as it is."""
    return remember_secret(random_hex(16))


def remember_secret(text: str) -> str:
    """Have `mask` hide this text (and its URL-quoted form) wherever it shows up. Returns it unchanged."""
    if len(text) > 1:  # One character is no secret, and every text has it.
        _known_secrets.update({text, quote(text, safe="")})
    return text


def remember_named(variables: Mapping[str, str]) -> None:
    """Have `mask` hide the values of those variables whose names say that they are passwords, but for values that any text
    may have in it: `test`, `postgres`, `5432`."""
    for name, value in variables.items():
        if is_secret_name(name) and (len(value) >= DISTINCT or re.match(_NO_WORD, value)):
            remember_secret(value)


def is_secret_name(name: str) -> bool:
    """Whether a variable of that name probably holds a password."""
    return re.search(_SECRET_NAME, name) is not None


# Texts, here and elsewhere: `re` keeps what it has compiled, and most runs need none of these.
_NO_WORD = r"(?=.*\d)(?=.*[^\W\d]).{6}"
_SECRET_NAME = r"(?i)passw|pwd|secret|token|credential|private|api_?key|(^|_)(auth|key|pass)(_|$)"


def mask(text: str) -> str:
    """The text without any password: those made here, and those in any URL that it quotes."""
    for known in sorted(_known_secrets, key=len, reverse=True):
        if known in text:
            # A short one is hidden as a whole word only: a password "p" must not garble every other word.
            word = re.escape(known)
            text = re.sub(word if len(known) >= DISTINCT else rf"(?<!\w){word}(?!\w)", MASK, text)
    return re.sub(_URL_PASSWORD, rf"\1{MASK}@", text)


_URL_PASSWORD = r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/]+@"


def url_password(url: str) -> str:
    """The password in a URL, remembered as a secret; empty where there is none. Raises ValueError for no URL."""
    quoted = remember_secret(urlsplit(url).password or "")
    return remember_secret(unquote(quoted))


def fingerprint(*parts: object) -> str:
    """16 hex digits that are equal for equal content, in any process and on any machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_plain).encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    """What JSON cannot say by itself: declarations and specs by their fields, the rest by its text."""
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, {field.name: getattr(value, field.name) for field in fields(value)}]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, Iterable):
        return sorted(str(item) for item in value)
    return str(value)


def identifier(*parts: str) -> str:
    """A PostgreSQL name of these parts: lower case, `[a-z0-9_]`, at most 63 bytes, still unique when cut."""
    name = re.sub(r"[^a-z0-9_]+", "_", "_".join(parts).lower())
    if len(name) <= IDENTIFIER_LIMIT:
        return name
    return f"{name[: IDENTIFIER_LIMIT - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def application_name(test: str) -> str:
    """What a connection calls itself, so that a leaked one can be traced to its test: the end of the test's id."""
    return "itest:" + test[-(IDENTIFIER_LIMIT - len("itest:")) :]


UNIQUE_LIMIT = 40
"""Characters in what `unique` returns: fits the columns and names that people usually have."""

_unique: tuple[int, str, Iterator[int]] = (0, "", itertools.count())


def unique(name: str = "") -> str:
    """`name-<run>-<worker>-<number>`, like no other in any process of any run. A long name is cut.

    The run is random per process, so that workers that know nothing of each other cannot meet; the worker is the
    process id, for people who look for who made it.
    """
    global _unique
    if _unique[0] != os.getpid():  # The first call, or a forked child: it must not go on with its parent's numbers.
        _unique = (os.getpid(), random_hex(4), itertools.count(1))
    pid, run, numbers = _unique
    tail = f"{run}-{pid}-{next(numbers)}"
    return f"{name[: UNIQUE_LIMIT - len(tail) - 1]}-{tail}" if name else tail


def shorten(text: str, limit: int = 160) -> str:
    """One line of at most `limit` characters, for use inside a sentence. Without passwords: of one that is cut, `mask` would
    not know the rest."""
    line = " ".join(mask(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


ESCAPES = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]+[0-~])"
"""What a terminal would obey: colours and the like, strings such as a window's title, character sets (ECMA-48, 5.4 and 5.6;
ECMA-35, 13)."""
_CONTROL = r"[\x00-\x08\x0b-\x1f\x7f]"


def clean_log(text: str) -> str:
    """Log text fit for a terminal and for XML: no colours, no control characters, no passwords. Of a line that was written
    over, as by a bar of progress, what was written last."""
    text = re.sub(ESCAPES, "", text)
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return mask(re.sub(_CONTROL, "", text))


LINE_LIMIT = 1000
"""Characters of a line in `log_tail`: what writes no ends of lines writes megabytes."""


def log_tail(text: str, lines: int) -> list[str]:
    """The last lines of a log, clean, and those cut that are longer than LINE_LIMIT."""
    found = clean_log(text).strip().splitlines()[-lines:]
    return [line if len(line) <= LINE_LIMIT else f"{line[:LINE_LIMIT]}…" for line in found]
