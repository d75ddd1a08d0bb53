# SPDX-License-Identifier: Apache-2.0
"""Names, fingerprints, and the passwords that no text may show."""

from __future__ import annotations

import json
import time
import unittest
from collections.abc import Mapping
from dataclasses import dataclass, field

from itest import Kafka, Postgres, Redis, naming
from itest.engines import docker_config
from itest.engines.docker_address import Address
from itest.spec import ContainerSpec


class MaskTest(unittest.TestCase):
    def test_the_password_of_a_url_is_hidden(self) -> None:
        for url, masked in {
            "postgresql://user:geheim@db/x": "postgresql://user:***@db/x",
            "redis://:geheim@db": "redis://:***@db",
            "postgresql+psycopg2://user:geheim@db": "postgresql+psycopg2://user:***@db",
            "connect to https://user:geheim@db/a, then stop": "connect to https://user:***@db/a, then stop",
            "<PostgresView postgresql://u@h/d?password=geheim>": "<PostgresView postgresql://u@h/d?password=***>",
            "GET /x?page_token=2&access_token=geheim#top": "GET /x?page_token=2&access_token=***#top",
            "https://ghp_16C7e42F292c6912E7710c@git.local/x": "https://***@git.local/x",
            "https://ghp_16C7e42F292c6912E7710c:x@git.local/x": "https://***:***@git.local/x",
        }.items():
            with self.subTest(url):
                self.assertEqual(naming.mask(url), masked)

    def test_that_of_sql_is_hidden(self) -> None:
        for sql, masked in {
            "STATEMENT:  CREATE ROLE bob LOGIN PASSWORD 'b0bPw'": "STATEMENT:  CREATE ROLE bob LOGIN PASSWORD '***'",
            "alter role a password\n 'it''s' valid until 'x'": "alter role a password\n '***' valid until 'x'",
            r"Password E'\'a\\'; SELECT 'b'": "Password '***'; SELECT 'b'",
            r"PASSWORD 'a\'; SELECT 'b'": "PASSWORD '***'; SELECT 'b'",
            "PASSWORD ''": "PASSWORD '***'",
            "PASSWORD 'cut\nnext 'line'": "PASSWORD '***'\nnext 'line'",
            "EXECUTE 'ALTER ROLE a PASSWORD ''b0bPw''; SELECT 1'": "EXECUTE 'ALTER ROLE a PASSWORD '***'; SELECT 1'",
            "EXECUTE 'ALTER ROLE a PASSWORD ''it''''s'' b'": "EXECUTE 'ALTER ROLE a PASSWORD '***' b'",
            "PASSWORD '''a''b'; SELECT 'c'": "PASSWORD '***'; SELECT 'c'",
            "PASSWORD ''; SELECT 'c'": "PASSWORD '***'; SELECT 'c'",
            "PASSWORD $$b0bPw$$ VALID": "PASSWORD '***' VALID",
            "PASSWORD $tag$b0b\nPw$tag$ VALID": "PASSWORD '***' VALID",
            "PASSWORD $$cut\nnext line": "PASSWORD '***'\nnext line",
            repr("ALTER ROLE \"a\" PASSWORD 'b0bPw' b"): "'ALTER ROLE \"a\" PASSWORD '***' b'",
            "PASSWORD U&'b0bPw'; SELECT 'c'": "PASSWORD '***'; SELECT 'c'",
            "PASSWORD 'b0b\nPw' VALID": "PASSWORD '***' VALID",
        }.items():
            with self.subTest(sql):
                self.assertEqual(naming.mask(sql), masked)
                self.assertEqual(naming.mask(masked), masked)

    def test_other_passwords_in_sql_stay_as_they_are(self) -> None:
        for text in (
            'FATAL:  password authentication failed for user "bob"',
            "ALTER ROLE bob PASSWORD NULL",
            "SELECT password FROM users WHERE name = 'bob'",
            "SELECT reset_password 'x'",
            "ALTER ROLE bob PASSWORD $1",
        ):
            self.assertEqual(naming.mask(text), text)

    def test_a_password_with_an_at_sign_is_hidden_whole(self) -> None:
        self.assertEqual(naming.mask("redis://:ge@heim@db/0"), "redis://:***@db/0")

    def test_each_url_of_a_text_keeps_its_host(self) -> None:
        self.assertEqual(naming.mask("a://u:p@one/1, b://u:q@two/2"), "a://u:***@one/1, b://u:***@two/2")

    def test_a_url_without_a_password_stays_as_it_is(self) -> None:
        for url in (
            "redis://db:6379/0",
            "http://user@db/",
            "https://somebody-with-a-long-name@db/",
            "http://127.0.0.1:80/a@b",
            "12:30 a@b",
        ):
            self.assertEqual(naming.mask(url), url)

    def test_a_secret_made_here_is_hidden_anywhere(self) -> None:
        secret = naming.secret()
        self.assertEqual(naming.mask(f"--requirepass{secret}x"), "--requirepass***x")

    def test_secrets_are_random_and_fit_into_a_url(self) -> None:
        one, two = naming.secret(), naming.secret()
        self.assertNotEqual(one, two)
        self.assertRegex(one, r"\A[0-9a-f]{32}\Z")

    def test_a_remembered_secret_is_hidden_in_its_quoted_forms_too(self) -> None:
        naming.remember_secret("slash/and space?")
        self.assertEqual(naming.mask("x slash/and space? y slash%2Fand%20space%3F"), "x *** y ***")
        secret = naming.remember_secret("quoted \"Käse\" \\ and 'more'")
        for text in (secret, json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret)):
            self.assertEqual(naming.mask(text).strip("\"'"), "***", text)

    def test_each_line_of_a_key_is_hidden(self) -> None:
        lines = ["-----BEGIN KEY-----", "MIIEvQIBADANBgkqhkiG9w0", "  c3RpbGwgbW9yZSBvZiBp  ", "-----END KEY-----"]
        naming.remember_secret("\r\n".join(lines))
        for line in lines:
            self.assertEqual(naming.mask(f"log: {line}").replace(" ", ""), "log:***")

    def test_a_long_line_takes_a_time_that_grows_with_its_length_only(self) -> None:
        # The time of this process alone. It was 92 s for the first one.
        begun = time.process_time()
        for text in (
            "a." * 50_000,
            "://" + "a:@?b" * 20_000,
            "?token" * 20_000,
            "a://a:b@" * 12_500,
            "password '" * 20_000,
            "password e'\\'" * 20_000,
            "password '" + "'' " * 50_000,
            "password ''a\n" * 20_000,
            "password $a$ password $b$ " * 10_000,
        ):
            naming.mask(text)
        self.assertLess(time.process_time() - begun, 2)

    def test_the_password_of_a_given_url_is_hidden_in_both_forms(self) -> None:
        self.assertEqual(naming.url_password("redis://:per%25cent%2Fage@db"), "per%cent/age")
        self.assertEqual(naming.mask("AUTH per%cent/age or per%25cent%2Fage"), "AUTH *** or ***")
        self.assertEqual(naming.url_password("postgresql://u@h/d?sslmode=off&password=que%2Fry-9"), "que/ry-9")
        self.assertEqual(naming.mask("AUTH que/ry-9"), "AUTH ***")

    def test_each_part_of_a_password_with_an_unencoded_at_sign_is_hidden(self) -> None:
        self.assertEqual(naming.url_password("redis://u:jaeger2@revier99@db"), "jaeger2@revier99")
        text = 'AUTH jaeger2@revier99; could not translate host name "revier99@db"; redis://u:jaeger2@revier99@db'
        self.assertEqual(naming.mask(text), 'AUTH ***; could not translate host name "***@db"; redis://u:***@db')

    def test_a_common_password_of_a_url_does_not_garble_every_text(self) -> None:
        for password in ("test", "postgres", "12345678"):
            naming.url_password(f"postgresql://postgres:{password}@db")
        text = "the services when this test failed: image postgres:17 at postgres:5432, 12345678 rows"
        self.assertEqual(naming.mask(text), text)
        self.assertEqual(naming.mask("postgresql://u:test@db"), "postgresql://u:***@db")

    def test_a_short_password_does_not_garble_other_words(self) -> None:
        naming.remember_secret("user-1")
        self.assertEqual(naming.mask("user-1, user-12, ci-user-1"), "***, user-12, ci-***")

    def test_variables_that_are_called_passwords(self) -> None:
        ordinary = {
            "DB_PASSWORD": "test",
            "PG_PASSWORD": "postgres",
            "AUTH": "true",
            "TOKEN_LIMIT": "123456",
            "KEY": "v2",
        }
        naming.remember_named({**ordinary, "ADMIN_PASSWORD": "hunter2", "API_TOKEN": "averylongword", "MODE": "mode-2"})
        text = " ".join([*ordinary.values(), "mode-2", "hunter22"])
        self.assertEqual(naming.mask(f"{text}, hunter2: xaverylongwordx"), f"{text}, ***: x***x")

    def test_variables_that_are_about_passwords_and_hold_none(self) -> None:
        ordinary = {
            "AUTH_URL": "http://auth.local:8080",
            "AUTH_MODE": "client_credentials",
            "KEY_TYPE": "application_name",
            "TOKENIZER": "gpt2-large-model",
            "DB_PASSWORD_FILE": "/run/secrets/db-password",
            "SSH_AUTH_SOCK": "/tmp/ssh-1/agent.1",
            "PWD": "/home/me/project-1",
        }
        naming.remember_named({**ordinary, "TOKEN_SERVER": "https://me:pass-of-server@auth"})
        text = " ".join(ordinary.values())
        self.assertEqual(naming.mask(f"{text} me pass-of-server"), f"{text} me ***")

    def test_settings_of_servers_that_hold_passwords(self) -> None:
        password = "S3cretPassw"
        for service in (
            Redis(settings={"masterauth": password, "primaryauth": password, "tls-key-file-pass": password}),
            Postgres(
                settings={
                    "primary_conninfo": f"host=h password={password}",
                    "ssl_passphrase_command": f"echo {password}",
                }
            ),
            Kafka(
                env={"KAFKA_LISTENER_NAME_A_PLAIN_SASL_JAAS_CONFIG": password, "KAFKA_SSL_KEYSTORE_PASSWORD": password}
            ),
        ):
            self.assertNotIn(password, repr(service))
        self.assertNotIn(password, repr(Redis(settings={"masterauth": password}).container("")))
        self.assertIn("'tls-port': 'no'", repr(Redis(settings={"tls-port": "no"})))

    def test_the_words_of_a_command(self) -> None:
        for words, shown in {
            "serve --token abc --port 80": "serve --token *** --port 80",
            "redis-server --requirepass pw": "redis-server --requirepass ***",
            "serve --api-key=abc -Dspring.datasource.password=a=b": "serve --api-key=*** -Dspring.datasource.password=***",
            "env DB_PASSWORD=abc MODE=x serve": "env DB_PASSWORD=*** MODE=x serve",
            "psql --no-password --host db": "psql --no-password --host db",
            "postgres -c password_encryption=md5": "postgres -c password_encryption=md5",
            "serve --auth-url http://a --token": "serve --auth-url http://a --token",
        }.items():
            self.assertEqual(" ".join(naming.hide_options(words.split(" "))), shown)

    def test_nothing_is_remembered_of_no_password(self) -> None:
        self.assertEqual(naming.url_password("redis://db"), "")
        self.assertEqual(naming.remember_secret(""), "")
        self.assertEqual(naming.mask("as it was"), "as it was")


