# SPDX-License-Identifier: Apache-2.0
"""SQL scripts: run as they are, and when one fails, say which statement it was and on which line.

A script takes one round trip. It is taken apart only where it must be: around `COPY ... FROM stdin` with its rows, as
pg_dump writes it, and after a failure, to find the statement.
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itest import naming
from itest.clock import Deadline

SAVEPOINT = "itest_script"

CANCEL_AGAIN = 0.1
"""Seconds after which an interrupted script that still runs is cancelled again."""

CANCEL_WAIT = 5.0
"""Seconds after which the session of one that goes on all the same is ended, and again those that this may take."""

DUPLICATE = "42710"
"""`duplicate_object`: a role, a type, an extension, ..."""

ROLES = (
    "roles belong to the whole server, where other migrations may have made this one; make it in a script of init=, or in a DO "
    "block that looks into pg_roles first"
)
"""The hint for a role that is there already, of which the server says no more."""


class ScriptError(Exception):
    """A statement failed. `line` is where in the script (0: not known), `statement` its text, `code` the SQLSTATE."""

    def __init__(self, reason: str, line: int = 0, statement: str = "", code: str = "") -> None:
        super().__init__(reason)
        self.line = line
        self.statement = statement
        self.code = code

    def sentence(self, file: Path) -> str:
        """Where it failed, why, and in which statement."""
        place = f"{shown(file)}, line {self.line}" if self.line else shown(file)
        statement = f"; in the statement: {naming.shorten(self.statement, 200)}" if self.statement else ""
        return naming.mask(f"{place}: {self}{statement}")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of a script: its text without comments before it, the line that it begins in, and the rows that
    follow a `COPY ... FROM stdin`."""

    text: str
    line: int
    rows: str | None = None

    @property
    def verb(self) -> str:
        """Its first word in capitals."""
        found = _VERB.match(self.text)
        return found[1].upper() if found else ""


