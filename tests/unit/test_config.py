# SPDX-License-Identifier: Apache-2.0
"""Settings: where they come from, which wins, and what is said about a wrong one."""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import traceback
import unittest
from pathlib import Path
from unittest import mock

from itest import naming
from itest.config import Config, load
from itest.errors import ConfigError

NAMES = ", ".join(sorted(name for name in Config.__dataclass_fields__ if name not in ("environment", "sources")))


class ConfigTest(unittest.TestCase):
    def setUp(self) -> None:
        # Resolved, because messages name files as they were found.
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        # Nothing above the directory counts: the file below is the nearest one.
        self.pyproject("")

    def pyproject(self, text: str) -> None:
        (self.directory / "pyproject.toml").write_text(text, encoding="utf-8")

    def setup_cfg(self, text: str) -> None:
        (self.directory / "setup.cfg").write_text(text, encoding="utf-8")

    def load(self, **environment: str) -> Config:
        return load(environment, self.directory)

    def assertWrong(self, message: str, **environment: str) -> None:
        with self.assertRaises(ConfigError) as caught:
            self.load(**environment)
        self.assertEqual(str(caught.exception), message)


class SourcesTest(ConfigTest):
    def test_without_any_setting_the_defaults_hold(self) -> None:
        config = self.load()
        self.assertEqual((config.engine, config.require, config.required), ("auto", "", False))
        self.assertEqual((config.startup_timeout, config.timing, config.quiet), (60.0, False, False))

    def test_where_a_setting_stands(self) -> None:
        self.pyproject(
            "[tool.itest]\nredis_url = 'redis://a'\npostgres_url = 'postgresql://a'\nkafka_bootstrap_servers = 'a'\n"
        )
        self.setup_cfg("[itest]\npostgres_url = postgresql://b\n")
        config = self.load(ITEST_KAFKA_BOOTSTRAP_SERVERS="b", ITEST_REDIS_URL="")
        self.assertEqual(
            config.source("redis_url"), f"redis_url in [tool.itest] in {self.directory / 'pyproject.toml'}"
        )
        self.assertEqual(config.source("postgres_url"), f"postgres_url in [itest] in {self.directory / 'setup.cfg'}")
        self.assertEqual(config.source("kafka_bootstrap_servers"), "ITEST_KAFKA_BOOTSTRAP_SERVERS")
        self.assertEqual(Config(redis_url="redis://a").source("redis_url"), "ITEST_REDIS_URL")

    def test_setup_cfg_wins_over_pyproject_and_the_environment_over_both(self) -> None:
        self.pyproject("[tool.itest]\nengine = 'docker'\nstartup_timeout = 5\ntiming = true\n")
        self.setup_cfg("[itest]\nengine = process\nstartup_timeout = 6\n")
        config = self.load(ITEST_STARTUP_TIMEOUT="7.5")
        self.assertEqual((config.engine, config.startup_timeout, config.timing), ("process", 7.5, True))

    def test_a_file_of_a_directory_above_counts(self) -> None:
        self.pyproject("[tool.itest]\nquiet = true\n")
        below = self.directory / "a" / "b"
        below.mkdir(parents=True)
        self.assertTrue(load({}, below).quiet)

    def test_a_file_without_our_section_is_fine(self) -> None:
        self.pyproject("[tool.ruff]\nline-length = 120\n")
        self.setup_cfg("[metadata]\nname = %(x)s\n")
        self.assertEqual(self.load().engine, "auto")

    def test_the_table_may_be_written_in_every_way_that_toml_has(self) -> None:
        for text in (
            "[tool.itest]\nengine = 'docker'",
            " [ tool . itest ] # ours\nengine = 'docker'",
            "[\"tool\".'itest']\r\nengine = 'docker'",
            "[tool]\nitest = { engine = 'docker' }",
            "[ 'tool' ]\nitest.engine = 'docker'",
            "tool.itest.engine = 'docker'",
            "[project]\n[tool . itest]\nengine = 'docker'",
            "tool = { itest = { engine = 'docker' } }",
            "  'tool' = { \"itest\" = { engine = 'docker' } }",
        ):
            with self.subTest(text):
                self.pyproject(text)
                self.assertEqual(self.load().engine, "docker")

    def test_where_itest_is_only_a_dependency_no_parser_is_imported(self) -> None:
        self.pyproject(
            "[project]\ndependencies = ['itest-containers']\nscripts = { itest = 'itest.cli:main' }\n"
            "[tool.setuptools]\npackages = [\n  'itest',\n]\n[dependency-groups]\ntest = ['itest', 'tox']\n"
        )
        self.setup_cfg("[options.extras_require]\ntest = itest-containers[all]\n[tool:pytest]\naddopts = -q\n")
        with mock.patch.dict(sys.modules, {"tomllib": None, "configparser": None}):
            self.assertEqual(self.load().engine, "auto")

    def test_a_helper_of_a_run_reads_no_files(self) -> None:
        self.pyproject("[tool.itest]\nquite = true\n")
        self.assertEqual(load({"ITEST_ENGINE": "process"}, self.directory, files=False).engine, "process")

    def test_the_environment_is_the_real_one_by_default(self) -> None:
        with mock.patch.dict(os.environ, {"ITEST_ENGINE": "process", "CI": ""}):
            self.assertEqual(load(directory=self.directory).engine, "process")

    def test_unrelated_variables_do_not_matter(self) -> None:
        self.assertEqual(self.load(ITEST_SHOP_FLAVOUR="sweet", ENGINE="docker", itest_engine="docker").engine, "auto")

    def test_other_variables_can_be_read_as_they_were(self) -> None:
        config = self.load(TEST_DATABASE_URL="postgresql://db")
        self.assertEqual((config.variable("TEST_DATABASE_URL"), config.variable("MISSING")), ("postgresql://db", ""))
        self.assertEqual(config.child_environment(A="b"), {"TEST_DATABASE_URL": "postgresql://db", "A": "b"})

    def test_the_environment_is_not_shown(self) -> None:
        config = self.load(TEST_DATABASE_URL="geheim")
        for shown in (config, config.environment, config.child_environment(A="b")):
            self.assertNotIn("geheim", repr(shown))
        self.assertEqual(repr(config.child_environment(A="b")), "<2 variables>")

    def test_no_traceback_with_local_variables_shows_it(self) -> None:
        with mock.patch.dict(os.environ, {"ITEST_ENGINE": "nonsense", "CI_SECRET": "gehe" + "im"}):
            try:
                load(directory=self.directory)
            except ConfigError as error:
                text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        self.assertIn("environment = <", text)
        self.assertNotIn("geheim", text)

    def test_no_text_shows_the_password_of_an_external_server(self) -> None:
        config = self.load(
            ITEST_POSTGRES_URL="postgresql://u:first%2Fgeheim-long@db/x",
            ITEST_REDIS_URL="redis://:other-geheim-long@db",
        )
        self.assertNotIn("geheim", repr(config))
        self.assertEqual(naming.mask("first/geheim-long, other-geheim-long"), "***, ***")


