# SPDX-License-Identifier: Apache-2.0
"""Writes the table of known causes into docs/troubleshooting.md: `python -m tools.troubleshooting`."""

from __future__ import annotations

import re
from pathlib import Path

from itest.causes import CLIENT, DOCKER, DRIVER, LOG, REGISTRY, TABLE, Cause

PAGE = Path(__file__).resolve().parents[1] / "docs" / "troubleshooting.md"

SECTIONS = {
    CLIENT: "Docker is not reached",
    REGISTRY: "An image cannot be pulled",
    DOCKER: "Docker refuses",
    LOG: "A server ends, or is never ready",
    DRIVER: "A driver does not connect",
}

FACTS = {
    "{registry}": "REGISTRY",
    "{login}": "",
    "{platform}": "this machine's processor",
    "{source}": "DOCKER_HOST",
    "{place}": "/dev/shm or /tmp",
    "{variable}": "NAME",
    "{script}": "SCRIPT",
    "{line}": "LINE",
    "{message}": "MESSAGE",
    "{access}": "the name is wrong or the image is private: check it, or log in with `docker login`",
}


def filled(page: str) -> str:
    """The page with the tables as they must be."""
    for said_by, title in SECTIONS.items():
        causes = [cause for cause in TABLE if cause.said_by[0] == said_by]
        table = "\n".join(["| seen | cause | what to do |", "|---|---|---|", *map(_row, causes)])
        page = re.sub(
            rf"(?<=^## {re.escape(title)}\n\n)(\|.*\n)*\n*",
            lambda _, table=table: f"{table}\n\n",
            page,
            flags=re.MULTILINE,
        )
    return page


def _row(cause: Cause) -> str:
    cure = f"{cause.cure}; for a local process: {cause.local}" if cause.local else cause.cure
    for name, value in FACTS.items():
        cure = cure.replace(name, value)
    cells = (f"`{cause.example}`" if "`" not in cause.example else f"`` {cause.example} ``", cause.name, cure)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
