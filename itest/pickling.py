# SPDX-License-Identifier: Apache-2.0
"""Test cases on their way to a worker process: what they were given when they were made goes along."""

from __future__ import annotations

import io
import pickle
import unittest
from typing import Any

from itest.case import ContainerMixin

_OF_A_RUN = ("_itest_", "_asyncio", "_outcome", "_subtest")
"""How attributes of a run begin, itest's and unittest's. The loop and the context of an async case cannot be pickled."""


def state_of(case: unittest.TestCase) -> dict[str, Any] | None:
    """The attributes of a test that has not been run yet; None if they cannot be pickled."""
    state = {name: value for name, value in vars(case).items() if not name.startswith(_OF_A_RUN)}
    try:
        _Trial(io.BytesIO()).dump(state)
    except Exception:  # Whatever __reduce__ of anybody raises.
        return None
    return state


def made_again(cls: type[unittest.TestCase]) -> unittest.TestCase:
    """An instance without its state. The class is not called: it may want anything, and give a default to what it lacks."""
    case = cls.__new__(cls)
    unittests = next(base for base in cls.__mro__ if base.__module__.partition(".")[0] == "unittest")
    unittests.__init__(case)  # type: ignore[misc]  # a base's, on purpose: for the attributes of a run
    return case


class _Trial(pickle.Pickler):
    def persistent_id(self, thing: object) -> int | None:
        """Leave out test cases, which can be pickled: one that holds a method of its own would be asked without end."""
        return 0 if isinstance(thing, ContainerMixin) else None
