# SPDX-License-Identifier: Apache-2.0
"""Declarations of apps: what they are asked to run, and what is wrong before anything starts."""

from __future__ import annotations

import os
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from itest import App, ContainerTestCase, StartError, Unavailable, naming
from itest.config import Config, load
from itest.errors import ConfigError, DeclarationError, MissingPackage
from itest.services.app import AppServer
from itest.spec import ExternalSpec, Port, ProcessSpec, ThreadSpec
from itest.wait import http, log, port

CONFIG = Config(quiet=True)


def asgi(scope: object, receive: object, send: object) -> None:
    """Callable as an app is."""


class CheckTest(unittest.TestCase):
    def refuse(self, text: str, app: Any) -> None:
        with self.assertRaisesRegex(DeclarationError, text):
            type("T", (ContainerTestCase,), {"app": app})

    def test_an_app_of_no_kind(self) -> None:
        with self.assertRaisesRegex(
            DeclarationError, r"App\.command\(argv\), App\.asgi\(app\), App\.wsgi\(app\) or App"
        ):
            App("shop.api:app")

    def test_a_command_that_cannot_know_its_port(self) -> None:
        text = (
            r"^T\.app: nothing in its command or env says \{port\}, .* ready=log\(\.\.\.\) for a program without one$"
        )
        for ready in (None, http("/health"), log("up") & port()):
            self.refuse(text, App.command(["uvicorn", "app:app"], ready=ready))
        for app in (
            App.command("worker", ready=log("up")),
            App.command("serve --port {port}"),
            App.command(["serve"], env={"PORT": "{port}"}),
        ):
            type("T", (ContainerTestCase,), {"app": app})

    def test_ready_is_a_check_or_a_function(self) -> None:
        async def soon(view: object) -> bool:
            return True

        for ready, text in (
            ("/health", "ready: '/health' is neither a check, like http"),
            (soon, "ready: the function is async"),
            (lambda: True, r"ready: the function takes \(\), and is given one argument, the view"),
        ):
            self.refuse(rf"T\.app: {text}", App.command("serve {port}", ready=ready))  # type: ignore[arg-type]

    def test_ready_mentions_no_other_port(self) -> None:
        for ready in (http("/", port=8000), log("up") & port("8000")):
            for app in (App.command("serve {port}", ready=ready), App.wsgi("shop:app", ready=ready)):
                self.refuse(r"^T\.app: ready mentions port '8000', but an app has only one, which needs no name$", app)
        type("T", (ContainerTestCase,), {"app": App.command("serve {port}", ready=http("/", port="http") & port())})

    def test_what_is_no_command(self) -> None:
        for argv, reason in (("serve 'x {port}", "No closing quotation"), (None, "write a list of words, or a text")):
            with self.assertRaisesRegex(DeclarationError, f"^App.command: .* is no command: .*{reason}"):
                App.command(argv)  # type: ignore[arg-type]  # wrong on purpose

    def test_an_empty_command(self) -> None:
        self.refuse(r"T\.app: its command is empty", App.command([]))

    def test_text_that_names_no_app(self) -> None:
        for text in ("shop.api", "shop/api.py:app", ":app", "shop.api:"):
            self.refuse(rf"T\.app: '{text}' names no app; write 'module:app' or 'module:create_app'", App.asgi(text))

    def test_what_is_no_app(self) -> None:
        self.refuse(r"T\.app: None is no app: it cannot be called", App.wsgi(None))

    def test_variables_are_texts(self) -> None:
        for value in (None, True, ["a"]):
            env: Any = {"DEBUG": value}
            self.refuse(
                rf"T\.app: env: DEBUG is a {type(env['DEBUG']).__name__}, not a text: write one, in quotes or by str\(\), or leave it out",
                App.asgi(asgi, env=env),
            )

    def test_a_container_without_a_port(self) -> None:
        for app in (App.container("web:1"), App.container("web:1", ports={"dns": "53/udp"})):
            self.refuse(r"T\.app: an app needs a port to be reached at: ports=\{'http': 8000\}", app)

    def test_isolation_and_scope(self) -> None:
        self.refuse("unknown scope 'always'", App.asgi(asgi, scope="always"))
        with self.assertRaises(TypeError):
            App.asgi(asgi, skope="class")  # type: ignore[call-arg]  # that it is refused is the point

    def test_a_reference_to_no_neighbour(self) -> None:
        self.refuse("T.app refers to 'postgres', which is no service of T", App.asgi(asgi, env={"A": "{postgres.url}"}))


