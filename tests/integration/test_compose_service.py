# SPDX-License-Identifier: Apache-2.0
"""Compose projects as services, on a real Docker with a real Docker Compose."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from itest import App, Compose, Container, ContainerTestCase, PostgresMixin, http, log, naming, testing
from itest.clock import Deadline
from itest.config import Config, load
from itest.engines import docker_built
from itest.engines.compose import ComposeEngine
from itest.engines.docker import DockerEngine
from itest.engines.ports import free_port
from itest.errors import InstanceDied, IsolationError, ItestError, PortTaken, ResetError, StartError, StartTimeout
from itest.services.compose.view import ComposeLease
from itest.session import Session
from itest.wait import ended
from tests.integration.needs import get, need_compose

SHOP = Path(__file__).parent / "compose" / "compose.yaml"
SLEEP = "sleep 600"


def setUpModule() -> None:
    need_compose()


class ShopTest(ContainerTestCase):
    """What people do with a project."""

    stack = Compose("compose/compose.yaml", ready={"web": http("/greeting")}, env={"GREETING": "moin"})

    def test_the_web_server_answers(self) -> None:
        self.assertEqual(get(f"{self.stack.url}/greeting"), "moin, 5$\n")
        self.assertEqual(self.stack.url, self.stack["web"].url)
        self.assertEqual(self.stack["web"].endpoint(8000), (self.stack.host, self.stack.port))
        self.assertEqual(self.stack["web"].endpoint(), self.stack.service("web").endpoint("8000"))
        self.assertEqual(self.stack.host, "127.0.0.1")

    def test_services_reach_one_another(self) -> None:
        answer = get(f"{self.stack.url}/cgi-bin/visits")
        self.assertRegex(answer, r"^:\d+")

    def test_a_job_has_done_its_work_before_others_started(self) -> None:
        rows = self.stack["database"].exec(["psql", "-U", "postgres", "-Atc", "SELECT item FROM orders"])
        self.assertEqual((rows.exit_code, rows.stdout), (0, "book\n"), rows.stderr)
        state = self.stack["migrate"].state
        self.assertEqual((state.running, state.exit_code), (False, 0))
        self.assertEqual(self.stack["database"].state.health, "healthy")

    def test_commands_for_a_shell(self) -> None:
        self.assertEqual(self.stack["web"].exec("echo $GREETING").stdout, "moin\n")
        self.assertEqual(self.stack.exec(["cat", "/www/greeting"]).stdout, "moin, 5$\n")

    def test_no_host_port_of_the_file_is_used(self) -> None:
        for port in (18473, 18474):
            with self.assertRaises(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=2).close()

    def test_ports_of_other_protocols(self) -> None:
        self.assertGreater(self.stack["cache"].endpoint("53/udp").port, 1023)
        self.assertEqual(self.stack["cache"].endpoint("6379/tcp"), self.stack["cache"].endpoint(6379))

    def test_logs_of_one_and_of_all(self) -> None:
        self.assertIn("serving", self.stack["web"].logs())
        self.assertIn("web      | serving\n", self.stack.logs())
        self.assertIn("database | ", self.stack.logs(tail=1))
        self.assertEqual(len(self.stack["cache"].logs(tail=1).splitlines()), 1)

    def test_the_variables_of_an_app(self) -> None:
        web, cache = self.stack["web"], self.stack["cache"]
        expected = {"WEB_URL": web.url, "WEB_HOST": "127.0.0.1", "WEB_PORT": str(web.port)}
        self.assertLessEqual(expected.items(), self.stack.env.items())
        self.assertEqual(self.stack.env["CACHE_PORT"], str(cache.port))

    def test_a_port_that_is_not_published(self) -> None:
        with self.assertRaises(ItestError) as caught:
            self.stack["web"].endpoint(9000)
        self.assertEqual(
            str(caught.exception),
            "service 'web' does not publish port 9000; published are 8000. Have it published by "
            "Compose(..., ports={'web': [9000]}), or by `ports` in the file",
        )
        with self.assertRaisesRegex(ItestError, "service 'database' does not publish a port; it publishes none"):
            self.stack["database"].port  # noqa: B018  # that reading it raises is the point

    def test_a_service_that_does_not_run(self) -> None:
        with self.assertRaisesRegex(ItestError, "runs no service 'admin'; it runs cache, database, migrate, web"):
            self.stack["admin"]

    def test_it_has_no_url_for_a_driver(self) -> None:
        for word, name in (("web", "web"), ("asyncpg", "cache")):
            with self.assertRaisesRegex(ItestError, rf"^url_for\('{word}'\): .* self\.stack\['{name}'\]\.url, or"):
                self.stack.url_for(word)

    def test_its_texts(self) -> None:
        project = self.stack.server.instance.id
        self.assertRegex(project, "^itest-[0-9a-f]{10}$")
        self.assertEqual(repr(self.stack), f"<ComposeView of project {project} (cache, database, migrate, web)>")
        self.assertEqual(
            repr(self.stack["web"]),
            f"<ComposeService 'web' of project {project} (cache, database, migrate, web)>",
        )

    def test_a_second_one_runs_beside_it(self) -> None:
        with testing.session(quiet=True) as session:
            server = session.lend(Compose(SHOP, services=["web"], without=["migrate", "database"]))
            other = server.lease(Compose(), "test").view
            self.assertEqual(other.services, ["cache", "web"])
            self.assertEqual(get(f"{other.url}/greeting"), "hello, 5$\n")
            self.assertNotEqual(other.url, self.stack.url)
            get(f"{other.url}/cgi-bin/visits")
            self.assertEqual(get(f"{other.url}/cgi-bin/visits"), ":2\r\n")


class PostgresOfTheClassTest(PostgresMixin, ContainerTestCase):
    """The project uses the class's own database, whose data is clean for each test, and others use the project."""

    stack = Compose("compose/app.yaml", without=["database"], env={"DATABASE_URL": "{postgres.url}"})
    probe = Container(
        "busybox:1.37", command=["sh", "-c", "wget -qO- {stack.url}/page; exec sleep 600"], ready=log("a page")
    )

    @classmethod
    def setUpTestData(cls) -> None:
        cls.postgres.execute("CREATE TABLE orders (item text)")

    def order(self) -> None:
        said = self.stack["app"].exec("""psql "$DATABASE_URL" -c "INSERT INTO orders VALUES ('book')\"""")
        self.assertEqual(said.exit_code, 0, said)
        self.assertEqual(self.postgres.execute("SELECT item FROM orders"), [("book",)])

    def test_the_app_writes_into_the_database_of_the_class(self) -> None:
        self.order()

    def test_what_it_wrote_is_gone_in_the_next_test(self) -> None:
        self.order()

    def test_others_of_the_class_reach_it_by_its_name(self) -> None:
        self.assertEqual(self.stack.services, ["app", "page"])
        self.assertIn("a page", self.probe.logs())


