# SPDX-License-Identifier: Apache-2.0
"""A compose file with a web server, a database and a cache."""

from urllib.request import urlopen

from itest import Compose, ContainerTestCase, http


class FullStackTest(ContainerTestCase):
    stack = Compose("../../stack/compose.yaml", ready={"web": http("/cgi-bin/health")})

    def test_the_web_server_reaches_the_others(self):
        with urlopen(f"{self.stack.url}/cgi-bin/health") as answer:
            self.assertEqual(answer.read(), b"database and cache answer\n")
