# SPDX-License-Identifier: Apache-2.0
"""A router and its handlers without a socket."""

from itest import App, RedisMixin

from tests.rust_patterns.base import DatabaseTest


class ApiTest(RedisMixin, DatabaseTest):
    app = App.asgi(
        "app.api:create_app",
        env={"DATABASE_URL": "{postgres.sqlalchemy_url}", "REDIS_URL": "{redis.url}"},
    )

    def test_a_user_is_created(self):
        response = self.app.test_client.post(
            "/api/users", json={"name": "Alice", "email": "alice@example.com"}
        )
        self.assertEqual(response.status_code, 201)

    def test_an_unknown_user_is_not_found(self):
        self.assertEqual(self.app.test_client.get("/api/users/99999").status_code, 404)

    def test_what_is_no_json_is_refused(self):
        response = self.app.test_client.post("/api/users", content='{"name": }')
        self.assertEqual(response.status_code, 422)
