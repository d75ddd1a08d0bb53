# SPDX-License-Identifier: Apache-2.0
"""Tests against real servers and a real Docker; each skips, with a reason, where there is none."""