class CommandTest(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="test-itest-"))).resolve()
        self.enterContext(mock.patch.dict(os.environ, {"PATH": str(self.place)}))
        os.environ.pop("PYTHONUNBUFFERED", None)
        self.program("serve")

    def program(self, name: str, mode: int = 0o755) -> Path:
        path = self.place / name
        path.write_text("#!/bin/sh\n")
        path.chmod(mode)
        return path

    def spec(self, argv: Any, **fields: Any) -> ProcessSpec:
        return App.command(argv, **fields).own_spec("s3cret", load())

    def refuse(self, text: str, argv: Any, **fields: Any) -> None:
        with self.assertRaisesRegex(StartError, text):
            self.spec(argv, **fields)

    def test_what_is_run(self) -> None:
        spec = self.spec("serve --port {port} 'a b'", env={"URL": "http://localhost:{port}", "N": 1, "P": Path("/x")})
        self.assertEqual(spec.argv, (str(self.place / "serve"), "--port", "{port:http}", "a b"))
        self.assertEqual((spec.ports, spec.directory, spec.inherits), (("http",), os.getcwd(), True))
        self.assertLessEqual(
            {"URL": "http://localhost:{port:http}", "N": "1", "P": "/x", "PYTHONUNBUFFERED": "1"}.items(),
            dict(spec.env).items(),
        )
        self.assertEqual(str(spec), "`serve --port {port} a b`")

    def test_a_port_that_a_shell_fills_is_not_its_own(self) -> None:
        spec = self.spec(["./serve", "for port in a b; do echo ${port}; done"], directory=self.place)
        self.assertEqual((spec.argv[1], spec.ports), ("for port in a b; do echo ${port}; done", ()))

    def test_variables_in_front_of_the_command(self) -> None:
        self.refuse(r"no shell runs the command; give variables by env=\{'DEBUG': '1'\}$", "DEBUG=1 serve {port}")
        self.refuse(
            r"no program 'PASSWORD=\.\.\.', .* by env=\{'PASSWORD': '\*\*\*'\}$", "PASSWORD=S3cretPassw serve {port}"
        )

    def test_passwords_are_hidden(self) -> None:
        self.spec("serve {port}", env={"API_TOKEN": "token-of-a-program"})
        app: Any = App.asgi(asgi, env={"API_TOKEN": "token-of-a-thread"})
        app.own_spec("", load())
        self.assertEqual(naming.mask("token-of-a-program, token-of-a-thread"), "***, ***")

    def test_a_user_may_want_output_buffered(self) -> None:
        with mock.patch.dict(os.environ, {"PYTHONUNBUFFERED": ""}):
            self.assertEqual(self.spec("serve {port}").env["PYTHONUNBUFFERED"], "")

    def test_programs_of_the_environment_of_the_tests_are_found(self) -> None:
        with mock.patch.object(sys, "executable", str(self.place / "venv" / "python")):
            for prefix, expected in ((sys.base_prefix, [self.place]), ("/venv", [self.place / "venv", self.place])):
                with mock.patch.object(sys, "prefix", prefix):
                    self.assertEqual(self.spec("serve {port}").env["PATH"], os.pathsep.join(map(str, expected)))
            with mock.patch.object(sys, "prefix", "/venv"):  # Where it is there already, its place is the user's.
                path = f"{self.place}:{self.place / 'venv'}"
                self.assertEqual(self.spec("serve {port}", env={"PATH": path}).env["PATH"], path)

    def test_without_a_port(self) -> None:
        self.assertEqual(self.spec("serve", ready=log("up")).ports, ())

    def test_a_program_that_is_not_there(self) -> None:
        self.refuse(
            rf"^App \(`srve {{port}}`\) could not be started: there is no program 'srve' on PATH \(looked for in .*"
            rf"{self.place}\); of an installed Python package it may be \[sys.executable, '-m', 'srve', \.\.\.\]$",
            "srve {port}",
        )
        self.refuse(rf"could not be started: {self.place}/no is not there", "./no {port}", directory=str(self.place))
        self.program("data", 0o644)
        self.refuse(rf"{self.place}/data is no program that may be run", "./data {port}", directory=str(self.place))

    def test_a_directory(self) -> None:
        self.assertEqual(self.spec("./serve {port}", directory=self.place).argv[0], str(self.place / "serve"))
        self.refuse(
            "could not be started: there is no directory /no/such/place", "serve {port}", directory="/no/such/place"
        )

        with self.assertRaisesRegex(DeclarationError, "^App.command: directory=None is no path; leave it out"):
            App.command("serve", directory=None)  # type: ignore[arg-type]  # wrong on purpose

        class T(ContainerTestCase):
            app = App.command([sys.executable, "{port}"], directory="..")

        [(_, declared)] = T._itest_declarations
        spec = declared.own_spec("", load())
        assert isinstance(spec, ProcessSpec)
        self.assertTrue(os.path.samefile(spec.directory, Path(__file__).parent.parent))

    def test_passwords_are_not_shown(self) -> None:
        from itest import naming

        secret = naming.secret()
        self.assertNotIn(secret, repr(self.spec(f"serve --url redis://:{secret}@h --port {{port}}")))
        spec = self.spec("serve --token argvtoken99 --port {port}")
        self.assertEqual(str(spec), "`serve --token *** --port {port}`")
        self.assertNotIn("argvtoken99", repr(spec))


