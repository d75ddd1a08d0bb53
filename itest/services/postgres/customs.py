# SPDX-License-Identifier: Apache-2.0
"""What a declaration changes about the server itself: checked before anything starts, and handed to its image."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from itest import naming, server_settings
from itest.errors import DeclarationError, Unavailable
from itest.services.postgres import init
from itest.wait import Check

if TYPE_CHECKING:
    from itest.services.postgres.declaration import Postgres

BASE = "itest"
"""The database that a container is made with: init scripts of the image fill it, so clones start from it."""

PORT = 5432
"""Where it listens in a container."""

USER = "postgres"
"""The superuser of our own servers, unless a declaration names another."""

ITERATIONS = 4096
"""How often a password is hashed."""

RESERVED = {
    "port": "the port is chosen by itest, ask the view for it",
    "listen_addresses": "where it listens is itest's business",
    "data_directory": "where it has its data is itest's business",
    "config_file": "itest's settings would be lost with another file; give single settings here",
    "hba_file": "itest would not get in with another file",
    "unix_socket_directories": "where its socket is, is itest's business; an image's own psql looks for it there, too",
}
"""Settings that no declaration may have, and why."""

PLACE = "/var/lib/itest"
"""A directory of ours in the container, in memory: its data lies below it."""

SHARED_MEMORY = "/dev/shm"
"""In memory too, without Docker's limit of 64 MB, which parallel joins exceed. Nothing is taken before it is used."""

QUICK_PG_CTL = {
    "BASH_FUNC_pg_ctl%%": """() {
    local file=$PGDATA/postmaster.pid running=no lines program
    [[ ! -e $file ]] || running=yes
    command pg_ctl "$@" &
    program=$!
    while kill -0 $program; do
        case "$running $* " in
        no*" -w start "*) mapfile -t lines <"$file" && [[ ${lines[7]-} == ready* ]] ;;
        yes*" -w stop "*) [[ ! -e $file ]] ;;
        *) false ;;
        esac && break
        sleep 0.01 || sleep 1
    done 2>/dev/null
    if kill $program 2>/dev/null; then
        wait $program 2>/dev/null || :
        return 0
    fi
    wait $program
}"""
}
"""A variable by which a first start in a container takes 0.17 s less of 1.06 (Docker 20.10, PostgreSQL 17).

The image starts and stops a server for its scripts, and `pg_ctl` looks every 100 ms whether that is done
(https://github.com/postgres/postgres/blob/REL_17_0/src/bin/pg_ctl/pg_ctl.c, WAITS_PER_SEC). bash, which runs the
entrypoint, takes the variable for a function of that name. It calls the program, looks every 10 ms for what the program
waits for, and ends it then. What fails or takes too long is the program's to say. Other shells pass it over.
"""

_VARIABLES = {
    "POSTGRES_USER": "user",
    "POSTGRES_PASSWORD": "password",
    "POSTGRES_DB": "database",
}

_INITDB_ARGUMENTS = "POSTGRES_INITDB_ARGS"
"""The one variable of the image that means something to a local process too."""

_NO_MATTER = "POSTGRES_HOST_AUTH_METHOD"
"""Says who gets in without a password, and nothing of the data; whoever is given the URL of a local process gets in."""

_NAME = r"[^\W\d][\w$-]*"


def check(service: Postgres) -> None:
    """Raise DeclarationError for what no server could be started with."""
    init.check(service.init)
    if service.extensions:
        from itest.services.postgres import extensions

        extensions.check(service.extensions)
    server_settings.check(service.settings, RESERVED, 'settings={"work_mem": "8MB"}')
    _check_image(service)
    _check_volumes(service)
    if service.ready is not None:
        from itest.wait_function import has_function

        if not isinstance(service.ready, Check) or has_function(service.ready):
            raise DeclarationError(f"ready={service.ready!r} is no check, like itest.wait.log('seeded')")
    for variable, field in _VARIABLES.items():
        for name in (variable, f"{variable}_FILE"):
            if name in service.env:
                value = "..." if field == "password" or name != variable else repr(service.env[name])
                raise DeclarationError(f"{name} in env: say {field}={value} instead")
    if f"{_INITDB_ARGUMENTS}_FILE" in service.env:
        raise DeclarationError(f"{_INITDB_ARGUMENTS}_FILE in env: say {_INITDB_ARGUMENTS} instead")
    initdb_arguments(service)
    for field, value in (("user", service.user), ("database", service.database or "itest")):
        if (
            not isinstance(value, str)
            or not re.fullmatch(_NAME, value)
            or len(value.encode()) > naming.IDENTIFIER_LIMIT
        ):
            raise DeclarationError(f"{field}={value!r} is no name: letters, digits, _, $ and - are")
    if service.user.startswith("pg_"):
        raise DeclarationError(f"user={service.user!r}: names that begin with pg_ are PostgreSQL's own")
    if service.database in ("postgres", "template0", "template1"):
        raise DeclarationError(
            f"database={service.database!r} is there already, and itest works from it; take another name, or "
            f"leave it out: each class has a database of its own anyway"
        )
    if service.isolation == "schema" and (service.init or service.extensions or service.database):
        raise DeclarationError(
            "isolation='schema' works in a database that is there already, where init, extensions and database "
            "would change nothing; use isolation='database'"
        )


