# SPDX-License-Identifier: Apache-2.0
"""Apps on threads of this process: real uvicorn, real waitress, and what is left of them afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import io
import logging
import os
import socket
import sys
import tempfile
import threading
import traceback
import unittest
import urllib.request
from pathlib import Path
from typing import Any
from unittest import mock

import uvicorn

from itest import early_reads, naming, testing
from itest.clock import Deadline, wall
from itest.config import Config
from itest.engines import Endpoint, thread, thread_asgi
from itest.engines.thread import ThreadEngine, ThreadInstance
from itest.errors import DeclarationError, ItestError, StartError, StartTimeout, StopError
from itest.spec import ContainerSpec, ThreadSpec
from itest.trace import Recorder
from tests.clocks import StopsUntil

LOGGER = logging.getLogger("tests.app")


async def answer(send: Any, text: str) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Says what stands in the variable that its path names. Knows no lifespan."""
    if scope["type"] != "http":
        raise ValueError(f"what is {scope['type']}?")
    LOGGER.warning("ready: %s", scope["path"])
    await asyncio.to_thread(LOGGER.warning, "on a thread")
    if scope["path"] == "/exit":
        asyncio.get_running_loop().call_soon(sys.exit, 3)  # uvicorn survives it in a request.
    if scope["path"] == "/boom":
        raise ValueError("boom")
    await answer(send, os.environ.get(scope["path"][1:], ""))


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    if environ["PATH_INFO"] == "/boom":
        raise ValueError("boom")
    LOGGER.warning("ready: %s", environ["PATH_INFO"])
    start_response("200 OK", [])
    return [os.environ.get(environ["PATH_INFO"][1:], "").encode()]


class Lifespan:
    """An app whose lifespan does what is asked for."""

    def __init__(self, start: Any = None, end: Any = None, report: bool = True) -> None:
        self.start, self.end, self.report = start, end, report
        self.ended = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await answer(send, str(scope["state"]["number"]))
            return
        for function, step in ((self.start, "startup"), (self.end, "shutdown")):
            await receive()
            try:
                if function:
                    await function()
            except Exception as error:
                await send({"type": f"lifespan.{step}.failed", "message": f"it failed: {error}"})
                if self.report:
                    raise
                return
            scope["state"]["number"] = 7
            await send({"type": f"lifespan.{step}.complete"})
        self.ended = True


async def fail() -> None:
    raise RuntimeError("no database")


class EngineTestCase(unittest.TestCase):
    def setUp(self) -> None:
        self.engine = ThreadEngine()
        self.labels = {naming.SESSION: naming.session_id(), naming.SERVICE: "app"}
        self.enterContext(mock.patch.dict(os.environ, {"BEFORE": "before"}))
        self.environment = dict(os.environ)
        self.threads = set(threading.enumerate())
        self.addCleanup(self.check_nothing_is_left)

    def check_nothing_is_left(self) -> None:
        self.assertEqual(dict(os.environ), self.environment)
        self.assertEqual(set(threading.enumerate()) - self.threads, set())
        self.assertEqual(self.engine.find({}), [])

    def start(self, app: Any, interface: str = "asgi", seconds: float = 10.0, **fields: Any) -> ThreadInstance:
        spec = ThreadSpec(app, interface, **fields)
        instance = self.engine.start(spec, self.labels, Deadline.after(seconds), Recorder())
        self.addCleanup(instance.stop)
        return instance

    def get(self, instance: ThreadInstance, path: str = "/") -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{instance.endpoint()}{path}", timeout=10) as response:
            return str(response.read().decode())

    def module(self, source: str) -> str:
        place = self.enterContext(tempfile.TemporaryDirectory(prefix="test-itest-"))
        name = f"app_{os.path.basename(place).replace('-', '_')}"
        Path(place, f"{name}.py").write_text(source)
        self.enterContext(mock.patch.object(sys, "path", [place, *sys.path]))
        self.addCleanup(sys.modules.pop, name, None)
        return name


