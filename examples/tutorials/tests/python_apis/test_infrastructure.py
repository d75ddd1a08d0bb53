# SPDX-License-Identifier: Apache-2.0
"""Several services at once, and the configuration that leads an application to them."""

from itest import ContainerTestCase, KafkaMixin, PostgresMixin, RedisMixin


class InfrastructureTest(PostgresMixin, RedisMixin, KafkaMixin, ContainerTestCase):
    def test_an_application_is_told_where_they_are(self):
        config = {**self.postgres.env, **self.redis.env, **self.kafka.env}
        self.assertEqual(config["DATABASE_URL"], self.postgres.url)
        self.assertEqual(config["REDIS_URL"], self.redis.url)
        self.assertEqual(
            config["KAFKA_BOOTSTRAP_SERVERS"], self.kafka.bootstrap_servers
        )
