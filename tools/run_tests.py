# SPDX-License-Identifier: Apache-2.0
"""Run all tests; say how many were skipped and why, and what was left behind; end with a line that machines can read."""

from __future__ import annotations

import sys
import threading
import unittest
from collections import Counter


def main() -> int:
    suite = unittest.defaultTestLoader.discover("tests", top_level_dir=".")
    from tests.leftovers import Leftovers  # Found now, because discovery has put this directory on the path.

    before = Leftovers.snapshot()
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    reasons = Counter(reason for _, reason in result.skipped)
    if reasons:
        print("\nSkipped:", file=sys.stderr)
        for reason, count in reasons.most_common():
            print(f"  {count:4} {reason}", file=sys.stderr)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    passed = max(0, result.testsRun - failed - len(result.skipped))
    clean = _nothing_left(before)
    print(f"{passed} passed, {failed} failed, {len(result.skipped)} skipped", flush=True)
    return 0 if result.wasSuccessful() and result.testsRun and clean else 1


def _nothing_left(before: object) -> bool:
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


if __name__ == "__main__":
    sys.exit(main())
