# SPDX-License-Identifier: Apache-2.0
"""Whole sample suites, run in processes of their own under several runners, Pythons and engines."""
