# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds: one sentence each."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, PROBLEM = "ok", "note", "problem"
"""It is as it should be; it is worth knowing, and tests run all the same; tests cannot run because of it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `said` is a sentence; of a problem it says what to do as well."""

    name: str
    level: str
    said: str