def paid(environ: dict[str, Any], start: Any) -> list[bytes]:
    start("200 OK", [])
    return [b"thank you"]


class AppOfTheTestTest(ContainerTestCase):
    receiver = App.wsgi(lambda: paid)
    stack = Compose("compose/app.yaml", services=["page"], env={"RECEIVER": "{receiver.url}"})

    def test_services_call_it(self) -> None:
        said = self.stack["page"].exec("wget -T 10 -qO- $RECEIVER")
        self.assertEqual((said.exit_code, said.stdout), (0, "thank you"), said)


class ProjectsTest(unittest.TestCase):
    """Projects as they are made here, each in a session of its own."""

    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.session: Session = self.enterContext(testing.session(quiet=True, startup_timeout=30.0))
        self.eye = DockerEngine(load())
        self.addCleanup(self.eye.close)
        self.addCleanup(self.check_nothing_is_left)

    def check_nothing_is_left(self) -> None:
        self.session.close()
        self.assertEqual(things(self.session.id), [])

    def remove_built(self) -> None:
        self.session.close()
        for each in docker_built.of(self.eye.client, load().cache_dir):
            if each.recipe.startswith(f"{self.directory.resolve()}/"):
                docker("image", "rm", "--force", each.image)

    def project(self, text: str, file: str = "compose.yaml") -> Path:
        path = self.directory / file
        path.write_text(text, encoding="utf-8")
        return path

    def lend(self, text: str, **fields: Any) -> Any:
        """The view of a running project of these services."""
        service = Compose(self.project(f"services:\n{text}"), **fields)
        service.check("T", "stack")
        return self.session.lend(service, "test").lease(service, "test").view

    def failure(self, kind: type[Exception], text: str, **fields: Any) -> str:
        """The message of the error that starting these services raises, with its notes."""
        with self.assertRaises(kind) as caught:
            self.lend(text, **fields)
        self.error = caught.exception
        return "\n".join([str(self.error), *getattr(self.error, "__notes__", ())])