_VERB = re.compile(r"\W*([A-Za-z]+)")
_NOTHING = re.compile(r"\s+|--[^\n]*|/\*")
_TRANSACTION_VERBS = {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT"}
_INLINE = re.compile(r"\bfrom\s+stdin\b|^\\", re.IGNORECASE | re.MULTILINE)
_COPY = re.compile(r"\bfrom\s+stdin\b", re.IGNORECASE)
_PERHAPS_TRANSACTION = re.compile(r"\b(?:begin|start|commit|end|rollback|abort)\b", re.IGNORECASE)
_TO_SAVEPOINT = re.compile(r"rollback\s+(?:work\s+|transaction\s+)?to\b", re.IGNORECASE)
_NO_TRANSACTION = ("25001", "2D000")
"""`active_sql_transaction`: this statement, CREATE INDEX CONCURRENTLY or VACUUM, wants no transaction around it; and
`invalid_transaction_termination`: a procedure or DO commits, which it cannot within one."""


def read(file: Path) -> str:
    """The text of a script. Raises ScriptError for one that is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScriptError(f"it is not UTF-8: {error}") from error


def run_alone(connection: Any, sql: str, server: Any, deadline: Deadline | None = None) -> None:
    """Run a script on a connection of the server in autocommit, in one transaction, and close that. Raises ScriptError; then
    nothing was done.

    A script that controls transactions itself, or holds a statement that must be outside of one, runs statement by
    statement instead, as psql would run it. Ctrl-C cancels the statement that runs, and so does the deadline: then
    TimeoutError is raised.
    """
    driver = server.driver
    raised: list[BaseException] = []
    interrupted = threading.Event()
    ended = threading.Event()  # A thread whose `join` was interrupted looks ended (Python before 3.13).

    def run() -> None:
        try:
            _run_alone(connection, sql, driver, interrupted)
        except BaseException as error:
            raised.append(error)
        finally:
            connection.close()  # On this thread, since it would wait for a statement of another one's.
            ended.set()

    # While psycopg2 waits for the server, which may be for a lock and without end, Python handles no signal on that thread.
    try:
        threading.Thread(target=run, name="itest-script", daemon=True).start()
    except RuntimeError:  # No thread can be had.
        run()
    try:
        if not ended.wait(None if deadline is None else deadline.remaining):
            raise TimeoutError
    except BaseException:
        interrupted.set()
        with contextlib.suppress(driver.Error):  # The server is gone, and so is what it was asked for.
            connection.cancel()
            patience = Deadline.after(CANCEL_WAIT)
            while not ended.wait(CANCEL_AGAIN) and not patience.passed:  # The next statement may wait as well.
                connection.cancel()
        if not ended.is_set():  # It may handle `query_canceled`; the end of its session it cannot.
            with contextlib.suppress(Exception):
                server.end_session(connection.info.backend_pid)
            ended.wait(CANCEL_WAIT)
        raise
    if raised:
        raise raised[0]


def _run_alone(connection: Any, sql: str, driver: Any, interrupted: threading.Event) -> None:
    with connection.cursor() as cursor:
        if _own_transaction(sql):
            _run_each(cursor, sql, driver)
            return
        cursor.execute("BEGIN")
        try:
            _run_whole(cursor, sql, driver, interrupted)
            try:
                cursor.execute("COMMIT")
            except driver.Error as error:  # A deferred constraint: nobody knows which statement violated it.
                raise ScriptError(reason_of(error), code=error.pgcode or "") from error
        except ScriptError as error:
            cursor.execute("ROLLBACK")
            if error.code not in _NO_TRANSACTION:
                raise
        except BaseException:
            with contextlib.suppress(driver.Error):
                cursor.execute("ROLLBACK")
            raise
        else:
            return
        _run_each(cursor, sql, driver)


def run_inside(cursor: Any, sql: str, driver: Any) -> None:
    """Run a script within the open transaction. Raises ScriptError, also for a script that would end the transaction;
    then the transaction is of no more use."""
    if own := _own_transaction(sql):
        reason = f"{own.verb} is not for a script that runs within a transaction, all of it or nothing: leave it out"
        raise ScriptError(reason, own.line, own.text)
    _run_whole(cursor, sql, driver, threading.Event())


def _own_transaction(sql: str) -> Statement | None:
    """The first statement by which a script begins or ends a transaction itself."""
    if not _PERHAPS_TRANSACTION.search(sql):  # Taking a large dump apart takes a while.
        return None
    own = (one for one in split(sql) if one.verb in _TRANSACTION_VERBS and not _TO_SAVEPOINT.match(one.text))
    return next(own, None)


def _run_whole(cursor: Any, sql: str, driver: Any, interrupted: threading.Event) -> None:
    cursor.execute(f"SAVEPOINT {SAVEPOINT}")
    if _INLINE.search(sql):
        _run_each(cursor, sql, driver)
    elif error := _failure(cursor, sql, driver):
        if interrupted.is_set():  # Then it was cancelled, and what has run for long must not run once more.
            raise error
        # The whole script is one query to the server, which names the statement for some errors only: find it.
        cursor.execute(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
        try:
            _run_each(cursor, sql, driver)
        except ScriptError as found:  # Its reason may differ in numbers, because sequences have moved on.
            reason = str(error) if error.code == found.code else str(found)
            raise ScriptError(reason, found.line, found.statement, found.code) from found.__cause__
        raise error
    cursor.execute(f"RELEASE SAVEPOINT {SAVEPOINT}")


def _failure(cursor: Any, sql: str, driver: Any) -> ScriptError | None:
    """Why the script fails as a whole. Returned, since what is raised while it is handled would show it again."""
    try:
        _execute(cursor, Statement(sql, 1), driver)
    except ScriptError as error:
        return error
    return None


def reason_of(error: Any) -> str:
    """What the server said: its message, detail and hint, in one sentence."""
    found = getattr(error, "diag", None)
    if found is None or not found.message_primary:
        return str(error).strip()
    detail = f" ({found.message_detail})" if found.message_detail else ""
    hint = found.message_hint
    if (
        found.sqlstate == DUPLICATE and found.source_function == "CreateRole"
    ):  # The message is in the server's language.
        hint = ROLES
    return f"{found.message_primary}{detail}{f'; hint: {hint}' if hint else ''}"


def shown(file: Path) -> str:
    """A file as a message names it: from the working directory where it lies below, else whole."""
    file = file.resolve()
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)


def _run_each(cursor: Any, sql: str, driver: Any) -> None:
    for statement in split(sql):
        _execute(cursor, statement, driver)


def _execute(cursor: Any, statement: Statement, driver: Any) -> None:
    try:
        if statement.rows is None:
            cursor.execute(statement.text)
        else:
            cursor.copy_expert(statement.text, io.StringIO(statement.rows))
    except driver.Error as error:
        if str(error).startswith("can't execute an empty query"):  # Comments only.
            return
        position = getattr(getattr(error, "diag", None), "statement_position", None)
        line = statement.line + statement.text.count("\n", 0, int(position) - 1) if position else statement.line
        raise ScriptError(reason_of(error), line, statement.text, error.pgcode or "") from error


# Taking a script apart, by the rules of psql (psqlscan.l): strings, quoted names, comments, dollar quotes, parentheses
# and the bodies of functions in SQL may all hold semicolons that end nothing.

_TOKEN = re.compile(
    r"""--[^\n]*
      | (?P<comment>/\*)
      | (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*'
      | '[^']*'
      | "[^"]*"
      | (?<![\w$])(?P<dollar>\$(?:[^\W\d]\w*)?\$)
      | (?P<word>[^\W\d][\w$]*)
      | (?P<mark>[;()])
      | ^(?P<command>\\[^\n]*)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_IGNORED_COMMANDS = ("\\restrict", "\\unrestrict", "\\encoding")
