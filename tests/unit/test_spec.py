# SPDX-License-Identifier: Apache-2.0
"""What engines are asked to run."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from itest import Redis, naming, sharing, warm_store
from itest.engines import Endpoint, directory
from itest.engines.docker_login import Login
from itest.spec import ContainerSpec, ExternalSpec, Keep, Port, ProcessSpec, fill
from itest.starting import Job


class FillTest(unittest.TestCase):
    ENDPOINTS: ClassVar = {"http": ("127.0.0.1", 8080), "db-1": ("127.0.0.1", 5432)}

    def test_each_placeholder_is_filled(self) -> None:
        text = "{port:http} {endpoint:db-1} {directory}/data"
        self.assertEqual(fill(text, self.ENDPOINTS, "/tmp/x"), "8080 127.0.0.1:5432 /tmp/x/data")

    def test_other_braces_stay_as_they_are(self) -> None:
        for text in (
            '{"a": 1}',
            "{}",
            "{port}",
            "{http:port}",
            "awk '{print $1}'",
            "${port:8080} %{port:http} #{port:http}",
        ):
            self.assertEqual(fill(text, self.ENDPOINTS), text)

    def test_where_there_is_no_directory_its_name_is_any_text(self) -> None:
        self.assertEqual(fill("{directory}/{port:http}", self.ENDPOINTS), "{directory}/8080")

    def test_an_unknown_port_is_a_key_error(self) -> None:
        with self.assertRaisesRegex(KeyError, "https"):
            fill("{port:https}", self.ENDPOINTS)


class EndpointTest(unittest.TestCase):
    def test_an_ipv6_address_is_one_in_an_url_too(self) -> None:
        self.assertEqual(str(Endpoint("127.0.0.1", 5432)), "127.0.0.1:5432")
        there: Any = SimpleNamespace(endpoint=lambda name: Endpoint("2001:db8::5", 6379))
        self.assertEqual(Redis().address(there, "pw"), "redis://:pw@[2001:db8::5]:6379")


class ContainerSpecTest(unittest.TestCase):
    SPEC = ContainerSpec(
        "redis:8",
        env={"PASSWORD": "one", "MODE": "a"},
        command=("--port", "{port:redis}"),
        ports={"redis": Port(6379)},
        secrets=frozenset({"PASSWORD"}),
    )

    def test_a_password_does_not_count_for_the_fingerprint(self) -> None:
        other = self.SPEC._replace(env={"PASSWORD": "two", "MODE": "a"})
        self.assertEqual(self.SPEC.fingerprint(), other.fingerprint())

    def test_everything_else_does(self) -> None:
        others = [
            self.SPEC._replace(image="redis:7"),
            self.SPEC._replace(env={"PASSWORD": "one", "MODE": "b"}),
            self.SPEC._replace(command=()),
            self.SPEC._replace(entrypoint=()),
            self.SPEC._replace(ports={"redis": Port(6379, chosen=True)}),
            self.SPEC._replace(tmpfs={"/data": 0}),
        ]
        self.assertEqual(len({spec.fingerprint() for spec in [self.SPEC, *others]}), 7)

    def test_whether_a_file_may_be_executed_counts(self) -> None:
        file = Path(self.enterContext(tempfile.TemporaryDirectory())) / "init.sh"
        file.write_text("true")
        specs = [self.SPEC._replace(files={"/init": place}) for place in (file, file.parent)]
        seen = set()
        for mode in (0o644, 0o755, 0o600):
            file.chmod(mode)
            seen |= {spec.fingerprint() for spec in specs}
        self.assertEqual(len(seen), 4)

    def test_what_is_left_out_is_the_same_as_what_is_empty(self) -> None:
        empty = ContainerSpec("redis:8", env={}, command=(), ports={}, tmpfs={}, secrets=frozenset(), files={})
        self.assertEqual(ContainerSpec("redis:8").fingerprint(), empty.fingerprint())

    def test_what_stands_in_one_field_is_not_the_same_in_another(self) -> None:
        one, other = ContainerSpec("redis:8", command=("a",)), ContainerSpec("redis:8", entrypoint=("a",))
        self.assertNotEqual(one.fingerprint(), other.fingerprint())

    def test_it_is_frozen(self) -> None:
        with self.assertRaises(AttributeError):
            self.SPEC.image = "redis:7"  # type: ignore[misc]  # that it is refused is the point

    def test_its_text_fits_into_a_sentence(self) -> None:
        self.assertEqual(str(self.SPEC), "image redis:8")

    def test_its_repr_shows_no_password(self) -> None:
        secret = naming.secret()
        shown = repr(self.SPEC._replace(env={"PASSWORD": secret}, command=("--requirepass", secret)))
        self.assertNotIn(secret, shown)
        self.assertIn("ContainerSpec(image='redis:8', env={'PASSWORD': '***'}, command=('--requirepass', '***')", shown)

    def test_its_repr_hides_what_it_calls_secret_even_if_nobody_else_knows(self) -> None:
        self.assertNotIn("'one'", repr(self.SPEC))
        self.assertIn("'MODE': 'a'", repr(self.SPEC))


class ProcessSpecTest(unittest.TestCase):
    SPEC = ProcessSpec("Valkey 9 from PATH", ("valkey-server",), ("redis",))

    def test_a_password_does_not_count_for_the_fingerprint(self) -> None:
        one, two, other = (
            self.SPEC._replace(files={"password.secret": secret, "conf": conf})
            for secret, conf in (("one", "a"), ("two", "a"), ("one", "b"))
        )
        self.assertEqual(one.fingerprint(), two.fingerprint())
        self.assertNotEqual(one.fingerprint(), other.fingerprint())

    def test_everything_else_does(self) -> None:
        others = [
            self.SPEC._replace(version="Valkey 8 from PATH"),
            self.SPEC._replace(argv=("valkey-server", "--save")),
            self.SPEC._replace(prepare=(("valkey-server",),)),
            self.SPEC._replace(env={"MODE": "a"}),
            self.SPEC._replace(runs_as_root=False),
            self.SPEC._replace(directory="/data"),
            self.SPEC._replace(inherits=True),
        ]
        self.assertEqual(len({spec.fingerprint() for spec in [self.SPEC, *others]}), 8)

    def test_its_text_is_what_it_really_is(self) -> None:
        self.assertEqual(str(self.SPEC), "Valkey 9 from PATH")

    def test_its_repr_shows_no_password(self) -> None:
        secret = naming.secret()
        shown = repr(self.SPEC._replace(files={"password.secret": secret}, argv=("x", secret)))
        self.assertNotIn(secret, shown)
        self.assertIn("version='Valkey 9 from PATH'", shown)


class RecordTest(unittest.TestCase):
    """What a traceback that shows local variables has of the values that hold a password."""

    def test_no_text_shows_the_password(self) -> None:
        spec = ProcessSpec("Valkey 9", ("serve", "--token", "hush-hush"), ("redis",), env={"API_TOKEN": "hush-hush"})
        unknown: Any = None
        for record in (
            Job(Redis(), spec, unknown, unknown, 60.0, "hush-hush", {}, unknown, unknown, warm=True),
            warm_store.Record("f", "redis", 1.0, "hush-hush"),
            sharing.Record("s", "hush-hush"),
            directory.Record({}, argv=spec.argv),
            Login({"X-Registry-Auth": "hush-hush"}),
            Keep(("data",), secret="hush-hush"),
        ):
            self.assertTrue(repr(record).startswith(f"{type(record).__name__}("))
            self.assertNotIn("hush", repr(record))


class ExternalSpecTest(unittest.TestCase):
    SPEC = ExternalSpec("redis://:geheim@db:6379/0", {"redis": ("db", 6379)}, "ITEST_REDIS_URL")

    def test_no_text_of_it_shows_the_url(self) -> None:
        self.assertEqual(str(self.SPEC), "external server from ITEST_REDIS_URL")
        self.assertNotIn("geheim", repr(self.SPEC))
        self.assertEqual(repr(self.SPEC), "ExternalSpec(ports={'redis': ('db', 6379)}, source='ITEST_REDIS_URL')")

    def test_servers_at_different_urls_are_different(self) -> None:
        self.assertNotEqual(self.SPEC.fingerprint(), self.SPEC._replace(url="redis://db:6379/1").fingerprint())
