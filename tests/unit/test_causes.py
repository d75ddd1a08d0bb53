# SPDX-License-Identifier: Apache-2.0
"""Known causes, by the very words of Docker, registries and servers."""

from __future__ import annotations

import os
import shlex
import sys
import unittest
from pathlib import Path

from itest import Postgres, by_hand, causes, naming, notes
from itest.causes import CLIENT, DOCKER, DRIVER, LOG, REGISTRY
from itest.clock import Deadline
from itest.container_options import ContainerOptions, Healthcheck, Mount
from itest.engines.docker_address import Address, problem
from itest.engines.docker_errors import refused
from itest.errors import InstanceDied, PortTaken, StartError, StartTimeout
from itest.spec import ContainerSpec, ExternalSpec, Port, ProcessSpec
from itest.testing import ManualClock
from itest.wait import log, until_ready
from tests.unit.test_wait import instance_of
from tools import troubleshooting

OCI = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: "
)

SAID = {
    # What is said, by whom: its cause, and what the cure must mention.
    # Docker 29 to an old client; Docker 20.10 to a new one.
    ("client version 1.43 is too old. Minimum supported API version is 1.44, please upgrade your client", DOCKER): ("Docker's API is another version", "pip install -U docker"),
    ("client version 1.50 is too new. Maximum supported API version is 1.41", CLIENT): ("Docker's API is another version", ""),
    # The docker command, on macOS with Docker Desktop closed, on Windows, on Linux.
    ("Cannot connect to the Docker daemon at unix:///Users/me/.docker/run/docker.sock. Is the docker daemon running?", CLIENT): ("Docker Desktop is not running", "open the app"),
    ("error during connect: this error may indicate that the docker daemon is not running: Get \"http://%2F%2F.%2Fpipe%2Fdocker_engine/v1.24/info\": open //./pipe/docker_engine: The system cannot find the file specified.", CLIENT): ("Docker Desktop is not running", ""),
    ("error during connect: Get \"http://%2F%2F.%2Fpipe%2FdockerDesktopLinuxEngine/v1.47/info\": open //./pipe/dockerDesktopLinuxEngine: The system cannot find the file specified.", CLIENT): ("Docker Desktop is not running", ""),
    ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", CLIENT): ("Docker is not running", "systemctl start docker"),
    ("permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get \"http://%2Fvar%2Frun%2Fdocker.sock/v1.24/info\": dial unix /var/run/docker.sock: connect: permission denied", CLIENT): ("no permission on the socket", "usermod -aG docker"),
    # Registries.
    ("toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit", REGISTRY): ("rate limit", "docker login"),
    ("toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit", REGISTRY): ("rate limit", "the setting mirror"),
    ("no matching manifest for linux/arm64/v8 in the manifest list entries", REGISTRY): ("no image for this processor", "choose another image"),
    ("Get \"https://registry.example.com/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority", REGISTRY): ("registry not trusted", "insecure-registries"),
    ("Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host", REGISTRY): ("registry out of reach", "docker load"),
    ("manifest for postgres:99 not found: manifest unknown: manifest unknown", REGISTRY): ("no such image", "check name and tag"),
    ("pull access denied for acme/shop, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", REGISTRY): ("no access to the image", ""),
    ("failed to register layer: write /usr/lib/x86_64-linux-gnu/libLLVM.so: no space left on device", REGISTRY): ("no space left", "docker system df"),
    # Docker, when it is to create or start a container.
    ("mkdir /var/lib/docker/overlay2/1f0c-init: no space left on device", DOCKER): ("no space left", "docker system df"),
    ("driver failed programming external connectivity on endpoint db (0d28a5): Bind for 0.0.0.0:5436 failed: port is already allocated", DOCKER): ("port taken", "another program"),
    ("driver failed programming external connectivity on endpoint db (0d28a5): Error starting userland proxy: listen tcp4 127.0.0.1:5432: bind: address already in use", DOCKER): ("port taken", ""),
    ("Ports are not available: exposing port TCP 127.0.0.1:50051 -> 127.0.0.1:0: listen tcp 127.0.0.1:50051: bind: An attempt was made to access a socket in a way forbidden by its access permissions.", DOCKER): ("port taken", "reserved"),
    ("Error starting userland proxy: listen tcp 127.0.0.1:9095: bind: Only one usage of each socket address (protocol/network address/port) is normally permitted.", DOCKER): ("port taken", ""),
    ("could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network", DOCKER): ("no free network addresses", "docker network prune"),
    ("all predefined address pools have been fully subnetted", DOCKER): ("no free network addresses", "VPN"),
    ("driver failed programming external connectivity on endpoint db (0d28a5):  (iptables failed: iptables --wait -t nat -A DOCKER -p tcp -d 127.0.0.1 --dport 5432 -j DNAT: iptables: No chain/target/match by that name.\n (exit status 1))", DOCKER): ("Docker's firewall rules are gone", "restart"),
    ("invalid mount config for type \"bind\": bind source path does not exist: /home/me/data", DOCKER): ("no such path to mount", "the test's module"),
    ("unable to find user nobodyx: no matching entries in passwd file", DOCKER): ("no such user", 'user="1000"'),
    ("initdb: error: could not look up effective user ID 1000: user does not exist", LOG): ("a user id without a name", "/etc/passwd"),
    ("unable to find group staffx: no matching entries in group file", DOCKER): ("no such user", ""),
    ("Mounts denied: \nThe path /data is not shared from the host and is not known to Docker.\nYou can configure shared paths from Docker -> Preferences... -> Resources -> File Sharing.", DOCKER): ("path is not shared with Docker", "File sharing"),
    ('Error processing tar file(exit status 1): cannot overwrite directory "/www" with non-directory "/"', DOCKER): ("a directory in the way", "index.html"),
    ("Error processing tar file(exit status 1): open /etc/passwd/x: not a directory", DOCKER): ("a directory in the way", ""),
    ('copier: put: error creating "/etc": copier: put: error creating file at "/etc": open /etc: file exists', DOCKER): ("a directory in the way", ""),
    ('copier: put: error creating "/etc/passwd/x": copier: put: error opening file "/etc/passwd/x" for writing: open /etc/passwd/x: not a directory', DOCKER): ("a directory in the way", ""),
    (OCI + 'exec: "/docker-entrypoint.sh": permission denied: unknown', DOCKER): ("program may not be executed", "chmod"),
    (OCI + 'exec: "serve": executable file not found in $PATH: unknown', DOCKER): ("no such program", "first word"),
    (OCI + 'exec: "postgres": executable file not found in $PATH: unknown', DOCKER): ("no image of PostgreSQL", "the official one"),
    (OCI + 'exec: "/srv/run": stat /srv/run: no such file or directory: unknown', DOCKER): ("no such program", ""),
    (OCI + "exec /bin/server: exec format error: unknown", DOCKER): ("wrong architecture", "platform="),
    ("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.", DOCKER): ("limits ignored", "Delegate"),
    ("Resource limits are not supported and ignored on cgroups V1 rootless systems", DOCKER): ("limits ignored", "cgroup v2"),
    ("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted", DOCKER): ("limits ignored", ""),
    (OCI + "unable to apply cgroup configuration: rootless needs no limits + no cgroupsPath when no permission is granted for cgroups: mkdir /sys/fs/cgroup/user.slice/docker: permission denied: unknown", DOCKER): ("limits ignored", ""),
    ("crun: the requested cgroup controller `memory` is not available: OCI runtime error", DOCKER): ("limits ignored", ""),
    # Docker by runc, without and with cgroup v2, by crun; Podman itself.
    ("Cannot pause container 0de80443d200: OCI runtime pause failed: cannot toggle freezer: cgroups not configured for container: unknown", DOCKER): ("no cgroup to pause it by", "restart()"),
    ("cannot pause container f9091e3499de: OCI runtime pause failed: freezer not supported: openat2 /sys/fs/cgroup/user.slice/user-1000.slice/f9091e3499de/cgroup.freeze: no such file or directory", DOCKER): ("no cgroup to pause it by", ""),
    ("cannot pause the container without a cgroup", DOCKER): ("no cgroup to pause it by", ""),
    ("cannot pause without using Cgroups: this container does not have a cgroup", DOCKER): ("no cgroup to pause it by", ""),
    ("can not pause containers on rootless containers with cgroup V1: this container does not have a cgroup", DOCKER): ("no cgroup to pause it by", ""),
    ("cgroups: cannot find cgroup mount destination: unknown", DOCKER): ("limits ignored", ""),
    # What starts the program in a container, in the container's log.
    ("exec /usr/local/bin/docker-entrypoint.sh: exec format error", LOG): ("wrong architecture", "another processor"),
    ("standard_init_linux.go:228: exec user process caused: exec format error", LOG): ("wrong architecture", ""),
    ('standard_init_linux.go:175: exec user process caused "exec format error"', LOG): ("wrong architecture", ""),
    ("exec /entrypoint.sh: no such file or directory", LOG): ("no such program", "interpreter"),
    # The dynamic loaders of glibc and musl.
    ("/usr/bin/server: error while loading shared libraries: libssl.so.1.1: cannot open shared object file: No such file or directory", LOG): ("missing library", "musl"),
    ("/usr/local/bin/oci-registry: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /usr/local/bin/oci-registry)", LOG): ("missing library", ""),
    ("Error loading shared library libstdc++.so.6: No such file or directory (needed by /app/server)", LOG): ("missing library", ""),
    ("Error relocating /aws/dist/aws: __vsnprintf_chk: symbol not found", LOG): ("missing library", ""),
    # Entrypoints of images.
    ("Error: Database is uninitialized and superuser password is not specified.\n       You must specify POSTGRES_PASSWORD to a non-empty value for the\n       superuser. For example, \"-e POSTGRES_PASSWORD=password\" on \"docker run\".", LOG): ("image needs a variable", 'env={"POSTGRES_PASSWORD": "..."}'),
    ("2022-08-27 09:15:11+00:00 [ERROR] [Entrypoint]: Database is uninitialized and password option is not specified\n    You need to specify one of the following:\n    - MYSQL_ROOT_PASSWORD\n    - MYSQL_ALLOW_EMPTY_PASSWORD\n    - MYSQL_RANDOM_ROOT_PASSWORD", LOG): ("image needs a variable", "MYSQL_ROOT_PASSWORD"),
    ("[ERROR] [Entrypoint]: Database is uninitialized and password option is not specified\n\tYou need to specify one of MARIADB_ROOT_PASSWORD, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD and MARIADB_RANDOM_ROOT_PASSWORD", LOG): ("image needs a variable", "MARIADB_ROOT_PASSWORD"),
    ("error: missing 'MONGO_INITDB_ROOT_USERNAME' or 'MONGO_INITDB_ROOT_PASSWORD'\n       both must be specified for a user to be created", LOG): ("image needs a variable", "MONGO_INITDB_ROOT_USERNAME"),
    ("No custom admin password found. Please provide a password via the environment variable OPENSEARCH_INITIAL_ADMIN_PASSWORD.", LOG): ("image needs a variable", "OPENSEARCH_INITIAL_ADMIN_PASSWORD"),
    ("KAFKA_PROCESS_ROLES is required.\nCommand [/usr/local/bin/dub ensure KAFKA_PROCESS_ROLES] FAILED !", LOG): ("image needs a variable", "KAFKA_PROCESS_ROLES"),
    # Scripts of `init` in the image postgres:17: psql, what ran last, and one that would be a setting of the server's.
    ('docker-entrypoint.sh: running /docker-entrypoint-initdb.d/zz-itest-001-a b.sql\npsql:/docker-entrypoint-initdb.d/zz-itest-001-a b.sql:2: NOTICE:  so\nERROR:  type "imt" does not exist at character 20\npsql:/docker-entrypoint-initdb.d/zz-itest-001-a b.sql:3: ERROR:  type "imt" does not exist\nLINE 1: CREATE TABLE b (id imt);', LOG): ("failing init script", 'correct a b.sql, line 3: type "imt" does not exist'),
    ("psql:/docker-entrypoint-initdb.d/zz-itest-002-c.sql:1: error: invalid command \\foo", LOG): ("failing init script", "correct c.sql, line 1: invalid command \\foo"),
    ('psql:/docker-entrypoint-initdb.d/zz-itest-001-a.sql:1: ERROR:  unrecognized configuration parameter "work_memory"', LOG): ("failing init script", "a.sql, line 1"),
    ("running /docker-entrypoint-initdb.d/zz-itest-001-a.sh\nhi\nsourcing /docker-entrypoint-initdb.d/zz-itest-002-b.sh\nhi", LOG): ("failing init script", "correct b.sh, in which"),
    # Servers.
    ("FATAL:  could not write lock file \"postmaster.pid\": No space left on device", LOG): ("no space left", "tmpfs"),
    ("java.io.IOException: No space left on device", LOG): ("no space left", ""),
    ('ERROR:  could not resize shared memory segment "/PostgreSQL.1654218" to 16777216 bytes: No space left on device', LOG): ("too little shared memory", "shm_size"),
    ("# There is insufficient memory for the Java Runtime Environment to continue.\n# Native memory allocation (mmap) failed to map 1073741824 bytes", LOG): ("out of memory", "memory="),
    ("java.lang.OutOfMemoryError: unable to create native thread: possibly out of memory or process/resource limits reached", LOG): ("too many threads", "ulimit -u"),
    ('[0.008s][warning][os,thread] Failed to start thread "G1 Service" - pthread_create failed (EAGAIN) for attributes: stacksize: 1024k', LOG): ("too many threads", ""),
    ("# Fatal: Can't initialize Background Jobs. Error message: Resource temporarily unavailable", LOG): ("too many threads", "ulimit -v"),
    ("LOG:  could not fork new process for connection: Resource temporarily unavailable", LOG): ("too many threads", ""),
    ("java.lang.OutOfMemoryError: Java heap space", LOG): ("out of memory", ""),
    ("FATAL:  could not map anonymous shared memory: Cannot allocate memory", LOG): ("out of memory", ""),
    ("ERROR: [1] bootstrap checks failed\n[1]: max virtual memory areas vm.max_map_count [65530] is too low, increase to at least [262144]", LOG): ("limit of mapped memory", "sysctl -w vm.max_map_count=262144"),
    ("accept4: too many open files", LOG): ("too many open files", "nofile"),
    ("# Your current 'ulimit -n' of 20 is not enough for the server to start. Please increase your open file limit to at least 33. Exiting.", LOG): ("too many open files", "ulimit -n"),
    ("FATAL:  insufficient file descriptors available to start server process", LOG): ("too many open files", "ulimit -n"),
    ('LOG:  could not bind IPv4 address "127.0.0.1": Address already in use\nHINT:  Is another postmaster already running on port 5432?', LOG): ("port taken", ""),
    ("# Warning: Could not create server TCP listening socket 127.0.0.1:6379: bind: Address already in use", LOG): ("port taken", ""),
    ("java.net.BindException: Address already in use", LOG): ("port taken", ""),
    ('FATAL:  unrecognized configuration parameter "work_memory"', LOG): ("unknown setting", "version"),
    ("*** FATAL CONFIG FILE ERROR (Redis 8.2.1) ***\nReading the configuration file, at line 2\n>>> 'maxmem \"64mb\"'\nBad directive or wrong number of arguments", LOG): ("unknown setting", ""),
    ("# Unresolved Configuration(s) Detected:\n# >>> 'maxmemoryy 8mb'", LOG): ("unknown setting", ""),
    ("/usr/local/bin/docker-entrypoint.sh: 37: exec: serve: not found", LOG): ("no such program", "first word"),
    ("/usr/local/bin/docker-entrypoint.sh: line 351: exec: serve: not found", LOG): ("no such program", ""),
    ("/usr/local/bin/docker-entrypoint.sh: 37: exec: postgres: not found", LOG): ("no image of PostgreSQL", "made from it"),
    ("/entrypoint.sh: 37: exec: /etc/passwd: Permission denied", LOG): ("program may not be executed", "chmod"),
    ("WARN Couldn't resolve server nosuch:9092 from bootstrap.servers as DNS resolution failed for nosuch (org.apache.kafka.clients.ClientUtils)\norg.apache.kafka.common.config.ConfigException: No resolvable bootstrap urls given in bootstrap.servers", LOG): ("a host that is not found", "{kafka.bootstrap_servers}"),
    ("org.apache.kafka.common.config.ConfigException: Missing required configuration `controller.listener.names`", LOG): ("unknown setting", ""),
    ("[ERROR] [MY-000067] [Server] unknown variable 'query_cache_size=0'.", LOG): ("unknown setting", ""),
    ("FATAL:  database files are incompatible with server\nDETAIL:  The data directory was initialized by PostgreSQL version 13, which is not compatible with this version 14.0", LOG): ("data of another version", "empty"),
    ("# Can't handle RDB format version 12", LOG): ("data of another version", ""),
    ("chown: changing ownership of '/var/lib/postgresql/data': Operation not permitted", LOG): ("no permission on its files", "user="),
    ('initdb: error: could not change permissions of directory "/var/lib/postgresql/data": Operation not permitted', LOG): ("no permission on its files", ""),
    ("java.nio.file.AccessDeniedException: /usr/share/elasticsearch/data/node.lock", LOG): ("no permission on its files", ""),
    ("ModuleNotFoundError: No module named 'psycopg'", DRIVER): ("a URL of another driver", "postgres.sqlalchemy_url"),
    ("RuntimeError: Task <Task pending name='Task-17' coro=<RequestResponseCycle.run_asgi() running at h11_impl.py:415>> got Future <Future pending cb=[BaseProtocol._on_waiter_completed()]> attached to a different loop", DRIVER): ("a connection of another event loop", "lifespan"),
    ("sqlalchemy.exc.InterfaceError: (sqlalchemy.dialects.postgresql.asyncpg.InterfaceError) cannot perform operation: another operation is in progress", DRIVER): ("a connection that is in use", "side by side"),
    ("RuntimeError: <asyncio.locks.Lock object at 0x7f0c [locked]> is bound to a different event loop", DRIVER): ("a connection of another event loop", "asyncSetUp"),
    ("Traceback (most recent call last):\nModuleNotFoundError: No module named 'psycopg'", LOG): ("a URL of another driver", "asyncpg_url"),
    ("redis.exceptions.AuthenticationError: HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time", DRIVER): ("the server has a password", "self.redis.url"),
    ("NOAUTH Authentication required.", DRIVER): ("the server has a password", "password="),
    ("redis.exceptions.AuthenticationError: Authentication required.", DRIVER): ("the server has a password", ""),
    ("redis.exceptions.ResponseError: Cannot create index on db != 0", DRIVER): ("search in a numbered database", 'isolation="none"'),
    ("redis.exceptions.ConnectionError: max number of clients reached", DRIVER): ("too many clients", "`ulimit -n`"),
    ('connection to server at "127.0.0.1", port 25304 failed: FATAL:  sorry, too many clients already', DRIVER): ("too many clients", "max_connections"),
    ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", DRIVER): ("too many clients", ""),
}  # fmt: skip

