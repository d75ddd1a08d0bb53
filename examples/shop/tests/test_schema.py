# SPDX-License-Identifier: Apache-2.0
"""Two databases on one server: one from the migrations, one from the models. They must not drift apart."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, inspect
from sqlalchemy.exc import IntegrityError

from itest import ContainerTestCase, Postgres
from itest.migrations import MetaData, SqlFiles
from shop.models import Base, Product


class SchemaTest(ContainerTestCase):
    migrated = Postgres("postgres:17", migrations=SqlFiles("../migrations"))
    modelled = Postgres("postgres:17", migrations=MetaData(Base.metadata))

    def test_models_are_what_the_migrations_make(self) -> None:
        self.assertEqual(tables(self.modelled.engine), tables(self.migrated.engine))

    def test_the_database_itself_refuses_to_be_oversold(self) -> None:
        # Whatever the code forgets to check, PostgreSQL does.
        with self.migrated.session() as session, self.assertRaisesRegex(IntegrityError, "never_oversold"):
            session.add(Product(sku="book", name="A book", price=1200, stock=1, reserved=2))
            session.commit()


def tables(engine: Engine) -> dict[str, Any]:
    """What a database says about its tables."""
    inspector = inspect(engine)
    return {
        table: {
            "columns": [{**c, "type": str(c["type"]), "comment": None} for c in inspector.get_columns(table)],
            "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
            "foreign keys": sorted(str(key["constrained_columns"]) for key in inspector.get_foreign_keys(table)),
            "checks": sorted(str(check["name"]) for check in inspector.get_check_constraints(table)),
        }
        for table in inspector.get_table_names()
    }