class KindTest(unittest.TestCase):
    def test_threads(self) -> None:
        for app, text in (
            (App.asgi("shop.api:app"), "ASGI app shop.api:app"),
            (App.asgi(asgi), f"ASGI app {__name__}:asgi"),
            (App.wsgi(self), f"WSGI app {__name__}:KindTest"),
        ):
            spec = app.own_spec("", CONFIG)
            assert isinstance(spec, ThreadSpec)
            self.assertEqual(str(spec), text)
            self.assertEqual(app.what, text)
        spec = App.asgi("a:b", env={"SELF": "http://127.0.0.1:{port}"}).own_spec("", CONFIG)
        self.assertEqual(spec.env, {"SELF": "http://127.0.0.1:{port:http}"})
        self.assertNotIn("127", repr(spec))

    def test_a_container(self) -> None:
        app = App.container("web:1", ports={"web": 8000}, command=["run", "{redis.url}"], env={"A": "1"})
        self.assertTrue(app.in_container)
        self.assertEqual(dict(app.container("").ports), {"web": Port(8000, chosen=True)})
        with self.assertRaisesRegex(Unavailable, "Docker"):
            app.process("", CONFIG)

    def test_only_what_is_equal_is_one_server(self) -> None:
        apps = [App.asgi("a:b"), App.asgi("a:c"), App.wsgi("a:b"), App.asgi("a:b", env={"A": "1"}), App.asgi(asgi)]
        identities = [app.identity(app.own_spec("", CONFIG)) for app in [*apps, *apps]]
        self.assertEqual(len(set(identities)), len(apps))

    def test_an_external_one(self) -> None:
        app = App.command("serve {port}", external="APP_URL")
        for url, endpoint in (("http://h:8000/", ("h", 8000)), ("https://h", ("h", 443)), ("http://h/a", ("h", 80))):
            self.assertEqual(app.external_spec(url, "APP_URL"), ExternalSpec(url, {"http": endpoint}, "APP_URL"))
        for url in ("h:8000", "ftp://h", "http://", "http://h:x"):
            with self.assertRaisesRegex(
                ConfigError, "^APP_URL is no URL of an app: it must look like http://host:8000$"
            ):
                app.external_spec(url, "APP_URL")
        server: AppServer[Any] = AppServer(app, mock.Mock(), "https://h/")
        self.assertEqual(server.lease(app, "T").view.url, "https://h")

    def test_servers_that_are_not_installed(self) -> None:
        for app, package in ((App.asgi(asgi), "uvicorn"), (App.wsgi(asgi), "waitress")):
            with mock.patch.dict(sys.modules), mock.patch("importlib.util.find_spec", return_value=None):
                sys.modules.pop(package, None)
                with self.assertRaisesRegex(
                    MissingPackage,
                    rf"^App\.\w+\(\) needs the package '{package}', which is not installed: pip install "
                    r"'itest-containers\[app\]'$",
                ):
                    app.check_client()