class StartTest(EngineTestCase):
    def test_each_interface_answers_in_its_environment_which_is_undone(self) -> None:
        for app, interface in ((asgi, "asgi"), (wsgi, "wsgi")):
            with self.subTest(interface):
                instance = self.start(app, interface, env={"BEFORE": "at {endpoint:http}", "NEW": "1"})
                self.assertEqual(self.get(instance, "/BEFORE"), f"at {instance.endpoint()}")
                self.assertEqual(self.get(instance, "/NEW"), "1")
                self.assertEqual(instance.endpoint().host, "127.0.0.1")
                instance.stop()
                self.assertFalse(instance.state().running)
                self.assertEqual((os.environ["BEFORE"], "NEW" in os.environ), ("before", False))
                with self.assertRaises(OSError):
                    self.get(instance)

    @unittest.skipUnless(sys.platform == "linux", "other systems have one address of the loopback")
    def test_it_listens_at_another_address_too_and_ends(self) -> None:
        for app, interface in ((asgi, "asgi"), (wsgi, "wsgi")):
            with self.subTest(interface):
                instance = self.start(app, interface, host="127.0.0.2")
                other = Endpoint("127.0.0.2", instance.endpoint().port)
                for endpoint in (instance.endpoint(), other):
                    with urllib.request.urlopen(f"http://{endpoint}/BEFORE", timeout=10) as response:
                        self.assertEqual(response.read(), b"before")
                instance.stop()
                self.check_nothing_is_left()
                for endpoint in (instance.endpoint(), other):
                    with self.assertRaises(OSError):
                        socket.create_connection(endpoint, timeout=5)

    def test_two_that_agree_share_a_variable_and_two_that_do_not_are_refused(self) -> None:
        first, second = self.start(asgi, env={"A": "1", "B": "1"}), self.start(asgi, env={"A": "1", "C": "1"})
        with self.assertRaisesRegex(
            DeclarationError,
            r"^WSGI app .*:wsgi sets A, and so does ASGI app .*:asgi to another value, while both live in this process, "
            r"which has one environment: run one of them with App.command$",
        ):
            self.start(wsgi, "wsgi", env={"D": "1", "A": "2"})
        self.assertNotIn("D", os.environ)
        first.stop()
        self.assertEqual(self.get(second, "/A"), "1")
        self.assertNotIn("B", os.environ)

    def test_the_lifespan_begins_and_ends_and_its_state_is_there(self) -> None:
        app = Lifespan()
        instance = self.start(app)
        self.assertEqual(self.get(instance), "7")
        self.assertIs(instance.app, app)
        instance.stop()
        self.assertTrue(app.ended)

    def test_a_factory_by_itself_or_as_told(self) -> None:
        self.assertIs(self.start(lambda: asgi).app, asgi)
        self.assertIs(self.start(lambda number=1: asgi, factory=True).app, asgi)
        app = Lifespan()
        self.assertIs(self.start(app, factory=None).app, app)
        for factory in (None, True):
            with self.assertRaisesRegex(
                StartError, "it is no app but 7|its factory raised TypeError|could not be started"
            ):
                self.start(lambda: 7, factory=factory)

    def test_it_is_started_again_at_the_same_address(self) -> None:
        apps: list[Lifespan] = []

        def create() -> Lifespan:
            apps.append(Lifespan())
            return apps[-1]

        for interface, app in (("asgi", create), ("wsgi", wsgi)):
            with self.subTest(interface):
                instance = self.start(app, interface, env={"A": "1"})
                endpoint = instance.endpoint()
                instance.restart()
                self.assertEqual((instance.endpoint(), instance.state().running), (endpoint, True))
                self.assertEqual(self.get(instance, "/A"), "7" if interface == "asgi" else "1")
                instance.stop()
        self.assertEqual([app.ended for app in apps], [True, True])
        self.assertIsNot(apps[0], apps[1])

    def test_one_app_in_two_places(self) -> None:
        first, second = self.start(asgi), self.start(asgi)
        self.assertNotEqual(first.endpoint(), second.endpoint())
        self.get(first, "/one")
        self.get(second, "/two")
        self.assertIn("/one", first.logs())
        self.assertNotIn("/two", first.logs())


