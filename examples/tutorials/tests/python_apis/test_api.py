# SPDX-License-Identifier: Apache-2.0
"""A FastAPI app through its API, on a real database and a real cache."""

from itest import App, ContainerTestCase, Postgres, PostgresMixin, RedisMixin


class UserApiTest(PostgresMixin, RedisMixin, ContainerTestCase):
    postgres = Postgres(migrations="../../migrations")
    app = App.asgi(
        "app.api:create_app",
        env={"DATABASE_URL": "{postgres.sqlalchemy_url}", "REDIS_URL": "{redis.url}"},
    )

    def create(self, email, name="New User"):
        return self.app.test_client.post(
            "/api/users", json={"email": email, "name": name}
        )

    def test_a_user_is_created(self):
        response = self.create("new@example.com")
        self.assertEqual(response.status_code, 201)
        self.assertEqual(
            response.json(), {"id": 1, "email": "new@example.com", "name": "New User"}
        )

    def test_a_user_is_read(self):
        id = self.create("get@example.com").json()["id"]
        response = self.app.test_client.get(f"/api/users/{id}")
        self.assertEqual(
            (response.status_code, response.json()["email"]), (200, "get@example.com")
        )

    def test_an_unknown_user_is_not_found(self):
        self.assertEqual(self.app.test_client.get("/api/users/99999").status_code, 404)

    def test_an_email_is_used_once(self):
        self.create("dup@example.com")
        response = self.create("dup@example.com")
        self.assertEqual(response.status_code, 400)
        self.assertIn("email", response.json()["detail"])
