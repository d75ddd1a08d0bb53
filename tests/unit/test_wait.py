# SPDX-License-Identifier: Apache-2.0
"""Readiness: the checks, how they combine, and the loop that waits for them."""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
import socket
import threading
import unittest
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

from itest import naming, trace, wait, wait_checks, wait_errors
from itest.clock import Deadline
from itest.engines import OUT_OF_REACH, Endpoint, ExecResult, Instance, State
from itest.errors import DeclarationError, ExecTimeout, InstanceDied, ItestError, PortTaken, StartError, StartTimeout
from itest.spec import ContainerSpec, Port
from itest.testing import ManualClock, MemoryEngine, MemoryInstance
from itest.wait import Check, NotReady, answer, until_ready
from itest.wait_function import check_of, has_function


def instance_of(*ports: str) -> MemoryInstance:
    """A running instance in memory, with these ports."""
    engine = MemoryEngine()
    spec = ContainerSpec("memory:1", ports={name: Port(1) for name in ports})
    engine.start(spec, {}, Deadline.after(1), trace.Recorder())
    return engine.instances[0]


def at(endpoint: tuple[str, int]) -> MemoryInstance:
    """An instance whose port `http` is that one."""
    instance = instance_of("http")
    instance._ports["http"] = Endpoint(*endpoint)
    return instance


class Counted(Check):
    """Passes at the poll of that number; until then its reasons count the polls."""

    def __init__(self, passes: int, each: Callable[[int], object] = lambda poll: None) -> None:
        self.passes = passes
        self.polls = 0
        self.each = each

    def __call__(self, instance: object) -> None:
        self.polls += 1
        self.each(self.polls)
        if self.polls < self.passes:
            raise NotReady(f"poll {self.polls}")

    def __str__(self) -> str:
        return f"poll {self.passes}"


class CheckTest(unittest.TestCase):
    def assertNotReady(self, reason: str, check: Check, instance: MemoryInstance) -> None:
        with self.assertRaises(NotReady) as caught:
            check(instance)
        self.assertEqual(str(caught.exception), reason)


