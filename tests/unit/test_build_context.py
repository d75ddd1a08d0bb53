# SPDX-License-Identifier: Apache-2.0
"""What of a directory an image is built from, and when two of them are the same."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import unittest
from pathlib import Path

from itest import build_context, naming
from itest.build import Build
from itest.errors import BuildError, DeclarationError
from itest.spec import ContainerSpec


class ContextTest(unittest.TestCase):
    def setUp(self) -> None:
        # The real path: a temporary directory may be behind a link.
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        self.write("Dockerfile", "FROM busybox:1.37\n")

    def write(self, name: str, text: str = "") -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def files(self, dockerfile: str = "Dockerfile") -> list[str]:
        return build_context.files(*build_context.find(self.root, dockerfile))


class IgnoreTest(ContextTest):
    """The examples are those of Docker's documentation, and what people write."""

    def test_patterns(self) -> None:
        names = [
            "a.md",
            "b.txt",
            "src/a.md",
            "src/deep/temp1",
            "src/tempx",
            "temp",
            "node_modules/x/y.js",
            "sub/node_modules/z",
        ]
        for name in names:
            self.write(name)
        for ignore, left_out in {
            "": set(),
            "# a.md\n\n  ": set(),
            "*.md": {"a.md"},
            "**/*.md": {"a.md", "src/a.md"},
            "*/temp*": {"src/tempx"},
            "*/*/temp*": {"src/deep/temp1"},
            "temp?": set(),
            "/src/": {"src/a.md", "src/deep/temp1", "src/tempx"},
            "./src": {"src/a.md", "src/deep/temp1", "src/tempx"},
            "node_modules": {"node_modules/x/y.js"},
            "**/node_modules": {"node_modules/x/y.js", "sub/node_modules/z"},
            "src/**": {"src/a.md", "src/deep/temp1", "src/tempx"},
            "src/**/temp1": {"src/deep/temp1"},
            "[ab].*": {"a.md", "b.txt"},
            "[^a].*": {"b.txt"},
            "\\*.md": set(),
            "*.md\n!a.md": set(),
            "!a.md\n*.md": {"a.md"},
            "src\n!src/deep": {"src/a.md", "src/tempx"},
            "*\n!b.txt": {*names, "Dockerfile"} - {"b.txt"},
        }.items():
            with self.subTest(ignore):
                self.write(".dockerignore", ignore)
                found = {name for name in self.files() if (self.root / name).is_file()}
                self.assertEqual({*names, "Dockerfile"} - found, left_out)

    def test_a_dockerfile_may_have_its_own(self) -> None:
        for name in ("one", "two", "docker/Dockerfile"):
            self.write(name)
        self.write(".dockerignore", "one")
        self.write("docker/Dockerfile.dockerignore", "two\ndocker")
        self.assertEqual(
            self.files(), ["Dockerfile", "docker", "docker/Dockerfile", "docker/Dockerfile.dockerignore", "two"]
        )
        self.assertEqual(self.files("docker/Dockerfile"), ["Dockerfile", "one"])

    def test_what_is_no_pattern(self) -> None:
        self.write(".dockerignore", "[z-a]")
        with self.assertRaisesRegex(BuildError, r"\.dockerignore has the line '\[z-a\]', which is no pattern$"):
            self.files()


class FingerprintTest(ContextTest):
    def fingerprint(self, **changes: object) -> str:
        return Build(self.root, **changes).fingerprint()  # type: ignore[arg-type]  # names and values belong together

    def test_content_counts_and_the_place_does_not(self) -> None:
        self.write("app.py", "1")
        seen = {self.fingerprint()}
        other = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name in ("Dockerfile", "app.py"):
            (other / name).write_bytes((self.root / name).read_bytes())
        os.utime(other / "app.py", (1, 1))
        self.assertEqual({Build(str(other)).fingerprint()}, seen)
        for change in (
            lambda: self.write("app.py", "2"),
            lambda: (self.root / "app.py").chmod(0o755),
            lambda: self.write("other.py"),
            lambda: (self.root / "link").symlink_to("app.py"),
            lambda: (self.root / "empty").mkdir(),
            lambda: self.write("Dockerfile", "FROM busybox:1.37\nRUN true\n"),
        ):
            change()
            self.assertNotIn(self.fingerprint(), seen)
            seen.add(self.fingerprint())

    def test_arguments_and_target_count(self) -> None:
        seen = {self.fingerprint(), self.fingerprint(args={"A": "1"}), self.fingerprint(args={"A": "2"})}
        self.assertEqual(len(seen | {self.fingerprint(target="prod")}), 4)

    def test_what_is_left_out_does_not_count(self) -> None:
        before = self.fingerprint()
        self.write("log/today")
        self.write(".dockerignore", "log\n")
        self.assertEqual(self.fingerprint(), before)

    def test_the_dockerfile_counts_even_if_it_is_left_out_or_elsewhere(self) -> None:
        self.write(".dockerignore", "Dockerfile")
        elsewhere = Path(self.enterContext(tempfile.TemporaryDirectory()), "My.Dockerfile")
        elsewhere.write_text("FROM a")
        for file in (self.root / "Dockerfile", elsewhere):
            before = self.fingerprint(dockerfile=file)
            file.write_text("FROM busybox:1.36")
            self.assertNotEqual(self.fingerprint(dockerfile=file), before)

    def test_a_spec_of_it(self) -> None:
        spec = ContainerSpec("", build=Build(self.root))
        before = spec.fingerprint()
        self.write("app.py")
        self.assertNotEqual(spec.fingerprint(), before)
        self.assertEqual(str(spec), f"image of {self.root}/Dockerfile")
        # It is when the image is built that people are told.
        self.assertTrue(ContainerSpec("", build=Build("/nowhere")).fingerprint())


