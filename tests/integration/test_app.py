# SPDX-License-Identifier: Apache-2.0
"""Apps under test: that they stay up while data is reset under them, and what is told of those that do not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock
from urllib.parse import urlsplit

import httpx
import psycopg2
import redis as client
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from flask import Flask, Response
from sqlalchemy import Engine, NullPool, create_engine

from itest import App, AsyncContainerTestCase, ContainerTestCase, Postgres, Redis, testing
from itest.clock import Deadline
from itest.diagnose import HEAD
from itest.engines import directory
from itest.errors import NotStarted
from itest.services.app import AppView
from itest.wait import http, log
from tests.integration import apps
from tests.integration.needs import need_docker
from tests.unit.inner import run

ROOT = Path(__file__).resolve().parents[2]

TABLE = Postgres(migrations=lambda view: view.execute("CREATE TABLE rows (id int GENERATED ALWAYS AS IDENTITY)"))

API = [sys.executable, "-m", "uvicorn", "--factory", "tests.integration.apps:create_api", "--port", "{port}"]


class InnerTest(unittest.TestCase):
    """Runs inner test classes in a session of their own."""

    settings: ClassVar[dict[str, Any]] = {"engine": "process"}

    def setUp(self) -> None:
        self.environment = dict(os.environ)
        self.addCleanup(lambda: self.assertEqual(dict(os.environ), self.environment))
        self.session = self.enterContext(testing.session(quiet=True, **self.settings))

    def check(self, *classes: type[unittest.TestCase], ran: int, failures: int = 0, errors: int = 0) -> list[str]:
        """Run them, check the counts, and give the texts of what went wrong."""
        result = run(*classes)
        texts = [text for _, text in [*result.failures, *result.errors]]
        found = (result.testsRun, len(result.failures), len(result.errors))
        self.assertEqual(found, (ran, failures, errors), "\n".join([*texts, *(text for _, text in result.skipped)]))
        return texts


class LiveMixin:
    """What each kind of app does while its data is reset under it."""

    def live(self, app: Any) -> Any:
        seen: list[int] = []

        class T(ContainerTestCase):
            postgres = TABLE.replace()
            redis = Redis()
            api = app
            urls: ClassVar[set[str]] = set()

            @classmethod
            def setUpTestData(cls) -> None:
                cls.postgres.execute(apps.INSERT)  # What is written now ends its connections before the first test.
                cls.urls.add(cls.api.url)

            def test_1(self) -> None:
                pids = set()
                for number in (2, 3):
                    response = self.api.client.post("/rows")
                    self.assertEqual(response.status_code, 200, self.api.logs())
                    answer = response.json()
                    self.assertEqual((answer["rows"], answer["hits"]), (number, number - 1))
                    pids.add(answer["pid"])
                self.assertEqual(self.postgres.execute("SELECT count(*) FROM rows"), [(3,)])
                self.urls.add(self.api.url)
                self.assertEqual((len(pids), len(self.urls)), (1, 1))
                seen.append(*pids)

            test_2 = test_1

            def test_3_makes_the_database_be_cloned_again(self) -> None:
                self.postgres.execute("CREATE TABLE extra ()")

            test_4 = test_5 = test_1

            @classmethod
            def tearDownClass(cls) -> None:
                if "site" in cls.api.server.version:
                    cls.api.client.get("/close")
                # One connection for two tests, and another one after the only reset that could not leave it alone.
                first, second, third, fourth = seen
                assert first == second and third == fourth != first, seen

        return T


class LiveTest(InnerTest, LiveMixin):
    def test_a_program(self) -> None:
        self.check(self.live(App.command(API, env=apps.ENV, directory=ROOT, ready=http("/who"))), ran=5)

    def test_asgi(self) -> None:
        self.check(self.live(App.asgi(apps.create_api, env=apps.ENV)), ran=5)

    def test_wsgi(self) -> None:
        self.check(self.live(App.wsgi("tests.integration.apps:create_site", env=apps.ENV)), ran=5)

    def test_that_its_sessions_were_ended_is_not_told_of_a_program_that_was_started_again_for_that(self) -> None:
        class Base(ContainerTestCase):
            postgres = TABLE.replace()
            redis = Redis()

            @classmethod
            def setUpTestData(cls) -> None:
                cls.postgres.execute(apps.INSERT)

            def test_1_fails(self) -> None:
                self.fail("for another reason")

            def test_2_makes_the_database_be_cloned_again(self) -> None:
                self.postgres.execute("CREATE TABLE extra ()")

            test_3_fails = test_1_fails

        program = App.command(API, env=apps.ENV, ready=http("/who"))
        thread = App.asgi(apps.create_api, env=apps.ENV)  # Whose module may have an engine of its own.
        for app, told in ((program, False), (thread, True)):
            with self.subTest(app.what):
                result = run(type("T", (Base,), {"api": app}))
                self.assertEqual((result.testsRun, result.errors), (3, []))
                self.assertEqual(["itest ended 1 session" in text for _, text in result.failures], [told] * 2)

    def test_the_database_of_another_class_is_told_of_an_app_that_keeps_its_url(self) -> None:
        engines: list[Engine] = []  # As a module has one that is imported once.

        def create() -> FastAPI:
            if not engines:
                engines.append(create_engine(os.environ["SQLALCHEMY_URL"], poolclass=NullPool))
            app = FastAPI()
            app.get("/rows")(lambda: engines[0].connect().close())
            return app

        class First(ContainerTestCase):
            postgres = TABLE.replace()
            api = App.asgi(create, env={"SQLALCHEMY_URL": "{postgres.sqlalchemy_url}"})
            names: ClassVar[list[str]] = []

            def test(self) -> None:
                self.names.append(self.postgres.name)
                self.assertEqual(self.api.client.get("/rows").status_code, 200)

        class Second(First):
            pass

        [text] = self.check(First, Second, ran=2, failures=1)
        told = f"\n  {First.names[0]} was another class's database, whose URL the app has kept since its import: make its engine"
        self.assertIn(told, text)
        self.assertNotIn(f"\n  {First.names[1]} was", text)


class DockerLiveTest(LiveTest):
    """The same with databases in containers: the app itself is a local process or a thread all the same."""

    settings: ClassVar[dict[str, Any]] = {"engine": "docker"}

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        need_docker()

    def test_a_container_reaches_its_neighbours_by_their_names(self) -> None:
        class T(ContainerTestCase):
            redis = Redis(decode_responses=True)
            app = App.container(
                "busybox:1.37",
                ports={"http": 80},
                command=["sh", "-c", 'mkdir /www; echo "$REDIS_URL" > /www/index.html; exec httpd -f -p 80 -h /www'],
                env={"REDIS_URL": "{redis.url}"},
                ready=http("/index.html"),
            )
            plain = App.container("busybox:1.37", ports={"web": 80}, command=["httpd", "-f", "-p", "80"])

            def test(self) -> None:
                url = self.app.client.get("/index.html").text.strip()
                self.assertEqual(url.partition("@")[2], f"redis:6379/{self.redis.database}")
                password = urlsplit(url).password
                commands = rf"AUTH {password}\r\nSELECT {self.redis.database}\r\nSET key value\r\nQUIT\r\n"
                result = self.app.exec(["sh", "-c", f"printf '{commands}' | nc redis 6379"])
                self.assertEqual(self.redis.client().get("key"), "value", result)
                self.assertEqual(self.plain.client.get("/no").status_code, 404)
                self.assertEqual(self.plain.port, int(self.plain.url.rpartition(":")[2]))

        self.check(T, ran=1)


class ViewTest(InnerTest):
    def test_an_app_in_this_process_is_at_hand_and_its_overrides_are_undone(self) -> None:
        class T(ContainerTestCase):
            redis = Redis()
            postgres = TABLE.replace()
            app = App.asgi(apps.create_api, env=apps.ENV)

            def test_1(self) -> None:
                self.assertEqual(self.app.client.get("/who").json(), "the real one")
                self.app.app.dependency_overrides[apps.who] = lambda: "another one"
                self.assertEqual(self.app.client.get("/who").json(), "another one")
                self.assertEqual(self.app.test_client.get("/who").json(), "another one")

            test_2 = test_1

            def test_what_the_app_raises_the_test_raises(self) -> None:
                self.assertEqual(self.app.client.get("/boom").status_code, 500)
                with self.assertRaisesRegex(ValueError, "^boom$"):
                    self.app.test_client.get("/boom")
                self.assertEqual(self.app.test_client.post("/rows", content=iter([b"a", b"b"])).status_code, 200)
                self.assertIn("ValueError: boom", self.app.logs())

            def test_the_traceback_is_there_once_the_answer_is(self) -> None:
                for _ in range(10):
                    before = self.app.logs().count("ValueError: boom")
                    self.app.client.get("/boom")
                    self.assertGreater(self.app.logs().count("ValueError: boom"), before)

            def test_cookies_are_the_tests_own(self) -> None:
                self.assertEqual(dict(self.app.client.cookies), {})
                self.app.client.get("/who")
                self.assertEqual(dict(self.app.client.cookies), {"seen": "yes"})

            def test_cookies_are_the_next_tests_own(self) -> None:
                self.test_cookies_are_the_tests_own()

            def test_addresses(self) -> None:
                self.assertEqual(self.app.url, f"http://127.0.0.1:{self.app.port}")
                self.assertEqual((self.app.host, self.app.env), ("127.0.0.1", {"APP_URL": self.app.url}))
                self.assertEqual(repr(self.app), f"<ThreadAppView {self.app.url}>")
                self.assertEqual(os.environ["DATABASE_URL"], self.postgres.url)

        class OverriddenTest(ContainerTestCase):
            app = App.asgi(app=apps.FastAPI())

            @classmethod
            def setUpTestData(cls) -> None:
                cls.app.app.dependency_overrides[apps.who] = len

            def test_1(self) -> None:
                self.assertEqual(self.app.app.dependency_overrides, {apps.who: len})
                self.app.app.dependency_overrides.clear()

            test_2 = test_1

        self.check(T, OverriddenTest, ran=9)
        [declared] = [each for name, each in OverriddenTest._itest_declarations if name == "app"]
        self.assertEqual(declared.app.dependency_overrides, {})  # type: ignore[attr-defined]  # a ThreadApp

    def test_wsgi_without_a_socket(self) -> None:
        class T(ContainerTestCase):
            redis = Redis()
            postgres = TABLE.replace()
            app = App.wsgi(apps.create_site, env=apps.ENV)

            def test(self) -> None:
                self.assertEqual(self.app.client.get("/boom").status_code, 500)
                self.app.app.testing = True  # Flask's own word for it.
                with self.assertRaisesRegex(ValueError, "^boom$"):
                    self.app.test_client.get("/boom")
                self.assertEqual(self.app.test_client.post("/rows").json()["rows"], 1)
                self.app.client.get("/close")

        self.check(T, ran=1)

    def test_async(self) -> None:
        class T(AsyncContainerTestCase):
            redis = Redis()
            postgres = TABLE.replace()
            app = App.asgi(apps.create_api, env=apps.ENV)

            async def test(self) -> None:
                async with self.app.aclient(headers={"a": "b"}) as client:
                    answer = await client.post("/rows")
                    self.assertEqual((answer.json()["rows"], answer.request.headers["a"]), (1, "b"))

        self.check(T, ran=1)

    def test_an_app_for_each_test(self) -> None:
        class T(ContainerTestCase):
            app = App.command(
                [sys.executable, "-c", "import time; print('up'); time.sleep(60)"], ready=log("up"), scope="test"
            )
            seen: ClassVar[set[str]] = set()

            def test_1(self) -> None:
                self.seen.add(self.app.server.instance.id)
                self.app.server.instance.stop()

            test_2 = test_1

            @classmethod
            def tearDownClass(cls) -> None:
                assert len(cls.seen) == 2

        self.check(T, ran=2)

    def test_a_function_says_when_it_is_ready(self) -> None:
        asked: list[str] = []

        def answers(view: AppView) -> bool:
            asked.append(view.url)
            return view.client.get("/design.md").is_success

        class T(ContainerTestCase):
            server: ClassVar = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"]
            app = App.command(server, directory=ROOT / "docs", ready=answers)

            def test(self) -> None:
                assert set(asked) == {self.app.url}

        self.check(T, ran=1)
        self.assertTrue(asked)

    def test_a_program_without_a_port(self) -> None:
        class T(ContainerTestCase):
            worker = App.command([sys.executable, "-c", "import time; print('up'); time.sleep(60)"], ready=log("up"))

            def test(self) -> None:
                for name in ("url", "host", "port", "env"):
                    with self.assertRaisesRegex(NotStarted, r"has no URL: nothing in its command or env says \{port\}"):
                        getattr(self.worker, name)
                self.assertIn("<AppView `", repr(self.worker))

        self.check(T, ran=1)

    def test_an_app_that_runs_elsewhere(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"external")

            def log_message(self, *args: Any) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            place = f"127.0.0.1:{server.server_port}"
            url = f"http://user:pw12345@{place}/"

            class T(ContainerTestCase):
                app = App.asgi(apps.create_api, external="APP_URL")

                def test(self) -> None:
                    self.assertEqual(self.app.client.get("/").text, "external")
                    self.assertEqual(self.app.url, url[:-1])
                    self.assertIsNone(self.app.app)
                    text = rf"does not run in this process but at http://user:\*\*\*@{place}: use `client`$"
                    with self.assertRaisesRegex(AttributeError, text):
                        self.app.test_client  # noqa: B018  # as above

            with testing.session(quiet=True, environment={**os.environ, "APP_URL": url}):
                self.check(T, ran=1)
            server.shutdown()


class RestTest(InnerTest):
    """That an app is done with what a test has asked of it before the data under it is reset."""

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(mock.patch("itest.services.app.thread.REST_WAIT", 60.0))

    def slow(self, done: threading.Event) -> FastAPI:
        app = FastAPI()

        async def write() -> None:
            await asyncio.sleep(0.1)  # The work that takes it longer than its answer.
            with client.Redis.from_url(os.environ["REDIS_URL"]) as cache:
                cache.incr("written")
            done.set()

        @app.post("/orders")
        def order(tasks: BackgroundTasks) -> None:
            tasks.add_task(write)

        return app

    def site(self, done: threading.Event) -> Flask:
        site = Flask(__name__)
        cache = client.Redis.from_url(os.environ["REDIS_URL"])

        def write() -> None:
            done.wait(0.1)
            cache.incr("written")
            cache.close()
            done.set()

        @site.post("/orders")
        def order() -> Response:
            response = Response("taken")
            response.call_on_close(write)
            return response

        return site

    def test_what_it_does_after_its_answer_is_of_the_test_that_asked(self) -> None:
        for app, make in ((App.asgi, self.slow), (App.wsgi, self.site)):
            done = threading.Event()

            class Base(ContainerTestCase):
                redis = Redis()
                api = app(lambda make=make, done=done: make(done), env={"REDIS_URL": "{redis.url}"})

                def test_1(self) -> None:
                    self.api.client.post("/orders")

                def test_2(self, done: threading.Event = done) -> None:
                    self.assertTrue(done.wait(10))
                    self.assertEqual(self.redis.client().keys(), [])

            with self.subTest(app.__name__):
                self.check(Base, ran=2)

    def test_that_of_the_set_up_is_of_the_baseline(self) -> None:
        done = threading.Event()

        class T(ContainerTestCase):
            redis = Redis()
            api = App.asgi(lambda: self.slow(done), env={"REDIS_URL": "{redis.url}"})

            @classmethod
            def setUpTestData(cls) -> None:
                cls.api.client.post("/orders")

            def test_1(self) -> None:
                self.assertTrue(done.wait(10))
                self.assertEqual(self.redis.client().get("written"), b"1")
                self.redis.client().delete("written")

            def test_2(self) -> None:
                self.assertEqual(self.redis.client().get("written"), b"1")

        self.check(T, ran=2)

    def test_what_does_not_end_is_told_once(self) -> None:
        app = FastAPI()

        @app.get("/never")
        async def never() -> None:
            await asyncio.Event().wait()

        class T(ContainerTestCase):
            api = App.asgi(app)

            def test_1(self) -> None:
                for _ in range(2):
                    with self.assertRaises(httpx.ReadTimeout):
                        self.api.client.get("/never?key=1", timeout=0.3)

            def test_2(self) -> None:
                self.api.client.get("/")

        with (
            mock.patch("itest.services.app.thread.REST_WAIT", 0.1),
            mock.patch("itest.engines.thread_asgi.GRACE", 0.1),
            mock.patch("itest.trace.say") as say,
        ):
            self.check(T, ran=2)
        told = next(each.args[0] for each in say.call_args_list if "left" in each.args[0])
        self.assertRegex(
            told,
            r"^tests\..*T\.test_1 left GET /never running in ASGI app fastapi\.applications:FastAPI, and 0\.1 s later it still "
            r"was: .*; wait there until it is done \(assertEventually\)$",
        )

    def test_of_a_transaction_that_is_left_it_is_told_that_it_may_be_the_apps(self) -> None:
        app = FastAPI()

        @app.post("/begin")
        def begin() -> None:
            app.state.connection = psycopg2.connect(os.environ["DATABASE_URL"])
            app.state.connection.cursor().execute("SELECT 1")

        class T(ContainerTestCase):
            postgres = TABLE.replace()
            api = App.asgi(app, env={"DATABASE_URL": "{postgres.url}"})

            def test_1(self) -> None:
                self.api.client.post("/begin")

            def test_2_fails(self) -> None:
                self.fail("for another reason")

        cure = (
            "if it is of api, wait in the test until that is done (assertEventually); else at its end (tearDown) call"
        )
        with mock.patch("itest.trace.say") as say:
            [text] = self.check(T, ran=2, failures=1)
        app.state.connection.close()
        [told] = [each.args[0] for each in say.call_args_list]
        self.assertIn(f"last statement: SELECT 1; {cure}", told)
        self.assertIn(f"test_1 left a session in a transaction, and itest ended it: {cure}", text)

    def streaming(self, kind: str) -> FastAPI:
        app = FastAPI()

        @app.get("/events")
        def events() -> StreamingResponse:
            async def each() -> AsyncIterator[bytes]:
                yield b"first"
                await asyncio.Event().wait()

            return StreamingResponse(each(), media_type=kind)

        return app

    def test_a_response_that_a_test_reads_on_is_no_work_of_the_apps(self) -> None:
        class T(ContainerTestCase):
            api = App.asgi(self.streaming("text/plain"))

            def test(self) -> None:
                client = self.api.client
                self.body = client.send(client.build_request("GET", "/events"), stream=True).iter_bytes()
                self.assertEqual(next(self.body), b"first")

        with mock.patch("itest.trace.say") as say:
            self.check(T, ran=1)
        self.assertEqual([each.args[0] for each in say.call_args_list if "left" in each.args[0]], [])

    def test_a_stream_of_events_lasts_for_as_long_as_its_client_wants(self) -> None:
        class T(ContainerTestCase):
            api = App.asgi(self.streaming("text/event-stream"))

            @classmethod
            def setUpClass(cls) -> None:
                super().setUpClass()
                cls.stream = cls.enterClassContext(httpx.stream("GET", f"{cls.api.url}/events"))

            def test(self) -> None:
                self.assertEqual(self.stream.status_code, 200)

        with mock.patch("itest.trace.say") as say:
            self.check(T, ran=1)
        self.assertEqual([each.args[0] for each in say.call_args_list if "left" in each.args[0]], [])


class ErrorTest(InnerTest):
    def error_of(self, app: Any) -> str:
        class T(ContainerTestCase):
            api = app

            def test(self) -> None:
                pass

        [text] = self.check(T, ran=0, errors=1)
        return text

    def test_a_module_that_was_imported_before_its_environment_is_in_the_note(self) -> None:
        class T(ContainerTestCase):
            api = App.asgi(FastAPI(), env={"DATABASE_URL": "x"})

            def test(self) -> None:
                self.fail("x")

        [text] = self.check(T, ran=1, failures=1)
        self.assertIn("FastAPI was made before itest set DATABASE_URL: what it read then is not", text)

    def test_an_engine_of_a_module_that_the_migrations_have_imported_is_in_the_note(self) -> None:
        place = self.enterContext(tempfile.TemporaryDirectory(prefix="test-itest-"))
        name = f"db_{os.path.basename(place).replace('-', '_')}"
        source = (
            "import os, sqlalchemy\nengine = sqlalchemy.create_engine(os.environ.get('DATABASE_URL', 'sqlite://'))\n"
        )
        Path(place, f"{name}.py").write_text(source, encoding="utf-8")
        self.enterContext(mock.patch.object(sys, "path", [place, *sys.path]))
        self.addCleanup(sys.modules.pop, name, None)

        class T(ContainerTestCase):
            postgres = Postgres(migrations=lambda view: __import__(name))
            api = App.asgi(FastAPI, env={"DATABASE_URL": "{postgres.sqlalchemy_url}"})

            def test(self) -> None:
                self.fail("x")

        [text] = self.check(T, ran=1, failures=1)
        self.assertIn(f"{name} read DATABASE_URL while migrations ran, before the app's env was set: ", text)

    def test_a_program_that_exits_at_once_with_its_traceback(self) -> None:
        text = self.error_of(
            App.command(
                [sys.executable, "-c", "def connect():\n    raise KeyError('DATABASE_URL')\nconnect()", "{port}"]
            )
        )
        self.assertRegex(text, r"InstanceDied: App \(`.*`\) ended before it was ready: exited with exit code 1, ")
        # Python 3.13 has the line too.
        self.assertRegex(text, r"in connect\n(  \|     .*\n)*  \| KeyError: 'DATABASE_URL'\n")

    def test_a_program_that_never_answers_with_its_log(self) -> None:
        code = "import time; print('waiting for the database'); time.sleep(60)"
        for seconds in (1, 20):  # On a busy machine Python itself may take longer to start.
            argv = [sys.executable, "-c", code, "{port}", str(seconds)]
            text = self.error_of(App.command(argv, startup_timeout=seconds))
            if "  | waiting" in text:
                break
        self.assertRegex(
            text, rf"StartTimeout: App \(`.*`\) did not become ready within {seconds} s, waiting for its port to accept"
        )
        self.assertIn("  | waiting for the database\n", text)

    def test_a_program_that_is_not_there(self) -> None:
        self.assertIn(
            "there is no program 'uvicron' on PATH (looked for in ", self.error_of(App.command("uvicron {port}"))
        )

    def test_a_lifespan_that_fails_with_its_traceback(self) -> None:
        with mock.patch.dict(os.environ):
            os.environ.pop("DATABASE_URL", None)
            text = self.error_of(App.asgi(apps.create_api))
        self.assertIn("in lifespan\n", text)
        self.assertRegex(
            text,
            "StartError: ASGI app tests.integration.apps:create_api could not be started: it raised KeyError"
            # By older versions of uvicorn, which only writes it down.
            "|InstanceDied: App .* ended before it was ready: .* A Python error has ended it: KeyError",
        )

    def test_a_lifespan_whose_end_fails(self) -> None:
        @contextlib.asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            yield
            raise RuntimeError("the pool is still in use")

        class T(ContainerTestCase):
            api = App.asgi(lambda: FastAPI(lifespan=lifespan))

            def test(self) -> None:
                self.assertEqual(self.api.client.get("/").status_code, 404)

        [text] = self.check(T, ran=1, errors=1)
        self.assertIn("in lifespan\n", text)
        self.assertRegex(text, "StopError: the end of the lifespan of .* raised RuntimeError: the pool is still in use")

    def test_an_app_that_dies_under_a_test(self) -> None:
        code = """
            import http.server, os, sys
            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    if self.path == "/exit":
                        print("good bye", flush=True)
                        os._exit(3)
                    self.send_response(200)
                    self.end_headers()
            http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
        """

        class Base(ContainerTestCase):
            app = App.command([sys.executable, "-c", textwrap.dedent(code), "{port}"])

            def test_1(self) -> None:
                self.assertEqual(self.app.client.get("/").status_code, 200)

        class First(Base):
            def test_2(self) -> None:
                with contextlib.suppress(Exception):
                    self.app.client.get("/exit")
                instance = self.app.server.instance
                deadline = Deadline.after(10)
                while instance.state().running and not deadline.passed:
                    deadline.pause(0.01)

            def test_3(self) -> None:
                raise AssertionError("it is not reached")

        class Second(Base):
            pass

        died, after = self.check(First, Second, ran=4, failures=1, errors=1)
        told = r"does not run any more: exited with exit code 3 during or after tests\..*First\.test_2\."
        self.assertRegex(
            died, rf"IsolationError: `.*` {told} A test that ends it on purpose needs an app of its own: scope="
        )
        self.assertRegex(after, rf"ResetError: `.*` {told} The next class gets a new one")
        for text, when in ((died, "under"), (after, "before")):
            self.assertIn("  | good bye\n", text)
            self.assertIn(f" ENDED {when} this test: exited with exit code 3; ", text)


class DriverTest(InnerTest):
    """What drivers say to a test, or to its app, has its cause in the note."""

    def test_a_client_without_the_servers_password(self) -> None:
        def create() -> FastAPI:
            app = FastAPI()
            app.get("/")(lambda: client.Redis(port=int(os.environ["REDIS_PORT"])).ping())
            return app

        class T(ContainerTestCase):
            redis = Redis()
            api = App.asgi(create, env={"REDIS_PORT": "{redis.port}", "REDIS_PASSWORD": "{redis.password}"})

            def test_1(self) -> None:
                with client.Redis(self.redis.host, self.redis.port, password=os.environ["REDIS_PASSWORD"]) as right:
                    right.ping()
                with client.Redis(self.redis.host, self.redis.port) as wrong:
                    wrong.ping()

            def test_2(self) -> None:
                self.assertEqual(self.api.client.get("/").status_code, 200)

        mine, the_apps = self.check(T, ran=2, failures=1, errors=1)[::-1]
        told = "Likely cause: the server has a password; connect with all of the URL, `self.redis.url` or"
        self.assertIn(f"{HEAD}\n{told}", mine)
        self.assertIn(f"\n  {told}", the_apps)

    def test_a_url_of_psycopg_for_sqlalchemy(self) -> None:
        def connect() -> None:  # As SQLAlchemy 2.1 does, where that package is not installed.
            raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")

        def create() -> FastAPI:
            app = FastAPI()
            app.get("/")(connect)
            return app

        class T(ContainerTestCase):
            redis = Redis()
            api = App.asgi(create)

            def test_1(self) -> None:
                connect()

            def test_2(self) -> None:
                self.assertEqual(self.api.client.get("/").status_code, 200)

        class FailsTest(ContainerTestCase):
            api = App.asgi(connect, factory=True)

            def test(self) -> None:
                pass

        texts = self.check(T, FailsTest, ran=2, failures=1, errors=2)
        for text in texts:
            self.assertIn("Likely cause: a URL of another driver; SQLAlchemy from 2.1 on takes postgresql:// for", text)


class KillTest(unittest.TestCase):
    def test_a_program_ends_with_the_tests_that_are_killed(self) -> None:
        code = """
            import os, signal, sys
            from itest import App
            from itest.session import current
            from itest.wait import log

            app = App.command(["sh", "-c", "setsid sleep 60 & echo up $$ $!; wait"], ready=log("up"))
            server = current().lend(app, "T")
            print(server.instance.logs(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, -signal.SIGKILL)
        deadline = Deadline.after(20)
        for pid in done.stdout.split()[1:]:
            while os.path.exists(f"/proc/{pid}/cwd") and not deadline.passed:
                deadline.pause(0.02)
            self.assertFalse(os.path.exists(f"/proc/{pid}/cwd"), f"process {pid} still runs")
        while left := [
            place for place in directory.scan() if directory.read(place).version.startswith("`sh -c setsid")
        ]:
            self.assertFalse(deadline.passed, left)
            deadline.pause(0.02)
