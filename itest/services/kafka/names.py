# SPDX-License-Identifier: Apache-2.0
"""What a declaration may say: names of topics, and codecs."""

from __future__ import annotations

import re

CODECS = ("bytes", "text", "json")

NAMES = "letters, digits, '.', '_' and '-' are what the name of a topic is made of"

NAME_LIMIT = 249
"""Characters that Kafka allows in the name of a topic."""

_NAME = r"[A-Za-z0-9._-]+"


def is_name(name: str) -> bool:
    """Whether Kafka allows a topic of that name."""
    return re.fullmatch(_NAME, name) is not None and len(name) <= NAME_LIMIT
