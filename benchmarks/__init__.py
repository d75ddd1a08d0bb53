# SPDX-License-Identifier: Apache-2.0
"""What itest costs beside what people use today, measured side by side: `python -m benchmarks NAME [--json]`.

    isolation.py   the time between two tests, ours and others'
    suite.py       the wall time of a whole suite, ours and the pattern of a testcontainers tutorial
    start.py       the time to the first answer, and of a whole run
    ending.py      `exit`: the time from the last test's end to the end of the process
    crash.py       what is left of runs that are killed
    measure.py     the stopwatch, and the rounds in which contenders take turns
    schema.py      the tables, and what a test does to them
    ours.py  peers.py  pytest_peer.py      the contenders of `isolation`
    shop_bodies.py  shop_ours.py  shop_tutorial.py      the contenders of `suite`
    launch.py      one test in a process of its own; one_bodies.py  one_ours/  one_tutorial.py are such tests
    crash_sample.py      the suite that is killed
    report.py      the table, the JSON, the facts about the machine

Nothing in here is imported by itest. docs/benchmarks.md has the results of a run.
"""
