# SPDX-License-Identifier: Apache-2.0
"""What is known of kept states, and what the process that keeps them makes of one that cannot be kept."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from itest import owners, warm, warm_keeper, warm_listing, warm_store
from itest.cli import cache
from itest.clock import wall
from itest.config import Config
from itest.engines import process_warm
from itest.engines.process import ProcessEngine
from itest.errors import ItestError
from itest.spec import Keep, ProcessSpec
from itest.trace import Recorder
from tests.unit.fake_docker import FakeDockerTest

FINGERPRINT = "0123456789abcdef"


class AnotherDockerTest(FakeDockerTest):
    """States of one cache directory, kept on several Dockers."""

    def setUp(self) -> None:
        super().setUp()
        self.answers["GET /images/json"] = []
        for name in ("here", "there", "early"):
            self.answers[f"DELETE /images/sha256:{name}"] = (404, {"message": "no such image"})
        self.cache = Path(self.home, "cache")
        here = self.engine.address.url
        self.config = Config(environment={"DOCKER_HOST": here}, cache_dir=self.cache)
        for name, docker in (("here", here), ("there", "tcp://there:2375"), ("early", "")):
            record = warm_store.Record(name, "postgres", wall(), image=f"sha256:{name}", size=1, docker=docker)
            warm_store.write(self.cache, record)

    def known(self) -> list[str]:
        return [record.fingerprint for record in warm_store.all_of(self.cache)]

    def test_what_is_there_is_left_and_told(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            self.assertEqual(cache.sweep(self.config), 0)
        self.assertEqual(
            out.getvalue(),
            "removed 2 kept states, 0.0 MB\n"
            "left 1 kept state on another Docker: DOCKER_HOST=tcp://there:2375 itest sweep --cache\n",
        )
        self.assertEqual(self.known(), ["there"])

    def test_without_a_docker_none_of_them_can_be_removed(self) -> None:
        removed = warm_listing.clear(replace(self.config, engine="process"))
        self.assertEqual([entry.fingerprint for entry in removed], ["early"])
        self.assertEqual(self.known(), ["here", "there"])

    def test_it_takes_no_room_here_and_makes_none(self) -> None:
        warm_keeper.trim(self.cache, 2, self.engine)
        self.assertEqual(self.known(), ["early", "here", "there"])
        warm_keeper.trim(self.cache, 0, self.engine)
        self.assertEqual(self.known(), ["there"])


class KeeperTest(unittest.TestCase):
    def setUp(self) -> None:
        self.cache = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def keep(self, error: Exception | None = None, content: str = "content") -> warm_store.Record | None:
        """Have the state of a local process be kept, or fail to; what is known of it then."""
        place = self.cache / "instance"
        (place / "data").mkdir(parents=True)
        (place / "data" / "file").write_text(content)
        for path in (place, place / "data", place / "data" / "file"):
            os.utime(path, (1.0, 1.0))
        orders: dict[str, Any] = {
            "cache": str(self.cache),
            "fingerprint": FINGERPRINT,
            "keep": Keep(("data",), "postgres")._asdict(),
            "place": str(place),
            "container": "",
            "steps": {},
            "remade": False,
            "limit": 1024 * 1024,
            "reaper": os.open(os.devnull, os.O_WRONLY),
        }
        self.addCleanup(os.close, orders["reaper"])
        real = process_warm.pack
        with mock.patch.object(process_warm, "pack", side_effect=error or real):
            warm_keeper.main(orders)
        return warm_store.read(self.cache, FINGERPRINT)

    def test_one_that_could_not_be_kept_anew_stays_as_it_was(self) -> None:
        before = self.keep()
        assert before is not None
        for error in (OSError(errno.EIO, "it fails"), ItestError("it fails")):
            self.assertEqual(self.keep(error), before)
        self.assertTrue(warm_store.archive(self.cache, before).exists())

    def test_a_newer_one_takes_its_place(self) -> None:
        before, after = self.keep(), self.keep(content="newer")
        assert before is not None and after is not None
        self.assertFalse(warm_store.archive(self.cache, before).exists())
        self.assertTrue(warm_store.archive(self.cache, after).exists())

    def test_one_with_the_same_content_stays(self) -> None:
        before, after = self.keep(), self.keep()
        assert before is not None and after is not None
        self.assertEqual(before.archive, after.archive)

    def test_what_may_be_otherwise_by_the_next_run_is_not_remembered(self) -> None:
        full = "Error processing tar file(exit status 1): write /data: no space left on device"
        for error in (
            OSError(errno.ENOSPC, "x"),
            OSError(errno.EDQUOT, "x"),
            FileNotFoundError(2, "x"),
            ItestError(full),
        ):
            self.assertIsNone(self.keep(error), error)

    def test_one_whose_record_somebody_has_changed_is_none(self) -> None:
        record = self.keep()
        assert record is not None
        [file] = warm_store.directory(self.cache).glob("*.json")
        whole = json.loads(file.read_text())
        config = Config(cache_dir=self.cache, engine="process")
        for changed in (
            {"secret": 5},
            {"steps": [1]},
            {"remade": 1},
            {"steps": {"start": "x"}},
            {"created": None},
            {"size": "1"},
            {"service": None},
            {"image": "sha256:1"},
            {"archive": f"../warm/{record.archive}"},
            {"archive": ""},
        ):
            file.write_text(json.dumps({**whole, **changed}))
            self.assertIsNone(warm_store.read(self.cache, FINGERPRINT), changed)
            self.assertEqual(warm_listing.entries(config), [])
        file.write_text("[" * 100_000)
        self.assertIsNone(warm_store.read(self.cache, FINGERPRINT))
        file.write_text(json.dumps(whole))
        self.assertEqual(warm_store.read(self.cache, FINGERPRINT), record)
        file.write_text("{")
        self.assertEqual(warm_listing.clear(config), [])
        self.assertEqual(list(file.parent.iterdir()), [])

    def test_a_stray_that_cannot_be_deleted_is_left_and_the_rest_goes(self) -> None:
        self.keep()
        place = warm_store.directory(self.cache)
        (place / "a-directory.lock").mkdir()
        warm_listing.clear(Config(cache_dir=self.cache, engine="process"))
        self.assertEqual([file.name for file in place.iterdir()], ["a-directory.lock"])

    def test_whether_a_cache_directory_is_still_there(self) -> None:
        cache = self.cache / 'with "odd" $letters\n and ä'
        address = warm_store.address(cache)
        self.assertRegex(address, "^[A-Za-z0-9%/._-]+$")
        self.assertIs(warm_store.exists(address), False)
        cache.mkdir()
        self.assertIs(warm_store.exists(address), True)
        with mock.patch.object(owners, "container", lambda: "another"):
            self.assertIsNone(warm_store.exists(address))
        self.assertIsNone(warm_store.exists(""))

    def test_what_is_known_of_another_engines_is_not_begun_with(self) -> None:
        spec, recorder = ProcessSpec("Shell 1", (os.path.realpath("/bin/sh"),), ("main",)), Recorder()
        config = Config(cache_dir=self.cache, engine="process")
        engine = ProcessEngine(config)
        self.addCleanup(engine.close)
        state = warm.look(config, engine, spec, "postgres", recorder)
        assert state is not None
        warm_store.write(self.cache, warm_store.Record(state.fingerprint, "postgres", wall(), image="sha256:1"))
        state = warm.look(config, engine, spec, "postgres", recorder)
        assert state is not None
        self.assertFalse(state.usable)

    def test_what_failed_is_listed_with_the_reason_until_it_is_cleared(self) -> None:
        self.keep(OSError(errno.EIO, "it fails"))
        config = Config(cache_dir=self.cache, engine="process")
        [entry] = warm_listing.entries(config)
        self.assertEqual((entry.service, entry.kind, entry.size_bytes), ("postgres", "nothing", 0))
        self.assertIn("it fails", entry.failed)
        self.assertEqual(warm_listing.clear(config), [entry])
        self.assertEqual(warm_listing.entries(config), [])


if __name__ == "__main__":
    unittest.main()
