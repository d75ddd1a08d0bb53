# SPDX-License-Identifier: Apache-2.0
"""Django's ORM in tests whose migrations are Django's: in processes of their own, as one has one Django configuration.

The project's own databases answer nobody, so that whoever reaches for them fails.
"""

from __future__ import annotations

import os
import textwrap
import unittest
from collections.abc import Mapping
from unittest import mock

from tests.documents import check_project

PROJECT = {
    "project/__init__.py": "",
    "project/settings.py": """
        SECRET_KEY = "x"
        USE_TZ = True
        ROOT_URLCONF = "project.urls"
        INSTALLED_APPS = ["shop"]
        OWN = {
            "ENGINE": "django.db.backends.postgresql", "NAME": "mine", "USER": "me", "HOST": "127.0.0.1", "PORT": 1,
            "CONN_MAX_AGE": 60,
        }
        DATABASES = {
            "default": OWN, "audit": {**OWN, "NAME": "my_audit"},
            "replica": {**OWN, "NAME": "my_replica", "TEST": {"MIRROR": "default"}},
            "numbers": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        }
        DATABASE_ROUTERS = ["shop.models.Router"]
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    """,
    "project/urls.py": """
        from django.http import HttpResponse
        from django.urls import path

        def add(request):
            from shop.models import Order
            Order.objects.create(item="by the app")
            return HttpResponse(str(Order.objects.count()))

        urlpatterns = [path("add", add)]
    """,
    "project/wsgi.py": """
        from django.core.wsgi import get_wsgi_application
        application = get_wsgi_application()
    """,
    "shop/__init__.py": "",
    "shop/models.py": """
        from django.db import models

        class Order(models.Model):
            item = models.CharField(max_length=20)

        class Entry(models.Model):
            text = models.CharField(max_length=20)

        class Router:
            def db_for_read(self, model, **hints):
                return "audit" if model is Entry else "default"
            db_for_write = db_for_read
    """,
    "shop/migrations/__init__.py": "",
    "shop/migrations/0001_initial.py": """
        from django.db import migrations, models

        def table(name, field):
            key = ("id", models.BigAutoField(primary_key=True))
            return migrations.CreateModel(name, [key, (field, models.CharField(max_length=20))])

        class Migration(migrations.Migration):
            initial = True
            operations = [table("Order", "item"), table("Entry", "text")]
    """,
    "tests/orders.json": '{"shop_order": [{"item": "book"}]}',
    "tests/order.json": '[{"model": "shop.order", "fields": {"item": "book"}}]',
    "tests/common.py": """
        import unittest
        import itest
        from itest import AsyncContainerTestCase, ContainerMixin, ContainerTestCase, Postgres, PostgresMixin
        from itest.migrations import Django

        SETTINGS = Django("project.settings")

        def orders():
            from shop.models import Order  # Not before Django is set up, which itest does.
            return Order.objects

        def session():
            from django.db import connection
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                return cursor.fetchone()[0]

        def outcomes(*classes):
            result = unittest.TestResult()
            for each in classes:
                unittest.defaultTestLoader.loadTestsFromTestCase(each)(result)
            return [text for _, text in result.errors + result.failures]
    """,
}


class ProjectTestCase(unittest.TestCase):
    def check(self, tests: str, more: Mapping[str, str] | None = None, /, **environment: str) -> None:
        tests = "from tests.common import *\n" + textwrap.dedent(tests)
        with mock.patch.dict(os.environ, {"DJANGO_SETTINGS_MODULE": "", **environment}):
            check_project(self, {**PROJECT, **(more or {}), "tests/test_it.py": tests})