class EarlyTest(EngineTestCase):
    """What an app may have read before its environment was set is told."""

    def setUp(self) -> None:
        super().setUp()
        self.engine = ThreadEngine(Config())
        self.said = self.enterContext(mock.patch.object(thread, "say"))
        self.name = self.module(f"from {__name__} import asgi as app\n\ndef create(): return app\n")

    def test_a_module_that_was_imported_before_is_told_once(self) -> None:
        importlib.import_module(self.name)
        story = (
            f"{self.name} was imported (by the tests?) before itest set A, B: what it read then is not the tests'; let a "
            f"factory or the lifespan read it, or use App.command"
        )
        for _ in range(2):
            instance = self.start(f"{self.name}:app", env={"A": "1", "B": "2"})
            self.assertEqual(instance.early, story)
        self.said.assert_called_once_with(story)

    def test_an_object_is_older_than_its_environment_too(self) -> None:
        self.assertRegex(
            self.start(asgi, env={"A": "1"}).early, rf"^ASGI app {__name__}:asgi was made before itest set A: "
        )
        self.said.assert_called_once()

    def test_nothing_is_told_of_what_reads_its_own_environment(self) -> None:
        for _ in range(2):  # The second time it is there, as the first has left it.
            self.start(f"{self.name}:app", env={"A": "1"})
        self.start(asgi)
        other = self.module(f"from {__name__} import asgi as app\n\ndef create(): return app\n")
        importlib.import_module(other)
        self.start(f"{other}:create", env={"A": "1"})
        self.start(f"{other}:app")
        self.said.assert_not_called()

    def test_what_a_module_read_while_migrations_ran_is_told_of_a_factory_too(self) -> None:
        read = self.module("import os\n\nVALUES = [os.environ.get(name) for name in 'ABC']\n")
        with early_reads.noted():
            importlib.import_module(read)
        for app in (f"{self.name}:app", f"{self.name}:create", lambda: asgi):
            with self.subTest(app):
                self.assertEqual(
                    self.start(app, env={"A": "1", "B": "2", "D": "3"}).early,
                    f"{read} read A, B while migrations ran, before the app's env was set: what it read then is not the tests'; "
                    f"let a factory or the lifespan read it, or use App.command",
                )
        self.said.assert_called_once()

    def test_not_if_it_is_to_be_quiet(self) -> None:
        self.engine = ThreadEngine(Config(quiet=True))
        self.start(asgi, env={"A": "1"})
        self.said.assert_not_called()


