# SPDX-License-Identifier: Apache-2.0
"""Redis: whatever a test does, the next one starts from the baseline of its class."""

from __future__ import annotations

import os
import tempfile
import threading
import unittest
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

from itest import Redis, alive, naming
from itest.clock import Deadline
from itest.errors import ExternalError, Unavailable
from itest.services.redis import RedisServer, clients
from itest.services.redis.claims import CLAIM
from itest.services.redis.clients import RIGHTS
from itest.services.redis.lease import RedisLease
from itest.services.redis.recipes import DATABASES
from itest.testing import session
from tests.integration.at_once import meeting_in
from tests.integration.capture import said


class RedisCase(unittest.TestCase):
    """Base: one server for all its tests; each test takes a lease of its own, as a class would."""

    server: RedisServer

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        try:
            cls.server = cls.enterClassContext(session()).lend(Redis())  # type: ignore[assignment]  # a RedisServer
        except Unavailable as reason:
            raise unittest.SkipTest(str(reason)) from None

    def lease(self, **changes: Any) -> RedisLease:
        lease = self.server.lease(Redis(**changes), "tests.Inner")
        self.addCleanup(lease.close)
        return lease

    def subscribe(self, url: str) -> None:
        """Leave a client open that has subscribed to the channel `news`."""
        client = redis.Redis.from_url(url)
        self.addCleanup(client.close)
        pubsub = client.pubsub()
        self.addCleanup(pubsub.close)
        pubsub.subscribe("news")
        pubsub.get_message(timeout=30)


class RedisIsolationTest(RedisCase):
    """What holds on any server."""

    def test_keys_of_a_test_are_gone_and_the_baseline_is_back(self) -> None:
        lease = self.lease()
        lease.view.cache.set("name", "baseline")
        lease.view.cache.rpush("list", 1, 2, 3)
        lease.seal()
        cache = lease.reset("one").cache
        cache.set("name", "changed")
        cache.delete("list")
        cache.set("more", 1)
        cache = lease.reset("two").cache
        self.assertEqual(cache.get("name"), b"baseline")
        self.assertEqual(cache.lrange("list", 0, -1), [b"1", b"2", b"3"])
        self.assertEqual(sorted(cache.keys()), [b"list", b"name"])

    def test_expiry_of_the_baseline_runs_on(self) -> None:
        lease = self.lease()
        lease.view.cache.set("short", 1, px=60_000)
        lease.view.cache.set("for ever", 1)
        lease.seal()
        cache = lease.reset("one").cache
        self.assertLessEqual(cache.pttl("short"), 60_000)
        self.assertGreater(cache.pttl("short"), 0)
        self.assertEqual(cache.pttl("for ever"), -1)

    def test_a_test_that_ends_all_connections_ends_not_the_class(self) -> None:
        lease = self.lease()
        lease.view.cache.set("name", "baseline")
        lease.seal()
        lease.reset("one")
        cache = lease.reset("two").cache
        cache.set("more", 1)
        cache.client_kill_filter(_type="normal", skipme=True)
        self.assertEqual(lease.reset("three").cache.keys(), [b"name"])

    def test_two_leases_do_not_see_each_other(self) -> None:
        one, other = self.lease(), self.lease()
        self.assertNotEqual(one.database, other.database)
        one.view.cache.set("a", 1)
        self.assertEqual(other.view.cache.keys(), [])

    def test_a_database_is_given_back(self) -> None:
        lease = self.server.lease(Redis(), "tests.Inner")
        lease.view.cache.set("a", 1)
        database = lease.database
        lease.close()
        again = self.lease()
        self.assertEqual(again.database, database)
        self.assertEqual(again.view.cache.keys(), [])

    def test_clients_handed_out_are_closed_with_the_view(self) -> None:
        lease = self.lease()
        lease.seal()
        view = lease.reset("one")
        client = view.client(client_name="handed-out")
        client.ping()
        view.close()
        names = [each["name"] for each in lease.reset("two").cache.client_list()]
        self.assertNotIn("handed-out", names)

    def test_decode_responses_gives_text(self) -> None:
        lease = self.lease(decode_responses=True)
        lease.seal()
        cache = lease.reset("one").cache
        cache.set("a", "text")
        self.assertEqual(cache.get("a"), "text")

    def test_a_prefix_of_ones_own_in_a_shared_database(self) -> None:
        lease, other = self.lease(isolation="prefix"), self.lease(isolation="prefix")
        self.assertEqual(lease.database, 0)
        lease.view.cache.set(lease.view.key("base"), 1)
        lease.seal()
        other.seal()
        view = lease.reset("one")
        view.cache.set(view.key("mine"), 1)
        view.cache.delete(view.key("base"))
        foreign = other.reset("one")
        foreign.cache.set(foreign.key("theirs"), 1)
        view = lease.reset("two")
        self.assertEqual(view.cache.keys(view.key("*")), [view.key("base").encode()])
        self.assertEqual(foreign.cache.get(foreign.key("theirs")), b"1")

    def test_none_undoes_nothing(self) -> None:
        lease = self.lease(isolation="none")
        lease.seal()
        lease.reset("one").cache.set("stays", 1)
        cache = lease.reset("two").cache
        self.assertEqual(cache.get("stays"), b"1")
        cache.delete("stays")


