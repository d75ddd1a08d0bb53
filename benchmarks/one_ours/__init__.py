# SPDX-License-Identifier: Apache-2.0
"""One test with itest: a module for each service, and one whose class has all three. None imports another's client."""
