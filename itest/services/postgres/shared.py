# SPDX-License-Identifier: Apache-2.0
"""What belongs to the whole server, so that no database's reset undoes it: it is remembered and restored.

Roles with their memberships and settings, the settings of ALTER SYSTEM, privileges on parameters, databases that tests made
themselves, and the settings of others that itest did not make.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from itest.clock import Deadline
from itest.services.postgres.undo import NeedsClone
from itest.tuples import NamedTuple

if TYPE_CHECKING:
    from itest.services.postgres.server import PostgresServer

SYSTEM_FILE = "postgresql.auto.conf"

RELOAD_TIMEOUT = 5.0
"""Seconds that the server may take to read its configuration again."""

_FLAGS = {
    "rolsuper": "SUPERUSER",
    "rolinherit": "INHERIT",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolcanlogin": "LOGIN",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}

# Their values are lists of names; one literal for the whole list would be one strange name (pg_dump's
# variable_is_guc_list_quote has the same list).
_LISTS = frozenset({
    "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
    "temp_tablespaces", "unix_socket_directories",
})  # fmt: skip


class Shared(NamedTuple):
    """The shared state of a server. Names are quoted where SQL needs it.

    `roles` are attributes by name; `members` (role, member, grantor, options); `settings` and `system` what ALTER ROLE and
    ALTER DATABASE (by the words between ALTER and SET) and ALTER SYSTEM set; `parameters` (name, grantee, privilege, grant
    option); `databases` those that itest did not make; `own` the statements that give another database the properties of the
    one in question.
    """

    roles: dict[str, tuple[Any, ...]]
    members: frozenset[tuple[str, str, str, str]]
    settings: dict[str, tuple[str, ...]]
    system: tuple[tuple[str, str], ...]
    parameters: frozenset[tuple[str, str, str, bool]]
    databases: frozenset[str]
    own: tuple[str, ...]


def read(server: PostgresServer, name: str) -> Shared:
    """The shared state as it is now, for a database of that name. Of a server that other processes use too only what
    belongs to that database: the rest may be theirs."""
    if server.shared:
        return Shared({}, frozenset(), {}, (), frozenset(), frozenset(), properties(server, name, flags=True))
    roles = server.admin(
        "SELECT quote_ident(rolname), oid, rolconnlimit, rolpassword, rolvaliduntil::text, "
        f"{', '.join(_FLAGS)} FROM pg_authid WHERE rolname !~ '^pg_'"
    )
    members = server.admin(
        "SELECT quote_ident(r.rolname), quote_ident(m.rolname), quote_ident(g.rolname), "
        "       format('ADMIN %s, INHERIT %s, SET %s', "
        "              a.admin_option::text, a.inherit_option::text, a.set_option::text) "
        "FROM pg_auth_members a JOIN pg_authid r ON r.oid = a.roleid JOIN pg_authid m ON m.oid = a.member "
        "JOIN pg_authid g ON g.oid = a.grantor WHERE m.rolname !~ '^pg_'"
    )
    settings = server.admin(
        "SELECT datname, concat_ws(' IN ', "
        "         CASE WHEN setrole <> 0 OR setdatabase = 0 THEN 'ROLE ' || coalesce(quote_ident(rolname), 'ALL') END, "
        "         'DATABASE ' || quote_ident(datname)), setconfig "
        "FROM pg_db_role_setting LEFT JOIN pg_authid r ON r.oid = setrole LEFT JOIN pg_database d ON d.oid = setdatabase"
    )
    system = server.admin(
        "SELECT name, setting FROM pg_file_settings WHERE error IS NULL "
        f"AND right(sourcefile, {len(SYSTEM_FILE)}) = '{SYSTEM_FILE}' ORDER BY seqno"
    )
    parameters = server.admin(
        "SELECT parname, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(rolname) END, privilege_type, "
        "       is_grantable "
        "FROM pg_parameter_acl, aclexplode(paracl) a LEFT JOIN pg_authid r ON r.oid = a.grantee"
    )
    databases = server.admin("SELECT datname FROM pg_database")
    return Shared(
        {role: tuple(rest) for role, *rest in roles},
        frozenset(members),
        {whose: tuple(values) for database, whose, values in settings if not (database and server.is_itests(database))},
        tuple(system),
        frozenset(parameters),
        frozenset(database for (database,) in databases if not server.is_itests(database)),
        properties(server, name, flags=True),
    )


def properties(server: PostgresServer, name: str, *, flags: bool = False) -> tuple[str, ...]:
    """Statements, with `{name}` for its name, that give a clone what cloning does not copy: the owner, the privileges,
    the limit of connections and the settings of a database. With `flags` what no clone is to have as well: whether it is a
    template, and lets sessions in. Raises NeedsClone where a test has dropped it."""
    rows = server.admin(
        "SELECT quote_ident(pg_get_userbyid(datdba)), datconnlimit, datistemplate, datallowconn, "
        "       (SELECT array_agg(format('GRANT %%s ON DATABASE {name} TO %%s%%s', privilege_type, "
        "                                CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(rolname) END, "
        "                                CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) ORDER BY a) "
        "        FROM aclexplode(datacl) a LEFT JOIN pg_authid r ON r.oid = a.grantee) "
        "FROM pg_database WHERE datname = %s",
        name,
    )
    if not rows:
        raise NeedsClone(f"the database {name} is gone")
    [(owner, limit, template, connections, privileges)] = rows
    statements = [f"ALTER DATABASE {{name}} OWNER TO {owner}", f"ALTER DATABASE {{name}} CONNECTION LIMIT {limit}"]
    if flags:
        statements.append(f"ALTER DATABASE {{name}} IS_TEMPLATE {template} ALLOW_CONNECTIONS {connections}")
    if privileges is not None:
        statements += [f"REVOKE ALL ON DATABASE {{name}} FROM PUBLIC, {owner}", *privileges]
    return (*statements, *settings(server, name))


def settings(server: PostgresServer, name: str) -> list[str]:
    """Those of these statements that repeat an ALTER DATABASE ... SET or ALTER ROLE ... IN DATABASE. Any user may ask."""
    statements = []
    rows = server.admin(
        "SELECT quote_ident(rolname), setconfig FROM pg_db_role_setting LEFT JOIN pg_roles r ON r.oid = setrole "
        "WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = %s) ORDER BY 1",
        name,
    )
    for role, values in rows:
        whose = f"ROLE {role} IN DATABASE" if role else "DATABASE"
        statements += [f"ALTER {whose} {{name}} SET {_assignment(*value.split('=', 1))}" for value in values]
    return statements


def restore(server: PostgresServer, before: Shared) -> None:
    """Make the shared state what it was. The database that the state was read for must have been dropped."""
    now = read(server, server.database)
    if made := now.databases - before.databases:
        for database in made:
            server.drop_foreign(database)
        now = read(server, server.database)  # They had settings.
    if now.system != before.system:
        _restore_system(server, before.system)
    if now.roles != before.roles:
        _restore_roles(server, now, before)
        now = read(server, server.database)
    for role, member, grantor, _ in now.members - before.members:
        server.admin(f"REVOKE {role} FROM {member} GRANTED BY {grantor} CASCADE")
    for role, member, grantor, options in sorted(before.members - now.members):
        server.admin(f"GRANT {role} TO {member} WITH {options} GRANTED BY {grantor}")
    for whose in now.settings.keys() | before.settings.keys():
        if now.settings.get(whose) != before.settings.get(whose):
            server.admin(f"ALTER {whose} RESET ALL")
            for value in before.settings.get(whose, ()):
                server.admin(f"ALTER {whose} SET {_assignment(*value.split('=', 1))}")
    for parameter, grantee, privilege, _ in now.parameters - before.parameters:
        server.admin(f"REVOKE {privilege} ON PARAMETER {parameter} FROM {grantee} CASCADE")
    for parameter, grantee, privilege, option in before.parameters - now.parameters:
        with_option = " WITH GRANT OPTION" if option else ""
        server.admin(f"GRANT {privilege} ON PARAMETER {parameter} TO {grantee}{with_option}")


def _restore_roles(server: PostgresServer, now: Shared, before: Shared) -> None:
    names_before = {attributes[0]: name for name, attributes in before.roles.items()}
    there = dict(now.roles)
    for name in now.roles.keys() - before.roles.keys():
        first = names_before.get(now.roles[name][0])
        if first is not None and first not in there:
            server.admin(f"ALTER ROLE {name} RENAME TO {first}")
            there[first] = there.pop(name)
        else:
            _drop_role(server, name)
    for name, (_, limit, password, until, *flags) in before.roles.items():
        if name not in there or there[name][1:] != before.roles[name][1:]:
            verb = "ALTER" if name in there else "CREATE"
            words = [word if on else f"NO{word}" for word, on in zip(_FLAGS.values(), flags, strict=True)]
            role = f"{verb} ROLE {name} WITH {' '.join(words)} CONNECTION LIMIT {limit}".replace("%", "%%")
            # VALID UNTIL, once set, has no word for NULL.
            valid = f"UPDATE pg_authid SET rolvaliduntil = %s WHERE oid = {_literal(name).replace('%', '%%')}::regrole"
            server.admin(f"{role} PASSWORD %s; {valid}", password, until)


def _drop_role(server: PostgresServer, name: str) -> None:
    """Whatever depends on the role was made or given to it by the test, too: another lease's database that holds such
    a thing will find its catalogs changed."""
    disown = f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}"
    holders = server.admin(
        "SELECT DISTINCT datname FROM pg_shdepend JOIN pg_database d ON d.oid = dbid "
        f"WHERE refclassid = 'pg_authid'::regclass AND refobjid = {_literal(name)}::regrole"
    )
    for (database,) in holders:
        with server.visit(database) as cursor:
            cursor.execute(disown)
    server.admin(disown)
    server.admin(f"DROP ROLE {name}")


def _restore_system(server: PostgresServer, before: tuple[tuple[str, str], ...]) -> None:
    server.admin("ALTER SYSTEM RESET ALL")
    for name, value in before:
        server.admin(f"ALTER SYSTEM SET {_assignment(name, value)}")
    [(loaded,)] = server.admin("SELECT pg_conf_load_time()")
    server.admin("SELECT pg_reload_conf()")
    deadline = Deadline.after(RELOAD_TIMEOUT)  # A signal to each process: new sessions follow the first that got it.
    while server.admin("SELECT pg_conf_load_time()") == [(loaded,)] and not deadline.passed:
        deadline.pause(0.001)


def _assignment(name: str, value: str) -> str:
    """`work_mem TO '8MB'`; `search_path TO 'app', 'public'`."""
    import csv  # Settings of roles and databases are rare.

    [values] = csv.reader([value], skipinitialspace=True) if name in _LISTS and value else [[value]]
    return f"{name} TO {', '.join(map(_literal, values))}"


def _literal(text: str) -> str:
    escape = "E" if "\\" in text else ""
    return f"{escape}'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