class OwnRedisTest(RedisCase):
    """What belongs to the whole server is undone too, where the server is ours."""

    def test_settings_functions_scripts_and_users_are_undone(self) -> None:
        lease = self.lease()
        lease.seal()
        cache = lease.reset("one").cache
        before = cache.config_get("maxmemory-policy")
        cache.config_set("maxmemory-policy", "allkeys-lru")
        cache.function_load("#!lua name=lib\nredis.register_function('f', function() return 1 end)")
        digest = cache.script_load("return 1")
        cache.acl_setuser("guest", enabled=True, nopass=True, commands=["+@all"], keys=["*"])
        cache = lease.reset("two").cache
        self.assertEqual(cache.config_get("maxmemory-policy"), before)
        self.assertEqual(cache.function_list(), [])
        self.assertEqual(cache.script_exists(digest), [False])
        self.assertEqual(cache.acl_users(), ["default"])

    def test_with_a_prefix_too(self) -> None:
        lease = self.lease(isolation="prefix")
        lease.view.cache.set(lease.view.key("base"), 1)
        lease.seal()
        view = lease.reset("tests.Inner.test")
        before = view.cache.config_get("maxmemory-policy")
        view.cache.config_set("maxmemory-policy", "allkeys-lru")
        view.cache.config_set("min-replicas-to-write", 1)
        waiting = redis.Redis.from_url(view.url).pubsub()
        self.addCleanup(waiting.close)
        waiting.subscribe("news")
        waiting.get_message(timeout=30)
        with said() as lines:
            view = lease.reset("tests.Inner.next")
        self.assertEqual(view.cache.config_get("maxmemory-policy"), before)
        self.assertEqual(view.cache.keys(view.key("*")), [view.key("base").encode()])
        self.assertEqual((view.cache.publish("news", "hello"), len(lines)), (0, 1))

    def test_without_isolation_when_the_class_is_over(self) -> None:
        lease = self.server.lease(Redis(isolation="none"), "tests.Inner")
        lease.seal()
        cache = lease.reset("tests.Inner.test").cache
        before = cache.config_get("maxmemory-policy")
        cache.config_set("maxmemory-policy", "allkeys-lru")
        cache = lease.reset("tests.Inner.next").cache
        self.assertNotEqual(cache.config_get("maxmemory-policy"), before)
        lease.close()
        self.assertEqual(self.lease().view.cache.config_get("maxmemory-policy"), before)

    def test_what_the_class_itself_set_stays_until_its_end(self) -> None:
        lease = self.server.lease(Redis(), "tests.Inner")
        lease.view.cache.function_load("#!lua name=lib\nredis.register_function('f', function() return 1 end)")
        lease.seal()
        lease.reset("one").cache.function_flush()
        self.assertEqual(len(lease.reset("two").cache.function_list()), 1)
        lease.close()
        self.assertEqual(self.lease().view.cache.function_list(), [])

    def test_scripts_of_the_baseline_stay_until_the_end_of_the_class(self) -> None:
        lease = self.server.lease(Redis(), "tests.Inner")
        digest = lease.view.cache.script_load("return 7")
        lease.seal()
        lease.reset("one").cache.eval("return 1", 0)
        self.assertEqual(lease.reset("two").cache.evalsha(digest, 0), 7)
        lease.close()
        self.assertEqual(self.lease().view.cache.script_exists(digest), [False])

    def test_settings_are_undone_though_the_counters_that_tell_are_reset(self) -> None:
        with session() as own:  # On a new server nothing has been counted yet.
            server: Any = own.lend(Redis())
            lease = server.lease(Redis(), "tests.Inner")
            lease.seal()
            for test in ("one", "two"):
                cache = lease.reset(test).cache
                self.assertEqual(cache.config_get("maxmemory-policy"), {"maxmemory-policy": "noeviction"})
                cache.config_set("maxmemory-policy", "allkeys-lru")
                cache.config_resetstat()
            cache = lease.reset("three").cache
            self.assertEqual(cache.config_get("maxmemory-policy"), {"maxmemory-policy": "noeviction"})
            lease.close()

    def test_our_own_connection_may_be_ended_at_any_time(self) -> None:
        """As the setting `timeout` does while a baseline is written."""
        for isolation in Redis.isolations:
            with self.subTest(isolation):
                lease = self.server.lease(Redis(isolation=isolation), "tests.Inner")
                name = lease.view.key("baseline")
                lease.view.cache.set(name, 1)
                self.end_connection(lease)
                lease.seal()
                lease.reset("one")
                self.end_connection(lease)
                cache = lease.reset("two").cache
                self.assertEqual(cache.get(name), b"1")
                cache.config_set("maxmemory-policy", "allkeys-lru")
                cache.delete(name)
                self.end_connection(lease)
                lease.close()
                self.assertEqual(
                    self.lease().view.cache.config_get("maxmemory-policy"), {"maxmemory-policy": "noeviction"}
                )

    def end_connection(self, lease: RedisLease) -> None:
        ours = lease._own().client_id()
        lease.view.cache.client_kill_filter(_id=ours)
        connection: Any = lease._admin.connection
        deadline = Deadline.after(10)
        while not alive.has_spoken(connection._sock):
            self.assertFalse(deadline.passed)
            deadline.pause(0.002)

    def test_threads_that_are_the_first_to_ask_get_the_same_client(self) -> None:
        view = self.lease().view
        first, second = meeting_in(clients, "_checked", lambda: view.cache)
        self.assertIs(first, second)

    def test_a_client_left_blocked_is_ended_and_reported(self) -> None:
        lease = self.lease()
        lease.seal()
        view = lease.reset("tests.Inner.test_leaks")
        leaked = redis.Redis.from_url(view.url)
        ended = threading.Event()

        def wait() -> None:
            try:
                leaked.execute_command("BLPOP", "queue", 0)
            except redis.ConnectionError:
                ended.set()

        thread = threading.Thread(target=wait)
        thread.start()
        self.addCleanup(leaked.close)
        self.addCleanup(thread.join, 10)
        deadline = Deadline.after(10)
        while not any("b" in client["flags"] for client in view.cache.client_list()):
            self.assertFalse(deadline.passed)
            deadline.pause(0.002)
        with said() as lines:
            cache = lease.reset("next").cache
        cache.rpush("queue", "mine")
        self.assertEqual(cache.lrange("queue", 0, -1), [b"mine"])
        self.assertEqual(
            lines,
            ["tests.Inner.test_leaks left a Redis client behind, which was ended: it was blocked, last command: blpop"],
        )

    def test_one_that_connects_again_is_told_with_the_test_that_left_it(self) -> None:
        lease = self.lease()
        lease.seal()
        view = lease.reset("one")
        with said() as lines:
            for test in ("two", "three"):
                self.subscribe(view.url)
                lease.reset(test)
        left = "left a Redis client behind, which was ended: it was subscribed, last command: subscribe"
        self.assertEqual(
            lines,
            [f"one {left}", f"two {left}; or it is the one that one left, which connects again by itself"],
        )

    def test_a_subscription_left_behind_is_ended(self) -> None:
        lease = self.lease()
        lease.seal()
        view = lease.reset("one")
        self.subscribe(view.url)
        with said():
            cache = lease.reset("two").cache
        self.assertEqual(cache.publish("news", "hello"), 0)

    def test_a_client_of_the_class_that_waits_is_left_alone(self) -> None:
        lease = self.lease()
        self.subscribe(lease.view.url)
        lease.seal()
        lease.reset("one")
        cache = lease.reset("two").cache
        self.assertEqual(cache.publish("news", "hello"), 1)

    def test_the_kept_client_is_as_new_after_a_test_that_spoilt_it(self) -> None:
        lease = self.lease()
        lease.seal()
        cache = lease.reset("one").cache
        cache.execute_command("SELECT", 0)
        cache = lease.reset("two").cache
        cache.set("a", 1)
        self.assertEqual(redis_keys(self, lease), [b"a"])

    def test_the_kept_client_is_as_new_whoever_it_was_and_whatever_it_spoke(self) -> None:
        def authenticate(cache: Any) -> None:
            cache.execute_command("AUTH", "reader", "pw")

        lease = self.lease(decode_responses=True)
        lease.view.cache.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["*"], commands=["+get", "+auth"])
        lease.seal()
        for number, change in enumerate(
            (
                authenticate,
                lambda cache: cache.execute_command("HELLO", 2),
                lambda cache: cache.execute_command("CLIENT", "NO-TOUCH", "ON"),
                lambda cache: cache.set_response_callback("GET", lambda answer, **options: len(answer)),
            )
        ):
            change(lease.reset(f"changes {number}").cache)
            cache: Any = lease.reset(f"after {number}").cache
            cache.set("a", "text")
            self.assertEqual(cache.get("a"), "text")
            self.assertEqual((cache.client_info()["user"], cache.client_info()["flags"]), ("default", "N"))
            cache.hset("h", "a", 1)
            self.assertEqual(cache.hgetall("h"), {"a": "1"})

    def test_the_kept_client_is_known_whatever_it_calls_itself(self) -> None:
        lease = self.lease()
        lease.seal()
        cache = lease.reset("one").cache
        cache.client_setname("mine")
        lease.settle("one", 0.0, True)
        cache = lease.reset("two").cache
        self.assertEqual(cache.client_getname(), "itest-cache")
        cache.client_setname("mine")
        cache.execute_command("SELECT", 77)
        self.assertEqual(int(lease.reset("three").cache.client_info()["db"]), lease.database)

    def test_the_kept_client_is_as_it_was_though_another_declaration_of_the_class_has_one(self) -> None:
        leases = [self.lease(), self.lease()]
        for lease in leases:
            lease.seal()
        clients = [lease.reset("one").cache.client_id() for lease in leases]
        self.assertEqual([lease.reset("two").cache.client_id() for lease in leases], clients)

    def test_what_was_written_to_another_number_is_no_baseline_of_the_next_class(self) -> None:
        lease = self.server.lease(Redis(), "tests.Inner")
        with redis.Redis.from_url(self.server.url_of(lease.database + 1)) as mistaken:
            mistaken.set("foreign", 1)
        other = self.lease()
        self.assertEqual((other.database, other.view.cache.keys()), (lease.database + 1, []))
        lease.close()

    def test_what_the_last_test_left_waiting_takes_nothing_from_the_next_class(self) -> None:
        lease = self.server.lease(Redis(), "tests.Inner")
        lease.seal()
        view = lease.reset("tests.Inner.test_last")
        leaked = redis.Redis.from_url(view.url).pubsub()
        self.addCleanup(leaked.close)
        leaked.subscribe("news")
        leaked.get_message(timeout=30)
        with said() as lines:
            lease.close()
        self.assertEqual(self.lease().view.cache.publish("news", "hello"), 0)
        self.assertIn("tests.Inner.test_last left a Redis client behind", lines[0])


