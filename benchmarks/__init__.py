# SPDX-License-Identifier: Apache-2.0
"""What itest costs beside what people use today, measured side by side: `python -m benchmarks NAME [--json]`.

    isolation.py   the time between two tests, ours and others'
    suite.py       the wall time of a whole suite, ours and the pattern of a testcontainers tutorial
    measure.py     the stopwatch, and the rounds in which contenders take turns
    schema.py      the tables, and what a test does to them
    ours.py  peers.py  pytest_peer.py      the contenders of `isolation`
    shop_bodies.py  shop_ours.py  shop_tutorial.py      the contenders of `suite`
    report.py      the table, the JSON, the facts about the machine

Nothing in here is imported by itest. docs/benchmarks.md has the results of a run.
"""
