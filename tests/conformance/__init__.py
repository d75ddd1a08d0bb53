# SPDX-License-Identifier: Apache-2.0
"""One test class per protocol, run on everything that implements it. Skipped, with the reason, where it cannot run."""