class LocalVariablesTest(unittest.TestCase):
    """What `unittest --locals` shows."""

    def test_it_shows_how_much_there_is_and_nothing_of_it(self) -> None:
        self.assertEqual(repr(naming.Masked(PASSWORD="Chosen-9182-pw")), "<1 entries>")
        self.assertEqual(repr(naming.MaskedBytes(b"Chosen-9182-pw")), "<14 bytes>")

    def test_what_docker_is_asked_for(self) -> None:
        spec = ContainerSpec("redis:8", env={"PASSWORD": "Chosen-9182-pw"})
        config = docker_config.wanted(spec, {}, Address("unix:///x", "here"), {})
        self.assertIn("PASSWORD=Chosen-9182-pw", config["Env"])
        self.assertNotIn("Chosen", repr(config))


class FingerprintTest(unittest.TestCase):
    def test_equal_content_has_an_equal_fingerprint_in_any_process(self) -> None:
        # The digits are written down, because they name things that are kept between runs.
        self.assertEqual(naming.fingerprint("a", 1, {"b": [2, 3]}), "2938f1f9af02977d")

    def test_the_order_of_a_mapping_does_not_count(self) -> None:
        self.assertEqual(naming.fingerprint({"a": 1, "b": 2}), naming.fingerprint({"b": 2, "a": 1}))

    def test_different_content_has_a_different_one(self) -> None:
        seen = {naming.fingerprint(value) for value in ("a", b"a", ["a", "b"], ("b", "a"), 1, None, {"a": 1})}
        self.assertEqual(len(seen), 7)

    def test_a_dataclass_counts_by_its_type_and_fields(self) -> None:
        @dataclass
        class One:
            env: Mapping[str, str] = field(default_factory=dict)
            names: frozenset[str] = frozenset()

        @dataclass
        class Other(One):
            pass

        one = naming.fingerprint(One({"a": "b"}, frozenset({"x", "y"})))
        self.assertEqual(one, naming.fingerprint(One({"a": "b"}, frozenset({"y", "x"}))))
        self.assertNotEqual(one, naming.fingerprint(One({"a": "c"}, frozenset({"x", "y"}))))
        self.assertNotEqual(one, naming.fingerprint(Other({"a": "b"}, frozenset({"x", "y"}))))