HARMLESS = (
    "LOG:  database system is ready to accept connections",
    "WARNING Memory overcommit must be enabled! Without it, a background save or replication may fail",
    'LOG:  skipping missing configuration file "/etc/postgresql/postgresql.auto.conf"',
    "shared_buffers is required to be larger than 16",
    "FATAL: no configuration",
    "running /docker-entrypoint-initdb.d/zz-itest-001-a.sh\nPostgreSQL init process complete; ready for start up.",
    "psql:/docker-entrypoint-initdb.d/zz-itest-001-a.sql:2: NOTICE:  so",
)


class TableTest(unittest.TestCase):
    def test_what_is_said_has_its_cause_and_cure(self) -> None:
        for (text, said_by), (name, cure) in SAID.items():
            with self.subTest(text[:80]):
                known = causes.find(text, said_by)
                assert known is not None
                self.assertEqual(known.name, name)
                self.assertIn(cure, known.cure)

    def test_every_cause_is_among_them_or_known_by_its_example(self) -> None:
        for cause in causes.TABLE:
            for said_by in cause.said_by:
                with self.subTest(cause.name, said_by=said_by):
                    known = causes.find(cause.example, said_by)
                    assert known is not None or cause.name == "image needs a variable"
                    self.assertIn(known.name if known else cause.name, [cause.name, "no space left"])
        self.assertLessEqual(
            {cause.name for cause in causes.TABLE} - {"wrong name of an image", "no socket"},
            {name for name, _ in SAID.values()},
        )

    def test_what_is_harmless_has_none(self) -> None:
        for text in HARMLESS:
            with self.subTest(text):
                self.assertIsNone(causes.find(text, LOG))

    def test_who_says_it_counts(self) -> None:
        self.assertIsNone(causes.find("topic orders not found", LOG))
        self.assertIsNone(causes.find("relation does not exist", LOG))
        self.assertIsNone(causes.find("ModuleNotFoundError: No module named 'psycopg_pool'", LOG))

    def test_a_cure_is_a_part_of_a_sentence(self) -> None:
        for cause in causes.TABLE:
            self.assertNotRegex(cause.cure, r"\.$")
            self.assertNotRegex(cause.name, r"\.$")

    def test_those_of_drivers_are_whole_in_the_note_on_a_failing_test(self) -> None:
        for text in (text for text, said_by in SAID if said_by == DRIVER):
            with self.subTest(text[:80]):
                known = causes.find(text, DRIVER)
                assert known is not None
                self.assertIn(known.sentence, notes.text([], error=RuntimeError(text)).split("\n"))

    def test_a_local_process_has_no_container(self) -> None:
        for cause in causes.TABLE:
            if cause.local:
                with self.subTest(cause.name):
                    known = causes.of_death(cause.example, 1, oom_killed=False, place="/tmp")
                    assert known is not None
                    self.assertEqual((known.name, known.cure), (cause.name, cause.local.replace("{place}", "/tmp")))
                    self.assertNotRegex(known.cure, "(?i)docker|container|tmpfs")
        silent = causes.of_silence("could not write block 7: No space left on device", "/dev/shm")
        assert silent is not None
        self.assertIn("make room in /dev/shm, where", silent.cure)

    def test_killed_without_a_word(self) -> None:
        known = causes.of_death("", 137, oom_killed=False)
        assert known is not None
        self.assertEqual(known.name, "it was killed")
        self.assertIsNone(causes.of_death("", 1, oom_killed=False))

    def test_the_page_says_the_same(self) -> None:
        page = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
        self.assertEqual(
            page.read_text(encoding="utf-8"),
            troubleshooting.filled(page.read_text(encoding="utf-8")),
            "run python -m tools.troubleshooting",
        )


