# SPDX-License-Identifier: Apache-2.0
"""The command line: `python -m benchmarks NAME`, where a name is `isolation`, `suite`, `start`, `exit`, `crash` or
`overhead`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import crash, ending, isolation, launch, overhead, start, suite
from benchmarks.measure import BenchmarkError
from benchmarks.report import Report, show
from itest import ItestError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark. Returns 0 whether its targets are met or not: a noisy machine is no error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        report: Report = options.run(options, given)
    except (BenchmarkError, ItestError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(report.as_json())
    else:
        show(report)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="itest beside what people use today.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON with the facts about the machine")
    common.add_argument("--no-peers", action="store_true", help="measure itest alone")
    names = parser.add_subparsers(required=True, metavar="NAME")

    data = names.add_parser("isolation", parents=[common], help="the time between two tests")
    data.add_argument("--engine", choices=("auto", "docker", "process"), default="auto", help="what runs the servers")
    data.add_argument("--services", type=_words, default=isolation.SERVICES, help="default: postgres,redis,kafka")
    data.add_argument("--tables", type=_numbers, default=isolation.Plan.tables, help="default: 10,30,100,1000")
    data.add_argument("--dirty", type=_numbers, default=isolation.Plan.dirty, help="dirty tables; default: 0,3,30")
    data.add_argument("--keys", type=_numbers, default=isolation.REDIS_KEYS, help="default: 0,1000,100000")
    data.add_argument("--rounds", type=int, default=isolation.Plan.rounds, help="turns of each strategy; default: 5")
    data.add_argument("--tests", type=int, default=isolation.TESTS, help="tests of a turn; default: 60")
    data.set_defaults(run=_isolation)

    whole = names.add_parser("suite", parents=[common], help="the wall time of 20 classes by 25 tests")
    whole.add_argument("--classes", type=int, default=suite.CLASSES, help="default: 20")
    whole.add_argument("--tests", type=int, default=suite.TESTS, help="tests of a class; default: 25")
    whole.add_argument("--rounds", type=int, default=suite.ROUNDS, help="runs of each suite; default: 3")
    whole.set_defaults(run=_suite)

    begin = names.add_parser("start", parents=[common], help="the time to the first answer, and of a whole run")
    begin.add_argument("--services", type=_services, default=launch.SERVICES, help="default: postgres,redis,kafka,all")
    begin.add_argument("--rounds", type=int, default=launch.Plan.rounds, help="turns of each contender; default: 5")
    begin.set_defaults(run=_start)

    end = names.add_parser("exit", parents=[common], help="the time from the last test's end to the process's")
    end.add_argument("--services", type=_services, default=("postgres", "all"), help="default: postgres,all")
    end.add_argument("--rounds", type=int, default=launch.Plan.rounds, help="turns of each contender; default: 5")
    end.set_defaults(run=_exit)

    killed = names.add_parser("crash", parents=[common], help="what killed runs leave behind")
    killed.add_argument("--kills", type=int, default=crash.KILLS, help="default: 40")
    killed.add_argument("--seed", type=int, help="of the moments, to have those of another time; default: a new one")
    killed.set_defaults(run=_crash)

    own = names.add_parser("overhead", parents=[common], help="what itest itself costs a test, by part")
    own.add_argument("--rounds", type=int, default=overhead.ROUNDS, help="default: 5")
    own.add_argument("--tests", type=int, default=overhead.TESTS, help="tests of a class; default: 500")
    own.set_defaults(run=_overhead)
    for one in (begin, end, killed):
        one.add_argument("--engines", type=_engines, default=launch.ENGINES, help="default: docker,process")
    return parser


def _isolation(options: argparse.Namespace, given: Sequence[str]) -> Report:
    plan = isolation.Plan(
        engine=options.engine,
        services=options.services,
        tables=options.tables,
        dirty=options.dirty,
        keys=options.keys,
        rounds=options.rounds,
        tests=options.tests,
        peers=not options.no_peers,
    )
    return isolation.run(plan, given, _say)


def _suite(options: argparse.Namespace, given: Sequence[str]) -> Report:
    return suite.run(options.classes, options.tests, options.rounds, not options.no_peers, given, _say)


def _start(options: argparse.Namespace, given: Sequence[str]) -> Report:
    plan = launch.Plan(options.services, options.engines, launch.STATES, options.rounds, not options.no_peers)
    return start.run(plan, given, _say)


def _exit(options: argparse.Namespace, given: Sequence[str]) -> Report:
    plan = launch.Plan(options.services, options.engines, launch.STATES, options.rounds, not options.no_peers)
    return ending.run(plan, given, _say)


def _crash(options: argparse.Namespace, given: Sequence[str]) -> Report:
    return crash.run(options.kills, options.engines, options.seed, given, _say)


def _overhead(options: argparse.Namespace, given: Sequence[str]) -> Report:
    return overhead.run(options.rounds, options.tests, given, _say)


def _say(line: str) -> None:
    print(f"benchmarks: {line}", file=sys.stderr, flush=True)


def _words(text: str, known: Sequence[str] = isolation.SERVICES) -> tuple[str, ...]:
    words = tuple(text.split(","))
    if wrong := [word for word in words if word not in known]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is none of {', '.join(known)}")
    return words


def _services(text: str) -> tuple[str, ...]:
    return _words(text, launch.SERVICES)


def _engines(text: str) -> tuple[str, ...]:
    return _words(text, launch.ENGINES)


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(word) for word in text.split(","))
    if any(number < 0 for number in numbers):
        raise argparse.ArgumentTypeError("a number of tables or keys is 0 or more")
    return numbers


if __name__ == "__main__":
    sys.exit(main())
