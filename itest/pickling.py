# SPDX-License-Identifier: Apache-2.0
"""Test cases on their way to a worker process, and copies of them: what they were given when they were made goes along."""

from __future__ import annotations

import copy
import io
import pickle
import unittest
from typing import Any, TypeVar

from itest.case import ContainerMixin

_OF_A_RUN = ("_outcome", "_subtest", "_asyncioRunner", "_asyncioTestContext")
"""What unittest keeps of a run. The loop and the context of an async case cannot be pickled."""

T = TypeVar("T", bound=unittest.TestCase)


def state_of(case: unittest.TestCase) -> dict[str, Any]:
    """The attributes of a test that has not been run yet. Raises PicklingError for one that cannot be pickled: a test that
    goes without it may pass where it should fail."""
    state = _given(case)
    for name, value in state.items():
        try:
            _Trial(io.BytesIO()).dump(value)
        except Exception as error:  # Whatever __reduce__ of anybody raises.
            raise pickle.PicklingError(
                f"{case.id()} cannot go to a worker process: its attribute {name} cannot be pickled ({error}); make it in "
                f"setUp, or where it is a lambda or a function within another, write a function of the module"
            ) from error
    return state


def copy_of(case: T, memo: dict[int, Any] | None = None) -> T:
    """A copy that has not been run; with the memo of `copy.deepcopy`, a deep one."""
    again, state = made_again(type(case)), _given(case)
    if memo is not None:
        memo[id(case)] = again  # First: an attribute may be a method of its own.
        state = copy.deepcopy(state, memo)
    vars(again).update(state)
    return again


def made_again(cls: type[T]) -> T:
    """An instance without its state. The class is not called: it may want anything, and give a default to what it lacks."""
    case = cls.__new__(cls)
    unittests = next(base for base in cls.__mro__ if base.__module__.partition(".")[0] == "unittest")
    unittests.__init__(case)  # type: ignore[misc]  # a base's, on purpose: for the attributes of a run
    return case


def _given(case: unittest.TestCase) -> dict[str, Any]:
    """All attributes but those of a run."""
    of_a_run = (*_OF_A_RUN, "_cleanups") if "_itest_diagnosis" in vars(case) else _OF_A_RUN
    return {
        name: value for name, value in vars(case).items() if name not in of_a_run and not name.startswith("_itest_")
    }


class _Trial(pickle.Pickler):
    def persistent_id(self, thing: object) -> int | None:
        """Leave out test cases, which can be pickled: one that holds a method of its own would be asked without end."""
        return 0 if isinstance(thing, ContainerMixin) else None
