# SPDX-License-Identifier: Apache-2.0
"""Notes on failing tests: when, what of, how long, and that nothing about them can do harm."""

from __future__ import annotations

import itertools
import pickle
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from itest import ContainerTestCase, diagnose, examine, naming, notes
from itest.diagnose import HEAD
from itest.engines import REMOVED, State
from itest.errors import ResetError, ServerDied, StartError
from itest.evidence import Evidence
from itest.examine import Finding, Subject
from itest.service import ServiceMixin
from itest.testing import MemoryEngine, MemoryInstance, MemoryLease, MemoryServer
from tests.unit.inner import InnerTest, MemoryMixin, run


def note_of(text: str) -> list[str]:
    """The lines of the note in a traceback's text; empty without one."""
    _, head, rest = text.partition(f"\n{HEAD}")
    return (HEAD + rest).rstrip().split("\n") if head else []


class WhenTest(InnerTest):
    def one(self, body: Callable[[Any], object], **attributes: Any) -> unittest.TestResult:
        """Run a test with this body."""
        self.use(MemoryEngine())  # Each run closes its session.
        cls = type("Inner", (MemoryMixin, ContainerTestCase), {"test": body, "__module__": __name__, **attributes})
        return run(cls)

    def notes(self, result: unittest.TestResult) -> list[list[str]]:
        return [note_of(text) for _, text in [*result.failures, *result.errors]]

    def test_a_failure_and_an_error(self) -> None:
        for body in (lambda test: test.fail("x"), lambda test: 1 / 0):
            [note] = self.notes(self.one(body))
            self.assertEqual(
                note,
                [
                    "itest: the services when this test failed",
                    "memory: Memory 1, container memory-1 (memory:1); no data; nothing logged",
                ],
            )

    def test_before_tearDown(self) -> None:
        def body(test: Any) -> None:
            test.data["order"] = "book"
            test.fail("x")

        [note] = self.notes(self.one(body, tearDown=lambda test: test.data.clear()))
        self.assertIn("  order: book", note)

    def test_what_goes_wrong_in_setUp_tearDown_and_cleanups(self) -> None:
        def broken(test: object) -> None:
            raise RuntimeError("on purpose")

        for name in ("setUp", "tearDown"):
            with self.subTest(name):
                [note] = self.notes(self.one(lambda test: None, **{name: broken}))
                self.assertTrue(note)
        [note] = self.notes(self.one(lambda test: test.addCleanup(broken, test)))
        self.assertTrue(note)

    def test_each_subtest_up_to_a_number(self) -> None:
        def body(test: Any) -> None:
            for number in range(5):
                with test.subTest(number=number):
                    test.assertEqual(number, 1)

        found = self.notes(self.one(body))
        self.assertEqual([len(note) for note in found], [2, 2, 2, 1])
        self.assertIn("with its first 3 failures only", found[3][0])

    def test_a_log_without_times_is_that_of_the_test_and_of_its_subtest(self) -> None:
        ticks, marks = itertools.count(), [(-1, 0)]

        def mark(instance: MemoryInstance) -> None:
            marks.append((next(ticks), len(instance.log)))

        def logs(instance: MemoryInstance, tail: int, since: float) -> str:
            return instance.log[max(size for moment, size in marks if moment <= since) :]

        def begin(test: Any) -> None:
            self.engine.instances[0].log += "of the reset\n"

        def body(test: Any) -> None:
            for name in ("one", "two"):
                with test.subTest(name):
                    test.memory.server.instance.log += f"{name}\n"
                    test.fail("x")

        self.enterContext(mock.patch.object(MemoryInstance, "mark", mark, create=True))
        self.enterContext(mock.patch.object(MemoryInstance, "logs", logs))
        self.enterContext(mock.patch.object(diagnose, "wall", lambda: next(ticks)))
        reset = MemoryLease.reset
        self.enterContext(
            mock.patch.object(MemoryLease, "reset", lambda lease, test: begin(test) or reset(lease, test))
        )
        found = self.notes(self.one(body))
        self.assertEqual([note[3:] for note in found], [["  | one"], ["  | two"]])

    def test_not_on_skips_and_expected_failures_and_passes(self) -> None:
        with mock.patch.object(MemoryLease, "evidence", side_effect=AssertionError("it was asked")) as asked:
            self.check(self.one(lambda test: test.skipTest("x")), ran=1, skipped=1)
            result = self.one(unittest.expectedFailure(lambda test: test.fail("x")))
            self.assertEqual(len(result.expectedFailures), 1)
            self.assertNotIn(HEAD, result.expectedFailures[0][1])
            self.check(self.one(lambda test: None), ran=1)
        asked.assert_not_called()

    def test_by_debug_too(self) -> None:
        class Inner(MemoryMixin, ContainerTestCase):
            def test(self) -> None:
                self.fail("x")

        with self.assertRaises(AssertionError) as caught:
            Inner("test").debug()
        self.assertIn(HEAD, caught.exception.__notes__[0])
        Inner.doClassCleanups()

    def test_a_class_whose_data_cannot_be_written(self) -> None:
        class Inner(MemoryMixin, ContainerTestCase):
            @classmethod
            def setUpTestData(cls) -> None:
                raise RuntimeError("on purpose")

            def test(self) -> None:
                """Never run."""

        self.assertTrue(self.notes(run(Inner))[0])

    def test_a_test_case_without_services_has_no_note(self) -> None:
        class Inner(ContainerTestCase):
            def test(self) -> None:
                self.fail("x")

        self.assertEqual(self.notes(run(Inner)), [[]])

    def test_a_service_that_has_not_started_has_no_note(self) -> None:
        def refuse(instance: MemoryInstance) -> None:
            raise StartError("no such image")

        self.use(MemoryEngine(refuse))

        class T(ContainerTestCase):
            memory = self.service(scope="test")

            def test(self) -> None:
                raise AssertionError("never reached")

        [(_, text)] = run(T).errors
        self.assertIn("no such image", text)
        self.assertNotIn(HEAD, text)

    def test_tests_that_raise_the_same_exception(self) -> None:
        error = ValueError("x")

        def fails(test: Any) -> None:
            test.data["from"] = test.id().rpartition(".")[2]
            raise error

        def fails_twice(test: Any) -> None:
            test.addCleanup(fails, test)
            fails(test)

        found = self.notes(self.one(fails, test_a=fails, test_b=fails_twice))
        self.assertEqual(
            [note[2:] for note in found], [[f"  from: {name}"] for name in ("test", "test_a", *["test_b"] * 2)]
        )

    def test_the_note_survives_being_pickled(self) -> None:
        error = AssertionError("x")
        error.add_note("a note")
        self.assertEqual(pickle.loads(pickle.dumps(error)).__notes__, ["a note"])

    def test_results_see_nothing_of_it(self) -> None:
        """What a runner asks a result for, and sets on it, reaches that one; it may know no subTests."""

        class Result(unittest.TestResult):
            colour = ""

        result = Result()
        watched = diagnose.Watched(result, lambda error: None)
        watched.colour = "red"
        self.assertEqual(result.colour, "red")
        self.assertTrue(hasattr(watched, "addSubTest"))
        self.assertFalse(hasattr(diagnose.Watched(object(), lambda error: None), "addSubTest"))

    def test_a_failure_as_twisted_tells_of_it(self) -> None:
        error, found, result = ValueError("x"), [], mock.Mock()
        watched = diagnose.Watched(result, found.append)
        for add in (watched.addError, watched.addFailure):
            for failure in (mock.Mock(value=error), (ValueError, error, None)):
                add(self, failure)
                self.assertEqual(found.pop(), error)
        self.assertEqual(result.addFailure.call_count, 2)


