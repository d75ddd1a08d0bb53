# SPDX-License-Identifier: Apache-2.0
"""Test data by factory_boy, in the test's own session."""

import factory
from factory.alchemy import SQLAlchemyModelFactory
from itest import ContainerTestCase, Postgres, PostgresMixin
from itest.migrations import MetaData

from app.models import Base, Order, User
from app.orders import OrderService


class UserFactory(SQLAlchemyModelFactory):
    class Meta:
        model = User

    email = factory.Sequence("user{}@example.com".format)
    name = factory.Faker("name")


class OrderFactory(SQLAlchemyModelFactory):
    class Meta:
        model = Order

    user = factory.SubFactory(UserFactory)
    total = factory.Faker("pydecimal", left_digits=3, right_digits=2, positive=True)


class OrderServiceTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(migrations=MetaData(Base.metadata))

    def test_the_total_of_a_user(self):
        self.postgres.bind(UserFactory, OrderFactory)
        user = UserFactory()
        OrderFactory.create_batch(3, user=user, total=100)
        self.assertEqual(OrderService(self.session).total_of(user.id), 300)