class OrmTest(ProjectTestCase):
    """With itest's own test cases."""

    def test_orm(self) -> None:
        self.check("""
        import threading

        class OrderTest(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=SETTINGS)
            sessions = set()

            @classmethod
            def setUpTestData(cls):
                orders().create(item="of the baseline")

            def test_1(self):
                self.assertEqual(orders().count(), 1)
                orders().create(item="book")
                self.assertRowCount("shop_order", 2)
                self.sessions.add(session())

            test_2 = test_3 = test_1

            def test_4_the_connection_stays(self):
                self.assertEqual(len(self.sessions), 1)

            def test_5_another_thread(self):
                found = []
                def work():
                    from django.db import connection
                    found.append(orders().count())
                    connection.close()
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
                self.assertEqual(found, [1])

            def test_6_the_schema_changes(self):
                self.postgres.execute("CREATE TABLE more (id int)")
                self.test_1()

            test_7_after_a_new_clone = test_1

        class OtherTest(ContainerTestCase):
            def test_the_projects_own_is_back(self):
                from django.conf import settings
                from django.db import connection
                own = {**settings.DATABASES["default"]}
                self.assertEqual((own["NAME"], own["CONN_MAX_AGE"], own["OPTIONS"]), ("mine", 60, {}))
                self.assertIs(connection.settings_dict, settings.DATABASES["default"])
                with self.assertRaisesRegex(Exception, "port 1 failed"):
                    orders().count()

        class OptedOutTest(OrderTest):
            postgres = None
            setUpTestData = OtherTest.setUpTestData
            test_1 = test_2 = test_3 = test_4_the_connection_stays = test_5_another_thread = None
            test_6_the_schema_changes = test_7_after_a_new_clone = None
            test_the_projects_own_is_back = OtherTest.test_the_projects_own_is_back

        class SchemaTest(OrderTest):
            postgres = Postgres(migrations=SETTINGS, isolation="schema")
            sessions = set()

        class TruncateTest(OrderTest):
            postgres = Postgres(migrations=SETTINGS, isolation="truncate")
            sessions = set()

        class OneByOneTest(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=SETTINGS, scope="test")

            def test_1(self):
                orders().create(item="book")
                self.assertEqual(orders().count(), 1)

            test_2 = test_1

        class TwoDatabasesTest(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=SETTINGS)
            audit = Postgres(migrations=Django("project.settings", database="audit"))

            def test_1(self):
                from shop.models import Entry
                orders().create(item="book")
                Entry.objects.create(text="sold")
                self.assertEqual((orders().count(), Entry.objects.count()), (1, 1))
                self.assertEqual(self.audit.execute("SELECT text FROM shop_entry"), [("sold",)])
                self.assertRowCount("shop_entry", 0)

            test_2 = test_1

        class FailingTest(unittest.TestCase):
            def test_the_projects_own_is_back(self):
                class Inner(PostgresMixin, ContainerTestCase):
                    postgres = Postgres(migrations=SETTINGS)

                    @classmethod
                    def setUpTestData(cls):
                        orders().create(item="book")
                        raise ZeroDivisionError

                    def test(self):
                        pass

                [error] = outcomes(Inner)
                self.assertIn("ZeroDivisionError", error)
                OtherTest.test_the_projects_own_is_back(self)

            def test_isolation_rollback(self):
                class Inner(PostgresMixin, ContainerTestCase):
                    postgres = Postgres(migrations=SETTINGS, isolation="rollback")

                    def test_1(self):
                        orders().create(item="book")

                    def test_2(self):
                        self.assertEqual(orders().count(), 0)

                [error] = outcomes(Inner)
                self.assertRegex(error, "test_1: it wrote to shop_order.* through another connection than its sandbox's")
        """)

    def test_what_a_test_leaves_is_gone(self) -> None:
        self.check("""
        from django.db import connection, transaction

        class LeavingTest(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=SETTINGS)

            def test_1(self):
                self.assertEqual(orders().count(), 0)
                transaction.set_autocommit(False)
                orders().create(item="book")

            def test_2(self):
                self.assertEqual(orders().count(), 0)
                transaction.atomic().__enter__()
                orders().create(item="book")

            def test_3(self):
                self.assertEqual(orders().count(), 0)
                connection.cursor().execute("BEGIN")
                orders().create(item="book")

            def test_4(self):
                self.assertEqual(orders().count(), 0)
                self.postgres.execute("SELECT pg_terminate_backend(%s)", [session()])

            def test_5(self):
                self.assertEqual(orders().count(), 0)
        """)

    def test_replicas(self) -> None:
        self.check("""
        import django.test
        from django.conf import settings
        from django.db import connections, transaction

        class Reads:
            postgres = Postgres(migrations=SETTINGS)

            def test_1(self):
                self.assertEqual(orders().using("replica").count(), 0)
                orders().create(item="book")
                self.assertEqual(orders().using("replica").count(), 1)

            def test_2_a_transaction_stays_open(self):
                self.test_1()
                transaction.atomic(using="replica").__enter__()
                orders().using("replica").create(item="book")

            test_3 = test_1

        class PlainTest(Reads, PostgresMixin, ContainerTestCase):
            pass

        class FlushedTest(Reads, PostgresMixin, ContainerMixin, django.test.TransactionTestCase):
            databases = {"default", "replica"}
            test_2_a_transaction_stays_open = None

        class RolledBackTest(FlushedTest, django.test.TestCase):
            def test_1(self):
                for alias in self.databases:
                    self.assertEqual(orders().using(alias).count(), 0)
                    orders().using(alias).create(item="book")

            test_3 = test_1

        class SeparateTest(Reads, PostgresMixin, ContainerTestCase):
            replica = Postgres(migrations=Django("project.settings", database="replica"))
            test_1 = test_3 = None

            def test_2_a_transaction_stays_open(self):
                orders().create(item="book")
                self.assertEqual(orders().using("replica").count(), 0)

        class SeparateFirstTest(PostgresMixin, ContainerTestCase):
            replica = Postgres(migrations=Django("project.settings", database="replica"))
            primary = Postgres(migrations=SETTINGS)
            postgres = None
            test = SeparateTest.test_2_a_transaction_stays_open

        class LastOfTwoTest(PostgresMixin, ContainerTestCase):
            # Its replica has no declaration: it goes with what it mirrors.
            postgres = Postgres(migrations=SETTINGS)
            other = Postgres(migrations=SETTINGS)

            def test(self):
                orders().create(item="book")
                self.assertEqual(orders().using("replica").count(), 1)

        class ZLastTest(unittest.TestCase):
            def test_the_projects_own_is_back(self):
                for alias, name in {"default": "mine", "replica": "my_replica"}.items():
                    self.assertEqual(settings.DATABASES[alias]["NAME"], name)
                    self.assertIs(connections[alias].settings_dict, settings.DATABASES[alias])
        """, DJANGO_SETTINGS_MODULE="project.settings")  # fmt: skip

    def test_databases_that_are_added_while_it_runs(self) -> None:
        self.check("""
        import django.test
        from django.db import connections

        def setUpModule():
            connections.databases["more"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}

        class PlainTest(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=SETTINGS)

            def test(self):
                self.assertEqual(orders().count(), 0)

        class DjangosTest(PostgresMixin, ContainerMixin, django.test.SimpleTestCase):
            postgres = Postgres(migrations=SETTINGS)
            databases = {"default", "more"}
            test = PlainTest.test

        class RefusedTest(unittest.TestCase):
            def test(self):
                connections.databases["more"] |= {"NAME": "mine.sqlite3"}
                [error] = outcomes(DjangosTest)
                self.assertIn("'more', and no declaration", error)
        """, DJANGO_SETTINGS_MODULE="project.settings")  # fmt: skip

    def test_statements_are_logged(self) -> None:
        self.check("""
        from django.db import connection, connections, transaction

        def setUpModule():
            connections["default"].force_debug_cursor = True  # As `manage.py test --debug-sql` does.

        class LoggingTest(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=SETTINGS)

            def test_1(self):
                orders().create(item="logged")
                self.assertIn("'logged'", connection.queries_log[-1]["sql"])
                transaction.set_autocommit(False)

            test_2_on_another_connection = test_1
        """, DJANGO_SETTINGS_MODULE="project.settings")  # fmt: skip

    def test_coroutines(self) -> None:
        self.check("""
        class OrderTest(PostgresMixin, AsyncContainerTestCase):
            postgres = Postgres(migrations=SETTINGS)

            async def test_1(self):
                await orders().acreate(item="book")
                self.assertEqual(await orders().acount(), 1)

            def test_2(self):
                self.postgres.execute("CREATE TABLE more (id int)")

            test_3 = test_1

        class NextTest(OrderTest):  # asgiref's thread is the same.
            loop_scope = "class"
        """, ITEST_STRICT="1")  # fmt: skip

    def test_an_app_of_this_process(self) -> None:
        self.check("""
        from itest import App

        class AppTest(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=SETTINGS)
            app = App.wsgi("project.wsgi:application", env={"DATABASE_URL": "{postgres.url}"})

            def test_1(self):
                self.assertEqual(self.app.client.get("/add").text, "1")
                self.assertEqual(orders().count(), 1)

            test_2 = test_1

            def test_3(self):
                self.postgres.execute("CREATE TABLE more (id int)")
                self.test_1()

            test_4 = test_1
        """, DJANGO_SETTINGS_MODULE="project.settings")  # fmt: skip

    def test_strict(self) -> None:
        self.check("""
        class OrderTest(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=SETTINGS)

            def test_1(self):
                orders().create(item="book")

            test_2 = test_1
        """, ITEST_STRICT="1")  # fmt: skip

    def test_forked_children_leave_the_connection_alone(self) -> None:
        self.check("""
        import os

        class ForkingTest(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=SETTINGS)

            def test_1(self):
                before = session()
                if (child := os.fork()) == 0:
                    return
                os.waitpid(child, 0)
                self.assertEqual(session(), before)
        """)