class FailureTest(EngineTestCase):
    def refuse(self, text: str, app: Any, interface: str = "asgi", **fields: Any) -> StartError:
        with self.assertRaisesRegex(StartError, text) as caught:
            self.start(app, interface, **fields)
        return caught.exception

    def test_an_app_that_fails_when_it_is_imported_with_its_traceback(self) -> None:
        name = self.module("def connect():\n    raise KeyError('DATABASE_URL')\n\nconnect()\n")
        error = self.refuse(
            rf"^ASGI app {name}:app could not be started: importing {name} raised KeyError: 'DATABASE_URL'$",
            f"{name}:app",
        )
        text = "".join(traceback.format_exception(error))
        self.assertIn(f'{name}.py", line 2, in connect', text)
        name = self.module("import sys\nsys.exit('no settings')\n")
        self.refuse("raised SystemExit: no settings", f"{name}:app")
        name = self.module("import no_such_package\n")
        self.refuse(rf"importing {name} raised ModuleNotFoundError: No module named 'no_such_package'", f"{name}:app")

    def test_a_module_that_is_not_there(self) -> None:
        self.refuse(
            rf"^WSGI app no_such.place:app could not be started: there is no module 'no_such' on sys.path; the current "
            rf"directory is {os.getcwd()}, so run the tests from where it can be imported, or set PYTHONPATH$",
            "no_such.place:app",
            "wsgi",
        )

    def test_a_name_that_is_not_there(self) -> None:
        self.refuse(rf"{__name__} has no 'asgy'; did you mean 'asgi'\?$", f"{__name__}:asgy")

    def test_a_factory_that_fails(self) -> None:
        def create() -> Any:
            raise RuntimeError("no settings")

        error = self.refuse(r"its factory raised RuntimeError: no settings$", create)
        self.assertIsInstance(error.__cause__, RuntimeError)

    def test_a_factory_that_needs_an_argument(self) -> None:
        def create_app(config: str, *, debug: bool = False, **settings: Any) -> Any:
            raise AssertionError("it is not called")

        told = "could not be started: create_app takes config, so it is no"
        self.refuse(
            rf"{told} WSGI app and no factory without arguments: App\.wsgi\(lambda: create_app\(\.\.\.\)\)$",
            create_app,
            "wsgi",
        )
        self.refuse(rf"{told} ASGI app and no factory without arguments: App\.asgi", create_app)
        self.refuse(r"takes config, so it is no WSGI app .*: App\.wsgi\(lambda: \.\.\.\)$", lambda config: wsgi, "wsgi")

    def test_an_app_of_asgi_2(self) -> None:
        class Old:
            def __init__(self, scope: Any) -> None: ...

        self.refuse(
            r"Old takes the scope alone, as apps of ASGI 2 do, and must be one of ASGI 3: "
            r"App\.asgi\(guarantee_single_callable\(Old\)\), which asgiref\.compatibility has$",
            Old,
        )

    def test_an_app_of_the_other_interface(self) -> None:
        self.refuse(r"wsgi takes environ, start_response, so it is no ASGI app and no factory .*: use App\.wsgi$", wsgi)
        self.refuse(
            r"asgi takes scope, receive, send, so it is no WSGI app and no factory .*: use App\.asgi$", asgi, "wsgi"
        )

    def test_apps_that_are_called_in_other_ways(self) -> None:
        class Wrapped:
            def __call__(self, *args: Any) -> Any:
                return wsgi(*args)

        def wrapped(*args: Any) -> Any:
            return wsgi(*args)

        functools.update_wrapper(wrapped, lambda request: None)
        for app in (Wrapped(), wrapped, functools.partial(lambda number, environ, start: wsgi(environ, start), 1)):
            self.assertEqual(self.get(self.start(app, "wsgi", env={"A": "1"}, factory=False), "/A"), "1")

    def test_a_lifespan_that_fails_with_its_traceback(self) -> None:
        error = self.refuse(r"could not be started: it raised RuntimeError: no database$", Lifespan(fail))
        text = "".join(traceback.format_exception(error))
        self.assertIn("in fail\n", text)
        error = self.refuse(
            r"could not be started: its lifespan reports that it failed, see its log below$",
            Lifespan(fail, report=False),
        )
        self.assertIn("it failed: no database", error.__notes__[0])

    def test_a_lifespan_that_fails_behind_a_uvicorn_which_goes_on_to_its_end(self) -> None:
        starting = uvicorn.Server.startup

        async def startup(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
            with contextlib.suppress(SystemExit):  # As 0.34 does.
                await starting(server, sockets)
            server.should_exit = server.should_exit or server.lifespan.should_exit

        going = threading.Event()
        serving = thread_asgi.AsgiServing._serve

        async def serve(self: thread_asgi.AsgiServing) -> None:
            await serving(self)
            going.wait(10)  # The thread lives on while it is asked about.

        self.addCleanup(going.set)
        self.enterContext(mock.patch.object(uvicorn.Server, "startup", startup))
        self.enterContext(mock.patch.object(thread_asgi.AsgiServing, "_serve", serve))
        self.refuse(r"could not be started: it raised RuntimeError: no database$", Lifespan(fail))
        self.refuse(r"could not be started: its lifespan reports that it failed", Lifespan(fail, report=False))

    def test_a_lifespan_that_hangs(self) -> None:
        cancelled, hangs = [], threading.Event()

        async def hang() -> None:
            LOGGER.warning("waiting for the other one")
            hangs.set()
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.append(True)

        with self.assertRaisesRegex(StartTimeout, r"did not start within 0\.3 s: .* raise startup_timeout$") as caught:
            deadline = Deadline.after(0.3, StopsUntil(hangs.is_set))
            self.engine.start(ThreadSpec(Lifespan(hang), "asgi"), self.labels, deadline, Recorder())
        self.assertIn("waiting for the other one", caught.exception.__notes__[0])
        self.assertEqual(cancelled, [True])

    def test_what_was_late_is_told_apart(self) -> None:
        self.assertEqual(thread._late(6.04, 2.0), "importing it, or its factory, took 6.0 s")
        self.assertEqual(thread._late(0.1, 2.0), "its lifespan has not come to an end of its start")

    def test_a_lifespan_whose_end_fails(self) -> None:
        instance = self.start(Lifespan(end=fail))
        with self.assertRaisesRegex(
            StopError, r"^the end of the lifespan of thread .* raised RuntimeError: no database$"
        ):
            instance.stop()
        instance.stop()

    def test_a_lifespan_that_does_not_end(self) -> None:
        async def hang() -> None:
            await asyncio.Event().wait()

        instance = self.start(Lifespan(end=hang))
        with (
            mock.patch("itest.engines.thread.STOP_WAIT", 0.3),
            mock.patch("itest.engines.thread.CANCEL_WAIT", 60.0),
            self.assertRaisesRegex(
                StopError,
                r"^the end of the lifespan of thread .* had not come 0\.3 s after the app was stopped, and its lifespan was "
                r"cancelled: after its `yield`, let it cancel what does not end by itself$",
            ) as caught,
        ):
            instance.stop()
        frames = traceback.extract_tb(caught.exception.__cause__.__traceback__)  # type: ignore[union-attr]  # it has one
        self.assertIn("hang", [each.name for each in frames])

    def test_an_app_that_exits(self) -> None:
        instance = self.start(asgi)
        with contextlib.suppress(OSError):  # The answer may be on its way.
            self.get(instance, "/exit")
        deadline = Deadline.after(10)
        while instance.state().running and not deadline.passed:
            deadline.pause(0.01)
        self.assertEqual(str(instance.state()), "ended by SystemExit: 3")

    def test_a_request_that_does_not_end_is_cut_off(self) -> None:
        ended = threading.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "http"
            try:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(60)
            finally:
                ended.set()

        with mock.patch("itest.engines.thread_asgi.GRACE", 0.2):
            instance = self.start(app)
        with urllib.request.urlopen(f"http://{instance.endpoint()}/", timeout=10) as response:
            response.read(1)
            instance.stop()
            self.assertTrue(ended.wait(60))

    def test_a_thread_that_cannot_be_ended_is_told(self) -> None:
        release = threading.Event()

        async def block() -> None:
            release.wait(60)

        instance = self.start(Lifespan(end=block))
        self.assertStuck(instance, "has not ended: its thread is busy, and ends with this process", release)

    def test_headers_that_can_be_read_once_arrive(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "http"
            headers = ((name, b"yes") for name in (b"x-first", b"x-second"))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.start(app).endpoint()}/", timeout=10) as response:
            self.assertEqual((response.headers["x-first"], response.headers["x-second"]), ("yes", "yes"))

    def test_the_request_that_keeps_a_thread_busy_is_told(self) -> None:
        release = threading.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "http"
            await answer(send, "x")
            release.wait(60)

        instance = self.start(app)
        self.assertEqual(self.get(instance, "/block"), "x")
        self.assertStuck(instance, "its thread is busy with GET /block, and ends with this process", release)

    def assertStuck(self, instance: ThreadInstance, said: str, release: threading.Event) -> None:
        """It cannot be stopped, and says so; its thread is released then."""
        with (
            mock.patch("itest.engines.thread.STOP_WAIT", 0.3),
            mock.patch("itest.engines.thread.CANCEL_WAIT", 0.1),
            self.assertRaisesRegex(ItestError, said),
        ):
            instance.stop()
        release.set()
        assert instance._thread is not None
        instance._thread.join(60)

    def test_only_threads(self) -> None:
        with self.assertRaisesRegex(TypeError, "cannot run image web:1"):
            self.engine.start(ContainerSpec("web:1"), self.labels, Deadline.after(1), Recorder())


class LogTest(EngineTestCase):
    def test_what_app_and_server_say_is_its_log_and_not_on_standard_error(self) -> None:
        for app, interface, server in ((asgi, "asgi", "uvicorn.error"), (wsgi, "wsgi", "waitress")):
            with self.subTest(interface), contextlib.redirect_stderr(io.StringIO()) as stderr:
                instance = self.start(app, interface)
                self.get(instance, "/hello")
                with self.assertRaises(OSError):
                    self.get(instance, "/boom")
                logging.getLogger("tests.other").warning("not the app's")
                instance.stop()
                text = instance.logs()
                self.assertIn("WARNING: tests.app: ready: /hello\n", text)
                self.assertRegex(text, rf"ERROR: {server}: Exception.*\nTraceback(.*\n)+ValueError: boom\n")
                self.assertEqual(instance.logs(tail=0), "")
                self.assertEqual(len(instance.logs(tail=2).splitlines()), 2)
                self.assertEqual(instance.logs(since=wall() + 60), "")
                self.assertNotIn("not the app's", text)
                self.assertEqual(stderr.getvalue(), "not the app's\n")
        self.assertIn("on a thread", self.log_of(asgi))

    def test_a_thread_that_calls_the_app_itself_does_not_become_the_apps(self) -> None:
        instance = self.start(wsgi, "wsgi", env={"A": "1"})
        started: list[Any] = []
        self.assertEqual(instance.served({"PATH_INFO": "/A"}, lambda *args: started.append(args)), [b"1"])
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            LOGGER.warning("mine")
        self.assertEqual((stderr.getvalue(), len(started)), ("mine\n", 1))
        self.assertEqual(instance.logs(), "WARNING: tests.app: ready: /A\n")

    def test_a_handler_that_writes_to_wsgi_errors_says_nothing_twice(self) -> None:
        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            handler = logging.StreamHandler(environ["wsgi.errors"])
            LOGGER.addHandler(handler)
            try:
                LOGGER.warning("two\nlines")
            finally:
                LOGGER.removeHandler(handler)
            print("lines", file=environ["wsgi.errors"])
            return wsgi(environ, start_response)

        instance = self.start(app, "wsgi", env={"A": "1"})
        self.get(instance, "/A")
        self.assertIn("WARNING: tests.app: two\nlines\nlines\nWARNING: tests.app: ready", instance.logs())

    def log_of(self, app: Any) -> str:
        instance = self.start(app)
        self.get(instance)
        return instance.logs()

    def test_logging_is_as_it_was(self) -> None:
        def state() -> Any:
            loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "waitress")]
            last = logging.lastResort
            return (
                logging.getLogRecordFactory(),
                [(logger.level, logger.propagate, list(logger.handlers)) for logger in [logging.root, *loggers]],
                last and list(last.filters),
            )

        before = state()
        first, second = self.start(asgi), self.start(wsgi, "wsgi")
        first.stop()
        self.assertNotEqual(state(), before)
        second.stop()
        self.assertEqual(state(), before)

    def test_the_users_own_logging_goes_on(self) -> None:
        seen: list[str] = []

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                seen.append(record.getMessage())

        handler = Handler()
        logging.root.addHandler(handler)
        self.addCleanup(logging.root.removeHandler, handler)
        self.assertIn("ready: /", self.log_of(asgi))
        self.assertIn("ready: /", seen)
        self.assertEqual([text for text in seen if "server process" in text], [])

    def test_arguments_that_do_not_fit_the_message(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            with mock.patch.object(logging, "raiseExceptions", False):
                LOGGER.warning("%d of them", "many")
            await answer(send, "")

        self.assertIn("WARNING: tests.app: %d of them\n", self.log_of(app))


class ExecTest(EngineTestCase):
    def test_a_command(self) -> None:
        instance = self.start(asgi, env={"A": "1"})
        result = instance.exec(["sh", "-c", "echo $A; echo oops >&2; exit 3"])
        self.assertEqual(result, (3, "1\n", "oops\n"))
        self.assertEqual(instance.exec(["no-such-program"]).exit_code, 127)
        with self.assertRaisesRegex(
            TimeoutError, r"^`sleep 20` beside thread .* had not ended after 0\.1 s; if it only"
        ):
            instance.exec(["sleep", "20"], timeout=0.1)


class ThreadConformance(testing.EngineConformance):
    """The whole contract of engines."""

    def engine(self) -> ThreadEngine:
        return ThreadEngine()

    def spec(self) -> ThreadSpec:
        def make() -> Any:
            LOGGER.warning("ready")
            return asgi

        return ThreadSpec(make, "asgi")
