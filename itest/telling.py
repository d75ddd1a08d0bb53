# SPDX-License-Identifier: Apache-2.0
"""What a session tells about itself: progress while it goes on, servers' logs on the way to `logging`, and when it is over
the timing table, durations for unittest and the page with the report."""

from __future__ import annotations

import contextlib
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itest import naming, sharing, trace, warm
from itest.clock import Clock, wall
from itest.config import Config
from itest.report.progress import Board
from itest.service import Server
from itest.side_by_side import Lookout
from itest.trace import Recorder, Span

if TYPE_CHECKING:
    from itest.log_stream import Streams

LOOK_PAUSE = 2.0
"""Seconds between two looks at the tests that run."""

LOG_LINES = 500
"""Last lines of each server's log that are shown in a report."""


class Telling:
    """Told by the session what happens to its servers, and by the test case which result a test reports to."""

    def __init__(self, session: str, config: Config, recorder: Recorder, clock: Clock) -> None:
        self._session = session
        self._config = config
        self._recorder = recorder
        # The working directory may be another one when the run is over.
        self._page = Path(config.report).absolute() if config.report else None
        self._since_1970 = wall() - clock.monotonic()
        self._results: list[Any] = []
        self._lookout: Lookout | None = None
        self._streams: Streams | None = None
        if config.logging:
            from itest.log_stream import Streams

            self._streams = Streams()
        if not config.quiet:
            Board(clock, ci=config.ci, dumb=config.variable("TERM") == "dumb").listen(recorder)

    def watch(self, result: unittest.TestResult) -> None:
        """A test is about to report to this result. Cheap, as it is called for each test."""
        told = self._page is not None or self._config.timing
        if not (told or hasattr(result, "collectedDurations")) or getattr(result, "_itest_told", None) is self:
            return
        result._itest_told = self  # type: ignore[attr-defined]  # a mark of ours on somebody else's object
        if hasattr(result, "collectedDurations") and not sharing.worker_of():
            self._results.append(result)
        if told:
            from itest.report.outcomes import Watch

            watch: Watch | None = getattr(result, "_itest_watch", None)
            if watch is None:
                result._itest_watch = Watch(result, self._recorder)  # type: ignore[attr-defined]  # as above
            else:
                watch.recorder = self._recorder  # Its session was closed in between.
        if self._page is not None and sharing.worker_of() and hasattr(result, "stopTestRun"):
            _after(result, self._write_page)  # Nothing else may be called of a worker: pools kill theirs.

    def look_on(self, look: Callable[[], object]) -> None:
        """A test begins: from now on have it called now and then, which tells of those that go on for very long. Cheap, too."""
        if self._lookout is None:
            if self._config.quiet:
                return
            self._lookout = Lookout(look, "itest-lookout", LOOK_PAUSE)
        self._lookout.begin()

    def started(self, server: Server[Any], span: Span) -> None:
        """A server was started, or joined."""
        span.facts.update(
            version=server.version, server=server.instance.id, where=str(server.instance), title=server.title
        )
        origin = server.origin
        if server.fresh and isinstance(origin, warm.State):
            if origin.record is None or origin.record.failed:
                origin.steps["start"] = span.seconds - sum(
                    part.seconds
                    for part in self._recorder.spans
                    if part.parent is span and part.name in ("pull", "build")
                )
            else:
                span.facts["kept"] = "yes"
                _remember(span, origin.record.steps.get("start"))
        elif not server.fresh:
            span.facts["found"] = "yes"
        if self._streams is not None:
            self._streams.follow(server.instance, server.kind, new=server.fresh)

    def stopping(self, server: Server[Any], span: Span) -> None:
        """A server is about to be stopped."""
        span.facts["server"] = server.instance.id
        origin = server.origin
        if isinstance(origin, warm.State):
            earlier = {} if origin.record is None else origin.record.steps
            for step in list(self._recorder.spans):
                template = step.facts.get("template")
                if template is None or step.facts.get("server") != server.instance.id:
                    continue
                if step.name == "migrate" and not step.failed:
                    known = {**earlier, **origin.steps}
                    origin.steps[template] = step.seconds + known.get(step.facts["on"], 0.0)
                elif step.name == "found":
                    _remember(step, earlier.get(template))
        if self._page is not None:
            with contextlib.suppress(Exception):  # Its last words are worth nothing if they cost the rest.
                span.facts["log"] = naming.clean_log(server.instance.logs(tail=LOG_LINES))
        if self._streams is not None:
            self._streams.end(server.instance)

    def over(self) -> None:
        """The session is closed. Never raises."""
        if self._lookout is not None:
            self._lookout.close()
        if self._streams is not None:
            self._streams.close()
        spans = list(self._recorder.spans)
        if self._results:
            from itest.report import durations

            for result in self._results:
                durations.add(result, spans)
        if self._config.timing:
            from itest.report.text import print_timing

            try:
                print_timing(spans)
            except (OSError, ValueError):
                pass  # As for `trace.say`.
            except Exception as error:  # Something of the tests has the name of a package that it needs, say.
                reason = naming.shorten(str(error) or type(error).__name__, 400)
                trace.say(f"could not show where the time went: {reason}")
        self._write_page()

    def _write_page(self) -> None:
        """Write what is known by now. Never raises."""
        if self._page is None:
            return
        from itest.report import page, run

        try:
            own = run.part(self._session, list(self._recorder.spans), self._since_1970, self._config)
            page.write(self._page, sharing.run(self._config), own, self._config)
        except Exception as error:
            reason = naming.shorten(str(error) or type(error).__name__)
            trace.say(f"could not write the report {self._page}: {reason}")


def _after(result: unittest.TestResult, write: Callable[[], object]) -> None:
    """Have it called after the result's `stopTestRun`."""
    stop = result.stopTestRun

    def stop_and_write() -> None:
        try:
            stop()
        finally:
            write()

    result.stopTestRun = stop_and_write  # type: ignore[method-assign]  # what this function is for


def _remember(span: Span, seconds: float | None) -> None:
    """How long it took without what was kept, if that is known."""
    if seconds is not None:
        span.facts["cold"] = f"{seconds:.4f}"
