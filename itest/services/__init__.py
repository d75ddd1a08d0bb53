# SPDX-License-Identifier: Apache-2.0
"""The services, one self-contained module each, all of the same shape. Read `redis.py` first."""
