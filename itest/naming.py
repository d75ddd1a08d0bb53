# SPDX-License-Identifier: Apache-2.0
"""Names: session ids, labels, database names, fingerprints; and the passwords that no text may show.

The only place that knows length limits and which characters a name may have.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any
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
    return [*map(_absolute, sys.path), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:  # The working directory is gone, and what begins there too.
        return path


class Masked(dict[str, Any]):
    """What may hold passwords at any place: a traceback that shows local variables (`unittest --locals`) shows none of it."""

    def __repr__(self) -> str:
        return f"<{len(self)} entries>"


class MaskedBytes(bytes):
    """The same, written down."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


def secret() -> str:
    """A random password that `mask` hides from now on. URL-safe, so that it can stand in a URL as it is."""
    return remember_secret(random_hex(16))


def remember_secret(text: str) -> str:
    """Have `mask` hide this text wherever it shows up: as it is, as URLs, JSON and Python write it, and each of its lines.
    Not hidden is what any text may have in it: `test`, `postgres`, `5432`. Returns it unchanged."""
    if len(text) >= DISTINCT or re.match(_NO_WORD, text):
        for piece in {text, *(line for line in map(str.strip, text.splitlines()) if len(line) >= DISTINCT)}:
            written = json.dumps(piece), json.dumps(piece, ensure_ascii=False), repr(piece)
            _known_secrets.update({piece, quote(piece, safe=""), *(each[1:-1] for each in written)})
    return text


def remember_named(variables: Mapping[str, str]) -> None:
    """Have `mask` hide the values of those variables whose names say that they are passwords; of a URL only its password."""
    for name, value in variables.items():
        if re.match(_URL, value):
            with contextlib.suppress(ValueError):
                url_password(value)
        elif is_secret_name(name):
            remember_secret(value)


def is_secret_name(name: str) -> bool:
    """Whether a variable of that name probably holds a password."""
    return re.search(_SECRET_NAME, name) is not None and re.search(_NO_SECRET_NAME, name) is None


# Texts, here and elsewhere: `re` keeps what it has compiled, and most runs need none of these.
_NO_WORD = r"(?=.*\d)(?=.*[^\W\d]).{6}"
_SECRET_NAME = (
    r"(?i)passw|passphrase|passcode|(?<!by)(?<!com)pass$|(?<!^)(?<!^old)pwd|secret|token(?!i[sz])|credential|private"
    r"|(api|access)_?key|(master|primary)auth|conninfo|jaas|(^|_)(auth|key|pass|jwt)(_|$)"
)
_NO_SECRET_NAME = (
    r"(?i)_(url|uri|host|sock|path|file|dir|prefix|mode|type|(user)?name|user|algorithm|method|provider|issuer"
    r"|audience)$"
    r"|(?-i:^password_encryption$)"  # PostgreSQL's setting. In capitals it is a variable of anybody's.
)
_URL = r"[\w+.-]+://"


def mask(text: str) -> str:
    """The text without any password: those made here, and those in any URL or SQL that it quotes."""
    for known in sorted(_known_secrets, key=len, reverse=True):
        if known in text:
            # A short one is hidden as a whole word only: the password "user-1" must not garble "user-12".
            word = re.escape(known)
            text = re.sub(word if len(known) >= DISTINCT else rf"(?<!\w){word}(?!\w)", MASK, text)
    if "://" in text:
        text = re.sub(_BEFORE_HOST, _without_password, text)
    if "?" in text:
        text = re.sub(_IN_QUERY, rf"\1{MASK}", text)
    if "assword" in text or "ASSWORD" in text:
        text = re.sub(_IN_SQL, rf"\1'{MASK}'", text)
    return text


# Each begins with characters that its repeated part cannot have, so that the time for a text grows with its length only: a line
# of a log may have megabytes, and while `re` works no other thread does.
_BEFORE_HOST = r"(://)([^\s:/@]*)(:[^\s/]+)?(?=@)"
_IN_QUERY = (
    r"(?i)([?&](?:(?:ssl)?password|passwd|pwd|pass|(?:access_|auth_)?token|api_?key|(?:client_)?secret)=)"
    r"([^?&#\s\"'<>]+)"
)

