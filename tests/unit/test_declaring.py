# SPDX-License-Identifier: Apache-2.0
"""What is refused of declarations of whatever service, and the shorthands of mixins."""

from __future__ import annotations

import functools
from collections import UserList, deque
from pathlib import Path
from typing import Any, ClassVar

from itest import (
    Compose,
    Container,
    ContainerTestCase,
    Kafka,
    KafkaMixin,
    Network,
    Postgres,
    PostgresMixin,
    Redis,
    RedisMixin,
)
from itest.errors import DeclarationError, NotStarted
from itest.service import ServiceMixin
from itest.shorthand import Shorthand
from itest.testing import MemoryService
from tests.unit.inner import InnerTest, run


class WrongTest(InnerTest):
    def refuse(self, text: str, *bases: type, **attributes: Any) -> None:
        with self.assertRaises(DeclarationError) as caught:
            type("T", (*bases, ContainerTestCase), attributes)
        self.assertEqual(str(caught.exception), f"T.{text}")

    def test_a_value_in_place_of_a_declaration(self) -> None:
        comma = "postgres is a tuple of declarations; is there a comma behind it?"
        self.refuse(comma, PostgresMixin, postgres=(Postgres(),))
        self.refuse("search is a list of declarations; is there a comma behind it?", search=[Redis()])
        cure = "which is no declaration: write Postgres"
        self.refuse(
            f"postgres is 'postgres:17', {cure}('postgres:17'), or None to opt out",
            PostgresMixin,
            postgres="postgres:17",
        )
        self.refuse(
            "postgres is 'postgresql://u:***@h/x', which is no declaration: write Postgres(external='TEST_SERVER_URL'), where "
            "that names a variable that has it, or None to opt out",
            PostgresMixin,
            postgres="postgresql://u:S3cretPassw@h/x",
        )
        self.refuse(f"postgres is {Postgres!r}, {cure}(), or None to opt out", PostgresMixin, postgres=Postgres)
        self.refuse(f"postgres is the class Postgres, {cure}()", postgres=Postgres)
        type("T", (PostgresMixin, ContainerTestCase), {"postgres": None})

    def test_a_declaration_of_another_kind_than_a_mixin_needs(self) -> None:
        class Customised(Postgres):
            pass

        class Mine(PostgresMixin):
            postgres = Customised()

        class Plain(ContainerTestCase):
            postgres = Redis()

        cure = "give it another name"
        for kind, service in (("Redis", Redis()), ("Container", Container("postgres:17"))):
            self.refuse(
                f"postgres is a {kind}, but PostgresMixin's db and session need a Postgres; {cure}",
                Mine,
                postgres=service,
            )
        self.refuse(f"redis is a Postgres, but RedisMixin's cache needs a Redis; {cure}", RedisMixin, redis=Postgres())
        self.refuse(
            f"postgres is a Redis, but PostgresMixin's db and session need a Postgres; {cure}", Plain, PostgresMixin
        )
        for own in (Customised(), Postgres()):
            type("T", (Mine, ContainerTestCase), {"postgres": own})
        type("T", (PostgresMixin, Plain), {})
        type("T", (Plain, PostgresMixin), {"postgres": None})
        type("T", (Plain,), {"postgres": Kafka()})
        OptedOut = type("OptedOut", (PostgresMixin, ContainerTestCase), {"postgres": None})
        type("T", (OptedOut,), {"postgres": Redis()})
        type("T", (PostgresMixin, ContainerTestCase), {"postgres": Redis(), "db": None, "session": "mine"})
        self.refuse(
            f"postgres is a Redis, but PostgresMixin's session needs a Postgres; {cure}",
            PostgresMixin,
            postgres=Redis(),
            db=None,
        )

    def test_a_field_of_another_type(self) -> None:
        image = "must be a text like 'busybox:1.37', not"
        for text, service in {
            f"it: image {image} 17": lambda: Postgres(17),  # type: ignore[arg-type]
            f"it: image {image} None": lambda: Redis(None),  # type: ignore[arg-type]
            "it: reuse must be True or False, not 'yes'": lambda: Redis(reuse="yes"),  # type: ignore[arg-type]
            "it: password must be a text, not a int": lambda: Postgres(password=1234),  # type: ignore[arg-type]
            "it: partitions must be a whole number, not '2'": lambda: Kafka(partitions="2"),  # type: ignore[arg-type]
            "it: env: A is a bool, not a text: write one, in quotes or by str(), or leave it out": lambda: Postgres(
                env={"A": True}
            ),
            "it: topics must be a dict, {'orders': 1}, with the number of each topic's partitions, not a list": lambda: (
                Kafka(
                    topics=["orders"]  # type: ignore[arg-type]
                )
            ),
            "it: env must be a dict, {'name': value}, not a list": lambda: Postgres(env=["A=1"]),  # type: ignore[arg-type]
            "it: volumes must be a dict, {'name': value}, not a int": lambda: Postgres(volumes=5),  # type: ignore[arg-type]
            "it: extra_hosts must be a dict, {'name': value}, not a list": lambda: Container(
                "busybox:1.37",
                extra_hosts=["a:10.1.1.1"],  # type: ignore[arg-type]
            ),
            "it: files must be a dict, {'name': value}, not a str": lambda: Container(
                "busybox:1.37",
                files="/etc/app.conf",  # type: ignore[arg-type]
            ),
            "it: healthcheck: 5 is no command; write it as a text or a list, or a Healthcheck(...)": lambda: Container(
                "busybox:1.37",
                healthcheck=5,  # type: ignore[arg-type]
            ),
            "it: ports must be a dict, {'name': value}, not a list": lambda: Compose("compose.yaml", ports=[80]),  # type: ignore[arg-type]
            "it: depends_on must be a list: depends_on=['db']": lambda: Redis(depends_on="db"),
        }.items():
            with self.subTest(text):
                self.refuse(text, it=service())

    def test_a_collection_of_another_type(self) -> None:
        leave = "not None; leave it out if there is none"
        busybox = functools.partial(Container, "busybox:1.37")
        for text, service in {
            f"fixtures must be a list, {leave}": Postgres(fixtures=None),  # type: ignore[arg-type]
            f"init must be a list, {leave}": Postgres(init=None),  # type: ignore[arg-type]
            f"extensions must be a list, {leave}": Postgres(extensions=None),  # type: ignore[arg-type]
            f"depends_on must be a list, {leave}": Redis(depends_on=None),  # type: ignore[arg-type]
            f"ports must be a dict or a list or a port, {leave}": busybox(ports=None),
            f"tmpfs must be a dict or a list or a text, {leave}": busybox(tmpfs=None),
            f"cap_add must be a text or a list, {leave}": busybox(cap_add=None),
            f"env_file must be a text or a Path or a list, {leave}": busybox(env_file=None),
            f"volumes must be a dict, {{'name': value}}, {leave}": busybox(volumes=None),
            "fixtures must be a list: fixtures=['a.sql']": Postgres(fixtures="a.sql"),
            "init must be a list: init=['a.sql']": Postgres(init=Path("a.sql")),  # type: ignore[arg-type]
            "extensions must be a list: extensions=['vector']": Postgres(extensions="vector"),
            "depends_on must be a list, not 5": Redis(depends_on=5),  # type: ignore[arg-type]
            "ports must be a dict or a list or a port, not a float": busybox(ports=80.0),
            "memory must be a whole number or a text like '512m', not 1.5": busybox(memory=1.5),
            "cap_add: 1 is no text": busybox(cap_add=[1]),
            "init must be a list, not b'a'": Postgres(init=b"a"),  # type: ignore[arg-type]
            "cap_drop must be a text or a list, not b'a'": busybox(cap_drop=b"a"),
            "cap_drop: 2 is no text": busybox(cap_drop={2}),
            "prefix must be a text, not 3": Kafka(prefix=3),  # type: ignore[arg-type]
            "labels: the name 1 is no text; write it in quotes": busybox(labels={1: "a"}),
            "env: 1 is no name of a variable": Kafka(env={1: "a"}),  # type: ignore[dict-item]
            "ulimits: nofile=None is no limit; write a number, or (soft, hard)": busybox(ulimits={"nofile": None}),
        }.items():
            with self.subTest(text):
                self.refuse(f"it: {text}", it=service)
        for name, value in {
            "cap_add": "NET_ADMIN",
            "ports": range(8000, 8003),
            "entrypoint": None,
            "command": (),
            "cap_drop": {"NET_ADMIN"},
        }.items():
            type("T", (ContainerTestCase,), {"it": busybox(**{name: value})})

    def test_other_collections_than_lists(self) -> None:
        names = ("hstore", "pg_trgm")
        for extensions in (set(names), frozenset(names), deque(names), UserList(names), dict.fromkeys(names).keys()):
            with self.subTest(type(extensions).__name__):
                service: Any = Postgres(extensions=extensions)  # type: ignore[arg-type]
                type("T", (ContainerTestCase,), {"it": service})
                self.assertEqual(service.extensions, names)
        type("T", (ContainerTestCase,), {"it": Compose("compose.yaml", services={"a"})})  # type: ignore[arg-type]

    def test_a_network_that_is_no_dict(self) -> None:
        self.refuse("net: the aliases must be a dict, {'postgres': ['db']}, not ['db']", net=Network(["db"]))  # type: ignore[arg-type]

    def test_a_name_that_test_cases_have(self) -> None:
        for name in ("run", "id", "unique", "assertRowCount"):
            self.refuse(
                f"{name}: test cases have a method of that name, which would be lost; rename it", **{name: Redis()}
            )

    def test_class_methods_that_are_none(self) -> None:
        for name in ("setUpTestData", "setUpClass", "tearDownClass"):
            self.refuse(f"{name} is no class method: write @classmethod above it", **{name: lambda self: None})

    def test_reuse_is_for_the_whole_run(self) -> None:
        text = "it: reuse=True is for a server of the whole run, and one with scope='class' ends before"
        self.refuse(text, it=Redis(reuse=True, scope="class"))

    def test_a_url_in_place_of_the_variable_that_has_it(self) -> None:
        for url in ("postgresql://u:secret@localhost/x", "localhost:6379"):
            self.refuse(
                "it: external is the name of an environment variable that has the URL, external='TEST_SERVER_URL', and not "
                "the URL itself",
                it=Redis(external=url),
            )

    def test_a_url_in_place_of_an_image(self) -> None:
        url = "postgresql://u:S3cretPassw@localhost/x"
        for service in (Postgres(url), Redis(url), Kafka(url), Container(url)):
            self.refuse(
                "it: that is a URL, not an image: external='TEST_SERVER_URL' names a variable that has the URL of a "
                "running server",
                it=service,
            )
        for scheme in ("https://", "docker://", "docker.io://"):
            self.refuse(
                f"it: that is a URL, not an image: leave out {scheme} if it is one's name; external='TEST_SERVER_URL' names a "
                f"variable that has the URL of a running server",
                it=Container(f"{scheme}u:S3cretPassw@reg.example.com/shop:1"),
            )
        self.refuse(
            "it: image must be a text like 'busybox:1.37', not ('postgresql://u:***@localhost/x',)",
            it=Postgres([url]),  # type: ignore[arg-type]
        )