class LoopTest(unittest.TestCase):
    def setUp(self) -> None:
        self.clock = ManualClock()
        self.instance = instance_of("memory")

    def wait(self, check: Callable[..., object], seconds: float = 1.0) -> None:
        until_ready(check, self.instance, Deadline.after(seconds, self.clock), subject="Memory (image memory:1)")

    def silent_until_it_ends(self, poll: int) -> wait.Check:
        """A client's answer that never comes; during that poll the instance ends."""
        polls = itertools.count(1)

        def ask(instance: Instance) -> None:
            if next(polls) == poll:
                self.instance.end(exit_code=1)
            raise OSError("not yet")

        return answer("it", ask, (OSError,))

    def test_what_is_ready_at_once_takes_no_time(self) -> None:
        self.wait(Counted(1))
        self.assertEqual(self.clock.slept, [])

    def test_pauses_grow_from_10_to_100_milliseconds(self) -> None:
        self.wait(Counted(31), seconds=10)
        pauses = [round(1000 * pause) for pause in self.clock.slept]
        self.assertEqual((pauses[:4], pauses[10], pauses[-4:]), ([10, 11, 12, 13], 26, [100, 100, 100, 100]))

    def test_what_costs_little_to_ask_is_asked_more_often(self) -> None:
        polls = itertools.count(1)

        def ask(instance: Instance) -> None:
            if next(polls) % 20:
                raise OSError("not yet")

        often, usual = answer("one", ask, (OSError,), 0.015), answer("other", ask, (OSError,))
        self.wait(often)
        self.assertEqual([round(1000 * pause) for pause in self.clock.slept[:6]], [10, 11, 12, 13, 15, 15])
        self.assertEqual(round(1000 * self.clock.slept[-1]), 15)
        for together in (often & usual, often | usual):
            self.assertEqual(together.longest_pause, usual.longest_pause)

    def test_the_last_poll_is_at_the_deadline_and_the_last_reason_is_kept(self) -> None:
        check = Counted(1000)
        with self.assertRaises(StartTimeout) as caught:
            self.wait(check, 0.5)
        self.assertEqual(
            str(caught.exception),
            "Memory (image memory:1) did not become ready within 0.5 s, waiting for poll 1000. "
            f"Last reason: poll {check.polls}. If it only needs longer, raise startup_timeout.",
        )
        self.assertAlmostEqual(self.clock.now, 0.5)
        self.assertAlmostEqual(caught.exception.seconds, 0.5)
        self.assertIsInstance(caught.exception, TimeoutError)
        self.assertEqual(
            caught.exception.__notes__, ["last log lines of container memory-1 (memory:1):\n  | (the log is empty)"]
        )

    def test_what_a_driver_has_said_takes_the_place_of_no_other_advice(self) -> None:
        self.instance.log = "ModuleNotFoundError: No module named 'psycopg'\nserving without it\n"
        with self.assertRaisesRegex(StartTimeout, r"raise startup_timeout\. .* a URL of another driver;") as caught:
            self.wait(Counted(1000), 0.5)
        self.assertEqual(caught.exception.cause, "a URL of another driver")

    def test_death_ends_the_wait_at_once(self) -> None:
        def dies(poll: int) -> None:
            if poll == 3:
                self.instance.log = "out of memory\n"
                self.instance.end(exit_code=137, oom_killed=True)

        check = Counted(1000, dies)
        with self.assertRaises(InstanceDied) as caught:
            self.wait(check, 60)
        self.assertEqual((check.polls, len(self.clock.slept)), (3, 3))
        self.assertEqual(
            str(caught.exception),
            "Memory (image memory:1) ended before it was ready: exited with exit code 137, killed for lack of memory, "
            "0.0 s after its start, while waiting for poll 1000. Likely cause: out of memory; give the container more "
            '(memory="1g"), or Docker itself (Docker Desktop: Settings, Resources), or the server less.',
        )
        self.assertEqual((caught.exception.exit_code, caught.exception.cause), (137, "out of memory"))
        self.assertEqual(
            caught.exception.__notes__, ["last log lines of container memory-1 (memory:1):\n  | out of memory"]
        )

    def test_a_signal_is_told_by_its_name_alone(self) -> None:
        self.instance.current = State(False, "killed by SIGKILL", -9)
        with self.assertRaisesRegex(InstanceDied, "ready: killed by SIGKILL, 0.0 s after its start") as caught:
            self.wait(Counted(1))
        self.assertEqual(caught.exception.exit_code, -9)

    def test_an_instance_whose_state_takes_long_to_ask_for_is_asked_less_often_while_it_does_not_answer(self) -> None:
        self.instance.state_pause = 0.1  # type: ignore[attr-defined]  # what a container has
        with mock.patch.object(self.instance, "state", wraps=self.instance.state) as state:
            with self.assertRaises(InstanceDied):
                self.wait(self.silent_until_it_ends(3), 60)
            self.assertEqual(state.call_count, 2)
        self.assertLess(self.clock.now, 0.12)

    def test_one_that_ended_is_not_ready_by_a_check_that_passes_without_it(self) -> None:
        def dies(poll: int) -> None:
            if poll == 2:
                self.instance.end(exit_code=1)

        self.instance.state_pause = 0.1  # type: ignore[attr-defined]  # what a container has
        with self.assertRaises(InstanceDied):
            self.wait(Counted(3, dies), 60)

    def test_one_that_docker_will_start_again_is_not_ready_and_not_dead(self) -> None:
        self.instance.current = State(True, "restarting", 3, restarts=4)
        check = Counted(1)
        with self.assertRaises(StartTimeout) as caught:
            self.wait(check)
        self.assertEqual(check.polls, 0)
        self.assertEqual(caught.exception.reason, "it has ended with exit code 3, and Docker starts it again")
        self.assertIn("Docker has started it again, as it ended, 4 times: see its last", str(caught.exception))

    def test_one_that_docker_does_not_tell_of_is_waited_for(self) -> None:
        away = State(True, OUT_OF_REACH)

        def unread(poll: int) -> None:
            if poll == 1:
                raise ItestError("could not read its log, Docker does not answer: refused")

        check = Counted(2, unread)
        with mock.patch.object(
            self.instance, "state", side_effect=[State(True), away, away, away, State(True)]
        ) as state:
            self.wait(check)
        self.assertEqual((check.polls, state.call_count), (2, 5))

    def test_what_can_never_be_reached_is_not_waited_for_to_the_end(self) -> None:
        self.instance.cut_off = lambda: True  # type: ignore[attr-defined]  # what a container has
        with self.assertRaises(StartError) as caught:
            self.wait(self.silent_until_it_ends(0), 60)
        self.assertRegex(
            str(caught.exception),
            r"was not reached in 3\.\d s, waiting for it. Last reason: OSError: not yet. This process is in a container .*"
            r"`docker run --network host`",
        )
        self.assertEqual(caught.exception.cause, "published ports out of reach")
        check = Counted(60)  # It looks at no port.
        self.wait(check, 60)
        self.assertEqual(check.polls, 60)

    def test_docker_does_not_answer_until_the_deadline(self) -> None:
        self.instance.current = State(True, OUT_OF_REACH)
        with self.assertRaises(StartTimeout) as caught:
            self.wait(Counted(1))
        self.assertRegex(
            str(caught.exception),
            "did not become ready within 1 s, .* it is out of reach, because Docker does not answer. See whether Docker still runs",
        )

    def test_at_the_deadline_it_is_asked_once_more(self) -> None:
        self.instance.state_pause = 0.1  # type: ignore[attr-defined]  # what a container has
        with self.assertRaises(InstanceDied):
            self.wait(self.silent_until_it_ends(2), 0.05)

    def test_death_by_a_taken_port_is_an_error_of_its_own(self) -> None:
        self.instance.place = Path("/dev/shm/one")  # type: ignore[attr-defined]  # what a process has
        self.instance.log = "bind: Address already in use\n" + "shutting down\n" * 200  # Kafka says that much.
        self.instance.end(exit_code=1)
        with self.assertRaises(PortTaken) as caught:
            self.wait(Counted(1))
        self.assertEqual(
            str(caught.exception),
            "Memory (image memory:1) ended before it was ready: exited with exit code 1, 0.0 s after its start, because "
            "another program has its host port. If this repeats, its command names a port "
            "(write {port}, and itest chooses a free one), or something here opens many at once.",
        )
        self.assertIn("in use\n  | (... and at the end:)\n", caught.exception.__notes__[0])

    def test_a_taken_port_of_a_container_is_not_that_of_its_host(self) -> None:
        self.instance.log = "bind: Address already in use\n"
        self.instance.end(exit_code=1)
        with self.assertRaises(InstanceDied):
            self.wait(Counted(1))

    def test_an_error_that_is_no_NotReady_ends_the_wait_as_it_is(self) -> None:
        error = PermissionError("the password is wrong")
        check = Counted(1000, mock.Mock(side_effect=error))
        with self.assertRaises(PermissionError) as caught:
            self.wait(check)
        self.assertIs(caught.exception, error)
        self.assertEqual(self.clock.slept, [])

    def test_any_callable_can_be_waited_for(self) -> None:
        def not_yet(instance: object) -> None:
            raise NotReady(" two\n lines ")

        with self.assertRaisesRegex(StartTimeout, r"waiting for <function .*not_yet.*>\. Last reason: two lines\. If"):
            self.wait(not_yet)

    def test_a_reason_that_is_a_sentence_ends_once(self) -> None:
        for reason, told in {
            "server closed the connection while processing the request.\n": "Last reason: server closed the connection while "
            "processing the request.",
            "is it up?!": "Last reason: is it up?!",
            "and so on...": "Last reason: and so on...",
            "": "Its check gave no reason.",
        }.items():

            def not_yet(instance: object, reason: str = reason) -> None:
                raise NotReady(reason)

            with self.subTest(reason), self.assertRaises(StartTimeout) as caught:
                self.wait(not_yet)
            self.assertIn(f". {told} If it only needs longer", str(caught.exception))

    def test_neither_reason_nor_log_shows_a_password(self) -> None:
        secret = naming.secret()
        self.instance.log = f"AUTH {secret}\n"

        def not_yet(instance: object) -> None:
            raise NotReady(f"redis://:{secret}@here")

        with self.assertRaises(StartTimeout) as caught:
            self.wait(not_yet)
        text = str(caught.exception) + str(caught.exception.__notes__)
        self.assertNotIn(secret, text)
        self.assertIn("redis://:***@here", text)
        self.assertIn("AUTH ***", text)

    def test_a_log_that_cannot_be_read_does_not_hide_the_error(self) -> None:
        with (
            mock.patch.object(MemoryInstance, "logs", side_effect=OSError("no daemon")),
            self.assertRaises(StartTimeout) as caught,
        ):
            self.wait(Counted(1000))
        self.assertTrue(caught.exception.__notes__[0].endswith("  | (the log could not be read: no daemon)"))

    def test_a_line_without_an_end_is_cut(self) -> None:
        self.instance.log = f"{'x' * 3000}\nshort\n"
        self.instance.end(exit_code=1)
        with self.assertRaises(InstanceDied) as caught:
            self.wait(Counted(1))
        _, line, last = caught.exception.__notes__[0].splitlines()
        self.assertEqual((line, last), (f"  | {'x' * naming.LINE_LIMIT}…", "  | short"))

    def test_the_note_on_a_death_holds_the_last_50_lines(self) -> None:
        self.instance.log = "".join(f"line {number}\n" for number in range(200))
        self.instance.end(exit_code=1)
        with self.assertRaises(InstanceDied) as caught:
            self.wait(Counted(1000))
        lines = caught.exception.__notes__[0].splitlines()[1:]
        self.assertEqual((len(lines), lines[0], lines[-1]), (wait_errors.LOG_TAIL, "  | line 150", "  | line 199"))

    def test_that_on_what_is_late_holds_the_first_lines_too_as_the_last_may_be_those_of_the_polls(self) -> None:
        for number in (50, 200):
            self.instance.log = "".join(f"line {number}\n" for number in range(number))
            with self.assertRaises(StartTimeout) as caught:
                self.wait(Counted(1000))
            head, *lines = caught.exception.__notes__[0].splitlines()
            self.assertTrue(head.startswith("last log lines" if number == 50 else "first and last log lines"), head)
            shown = [*range(number)] if number == 50 else [*range(15), *range(165, 200)]
            expected = [f"  | line {each}" for each in shown]
            expected[15:15] = ["  | ... 150 more lines ..."] * (number == 200)
            self.assertEqual(lines, expected)

    def test_of_a_log_without_an_end_the_last_lines_are_shown(self) -> None:
        self.instance.log = "".join(f"line {number}\n" for number in range(wait_errors.SEARCHED + 1))
        with self.assertRaises(StartTimeout) as caught:
            self.wait(Counted(1000))
        self.assertEqual(len(caught.exception.__notes__[0].splitlines()), 1 + wait_errors.LOG_TAIL)


