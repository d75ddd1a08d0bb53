# SPDX-License-Identifier: Apache-2.0
"""Who a local process runs as, and where its directory lies."""

from __future__ import annotations

import os
import signal
import stat
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from itest import naming
from itest.engines import directory, privileges
from itest.errors import StartError
from itest.spec import ProcessSpec
from tests.integration import test_process_engine as base
from tests.integration.test_process_engine import eventually, shell, temporary_directory
from tests.programs import write_program

CAPABLE = bool(privileges.Privileges(os.defpath)._set_user)
"""Whether root can become another user here and still enter all directories."""


class IdentityTest(base.EngineTestCase):
    """Servers that refuse to run as root."""

    def test_ordinary_programs_run_as_we_do(self) -> None:
        self.assertEqual(privileges.Privileges(os.defpath).identity(shell("")), privileges.Identity())

    def test_not_as_root(self) -> None:
        instance = self.start(shell("id -u; sleep 60", runs_as_root=False))
        eventually(instance.logs, "a line")
        self.assertNotEqual(instance.logs(), "0\n")
        self.assertEqual(instance.exec(["id", "-u"]).stdout, instance.logs())

    @unittest.skipUnless(CAPABLE, "needs root and setpriv, with CAP_SETPCAP and CAP_DAC_OVERRIDE")
    def test_other_user_and_a_program_that_only_root_can_reach(self) -> None:
        closed = Path(self.enterContext(temporary_directory()))
        closed.chmod(0o700)
        (closed / "product/share").mkdir(parents=True)
        (closed / "product/share/text").write_text("shared\n")
        (closed / "product/share/text").chmod(0o600)
        script = 'id -u; cat "$(dirname "$0")/../share/text" prepared etc/conf; touch mine; sleep 60'
        program = write_program(closed / "product/bin/server", script)
        (closed / "product/bin/alias").symlink_to("server")
        spec = ProcessSpec(
            "a product",
            (str(closed / "product/bin/alias"),),
            (),
            prepare=(("/bin/sh", "-c", f'[ -x "{program}" ] && id -g > prepared'),),
            files={"etc/conf": "conf\n"},
            runs_as_root=False,
        )
        with mock.patch.object(privileges.Privileges, "_namespace", ()):
            instance = self.start(spec)
        expected = "65534\nshared\n65534\nconf\n"
        eventually(lambda: instance.logs() == expected, f"the log is {expected!r}, not {instance.logs()!r}")
        self.assertEqual(instance.exec(["id", "-u"]).stdout, "65534\n")
        self.assertEqual(self.places(), [self.place(instance)])
        self.assertEqual(stat.S_IMODE((closed / "product/share/text").stat().st_mode), 0o600)
        self.assertEqual((closed / "product/bin/server").stat().st_uid, 0)
        instance.stop()
        self.assertEqual(self.places(), [])
        self.assertTrue(program.exists())

    def test_no_identity(self) -> None:
        rights = privileges.Privileges(os.defpath)
        with (
            mock.patch.object(privileges.Privileges, "_namespace", ()),
            mock.patch.object(privileges.Privileges, "_set_user", ()),
            mock.patch.object(privileges.Privileges, "_can_change_user", False),
            mock.patch("itest.engines.privileges.os.geteuid", return_value=0),
            self.assertRaises(StartError) as caught,
        ):
            rights.identity(shell("", runs_as_root=False))
        self.assertEqual(
            str(caught.exception),
            "a shell script refuses to run as root, and here root may neither make a user namespace "
            "(unshare -U --map-user=65534) nor change to user id 65534: run the tests as an ordinary user, "
            "or give the container CAP_SETUID and CAP_SETGID",
        )

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_directories_that_only_root_may_enter(self) -> None:
        """Where nothing lets another user pass through them, the error says so, and nothing is left."""
        closed = Path(self.enterContext(temporary_directory()))
        program = write_program(closed / "server", "sleep 60")
        refusal = "refuses to run as root, and user id 65534, as which it would run here, cannot reach"
        with (
            mock.patch.object(privileges.Privileges, "_namespace", ()),
            mock.patch.object(privileges.Privileges, "_set_user", ()),
        ):
            with self.assertRaises(StartError) as caught:
                self.start(shell("", argv=(str(program),), runs_as_root=False))
            self.assertIn(f"{refusal} {program}: install it where all users can reach it, ", str(caught.exception))
            with (
                mock.patch.object(directory, "SHARED_MEMORY_FREE", 1 << 60),
                mock.patch.object(tempfile, "tempdir", str(closed)),
            ):
                with self.assertRaises(StartError) as caught:
                    self.start(shell("sleep 60", runs_as_root=False))
                self.assertRegex(str(caught.exception), f"{refusal} {closed}/itest-.*: set TMPDIR to a directory that ")
                self.assertEqual(self.places(), [])
            self.assertEqual(self.start(shell("sleep 60", runs_as_root=False)).exec(["id", "-u"]).stdout, "65534\n")

    def test_without_setpriv_or_unshare(self) -> None:
        with mock.patch("itest.engines.privileges.shutil.which", return_value=None):
            rights = privileges.Privileges(os.defpath)
            self.assertEqual(rights.death_signal(signal.SIGTERM), ())
            self.assertEqual(rights._namespace, ())


class PlaceTest(unittest.TestCase):
    """Where directories lie."""

    def test_little_shared_memory(self) -> None:
        with mock.patch.object(directory, "SHARED_MEMORY_FREE", 1 << 60):
            place = directory.create({})
        self.addCleanup(directory.remove, place)
        self.assertNotEqual(place.parent, directory.SHARED_MEMORY)
        self.assertIn(place, list(directory.scan()))
        self.assertTrue(place.name.startswith("itest-none-process-"))

    def test_path_is_short(self) -> None:
        place = directory.create({naming.SESSION: naming.session_id(), naming.SERVICE: "a-very-long-name-of-a-service"})
        self.addCleanup(directory.remove, place)
        self.assertLess(len(place.name), 60)


if __name__ == "__main__":
    unittest.main()
