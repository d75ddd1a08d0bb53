# SPDX-License-Identifier: Apache-2.0
"""An HTTP API, served at a port."""

from itest import App, ContainerTestCase, Postgres, PostgresMixin, RedisMixin


class UserApiTest(PostgresMixin, RedisMixin, ContainerTestCase):
    postgres = Postgres(migrations="../../migrations")
    app = App.asgi(
        "app.api:create_app",
        env={"DATABASE_URL": "{postgres.sqlalchemy_url}", "REDIS_URL": "{redis.url}"},
    )

    def create(self, email):
        return self.app.client.post(
            "/api/users", json={"email": email, "name": "apiuser"}
        )

    def test_a_user_is_created(self):
        response = self.create("api@example.com")
        self.assertEqual(
            (response.status_code, response.json()["email"]), (201, "api@example.com")
        )
        self.assertIn("id", response.json())

    def test_a_user_is_read(self):
        response = self.app.client.get(
            f"/api/users/{self.create('get@example.com').json()['id']}"
        )
        self.assertEqual(
            (response.status_code, response.json()["email"]), (200, "get@example.com")
        )

    def test_an_unknown_user_is_not_found(self):
        self.assertEqual(self.app.client.get("/api/users/99999").status_code, 404)