OWN_DATABASE = """
        import django.test
        from unittest import mock
        from itest.errors import Unavailable

        class Forgets:
            @classmethod
            def setUpClass(cls):
                cls.api = object()

            @classmethod
            def tearDownClass(cls):
                pass

        class NotStarting:
            postgres = Postgres(migrations=SETTINGS, settings={"no_such_setting": "1"}, start_attempts=1)

        class CountingTest(PostgresMixin, ContainerMixin):
            postgres = Postgres(migrations=SETTINGS)

            @classmethod
            def setUpTestData(cls):
                orders().create(item="of the baseline")

            def test_1(self):
                self.assertEqual(orders().count(), 1 + len(self.fixtures or ()))
                orders().create(item="book")

            test_2 = test_1

        class OwnDatabaseTest(PostgresMixin, ContainerTestCase):
            # While it runs, its database stands for the developer's own.
            postgres = Postgres(migrations=SETTINGS)

            @classmethod
            def setUpTestData(cls):
                orders().create(item="precious")

            def tearDown(self):
                self.assertEqual(self.postgres.execute("SELECT item FROM shop_order"), [("precious",)])

            def classes(self, *bases):
                for first in ((), (Forgets,)):
                    class Loading(*first, *bases, CountingTest, django.test.TransactionTestCase):
                        fixtures = ["tests/order.json"]

                    class RolledBack(*first, *bases, CountingTest, django.test.TestCase):
                        pass

                    yield from (Loading, RolledBack)

            def test_what_is_undone(self):
                for each in self.classes():
                    self.assertEqual(outcomes(each), [])

            def test_runs_of_their_own(self):
                for each in self.classes():
                    if issubclass(each, Forgets):
                        for run in (each("test_1"), each("test_1").debug):
                            run()
                            each.doClassCleanups()

            def test_a_server_that_does_not_start(self):
                for each in self.classes(NotStarting):
                    for error in outcomes(each):
                        self.assertIn("ended before it was ready", error)
                    with self.assertRaisesRegex(Exception, "ended before it was ready"):
                        each("test_1").debug()

            def test_no_engine(self):
                with mock.patch("itest.case.take_all", side_effect=Unavailable("no engine")):
                    for each in self.classes():
                        self.assertEqual(outcomes(each), [])
                        with self.assertRaisesRegex(unittest.SkipTest, "no engine"):
                            each("test_1").debug()

            def test_a_server_for_each_test(self):
                for base in (django.test.TransactionTestCase, django.test.TestCase):
                    with self.assertRaisesRegex(TypeError, "Inner.postgres: scope='test' starts .* or write scope='class'$"):
                        class Inner(PostgresMixin, ContainerMixin, base):
                            postgres = Postgres(migrations=SETTINGS, scope="test")

                class Simple(PostgresMixin, ContainerMixin, django.test.SimpleTestCase):
                    postgres = Postgres(migrations=SETTINGS, scope="test")
                    databases = {"default"}

                    def test_1(self):
                        self.assertEqual(orders().count(), 0)

                self.assertEqual(outcomes(Simple), [])

        class NotLedTest(unittest.TestCase):
            def classes(self, names, declared, *bases):
                for base in (django.test.TransactionTestCase, django.test.LiveServerTestCase, django.test.TestCase,
                             django.test.SimpleTestCase):
                    class Inner(*bases, PostgresMixin, ContainerMixin, base):
                        postgres, databases = declared, names

                        @classmethod
                        def setUpTestData(cls):
                            raise AssertionError("it went on")

                        def test(self):
                            pass

                    yield Inner

            def test_they_are_refused(self):
                for names, declared, told in (
                    ({"default"}, Postgres(), "'default', .*'mine', .*migrations=Django.'project.settings'."),
                    ("__all__", Postgres(), "'default', "),
                    ({"default", "audit"}, Postgres(migrations=SETTINGS),
                     "'audit', .*'my_audit', .* declare audit = .*database='audit'.., or take it out of databases"),
                    ({"replica"}, Postgres(), "'replica', .*'my_replica', .* postgres = .*'project.settings'.., .*'NAME': 'mine'"),
                ):
                    for each in (*self.classes(names, declared), *self.classes(names, declared, Forgets)):
                        with self.subTest(names=names, base=each.__mro__):
                            [error] = outcomes(each)
                            self.assertRegex(error, f"DeclarationError: .*Inner: its databases name {told}")
                            self.assertNotIn("it went on", error)
                            with self.assertRaisesRegex(TypeError, "Inner: its databases name"):
                                each("test").debug()

            def test_a_server_for_each_test(self):
                class Inner(PostgresMixin, ContainerMixin, django.test.SimpleTestCase):
                    postgres = Postgres(migrations=SETTINGS, scope="test")
                    databases = {"default", "audit"}

                    def test(self):
                        raise AssertionError("it went on")

                [error] = outcomes(Inner)
                self.assertRegex(error, "DeclarationError: .*Inner: its databases name 'audit'")

            def without_postgres(self, base, names):
                class Inner(ContainerMixin, base):
                    databases = names

                    def test(self):
                        pass

                return outcomes(Inner)

            def test_one_without_postgres_that_is_rolled_back_is_not(self):
                from django.db import connections
                with mock.patch.dict(connections.settings["numbers"], {"NAME": "mine.sqlite3"}):
                    self.assertEqual(self.without_postgres(django.test.TestCase, {"numbers"}), [])
                    [error] = self.without_postgres(django.test.TestCase, "__all__")
                    self.assertRegex(error, "port 1 failed")
                    [error] = self.without_postgres(django.test.TransactionTestCase, {"numbers"})
                    self.assertRegex(error, "'numbers'.*, or derive from django.test.SimpleTestCase .*databases = set")
                    with mock.patch("django.db.backends.sqlite3.features.DatabaseFeatures.supports_transactions", False):
                        [error] = self.without_postgres(django.test.TestCase, {"numbers"})
                        self.assertIn("DeclarationError", error)

            def test_where_the_project_has_none_django_says_so(self):
                from django.db import connections
                none = {**connections.settings["numbers"], "ENGINE": "django.db.backends.dummy", "NAME": ""}
                with mock.patch.dict(connections.settings, {"none": none}):
                    [error] = self.without_postgres(django.test.TransactionTestCase, {"none"})
                    self.assertIn("ImproperlyConfigured: settings.DATABASES is improperly configured", error)

            def test_those_for_tests_are_not(self):
                from django.db import connections

                class Inner(PostgresMixin, ContainerMixin, django.test.SimpleTestCase):
                    postgres = Postgres(migrations=SETTINGS)
                    databases = {"default", "audit", "replica", "numbers"}

                    def test(self):
                        pass

                settings = connections.settings["audit"]
                for name, given, taken in (
                    ("test_mine", None, True),
                    ("test_mine_2", None, True),
                    ("shop_test", None, True),
                    ("shop_test_2", None, True),
                    ("test", None, True),
                    ("latest", None, False),
                    ("mine", "mine", True),
                    ("mine_2", "mine", True),
                    ("my.db_2", "my.db", True),
                    ("mine.sqlite3", "mine.sqlite3", True),
                    ("mine_2.sqlite3", "mine.sqlite3", True),
                    ("mine_live", "mine", False),
                    ("test_mine", "mine", False),
                    ("my_audit", None, False),
                ):
                    test = {**settings["TEST"], "NAME": given}
                    with self.subTest(name, given=given), mock.patch.dict(settings, {"NAME": name, "TEST": test}):
                        self.assertEqual(outcomes(Inner) == [], taken)
"""

