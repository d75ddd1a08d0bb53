# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL and Redis: what the product list reads from where, and that no test sees what another one did."""

from __future__ import annotations

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import sessionmaker

from itest import ContainerTestCase, Postgres, PostgresMixin, RedisMixin
from itest.migrations import SqlFiles
from shop.catalog import KEY, LIFETIME, Catalog
from shop.models import Product


class CatalogTest(PostgresMixin, RedisMixin, ContainerTestCase):
    postgres = Postgres("postgres:17", migrations=SqlFiles("../migrations"), fixtures=["products.sql"])

    def setUp(self) -> None:
        self.catalog = Catalog(sessionmaker(self.postgres.engine), self.cache)

    def reprice(self, price: int) -> None:
        """Change a price behind the catalog's back, and commit."""
        with self.db.cursor() as cursor:
            cursor.execute("UPDATE products SET price = %s WHERE sku = 'book'", (price,))
        self.db.commit()

    def test_a_miss_reads_the_database_and_fills_the_cache(self) -> None:
        self.assertFalse(self.cache.exists(KEY))

        self.assertEqual([item["sku"] for item in self.catalog.items()], ["book", "lamp"])

        self.assertTrue(self.cache.exists(KEY))

    def test_a_hit_does_not_read_the_database(self) -> None:
        self.catalog.items()
        self.reprice(1)

        self.assertEqual(self.catalog.items()[0]["price"], 1200)

    def test_a_cached_list_is_forgotten_after_a_minute(self) -> None:
        self.catalog.items()

        self.assertIn(self.cache.ttl(KEY), range(1, LIFETIME + 1))

    def test_a_new_product_is_listed_at_once(self) -> None:
        self.catalog.items()
        self.catalog.add(Product(sku="pen", name="A pen", price=300, stock=10))

        self.assertEqual([item["sku"] for item in self.catalog.items()], ["book", "lamp", "pen"])

    def test_a_sku_is_listed_once(self) -> None:
        with self.assertRaises(IntegrityError):
            self.catalog.add(Product(sku="book", name="Another book", price=300, stock=10))

        self.assertEqual(self.session.get_one(Product, "book").name, "A book")

    def test_a_commit_is_gone_in_the_next_test(self) -> None:
        self.check_that_nobody_was_here()

    def test_a_commit_is_gone_in_the_next_test_whichever_comes_first(self) -> None:
        self.check_that_nobody_was_here()

    def check_that_nobody_was_here(self) -> None:
        """Find everything as the class declared it, then ruin it for good."""
        self.assertFalse(self.cache.keys())
        self.assertEqual(self.postgres.execute("SELECT price FROM products ORDER BY sku"), [(1200,), (4900,)])
        self.reprice(1)
        self.cache.set(KEY, "nonsense")
