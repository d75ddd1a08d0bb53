# SPDX-License-Identifier: Apache-2.0
"""A dump of a database and of what is around it, quick enough to be taken after each of thousands of resets.

`dump` returns what there is by name, so that two dumps can be compared and the difference names itself: hashes of all
rows of every catalog and table, sequences, large objects, roles, settings, other databases, and what sessions left.
"""

from __future__ import annotations

from typing import Any

import psycopg2

# What is different in each clone, or says only where and how large something is.
VOLATILE = {
    "relfilenode", "relpages", "reltuples", "relallvisible", "relallfrozen", "relfrozenxid", "relminmxid",
}  # fmt: skip
LEFT_OUT = ("pg_statistic", "pg_statistic_ext_data")

SHARED = {
    "roles": "SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, "
    "rolbypassrls, rolconnlimit, rolpassword, rolvaliduntil FROM pg_authid",
    "members": "SELECT r.rolname, m.rolname, g.rolname, admin_option, inherit_option, set_option FROM pg_auth_members "
    "JOIN pg_authid r ON r.oid = roleid JOIN pg_authid m ON m.oid = member JOIN pg_authid g ON g.oid = grantor",
    "settings of roles": "SELECT datname, rolname, setconfig FROM pg_db_role_setting "
    "LEFT JOIN pg_database d ON d.oid = setdatabase LEFT JOIN pg_authid r ON r.oid = setrole",
    "settings of the server": "SELECT name, setting FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'",
    "privileges on parameters": "SELECT parname, paracl FROM pg_parameter_acl WHERE array_length(paracl, 1) > 1",
    "databases": "SELECT datname FROM pg_database",
    "this database": "SELECT pg_get_userbyid(datdba), datconnlimit, datistemplate, datallowconn, "
    "(SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a) "
    "FROM pg_database WHERE datname = current_database()",
    "prepared transactions": "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()",
    "sessions in a transaction": "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database() "
    "AND xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
    "advisory locks": "SELECT pid, objid FROM pg_locks WHERE locktype = 'advisory'",
    "replication slots": "SELECT slot_name FROM pg_replication_slots",
}

_catalog_queries: dict[int, str] = {}


def dump(url: str) -> dict[str, Any]:
    """Everything there is, by name."""
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            return _dump(cursor, connection.server_version)
    finally:
        connection.close()


def difference(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A line for each thing that is not the same."""
    names = sorted(before.keys() | after.keys())
    return [f"{name}: {before.get(name)} -> {after.get(name)}" for name in names if before.get(name) != after.get(name)]


def _dump(cursor: Any, version: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, query in SHARED.items():
        cursor.execute(query)
        found[name] = sorted(map(repr, cursor.fetchall()))
    cursor.execute("SELECT name, setting FROM pg_settings WHERE name NOT LIKE 'transaction\\_%'")
    found.update({f"setting {name}": value for name, value in cursor.fetchall()})
    if version not in _catalog_queries:
        _catalog_queries[version] = _catalog_query(cursor)
    cursor.execute(_catalog_queries[version])
    found.update({f"catalog {name}": rest for name, *rest in cursor.fetchall()})
    cursor.execute(
        "SELECT format('%I.%I', nspname, relname), relkind FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE relkind IN ('r', 'm', 'S') AND c.oid >= 16384 AND relpersistence <> 't' AND relispopulated"
    )
    parts = [
        f"SELECT {_quoted(name)}, last_value::text || is_called FROM {name}"
        if kind == "S"
        else f"SELECT {_quoted(name)}, count(*) || ' rows, ' || coalesce(md5(string_agg(t::text, ';' ORDER BY t::text)), '')"
        f" FROM ONLY {name} t"
        for name, kind in cursor.fetchall()
    ]
    if parts:
        cursor.execute(" UNION ALL ".join(parts))
        found.update({f"content of {name}": content for name, content in cursor.fetchall()})
    return found


def _catalog_query(cursor: Any) -> str:
    cursor.execute(
        "SELECT relname, array_agg(quote_ident(attname) ORDER BY attnum) FROM pg_class c JOIN pg_attribute a "
        "ON attrelid = c.oid WHERE relkind = 'r' AND c.oid < 16384 AND NOT relisshared AND attnum > 0 "
        "AND relnamespace = 'pg_catalog'::regnamespace GROUP BY 1"
    )
    parts = []
    for name, columns in cursor.fetchall():
        if name not in LEFT_OUT:
            kept = ", ".join(column for column in columns if column not in VOLATILE)
            where = " WHERE nspname !~ '^pg_(toast_)?temp_'" if name == "pg_namespace" else ""
            parts.append(f"SELECT '{name}', count(*), sum(hashtextextended(ROW({kept})::text, 0)) FROM {name}{where}")
    return " UNION ALL ".join(parts)


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
