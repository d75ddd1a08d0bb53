# SPDX-License-Identifier: Apache-2.0
"""Expressions that tell whether the structure of a database, or of one schema, has changed: for resets without the log."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from itest.services.postgres.snapshot import FIRST_USER_OID, MOVED

_CATALOGS = {
    "pg_class": f"oid >= {FIRST_USER_OID} AND relpersistence <> 't'",
    "pg_attribute": f"attrelid >= {FIRST_USER_OID}",
    **dict.fromkeys(
        (
            "pg_type",
            "pg_proc",
            "pg_constraint",
            "pg_attrdef",
            "pg_trigger",
            "pg_rewrite",
            "pg_cast",
            "pg_collation",
            "pg_operator",
            "pg_opclass",
            "pg_ts_config",
            "pg_ts_dict",
            "pg_conversion",
            "pg_opfamily",
            "pg_amop",
            "pg_amproc",
        ),
        f"oid >= {FIRST_USER_OID}",
    ),
    "pg_index": f"indexrelid >= {FIRST_USER_OID}",
    "pg_description": f"objoid >= {FIRST_USER_OID}",
    "pg_ts_config_map": f"mapcfg >= {FIRST_USER_OID}",
    **dict.fromkeys(("pg_policy", "pg_enum", "pg_extension", "pg_namespace", "pg_inherits", "pg_sequence"), "true"),
    **dict.fromkeys(("pg_publication", "pg_publication_rel", "pg_publication_namespace", "pg_statistic_ext"), "true"),
    **dict.fromkeys(("pg_largeobject_metadata", "pg_largeobject", "pg_default_acl"), "true"),
    **dict.fromkeys(("pg_event_trigger", "pg_language", "pg_transform", "pg_foreign_data_wrapper"), "true"),
    **dict.fromkeys(("pg_foreign_server", "pg_foreign_table", "pg_user_mapping"), "true"),
    "pg_database": "datname = current_database()",
    # Not those of other databases: clones that other classes and runs make have some, too.
    "pg_db_role_setting": "setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))",
}


def state_of(catalogs: Mapping[str, str]) -> str:
    """An expression that changes with every change of these catalogs' rows, each given with a condition."""
    parts = (
        f"(SELECT count(*) || ':' || coalesce(max(xmin::text::bigint), 0) FROM {catalog} WHERE {condition})"
        for catalog, condition in catalogs.items()
    )
    return f"concat_ws(' ', {', '.join(parts)})"


READABLE = (
    "ARRAY(SELECT relname::text FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r' "
    "AND has_table_privilege(oid, 'SELECT'))"
)
"""An expression: the catalogs that this user may read, of those that there are in this version."""


def database_state(readable: Collection[str]) -> str:
    """An expression that changes with every DDL statement in the database, as far as the user may see."""
    return state_of({catalog: condition for catalog, condition in _CATALOGS.items() if catalog in readable})


def catalogs_of(schema: str) -> dict[str, str]:
    """The catalogs in which its objects are, and which rows are of these; with an index, by object id, in the large ones."""
    own = f"'{schema}'::regnamespace"
    relations = f"IN (SELECT oid FROM pg_class WHERE relnamespace = {own})"
    return {
        "pg_class": f"relnamespace = {own}",
        "pg_namespace": f"oid = {own}",
        "pg_proc": f"oid >= {FIRST_USER_OID} AND pronamespace = {own}",
        "pg_type": f"oid >= {FIRST_USER_OID} AND typnamespace = {own}",
        "pg_operator": f"oid >= {FIRST_USER_OID} AND oprnamespace = {own}",
        "pg_collation": f"oid >= {FIRST_USER_OID} AND collnamespace = {own}",
        "pg_conversion": f"oid >= {FIRST_USER_OID} AND connamespace = {own}",
        "pg_opclass": f"oid >= {FIRST_USER_OID} AND opcnamespace = {own}",
        "pg_opfamily": f"oid >= {FIRST_USER_OID} AND opfnamespace = {own}",
        "pg_ts_dict": f"oid >= {FIRST_USER_OID} AND dictnamespace = {own}",
        "pg_ts_config": f"oid >= {FIRST_USER_OID} AND cfgnamespace = {own}",
        "pg_ts_config_map": f"mapcfg IN (SELECT oid FROM pg_ts_config WHERE oid >= {FIRST_USER_OID} AND cfgnamespace = {own})",
        "pg_enum": f"enumtypid IN (SELECT oid FROM pg_type WHERE oid >= {FIRST_USER_OID} AND typnamespace = {own})",
        "pg_statistic_ext": f"stxnamespace = {own}",
        "pg_sequence": f"seqrelid {relations}",
        "pg_constraint": f"connamespace = {own}",
        "pg_attribute": f"attrelid {relations}",
        "pg_attrdef": f"adrelid {relations}",
        "pg_trigger": f"tgrelid {relations}",
        "pg_rewrite": f"ev_class {relations}",
        "pg_policy": f"polrelid {relations}",
        "pg_description": f"objoid {relations}",
    }


def shapes_of(schema: str) -> str:
    """An expression: what pg_class says of a schema but for where its relations lie. Of a materialized view all of it,
    because one that was refreshed holds other rows."""
    return (
        f"(SELECT coalesce(sum(hashtextextended((to_jsonb(c) - {MOVED} || CASE relkind WHEN 'm' "
        "  THEN jsonb_build_object('xmin', c.xmin::text) ELSE '{}' END)::text, 0)::numeric), 0)::text "
        f"FROM pg_class c WHERE relnamespace = '{schema}'::regnamespace)"
    )