class HarmlessTest(InnerTest):
    def fails(self, evidence: Callable[..., object]) -> tuple[str, float]:
        """The text of a test that fails while its service's evidence is this, and how long it took."""

        class Inner(MemoryMixin, ContainerTestCase):
            def test(self) -> None:
                self.fail("the test's own error")

        with mock.patch.object(MemoryLease, "evidence", evidence):
            started = time.monotonic()
            result = run(Inner)
            took = time.monotonic() - started
        [(_, text)] = result.failures
        self.assertIn("AssertionError: the test's own error\n", text)
        return text, took

    def test_what_raises_is_one_line(self) -> None:
        def broken(lease: object, since: float) -> Evidence:
            raise RuntimeError("broken\nin two lines")

        text, _ = self.fails(broken)
        self.assertIn("\n  being asked for its state failed: broken in two lines\n", text)

    def test_what_hangs_is_left_behind(self) -> None:
        release = threading.Event()
        self.addCleanup(release.set)

        def hanging(lease: object, since: float) -> Evidence:
            release.wait(20)
            return Evidence()

        with mock.patch.object(examine, "SECONDS", 0.05), mock.patch.object(examine.examine, "__defaults__", (0.05,)):
            text, took = self.fails(hanging)
        self.assertIn("\n  it did not answer within 0.05 s, while being asked for its state\n", text)
        self.assertLess(took, 2)

    def test_a_bug_in_the_note_itself(self) -> None:
        with mock.patch.object(notes, "text", side_effect=KeyError("a bug")):
            text, _ = self.fails(lambda lease, since: Evidence())
        self.assertIn("they could not be looked at, KeyError('a bug')", text)

    def test_an_exception_that_takes_no_notes(self) -> None:
        class Proud(Exception):
            def add_note(self, note: str) -> None:
                raise TypeError("I take no notes")

        class Inner(MemoryMixin, ContainerTestCase):
            def test(self) -> None:
                raise Proud("own error")

        self.assertIn("own error", self.last_line(run(Inner)))

    def test_what_looks_cannot_be_imported(self) -> None:
        """As where the test has used up the process's file descriptors."""
        with mock.patch.dict(sys.modules, {"itest.notes": None, "itest.examine": None}):
            text, _ = self.fails(lambda lease, since: Evidence())
        self.assertRegex(text, r"could not be looked at, ModuleNotFoundError\(.import of itest\.")

    def test_an_exception_with_odd_notes(self) -> None:
        for odd in ([1], [None, "theirs"], None, (), 7):
            with self.subTest(notes=odd):

                def fails(test: object, odd: Any = odd) -> None:
                    error = ValueError("own error")
                    error.__notes__ = odd  # Which nothing forbids.
                    raise error

                self.use(MemoryEngine())  # Each run closes its session.
                result = run(type("Inner", (MemoryMixin, ContainerTestCase), {"test_1": fails, "test_2": fails}))
                self.check(result, ran=2, errors=2)
                for _, text in result.errors:
                    self.assertIn("ValueError: own error\n", text)
                    self.assertEqual(text.count(HEAD), int(isinstance(odd, list)))


