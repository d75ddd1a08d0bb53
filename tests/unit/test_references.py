# SPDX-License-Identifier: Apache-2.0
"""References between the services of a class, and the order of start that they make."""

from __future__ import annotations

import inspect
import unittest
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from itest import ContainerTestCase, Network, references
from itest.errors import DeclarationError, ItestError, NotStarted
from itest.service import Service
from itest.services.postgres.view import PostgresView
from itest.testing import MemoryServer, MemoryService, MemoryView
from tests.unit.inner import InnerTest, run


@dataclass(frozen=True, eq=False)
class InContainer(MemoryService):
    in_container: ClassVar[bool] = True


class OrderTest(InnerTest):
    def app(self, image: str = "app:1", **fields: Any) -> MemoryService:
        return self.service(image, **{"scope": "class", **fields})

    def test_a_service_starts_after_those_it_refers_to_with_what_their_views_say(self) -> None:
        class T(ContainerTestCase):
            texts: ClassVar[dict[str, Any]] = {"API": "{api.host}/v1", "LIST": ["{db.port}"], "JSON": '{"a": {}}'}
            web = self.app(
                "web:1", env={**texts, "NESTED": '{"a":{"b":{db.port}}}', "JINJA": "{{db.port}} {{user.name}}"}
            )
            api = self.app("api:1", env={"DB": "{db.host}"})
            db = self.service("db:1")

            def test(self) -> None:
                spec = self.web.server.instance.spec
                assert spec.env["API"] == f"{self.api.host}/v1" and spec.env["LIST"] == [str(self.db.port)]
                assert spec.env["JSON"] == '{"a": {}}'
                assert spec.env["NESTED"] == f'{{"a":{{"b":{self.db.port}}}}}'
                assert spec.env["JINJA"] == "{{db.port}} {{user.name}}"
                assert self.api.server.instance.spec.env["DB"] == self.db.host

        self.check(run(T), ran=1)
        self.assertEqual(
            [each for each in self.events if each.startswith("start")], ["start db:1", "start api:1", "start web:1"]
        )

    def test_placeholders_that_its_program_fills_are_no_references(self) -> None:
        theirs = "${app.name} %{user.name} #{app.id} $${a.b} ${db.host} ${port:8080}"

        class T(ContainerTestCase):
            web = self.app(
                "web:1", env={"ALL": theirs, "OURS": "${spring.host:{db.host}}", "LINES": ["${HOME:-{db.port}}"]}
            )
            db = self.service("db:1")

            def test(self) -> None:
                env = self.web.server.instance.spec.env
                assert (env["ALL"], env["OURS"]) == (theirs, f"${{spring.host:{self.db.host}}}")
                assert env["LINES"] == [f"${{HOME:-{self.db.port}}}"]

        self.check(run(T), ran=1)

    def test_what_it_only_depends_on_starts_first_too(self) -> None:
        class T(ContainerTestCase):
            api = self.app("api:1", depends_on=["db"])
            db = self.service("db:1")

            def test(self) -> None:
                pass

        self.check(run(T), ran=1)
        self.assertLess(self.events.index("start db:1"), self.events.index("start api:1"))

    def test_one_of_each_test_is_resolved_for_each(self) -> None:
        class T(ContainerTestCase):
            api = self.app("api:1", scope="test", env={"DB": "{db.host}"})
            db = self.service("db:1")

            def test_1(self) -> None:
                assert self.api.server.instance.spec.env["DB"] == self.db.host

            test_2 = test_1

        self.check(run(T), ran=2)
        self.assertEqual(self.events.count("start api:1"), 2)

    def test_one_whose_neighbour_has_ended_its_connections_is_told_before_its_next_test(self) -> None:
        class T(ContainerTestCase):
            api = self.app("api:1", env={"DB": "{db.host}"})
            other = self.app("other:1")
            db = self.service("db:1")

            def test_1(self) -> None:
                [loan] = [loan for loan in T._itest_loans if loan.name == "db"]  # type: ignore[attr-defined]  # ours
                loan._lease.cuts += 1

            def test_2(self) -> None:
                pass

            test_3 = test_2

        told: list[str] = []
        with mock.patch.object(MemoryServer, "reconnect", lambda server: told.append(server.instance.spec.image)):
            self.check(run(T), ran=3)
        self.assertEqual(told, ["api:1"])
        self.assertEqual([span.subject for span in self.session.trace.spans if span.name == "reconnect"], ["memory"])

    def test_an_attribute_that_is_not_there(self) -> None:
        class T(ContainerTestCase):
            api = self.app(env={"DB": "{db.ulr}"})
            db = self.service("db:1")

            def test(self) -> None:
                pass

        result = run(T)
        self.check(result, ran=0, errors=1)
        self.assertRegex(self.last_line(result), r"T.api: \{db.ulr\}: db has no 'ulr'; it has .*host, .*url")
        self.assertNotRegex(self.last_line(result), r"it has .*\battribute\b")

    def test_an_attribute_that_cannot_be_told(self) -> None:
        class T(ContainerTestCase):
            api = self.app(env={"DB": "{db.url}"})
            db = self.service("db:1")

            def test(self) -> None:
                pass

        with mock.patch.object(MemoryView, "url", mock.PropertyMock(side_effect=ItestError("it publishes no port"))):
            result = run(T)
        self.check(result, ran=0, errors=1)
        self.assertRegex(self.last_line(result), r"T.api: \{db.url\}: it publishes no port$")

    def test_what_is_no_text_is_not_offered(self) -> None:
        view = PostgresView(mock.Mock(), "shop", "tests.T", mock.Mock(), Path())
        offered = references._attributes(view)
        self.assertLessEqual(
            {"url", "asyncpg_url", "sqlalchemy_url", "dsn", "host", "port", "name", "password"}, {*offered}
        )
        self.assertEqual({"engine", "env", "connection", "aengine", "own_session"} & {*offered}, set())

    def test_an_attribute_that_is_no_text(self) -> None:
        class T(ContainerTestCase):
            api = self.app(env={"DB": "{db.env}"})
            db = self.service("db:1")

            def test(self) -> None:
                pass

        self.assertIn("T.api: {db.env} is no text but dict", self.last_line(run(T)))


