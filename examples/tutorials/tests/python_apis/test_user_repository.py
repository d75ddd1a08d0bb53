# SPDX-License-Identifier: Apache-2.0
"""A repository over SQLAlchemy models."""

from itest import ContainerTestCase, Postgres, PostgresMixin
from itest.migrations import MetaData
from sqlalchemy.exc import IntegrityError

from app.models import Base, User
from app.users import UserRepository


class UserRepositoryTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(migrations=MetaData(Base.metadata))

    def setUp(self):
        self.users = UserRepository(self.session)

    def test_a_user_is_created(self):
        user = self.users.create(email="test@example.com", name="Test User")
        self.assertIsNotNone(user.id)
        with self.postgres.session() as another:
            self.assertEqual(another.get(User, user.id).email, "test@example.com")

    def test_a_user_is_found_by_email(self):
        self.users.create(email="find@example.com", name="Find Me")
        self.assertEqual(self.users.find_by_email("find@example.com").name, "Find Me")

    def test_an_email_is_used_once(self):
        self.users.create(email="unique@example.com", name="First")
        with self.assertRaises(IntegrityError):
            self.users.create(email="unique@example.com", name="Second")