DJANGOS = """
        import django.test

        class SimpleTest(PostgresMixin, ContainerMixin, django.test.SimpleTestCase):
            postgres = Postgres(migrations=Django("project.settings", depends_on=["order.json"]))  # Nobody else's.

            def test_without_the_orm(self):
                self.assertRowCount("shop_order", 0)
                with self.assertRaisesRegex(AssertionError, "add 'default' to .*databases"):
                    orders().count()

        class OrderTest(PostgresMixin, ContainerMixin, django.test.SimpleTestCase):
            postgres = Postgres(migrations=SETTINGS)
            databases = {"default"}

            @classmethod
            def setUpTestData(cls):
                cls.order = orders().create(item="of the baseline")

            def test_1(self):
                self.assertEqual(orders().count(), 1)
                self.order.refresh_from_db()
                orders().create(item="book")
                self.assertRowCount("shop_order", 2)
                self.assertNotEqual(self.client.get("/add").content, b"0")

            test_2 = test_3 = test_1

        class CopiesTest(PostgresMixin, ContainerMixin, django.test.SimpleTestCase):
            postgres = Postgres(migrations=SETTINGS)
            databases = {"default"}

            @classmethod
            def setUpTestData(cls):
                cls.order = orders().create(item="of the baseline")
                cls.orders = [cls.order]
                cls.connection = cls.postgres.connect()
                cls.names = ["shared"]
                cls.found = []

            def test_1(self):
                self.assertEqual(self.order.item, "of the baseline")
                self.order.item = "changed"
                self.assertIs(self.orders[0], self.order)
                self.assertIs(self.names, type(self).names)
                self.assertIs(self.found, type(self).found)
                self.assertIs(self.connection, type(self).connection)

            test_2 = test_1

        class FlushedCopiesTest(CopiesTest, django.test.TransactionTestCase):
            pass

        class FlushedTest(PostgresMixin, ContainerMixin, django.test.TransactionTestCase):
            postgres = Postgres(migrations=SETTINGS)
            setUpTestData = OrderTest.__dict__["setUpTestData"]
            test_1 = test_2 = test_3 = OrderTest.test_1

        class FixturesTest(PostgresMixin, ContainerMixin, django.test.TransactionTestCase):
            postgres = Postgres(migrations=SETTINGS)
            fixtures = ["tests/order.json"]

            def test_1(self):
                self.assertEqual(orders().count(), 1)

            test_2 = test_1

        class RolledBackTest(PostgresMixin, ContainerMixin, django.test.TestCase):
            postgres = Postgres(migrations=SETTINGS)
            setUpTestData = OrderTest.__dict__["setUpTestData"]

            def test_1(self):
                self.assertEqual(orders().count(), 1)
                self.order.item = "changed"
                self.order.save()
                orders().create(item="book")
                self.assertRowCount("shop_order", 0)  # What is in Django's transaction, others do not see.

            test_2 = test_3 = test_1

        class PlainTest(PostgresMixin, ContainerMixin, django.test.TestCase):
            postgres = Postgres(migrations=SETTINGS)

            def test_1(self):
                self.assertEqual(orders().count(), 0)
                orders().create(item="book")

            test_2 = test_1

        class CoroutinesTest(PostgresMixin, ContainerMixin, django.test.TestCase):
            postgres = Postgres(migrations=SETTINGS)

            async def test_1(self):
                self.assertEqual(await orders().acount(), 0)
                await orders().acreate(item="book")
                self.assertEqual((await self.async_client.get("/add")).content, b"2")

            test_2 = test_1

        class FlushedCoroutinesTest(PostgresMixin, ContainerMixin, django.test.TransactionTestCase):
            postgres = Postgres(migrations=SETTINGS)
            test_1 = test_2 = CoroutinesTest.test_1

            @itest.fixtures("orders.json")
            async def test_fixtures(self):
                self.assertRowCount("shop_order", 1)

        class Wrapping:
            def fingerprint(self):
                return "Wrapping"

            def apply(self, view):
                SETTINGS.apply(view, None)

            def during(self, view):
                return SETTINGS.during(view)

        class WrappedTest(RolledBackTest):
            postgres = Postgres(migrations=Wrapping())

        class FailingTest(unittest.TestCase):
            def test_the_services_are_told(self):
                for base in (django.test.SimpleTestCase, django.test.TransactionTestCase, django.test.TestCase):
                    class Inner(PostgresMixin, ContainerMixin, base):
                        postgres = Postgres(migrations=SETTINGS)
                        databases = {"default"}

                        @classmethod
                        def setUpTestData(cls):
                            raise ZeroDivisionError

                        def test(self):
                            pass

                    with self.subTest(base.__name__):
                        [error] = outcomes(Inner)
                        self.assertRegex(error, "(?s)ZeroDivisionError.*itest: the services when this test failed")

        class RefusedTest(unittest.TestCase):
            def test_isolations(self):
                for isolation in ("rollback", "schema"):
                    with self.subTest(isolation):
                        class Inner(PostgresMixin, ContainerMixin, django.test.TestCase):
                            postgres = Postgres(migrations=SETTINGS, isolation=isolation)

                            def test(self):
                                pass

                        [error] = outcomes(Inner)
                        self.assertRegex(error, f"ResetError: .*TestCase.*isolation='{isolation}' can undo nothing")
"""