class ErrorsTest(unittest.TestCase):
    """Each error of a start names the cause."""

    def test_a_server_that_dies(self) -> None:
        instance = instance_of("memory")
        instance.log = "exec /usr/local/bin/docker-entrypoint.sh: exec format error\n"
        instance.end(exit_code=255)
        with self.assertRaises(InstanceDied) as caught:
            until_ready(log("ready"), instance, Deadline.after(1, ManualClock()), subject="Memory")
        self.assertEqual(caught.exception.cause, "wrong architecture")
        self.assertIn(
            "while waiting for 'ready' in the log. Likely cause: wrong architecture; the image is for another processor, ",
            str(caught.exception),
        )

    def test_a_python_error_that_has_ended_it(self) -> None:
        traceback = 'Traceback (most recent call last):\n  File "/app.py", line 3, in <module>\n    main()\n    ^^^^\n'
        chained = (
            f"{traceback}KeyError: 'x'\n\nThe above exception was the direct cause of the following exception:\n\n"
        )
        for log_text, said in (
            (f"starting\n{traceback}KeyError: 'x'\n", "KeyError: 'x'"),
            (f"{chained}{traceback}shop.errors.OrderError: gone\n", "shop.errors.OrderError: gone"),
            (
                f"ERROR:    {traceback}RuntimeError: no\n\nERROR:    Application startup failed. Exiting.\n",
                "RuntimeError: no",
            ),
            (f"{traceback}KeyError: 'x'\n" + "INFO going on\n" * 6, ""),
            ("java.lang.IllegalStateException: no\n", ""),
        ):
            instance = instance_of("memory")
            instance.log = log_text
            instance.end(exit_code=1)
            with self.subTest(log_text), self.assertRaises(InstanceDied) as caught:
                until_ready(log("never"), instance, Deadline.after(1, ManualClock()), subject="Memory")
            told = f"A Python error has ended it: {said}."
            guess = "A wrong setting or a missing environment variable is the usual cause."
            self.assertTrue(str(caught.exception).endswith(told if said else guess), str(caught.exception))

    def test_a_known_error_of_a_driver(self) -> None:
        said = "redis.exceptions.AuthenticationError: HELLO must be called with the client already authenticated"
        known = causes.find(said, DRIVER)
        assert known is not None
        instance = instance_of("memory")
        instance.log = f'Traceback (most recent call last):\n  File "/app.py", line 3, in <module>\n{said}\n'
        with self.assertRaises(StartTimeout) as late:
            until_ready(log("never"), instance, Deadline.after(1, ManualClock()), subject="Memory")
        instance.end(exit_code=1)
        with self.assertRaises(InstanceDied) as died:
            until_ready(log("never"), instance, Deadline.after(1, ManualClock()), subject="Memory")
        told = f" A Python error has ended it: {said}. Likely cause: the server has a password; {known.cure}."
        self.assertTrue(str(died.exception).endswith(told), str(died.exception))
        self.assertTrue(str(late.exception).endswith(f" {known.sentence}"), str(late.exception))
        self.assertEqual([each.exception.cause for each in (died, late)], [known.name] * 2)

    def test_a_cause_that_was_said_long_before_the_end(self) -> None:
        instance = instance_of("memory")
        last = [f"INFO stopping part {number}" for number in range(1000)]
        instance.log = "\n".join(["java.io.IOException: Too many open files", *last, ""])
        instance.end(exit_code=1)
        with self.assertRaises(InstanceDied) as caught:
            until_ready(log("ready"), instance, Deadline.after(1, ManualClock()), subject="Memory")
        self.assertEqual(caught.exception.cause, "too many open files")
        note = caught.exception.__notes__[-1].splitlines()
        self.assertEqual(
            note[1:4],
            [
                f"  | {text}"
                for text in ("java.io.IOException: Too many open files", "(... and at the end:)", last[-50])
            ],
        )

    def test_a_local_process_is_told_of_its_own_disk(self) -> None:
        instance = instance_of("memory")
        instance.place = Path("/tmp/itest-1")  # type: ignore[attr-defined]  # as a process has it
        instance.log = "could not write: No space left on device\n"
        instance.end(exit_code=1)
        with self.assertRaisesRegex(InstanceDied, "no space left; make room in /tmp, where it has its files"):
            until_ready(log("ready"), instance, Deadline.after(1, ManualClock()), subject="Memory")

    def test_a_server_that_is_never_ready(self) -> None:
        instance = instance_of("memory")
        instance.log = "could not write block 7: No space left on device\nJAVA_HOME is not set\n"
        with self.assertRaises(StartTimeout) as caught:
            until_ready(log("ready"), instance, Deadline.after(1, ManualClock()), subject="Memory")
        self.assertEqual(caught.exception.cause, "no space left")
        self.assertIn("seen 0 of 1 times in the log. Likely cause: no space left; ", str(caught.exception))

    def test_what_docker_refuses(self) -> None:
        error = refused(
            "start image web:1", StartError, OCI + 'exec: "serve": executable file not found in $PATH: unknown'
        )
        assert isinstance(error, StartError)
        self.assertEqual(error.cause, "no such program")
        self.assertRegex(
            str(error), r"^could not start image web:1, Docker says: failed to .*\$PATH: unknown; the command's "
        )
        self.assertIsInstance(
            refused("start it", StartError, "Bind for x failed: port is already allocated"), PortTaken
        )

    def test_the_reason_stands_behind_what_podman_tells_of_a_request(self) -> None:
        """Which is longer than what is shown of it."""
        reason = (
            'copier: put: error creating "/etc": copier: put: error creating file at "/etc": open /etc: file exists'
        )
        options = "PutOptions:copier.PutOptions{DefaultDirMode:(*fs.FileMode)(nil)}, " * 20
        request = f'error during bulk transfer for copier.request{{Request:"PUT", Root:"/", {options}}}'
        error = refused("start image web:1", StartError, f"{request}: {reason}")
        self.assertRegex(
            str(error),
            rf"^could not start image web:1, Docker says: error during bulk transfer: {reason}; name the file itself",
        )

    def test_a_cause_that_is_said_late(self) -> None:
        error = refused("start image web:1", StartError, f"{'x' * 600}: no space left on device")
        self.assertIn("docker system df", str(error))

    def test_docker_desktop(self) -> None:
        for url, source in (
            ("unix:///nowhere/me/.docker/run/docker.sock", "Docker Desktop's socket"),
            ("unix:///nowhere/docker.sock", "the docker context 'desktop-linux'"),
        ):
            self.assertEqual(
                problem(Address(url, source)),
                f"there is no Docker socket at {url} ({source}): Docker Desktop is not running, start it and wait until it "
                f"says that it is running (`docker desktop start`, or open the app)",
            )

    def test_a_file_that_is_no_socket(self) -> None:
        self.assertEqual(
            problem(Address(f"unix://{__file__}", "DOCKER_HOST")),
            f"unix://{__file__} (DOCKER_HOST) is no socket: correct DOCKER_HOST: it must name the socket that Docker "
            f"listens on, unix:///var/run/docker.sock",
        )