class MemoryShorthand(ServiceMixin):
    memory = MemoryService()
    data: Shorthand[dict[str, object]] = Shorthand("memory", "data")


class ShorthandTest(InnerTest):
    def test_it_is_the_tests_own_and_on_the_class_that_of_the_class(self) -> None:
        class T(MemoryShorthand, ContainerTestCase):
            seen: ClassVar[list[object]] = []

            @classmethod
            def setUpTestData(cls) -> None:
                cls.data["baseline"] = 1

            def test_a(self) -> None:
                self.data["mine"] = 2
                self.seen.append(dict(self.data))

            test_b = test_a

        self.check(run(T), ran=2)
        self.assertEqual(T.seen, [{"baseline": 1, "mine": 2}] * 2)

    def test_before_the_services_are_started(self) -> None:
        for cls, name in ((PostgresMixin, "db"), (RedisMixin, "cache"), (KafkaMixin, "queue")):
            T = type("T", (cls, ContainerTestCase), {})
            with self.assertRaisesRegex(NotStarted, r"in setUpClass, call super\(\)\.setUpClass\(\) first"):
                getattr(T, name).anything  # noqa: B018  # that reading it raises is the point
            for use in ("with {}: ...", "{}['key']", "{}['key'] = 1", "del {}['key']", "'key' in {}"):
                with self.subTest(use), self.assertRaises(NotStarted):
                    exec(use.format(f"T.{name}"), {"T": T})
            self.assertFalse(hasattr(T(), name))

    def test_where_its_service_is_opted_out(self) -> None:
        class T(MemoryShorthand, ContainerTestCase):
            memory = None  # type: ignore[assignment]

        with self.assertRaisesRegex(
            NotStarted, r"^.*T\.memory is None, which opts out of the service, so there is no 'data'$"
        ):
            T().data  # noqa: B018  # as above
