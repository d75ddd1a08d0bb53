# SPDX-License-Identifier: Apache-2.0
"""The session: who shares a server, when it stops, and what becomes of a start that fails."""

from __future__ import annotations

import errno
import gc
import io
import os
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from itest import ContainerTestCase, Redis, RedisMixin, choosing, naming, packages, starting, testing, trace
from itest import session as sessions
from itest.choosing import Engines
from itest.clock import Deadline
from itest.config import Config
from itest.engines import ExecResult, Instance, docker_address
from itest.engines.process import ProcessEngine
from itest.errors import ImageError, InstanceDied, ItestError, PortTaken, StartError, StartTimeout, Unavailable
from itest.session import Session
from itest.side_by_side import within
from itest.spec import Spec
from itest.starter import START_ATTEMPTS
from itest.testing import ManualClock, MemoryEngine, MemoryInstance, MemoryServer, MemoryService
from itest.trace import Recorder
from itest.wait import NotReady, answer, current_deadline, exec, log
from tests.unit.inner import START, STOP, InnerTest, apart, run


def case(service: MemoryService, *names: str, **attributes: Any) -> type[ContainerTestCase]:
    """A class of empty tests, `T` with test_a if nothing else is said, that declares the service as `memory`."""
    methods: dict[str, Any] = {name: lambda self: None for name in names or ("test_a",)}
    return type("T", (ContainerTestCase,), {"memory": service, **methods, **attributes})


class ScopeTest(InnerTest):
    def test_what_is_fetched_before_it_is_known_what_to_run_is_a_step_of_the_run(self) -> None:
        session = Session(Config(quiet=True), engines=[MemoryEngine()])
        self.addCleanup(session.close)
        container = MemoryService.container

        def fetched(service: MemoryService, secret: str) -> Any:
            with trace.step("fetch", service.kind):
                return container(service, secret)

        with mock.patch.object(MemoryService, "container", fetched):
            session.lend(MemoryService())
        self.assertEqual([span.name for span in session.trace.spans if span.parent is None], ["fetch", "start"])

    def test_a_session_server_is_shared_by_all_classes_and_stops_with_the_run(self) -> None:
        self.check(run(case(self.service()), case(self.service())), ran=2)
        one = ["lease T", "seal", "reset test_a", "close test_a", "give back"]
        self.assertEqual(self.events, [START, *one, *one, *STOP, "close"])

    def test_a_class_server_is_the_classs_own_and_stops_with_it(self) -> None:
        service = self.service(scope="class")
        self.check(run(case(service, "test_a", "test_b"), type("Other", (case(service),), {})), ran=3)
        self.assertEqual(
            self.events,
            [
                START,
                "lease T",
                "seal",
                "reset test_a",
                "close test_a",
                "reset test_b",
                "close test_b",
                "give back",
                *STOP,
            ]
            + [START, "lease Other", "seal", "reset test_a", "close test_a", "give back", *STOP, "close"],
        )

    def test_a_test_server_is_the_tests_own_and_stays_to_be_looked_at_until_the_next(self) -> None:
        self.check(run(case(self.service(scope="test"), "test_a", "test_b")), ran=2)
        self.assertEqual(
            self.events,
            [START, "lease T", "seal", "reset test_a", "close test_a", "give back", *STOP]
            + [START, "lease T", "seal", "reset test_b", "close test_b", "give back", *STOP, "close"],
        )

    def test_two_equal_declarations_of_a_class_share_a_server_and_each_has_data_of_its_own(self) -> None:
        def test_a(test: Any) -> None:
            test.memory.data["x"] = 1
            test.assertEqual(test.other.data, {})
            test.assertIs(test.memory.server, test.other.server)

        self.check(run(case(self.service(), other=self.service(), test_a=test_a)), ran=1)
        self.assertEqual(self.events.count(START), 1)

    def test_isolation_is_not_part_of_what_must_be_equal_and_the_image_is(self) -> None:
        server = self.session.lend(self.service())
        self.assertIs(self.session.lend(self.service(isolation="none", startup_timeout=1.0)), server)
        self.assertIsNot(self.session.lend(self.service("memory:2")), server)
        self.assertIsNot(self.session.lend(self.service(), "a scope of its own"), server)

    def test_ctrl_c_while_a_server_is_stopped_does_not_break_out_of_the_end(self) -> None:
        self.session.lend(self.service())
        with mock.patch.object(MemoryInstance, "stop", side_effect=KeyboardInterrupt):
            self.session.close()
        self.assertEqual(self.events[-1], "close")

    def test_a_server_that_died_is_replaced_for_the_next_class(self) -> None:
        self.check(
            run(case(self.service(), test_a=lambda test: self.engine.instances[0].end()), case(self.service())), ran=2
        )
        self.assertEqual(self.events.count(START), 2)
        self.assertEqual(self.events.count("stop memory:1"), 2)