class RunTest(ProjectsTest):
    def test_more_ports_than_the_file_publishes(self) -> None:
        view = self.lend("  web: {image: 'busybox:1.37', command: httpd -f -p 80 -h /etc}", ports={"web": [80]})
        self.assertIn("root", get(f"{view.url}/passwd"))
        self.assertEqual(view["web"].endpoint(80), view["web"].endpoint())

    def test_without_a_check_its_ports_must_answer(self) -> None:
        view = self.lend(
            f"  web: {{image: 'busybox:1.37', command: sh -c 'usleep 700000; exec httpd -f -p 80 -h /etc', ports: [80]}}\n"
            f"  job: {{image: 'busybox:1.37', command: 'true'}}\n"
            f"  quiet: {{image: 'busybox:1.37', command: {SLEEP}}}\n"
        )
        self.assertIn("root", get(f"{view.url}/passwd"))
        self.assertEqual(view["job"].state.exit_code, 0)

    def test_which_service_stands_for_the_project(self) -> None:
        two = "  a: {image: redis:8, ports: [6379]}\n  b: {image: redis:8, ports: [6379]}\n"
        view = self.lend(two)
        with self.assertRaisesRegex(ItestError, r"several services that publish ports \(a, b\).*service\('a'\)"):
            view.url  # noqa: B018  # that reading it raises is the point
        self.assertIn("project", repr(view))
        view = self.lend(two, services=["b", "a"])
        self.assertEqual(view.port, view["b"].port)

    def test_one_that_stands_for_the_project_and_has_no_container(self) -> None:
        view = self.lend(
            "  a: {image: redis:8, ports: [6379], deploy: {replicas: 0}}\n  b: {image: redis:8, ports: [6379]}\n",
            ready={"a": http("/")},
        )
        with self.assertRaisesRegex(
            ItestError, r"project .* \(b\) runs no container of service 'a', which stands for it"
        ):
            view.url  # noqa: B018  # that reading it raises is the point
        self.assertGreater(view["b"].port, 0)

    def test_no_service_publishes_a_port(self) -> None:
        view = self.lend("  a: {image: redis:8}")
        with self.assertRaisesRegex(ItestError, "publishes no port: add `ports` to a service of the file"):
            view.port  # noqa: B018  # that reading it raises is the point

    def test_several_files(self) -> None:
        self.project("services:\n  a: {image: redis:8}\n")
        service = Compose(
            [self.directory / "compose.yaml", self.project("services: {a: {ports: [6379]}}", "compose.test.yaml")]
        )
        view = self.session.lend(service, "test").lease(service, "test").view
        self.assertGreater(view.port, 0)
        self.assertEqual(view.server.version, "compose.yaml and compose.test.yaml")

    def test_profiles_and_the_file_dot_env(self) -> None:
        self.project("IMAGE=redis:8\nCOMPOSE_PROFILES=most\nCOMPOSE_FILE=other.yaml\n", ".env")
        services = "  a: {image: redis:8}\n  b: {image: '${IMAGE}', profiles: [more]}\n  c: {image: redis:8, profiles: [most]}\n"
        self.assertEqual(self.lend(services, profiles=["more"]).services, ["a", "b"])
        self.assertEqual(self.lend(services).services, ["a"])

    def test_a_service_whose_log_cannot_be_read(self) -> None:
        view = self.lend(
            f"  mute: {{image: 'busybox:1.37', command: {SLEEP}, logging: {{driver: none}}}}\n"
            f"  other: {{image: 'busybox:1.37', command: sh -c 'echo fine; exec {SLEEP}'}}\n"
        )
        self.assertRegex(view.logs(), r"(?s)mute  \| \(its log cannot be read: could not read .*\)\nother \| fine\n")
        with self.assertRaisesRegex(ItestError, "could not read the log of container"):
            view["mute"].logs()

    def test_several_containers_of_a_service(self) -> None:
        view = self.lend("  a: {image: redis:8, ports: ['7000-7001:6379'], scale: 2}\n")
        self.assertEqual(view["a"].exec(["redis-cli", "ping"]).stdout, "PONG\n")
        self.assertEqual(len([kind for kind, _ in things(self.session.id) if kind == "container"]), 2)
        container = view.server.instance.services["a"].id
        self.assertEqual(published(container), str(view["a"].endpoint()))
        docker("restart", "--time=0", container)
        self.assertTrue(view["a"].state.running)
        self.assertEqual(published(container), str(view["a"].endpoint()))

    def test_each_container_of_a_service_must_be_ready(self) -> None:
        view = self.lend(
            "  a:\n    image: busybox:1.37\n    scale: 2\n    ports: [80]\n    volumes: ['shared:/shared']\n"
            "    command: sh -c 'mkdir /shared/first || usleep 900000; exec httpd -f -p 80 -h /etc'\n"
            "volumes: {shared: {}}\n"
        )
        for container in view.server.instance.containers["a"]:
            self.assertIn("root", get(f"http://{container.endpoint()}/passwd"))

    def test_a_service_on_the_network_of_the_machine(self) -> None:
        port = free_port()
        view = self.lend(
            f"  web: {{image: 'busybox:1.37', command: httpd -f -p {port} -h /etc, network_mode: host, ports: ['{port}:{port}']}}"
        )
        self.assertEqual(view.port, port)
        self.assertIn("root", get(f"{view.url}/passwd"))

    def test_a_service_that_is_linked_to_one_that_is_left_out(self) -> None:
        text = "  app: {image: redis:8, links: ['db:database', cache]}\n  db: {image: redis:8}\n  cache: {image: redis:8}\n"
        self.assertEqual(self.lend(text, without=["db"]).services, ["app", "cache"])

    def test_a_service_on_the_network_of_another_ones_container(self) -> None:
        """Of the project's, although the developer has one of that name running."""
        name = f"itest-test-{naming.random_hex(5)}"
        docker("run", "--detach", "--name", name, "busybox:1.37", "sleep", "600")
        self.addCleanup(docker, "rm", "--force", name)
        view = self.lend(
            f"  vpn: {{image: 'busybox:1.37', container_name: {name}, hostname: ours, command: httpd -f -p 80 -h /etc}}\n"
            f"  app: {{image: 'busybox:1.37', command: {SLEEP}, network_mode: 'container:{name}'}}\n"
        )
        said = view["app"].exec(["wget", "-T", "10", "-qO-", "http://127.0.0.1/hostname"])
        self.assertEqual(said.stdout, "ours\n", said)

    def test_an_image_that_is_built(self) -> None:
        self.project("FROM busybox:1.37\nCOPY page /www/index.html\nCMD httpd -f -p 80 -h /www\n", "Dockerfile")
        text = "  web:\n    build: .\n    ports: [80]\n"
        for page in ("first", "second"):
            self.project(page, "page")
            view = self.lend(text, env={"AGAIN": page})
            self.assertEqual(get(view.url), page)
        image = view["web"]._container._client.inspect_container(view["web"]._container.id)["Config"]["Image"]
        built = docker_built.of(self.eye.client, load().cache_dir)
        recipe = f"{self.directory}/compose.yaml, service web"
        self.assertEqual([image in each.image for each in built if each.recipe == recipe], [True, False])
        self.remove_built()

    def test_a_build_that_fails(self) -> None:
        self.project("FROM busybox:1.37\nRUN echo looking && cat /no-such-file\n", "Dockerfile")
        text = self.failure(StartError, "  web:\n    build: .\n")
        self.assertIn("could not start compose.yaml: building web failed:", text)
        self.assertIn("cat /no-such-file", text)
        self.assertIn("No such file or directory", text)

    def test_a_session_wide_project_is_shared(self) -> None:
        service = Compose(self.project("services:\n  a: {image: redis:8}\n"), scope="session")
        self.assertIs(self.session.lend(service), self.session.lend(service))

    def test_a_session_wide_project_joins_the_network_of_each_class(self) -> None:
        service = Compose(
            self.project("services: {web: {image: 'busybox:1.37', command: httpd -f -p 80 -h /etc, ports: [80]}}"),
            scope="session",
        )
        for name in ("one", "two"):
            network = self.session.network(name)
            assert network is not None
            view: Any = self.session.lend(service, "", network, "stack").lease(service, "test").view
            client = Container("busybox:1.37", command=f"wget -qO- {view.inside('stack').url}/passwd", job=True)
            server = self.session.lend(client, name, network, "client")
            self.assertIn("root", server.instance.logs())
            self.assertIn("root", get(f"{view.url}/passwd"))
            self.session.take_back(server)
            network.close()

    def test_stopping_does_not_wait_for_services_that_ignore_the_signal(self) -> None:
        self.lend(
            f"  a: {{image: 'busybox:1.37', command: {SLEEP}}}\n  b: {{image: 'busybox:1.37', command: {SLEEP}}}\n"
        )
        deadline = Deadline.after(8)
        self.session.close()
        self.assertFalse(deadline.passed, f"it took {deadline.elapsed:.1f} s")

    def test_what_it_makes_is_listed(self) -> None:
        self.lend("  a: {image: redis:8, volumes: ['data:/data']}\nvolumes: {data: {name: fixed}}\n")
        kinds = sorted(kind for kind, _ in things(self.session.id))
        self.assertEqual(kinds, ["container", "network", "volume"])
        ours = [each for each in self.eye.things() if each.labels.get(naming.SESSION) == self.session.id]
        self.assertEqual([each.kind for each in ours], ["container", "network", "volume"])
        for thing in ours:
            self.assertEqual(thing.labels[naming.SERVICE], "compose")
            self.assertEqual(thing.labels[naming.OWNER], naming.owner())