class DjangosTestCasesTest(ProjectTestCase):
    """With Django's test cases."""

    def test_orm(self) -> None:
        self.check(DJANGOS, DJANGO_SETTINGS_MODULE="project.settings", ITEST_WARM="0")  # So that each migrates.

    def test_skips_that_ask_the_database(self) -> None:
        self.check("""
        import django.test

        class Asks(PostgresMixin, ContainerMixin):
            postgres = Postgres(migrations=SETTINGS)
            ran = []

            def test(self):
                self.ran.append(type(self).__name__)

        def classes():
            @django.test.skipUnlessDBFeature("is_postgresql_15")
            class RunsTest(Asks, django.test.TransactionTestCase):
                pass

            @django.test.skipIfDBFeature("is_postgresql_15")
            class SkippedTest(Asks, django.test.TestCase):
                pass

            class InheritingTest(SkippedTest):
                pass

            @django.test.skipUnlessDBFeature("is_postgresql_15")
            class DecoratedTooTest(SkippedTest):
                pass

            @django.test.skipIfDBFeature("is_postgresql_15")
            class ForbiddenTest(Asks, django.test.SimpleTestCase):
                pass

            return RunsTest, SkippedTest, InheritingTest, DecoratedTooTest, ForbiddenTest

        class ClassesTest(unittest.TestCase):
            def test_by_unittest(self):
                result = unittest.TestResult()
                for each in classes():
                    unittest.defaultTestLoader.loadTestsFromTestCase(each)(result)
                self.assertEqual(Asks.ran, ["RunsTest"])
                self.assertEqual([why for _, why in result.skipped], ["Database has feature(s) is_postgresql_15"] * 3)
                [(_, error)] = result.errors
                self.assertIn("ValueError: skipIfDBFeature cannot be used on", error)

            def test_one_that_is_called(self):
                @django.test.skipUnlessDBFeature("is_postgresql_15")
                class Inner(Asks, django.test.TransactionTestCase):
                    pass

                result = unittest.TestResult()
                Inner("test")(result)
                Inner.doClassCleanups()
                self.assertEqual((result.errors, Asks.ran[-1]), ([], "Inner"))
        """, DJANGO_SETTINGS_MODULE="project.settings")  # fmt: skip

    def test_rows_that_django_keeps_in_memory(self) -> None:
        settings = """
        from project.settings import *
        # In this order, `flush` makes content types anew and then has them in memory, for the permissions.
        INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.sites", "shop", "django.contrib.auth"]
        SITE_ID = 1
        """
        self.check("""
        import django.test
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        class Permits:
            postgres = Postgres(migrations=Django("project.more"))

            def test_1(self):
                from django.contrib.auth.models import Permission, User
                from django.contrib.contenttypes.models import ContentType
                from django.contrib.sites.models import Site
                user = ContentType.objects.get_for_model(User)
                Permission.objects.create(name="Can ban", codename="ban", content_type=user)
                self.assertEqual(Site.objects.get_current().domain, "example.com")
                Site.objects.update(domain="example.org")
                Site.objects.clear_cache()
                self.assertEqual(Site.objects.get_current().domain, "example.org")

            test_2 = test_1

        class FlushedTest(Permits, PostgresMixin, ContainerMixin, django.test.TransactionTestCase):
            pass

        class NextTest(Permits, PostgresMixin, ContainerTestCase):
            pass

        class RolledBackTest(Permits, PostgresMixin, ContainerMixin, django.test.TestCase):
            test_2 = None

        class FilledTest(PostgresMixin, ContainerTestCase):
            postgres = Postgres(migrations=Django("project.more"))

            @classmethod
            def setUpTestData(cls):
                cls.read()

            @staticmethod
            def read():
                from django.contrib.auth.models import User
                from django.contrib.contenttypes.models import ContentType
                from django.contrib.sites.models import Site
                return ContentType.objects.get_for_model(User), Site.objects.get_current()

            def test_1(self):
                with CaptureQueriesContext(connection) as asked:
                    kind, site = self.read()
                self.assertEqual(asked.captured_queries, [])
                self.assertEqual(site.domain, "example.com")
                site.domain = "example.org"
                site.save()
                kind.delete()

            test_2 = test_3 = test_1
        """, {"project/more.py": settings}, DJANGO_SETTINGS_MODULE="project.more")  # fmt: skip

    def test_strict(self) -> None:
        self.check(DJANGOS, DJANGO_SETTINGS_MODULE="project.settings", ITEST_STRICT="1")

    def test_the_projects_own_database_is_left_alone(self) -> None:
        self.check(OWN_DATABASE, DJANGO_SETTINGS_MODULE="project.settings", ITEST_REQUIRE="0")