_IN_SQL = (
    r"(?is)(\bpassword\s+)(?:"
    # Within a literal, doubled once more for each level, and as `repr` writes it.
    r"(?:e|u&)?((?:\\*'){2,}+|\\+')(?:(?!\2)[^\n]|\2\2){0,1000}\2"
    # What follows one that is closed; any other quote is in a password, or of something else.
    r"|(?:e'(?:[^'\\]|\\.|'')*+|(?:u&)?'(?:[^']|'')*+)'(?=[\s;,)\]}\"`]|\Z)"
    r"|(\$\w*\$)[^$]*+\3"
    r"|(?:(?:e|u&)?\\*'|\$\w*\$)[^\n]*+)"
)
"""CREATE ROLE ... PASSWORD '...', which servers log where it fails. One that was cut goes on to the line's end."""

_KEY = r"(?=.*\d).{20}"
"""What stands alone before a host is a user's name, unless it looks like this: https://ghp_16C7e42F292c6912E7710c@github.com."""


def _without_password(found: re.Match[str]) -> str:
    user = MASK if re.match(_KEY, found[2]) else found[2]
    return f"{found[1]}{user}:{MASK}" if found[3] else f"{found[1]}{user}"


def url_password(url: str) -> str:
    """The password in a URL, before its host or in its query, remembered as a secret; empty where there is none. Raises
    ValueError for no URL."""
    asked = re.search(_IN_QUERY, url)
    quoted = urlsplit(url).password or (asked[2] if asked else "")
    for part in quoted.split("@"):  # For libpq the host begins after the first one, and it shows that.
        remember_secret(part)
    return remember_secret(unquote(remember_secret(quoted)))


def hide_named(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables, with MASK for the texts of those whose names say that they are passwords."""
    return {
        name: MASK if value and isinstance(value, str) and is_secret_name(name) else value
        for name, value in variables.items()
    }


def hide_options(words: Iterable[str]) -> tuple[str, ...]:
    """The words of a command, with MASK for what options and variables in it say is a password: `--token X`, `--token=X`,
    `TOKEN=X`."""
    shown: list[str] = []
    expected = False
    for word in words:
        name, equals, value = word.partition("=")
        option = name.startswith("-")
        secret = " " not in name and is_secret_name(name.lstrip("-").replace("-", "_"))
        if expected and not option:
            shown.append(MASK)
        else:
            shown.append(f"{name}={MASK}" if secret and value else word)
        expected = secret and option and not equals
    return tuple(shown)


def show(kind: str, values: Mapping[str, object]) -> str:
    """What an object shows of itself, without passwords: it ends up in tracebacks and in the notes of failures."""
    return mask(f"{kind}({', '.join(f'{name}={value!r}' for name, value in values.items())})")


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; the number for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def exit_text(code: int) -> str:
    """How a child has ended, from its return code."""
    return f"was killed by {signal_name(-code)}" if code < 0 else f"exited with code {code}"


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
    # In bytes, as PostgreSQL counts: it cuts what is longer, and says so to each connection.
    end = test.encode("utf-8", "replace")[-(IDENTIFIER_LIMIT - len("itest:")) :]
    return f"itest:{end.decode('utf-8', 'ignore')}"


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


def shorten(text: str, limit: int = 160, tail: int = 0) -> str:
    """One line of at most `limit` characters, for use inside a sentence; `tail` of them are its end. Without passwords: of one
    that is cut, `mask` would not know the rest."""
    line, tail = " ".join(mask(text).split()), min(tail, limit - 1)
    return line if len(line) <= limit else f"{line[: limit - tail - 1]}…{line[len(line) - tail :]}"


def further_up(base: Path, path: str | Path, fits: Callable[[Path], bool] = Path.is_file) -> str:
    """The hint for a path that leads nowhere from the directory of the test's module: where it does from one above, of at
    most four; else empty."""
    for depth, directory in enumerate(base.resolve().parents[:4], start=1):
        if fits(directory / path):
            return f"; did you mean {'../' * depth}{path}? Paths start at the test's module"
    return ""


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
