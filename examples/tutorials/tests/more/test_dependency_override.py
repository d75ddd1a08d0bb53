# SPDX-License-Identifier: Apache-2.0
"""A FastAPI app with one dependency replaced for one test."""

from itest import App, ContainerTestCase, Postgres, PostgresMixin, RedisMixin

from app.api import get_mailer


class WelcomeTest(PostgresMixin, RedisMixin, ContainerTestCase):
    postgres = Postgres(migrations="../../migrations", fixtures=["users.sql"])
    app = App.asgi(
        "app.api:create_app",
        env={"DATABASE_URL": "{postgres.sqlalchemy_url}", "REDIS_URL": "{redis.url}"},
    )

    def test_a_user_is_welcomed(self):
        sent = []
        self.app.app.dependency_overrides[get_mailer] = lambda: (
            lambda *mail: sent.append(mail)
        )
        self.assertEqual(self.app.client.post("/api/users/1/welcome").status_code, 202)
        self.assertEqual(sent, [("alice@example.com", "Welcome")])

    def test_the_override_is_gone_in_the_next_test(self):
        self.assertEqual(self.app.client.post("/api/users/1/welcome").status_code, 503)
