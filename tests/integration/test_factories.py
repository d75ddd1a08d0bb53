# SPDX-License-Identifier: Apache-2.0
"""factory_boy's factories on a test's session."""

from __future__ import annotations

from typing import Any, ClassVar

import factory
import sqlalchemy
from factory.alchemy import SQLAlchemyModelFactory
from sqlalchemy import orm

from itest import ContainerTestCase, Postgres, PostgresMixin
from itest.migrations import MetaData


class Base(orm.DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]


class Address(Base):
    __tablename__ = "addresses"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    user_id: orm.Mapped[int] = orm.mapped_column(sqlalchemy.ForeignKey("users.id"))
    user: orm.Mapped[User] = orm.relationship()


def project_session() -> Any:
    raise AssertionError("the factory used the project's own session")


class UserFactory(SQLAlchemyModelFactory):  # type: ignore[misc]  # factory_boy is not typed
    class Meta:
        model = User
        sqlalchemy_session_factory = project_session

    name = factory.Sequence("user{}".format)


class AdminFactory(UserFactory):
    name = factory.Sequence("admin{}".format)


class AddressFactory(SQLAlchemyModelFactory):  # type: ignore[misc]  # as above
    class Meta:
        model = Address
        sqlalchemy_session_persistence = "flush"

    user = factory.SubFactory(UserFactory)


class FactoryTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(migrations=MetaData(Base.metadata))

    def test_what_it_creates_is_committed_and_of_this_test_alone(self) -> None:
        self.postgres.bind(UserFactory, AdminFactory, AddressFactory)
        address = AddressFactory()
        self.assertEqual((address.id, address.user.name), (1, "user0"))
        self.assertIs(orm.object_session(address), self.session)
        self.assertRowCount("addresses", 1)
        self.assertEqual(AdminFactory().name, "admin1")

    test_the_same_in_another_test = test_what_it_creates_is_committed_and_of_this_test_alone

    def test_flush_only(self) -> None:
        self.postgres.bind(UserFactory, persistence="flush")
        self.assertEqual(UserFactory().id, 1)
        self.assertRowCount("users", 0)

    def test_it_is_undone(self) -> None:
        view = self.postgres
        view.bind(UserFactory, AddressFactory)
        view.bind(AddressFactory, persistence=None)
        view.close()
        self.assertIs(UserFactory._meta.sqlalchemy_session_factory, project_session)
        self.assertIsNone(UserFactory._meta.sqlalchemy_session)
        self.assertIsNone(AddressFactory._meta.sqlalchemy_session)
        self.assertEqual(AddressFactory._meta.sqlalchemy_session_persistence, "flush")

    def test_a_sub_factory_that_is_not_bound(self) -> None:
        class Own(SQLAlchemyModelFactory):  # type: ignore[misc]  # as above
            class Meta:
                model = User

            name = "ann"

        class Outer(AddressFactory):
            user = factory.SubFactory(Own)
            other = factory.SubFactory("nowhere.Factory")

            class Meta:
                exclude = ("other",)

        view = self.postgres
        view.bind(Outer)
        with self.assertRaisesRegex(
            RuntimeError, r"^Own, which a bound factory refers to, has no session: bind\(Own\) too$"
        ):
            Outer(other=None)
        self.assertEqual(Outer(other=None, user=User(name="bob")).user.name, "bob")
        view.bind(Own)
        self.assertEqual(Outer(other=None).user.name, "ann")
        view.close()
        self.assertIsNone(Own._meta.sqlalchemy_session_factory)

    def test_what_cannot_be_bound(self) -> None:
        class Plain(factory.DictFactory):  # type: ignore[misc]  # as above
            pass

        for wrong in (Plain, User, 5):
            with self.assertRaisesRegex(
                TypeError, r"^bind\(\) takes classes of factory.alchemy.SQLAlchemyModelFactory, not "
            ):
                self.postgres.bind(UserFactory, wrong)
        with self.assertRaisesRegex(ValueError, "persistence='save': it must be 'commit', 'flush' or None"):
            self.postgres.bind(UserFactory, persistence="save")
        self.assertIs(UserFactory._meta.sqlalchemy_session_factory, project_session)


class DataOfTheClassTest(PostgresMixin, ContainerTestCase):
    """What `setUpTestData` has made by SQLAlchemy."""

    postgres = Postgres(migrations=MetaData(Base.metadata))
    ann: ClassVar[User]
    address: ClassVar[Address]

    @classmethod
    def setUpTestData(cls) -> None:
        cls.ann = User(name="ann")
        cls.session.add(cls.ann)
        cls.session.commit()
        cls.postgres.bind(UserFactory, AddressFactory)
        cls.address = AddressFactory()
        cls.session.commit()

    def test_tests_read_it_and_change_what_is_their_own(self) -> None:
        self.assertEqual((self.ann.id, self.ann.name), (1, "ann"))
        self.assertEqual((self.address.id, self.address.user.name), (1, "user0"))
        own = self.session.merge(self.ann)
        own.name = "bob"
        self.session.commit()
        self.assertRowCount("users", 1, where="name = 'bob'")

    test_the_same_in_another_test = test_tests_read_it_and_change_what_is_their_own

    def test_the_session_of_a_test_is_as_sqlalchemy_has_it(self) -> None:
        self.assertTrue(self.session.expire_on_commit)


class DataOfTheClassRollbackTest(DataOfTheClassTest):
    postgres = Postgres(migrations=MetaData(Base.metadata), isolation="rollback")


class RollbackTest(FactoryTest):
    postgres = Postgres(migrations=MetaData(Base.metadata), isolation="rollback")

    def test_flush_only(self) -> None:
        """Here one connection sees all."""

    def test_what_it_creates_is_committed_and_of_this_test_alone(self) -> None:
        self.postgres.bind(UserFactory, AdminFactory, AddressFactory)
        AddressFactory()
        self.session.rollback()
        self.assertRowCount("addresses", 1)
        self.assertEqual(AdminFactory().name, "admin1")

    test_the_same_in_another_test = test_what_it_creates_is_committed_and_of_this_test_alone