class ShownTest(unittest.TestCase):
    """The text itself."""

    def finding(self, name: str = "memory", log: int = 0, lines: int = 0, **fields: Any) -> Finding:
        instance = mock.Mock(spec=MemoryInstance, __str__=lambda self: "container 1 (image:1)")
        server = mock.Mock(
            version="Memory 1", instance=instance, routine="", after_its_end="the next class gets a new one"
        )
        return Finding(
            Subject(name, server, mock.Mock()),
            evidence=Evidence(lines=[f"state {number}" for number in range(lines)]),
            log=[f"line {number}" for number in range(log)],
            **fields,
        )

    def test_never_longer_than_a_screen(self) -> None:
        for services in (1, 2, 3, 5, 12, 60):
            for size in (0, 1, 7, 1000):
                findings = [self.finding(str(number), size, size) for number in range(services)]
                lines = notes.text(findings, Path("somewhere")).split("\n")
                self.assertLessEqual(len(lines), notes.MOST_LINES, (services, size))
                self.assertLessEqual(max(map(len, lines)), notes.WIDTH)

    def test_the_cause_of_an_error_in_a_group_of_a_group(self) -> None:
        said = OSError("sorry, too many clients already")
        group = ExceptionGroup("tasks", [KeyError("x"), BaseExceptionGroup("tasks", [said])])
        for error in (said, group):
            self.assertRegex(
                notes.text([], error=error), r"\nLikely cause: too many clients; close some, or have Postgr"
            )
        self.assertNotIn("Likely cause", notes.text([], error=ExceptionGroup("tasks", [KeyError("x")])))

    def test_the_last_lines_of_a_log_are_shown_and_counted(self) -> None:
        lines = notes.text([self.finding(log=500)]).split("\n")
        self.assertRegex(lines[2], r"^  log since the test began, last \d\d of 500 lines; set ITEST_ARTIFACTS to a dir")
        self.assertEqual(lines[-1], "  | line 499")

    def test_of_a_log_that_was_not_read_from_its_beginning_the_number_of_lines_is_not_known(self) -> None:
        cut = {"log_is_cut": True}
        self.assertRegex(notes.text([self.finding(log=500, **cut)]), r"began, last \d\d of at least 500 lines; set ")
        finding = self.finding(log=2, **cut)
        self.assertIn("log since the test began, at least 2 lines:\n  | line 0\n", notes.text([finding]))
        with tempfile.TemporaryDirectory() as directory:
            place = notes.save([finding], Path(directory), "test")
            self.assertEqual(
                (place / "memory.log").read_text(), "... what it logged before this is left out\nline 0\nline 1\n"
            )

    def test_where_all_of_it_is_can_be_read_whatever_its_length(self) -> None:
        place = Path("/", *["long"] * 50)
        for services in (1, 60):
            lines = notes.text([self.finding(str(number)) for number in range(services)], place).split("\n")
            self.assertEqual(lines[-1], f"whole logs and states: {place}")

    def test_a_line_of_state_is_one_line(self) -> None:
        finding = self.finding()
        finding.evidence.lines = ['wrote to "odd\nname\r\n", \x1b]0;title\x07which has no rows']
        text = notes.text([finding])
        self.assertIn('\n  wrote to "odd name ", which has no rows', text)
        with tempfile.TemporaryDirectory() as directory:
            place = notes.save([finding], Path(directory), "test")
            self.assertIn('\nwrote to "odd name ", which has no rows\n', (place / "memory.state.txt").read_text())

    def test_a_small_log_is_not_cut_for_a_large_one(self) -> None:
        text = notes.text([self.finding("a", log=3), self.finding("b", log=500)])
        self.assertIn("log since the test began, 3 lines:\n  | line 0\n  | line 1\n  | line 2\nb: ", text)

    def test_routine_lines_give_way_to_the_others(self) -> None:
        finding = self.finding()
        finding.subject.server.routine = "INFO"
        finding.log = [f"[12:00:{number}] INFO all is well" for number in range(50)] + ["[12:01] ERROR it is not"]
        text = notes.text([finding])
        self.assertIn("1 line, without 50 lines of routine:\n  | [12:01] ERROR it is not", text)
        finding.log.pop()
        self.assertIn("; nothing but 50 lines of routine logged", notes.text([finding]))
        finding.ended = "exited"
        self.assertIn("INFO all is well", notes.text([finding]))

    def test_no_control_characters(self) -> None:
        finding = self.finding()
        finding.log = ["\x1b[31mred\x1b[0m \x00nul \x9b31m c1 \ufffe \u202e bell\x07"]
        finding.evidence.lines = ["a key\x1b]0;title\x07\x85"]
        text = notes.text([finding])
        self.assertRegex(text, r"\A[\x20-\x7e\n ]*\Z")

    def test_no_passwords(self) -> None:
        secret = naming.secret()
        finding = self.finding()
        finding.log = [f"password={secret}", "connected to postgresql://bob:hidden-word@host/db"]
        finding.evidence.lines = [f"last statement: ALTER ROLE bob PASSWORD '{secret}'"]
        finding.problems = [f"no answer from redis://:{secret}@host"]
        text = notes.text([finding])
        self.assertNotIn(secret, text)
        self.assertNotIn("hidden-word", text)
        with tempfile.TemporaryDirectory() as directory:
            place = notes.save([finding], Path(directory), "tests.test_it.ItTest.test_it (number=1)")
            self.assertEqual(place.name, "tests.test_it.ItTest.test_it_number=1")
            for file in place.iterdir():
                self.assertNotIn(secret, file.read_text())
                self.assertNotIn("hidden-word", file.read_text())
                self.assertTrue(file.read_text())

    def test_files_are_of_one_run_and_of_all_its_failures(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            for number in (1, 2):
                with mock.patch.object(notes, "_written", set()):  # As in another process.
                    finding = self.finding()
                    finding.log = [f"run {number}"]
                    for _ in range(2):
                        place = notes.save([finding], Path(directory), "Ж" * 200)
            self.assertLessEqual(len(place.name.encode()), notes.FILE_NAME_LIMIT)
            self.assertEqual((place / f"{finding.subject.name}.log").read_text(), "run 2\nrun 2\n")

    def test_tests_whose_names_have_the_same_end_have_directories_of_their_own(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            places = [
                notes.save([self.finding()], Path(directory), f"tests.{name}.test_{'x' * 166}") for name in ("A", "B")
            ]
            self.assertEqual(len(set(places)), 2)
            self.assertEqual(len(list(Path(directory).iterdir())), 2)

    def test_a_server_that_ended_says_so_first(self) -> None:
        finding = self.finding(log=2, ended="exited with exit code 137 (SIGKILL), killed for lack of memory")
        finding.log_is_of_this_test = False
        self.assertEqual(
            notes.text([finding]).split("\n")[1:3],
            [
                "memory: Memory 1, container 1 (image:1) ENDED under this test: exited with exit code 137 (SIGKILL), killed "
                "for lack of memory; the next class gets a new one",
                "  end of its log, 2 lines:",
            ],
        )

    def test_the_log_is_left_out_where_the_error_has_it(self) -> None:
        finding = self.finding(log=2, ended="exited with exit code 1")
        other = self.finding("other", log=1)
        other.subject.server.instance = "container 2 (image:1)"  # type: ignore[assignment]  # of a mock
        error = ServerDied("it has ended")
        error.add_note("last log lines of container 1 (image:1):\n  | line 0\n  | line 1")
        self.assertEqual(
            notes.text([finding, other], error=error).split("\n")[2:],
            [
                "  its last log lines are above",
                "other: Memory 1, container 2 (image:1)",
                "  log since the test began, 1 line:",
                "  | line 0",
            ],
        )
        with tempfile.TemporaryDirectory() as directory:
            place = notes.save([finding], Path(directory), "test")
            self.assertEqual((place / "memory.log").read_text(), "line 0\nline 1\n")

    def test_how_it_is_is_said_of_a_long_command_too(self) -> None:
        finding = self.finding(facts=["90 MB in use", "a process in it was killed for lack of memory"])
        finding.subject.server.version = command = "uvicorn " + "--option " * 40  # type: ignore[misc]  # of a mock
        self.assertRegex(
            notes.text([finding]),
            "\nmemory: uvicorn --option .*…, 90 MB in use, a process in it was killed for lack of memory; nothing logged$",
        )
        with tempfile.TemporaryDirectory() as directory:
            place = notes.save([finding], Path(directory), "test")
            self.assertIn(command, (place / "memory.state.txt").read_text())

    def test_how_it_ended_is_said_of_a_long_command_too(self) -> None:
        finding = self.finding(ended="killed by SIGKILL")
        finding.subject.server.version = "uvicorn " + "--option " * 40  # type: ignore[misc]  # of a mock
        line = notes.text([finding]).split("\n")[1]
        self.assertRegex(
            line, r"^memory: uvicorn --option .* ENDED under this test: killed by SIGKILL; the next class gets"
        )


def found(logs: object, *kind: str, **more: object) -> Finding:
    """What is found of an instance that answers so when it is asked for its log, and has these attributes."""
    instance = mock.Mock(spec=["logs", "usage", "state", "ending", *kind, *more], **more)
    instance.ending.return_value = False
    instance.logs.side_effect = logs
    instance.usage.return_value = []
    lease = mock.Mock(**{"evidence.return_value": Evidence(), "meaning.return_value": []})
    with mock.patch.object(examine, "SETTLE_PAUSE", 0.001):
        [finding] = examine.examine([Subject("memory", mock.Mock(instance=instance), lease)], 5.0)
    return finding


class LateLogTest(unittest.TestCase):
    """What a container writes reaches Docker a moment after the test has failed."""

    def looked_at(self, *logs: str, kind: str = "go_on") -> tuple[list[str], int]:
        """What is found where each look at the log sees one of these, and how many looks there were."""
        finding = found([*logs, *[logs[-1]] * 50], kind)
        instance = finding.subject.server.instance
        # Without a number of lines Docker reads a log from its beginning on.
        self.assertEqual(set(map(str, instance.logs.mock_calls)), {str(mock.call(examine.MOST_LINES, 5.0))})
        return finding.log, instance.logs.call_count

    def test_it_is_read_until_nothing_more_comes(self) -> None:
        self.assertEqual(
            self.looked_at("", "ERROR: one\n", "ERROR: one\nSTATEMENT\n"), (["ERROR: one", "STATEMENT"], 4)
        )

    def test_that_of_a_project_too(self) -> None:
        self.assertEqual(self.looked_at("", "late", kind="published"), (["late"], 3))

    def test_what_is_in_the_way_is_said_once(self) -> None:
        finding = found(OSError("no answer"), "go_on")
        self.assertEqual(finding.problems, ["reading its log failed: no answer"])

    def test_of_one_that_does_not_end_what_has_come_in_time_is_shown(self) -> None:
        with mock.patch.object(examine, "SETTLE", 0.0):
            self.assertEqual(self.looked_at("1\n", "1\n2\n"), (["1", "2"], 2))

    def test_a_process_writes_into_a_file(self) -> None:
        self.assertEqual(self.looked_at("", "late", kind="place"), ([], 1))


class LongLogTest(unittest.TestCase):
    """Whether what was read of a log is all of it."""

    def test_as_many_lines_as_are_read_at_most(self) -> None:
        self.assertFalse(found(["line\n" * 3]).log_is_cut)
        self.assertTrue(found(["line\n" * examine.MOST_LINES]).log_is_cut)

    def test_a_process_whose_log_has_outgrown_what_is_read(self) -> None:
        for more in (False, True):
            finding = found(["line\n"], logs_more=mock.Mock(return_value=more))
            self.assertEqual((finding.problems, finding.log_is_cut), ([], more))


class ArtifactsTest(InnerTest):
    def test_the_whole_of_it_is_in_files(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            self.use(MemoryEngine(lambda instance: setattr(instance, "log", "a line\n" * 200)), artifacts=directory)

            class Inner(MemoryMixin, ContainerTestCase):
                def test(self) -> None:
                    self.data["order"] = "book"
                    self.fail("x")

            [(test, text)] = run(Inner).failures
            place = Path(directory).resolve() / test.id().replace("<", "_").replace(">", "_")
            self.assertIn(f"\nwhole logs and states: {naming.mask(str(place))}", text)
            self.assertEqual((place / "memory.log").read_text(), "a line\n" * 200)
            self.assertIn("order: book", (place / "memory.state.txt").read_text())

    def test_a_directory_that_cannot_be_written_to(self) -> None:
        with tempfile.NamedTemporaryFile() as file:
            self.use(MemoryEngine(), artifacts=file.name)

            class Inner(MemoryMixin, ContainerTestCase):
                def test(self) -> None:
                    self.fail("x")

            [(_, text)] = run(Inner).failures
        self.assertIn("\nnothing could be written to ITEST_ARTIFACTS: ", text)


class DeathTest(InnerTest):
    def dying(self) -> type[ContainerTestCase]:
        engine = self.engine
        service = self.service()

        class Inner(ServiceMixin, ContainerTestCase):
            memory = service

            def test_1(self) -> None:
                engine.instances[-1].log = "oh no\n"
                engine.instances[-1].end(137, oom_killed=True)
                self.fail("x")

            def test_2(self) -> None:
                """Never run."""

            def test_3(self) -> None:
                """Never run."""

        return Inner

    def test_the_failing_test_says_it_and_those_after_it_fail_at_once(self) -> None:
        def broken(lease: MemoryLease, test: str) -> None:
            if not self.engine.instances[-1].current.running:
                raise ConnectionError("refused")
            return reset(lease, test)  # type: ignore[return-value]

        class After(MemoryMixin, ContainerTestCase):
            memory = self.service()

            def test(self) -> None:
                self.assertTrue(self.memory.server.lives())

        reset = MemoryLease.reset
        with mock.patch.object(MemoryLease, "reset", broken):
            started = time.monotonic()
            result = run(self.dying(), After)
            self.assertLess(time.monotonic() - started, 1)
        self.check(result, ran=4, failures=1, errors=2)
        note = note_of(result.failures[0][1])
        self.assertIn(
            " ENDED under this test: exited with exit code 137 (SIGKILL), killed for lack of memory; ", note[1]
        )
        self.assertEqual(note[3], "  | oh no")
        first, second = (text for _, text in result.errors)
        self.assertRegex(
            first, r"ServerDied: .*Inner.memory ended before .*test_2: Memory \(container memory-1 .*\) exited "
        )
        self.assertNotIn("ConnectionError", first)
        for text in (first, second):
            self.assertIn("; its end is told above. ", text)
            self.assertNotIn("oh no", text)
        self.assertEqual(self.events.count("start memory:1"), 2)

    def test_one_that_was_removed(self) -> None:
        engine = self.engine
        service = self.service()

        class Inner(ServiceMixin, ContainerTestCase):
            memory = service

            def test_1(self) -> None:
                engine.instances[-1].current = State(running=False, status=REMOVED)
                self.fail("x")

            def test_2(self) -> None:
                """Never run."""

        def refused(lease: MemoryLease, test: str) -> object:
            if not engine.instances[-1].current.running:
                raise ConnectionError("refused")
            return reset(lease, test)

        reset = MemoryLease.reset
        with mock.patch.object(MemoryLease, "reset", refused):
            result = run(Inner)
        [(_, failed)], [(_, after)] = result.failures, result.errors
        self.assertIn(" ENDED under this test: was removed; ", failed)
        self.assertRegex(after, r"ended before .*test_2: Memory \(container memory-1 .*\) was removed\. The last test ")

    def test_one_that_was_restarted(self) -> None:
        """It runs and answers, on other ports and without its data."""
        engine = self.engine
        service = self.service()

        class Inner(ServiceMixin, ContainerTestCase):
            memory = service

            def test_1(self) -> None:
                engine.instances[-1].current = State(running=True, restarted=True)
                self.fail("x")

            def test_2(self) -> None:
                """Never run."""

        class After(MemoryMixin, ContainerTestCase):
            memory = self.service()

            def test(self) -> None:
                self.assertTrue(self.memory.server.lives())

        with mock.patch.object(MemoryServer, "hung_up", lambda server: server.instance.state().restarted):
            result = run(Inner, After)
        self.check(result, ran=3, failures=1, errors=1)
        [(_, failed)], [(_, after)] = result.failures, result.errors
        self.assertIn(" ENDED under this test: was restarted; the next class gets a new one", failed)
        self.assertRegex(after, r"ended before .*test_2: Memory \(container memory-1 .*\) was restarted\. The last ")

    def test_one_whose_reset_tells_its_end(self) -> None:
        engine = self.engine
        service = self.service()

        class Inner(ServiceMixin, ContainerTestCase):
            memory = service

            def test_1(self) -> None:
                engine.instances[-1].end(5)

            def test_2(self) -> None:
                """Never run."""

        def refused(lease: MemoryLease, test: str) -> object:
            if not engine.instances[-1].current.running:
                raise ResetError("it does not run any more")
            return reset(lease, test)

        reset = MemoryLease.reset
        with (
            mock.patch.object(MemoryLease, "reset", refused),
            mock.patch.object(MemoryServer, "tells_its_end", True),
        ):
            result = run(Inner)
        [(_, text)] = result.errors
        self.assertIn(" ENDED before this test: exited with exit code 5; ", text)

    def test_its_facts_are_attributes(self) -> None:
        error = ServerDied("it ended", exit_code=137, oom_killed=True)
        self.assertEqual((error.exit_code, error.oom_killed), (137, True))
