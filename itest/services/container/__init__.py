# SPDX-License-Identifier: Apache-2.0
"""Any container as a service: what itest knows nothing about but its image.

declaration     what people write, and what is checked of it
texts           ports, sizes, mounts and variables as people write them
image           where the image comes from
readiness       what is waited for when nothing is said
server          the running container; its view is in `view`
"""

from itest.services.container.declaration import Container as Container
from itest.services.container.view import ContainerView as ContainerView
