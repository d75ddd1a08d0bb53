# SPDX-License-Identifier: Apache-2.0
"""A small shop on FastAPI, PostgreSQL, Redis and Kafka: the example that itest's documentation is about."""
