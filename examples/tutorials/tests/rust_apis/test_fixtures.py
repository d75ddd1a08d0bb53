# SPDX-License-Identifier: Apache-2.0
"""Data that every test of a class starts from."""

from itest import ContainerTestCase, Postgres, PostgresMixin

from app.models import Post, User


class PostTest(PostgresMixin, ContainerTestCase):
    postgres = Postgres(migrations="../../migrations")

    @classmethod
    def setUpTestData(cls):
        with cls.postgres.session() as session:
            session.add_all(
                User(id=i, email=f"user{i}@example.com", name=f"user{i}")
                for i in range(1, 6)
            )
            session.flush()
            session.add_all(
                Post(author_id=i, title=f"Post {j} by user{i}")
                for i in range(1, 6)
                for j in range(3)
            )
            session.commit()

    def test_the_posts_of_a_user(self):
        self.assertRowCount("users", 5)
        self.assertRowCount("posts", 15)
        self.assertRowCount("posts", 3, where="author_id = 1")