class ValuesTest(ConfigTest):
    def test_truth_has_the_usual_words(self) -> None:
        for word in ("1", "true", "Yes", "ON"):
            self.assertTrue(self.load(ITEST_TIMING=word).timing, word)
        for word in ("0", "false", "No", "off"):
            self.assertFalse(self.load(ITEST_TIMING=word).timing, word)

    def test_require_understands_them_too(self) -> None:
        for word, required in {
            "1": True,
            "true": True,
            "docker": True,
            "process": True,
            "0": False,
            "no": False,
        }.items():
            self.assertEqual(self.load(ITEST_REQUIRE=word).required, required, word)
        self.pyproject("[tool.itest]\nrequire = true\n")
        self.assertEqual(self.load().require, "1")

    def test_keep_is_turned_off_by_them(self) -> None:
        self.pyproject("[tool.itest]\nkeep = 'failed'\n")
        for word in ("0", "false", "Off", "no"):
            self.assertEqual(self.load(ITEST_KEEP=word).keep, "")
        self.assertEqual(self.load().keep, "failed")
        self.pyproject("[tool.itest]\nkeep = false\n")
        self.assertEqual(self.load().keep, "")
        self.assertWrong("keep = '1' in the variable ITEST_KEEP: it must be one of 0, failed", ITEST_KEEP="1")

    def test_ci_requires_services_unless_told_otherwise(self) -> None:
        self.assertTrue(self.load(CI="true").required)
        self.assertFalse(self.load(CI="false").required)
        self.assertFalse(self.load(CI="true", ITEST_REQUIRE="0").required)

    def test_a_home_directory_may_be_abbreviated(self) -> None:
        self.assertEqual(self.load(ITEST_CACHE_DIR="~/x").cache_dir, Path.home() / "x")

    def test_without_a_home_the_cache_is_a_temporary_directory_of_this_user_alone(self) -> None:
        place = self.directory / f"itest-cache-{os.getuid()}"
        with (
            mock.patch.dict(os.environ, {"XDG_CACHE_HOME": ""}),
            mock.patch.object(Path, "home", side_effect=RuntimeError),
            mock.patch("tempfile.gettempdir", return_value=str(self.directory)),
        ):
            for _ in ("it makes it", "it takes it"):
                self.assertEqual(self.load().cache_dir, place)
                self.assertEqual(place.stat().st_mode & 0o777, 0o700)
            place.chmod(0o777)
            wrong = (
                f"the cache directory {place} is not this user's alone, and there is no home directory to take instead: remove "
                f"it, or set ITEST_CACHE_DIR to another one"
            )
            self.assertWrong(wrong)
            place.rmdir()
            place.symlink_to(self.directory)
            self.assertWrong(wrong)

    def test_a_relative_path_begins_where_it_stands(self) -> None:
        below = self.directory / "below"
        below.mkdir()
        self.pyproject('[tool.itest]\ncache_dir = ".cache"\nkafka_home = "kafka"\nredis_bin = "bin/redis-server"\n')
        config = load({"ITEST_POSTGRES_BIN": "bin", "ITEST_REPORT": "~/run.html", "ITEST_ARTIFACTS": ""}, below)
        self.assertEqual(config.cache_dir, self.directory / ".cache")
        self.assertEqual(config.kafka_home, str(self.directory / "kafka"))
        self.assertEqual(config.redis_bin, str(self.directory / "bin/redis-server"))
        self.assertEqual(config.postgres_bin, str(below / "bin"))
        self.assertEqual((config.report, config.artifacts), (str(Path.home() / "run.html"), ""))
        self.assertEqual(self.load(ITEST_REDIS_BIN="valkey-server").redis_bin, "valkey-server")

    def test_an_empty_value_counts_as_not_set(self) -> None:
        self.pyproject("[tool.itest]\ntiming = true\n")
        empty = {
            f"ITEST_{name.upper()}": " " for name in Config.__annotations__ if name not in ("environment", "sources")
        }
        config = self.load(CI="true", **{**empty, "ITEST_REQUIRE": ""})
        self.assertEqual((config.timing, config.require, config.warm, config.engine), (True, "1", True, "auto"))
        self.assertEqual(config.cache_dir, Config().cache_dir)

    def test_the_cache_is_where_the_platform_has_caches(self) -> None:
        with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": "/somewhere"}):
            self.assertEqual(Config().cache_dir, Path("/somewhere/itest"))
        for other in ("", "relative"):
            with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": other, "HOME": "/home/me"}):
                self.assertIn(
                    Config().cache_dir, (Path("/home/me/.cache/itest"), Path("/home/me/Library/Caches/itest"))
                )