class SideBySideTest(InnerTest):
    def test_several_start_at_once_and_come_back_in_order(self) -> None:
        wanted = [(self.service(f"memory:{number}"), "") for number in range(4)]
        servers = self.session.lend_all(wanted)
        images = [instance.spec.image for instance in map(self.instance_of, servers)]
        self.assertEqual(images, ["memory:0", "memory:1", "memory:2", "memory:3"])

    def test_equal_ones_start_once(self) -> None:
        servers = self.session.lend_all([(self.service(), "")] * 4)
        self.assertEqual((len(set(map(id, servers))), self.events), (1, [START]))

    def test_the_first_failure_in_order_is_raised_and_the_others_run_on(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            if instance.spec.image != "memory:0":
                raise StartError(f"no {instance.spec.image}")

        session = self.use(MemoryEngine(prepare))
        with self.assertRaisesRegex(StartError, "no memory:1"):
            session.lend_all([(self.service(f"memory:{number}"), "") for number in range(3)])
        self.assertEqual([instance.spec.image for instance in self.engine.instances], ["memory:0"])

    def test_a_failure_says_which_service_of_the_class_it_was_where_its_kind_does_not(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            raise StartError("no such image")

        session = self.use(MemoryEngine(prepare))
        for name in ("memory", "second", "second", "the_other_classs", "memory"):
            with self.assertRaises(StartError) as raised:  # From the second time on it is remembered.
                session.lend_all([(self.service(), "", None, name)])
            notes = [] if name == "memory" else [f"it is the service {name!r} of the class"]
            self.assertEqual(raised.exception.__notes__[1:], notes)

    def test_each_other_failure_is_a_line_of_the_first(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            if instance.spec.image != "memory:1":
                reason = f"no {instance.spec.image}\nat all, nor for {instance.spec.env['PASSWORD']}"
                raise StartTimeout(f"it was late: {reason}", reason=reason)

        session = self.use(MemoryEngine(prepare))
        wanted = [
            (self.service(f"memory:{number}"), "", None, name) for number, name in enumerate(("web", "x", "typo"))
        ]
        for _ in range(2):  # From the second time on they are remembered.
            with self.assertRaisesRegex(StartTimeout, "no memory:0") as raised:
                session.lend_all(wanted)
            self.assertEqual(
                raised.exception.__notes__[1:],
                [
                    "it is the service 'web' of the class",
                    "nor could 'typo' of the class be started: StartTimeout: no memory:2 at all, nor for ***",
                ],
            )

    def test_what_they_need_is_imported_one_after_the_other_and_before_it_is_used(self) -> None:
        importing, most, imported = set(), set(), set()
        another = threading.Event()

        def import_ahead(service: MemoryService) -> None:
            importing.add(service.image)
            if len(importing) > 1:
                another.set()
            another.wait(0.05)  # So long another one could come in between.
            most.add(len(importing))
            importing.remove(service.image)
            imported.add(service.image)

        def use(instance: Any) -> None:
            self.assertIn(instance.spec.image, imported)

        with mock.patch.object(MemoryService, "import_ahead", import_ahead):
            self.session.lend_all(
                [(self.service(f"memory:{number}", check_ready=answer("it", use, ())), "") for number in range(3)]
            )
        self.assertEqual(most, {1})

    def test_a_forked_child_waits_for_no_import_of_its_parent(self) -> None:
        def import_there() -> bool:
            within(10, starting.import_aside(self.service()), "import")
            return True

        with starting._importing:
            self.assertTrue(in_fork(import_there))

    def test_where_no_thread_can_be_had_they_start_one_after_the_other(self) -> None:
        imported: list[str] = []
        services = [self.service(f"memory:{number}") for number in range(2)]
        with (
            mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")),
            mock.patch.object(MemoryService, "import_ahead", lambda service: imported.append(service.image)),
        ):
            self.session.start_ahead(services)
            self.session.lend_all([(service, "", None, "") for service in services])
        self.assertEqual(imported, ["memory:0", "memory:1"])

    def instance_of(self, server: Any) -> MemoryInstance:
        instance: MemoryInstance = server.instance
        return instance


class StartTest(InnerTest):
    def test_what_is_started_carries_the_labels_of_the_session(self) -> None:
        self.session.lend(self.service())
        [instance] = self.engine.instances
        self.assertEqual(
            {name: instance.labels[name] for name in (naming.SESSION, naming.SERVICE)},
            {"itest.session": self.session.id, "itest.service": "memory"},
        )
        self.assertTrue(instance.labels[naming.OWNER].startswith(f"{os.getpid()}@{os.uname().nodename} start="))
        self.assertRegex(instance.labels[naming.FINGERPRINT], r"\A[0-9a-f]{16}\Z")

    def test_each_step_is_a_span(self) -> None:
        run(case(self.service()))
        spans = [f"{span.name} {span.subject}" for span in self.session.trace.spans]
        self.assertEqual(spans.pop(0), f"setup {__name__}.T")
        self.assertEqual(spans, ["start memory", "ready memory", "lease memory", "reset memory", "stop memory"])
        facts = {
            "engine": "memory",
            "version": "Memory 1",
            "title": "Memory",
            "server": "memory-1",
            "where": "container memory-1 (memory:1)",
        }
        self.assertEqual(self.session.trace.spans[1].facts, facts)
        self.assertTrue(self.session.trace.spans[4].facts["test"].endswith("T.test_a"))

    def test_what_runs_is_announced_once_unless_quiet(self) -> None:
        session = self.use(MemoryEngine(), quiet=False, clock=ManualClock())
        with mock.patch.object(sys, "__stderr__", io.StringIO()) as said:
            run(case(self.service()), case(self.service()))
        self.assertEqual(said.getvalue(), "itest: Memory 1 in container memory-1 (memory:1), ready in 0.00 s\n")
        self.assertTrue(session.closed)

    def test_a_declarations_own_timeout_wins_over_the_settings(self) -> None:
        for own, seconds in ((None, "7"), (3.0, "3")):
            session = self.use(MemoryEngine(), startup_timeout=7.0, clock=ManualClock())
            with self.assertRaisesRegex(StartTimeout, f"within {seconds} s"):
                session.lend(self.service(startup_timeout=own, check_ready=log("never")))

    def test_what_its_start_took_is_not_given_to_its_readiness_again_but_what_its_pull_took(self) -> None:
        clock = ManualClock()

        class Slow(MemoryEngine):
            def start(self, spec: Spec, labels: Mapping[str, str], deadline: Deadline, recorder: Recorder) -> Instance:
                clock.sleep(100)
                deadline.begin_anew()
                clock.sleep(50)
                return super().start(spec, labels, deadline, recorder)

        session = self.use(Slow(), startup_timeout=60.0, clock=clock)
        with self.assertRaisesRegex(StartTimeout, "within 60 s, .* Last reason: seen 0 of 1 times"):
            session.lend(self.service(check_ready=log("never")))
        self.assertAlmostEqual(clock.monotonic(), 160, delta=1)

    def test_what_a_service_does_on_its_new_server_has_the_deadline_of_the_start(self) -> None:
        given: list[Deadline | None] = []

        class Busy(MemoryService):
            def connect(self, instance: Instance, address: str) -> MemoryServer:
                given.append(current_deadline())
                return super().connect(instance, address)

        self.session.lend(Busy(startup_timeout=7.0))
        self.assertEqual([deadline and deadline.seconds for deadline in given], [7.0])
        self.assertIsNone(current_deadline())


class FailureTest(InnerTest):
    def fail_with(self, error: Exception, **settings: Any) -> list[MemoryInstance]:
        """Use an engine whose every start raises this; returns the list of attempts."""
        attempts: list[MemoryInstance] = []

        def prepare(instance: MemoryInstance) -> None:
            attempts.append(instance)
            raise error

        self.use(MemoryEngine(prepare), **settings)
        return attempts

    def test_it_is_an_error_of_the_class(self) -> None:
        self.fail_with(ImageError("no such image: memory:1"))
        result = run(case(self.service(), "test_a", "test_b"))
        self.check(result, ran=0, errors=1)
        self.assertIn("setUpClass", str(result.errors[0][0]))
        self.assertEqual(self.last_line(result), "ImageError: no such image: memory:1")

    def test_it_is_remembered_so_that_the_next_class_does_not_wait_for_it_again(self) -> None:
        attempts = self.fail_with(ImageError("no such image: memory:1"))
        result = run(case(self.service()), case(self.service()))
        self.check(result, ran=0, errors=2)
        self.assertEqual(self.last_line(result, 1), "ImageError: no such image: memory:1")
        self.assertEqual(len(attempts), 1)

    def test_the_next_class_is_told_it_in_short(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            instance.log = "waiting for a disk\n"

        self.use(MemoryEngine(prepare), clock=ManualClock())
        service = self.service(check_ready=log("ready"))
        result = run(*(type(name, (case(service),), {"__module__": "tests.shop"}) for name in "ABC"))
        self.check(result, ran=0, errors=3)
        first, *others = (text for _, text in result.errors)
        self.assertIn("  | waiting for a disk\nit was started as: docker run ", first)
        for text in others:
            self.assertIn(
                "Last reason: seen 0 of 1 times in the log. If it only needs longer, raise startup_timeout.\n", text
            )
            self.assertTrue(text.endswith("startup_timeout.\nas told above at tests.shop.A\n"), text)

    def test_one_that_was_a_line_of_another_failure_is_told_in_full_once(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            instance.log = "no disk\n"
            instance.end(exit_code=3)

        session = self.use(MemoryEngine(prepare))
        web, typo = ((self.service(f"memory:{name}"), "", None, name) for name in ("web", "typo"))
        notes = []
        for owner, wanted in (("A", [web, typo]), ("B", [typo]), ("C", [typo]), ("D", [web, typo])):
            with self.assertRaises(StartError) as raised:
                session.lend_all(wanted, owner=owner)
            notes.append(raised.exception.__notes__)
            self.assertEqual((type(raised.exception), raised.exception.exit_code), (InstanceDied, 3))
        self.assertEqual([" ".join(each).count("  | no disk") for each in notes], [1, 1, 0, 0])
        self.assertEqual(notes[2], ["as told above at B", "it is the service 'typo' of the class"])
        self.assertRegex(
            " ".join(notes[3]), "^as told above at A it is the service 'web' of the class nor could 'typo' "
        )

    def test_the_line_of_another_one_has_the_end_of_its_log(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            instance.log = "" if instance.spec.image == "memory:mute" else "starting\nno disk\n"
            instance.end(exit_code=3)

        session = self.use(MemoryEngine(prepare))
        wanted = [(self.service(f"memory:{name}"), "", None, name) for name in ("web", "typo", "mute")]
        with self.assertRaises(InstanceDied) as raised:
            session.lend_all(wanted, owner="A")
        typo, mute = raised.exception.__notes__[-2:]
        self.assertRegex(typo, r"^nor could 'typo' .* is the usual cause\. \(the end of its log: no disk\)$")
        self.assertRegex(mute, r"^nor could 'mute' .* is the usual cause\.$")

    def test_the_line_of_one_whose_preparation_failed_has_the_reason_and_the_end_of_the_output(self) -> None:
        command = f"initdb --pgdata {'/data' * 60}"
        failed = StartError(
            f"preparing PostgreSQL failed: `{command}` exited with code 1. Likely cause: no space left; make room"
        )
        failed.add_note(f"output of `{command}`:\n  | creating directory\n  | initdb: error: No space left on device")

        def prepare(instance: MemoryInstance) -> None:
            raise failed if instance.spec.image == "memory:2" else ImageError("no such image: memory:1")

        session = self.use(MemoryEngine(prepare))
        with self.assertRaises(ImageError) as raised:
            session.lend_all([(self.service(), "", None, "web"), (self.service("memory:2"), "", None, "store")])
        self.assertRegex(
            raised.exception.__notes__[-1],
            r"^nor could 'store' of the class be started: StartError: preparing PostgreSQL failed: `initdb --pgdata /data.*….*"
            r"/data` exited with code 1\. Likely cause: no space left; make room "
            r"\(the end of its log: initdb: error: No space left on device\)$",
        )

    def test_one_that_is_not_remembered_is_not_kept(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            raise ImageError("no such image: memory:1")

        self.use(MemoryEngine(prepare))
        with self.assertRaises(ImageError) as raised:
            self.session.lend_all([(self.service(scope="test"), "a test", None, "web")], owner="A")
        kept = weakref.ref(raised.exception)
        del raised
        gc.collect()
        self.assertIsNone(kept())

    def test_one_of_a_class_of_the_users_own_is_told_in_short_too(self) -> None:
        class Expired(StartError):
            def __init__(self, code: int, day: str) -> None:
                super().__init__(f"licence {code} has expired on {day}")
                self.code = code

        cause = OSError("no such day")

        def prepare(instance: MemoryInstance) -> None:
            raise Expired(7, "Monday") from cause

        session = self.use(MemoryEngine(prepare))
        for owner in ("A", "B"):
            with self.assertRaisesRegex(Expired, "^licence 7 has expired on Monday$") as raised:
                session.lend_all([(self.service(), "", None, "web")], owner=owner)
            self.assertEqual((raised.exception.code, raised.exception.__cause__), (7, cause))
        self.assertEqual(raised.exception.__notes__, ["as told above at A", "it is the service 'web' of the class"])

    def test_a_test_of_its_own_server_tries_again(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            if instance.id == "memory-1":
                raise StartError("the program has crashed")

        self.use(MemoryEngine(prepare))
        self.check(run(case(self.service(scope="test"), "test_a", "test_b")), ran=2, errors=1)

    def test_what_was_late_is_tried_again_where_a_declaration_gives_it_more_time(self) -> None:
        attempts: list[MemoryInstance] = []
        session = self.use(MemoryEngine(attempts.append), clock=ManualClock())
        for seconds, tried in ((1.0, 1), (1.0, 1), (0.5, 1), (5.0, 2), (1.0, 2)):
            with self.assertRaisesRegex(StartTimeout, "did not become ready within [15] s"):
                session.lend(self.service(check_ready=log("ready"), startup_timeout=seconds))
            self.assertEqual(len(attempts), tried)

    def test_where_setUpClass_forgot_super_it_is_the_error_of_each_test(self) -> None:
        attempts = self.fail_with(ImageError("no such image: memory:1"))
        result = run(case(self.service(), "test_a", "test_b", setUpClass=classmethod(lambda cls: None)))
        self.check(result, ran=2, errors=2)
        self.assertEqual(len(attempts), 1)

    def test_an_error_that_is_not_ours_is_not_remembered(self) -> None:
        attempts = self.fail_with(OSError("the daemon is restarting"))
        self.check(run(case(self.service()), case(self.service())), ran=0, errors=2)
        self.assertEqual(len(attempts), 2)

    def test_a_server_that_never_gets_ready_is_stopped_and_its_log_is_a_note(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            instance.log = "booting\nwaiting for a disk\n"

        self.use(MemoryEngine(prepare), clock=ManualClock())
        result = run(case(self.service(check_ready=log("ready"))))
        self.check(result, ran=0, errors=1)
        self.assertTrue(
            result.errors[0][1].endswith(
                "StartTimeout: Memory (image memory:1) did not become ready within 60 s, waiting for 'ready' in the log. "
                "Last reason: seen 0 of 1 times in the log. If it only needs longer, raise startup_timeout.\n"
                "last log lines of container memory-1 (memory:1):\n"
                "  | booting\n"
                "  | waiting for a disk\n"
                "it was started as: docker run --rm -e 'PASSWORD=***' -p 127.0.0.1::1 memory:1\n"
            ),
            result.errors[0][1],
        )
        self.assertEqual(self.events, [START, "stop memory:1"])

    def test_a_server_that_dies_says_how_and_its_log_is_a_note(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            instance.log = "FATAL: no configuration\n"
            instance.end(exit_code=3)

        self.use(MemoryEngine(prepare), clock=ManualClock())
        result = run(case(self.service(check_ready=log("ready"))))
        self.assertTrue(
            result.errors[0][1].endswith(
                "InstanceDied: Memory (image memory:1) ended before it was ready: exited with exit code 3, 0.0 s after its "
                "start, while waiting for 'ready' in the log. A wrong setting or a missing "
                "environment variable is the usual cause.\n"
                "last log lines of container memory-1 (memory:1):\n"
                "  | FATAL: no configuration\n"
                "it was started as: docker run --rm -e 'PASSWORD=***' -p 127.0.0.1::1 memory:1\n"
            ),
            result.errors[0][1],
        )

    def test_the_facts_of_a_failure_name_the_service(self) -> None:
        def without_image(instance: MemoryInstance) -> None:
            raise ImageError("image memory:1 is not there", image="memory:1")

        for prepare, service in (
            (MemoryInstance.end, self.service(check_ready=log("ready"))),
            (None, self.service(check_ready=log("ready"), startup_timeout=1.0)),
            (without_image, self.service()),
        ):
            session = self.use(MemoryEngine(prepare), clock=ManualClock())
            with self.assertRaises(StartError) as caught:
                session.lend(service)
            self.assertEqual(caught.exception.service, "memory")

    def test_a_failure_to_remove_what_failed_to_start_is_a_note(self) -> None:
        service = self.service(check_ready=exec("is-it-up"))
        session = self.use(MemoryEngine(lambda instance: instance.end()))
        with (
            mock.patch.object(MemoryInstance, "stop", side_effect=OSError(f"no daemon; {session.secret}")),
            self.assertRaises(StartError) as caught,
        ):
            session.lend(service)
        self.assertEqual(caught.exception.__notes__[-2], "and it could not be removed: no daemon; ***")

    def test_a_taken_port_is_retried_with_a_new_one(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            if instance.id != "memory-3":
                raise PortTaken(f"{instance} lost its port")

        session = self.use(MemoryEngine(prepare))
        server = session.lend(self.service())
        self.assertEqual((server.instance.id, self.events), ("memory-3", [START] * 3))
        starts = [span for span in session.trace.spans if span.name == "start"]
        self.assertEqual([(span.failed, span.again) for span in starts], [(True, True), (True, True), (False, False)])

    def test_a_port_that_is_always_taken_is_given_up(self) -> None:
        attempts = self.fail_with(PortTaken("Memory lost its port to another program"))
        with self.assertRaisesRegex(PortTaken, "^Memory lost its port to another program$"):
            self.session.lend(self.service())
        self.assertEqual(len(attempts), START_ATTEMPTS)
        starts = [span for span in self.session.trace.spans if span.name == "start"]
        self.assertEqual([span.again for span in starts], [True] * (START_ATTEMPTS - 1) + [False])
        self.assertEqual(START_ATTEMPTS, 5)

    def test_a_port_lost_after_the_start_is_retried_too(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            if instance.id == "memory-1":
                instance.place = Path("/dev/shm/one")  # type: ignore[attr-defined]  # what a process has
                instance.log = "Address already in use\n"
                instance.end(exit_code=1)

        session = self.use(MemoryEngine(prepare))
        self.assertEqual(session.lend(self.service()).instance.id, "memory-2")
        self.assertEqual(self.events, [START, "stop memory:1", START])

    def test_no_text_of_a_failure_shows_the_password(self) -> None:
        def prepare(instance: MemoryInstance) -> None:
            instance.log = f"starting with password {instance.spec.env['PASSWORD']}\n"

        def refuse(instance: Any) -> None:
            raise NotReady(f"cannot log in at memory://:{session.secret}@there with {session.secret}")

        session = self.use(MemoryEngine(prepare), clock=ManualClock())
        result = run(case(self.service(check_ready=answer("a login", refuse, ()))))
        self.check(result, ran=0, errors=1)
        self.assertNotIn(session.secret, result.errors[0][1])
        self.assertIn("cannot log in at memory://:***@there with ***", result.errors[0][1])
        self.assertIn("starting with password ***", result.errors[0][1])


class UnavailableTest(InnerTest):
    MESSAGE = "nothing here can run Memory: memory: it is switched off"

    def test_its_tests_skip_with_the_reason(self) -> None:
        self.use(MemoryEngine(unavailable="it is switched off"))
        result = run(case(self.service(), "test_a", "test_b"))
        self.assertEqual((result.errors, [reason for _, reason in result.skipped]), ([], [self.MESSAGE]))

    def test_they_skip_one_by_one_where_setUpClass_forgot_super(self) -> None:
        self.use(MemoryEngine(unavailable="it is switched off"))
        result = run(case(self.service(), "test_a", "test_b", setUpClass=classmethod(lambda cls: None)))
        self.check(result, ran=2, skipped=2)

    def test_they_skip_where_each_test_has_a_server_of_its_own(self) -> None:
        self.use(MemoryEngine(unavailable="it is switched off"))
        T = case(self.service(scope="test"), "test_a", "test_b")
        with self.assertRaisesRegex(unittest.SkipTest, self.MESSAGE):
            T("test_a").debug()
        self.check(run(T), ran=2, skipped=2)

    def test_it_is_an_error_where_services_are_required(self) -> None:
        for require in ("1", "docker", "process"):
            self.use(MemoryEngine(unavailable="it is switched off"), require=require)
            result = run(case(self.service()))
            self.check(result, ran=0, errors=1)
            self.assertEqual(self.last_line(result), f"Unavailable: {self.MESSAGE}")

    def test_the_reasons_are_facts_too(self) -> None:
        session = self.use(MemoryEngine(unavailable="it is switched off"))
        with self.assertRaises(Unavailable) as caught:
            session.lend(self.service())
        self.assertEqual(caught.exception.reasons, {"memory": "it is switched off"})

    def test_an_engine_that_cannot_be_used_is_asked_once_and_closed(self) -> None:
        session = self.use(MemoryEngine(unavailable="it is switched off"))
        for _ in range(2):
            with self.assertRaises(Unavailable):
                session.lend(self.service())
        session.close()
        self.assertEqual(self.events, ["close"])

    def test_each_engine_says_why(self) -> None:
        class Redisless(ContainerTestCase, RedisMixin):
            def test_a(self) -> None:
                raise AssertionError("never reached")

        docker, process = MemoryEngine(unavailable="no daemon answers at unix:///x"), MemoryEngine()
        docker.name, process.name = "docker", "process"
        missing = Unavailable("no Redis or Valkey server for local processes")
        with (
            testing.session(docker, process),
            mock.patch.object(Redis, "process", side_effect=missing),
        ):
            result = run(Redisless)
        self.assertEqual(
            [reason for _, reason in result.skipped],
            [
                "nothing here can run Redis: docker: no daemon answers at unix:///x; "
                "process: no Redis or Valkey server for local processes"
            ],
        )


class CloseTest(InnerTest):
    def test_all_is_stopped_though_nobody_can_be_started_who_would_clean_up(self) -> None:
        """The reaper was killed, and no process can be made any more."""
        self.session.lend(self.service())
        starter = self.session._starter
        starter._alone, starter._reaper = False, mock.Mock(**{"lives.return_value": False})
        refused = OSError(11, "Resource temporarily unavailable")
        with mock.patch("itest.reaper.Reaper", side_effect=refused) as made:
            self.session.close()
        self.assertEqual(len(made.mock_calls), 2)
        self.assertEqual(self.events, [START, *STOP, "close"])

    def test_it_stops_every_server_once(self) -> None:
        self.session.lend_all([(self.service("memory:1"), ""), (self.service("memory:2"), "")])
        self.session.close()
        self.session.close()
        self.assertEqual(sorted(self.events[2:-1]), ["close server", "close server", "stop memory:1", "stop memory:2"])
        self.assertEqual((self.events[-1], self.engine.instances), ("close", []))

    def test_it_never_raises_and_says_what_could_not_be_stopped(self) -> None:
        self.session.lend(self.service())
        with (
            mock.patch.object(MemoryInstance, "stop", side_effect=OSError(f"no daemon; {self.session.secret}")),
            mock.patch.object(sys, "__stderr__", io.StringIO()) as said,
        ):
            self.session.close()
        self.assertEqual(said.getvalue(), "itest: could not stop Memory: no daemon; ***\n")

    def test_a_server_whose_client_cannot_be_closed_is_stopped_all_the_same(self) -> None:
        self.session.lend(self.service())
        with (
            mock.patch.object(testing.MemoryServer, "close", side_effect=OSError("broken pipe")),
            mock.patch.object(sys, "__stderr__", io.StringIO()),
        ):
            self.session.close()
        self.assertEqual(self.engine.instances, [])

    def test_it_works_where_no_thread_can_be_started_any_more(self) -> None:
        self.session.lend(self.service())
        self.session.lend(self.service("web:2"))
        with mock.patch("itest.side_by_side.Thread", side_effect=RuntimeError("can't create new thread")):
            self.session.close()
        again = [each.replace("memory:1", "web:2") for each in (START, *STOP)]
        self.assertEqual(self.events, [START, again[0], *STOP, *again[1:], "close"])

    def test_a_forked_child_stops_nothing(self) -> None:
        self.session.lend(self.service())

        def child() -> bool:
            self.session.close()
            return sessions.opened() is None and self.events == [START]

        self.assertTrue(in_fork(child))
        self.assertIs(sessions.opened(), self.session)


def in_fork(question: Callable[[], bool]) -> bool:
    """What the question's answer is in a forked child, which runs nothing but it."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if question() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class ProcessTest(unittest.TestCase):
    """The session of the process, as it is without `itest.testing`; its engine is the one in memory all the same."""

    def setUp(self) -> None:
        self.enterContext(apart())
        self.engines: list[MemoryEngine] = []
        self.addCleanup(sessions.install, sessions.install(None))
        self.reaper = self.enterContext(mock.patch("itest.reaper.Reaper"))
        self.reaper.return_value.lives.return_value = True
        self.reaper.return_value.outlives_us = True
        self.enterContext(mock.patch.object(sessions, "load", lambda: Config(quiet=True)))
        self.enterContext(mock.patch.object(choosing, "allowed", self.make))
        self.addCleanup(lambda: (session := sessions.opened()) and session.close())

    def make(self, config: Config) -> list[MemoryEngine]:
        self.engines.append(MemoryEngine())
        return [self.engines[-1]]

    def test_it_is_opened_at_the_first_use_and_stays(self) -> None:
        self.assertIsNone(sessions.opened())
        self.assertIs(sessions.current(), sessions.current())
        self.assertIs(sessions.opened(), sessions.current())

    def test_it_is_closed_by_the_run_and_opened_anew_by_the_next(self) -> None:
        T = case(MemoryService())
        for result in (run(T), run(T)):
            self.assertEqual((result.testsRun, result.errors), (1, []))
            self.assertIsNone(sessions.opened())
        self.assertEqual([engine.events for engine in self.engines], [[START, "stop memory:1", "close"]] * 2)

    def test_a_class_that_was_never_left_is_entered_anew(self) -> None:
        T, result = case(MemoryService()), unittest.TestResult()
        T("test_a").run(result)
        result.stopTestRun()
        T("test_a").run(result)
        self.assertEqual((result.testsRun, result.errors), (2, []))
        self.assertEqual([engine.events for engine in self.engines], [[START, "stop memory:1", "close"], [START]])

    def test_a_forked_child_opens_its_own(self) -> None:
        ours = sessions.current()
        self.assertTrue(in_fork(lambda: sessions.current() is not ours))
        self.assertIs(sessions.current(), ours)

    def test_a_reaper_watches_before_anything_starts_and_is_told_when_all_is_done(self) -> None:
        session = sessions.current()
        self.assertEqual(self.reaper.mock_calls, [])
        session.lend(MemoryService())
        session.lend(MemoryService("memory:2"))
        self.assertEqual(self.told(), [mock.call(session.id, mock.ANY)])
        session.close()
        self.assertEqual(self.told()[1:], [mock.call().close(done=True)])

    def told(self) -> list[Any]:
        """What was done with reapers, but for the question whether they live."""
        return [each for each in self.reaper.mock_calls if each != mock.call().lives()]

    def test_nothing_starts_where_there_can_be_no_reaper(self) -> None:
        threads = (
            "raise the limit of the shell: `ulimit -u`, which counts all processes and threads of the user, or `ulimit -v`, of "
            "which each thread takes some for its stack"
        )
        for number, cause, cure in (
            (errno.EMFILE, "too many open files", "raise the limit of the shell (`ulimit -n`)"),
            (errno.EAGAIN, "too many threads", threads),
        ):
            self.reaper.side_effect = error = OSError(number, os.strerror(number))
            with self.assertRaises(StartError) as raised:
                sessions.current().lend(MemoryService(f"memory:{number}"))
            self.assertEqual(
                str(raised.exception),
                f"the process that would clean up if this one were killed could not be started, so nothing is: {error}. "
                f"Likely cause: {cause}; {cure}.",
            )
            self.assertEqual(raised.exception.cause, cause)
        self.assertEqual([engine.instances for engine in self.engines], [[]] * len(self.engines))

    def test_another_reaper_takes_the_place_of_one_that_was_killed(self) -> None:
        lives = self.reaper.return_value.lives

        def begin(session: str, environment: object) -> object:
            lives.return_value = True
            return mock.DEFAULT

        self.reaper.side_effect = begin
        session = sessions.current()
        session.lend(MemoryService())
        another = [mock.call().close(done=False), mock.call(session.id, mock.ANY)]
        lives.return_value = False
        session.lend(MemoryService("memory:2"))
        self.assertEqual(self.told()[1:], another)
        lives.return_value = False
        session.close()
        self.assertEqual(self.told()[3:], [*another, mock.call().close(done=True)])

    def test_another_one_removes_what_one_was_told_to_that_is_killed_over_the_end(self) -> None:
        session = sessions.current()
        session.lend(MemoryService())
        told, lives = len(self.told()), self.reaper.return_value.lives
        with mock.patch.object(MemoryInstance, "stop", lambda instance: lives.configure_mock(return_value=False)):
            session.close()
        another = [mock.call().close(done=False), mock.call(session.id, mock.ANY)]
        self.assertEqual(self.told()[told:], [*another, mock.call().close(done=False)])

    def test_what_a_reaper_cannot_be_told_to_remove_is_stopped_here(self) -> None:
        session = sessions.current()
        session.lend(MemoryService())
        self.reaper.return_value.send.side_effect = BrokenPipeError
        with mock.patch.object(MemoryInstance, "removal", return_value=("DELETE /containers/1", "/docker.sock")):
            session.close()
        self.reaper.return_value.send.assert_called_once_with("/docker.sock", "DELETE /containers/1")
        self.assertEqual(self.engines[0].events, [START, "stop memory:1", "close"])
        self.assertEqual(self.told()[-1], mock.call().close(done=True))

    def test_nothing_is_left_to_a_reaper_that_ends_with_this_process(self) -> None:
        session = sessions.current()
        session.lend(MemoryService())
        self.reaper.return_value.outlives_us = False
        with mock.patch.object(MemoryInstance, "removal", return_value=("DELETE /containers/1", "/docker.sock")):
            session.close()
        self.assertEqual(self.engines[0].events, [START, "stop memory:1", "close"])
        self.assertEqual(self.told()[1:], [mock.call().close(done=True)])

    def test_a_reaper_takes_over_where_something_broke_into_a_start(self) -> None:
        session = sessions.current()
        with (
            mock.patch.object(MemoryService, "connect", side_effect=KeyboardInterrupt),
            self.assertRaises(KeyboardInterrupt),
        ):
            session.lend(MemoryService())
        session.close()
        self.assertEqual(self.told()[1:], [mock.call().close(done=False)])

    def test_a_reaper_looks_for_what_a_failing_start_has_left(self) -> None:
        """Docker may have been out of reach when it was to be removed, and answer again for another attempt."""
        connect, service = MemoryService.connect, MemoryService()
        outcomes = iter([StartError("not ready"), PortTaken("somebody else's"), None])

        def failing(service: MemoryService, *arguments: Any) -> Any:
            if (error := next(outcomes)) is not None:
                raise error
            return connect(service, *arguments)

        gone = mock.patch.object(MemoryInstance, "stop", side_effect=ItestError("Docker does not answer"))
        with mock.patch.object(MemoryService, "connect", failing):
            session = sessions.current()
            with gone, self.assertRaises(StartError):
                session.lend(service)
            session.close()
            self.assertEqual(self.told()[-1], mock.call().close(done=False))
            session = sessions.current()
            with gone:
                session.lend(service)
            session.close()
            self.assertEqual(self.told()[-1], mock.call().close(done=False))

    def test_a_reaper_takes_over_what_could_not_be_stopped(self) -> None:
        session = sessions.current()
        session.lend(MemoryService())
        with (
            mock.patch.object(MemoryInstance, "stop", side_effect=OSError("no daemon")),
            mock.patch.object(sys, "__stderr__", io.StringIO()),
        ):
            session.close()
        self.assertEqual(self.told()[1:], [mock.call().close(done=False)])

    def test_a_reaper_takes_over_what_could_not_be_stopped_before_the_runs_end(self) -> None:
        for scope in ("class", "test"):
            with (
                self.subTest(scope),
                mock.patch.object(MemoryInstance, "stop", side_effect=OSError("no daemon")),
                mock.patch.object(sys, "__stderr__", io.StringIO()) as said,
            ):
                run(case(MemoryService(scope=scope)))
                self.assertEqual(said.getvalue(), "itest: could not stop Memory: no daemon\n")
                self.assertEqual(self.told()[-1], mock.call().close(done=False))


class StandardDescriptorsTest(unittest.TestCase):
    def test_those_that_are_closed_are_never_those_of_our_own_files(self) -> None:
        """With 0 free, the pipe that guards Docker Compose was lost to the standard input of its child."""
        code = (
            "import os; from itest.config import load; from itest.session import Session; Session(load()).close(); "
            "opened = os.open(os.devnull, os.O_RDONLY); os.fstat(0), os.fstat(1), os.fstat(2); "
            "raise SystemExit(opened < 3)"
        )
        for closed in ("0<&-", "0<&- 1<&-", "2<&-"):
            with self.subTest(closed):
                command = ["sh", "-c", f'exec "$0" -W error -c "$1" {closed}', sys.executable, code]
                done = subprocess.run(command, capture_output=True, timeout=60, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)


class EnginesTest(unittest.TestCase):
    """Which engines the settings allow, in which order."""

    def test_docker_is_preferred_and_a_setting_decides(self) -> None:
        for settings, names in (
            ({}, ["docker", "process"]),
            ({"engine": "process"}, ["process"]),
            ({"engine": "docker"}, ["docker"]),
            ({"require": "docker"}, ["docker"]),
            ({"require": "1"}, ["docker", "process"]),
            ({"engine": "process", "require": "docker"}, []),
        ):
            with self.subTest(settings):
                engines = choosing.allowed(Config(**settings))  # type: ignore[arg-type]  # strings, every one
                self.assertEqual([engine.name for engine in engines], names)
                for engine in engines:
                    engine.close()

    def test_why_docker_that_is_there_is_passed_over_is_told_once(self) -> None:
        place = Path(self.enterContext(tempfile.TemporaryDirectory()), "docker.sock")
        config = Config(environment={"DOCKER_HOST": f"unix://{place}"})
        self.enterContext(mock.patch.object(packages, "_stranger", return_value="/tests/docker.py"))
        self.enterContext(mock.patch.object(ProcessEngine, "unavailable", return_value=None))
        for there in (False, True):
            if there:
                listening = self.enterContext(socket.socket(socket.AF_UNIX))
                listening.bind(str(place))
                listening.listen()
            engines = Engines(config)
            self.addCleanup(engines.close)
            self.assertEqual([engine.name for engine in engines.usable()], ["process"])
            self.assertRegex(
                engines.passed_over(), r"^Docker answers at .* first, /tests/docker\.py: " if there else "^$"
            )
            self.assertEqual(engines.passed_over(), "")

    def test_so_is_why_docker_that_was_asked_for_or_is_forbidden_is(self) -> None:
        place = self.enterContext(tempfile.TemporaryDirectory())
        path = f"{place}/docker.sock"
        listening = self.enterContext(socket.socket(socket.AF_UNIX))
        listening.bind(
            path
        )  # To be refused as one is who may not use it: nobody is kept from anything where root runs tests.
        self.enterContext(mock.patch.object(docker_address, "_connect_unix", side_effect=PermissionError(13, "no")))
        self.enterContext(mock.patch.object(os, "access", return_value=False))
        self.enterContext(mock.patch.object(ProcessEngine, "unavailable", return_value=None))
        for environment, reason in (
            ({"DOCKER_HOST": f"unix://{path}"}, "^this user may not use the Docker socket "),
            ({"DOCKER_CONTEXT": "gone", "HOME": place}, "^the docker context 'gone' .* cannot be read"),
            ({"DOCKER_HOST": f"unix://{place}/hidden/docker.sock"}, "^$"),
        ):
            with self.subTest(reason):
                engines = Engines(Config(environment=environment))
                self.addCleanup(engines.close)
                self.assertEqual([engine.name for engine in engines.usable()], ["process"])
                self.assertRegex(engines.passed_over(), reason)

    def test_settings_that_contradict_each_other_say_so(self) -> None:
        session = Session(Config(engine="process", require="docker", quiet=True))
        self.addCleanup(session.close)
        with self.assertRaises(ItestError) as caught:
            session.lend(MemoryService())
        self.assertEqual(
            str(caught.exception),
            "nothing here can run Memory: the settings engine = 'process' and require = 'docker' leave no engine",
        )


class MemoryEngineTest(unittest.TestCase):
    def test_commands_have_the_answers_that_were_given(self) -> None:
        engine = MemoryEngine()
        with testing.session(engine) as session:
            instance = session.lend(MemoryService()).instance
            engine.instances[0].answers["date",] = ExecResult(0, "today", "")
            self.assertEqual(instance.exec(["date"]), (0, "today", ""))
