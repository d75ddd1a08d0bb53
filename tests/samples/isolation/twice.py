# SPDX-License-Identifier: Apache-2.0
"""Each leak is a test that runs twice, so that one test follows it whatever order a runner takes."""


def twice(cls):
    """Class decorator: `leak_lock` becomes `test_lock` and `test_lock_again`."""
    for name, method in list(vars(cls).items()):
        if name.startswith("leak_"):
            test = name.replace("leak_", "test_", 1)
            setattr(cls, test, method)
            setattr(cls, f"{test}_again", method)
    return cls


LEAKED = []
"""Clients that a test did not close, kept alive beyond its end."""