class CombinedTest(CheckTest):
    def test_and_wants_all_in_order(self) -> None:
        instance = instance_of("memory")
        check = wait.log("one") & wait.log("two") & wait.log("three", times=2)
        self.assertEqual(str(check), "'one' in the log and 'two' in the log and 'three' in the log 2 times")
        instance.log = "one"
        self.assertNotReady("seen 0 of 1 times in the log", check, instance)
        instance.log = "one two three"
        self.assertNotReady("seen 1 of 2 times in the log", check, instance)
        instance.log = "one two three three"
        check(instance)

    def test_or_wants_one_and_has_the_reasons_of_all(self) -> None:
        instance = instance_of("memory")
        check = wait.log("one") | wait.log("two", times=2) | wait.health()
        self.assertEqual(str(check), "'one' in the log or 'two' in the log 2 times or its HEALTHCHECK to say healthy")
        self.assertNotReady(
            "seen 0 of 1 times in the log; seen 0 of 2 times in the log; its health is not reported: it has no HEALTHCHECK",
            check,
            instance,
        )
        instance.log = "two two"
        check(instance)

    def test_they_nest(self) -> None:
        instance = instance_of("memory")
        check = (wait.log("a") | wait.log("b")) & wait.log("c")
        self.assertEqual(str(check), "('a' in the log or 'b' in the log) and 'c' in the log")
        instance.log = "b c"
        check(instance)
        instance.log = "a b"
        self.assertNotReady("seen 0 of 1 times in the log", check, instance)