class NameTest(unittest.TestCase):
    def test_an_identifier_is_lower_case_letters_digits_and_underscores(self) -> None:
        self.assertEqual(naming.identifier("itest", "My-Test.Case"), "itest_my_test_case")

    def test_a_long_identifier_is_cut_to_63_bytes_and_stays_unique(self) -> None:
        one, two = naming.identifier("x" * 80, "1"), naming.identifier("x" * 80, "2")
        self.assertEqual((len(one), len(two)), (63, 63))
        self.assertNotEqual(one, two)

    def test_an_application_name_keeps_the_end_of_the_test_id(self) -> None:
        name = naming.application_name("very.long." * 10 + "OrderTest.test_order")
        self.assertEqual(len(name), naming.IDENTIFIER_LIMIT)
        self.assertTrue(name.startswith("itest:") and name.endswith("OrderTest.test_order"), name)

    def test_an_application_name_is_cut_to_as_many_bytes_as_postgresql_takes(self) -> None:
        self.assertEqual(naming.application_name("Größe.test_größe"), "itest:Größe.test_größe")
        name = naming.application_name("a" + "ö" * 40)
        self.assertEqual(name, "itest:" + "ö" * 28)

    def test_session_ids_never_meet(self) -> None:
        self.assertEqual(len({naming.session_id() for _ in range(100)}), 100)
        self.assertRegex(naming.session_id(), r"\A[0-9a-f]{20}\Z")