class FailureTest(ProjectsTest):
    def test_a_service_that_ends(self) -> None:
        text = self.failure(
            InstanceDied,
            f"  web: {{image: 'busybox:1.37', command: sh -c 'echo no DATABASE_URL; exit 3'}}\n"
            f"  other: {{image: 'busybox:1.37', command: sh -c 'echo fine; exec {SLEEP}'}}\n",
        )
        self.assertRegex(
            text,
            r"Compose project \(compose.yaml\) ended before it was ready: service 'web' exited with exit code 3, "
            r"\d+\.\d s after its start, while waiting for its services to be ready",
        )
        self.assertIn("web | no DATABASE_URL", text)
        self.assertNotIn("fine", text)
        assert isinstance(self.error, InstanceDied)
        self.assertEqual(self.error.exit_code, 3)

    def test_a_service_that_publishes_a_port_and_ends_with_exit_code_0(self) -> None:
        web = "  web: {image: 'busybox:1.37', command: echo bye, ports: [80]}\n"
        text = self.failure(InstanceDied, web)
        self.assertIn("ended before it was ready: service 'web' exited with exit code 0, ", text)
        self.assertIn("for a service of a project ready={...: itest.wait.ended()}.", text)
        self.assertIn("web | bye", text)
        self.assertEqual(self.lend(web, ready={"web": ended()})["web"].state.exit_code, 0)

    def test_passwords_of_the_file_are_hidden(self) -> None:
        text = self.failure(
            InstanceDied,
            "  web:\n    image: busybox:1.37\n    command: sh -c 'echo $$DB_PASSWORD or $$KEY; exit 3'\n"
            "    environment: [DB_PASSWORD=an$$$$other-one, KEY]\n",
        )
        self.assertIn("web | *** or\n", f"{text}\n")

    def test_a_service_that_ends_while_others_wait_for_it(self) -> None:
        text = self.failure(
            InstanceDied,
            f"  web: {{image: 'busybox:1.37', command: {SLEEP}, depends_on: {{job: {{condition: service_completed_successfully}}}}}}\n"
            f"  job: {{image: 'busybox:1.37', command: sh -c 'echo no such table; exit 4'}}\n",
        )
        self.assertRegex(
            text,
            r"could not start compose.yaml: its service 'job' exited with exit code 4, \d+\.\d s after the start, while "
            r"others waited for it",
        )
        self.assertIn("| no such table", text)

    def test_one_that_has_no_log(self) -> None:
        text = self.failure(
            InstanceDied,
            f"  web: {{image: 'busybox:1.37', command: {SLEEP}, depends_on: {{job: {{condition: service_completed_successfully}}}}}}\n"
            f"  job: {{image: 'busybox:1.37', command: sh -c 'exit 4', logging: {{driver: none}}}}\n",
        )
        self.assertIn("its service 'job' exited with exit code 4", text)
        self.assertIn("  | (its log cannot be read: ", text)

    def test_a_service_that_is_unhealthy(self) -> None:
        text = self.failure(
            StartError,
            f"  web:\n    image: busybox:1.37\n    command: {SLEEP}\n"
            "    healthcheck: {test: 'echo no answer yet; exit 1', interval: 100ms, retries: 2}\n",
        )
        self.assertRegex(text, "service 'web' is unhealthy by its own health check, which said: no answer yet")

    def test_a_service_that_is_unhealthy_while_others_wait_for_it(self) -> None:
        text = self.failure(
            StartError,
            f"  web: {{image: 'busybox:1.37', command: {SLEEP}, depends_on: {{db: {{condition: service_healthy}}}}}}\n"
            f"  db:\n    image: busybox:1.37\n    command: sh -c 'echo no licence; exec {SLEEP}'\n"
            "    healthcheck: {test: 'echo no answer yet; exit 1', interval: 100ms, retries: 2}\n",
        )
        self.assertRegex(
            text,
            r"could not start compose.yaml: its service 'db' is unhealthy by its own health check, which said: no answer "
            r"yet, \d+\.\d s after the start, while others waited for it",
        )
        self.assertIn("last log lines of db:\n  | no licence", text)
        self.assertEqual(self.error.service, "db")  # type: ignore[attr-defined]  # a StartError

    def test_a_service_that_docker_does_not_start(self) -> None:
        text = self.failure(
            StartError,
            f"  web: {{image: 'busybox:1.37', command: {SLEEP}}}\n  bad: {{image: 'busybox:1.37', command: nosuchprog}}\n",
        )
        self.assertRegex(
            text, r"^could not start compose.yaml \(service 'bad'\), Docker Compose says after .*nosuchprog"
        )
        self.assertIn("; the command's or entrypoint's first word is no program in the image", text)
        self.assertEqual(self.error.cause, "no such program")  # type: ignore[attr-defined]  # a StartError

    def test_a_port_that_is_looked_at_and_not_published(self) -> None:
        web = f"  web: {{image: 'busybox:1.37', command: {SLEEP}, ports: [80]}}\n"
        self.assertEqual(
            self.failure(StartError, web, ready={"web": http("/x", port="9000")}),
            "could not start compose.yaml: ready looks at port 9000 of service 'web', which does not publish it; published "
            "are 80. Have it published by ports={'web': [9000]}, or by `ports` in the file",
        )
        text = self.failure(StartError, web.replace(", ports: [80]", ""), ready={"web": http("/x")})
        self.assertIn("ready looks at a port of service 'web', which does not publish it; it publishes none. ", text)

    def test_a_service_that_does_not_become_ready(self) -> None:
        for seconds in (6.0, 60.0):  # On a busy machine it may not even start so soon.
            text = self.failure(
                StartTimeout,
                "  web: {image: 'busybox:1.37', command: httpd -f -p 80, ports: [80]}\n",
                ready={"web": http("/missing")},
                startup_timeout=seconds,
                env={"SECONDS": str(seconds)},  # With another one it is another project.
            )
            if "answered 404" in text:
                break
        self.assertRegex(text, rf"did not become ready within {seconds:g} s, .* \(web: GET /missing to answer\)")
        self.assertRegex(text, r"Last reason: web: GET http://127\.0\.0\.1:\d+/missing answered 404")

    def late(self, services: str, word: str) -> tuple[str, float]:
        """What is said of services that are not ready in time, with that word if they have come to it; and that time."""
        for seconds in (8.0, 60.0):  # As above.
            env = {"SECONDS": str(seconds)}  # With another one it is another project.
            text = self.failure(StartTimeout, services, startup_timeout=seconds, env=env)
            if word in text:
                break
        return text, seconds

    def test_services_that_wait_too_long_for_another_one(self) -> None:
        text, seconds = self.late(
            f"  web: {{image: 'busybox:1.37', command: {SLEEP}, depends_on: {{slow: {{condition: service_healthy}}}}}}\n"
            f"  slow:\n    image: busybox:1.37\n    command: sh -c 'echo still warming up; exec {SLEEP}'\n"
            f"    healthcheck: {{test: exit 1, interval: 100ms, retries: 10000}}\n",
            "still warming up",
        )
        self.assertRegex(text, rf"compose.yaml did not start within {seconds:g} s: .*slow is starting")
        self.assertIn("slow | still warming up", text)

    def test_services_that_wait_for_one_whose_image_has_a_health_check(self) -> None:
        self.project(
            f"FROM busybox:1.37\nHEALTHCHECK --interval=10m CMD echo $HOSTNAME; exit 1\nCMD {SLEEP}\n", "Dockerfile"
        )
        text, seconds = self.late(
            f"  web: {{image: 'busybox:1.37', command: {SLEEP}, depends_on: {{slow: {{condition: service_healthy}}}}}}\n"
            f"  slow: {{build: ., hostname: of-the-image}}\n",
            "of-the-image",
        )
        self.assertRegex(text, rf"did not start within {seconds:g} s: .*slow is starting: of-the-image")
        self.assertIn("web waits for others", text)
        self.remove_built()

    def test_services_that_wait_for_a_job_that_does_not_end(self) -> None:
        text, seconds = self.late(
            f"  web: {{image: 'busybox:1.37', command: {SLEEP}, depends_on: {{job: {{condition: service_completed_successfully}}}}}}\n"
            f"  job: {{image: 'busybox:1.37', command: sh -c 'echo waiting for a lock; exec {SLEEP}'}}\n",
            "waiting for a lock",
        )
        self.assertRegex(
            text, rf"compose.yaml did not start within {seconds:g} s: .*job has not ended, which others wait for"
        )
        self.assertIn("job | waiting for a lock", text)

    def test_a_port_that_somebody_else_took(self) -> None:
        from unittest import mock

        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with mock.patch("itest.engines.compose.free_port", return_value=port):
                text = self.failure(PortTaken, "  a: {image: redis:8, ports: [6379]}\n")
        self.assertIn("address already in use", text)

    def test_an_image_that_is_not_there(self) -> None:
        text = self.failure(StartError, "  a: {image: 'localhost:1/no-such-image:1'}\n")
        self.assertIn("localhost:1/no-such-image:1", text)

    def test_a_file_that_is_not_there(self) -> None:
        self.project("services: {a: {image: redis:8}}")
        inner = self.directory / "tests"
        inner.mkdir()
        with self.assertRaises(StartError) as caught:
            self.session.lend(Compose(inner / "compose.yaml"))
        self.assertEqual(
            str(caught.exception),
            f"could not start compose.yaml: there is no file {inner}/compose.yaml; did you mean ../compose.yaml? Paths start "
            f"at the test's module",
        )
        with self.assertRaisesRegex(StartError, "there is no file .*docker-compose.yml; there is compose.yaml. Paths"):
            self.session.lend(Compose(self.directory / "docker-compose.yml"))
        with self.assertRaisesRegex(StartError, "is a directory; name the file in it, which has 'compose.yaml'$"):
            self.session.lend(Compose(self.directory))

    def test_a_file_that_is_no_yaml(self) -> None:
        text = self.failure(StartError, "  a: {image: [\n")
        self.assertIn("could not start compose.yaml: Docker Compose says: yaml: line 2:", text)

    def test_a_key_that_compose_does_not_know(self) -> None:
        text = self.failure(StartError, "  a: {imag: redis}\n")
        self.assertIn("Additional property imag is not allowed", text)

    def test_a_service_that_cannot_run_without_one_that_is_left_out(self) -> None:
        text = self.failure(
            StartError,
            "  app: {image: redis:8, network_mode: 'service:db'}\n  db: {image: redis:8}\n  other: {image: redis:8}\n",
            without=["db"],
        )
        self.assertEqual(
            text,
            "could not start compose.yaml: its service 'app' has `network_mode: service:db` and cannot run without 'db'; "
            "leave it out too: without=['db', 'app'], or have a further file take that back: `!reset`",
        )

    def test_an_unknown_service(self) -> None:
        two = "  a: {image: redis:8}\n  b: {image: redis:8, profiles: [more]}\n"
        for fields in ({"services": ["c"]}, {"ready": {"c": http("/")}}, {"ports": {"c": 1}}, {"without": ["c"]}):
            with self.subTest(fields):
                text = self.failure(StartError, two, **fields)
                self.assertEqual(text, "could not start compose.yaml: it has no service 'c'; it has a, b")
        text = self.failure(StartError, two, ready={"b": http("/")})
        self.assertEqual(
            text, "could not start compose.yaml: service 'b' is only run with the profile 'more': profiles=['more']"
        )
        text = self.failure(StartError, two, services=["b"], ready={"a": http("/")})
        self.assertEqual(
            text,
            "could not start compose.yaml: the declaration names service 'a', which is left out of it; run are b",
        )
        text = self.failure(StartError, two, without=["a", "b"])
        self.assertEqual(text, "could not start compose.yaml: no service is left to run")

    def test_an_unknown_profile(self) -> None:
        text = self.failure(StartError, "  a: {image: redis:8, profiles: [more]}\n", profiles=["mor"])
        self.assertEqual(text, "could not start compose.yaml: no service has the profile 'mor'; there is more")

    def test_a_variable_that_is_not_set(self) -> None:
        text = self.failure(StartError, "  a: {image: '${NO_SUCH_IMAGE}'}\n")
        self.assertEqual(
            text,
            "could not start compose.yaml: it uses ${NO_SUCH_IMAGE}, which is not set; give it by "
            "env={'NO_SUCH_IMAGE': ...}, or a default in the file: ${NO_SUCH_IMAGE:-default}",
        )

    def test_a_variable_that_the_file_requires(self) -> None:
        text = self.failure(StartError, "  a: {image: '${NO_SUCH_IMAGE:?say which}'}\n")
        self.assertIn("required variable NO_SUCH_IMAGE is missing a value: say which", text)

    def test_a_name_that_is_taken_on_the_network_of_the_class(self) -> None:
        network = self.session.network("names")
        assert network is not None
        container = Container("busybox:1.37", command=SLEEP)
        self.session.lend(container, "test", network, "cache")
        service = Compose(self.project("services: {cache: {image: redis:8}, web: {image: redis:8}}"))
        with self.assertRaisesRegex(StartError, r"its service 'cache' has the same name .* by without=\['cache'\]"):
            self.session.lend(service, "test", network, "stack")
        server = self.session.lend(service.replace(without=["cache"]), "test", network, "stack")
        self.assertEqual(list(server.instance.services), ["web"])  # type: ignore[attr-defined]  # a project's
        for each in list(self.session._slots.values()):
            self.session._stop(each)
        network.close()

    def test_a_name_that_another_service_of_the_class_will_have(self) -> None:
        service = Compose(self.project("services: {cache: {image: redis:8}, web: {image: redis:8}}"))
        cache = Container("busybox:1.37", command=SLEEP)
        network = self.session.network("names", {"cache": ["web"]}, {"stack": service, "cache": cache})
        assert network is not None
        with self.assertRaisesRegex(StartError, "its service 'cache' has the same name"):
            self.session.lend(service, "test", network, "stack")
        service = service.replace(without=["cache"])
        with self.assertRaisesRegex(StartError, "its service 'web' has the same name"):
            self.session.lend(service, "test", network, "stack")
        network.close()

    def test_two_projects_with_services_of_one_name_that_start_side_by_side(self) -> None:
        network = self.session.network("names")
        assert network is not None
        files = [self.project("services: {cache: {image: redis:8}}", f"{name}.yaml") for name in ("one", "two")]
        with self.assertRaisesRegex(StartError, "its service 'cache' has the same name"):
            self.session.lend_all([(Compose(file), file.stem, network, file.stem) for file in files])
        for each in list(self.session._slots.values()):
            self.session._stop(each)
        network.close()

    def test_a_second_name_that_is_taken_on_the_network_of_the_class(self) -> None:
        network = self.session.network("names")
        assert network is not None
        self.session.lend(Container("busybox:1.37", command=SLEEP), "test", network, "postgres")
        for field in ("container_name: postgres", "networks: {default: {aliases: [postgres]}}"):
            service = Compose(
                self.project(f"services: {{store: {{image: redis:8, {field}}}, web: {{image: redis:8}}}}")
            )
            with self.subTest(field), self.assertRaises(StartError) as caught:
                self.session.lend(service, field, network, "stack")
            self.assertEqual(
                str(caught.exception),
                "could not start compose.yaml: its service 'store', also called 'postgres', has the same name as a service "
                "of the test class, which is on the same network; leave one of them out by without=['store'], or give "
                "the class's attribute another name",
            )
        for each in list(self.session._slots.values()):
            self.session._stop(each)
        network.close()

    def test_one_that_fails_under_a_test(self) -> None:
        view = self.lend("  a: {image: redis:8}\n  b: {image: redis:8}")
        server = view.server
        for scope in ("class", "test"):
            lease = ComposeLease(server, scope, "T")
            lease.reset("T.test_1")
            lease.finish("T.test_1")
        docker("kill", server.instance.services["a"].id)
        lease.finish("T.test_1")  # Of scope "test": the next one has a project of its own.
        lease = ComposeLease(server, "class", "T")
        lease._last_test = "T.test_1"
        for part, ends in (
            (IsolationError, lambda: lease.finish("T.test_1")),
            (ResetError, lambda: lease.reset("T.test_2")),
        ):
            with self.assertRaisesRegex(
                part, r"^compose.yaml: service 'a' exited with exit code 137 \(SIGKILL\) (under|during) "
            ):
                ends()

    def test_a_project_that_has_died_is_not_used_again(self) -> None:
        service = Compose(self.project("services: {a: {image: redis:8}}"), scope="session")
        first = self.session.lend(service)
        docker("kill", first.instance.services["a"].id)  # type: ignore[attr-defined]  # a project's
        second = self.session.lend(service)
        self.assertNotEqual(first.instance.id, second.instance.id)


