# SPDX-License-Identifier: Apache-2.0
"""`python -m itest`."""

import sys

from itest.cli import main

if __name__ == "__main__":
    sys.exit(main())
