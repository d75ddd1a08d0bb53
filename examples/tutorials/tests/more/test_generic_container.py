# SPDX-License-Identifier: Apache-2.0
"""Any image, ready when it answers over HTTP."""

from urllib.request import urlopen

from itest import Container, ContainerTestCase, http


class WebTest(ContainerTestCase):
    web = Container(
        "busybox:1.37",
        command="httpd -f -p 8080 -h /www",
        ports={"http": 8080},
        files={"/www/health": "fine"},
        ready=http("/health"),
    )

    def test_it_answers(self):
        with urlopen(f"{self.web.url}/health") as answer:
            self.assertEqual(answer.read(), b"fine")