class KilledTest(ProjectsTest):
    """Runs that end in the middle of the start of a project."""

    TEXT: ClassVar[str] = (
        "services:\n"
        "  slow:\n    image: busybox:1.37\n    command: sleep 600\n    volumes: ['data:/data']\n"
        "    healthcheck: {test: exit 1, interval: 1s, retries: 1000}\n"
        "  web: {image: 'busybox:1.37', command: sleep 600, depends_on: {slow: {condition: service_healthy}}}\n"
        "volumes: {data: {}}\n"
    )
    RUN: ClassVar[str] = (
        "import sys\n"
        "from itest import Compose, session\n"
        "run = session.current()\n"
        "print(run.id, flush=True)\n"
        "run.lend(Compose(sys.argv[1]))\n"
    )

    @contextlib.contextmanager
    def run_in_the_middle_of_up(self) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """A run that waits for a service that never becomes healthy, and its session."""
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", self.RUN, str(self.project(self.TEXT))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ITEST_QUIET": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        with process:
            try:
                assert process.stdout is not None
                run = process.stdout.readline().strip()
                deadline = Deadline.after(30)
                while ("container", "running") not in things(run) and not deadline.passed:
                    deadline.pause(0.02)
                self.assertEqual(
                    sorted(things(run)),
                    [("container", "created"), ("container", "running"), ("network", ""), ("volume", "")],
                )
                self.assertTrue(programs(self.directory))
                yield process, run
            finally:
                process.kill()

    def assertGone(self, run: str) -> None:
        deadline = Deadline.after(30)
        while (things(run) or programs(self.directory)) and not deadline.passed:
            deadline.pause(0.05)
        self.assertEqual((things(run), programs(self.directory)), ([], []))

    def test_by_sigkill(self) -> None:
        with self.run_in_the_middle_of_up() as (process, run):
            process.kill()
            process.wait(30)
            self.assertGone(run)

    def test_by_ctrl_c(self) -> None:
        with self.run_in_the_middle_of_up() as (process, run):
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
            self.assertIn("KeyboardInterrupt", said)
            self.assertGone(run)


class ProgramTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def unavailable(self, **settings: Any) -> str:
        config = Config(environment={**os.environ, **settings.pop("variables", {})}, **settings)
        engine = ComposeEngine(config)
        self.addCleanup(engine.close)
        return engine.unavailable() or ""

    def test_a_setting_that_names_no_program(self) -> None:
        text = self.unavailable(compose=str(self.directory / "docker-compose"))
        self.assertIn(
            f"compose = '{self.directory}/docker-compose' (the setting, or ITEST_COMPOSE) is no program", text
        )

    def test_local_processes_only(self) -> None:
        self.assertEqual(
            self.unavailable(engine="process"),
            "the setting engine = 'process' leaves out Docker, which Docker Compose needs",
        )


def things(session: str) -> list[tuple[str, str]]:
    """What there is of a session: the kind of each thing, and the state of a container."""
    label = f"label={naming.SESSION}={session}"
    found = [("container", state) for state in docker("ps", "-a", "--filter", label, "--format", "{{.State}}").split()]
    for kind in ("network", "volume"):
        found += [(kind, "") for _ in docker(kind, "ls", "-q", "--filter", label).split()]
    return found


def docker(*arguments: str) -> str:
    """By the docker command where there is one, so that what itest does not see is seen: the API's own answers."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


def published(container: str) -> str:
    """Host and port of the one port that a container publishes."""
    return docker("port", container).partition(" -> ")[2].strip()


def programs(directory: Path) -> list[str]:
    """The command lines of processes that mention this directory, besides the run itself."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = entry.read_bytes().decode(errors="replace").replace("\0", " ")
            if f"--project-directory={directory}" in line:
                found.append(line)
    return found
