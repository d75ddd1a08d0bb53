# SPDX-License-Identifier: Apache-2.0
"""Redis: a test that leaves the server so that it refuses the next reset, or does not answer it, spoils no later one."""

from __future__ import annotations

import contextlib
import unittest
from typing import Any

import redis

from itest import Redis
from itest.clock import Deadline
from itest.errors import ResetError, Unavailable
from itest.services.redis.lease import RedisLease
from itest.testing import session
from tests.integration.capture import said
from tests.integration.test_redis_isolation import RedisCase

ENDLESS = "while true do end"
ENDLESS_AFTER_A_WRITE = "redis.call('SET', 'written', 1) while true do end"


class RefusedTest(RedisCase):
    def setUp(self) -> None:
        self.begun = self.lease()
        self.begun.view.cache.set("baseline", 1)
        self.begun.seal()
        self.cache: Any = self.begun.reset("tests.Inner.test").cache

    def check_next(self, lease: RedisLease | None = None) -> None:
        """The next test finds all as it should be."""
        cache = (lease or self.begun).reset("tests.Inner.next").cache
        self.assertEqual(cache.keys(), [b"baseline"])
        cache.set("mine", 1)

    def test_memory_too_small_for_the_baseline(self) -> None:
        self.cache.config_set("maxmemory", "1mb")
        self.check_next()
        self.assertEqual(self.cache.config_get("maxmemory"), {"maxmemory": "0"})

    def test_a_baseline_that_was_evicted_as_it_was_put_back(self) -> None:
        self.cache.config_set("maxmemory-policy", "allkeys-random")
        self.cache.config_set("maxmemory", "1mb")
        self.check_next()

    def test_no_writes_without_replicas(self) -> None:
        self.cache.config_set("min-replicas-to-write", 1)
        self.check_next()

    def test_a_replica_of_a_server_that_there_is_not(self) -> None:
        self.cache.replicaof("127.0.0.1", "1")
        self.check_next()
        self.assertEqual(self.cache.info("replication")["role"], "master")

    def test_a_replica_that_may_be_written_to_is_none_afterwards(self) -> None:
        self.cache.config_set("replica-read-only", "no")
        self.cache.replicaof("127.0.0.1", "1")
        self.check_next()
        self.assertEqual(self.cache.info("replication")["role"], "master")

    def test_a_user_who_may_not_flush_nor_set(self) -> None:
        self.cache.config_set("maxmemory-policy", "allkeys-lru")
        self.cache.execute_command("ACL SETUSER", "default", "-flushdb", "-config")
        self.check_next()
        self.assertEqual(self.cache.config_get("maxmemory-policy"), {"maxmemory-policy": "noeviction"})

    def test_a_pause_of_writes(self) -> None:
        self.cache.client_pause(60_000, all=False)
        connection: Any = self.begun._admin.connection
        connection._sock.settimeout(0.2)  # The ten seconds of all of itest's clients would be waited for.
        self.check_next()

    def test_a_script_without_end_is_killed_and_reported(self) -> None:
        self.run_endless(self.begun, ENDLESS)
        with said() as lines:
            self.check_next()
        self.assertEqual(lines, ["tests.Inner.test left a script running, which was killed"])

    def test_a_function_without_end(self) -> None:
        self.cache.function_load(f"#!lua name=lib\nredis.register_function('endless', function() {ENDLESS} end)")
        self.run_endless(self.begun, "", "FCALL", "endless", 0)
        with said() as lines:
            self.check_next()
        self.assertEqual(len(lines), 1, lines)

    def test_a_script_of_the_last_test_of_a_class(self) -> None:
        lease = self.server.lease(Redis(), "tests.Inner")
        lease.seal()
        lease.reset("tests.Inner.test_last")
        self.run_endless(lease, ENDLESS)
        with said() as lines:
            lease.close()
        self.assertEqual(lines, ["tests.Inner.test_last left a script running, which was killed"])
        self.assertEqual(self.lease().view.cache.keys(), [])

    def test_a_script_that_cannot_be_killed_ends_the_server_that_no_later_class_wants(self) -> None:
        with session() as own:
            try:
                server: Any = own.lend(Redis())
            except Unavailable as reason:
                self.skipTest(str(reason))
            lease = server.lease(Redis(), "tests.Inner")
            lease.seal()
            lease.reset("tests.Inner.test")
            self.run_endless(lease, ENDLESS_AFTER_A_WRITE)
            with self.assertRaisesRegex(
                redis.ResponseError, "^tests.Inner.test left a script running that has written, "
            ):
                lease.reset("tests.Inner.next")
            deadline = Deadline.after(60)
            while server.lives():
                self.assertFalse(deadline.passed)
                deadline.pause(0.01)
            lease.close()

    def test_whoever_locks_itest_out_is_named_and_the_next_class_gets_a_new_server(self) -> None:
        def rotate(view: Any) -> None:
            with view.client(single_connection_client=True) as client:
                client.config_set("requirepass", "rotated")
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")

        def restrict(view: Any) -> None:
            view.cache.execute_command("ACL", "SETUSER", "default", "-@dangerous")

        for lock_out in (restrict, rotate):
            for last in (False, True):
                with self.subTest(lock_out.__name__, last=last), session() as own:
                    try:
                        server: Any = own.lend(Redis())
                    except Unavailable as reason:
                        self.skipTest(str(reason))
                    lease = server.lease(Redis(), "tests.Inner")
                    lease.seal()
                    view = lease.reset("tests.Inner.test")
                    with contextlib.suppress(redis.RedisError):  # Its own connection is ended, too.
                        lock_out(view)
                    if not last:
                        with self.assertRaisesRegex(
                            ResetError,
                            r"refuses what itest needs, since tests\.Inner\.test changed its users or its password",
                        ):
                            lease.reset("tests.Inner.next")
                    lease.close()
                    self.assertFalse(server.lives())

    def run_endless(self, lease: RedisLease, script: str, *command: Any) -> None:
        """Have a client run it that goes once the server says to others that it is busy."""
        cache = lease.view.cache
        cache.config_set("busy-reply-threshold", 20)  # The server says so after that many milliseconds, not after 5000.
        caller, other = (redis.Redis.from_url(lease.view.url, single_connection_client=True) for _ in range(2))
        with caller, other:
            connection: Any = caller.connection
            connection.send_command(*(command or ("EVAL", script, 0)))  # And no answer is waited for.
            deadline = Deadline.after(30)
            with self.assertRaisesRegex(redis.ResponseError, "^BUSY "):
                while not deadline.passed:
                    other.ping()


if __name__ == "__main__":
    unittest.main()
