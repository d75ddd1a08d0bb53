# SPDX-License-Identifier: Apache-2.0
"""What is told about a run, while it goes on and when it is over. Everything here reads spans (`itest.trace`)."""