"""Commands to psql that dumps contain and that mean nothing here."""


def split(sql: str) -> list[Statement]:
    """The statements of a script, without those that are empty. Raises ScriptError for a command to psql."""
    statements: list[Statement] = []
    begin = at = parentheses = blocks = counted = 0
    line = 1
    words: list[str] = []
    while found := _TOKEN.search(sql, at):
        at = found.end()
        if found["comment"]:
            at = _end_of_comment(sql, at)
        elif tag := found["dollar"]:
            end = sql.find(tag, at)
            at = len(sql) if end < 0 else end + len(tag)
        elif word := found["word"]:
            blocks = max(0, blocks + _block(words, word.lower(), blocks, parentheses))
            if len(words) < 4:
                words.append(word.lower())
        elif command := found["command"]:
            if not command.startswith(_IGNORED_COMMANDS):
                line += sql.count("\n", counted, found.start())
                raise ScriptError(f"{command.split()[0]} is a command to psql, not SQL", line, command)
            begin = _start(sql, begin)
            if begin == found.start():
                begin = at
            else:  # In the midst of a statement; that copies all of the script.
                sql = f"{sql[: found.start()]}{' ' * len(command)}{sql[at:]}"
        elif (mark := found["mark"]) != ";":
            parentheses = max(0, parentheses + (1 if mark == "(" else -1)) if mark else parentheses
        elif not parentheses and not blocks:
            begin = _start(sql, begin)
            line, counted = line + sql.count("\n", counted, begin), begin
            text, rows = sql[begin:at], None
            if words and words[0] == "copy" and _COPY.search(text):
                rows, at = _rows(sql, at)
            if words:
                statements.append(Statement(text, line, rows))
            begin, words = at, []
    if words:
        begin = _start(sql, begin)
        statements.append(Statement(sql[begin:].rstrip(), line + sql.count("\n", counted, begin)))
    return statements


def _block(words: list[str], word: str, blocks: int, parentheses: int) -> int:
    """Whether this word opens (1) or closes (-1) a block of a function's body in SQL: BEGIN ATOMIC ... END."""
    of_function = words[:1] == ["create"] and {"function", "procedure"} & set(words[1:4])
    if not of_function or parentheses:
        return 0
    return 1 if word == "begin" or (word == "case" and blocks) else -1 if word == "end" else 0


def _end_of_comment(sql: str, at: int) -> int:
    """Comments nest in PostgreSQL."""
    depth = 1
    for found in re.compile(r"/\*|\*/").finditer(sql, at):
        depth += 1 if found[0] == "/*" else -1
        if not depth:
            return found.end()
    return len(sql)


def _rows(sql: str, at: int) -> tuple[str, int]:
    """The rows after a `COPY ... FROM stdin;`, up to a line of `\\.`, and where the script goes on."""
    start = sql.find("\n", at) + 1 or len(sql)
    end = re.compile(r"^\\\.[ \t]*\r?$\n?", re.MULTILINE).search(sql, start)
    return (sql[start:], len(sql)) if end is None else (sql[start : end.start()], end.end())


def _start(sql: str, begin: int) -> int:
    """Where the statement begins, after space and comments."""
    while found := _NOTHING.match(sql, begin):
        begin = _end_of_comment(sql, found.end()) if found[0] == "/*" else found.end()
    return begin


__all__ = ["ScriptError", "Statement", "read", "reason_of", "run_alone", "run_inside", "shown", "split"]