class SteadyTest(unittest.TestCase):
    def test_each_life_that_docker_gives_it_begins_anew(self) -> None:
        clock = ManualClock()
        self.enterContext(
            mock.patch.object(wait, "Deadline", mock.Mock(after=lambda seconds: Deadline.after(seconds, clock)))
        )
        steady = wait.Steady()
        for restarts in (0, 2):
            with self.assertRaisesRegex(NotReady, "^it has ended, and Docker starts it again$"):
                steady.look(State(True, "restarting", restarts=restarts))
            clock.now += wait.STEADY
            for _ in range(2):
                again = " again, for the 2. time" if restarts else ""
                with self.assertRaisesRegex(NotReady, f"^it has just started{again}$"):
                    steady.look(State(True, restarts=restarts))
                clock.now += wait.STEADY / 2
            steady.look(State(True, restarts=restarts))


class LogTest(CheckTest):
    def test_lines_are_lines(self) -> None:
        instance = instance_of("memory")
        instance.log = "not ready\nready\n"
        wait.log("^ready$")(instance)
        self.assertNotReady("seen 1 of 2 times in the log", wait.log("^ready$", times=2), instance)

    def test_its_text(self) -> None:
        self.assertEqual(str(wait.log("ready")), "'ready' in the log")
        self.assertEqual(str(wait.log("ready", times=2)), "'ready' in the log 2 times")

    def test_what_is_no_pattern(self) -> None:
        takes = "is no regular expression: it takes a text"
        for text, make in {
            f"log: None {takes}": lambda: wait.log(None),  # type: ignore[arg-type]  # wrong on purpose, as below
            f"log: b'up' {takes}": lambda: wait.log(b"up"),  # type: ignore[arg-type]
            f"http: body: b'up' {takes}": lambda: wait.http(body=b"up"),  # type: ignore[arg-type]
            "log: '(' is no regular expression: missing ), unterminated subpattern at position 0; re.escape() makes one of a "
            "plain text": lambda: wait.log("("),
            "log: times='2' is no whole number": lambda: wait.log("up", times="2"),  # type: ignore[arg-type]
        }.items():
            with self.subTest(text), self.assertRaises(DeclarationError) as caught:
                make()
            self.assertEqual(str(caught.exception), text)
        for pattern in (re.compile("up"), "up"):
            self.assertEqual(str(wait.http(body=pattern)), "GET / to answer with 'up' in its body")  # type: ignore[arg-type]


