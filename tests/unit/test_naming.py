# SPDX-License-Identifier: Apache-2.0
"""Names, fingerprints, and the passwords that no text may show."""

from __future__ import annotations

import unittest
from collections.abc import Mapping
from dataclasses import dataclass, field

from itest import naming


class MaskTest(unittest.TestCase):
    def test_the_password_of_a_url_is_hidden(self) -> None:
        for url, masked in {
            "postgresql://user:geheim@db/x": "postgresql://user:***@db/x",
            "redis://:geheim@db": "redis://:***@db",
            "postgresql+psycopg2://user:geheim@db": "postgresql+psycopg2://user:***@db",
            "connect to https://user:geheim@db/a, then stop": "connect to https://user:***@db/a, then stop",
        }.items():
            with self.subTest(url):
                self.assertEqual(naming.mask(url), masked)

    def test_a_password_with_an_at_sign_is_hidden_whole(self) -> None:
        self.assertEqual(naming.mask("redis://:ge@heim@db/0"), "redis://:***@db/0")

    def test_each_url_of_a_text_keeps_its_host(self) -> None:
        self.assertEqual(naming.mask("a://u:p@one/1, b://u:q@two/2"), "a://u:***@one/1, b://u:***@two/2")

    def test_a_url_without_a_password_stays_as_it_is(self) -> None:
        for url in ("redis://db:6379/0", "http://user@db/", "http://127.0.0.1:80/a@b", "12:30 a@b"):
            self.assertEqual(naming.mask(url), url)

    def test_a_secret_made_here_is_hidden_anywhere(self) -> None:
        secret = naming.secret()
        self.assertEqual(naming.mask(f"--requirepass{secret}x"), "--requirepass***x")

    def test_secrets_are_random_and_fit_into_a_url(self) -> None:
        one, two = naming.secret(), naming.secret()
        self.assertNotEqual(one, two)
        self.assertRegex(one, r"\A[0-9a-f]{32}\Z")

    def test_a_remembered_secret_is_hidden_in_its_quoted_form_too(self) -> None:
        naming.remember_secret("slash/and space?")
        self.assertEqual(naming.mask("x slash/and space? y slash%2Fand%20space%3F"), "x *** y ***")

    def test_the_password_of_a_given_url_is_hidden_in_both_forms(self) -> None:
        self.assertEqual(naming.url_password("redis://:per%25cent%2Fage@db"), "per%cent/age")
        self.assertEqual(naming.mask("AUTH per%cent/age or per%25cent%2Fage"), "AUTH *** or ***")

    def test_a_short_password_does_not_garble_other_words(self) -> None:
        naming.remember_secret("im")
        self.assertEqual(naming.mask("the image is im, time"), "the image is ***, time")

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

    def test_nothing_is_remembered_of_no_password_or_one_character(self) -> None:
        self.assertEqual(naming.url_password("redis://db"), "")
        self.assertEqual(naming.remember_secret(""), "")
        self.assertEqual(naming.remember_secret("w"), "w")
        self.assertEqual(naming.mask("as it was, w and all"), "as it was, w and all")


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
