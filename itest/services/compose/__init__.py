# SPDX-License-Identifier: Apache-2.0
"""A Docker Compose project as a service: the containers of a compose.yaml, as one declaration.

declaration     what people write, and what is checked of it
readiness       what is waited for
view            what a test gets: the services of the project; and the running project behind it
"""

from itest.services.compose.declaration import Compose as Compose
from itest.services.compose.view import ComposeService as ComposeService
from itest.services.compose.view import ComposeView as ComposeView