class TextTest(unittest.TestCase):
    def test_shorten_gives_one_line_of_at_most_that_length(self) -> None:
        self.assertEqual(naming.shorten(" two\n  lines "), "two lines")
        self.assertEqual(naming.shorten("abcdef", 4), "abc…")
        self.assertEqual(naming.shorten("abcd", 4), "abcd")

    def test_shorten_cuts_no_password_in_half(self) -> None:
        secret = naming.secret()
        self.assertEqual(naming.shorten(f"key {secret} more", 20), "key *** more")

    def test_a_clean_log_has_no_colours_control_characters_or_passwords(self) -> None:
        raw = "\x1b[31mred\x1b[0m\x00 bell\x07\r\nnext\tline redis://:geheim@db"
        self.assertEqual(naming.clean_log(raw), "red bell\nnext\tline redis://:***@db")

    def test_a_clean_log_has_no_titles_links_and_character_sets(self) -> None:
        raw = "\x1b]0;title\x07a \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\x1b(B \x1b[>4;2m\x1b[?25lb"
        self.assertEqual(naming.clean_log(raw), "a link b")
        self.assertEqual(naming.clean_log("\x1b]0;without end\nnext"), "]0;without end\nnext")

    def test_of_a_line_that_was_written_over_a_clean_log_has_the_last_state(self) -> None:
        bar = "\r".join(f"progress {percent}%" for percent in range(101))
        for end in ("", "\n", "\r\n", "\r\r\n", "\r\x1b[0m\n"):
            with self.subTest(end):
                self.assertEqual(naming.clean_log(f"one\r\n{bar}{end}").splitlines(), ["one", "progress 100%"])
