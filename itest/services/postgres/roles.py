# SPDX-License-Identifier: Apache-2.0
"""Roles belong to the whole server, so no database's reset undoes them: what there was is remembered and restored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

SHARED_CATALOGS = frozenset({"pg_authid", "pg_auth_members", "pg_db_role_setting", "pg_parameter_acl"})
"""The server-wide catalogs that hold roles, memberships and settings."""

_FLAGS = {
    "rolsuper": "SUPERUSER",
    "rolinherit": "INHERIT",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolcanlogin": "LOGIN",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles of a server: attributes by name, memberships as (role, member, with admin option), settings by name."""

    attributes: dict[str, tuple[Any, ...]]
    members: frozenset[tuple[str, str, bool]]
    settings: dict[str, list[str]]


def read(server: PostgresServer) -> Roles:
    """The roles as they are now, but for those that PostgreSQL itself made."""
    flags = ", ".join(_FLAGS)
    attributes = server.admin(
        f"SELECT quote_ident(rolname), rolconnlimit, rolpassword, rolvaliduntil::text, {flags} FROM pg_authid "
        "WHERE rolname !~ '^pg_'"
    )
    members = server.admin(
        "SELECT quote_ident(r.rolname), quote_ident(m.rolname), bool_or(a.admin_option) FROM pg_auth_members a "
        "JOIN pg_authid r ON r.oid = a.roleid JOIN pg_authid m ON m.oid = a.member "
        "WHERE m.rolname !~ '^pg_' GROUP BY 1, 2"
    )
    settings = server.admin(
        "SELECT quote_ident(r.rolname), s.setconfig FROM pg_db_role_setting s JOIN pg_authid r ON r.oid = s.setrole "
        "WHERE s.setdatabase = 0"
    )
    return Roles({name: tuple(rest) for name, *rest in attributes}, frozenset(members), dict(settings))


def restore(server: PostgresServer, before: Roles) -> None:
    """Make the server's roles what they were. Databases that new roles own things in must be dropped first."""
    now = read(server)
    for name in now.attributes.keys() - before.attributes.keys():
        server.admin(f"DROP OWNED BY {name}; DROP ROLE {name}")
    for name, attributes in before.attributes.items():
        if now.attributes.get(name) != attributes:
            verb = "ALTER" if name in now.attributes else "CREATE"
            limit, password, until, *flags = attributes
            words = [word if on else f"NO{word}" for word, on in zip(_FLAGS.values(), flags, strict=True)]
            server.admin(
                f"{verb} ROLE {name} WITH {' '.join(words)} CONNECTION LIMIT {limit} PASSWORD %s VALID UNTIL %s",
                password,
                until or "infinity",
            )
    survivors = before.attributes.keys()
    for role, member, _ in now.members - before.members:
        if member in survivors and role in survivors | {role if role.startswith("pg_") else ""}:
            server.admin(f"REVOKE {role} FROM {member}")
    for role, member, admin in before.members - now.members:
        server.admin(f"GRANT {role} TO {member}{' WITH ADMIN OPTION' if admin else ''}")
    for name in survivors:
        if now.settings.get(name) != before.settings.get(name):
            server.admin(f"ALTER ROLE {name} RESET ALL")
            for setting in before.settings.get(name, []):
                key, _, value = setting.partition("=")
                server.admin(f"ALTER ROLE {name} SET {key} = %s", value)