class FunctionTest(unittest.TestCase):
    def test_one_that_does_not_tell_what_it_takes_is_taken(self) -> None:
        class Odd:
            __signature__ = "(view)"

            def __call__(self, view: object) -> bool:
                return True

        for function in (Odd(), iter):
            self.assertTrue(has_function(check_of(function)))


class ExecTest(CheckTest):
    def test_the_command_must_succeed(self) -> None:
        instance = instance_of("memory")
        check = wait.exec("pg_isready", "-d", "my db")
        self.assertEqual(str(check), "`pg_isready -d 'my db'` to succeed")
        self.assertNotReady("`pg_isready -d 'my db'` exited with 127: pg_isready: not found", check, instance)
        instance.answers["pg_isready", "-d", "my db"] = ExecResult(2, "no response\n", "")
        self.assertNotReady("`pg_isready -d 'my db'` exited with 2: no response", check, instance)
        instance.answers["pg_isready", "-d", "my db"] = ExecResult(0, "", "a warning")
        check(instance)

    def test_a_list_and_a_text_for_the_shell(self) -> None:
        instance = instance_of("memory")
        instance.answers["true",] = instance.answers["/bin/sh", "-c", "test -f /x"] = ExecResult(0, "", "")
        for check in (wait.exec("true"), wait.exec(["true"]), wait.exec(("true",)), wait.exec("test -f /x")):
            check(instance)
        self.assertEqual(str(wait.exec(["my prog"])), "`'my prog'` to succeed")

    def test_what_is_no_command(self) -> None:
        for given in ((), ([],), ("sleep", True), (["sleep", None],), (["true"], "x"), (None,)):
            with (
                self.subTest(given),
                self.assertRaisesRegex(
                    DeclarationError, r"^exec: (its command is empty|a word of the command must be a text)"
                ),
            ):
                wait.exec(*given)  # type: ignore[arg-type]  # which is what is wrong with them

    def test_it_has_no_more_time_than_the_wait_has_left(self) -> None:
        instance, clock, given = instance_of("memory"), ManualClock(), []

        def hangs(argv: object, timeout: float) -> ExecResult:
            given.append(timeout)
            clock.now += timeout
            raise ExecTimeout("it had not ended")

        self.enterContext(mock.patch.object(instance, "exec", hangs))
        check = wait.log("never") | wait.exec("sleep", "100")
        for seconds, expected in ((40.0, [30.0, 10.0]), (1.0, [wait_checks.ANSWER_TIMEOUT])):
            given.clear()
            with self.assertRaises(StartTimeout) as caught:
                until_ready(check, instance, Deadline.after(seconds, clock), subject="it")
            self.assertEqual(given, expected)
            self.assertIn(f"; `sleep 100` had not ended after {expected[-1]:g} s", caught.exception.reason)
        self.assertNotReady("`sleep 100` had not ended after 30 s", wait.exec("sleep", "100"), instance)

    def test_it_shows_no_password_in_sql(self) -> None:
        instance = instance_of("memory")
        check = wait.exec("psql", "-c", "ALTER ROLE bob PASSWORD 'b0bPw'")
        shown = f"""`psql -c {shlex.quote("ALTER ROLE bob PASSWORD '***'")}`"""
        self.assertEqual(str(check), f"{shown} to succeed")
        self.assertNotReady(f"{shown} exited with 127: psql: not found", check, instance)
        error = wait_errors.not_ended(("psql", "-c", "ALTER ROLE bob PASSWORD 'b0bPw'"), "here", 1)
        self.assertTrue(str(error).startswith(f"{shown} here had not"), error)