class CheckTest(unittest.TestCase):
    def refuse(self, text: str, **services: object) -> None:
        with self.assertRaisesRegex(DeclarationError, text):
            type("T", (ContainerTestCase,), services)

    def service(self, text: str, **fields: Any) -> MemoryService:
        return MemoryService(env={"A": text}, **{"scope": "class", **fields})

    def test_a_name_that_is_no_service(self) -> None:
        self.refuse(
            "T.api refers to 'pg', which is no service of T; there are db",
            api=self.service("{pg.url}"),
            db=MemoryService(),
        )

    def test_one_as_a_test_would_write_it(self) -> None:
        for text in ("{self.db.url}", "{cls.db.url}", "${HOME:-{self.db.url}}"):
            self.refuse(
                r"T\.api: env: \{(self|cls)\.db\.url\} is written \{db\.url\}, without what a test has before it",
                api=self.service(text),
                db=MemoryService(),
            )
        theirs = "{self.name.first} {{self.db.url}} ${self.db.url}"
        self.assertEqual(references.needs(self.service(theirs)), [])
        references.check("T", [("api", self.service(theirs)), ("db", MemoryService())])

    def test_a_circle(self) -> None:
        self.refuse(
            "T: its services wait for one another: a refers to b, b refers to a",
            a=self.service("{b.url}"),
            b=self.service("{a.url}"),
        )

    def test_itself(self) -> None:
        self.refuse("T: its services wait for one another: a refers to a", a=self.service("{a.url}"))

    def test_one_that_all_classes_share(self) -> None:
        self.refuse(
            "T.a refers to 'b', .* leave scope='session' out",
            a=self.service("{b.url}", scope="session"),
            b=MemoryService(),
        )

    def test_one_of_each_test(self) -> None:
        self.refuse(
            "T.a refers to 'b', .* give a scope='test' too", a=self.service("{b.url}"), b=MemoryService(scope="test")
        )

    def test_waves(self) -> None:
        declared: list[tuple[str, Service[Any]]] = [
            ("c", self.service("{a.url} {b.url}")),
            ("a", self.service("")),
            ("b", self.service("{a.url}")),
            ("d", self.service("")),
        ]
        self.assertEqual(references.waves("T", declared), [["a", "d"], ["b"], ["c"]])


class NetworkTest(InnerTest):
    def test_its_names_must_be_services_and_lists(self) -> None:
        for aliases, text in (
            ({"pg": ["db"]}, "T.net names 'pg', which is no service of T"),
            ({"memory": "db"}, r"T.net: the aliases of 'memory' must be a list: \['db'\]"),
        ):
            with self.subTest(text), self.assertRaisesRegex(DeclarationError, text):
                type("T", (ContainerTestCase,), {"memory": MemoryService(), "net": Network(aliases)})

    def test_as_a_value(self) -> None:
        one, other = Network({"web": ["www"]}), Network({"db": ["store"]})
        self.assertEqual((one, Network()), (Network({"web": ["www"]}), Network(aliases={})))
        self.assertNotEqual(one, other)
        self.assertNotEqual(one, 1)
        self.assertEqual(repr(one), "Network(aliases={'web': ['www']})")
        self.assertEqual(str(inspect.signature(Network)).partition(" =")[0], "(aliases: 'Mapping[str, Sequence[str]]'")
        with self.assertRaises(AttributeError):
            one.aliases = {}  # type: ignore[misc]  # that it is refused is the point

    def test_there_is_none_without_docker(self) -> None:
        class T(ContainerTestCase):
            net = Network()
            api = InContainer("api:1", events=self.events, scope="class", env={"DB": "{db.host}"})
            db = self.service("db:1")

            def test(self) -> None:
                with unittest.TestCase.assertRaisesRegex(self, NotStarted, "the network of .*T exists only while"):
                    print(self.net)

        self.check(run(T), ran=1)
