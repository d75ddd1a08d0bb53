# SPDX-License-Identifier: Apache-2.0
"""Who made a thing, and whether that process has ended: only what is certain counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import unittest
from unittest import mock

from itest import naming, owners
from itest.owners import Owner

NO_PID = 4194305
"""One above the highest process id that Linux gives out."""

LINUX = unittest.skipUnless(sys.platform == "linux", "start times and namespaces come from /proc")


class OwnerTextTest(unittest.TestCase):
    def test_it_starts_with_pid_and_host_and_can_be_read_back(self) -> None:
        text = naming.owner()
        self.assertTrue(text.startswith(f"{os.getpid()}@"), text)
        self.assertEqual(owners.parse(text), owners.current())
        self.assertNotIn("\n", text)

    @LINUX
    def test_it_holds_what_tells_the_process_for_certain(self) -> None:
        self.assertRegex(naming.owner(), r"\A\d+@\S+ start=\d+ pidns=\d+ boot=[0-9a-f]{8} machine=(0|[0-9a-f]{8})\Z")

    def test_without_proc_a_zero_stands_for_what_is_not_known(self) -> None:
        with (
            mock.patch.object(owners, "_stat", return_value=[]),
            mock.patch.object(os, "readlink", side_effect=FileNotFoundError),
        ):
            owner = owners.current()
        self.assertEqual((owner.start, owner.pidns), ("0", "0"))

    def test_the_container_around_it(self) -> None:
        around, other = "ab" * 32, "cd" * 32
        line = "134 117 254:0 /var/lib/docker/containers/{}/{} /{} rw,relatime - ext4 /dev/vda rw\n"
        podman = f"60 5 0:2 /containers/overlay-containers/{around}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw\n"
        mounts = line.format(other, "mounts/shm", f"var/lib/docker/containers/{other}/mounts/shm")
        for text, expected in (
            (mounts + line.format(around, "hostname", "etc/hostname"), around),
            (podman, around),
            (mounts, ""),
        ):
            with mock.patch.object(owners.Path, "read_text", return_value=text):
                self.assertEqual(owners.container.__wrapped__(), expected)
        with mock.patch.object(owners.Path, "read_text", side_effect=FileNotFoundError):
            self.assertEqual(owners.container.__wrapped__(), "")
        text = f"1@job start=7 pidns=4026532181 container={around}"
        self.assertEqual(owners.parse(text), Owner(1, "job", start="7", pidns="4026532181", container=around))
        self.assertEqual(str(owners.parse(text)), text)

    def test_a_host_with_spaces_can_be_read_back(self) -> None:
        with mock.patch("platform.node", return_value="Anna's  Mac"):
            self.assertEqual(owners.parse(naming.owner()), owners.current())

    def test_pid_and_host_alone_are_an_owner_of_whom_nothing_else_is_known(self) -> None:
        self.assertEqual(owners.parse("4711@build-3"), Owner(4711, "build-3"))

    def test_what_is_no_owner(self) -> None:
        for text in ("", "4711", "@host", "x@host", "0@host", "-1@host", "4711@host and more", "4711@host\nstart=1"):
            with self.subTest(text):
                self.assertIsNone(owners.parse(text))

    @LINUX
    def test_the_start_time_is_the_kernels(self) -> None:
        with open("/proc/self/stat", encoding="utf-8") as file:
            self.assertEqual(naming.start_time(os.getpid()), file.read().rsplit(")", 1)[1].split()[19])
        self.assertTrue(naming.start_time(os.getppid()).isdecimal())
        self.assertEqual(naming.start_time(NO_PID), "")

    @LINUX
    def test_start_times_in_a_proc_of_another_namespace_are_not_believed(self) -> None:
        with mock.patch.object(os, "readlink", return_value="1"):
            self.assertEqual(naming.start_time(os.getppid()), "")
            self.assertTrue(naming.start_time(os.getpid()))


class JudgeTest(unittest.TestCase):
    def setUp(self) -> None:
        self.own = owners.current()

    def assertJudged(self, owner: Owner | str, *, dead: bool, lives: bool | None) -> None:
        self.assertEqual((owners.is_dead(str(owner)), owners.lives(str(owner))), (dead, lives), owner)

    def test_this_process_lives(self) -> None:
        self.assertJudged(self.own, dead=False, lives=True)
        self.assertTrue(owners.is_own(str(self.own)))

    def test_a_process_that_is_gone_is_dead(self) -> None:
        owner = self.own._replace(pid=NO_PID)
        self.assertJudged(owner, dead=True, lives=False)
        self.assertFalse(owners.is_own(str(owner)))

    @LINUX
    def test_a_process_id_that_is_used_again_is_dead(self) -> None:
        self.assertJudged(self.own._replace(start="1"), dead=True, lives=False)

    def test_a_process_id_whose_start_is_not_known_is_alive(self) -> None:
        for start in ("", "0"):
            self.assertJudged(self.own._replace(start=start), dead=False, lives=True)

    @LINUX
    def test_a_zombie_is_dead(self) -> None:
        with subprocess.Popen(["sleep", "60"]) as child:
            owner = self.own._replace(pid=child.pid, start=naming.start_time(child.pid))
            self.assertJudged(owner, dead=False, lives=True)
            child.send_signal(signal.SIGKILL)
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            self.assertJudged(owner, dead=True, lives=False)

    def test_another_host_is_not_judged(self) -> None:
        self.assertJudged(self.own._replace(pid=NO_PID, host="elsewhere"), dead=False, lives=None)

    def test_another_container_is_not_judged_though_its_host_has_the_same_name(self) -> None:
        self.assertJudged(self.own._replace(pid=NO_PID, pidns="1234"), dead=False, lives=None)

    def test_another_machine_of_the_same_name_is_not_judged(self) -> None:
        for machine in ("12345678", "0", ""):
            owner = self.own._replace(pid=NO_PID, boot="12345678", machine=machine)
            with mock.patch.object(owners, "_machine", return_value="0" if machine == "0" else "abcdef01"):
                self.assertJudged(owner, dead=False, lives=None)

    def test_nothing_outlives_a_restart_of_the_machine(self) -> None:
        with (
            mock.patch.object(owners, "_machine", return_value="abcdef01"),
            mock.patch.object(owners, "_boot", return_value="22222222"),
        ):
            self.assertJudged(self.own._replace(boot="11111111", machine="abcdef01"), dead=True, lives=False)

    def test_an_owner_of_whom_too_little_is_known_is_not_judged(self) -> None:
        for text in ("", "nonsense", f"{NO_PID}@{self.own.host}", f"{NO_PID}@{self.own.host} start=1"):
            self.assertJudged(text, dead=False, lives=None)

    def test_without_proc_a_process_that_is_gone_is_dead_and_one_that_runs_is_not(self) -> None:
        with mock.patch.multiple(
            owners, _stat=lambda pid: [], _namespace=lambda: "0", _boot=lambda: "0", _machine=lambda: "0"
        ):
            with mock.patch.object(sys, "platform", "darwin"):
                self.assertJudged(owners.current()._replace(pid=NO_PID), dead=True, lives=False)
                self.assertJudged(owners.current(), dead=False, lives=True)
            with mock.patch.object(sys, "platform", "linux"):  # Another sandbox without /proc looks the same.
                self.assertJudged(owners.current()._replace(pid=NO_PID), dead=False, lives=None)

    def test_where_the_boot_is_not_known_nobody_is_judged_on_linux(self) -> None:
        with (
            mock.patch.multiple(owners, _boot=lambda: "0", _machine=lambda: "abcdef01"),
            mock.patch.object(sys, "platform", "linux"),
        ):
            for boot in ("0", "11111111"):
                owner = self.own._replace(pid=NO_PID, boot=boot, machine="abcdef01")
                self.assertJudged(owner, dead=False, lives=None)

    def test_another_users_process_lives_and_is_not_ours(self) -> None:
        with mock.patch.object(os, "kill", side_effect=PermissionError):
            self.assertJudged(self.own, dead=False, lives=True)
            self.assertFalse(owners.is_own(str(self.own)))

    def test_on_windows_nothing_is_judged_because_asking_would_end_it(self) -> None:
        with (
            mock.patch.object(os, "name", "nt"),
            mock.patch.object(owners, "current", lambda: self.own),
            mock.patch.object(os, "kill", side_effect=AssertionError("it was sent a signal")),
        ):
            self.assertJudged(self.own._replace(pid=NO_PID), dead=False, lives=None)
            self.assertFalse(owners.is_own(str(self.own)))