class HealthTest(CheckTest):
    def test_the_image_itself_must_say_healthy(self) -> None:
        instance = instance_of("memory")
        check = wait.health()
        self.assertEqual(str(check), "its HEALTHCHECK to say healthy")
        self.assertNotReady("its health is not reported: it has no HEALTHCHECK", check, instance)
        instance.current = State(running=True, health="starting")
        self.assertNotReady("its health is starting", check, instance)
        instance.current = State(running=True, health="healthy")
        check(instance)


class AnswerTest(CheckTest):
    def test_errors_that_are_expected_mean_not_yet(self) -> None:
        refused = mock.Mock(side_effect=ConnectionRefusedError("nobody listens"))
        check = wait.answer("PING to answer", refused, (OSError,))
        self.assertEqual(str(check), "PING to answer")
        self.assertNotReady("ConnectionRefusedError: nobody listens", check, instance_of("memory"))
        refused.side_effect = ValueError("no URL")
        with self.assertRaisesRegex(ValueError, "no URL"):
            check(instance_of("memory"))
        refused.side_effect = None
        check(instance_of("memory"))


class PortTest(CheckTest):
    def test_something_must_listen(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
            wait.port()(at(address))
            wait.port("http")(at(address))
        with self.assertRaisesRegex(NotReady, rf"^127\.0\.0\.1:{address[1]}: \[Errno \d+\] Connection refused$"):
            wait.port()(at(address))

    def test_what_is_no_port(self) -> None:
        for wrong in (None, True, [80]):
            for check in (wait.port, lambda port: wait.http(port=port)):
                with self.assertRaisesRegex(
                    DeclarationError, "^port: .* is neither the name of a port nor its number$"
                ):
                    check(wrong)  # type: ignore[operator]  # wrong on purpose

    def test_a_port_that_is_not_declared_is_no_matter_of_time(self) -> None:
        with self.assertRaisesRegex(KeyError, "no port 'https'; it has 'http'"):
            wait.port("https")(instance_of("http"))

    def test_its_text(self) -> None:
        self.assertEqual(str(wait.port("http")), "port 'http' to accept connections")
        self.assertEqual(str(wait.port(80)), "port '80' to accept connections")
        self.assertEqual(str(wait.port()), "its port to accept connections")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/broken":
            self.wfile.write(b"nonsense\r\n\r\n")
            return
        if self.path == "/endless":
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
            with contextlib.suppress(OSError):
                while not self.server.ended.wait(0.01):  # type: ignore[attr-defined]  # HttpTest's
                    self.wfile.write(b"event: 1\n")
            return
        status = 404 if self.path.startswith("/h") else int(self.path.strip("/") or 200)
        body = f"status green, token {self.headers['X-Token']}".encode()
        self.send_response(status)
        self.send_header("Location", "http://elsewhere.invalid/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class HttpTest(CheckTest):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        cls.server.ended = threading.Event()  # type: ignore[attr-defined]  # for /endless
        thread = threading.Thread(target=cls.server.serve_forever, args=(0.01,))
        thread.start()
        cls.addClassCleanup(thread.join, 5)
        cls.addClassCleanup(cls.server.ended.set)  # type: ignore[attr-defined]  # as above
        cls.addClassCleanup(cls.server.server_close)
        cls.addClassCleanup(cls.server.shutdown)
        cls.port = cls.server.server_address[1]

    def setUp(self) -> None:
        self.instance = at(("127.0.0.1", self.port))
        self.root = f"http://127.0.0.1:{self.port}"

    def test_any_2xx_or_3xx_will_do(self) -> None:
        for path in ("/", "/204", "/301", "/302", "/308"):
            with self.subTest(path):
                wait.http(path)(self.instance)

    def test_others_are_reasons(self) -> None:
        for path, status in (("/404", 404), ("/500", 500), ("/503", 503)):
            said = "status green, token None"
            self.assertNotReady(f"GET {self.root}{path} answered {status}: {said}", wait.http(path), self.instance)

    def test_what_it_says_is_shown_in_short_and_without_passwords(self) -> None:
        with self.assertRaises(NotReady) as caught:
            token = f"{naming.secret()} {'x' * 3000}"
            wait.http("/503", headers={"X-Token": token})(self.instance)
        self.assertRegex(str(caught.exception), r"/503 answered 503: status green, token \*\*\* x{90,140}…$")

    def test_an_answer_without_a_body_is_its_status(self) -> None:
        self.assertNotReady(f"GET {self.root}/204 answered 204", wait.http("/204", status=200), self.instance)

    def test_a_status_can_be_asked_for(self) -> None:
        wait.http("/404", status=404)(self.instance)
        wait.http("/401", status=range(400, 402))(self.instance)
        wait.http("/302", status=302)(self.instance)
        self.assertNotReady(
            f"GET {self.root}/ answered 200: status green, token None", wait.http(status=204), self.instance
        )
        with self.assertRaisesRegex(
            DeclarationError, r"^http: status='204' is neither a number nor a range: 204, or range"
        ):
            wait.http(status="204")  # type: ignore[arg-type]  # wrong on purpose

    def test_the_body_can_be_asked_for(self) -> None:
        wait.http(body="green|yellow")(self.instance)
        wait.http("/500", status=500, body="green")(self.instance)
        self.assertNotReady(
            f"GET {self.root}/ answered 200 without 'red' in its body", wait.http(body="red"), self.instance
        )

    def test_a_body_that_does_not_end_is_read_for_one_answers_time(self) -> None:
        self.enterContext(mock.patch.object(wait_checks, "ANSWER_TIMEOUT", 1.0))
        deadline = Deadline.after(30)
        wait.http("/endless")(self.instance)
        wait.http("/endless", body="event: 1\nevent: 1\n")(self.instance)
        with self.assertRaisesRegex(NotReady, "answered 200 without 'event: 2' in its body"):
            wait.http("/endless", body="event: 2")(self.instance)
        self.assertFalse(deadline.passed)

    def test_paths(self) -> None:
        quoted = f"GET {self.root}/h%C3%B6sts%20%2F?a=1&b=2 answered 404: status green, token None"
        self.assertNotReady(quoted, wait.http("/hösts %2F?a=1&b=2"), self.instance)
        with self.assertRaisesRegex(DeclarationError, "^http: the path 'health' does not begin with '/'; which port"):
            wait.http("health")
        with self.assertRaisesRegex(DeclarationError, "^http: the path None does not begin with '/'; which port"):
            wait.http(None)  # type: ignore[arg-type]  # wrong on purpose

    def test_headers_are_sent(self) -> None:
        wait.http(headers={"X-Token": "t1"}, body="token t1")(self.instance)
        with self.assertRaisesRegex(DeclarationError, r"^http: headers must be a dict, {'Host': 'shop'}, not a str$"):
            wait.http(headers="a: b")  # type: ignore[arg-type]  # wrong on purpose

    def test_a_proxy_of_the_environment_does_not_stand_in_between(self) -> None:
        with mock.patch.dict("os.environ", {"http_proxy": "http://127.0.0.1:1"}):
            wait.http()(self.instance)

    def test_what_does_not_speak_http_is_a_reason(self) -> None:
        with self.assertRaisesRegex(NotReady, rf"^GET {self.root}/broken: BadStatusLine\(.*nonsense"):
            wait.http("/broken")(self.instance)

    def test_nobody_there_is_a_reason(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with self.assertRaisesRegex(NotReady, rf"^GET http://127.0.0.1:{port}/: .*Connection refused"):
            wait.http()(at(("127.0.0.1", port)))

    def test_why_nobody_is_there_is_the_better_reason(self) -> None:
        self.enterContext(mock.patch.object(MemoryInstance, "silence", lambda _, name: f"{name} listens on 127.0.0.1"))
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        self.assertNotReady("http listens on 127.0.0.1", wait.http(port="http"), at(("127.0.0.1", port)))
        wait.http()(self.instance)

    def test_a_server_that_accepts_and_says_nothing_costs_one_answers_time(self) -> None:
        with (
            mock.patch.object(wait_checks, "ANSWER_TIMEOUT", 0.05),
            socket.create_server(("127.0.0.1", 0)) as server,
            self.assertRaisesRegex(NotReady, "timed out"),
        ):
            wait.http()(at(server.getsockname()))

    def test_its_text(self) -> None:
        self.assertEqual(str(wait.http("/health")), "GET /health to answer")
        self.assertEqual(str(wait.http("/health", port="admin")), "GET /health at port 'admin' to answer")
        self.assertEqual(
            str(wait.http("/health", status=204, body="green")), "GET /health to answer 204 with 'green' in its body"
        )
        self.assertEqual(str(wait.http("/health", status=range(200, 500))), "GET /health to answer 200 to 499")