class MistakesTest(ConfigTest):
    def test_settings_are_frozen_and_can_be_replaced(self) -> None:
        config = Config(engine="docker")
        with self.assertRaisesRegex(AttributeError, "^settings are frozen, engine too$"):
            config.engine = "process"
        other = dataclasses.replace(config, quiet=True)
        self.assertEqual((other.engine, other.quiet, config.quiet), ("docker", True, False))
        self.assertEqual(other.cache_dir, config.cache_dir)

    def test_a_setting_that_there_is_not(self) -> None:
        with self.assertRaisesRegex(TypeError, "^no setting is called colour, engin$"):
            Config(engin="docker", colour="red")

    def test_an_unknown_setting_in_pyproject(self) -> None:
        self.pyproject("[tool.itest]\nengin = 'docker'\n")
        file = self.directory / "pyproject.toml"
        self.assertWrong(f"unknown setting 'engin' in [tool.itest] in {file}; did you mean engine?")

    def test_an_unknown_setting_in_setup_cfg(self) -> None:
        self.setup_cfg("[itest]\nstartup-timeout = 3\n")
        file = self.directory / "setup.cfg"
        self.assertWrong(f"unknown setting 'startup-timeout' in [itest] in {file}; did you mean startup_timeout?")

    def test_an_unknown_setting_like_no_other_lists_them_all(self) -> None:
        self.setup_cfg("[itest]\nxyzzy = 3\n")
        self.assertWrong(
            f"unknown setting 'xyzzy' in [itest] in {self.directory / 'setup.cfg'}; the settings are {NAMES}"
        )

    def test_a_variable_that_is_almost_a_setting(self) -> None:
        self.assertWrong(
            "unknown setting in the variable ITEST_POSTGRESS_URL; did you mean ITEST_POSTGRES_URL?",
            ITEST_POSTGRESS_URL="postgresql://db",
        )
        for wrong, right in {
            "ENIGNE": "ENGINE",
            "MIRORR": "MIRROR",
            "REUES": "REUSE",
            "QUITE": "QUIET",
            "KEPE": "KEEP",
        }.items():
            message = f"unknown setting in the variable ITEST_{wrong}; did you mean ITEST_{right}?"
            self.assertWrong(message, **{f"ITEST_{wrong}": "1"})

    def test_variables_of_a_users_own(self) -> None:
        for name in (
            "TOKEN",
            "DB",
            "USER",
            "HOST",
            "PORT",
            "ENV",
            "MODE",
            "POSTGRES",
            "EXPORT",
            "PEEK",
            "TIME",
            "URL",
            "",
        ):
            self.load(**{f"ITEST_{name}": "1"})

    def test_a_word_that_is_no_choice(self) -> None:
        self.assertWrong(
            "engine = 'podman' in the variable ITEST_ENGINE: it must be one of auto, docker, process",
            ITEST_ENGINE="podman",
        )
        self.assertWrong(
            "require = 'maybe' in the variable ITEST_REQUIRE: it must be one of 0, 1, docker, process",
            ITEST_REQUIRE="maybe",
        )

    def test_a_word_that_is_no_truth(self) -> None:
        self.assertWrong(
            "timing = 'perhaps' in the variable ITEST_TIMING: it must be true or false", ITEST_TIMING="perhaps"
        )

    def test_a_length_that_is_no_number_of_seconds(self) -> None:
        for word in ("soon", "nan", "-1", "0", "inf", "2000001"):
            self.assertWrong(
                f"startup_timeout = {word!r} in the variable ITEST_STARTUP_TIMEOUT: it must be a number of seconds above 0, "
                f"at most 2000000",
                ITEST_STARTUP_TIMEOUT=word,
            )

    def test_a_file_that_cannot_be_read(self) -> None:
        self.pyproject("[tool.itest\n")
        with self.assertRaisesRegex(
            ConfigError, rf"the settings in {self.directory}/pyproject.toml cannot be read: .+"
        ):
            self.load()
        self.pyproject("")
        self.setup_cfg("[itest\nengine = docker\n")
        with self.assertRaisesRegex(ConfigError, rf"the settings in {self.directory}/setup.cfg cannot be read: .+"):
            self.load()

    def test_a_line_that_cannot_be_read_is_not_shown(self) -> None:
        secret = "open sesame/1"
        for text, line in (
            (f"postgres_url = postgresql://me:{secret}@db/shop\n[itest]\n", "1"),
            (f"[itest]\nquiet\npassword {secret}\n", "2, 3"),
        ):
            with self.subTest(line=line):
                self.setup_cfg(text)
                with self.assertRaises(ConfigError) as caught:
                    self.load()
                self.assertEqual(
                    str(caught.exception),
                    f"the settings in {self.directory / 'setup.cfg'} cannot be read: line {line} is neither a [section] nor "
                    f"`name = value` in one",
                )
                self.assertNotIn("sesame", "".join(traceback.format_exception(caught.exception)))

    def test_what_stands_in_setup_cfg_twice(self) -> None:
        file = self.directory / "setup.cfg"
        self.setup_cfg("[itest]\nkeep = failed\nkeep = 0\n")
        self.assertWrong(f"the settings in {file} cannot be read: line 3 has keep in [itest] a second time")
        self.setup_cfg("[itest]\nkeep = failed\n[itest]\n")
        self.assertWrong(f"the settings in {file} cannot be read: line 3 has [itest] a second time")

    def test_a_home_that_nobody_has(self) -> None:
        with self.assertRaisesRegex(ConfigError, "^cache_dir = '~nobody-at-all/x' in the variable ITEST_CACHE_DIR: "):
            self.load(ITEST_CACHE_DIR="~nobody-at-all/x")

    def test_a_working_directory_that_is_gone(self) -> None:
        with (
            mock.patch.object(Path, "cwd", side_effect=FileNotFoundError("gone")),
            self.assertRaisesRegex(ConfigError, "^the settings cannot be looked for: the working directory is gone"),
        ):
            load({})

    def test_a_directory_that_may_not_be_entered_has_no_settings(self) -> None:
        with mock.patch.object(os, "stat", side_effect=PermissionError("not for you")):
            self.assertEqual(load({}, self.directory).engine, "auto")

    def test_bytes_that_are_no_text(self) -> None:
        (self.directory / "setup.cfg").write_bytes(b"[itest]\nengine = \xff\n")
        with self.assertRaisesRegex(ConfigError, rf"the settings in {self.directory}/setup.cfg cannot be read: .+"):
            self.load()

    def test_a_section_that_is_no_table(self) -> None:
        self.pyproject("tool.itest = 'docker'\n")
        file = self.directory / "pyproject.toml"
        self.assertWrong(f"the settings in {file} cannot be read: [tool.itest] must be a table")

    def test_a_section_with_the_name_that_it_has_in_another_file(self) -> None:
        for name in ("tool.itest", "tool:itest", "ITEST"):
            self.setup_cfg(f"[{name}]\nengine = docker\n")
            file = self.directory / "setup.cfg"
            self.assertWrong(f"the settings in {file} stand in [{name}]; there they must stand in [itest]")
        self.setup_cfg("[DEFAULT]\nname = shop\n[itest]\nengine = docker\n")
        self.assertEqual(self.load().engine, "docker")
        file = self.directory / "pyproject.toml"
        for name in ("itest", "tool.Itest"):
            self.pyproject(f"[{name}]\nengine = 'docker'\n")
            self.assertWrong(f"the settings in {file} stand in [{name}]; there they must stand in [tool.itest]")

    def test_a_text_that_is_none(self) -> None:
        file = self.directory / "pyproject.toml"
        for value, kind in (("false", "bool"), ("3", "int"), ("['x']", "list")):
            for name in ("report", "cache_dir", "postgres_url"):
                self.pyproject(f"[tool.itest]\n{name} = {value}\n")
                self.assertWrong(f"{name} in [tool.itest] in {file} must be a text, not {kind}")
        self.pyproject("tool = 'itest'\n")
        self.assertEqual(self.load().engine, "auto")

    def test_a_mirror_is_the_beginning_of_a_name(self) -> None:
        self.assertEqual(self.load(ITEST_MIRROR="registry.example.com/hub/").mirror, "registry.example.com/hub")
        for wrong in ("https://registry.example.com/hub", "user:password@registry.example.com"):
            self.assertWrong(
                "mirror in the variable ITEST_MIRROR must be the beginning of an image's name, registry.example.com/dockerhub, "
                "without scheme and password; a login is taken from where `docker login` keeps it, or DOCKER_AUTH_CONFIG",
                ITEST_MIRROR=wrong,
            )

    def test_a_url_that_is_none(self) -> None:
        self.assertWrong("postgres_url in the variable ITEST_POSTGRES_URL is no URL: its port must be a number up to 65535, and "
                         "the characters / ? # [ ] @ of a user or password must be percent-encoded (%2F %3F %23 %5B %5D %40)",
                         ITEST_POSTGRES_URL="postgresql://u:geheim@[db/x")  # fmt: skip
