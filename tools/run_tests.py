# SPDX-License-Identifier: Apache-2.0
"""Run all tests; say how many were skipped and why, and what was left behind; end with a line that machines can read.

The tests under other runners, which start processes and wait for them, run beside the rest, in a process of their own.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import unittest
from collections import Counter
from collections.abc import Iterator

APART = "tests.runners."
LIMIT = 1800
"""Seconds that the process of its own may take."""


def main() -> int:
    tests = list(flat(unittest.defaultTestLoader.discover("tests", top_level_dir=".")))
    if APART in sys.argv:
        return report(*run([test for test in tests if test.id().startswith(APART)]))
    from tests.leftovers import Leftovers  # Found now, because discovery has put this directory on the path.

    before = Leftovers.snapshot()
    with tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, "-W", "error", __file__, APART]
        apart = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            ours = run([test for test in tests if not test.id().startswith(APART)])
            apart.wait(LIMIT)
        finally:
            apart.kill()
            apart.wait()
        output.seek(0)
        said = output.read()
    print(f"\nBeside the rest, {APART}*:\n{said}", file=sys.stderr)
    found = re.search(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", said, re.MULTILINE)
    theirs = [int(count) for count in found.groups()] if found else [0, 1, 0]  # It did not come to its end.
    clean = nothing_left(before)
    return report(*(one + other for one, other in zip(ours, theirs, strict=True)), clean=clean)


def flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        yield from flat(test) if isinstance(test, unittest.TestSuite) else [test]


def run(tests: list[unittest.TestCase]) -> tuple[int, int, int]:
    """Run the tests. How many passed, failed and were skipped; why they were is printed."""
    result = unittest.TextTestRunner(verbosity=2).run(unittest.TestSuite(tests))
    reasons = Counter(reason for _, reason in result.skipped)
    if reasons:
        print("\nSkipped:", file=sys.stderr)
        for reason, count in reasons.most_common():
            print(f"  {count:4} {reason}", file=sys.stderr)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    return max(0, result.testsRun - failed - len(result.skipped)), failed, len(result.skipped)


def nothing_left(before: object) -> bool:
    """Whether the whole run left no container, process, directory, shared memory or thread."""
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if threads:
        print(f"\nthreads left behind: {', '.join(threads)}", file=sys.stderr)
    try:
        before.check()  # type: ignore[attr-defined]  # a Leftovers, which is imported late
    except AssertionError as error:
        print(f"\n{error}", file=sys.stderr)
        return False
    return not threads


def report(passed: int, failed: int, skipped: int, clean: bool = True) -> int:
    """The closing line, and the exit status that goes with it."""
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 0 if passed and not failed and clean else 1


if __name__ == "__main__":
    sys.exit(main())
