# SPDX-License-Identifier: Apache-2.0
"""A small application, whose tests are in `tests`. It knows nothing of them."""