class SharedRedisTest(unittest.TestCase):
    """Two workers of one run use one server: what each has there is its own."""

    def setUp(self) -> None:
        self.cache = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.group = naming.session_id()

    def worker(self) -> RedisServer:
        """The server, as a process of this run knows it."""
        environment = {**os.environ, "PYTEST_XDIST_TESTRUNUID": self.group}
        try:
            found = session(cache_dir=self.cache, environment=environment, warm=False)
            server: Any = self.enterContext(found).lend(Redis())
        except Unavailable as reason:
            self.skipTest(str(reason))
        self.assertTrue(server.shared)
        return server  # type: ignore[no-any-return]  # a RedisServer

    def lease(self, server: RedisServer, test: str) -> RedisLease:
        """As a class of that worker has it while its first test runs."""
        lease = server.lease(Redis(), "tests.Inner")
        self.addCleanup(lease.close)
        lease.seal()
        lease.reset(test)
        return lease

    def test_clients_that_wait_in_the_test_of_another_worker_are_not_ended(self) -> None:
        mine, theirs = (self.lease(self.worker(), "tests.Inner.test") for _ in range(2))
        subscribed = theirs.view.client().pubsub()
        self.addCleanup(subscribed.close)
        subscribed.subscribe("news")
        subscribed.get_message(timeout=30)
        queueing = theirs.view.client(single_connection_client=True)
        queueing.execute_command("MULTI")
        with said() as lines:
            mine.reset("tests.Inner.next")
        queueing.execute_command("SET", "a", 1)
        self.assertEqual(queueing.execute_command("EXEC"), [b"OK"])
        self.assertEqual(theirs.view.cache.publish("news", "hello"), 1)
        self.assertEqual(lines, [])
        with said() as lines:
            theirs.reset("tests.Inner.next")
        self.assertEqual(len(lines), 1, lines)

    def test_a_flush_of_everything_gives_no_number_to_two_of_them(self) -> None:
        one, other = self.worker(), self.worker()
        mine = one.lease(Redis(), "tests.Inner")
        mine.view.cache.flushall()
        theirs = self.lease(other, "tests.Inner.test")
        self.assertNotEqual(mine.database, theirs.database)
        number = mine.database
        mine.close()
        self.assertEqual(self.lease(other, "tests.Inner.test").database, number)

    def test_what_others_may_have_set_is_not_undone_and_told(self) -> None:
        mine = self.lease(self.worker(), "tests.Inner.test")
        mine.view.cache.config_set("min-replicas-to-write", 1)
        with self.assertRaisesRegex(redis.ResponseError, "NOREPLICAS") as caught:
            mine.reset("tests.Inner.next")
        self.assertIn('wants a server of its own: Redis(scope="class")', caught.exception.__notes__[-1])
        mine.view.cache.config_set("min-replicas-to-write", 0)

    def test_what_a_worker_keeps_is_no_database_of_a_later_one(self) -> None:
        one, other = self.worker(), self.worker()
        number = one.keep_database()
        with redis.Redis.from_url(one.url_of(number)) as client:
            client.set("kept", 1)
            one.share.give_back(f"database-{number}")  # type: ignore[union-attr]  # As at the end of its process.
            self.assertNotEqual(self.lease(other, "tests.Inner.test").database, number)
            self.assertEqual(client.keys(), [b"kept"])


