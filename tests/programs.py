# SPDX-License-Identifier: Apache-2.0
"""Programs that stand in for real ones."""

from __future__ import annotations

from pathlib import Path


def write_program(path: Path, script: str) -> Path:
    """Have a shell script there that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path
