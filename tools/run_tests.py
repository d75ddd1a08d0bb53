# SPDX-License-Identifier: Apache-2.0
"""Run all tests, then say how many were skipped and why, and end with one line that machines can read."""

from __future__ import annotations

import sys
import unittest
from collections import Counter


def main() -> int:
    suite = unittest.defaultTestLoader.discover("tests", top_level_dir=".")
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    reasons = Counter(reason for _, reason in result.skipped)
    if reasons:
        print("\nSkipped:", file=sys.stderr)
        for reason, count in reasons.most_common():
            print(f"  {count:4} {reason}", file=sys.stderr)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    passed = max(0, result.testsRun - failed - len(result.skipped))
    print(f"{passed} passed, {failed} failed, {len(result.skipped)} skipped", flush=True)
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