class CommandTest(unittest.TestCase):
    """How it was started, for those who want to see it by hand."""

    def test_a_container(self) -> None:
        secret = naming.secret()
        spec = ContainerSpec(
            "web:1",
            env={"WEB_KEY": "k", "MODE": "a b", "DOOR": secret},
            command=("serve", f"--password={secret}"),
            entrypoint=("/bin/sh", "-c"),
            ports={"http": Port(80), "dns": Port(53, protocol="udp")},
            tmpfs={"/data": 8, "/tmp": 0},
            options=ContainerOptions(memory=64, user="app", mounts={"/srv": Mount("data", read_only=True)}),
        )
        self.assertEqual(
            by_hand.command(spec),
            "docker run --rm -e 'WEB_KEY=***' -e 'MODE=a b' -e 'DOOR=***' -p 127.0.0.1::80 -p 127.0.0.1::53/udp "
            "--tmpfs /data:size=8 --tmpfs /tmp --user app --memory 64 -v data:/srv:ro --entrypoint /bin/sh web:1 -c serve "
            "'--password=***'",
        )

    def test_a_container_with_what_few_have(self) -> None:
        options = ContainerOptions(
            hostname="web",
            ulimits={"nofile": (8, 16)},
            cap_add=("NET_ADMIN",),
            cap_drop=("ALL",),
            healthcheck=Healthcheck(("test", "-e", "/a b"), interval=0.5),
            extra_hosts={"db": "10.0.0.1"},
            restart="on-failure:3",
            api={"HostConfig": {"Init": True}, "Env": ["KEY=k"]},
        )
        self.assertEqual(
            by_hand.command(ContainerSpec("web:1", options=options)),
            "docker run --hostname web --restart on-failure:3 --ulimit nofile=8:16 --cap-add NET_ADMIN --cap-drop ALL "
            "--add-host db:10.0.0.1 --health-cmd 'test -e '\"'\"'/a b'\"'\"'' --health-interval 0.5s --health-timeout 5s "
            "--health-retries 3 --health-start-period 0s web:1 # and api={'HostConfig': ..., 'Env': ...}",
        )
        never = ContainerOptions(restart="no")
        self.assertEqual(by_hand.command(ContainerSpec("web:1", options=never)), "docker run --rm --restart no web:1")
        none = ContainerOptions(healthcheck=Healthcheck(""))
        self.assertEqual(
            by_hand.command(ContainerSpec("web:1", options=none)), "docker run --rm --no-healthcheck web:1"
        )

    def test_a_process(self) -> None:
        spec = ProcessSpec("Web 1", ("/bin/web", "-d", "{directory}"), ("web",), env={"MODE": "test"})
        self.assertEqual(by_hand.command(spec), "MODE=test /bin/web -d '{directory}'")

    def test_a_password_in_sql_is_hidden(self) -> None:
        spec = ContainerSpec("web:1", command=("psql", "-c", "ALTER ROLE bob PASSWORD 'b0bPw'"))
        hidden = shlex.quote("ALTER ROLE bob PASSWORD '***'")
        self.assertEqual(by_hand.command(spec), f"docker run --rm web:1 psql -c {hidden}")

    def test_a_process_that_was_started(self) -> None:
        instance = instance_of("http")
        instance.place = Path("/tmp/itest-1")  # type: ignore[attr-defined]  # as a process has it
        path = os.environ.get("PATH", os.defpath)
        spec = ProcessSpec(
            "Web 1", ("/bin/web", "{directory}/x", "{port:http}"), ("http",), env={"PATH": path, "A": "b"}
        )
        port = instance.endpoint("http").port
        for given in (path, f"{os.path.dirname(sys.executable)}{os.pathsep}{path}"):
            started = spec._replace(env={"PATH": given, "A": "b"})
            self.assertEqual(by_hand.command(started, instance), f"A=b /bin/web /tmp/itest-1/x {port}")
        self.assertIn("PATH=/mine ", by_hand.command(spec._replace(env={"PATH": "/mine"}), instance))

    def test_what_options_and_variables_say_is_a_password_is_not_shown(self) -> None:
        env = {"GPG_PASSPHRASE": "test", "TEST_PASSWORD": ""}
        spec = ContainerSpec("redis:8", env=env, command=("redis-server", "--requirepass", "Chosen-9182-pw"))
        self.assertEqual(
            by_hand.command(spec),
            "docker run --rm -e 'GPG_PASSPHRASE=***' -e TEST_PASSWORD= redis:8 redis-server --requirepass '***'",
        )

    def test_a_script_among_the_words_is_cut(self) -> None:
        text = by_hand.command(ContainerSpec("web:1", command=("sh", "-c", "echo a\n" * 100)))
        self.assertNotIn("\n", text)
        self.assertRegex(text, r"^docker run --rm web:1 sh -c 'echo a echo a .*…'$")
        self.assertLess(len(text), 250)

    def test_what_only_makes_a_start_shorter_is_left_out(self) -> None:
        text = by_hand.command(Postgres(env={"MODE": "a"}).container("geheim"))
        self.assertRegex(
            text,
            r"^docker run --rm -e 'POSTGRES_PASSWORD=\*\*\*' .* -e PGDATA=\S+ -e MODE=a -p .* postgres:17 postgres ",
        )
        self.assertNotIn("pg_ctl", text)

    def test_an_external_server(self) -> None:
        self.assertEqual(by_hand.command(ExternalSpec("redis://h", {}, "X")), "")