class ExternalRedisTest(RedisIsolationTest):
    """A server reached by a URL, as if somebody else ran it: only empty databases are taken, and given back."""

    home: RedisServer

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.home = cls.server
        cls.server = cls.enterClassContext(session(redis_url=cls.home.address)).lend(Redis())  # type: ignore[assignment]  # as above

    def test_a_database_that_holds_keys_is_never_taken(self) -> None:
        with redis.Redis.from_url(self.home.url_of(1)) as foreign:
            foreign.set("foreign", 1)
            self.addCleanup(redis.Redis.from_url(self.home.url_of(1)).flushdb)
            lease = self.lease()
            self.assertNotEqual(lease.database, 1)
            lease.view.cache.set("a", 1)
            lease.close()
            self.assertEqual(foreign.keys(), [b"foreign"])

    def test_a_database_claimed_by_another_run_is_not_taken(self) -> None:
        with redis.Redis.from_url(self.home.url_of(0)) as ledger:
            ledger.set(CLAIM.format(1), "another run")
            self.assertNotEqual(self.lease().database, 1)
            ledger.delete(CLAIM.format(1))

    def test_the_claim_is_gone_when_the_lease_is(self) -> None:
        lease = self.server.lease(Redis(), "tests.Inner")
        with redis.Redis.from_url(self.home.url_of(0)) as ledger:
            self.assertTrue(ledger.exists(CLAIM.format(lease.database)))
            lease.close()
            self.assertEqual(ledger.keys(), [])

    def test_no_free_database_says_what_to_do(self) -> None:
        with redis.Redis.from_url(self.home.url_of(0)) as ledger:
            for number in range(1, DATABASES):
                ledger.set(CLAIM.format(number), "another run")
            self.addCleanup(redis.Redis.from_url(self.home.url_of(0)).flushdb)
            with self.assertRaisesRegex(ExternalError, r"no free database .* raise its setting `databases`"):
                self.server.lease(Redis(), "tests.Inner")

    def test_a_url_by_which_clients_return_str(self) -> None:
        """It is for the clients of tests; itest's own found another run's claim in its place."""
        address = f"{self.home.address}/0?decode_responses=true"
        server: Any = self.enterContext(session(redis_url=address)).lend(Redis())
        lease = server.lease(Redis(), "tests.Inner")
        self.addCleanup(lease.close)
        lease.view.cache.set("a", b"\xff\xfe")
        lease.seal()
        for _ in range(2):
            view = lease.reset("one")
            view.cache.set("b", "c")
            self.assertEqual([view.cache.get("b"), view.client().get("b")], ["c", "c"])
            self.assertEqual(view.client(decode_responses=False).get("a"), b"\xff\xfe")
        self.assertIn("2 keys", lease.evidence(0).brief)
        lease.close()
        self.assertEqual(redis_keys(self, lease), [])
        with redis.Redis.from_url(self.home.url_of(0)) as ledger:
            self.assertEqual(ledger.keys(), [])

    def permitted(self, user: str, commands: Iterable[str]) -> str:
        """Its URL, for a user who may do these and nothing else."""
        with redis.Redis.from_url(self.home.address) as admin:
            self.addCleanup(redis.Redis.from_url(self.home.address).acl_deluser, user)
            allowed = [f"+{command.strip().lower()}" for command in commands]
            admin.acl_setuser(user, enabled=True, passwords=["+pw"], keys=["*"], commands=allowed)
        home = urlsplit(self.home.address)
        return home._replace(netloc=f"{user}:pw@{home.hostname}:{home.port}").geturl()

    def test_the_rights_that_the_user_needs_suffice(self) -> None:
        for isolation, commands in RIGHTS.items():
            mine = "GET, SET"  # What the tests of the class need themselves.
            address = self.permitted("someone", f"{commands}, {mine}".replace(" and ", ", ").split(","))
            with self.subTest(isolation), session(redis_url=address) as ours:
                lease: Any = ours.lend(declared := Redis(isolation=isolation)).lease(declared, "tests.Inner")
                lease.view.cache.set(lease.view.key("baseline"), 1)
                lease.seal()
                for _ in range(2):
                    view = lease.reset("tests.Inner.test")
                    self.assertEqual(view.cache.get(view.key("baseline")), b"1")
                    view.cache.set(view.key("made"), 1)
                lease.evidence(0)
                with said() as lines:
                    lease.close()
                self.assertEqual(lines, [])
        with redis.Redis.from_url(self.home.url_of(0)) as ledger:
            ledger.delete("baseline", "made")
            self.assertEqual(ledger.keys(), [])

    def test_a_user_who_lacks_a_right_is_told_which_there_are(self) -> None:
        address = self.permitted("pinger", ["select"])
        with session(redis_url=address) as ours, self.assertRaises(ExternalError) as caught:
            ours.lend(Redis())
        self.assertRegex(
            str(caught.exception), r"no permissions to run the 'ping' command.* needs PING, .* and TYPE \(tried"
        )
        address = self.permitted("scanner", ["ping", "select", "scan"])
        with session(redis_url=address) as ours:
            lease: Any = ours.lend(Redis()).lease(Redis(isolation="prefix"), "tests.Inner")
            with redis.Redis.from_url(self.home.address) as admin:
                admin.set(lease.view.key("a"), 1)
                with self.assertRaises(ExternalError) as caught:
                    lease.seal()
                self.assertRegex(
                    str(caught.exception), r"^reading the baseline on .* 'dump' .* needs PING, .* UNLINK, .* TYPE$"
                )
                with self.assertRaises(ExternalError) as caught:
                    lease.reset("tests.Inner.test")
                self.assertRegex(str(caught.exception), r"^the reset for tests\.Inner\.test on .* needs PING, .* TYPE$")
                admin.delete(lease.view.key("a"))
            with said():
                lease.close()

    def test_a_wrong_password_is_said_at_once_and_not_shown(self) -> None:
        address = self.home.address.replace("redis://:", "redis://:not")
        with session(redis_url=address) as ours, self.assertRaises(ExternalError) as caught:
            ours.lend(Redis())
        # It would be tried for 10 s and more.
        self.assertRegex(
            str(caught.exception),
            r"^the external Redis at 127\.0\.0\.1:\d+, named by ITEST_REDIS_URL, cannot be used: the password is wrong: .*"
            r"\(tried for \d\.\d s\)$",
        )
        self.assertNotIn(address.split(":")[2].split("@")[0], str(caught.exception))


def redis_keys(test: RedisCase, lease: RedisLease) -> Any:
    with redis.Redis.from_url(test.server.url_of(lease.database)) as client:
        return client.keys()
