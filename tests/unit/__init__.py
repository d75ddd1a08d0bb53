# SPDX-License-Identifier: Apache-2.0
"""Unit tests, one file per concept. No server, no network but the loopback address, no waiting."""
