# SPDX-License-Identifier: Apache-2.0
"""A repository, and a transaction that is rolled back."""

from itest import ContainerTestCase, Postgres, PostgresMixin
from sqlalchemy.exc import IntegrityError

from app.models import User
from app.users import UserRepository


class UserRepositoryTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(migrations="../../migrations")

    def setUp(self):
        self.users = UserRepository(self.session)

    def test_a_user_is_created(self):
        user = self.users.create("test@example.com", "testuser")
        self.assertEqual(
            (user.id, user.email, user.name), (1, "test@example.com", "testuser")
        )

    def test_a_user_is_found_by_email(self):
        self.users.create("find@example.com", "finduser")
        self.assertEqual(
            self.users.find_by_email("find@example.com").email, "find@example.com"
        )

    def test_an_email_is_used_once(self):
        self.users.create("unique@example.com", "user1")
        with self.assertRaises(IntegrityError):
            self.users.create("unique@example.com", "user2")

    def test_what_is_rolled_back_is_not_there(self):
        with (
            self.postgres.engine.connect() as connection,
            connection.begin() as transaction,
        ):
            connection.execute(
                User.__table__.insert(),
                {"email": "rollback@example.com", "name": "rollbackuser"},
            )
            transaction.rollback()
        self.assertRowCount("users", 0, where="email = 'rollback@example.com'")