def variables(service: Postgres) -> dict[str, str]:
    """Variables of the image for what differs from our own server, so that those of a plain one stay as they are."""
    user = {"POSTGRES_USER": service.user} if service.user != USER else {}
    return {**user, **password_variable(service)}


def password_variable(service: Postgres) -> dict[str, str]:
    """Passwords do not count for which declarations share a server; where one was chosen it must."""
    return {"ITEST_PASSWORD": naming.fingerprint("password", service.password)} if service.password else {}


def check_variables(service: Postgres) -> None:
    """Raise Unavailable for variables that nobody but the image reads: a local process has no entrypoint."""
    names = [name for name in service.env if name == "PGDATA" or name.startswith("POSTGRES_")]
    if others := [name for name in names if name not in (_INITDB_ARGUMENTS, _NO_MATTER)]:
        raise Unavailable(f"env has variables of the image's entrypoint ({', '.join(others)}), so it needs Docker")


def initdb_arguments(service: Postgres) -> list[str]:
    """What a declaration adds to the arguments of initdb, taken apart as the image's entrypoint does, by the shell's rules.
    Raises DeclarationError."""
    if not (text := service.environment.get(_INITDB_ARGUMENTS)):
        return []
    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        raise DeclarationError(f"{_INITDB_ARGUMENTS} in env, {text!r}, is no list of arguments: {error}") from None


def _check_volumes(service: Postgres) -> None:
    if not service.volumes:
        return
    from itest.container_options import mounts

    mounts(service.volumes, service.directory)
    for path in service.volumes:
        if PurePosixPath(path).is_relative_to(PLACE):
            raise DeclarationError(f"volumes: {path} lies in {PLACE}, where itest has the data in memory")


def _check_image(service: Postgres) -> None:
    if not service.image:
        raise DeclarationError("its image has no name; write Postgres('postgres:17'), or leave it out")
    directories = service.image.partition("@")[0].split("/")
    server_settings.check_image(service.image, "postgres", "one that is made from it")
    libraries = str(service.settings.get("shared_preload_libraries", "timescaledb"))
    if any("timescaledb" in part for part in directories) and "timescaledb" not in re.split(r"[\s,'\"]+", libraries):
        raise DeclarationError(
            f"image {service.image!r} preloads timescaledb, and shared_preload_libraries in settings takes the "
            f"place of that: write {f'timescaledb,{libraries}'.rstrip(',')!r}"
        )


def password_statement(user: str) -> str:
    """The statement that gives a role another password, with a placeholder for what `hashed` makes of it."""
    quoted = user.replace('"', '""')
    return f'ALTER ROLE "{quoted}" PASSWORD %s'


def hashed(password: str) -> str:
    """What the server keeps of a password (RFC 5803), to be given to it instead: it may log statements (log_statement).

    It takes a millisecond. It has the server's own 4096 iterations. Fewer would make connecting faster (one: 3 ms for 5.4,
    PostgreSQL 17), but clients that keep to RFC 5802, those of Java and pg8000 among them, refuse fewer.
    """
    if not password.isascii():
        return password  # Its characters would have to be prepared (RFC 4013). One that was chosen stands in the tests anyway.
    import hmac  # Only servers with a kept state need these.
    from binascii import b2a_base64

    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    parts = salt, stored, hmac.digest(salted, b"Server Key", "sha256")
    return "SCRAM-SHA-256${}:{}${}:{}".format(ITERATIONS, *(b2a_base64(part, newline=False).decode() for part in parts))