class BuildTest(unittest.TestCase):
    def test_its_text_fits_into_a_sentence(self) -> None:
        self.assertEqual(str(Build("docker")), "image of docker/Dockerfile")
        self.assertEqual(
            str(Build("docker", "web.Dockerfile", target="prod")), "image of docker/web.Dockerfile, target prod"
        )

    def test_arguments_are_texts_or_numbers(self) -> None:
        self.assertEqual(Build("x", args={"PORT": 80, "RATE": 0.5}).arguments, {"PORT": "80", "RATE": "0.5"})
        for value in (True, None, ["a"]):
            with self.assertRaises(DeclarationError) as caught:
                Build("x", args={"DEBUG": value})  # type: ignore[dict-item]  # wrong on purpose
            self.assertEqual(
                str(caught.exception),
                f"Build: args: DEBUG is a {type(value).__name__}, not a text: write one, in quotes or by str(), or leave it out",
            )
        with self.assertRaisesRegex(DeclarationError, r"^Build: args must be a dict, \{'NAME': value\}, not a list$"):
            Build("x", args=["TOKEN=1"])  # type: ignore[arg-type]  # wrong on purpose

    def test_passwords_are_not_shown(self) -> None:
        args = {"DB_PASSWORD": "hunter2", "NPM_TOKEN": "t0ken", "SSH_KEY": "k", "VERSION": "3.1", "KEYBOARD": "de"}
        text = repr(ContainerSpec("", build=Build("x", args=args)))
        self.assertIn(
            "'DB_PASSWORD': '***', 'NPM_TOKEN': '***', 'SSH_KEY': '***', 'VERSION': '3.1', 'KEYBOARD': 'de'", text
        )

    def test_names_of_secrets(self) -> None:
        for name in (
            "PASSWORD",
            "PGPASSWORD",
            "db_passwd",
            "API_KEY",
            "apikey",
            "AUTH",
            "GITHUB_TOKEN",
            "client_secret",
            "PASS",
            "MYPASS",
            "PGPASS",
            "requirepass",
            "GPG_PASSPHRASE",
            "AWS_ACCESSKEY",
            "JWT",
            "DB_PWD",
            "PASSWORD_ENCRYPTION",
            "db_password_encryption",
            "password_encryption_key",
        ):
            self.assertTrue(naming.is_secret_name(name), name)
        names = "KEYS MONKEY AUTHOR VERSION BYPASS COMPASS COMPASS_URL TOKENIZER PWD password_encryption"
        for name in names.split():
            self.assertFalse(naming.is_secret_name(name), name)


class MissingTest(ContextTest):
    def message(self, context: str | Path, dockerfile: str = "Dockerfile") -> str:
        with self.assertRaises(BuildError) as caught:
            Build(context, dockerfile).fingerprint()
        return str(caught.exception)

    def test_the_path_that_was_looked_at_is_named(self) -> None:
        self.assertEqual(
            self.message(self.root / "nope"),
            f"could not build an image: its context {self.root}/nope does not exist; check the path given as build, or as its context",
        )
        self.assertIn(f"its context {self.root}/Dockerfile is no directory", self.message(self.root / "Dockerfile"))
        self.assertEqual(
            self.message(self.root, "docker/Dockerfile"),
            f"could not build an image: there is no file {self.root}/docker/Dockerfile; its context has Dockerfile; a "
            f"Dockerfile's path is relative to its context",
        )
        self.assertIn(str(Path.cwd() / "no-such-directory"), self.message("no-such-directory"))


class PackTest(ContextTest):
    def pack(self, dockerfile: str | Path = "Dockerfile") -> tuple[str, dict[str, tarfile.TarInfo], tarfile.TarFile]:
        archive = io.BytesIO()
        name = build_context.pack(archive, *build_context.find(self.root, dockerfile))
        tar = self.enterContext(tarfile.open(fileobj=archive))
        return name, {member.name: member for member in tar.getmembers()}, tar

    def test_files_links_and_directories_of_root(self) -> None:
        self.write("src/run.sh", "#!").chmod(0o755)
        (self.root / "link").symlink_to("src/run.sh")
        os.link(self.root / "src/run.sh", self.root / "src/same")
        name, members, tar = self.pack()
        self.assertEqual(name, "Dockerfile")
        self.assertEqual(sorted(members), ["Dockerfile", "link", "src", "src/run.sh", "src/same"])
        self.assertEqual({(member.uid, member.gid, member.uname) for member in members.values()}, {(0, 0, "")})
        self.assertEqual(members["src/run.sh"].mode & 0o777, 0o755)
        self.assertEqual(members["link"].linkname, "src/run.sh")
        for same in ("src/run.sh", "src/same"):
            content = tar.extractfile(members[same])
            self.assertEqual(content and content.read(), b"#!")

    def test_a_dockerfile_that_is_no_file_of_the_context(self) -> None:
        outside = Path(self.enterContext(tempfile.TemporaryDirectory()), "Dockerfile")
        outside.write_text("FROM x")
        self.write(".dockerignore", "Dockerfile")
        for dockerfile in (outside, "Dockerfile", os.path.relpath(outside, self.root)):
            name, members, _ = self.pack(dockerfile)
            self.assertEqual((name, sorted(members)), (".itest-dockerfile", [".dockerignore", ".itest-dockerfile"]))


if __name__ == "__main__":
    unittest.main()
