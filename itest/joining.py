# SPDX-License-Identifier: Apache-2.0
"""Using a server together with other processes: found if it runs, started if not, stopped by whoever is the last."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from itest import naming, owners, starting, trace, warm
from itest.clock import Deadline, wall
from itest.engines import Instance
from itest.errors import ItestError
from itest.service import Server
from itest.sharing import Record, Share
from itest.starting import Job
from itest.wait import NotReady, until_ready

if TYPE_CHECKING:
    from itest.reaper import Reaper

ANSWER_TIMEOUT = 10.0
"""Seconds that a server which runs already has for its first answer, however it is asked."""


def join(job: Job, share: Share, before: Callable[[], object] = lambda: None) -> Server[Any]:
    """The server of this share; `before` is called before one is started.

    Raises StartError, and ItestError where others use it but it does not answer.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(share.gate(job.longest))
            alone = share.join()
        except OSError as error:
            # The cache directory cannot be written to, or is full: then it is our own, and nobody waits for it.
            stack.close()
            _say(job, share, error)
            before()
            return starting.start(job)
        known = True
        try:
            if record := share.read():
                share.session = record.session
                if (server := _attach(job, share, record, alone=alone)) is not None:
                    return server
                job.engine.remove({naming.SESSION: record.session})
            known = False
            before()
            record = _record(job)
            try:
                share.write(record)
            except OSError as error:
                share.leave()
                stack.close()
                _say(job, share, error)
                return starting.start(job)  # As above.
            return _start(job, share, record)
        except BaseException:
            if share.leave() and not known:  # Else what runs there may be as good as before.
                with contextlib.suppress(OSError):
                    share.forget()
            raise


def leave(server: Server[Any], share: Share, *, reaper: Reaper | None = None) -> None:
    """Use it no more. The last one stops it, unless it stays; how long is noted by each. `reaper` as for `starting.stop`.

    Raises ItestError, OSError.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # Without a cache directory nobody else finds it.
            stack.enter_context(share.gate())
        record = share.read()
        last = share.leave()
        if record is not None and (share.lifetime or share.kept):
            if share.lifetime:
                try:
                    share.write(record._replace(expires=max(record.expires, wall() + share.lifetime)))
                except OSError as error:
                    trace.say(
                        f"{server.title} stays for later runs, but ends sooner than it should, since {share.directory} cannot "
                        f"be written to ({error.strerror}): make room there, or set ITEST_CACHE_DIR to another directory"
                    )
            last = False
        if last:
            with contextlib.suppress(OSError):
                share.forget()
            starting.stop(server, "" if record is None else record.session, reaper=reaper)
        else:
            server.instance.disown()
            server.close()


def stay(share: Share, seconds: float) -> None:
    """Have its server stay when its last user leaves, for that many seconds from now. Raises ItestError, OSError."""
    with share.gate():
        if (record := share.read()) is None:
            raise ItestError("nothing is known of it any more")
        share.write(record._replace(expires=max(record.expires, wall() + seconds)))
        share.keep()


def _say(job: Job, share: Share, error: OSError) -> None:
    if share.lifetime:  # Else it would have ended with this run anyway.
        warm.say_unwritable(job.config, error, "nothing stays for later runs")


def _record(job: Job) -> Record:
    base = warm.identity(job.engine, job.spec, job.trace, job.service.kind)
    return Record(naming.session_id(), job.secret, job.service.kind, base)


def _start(job: Job, share: Share, record: Record) -> Server[Any]:
    """A new one. It is written down before, so that whoever finds the record of a start that was killed can clean up."""
    share.session = record.session
    owner = share.owner or naming.owner()
    if share.lifetime or share.private:  # It may stay when the container has ended that this process runs in.
        owner = f"{owner} container={owners.UNKNOWN}"
    labels = {
        naming.SESSION: record.session,
        naming.OWNER: owner,
        naming.SHARED: str(share.directory),
    }
    server = starting.start(job._replace(labels={**job.labels, **labels}))
    try:
        if share.lifetime:
            record = record._replace(footprint=server.footprint(), expires=wall() + share.lifetime)
        share.write(record._replace(ready=True))
    except BaseException:  # Nobody would find it any more.
        with contextlib.suppress(Exception):
            starting.stop(server, record.session)
        raise
    server.share, server.shared = share, not share.private
    return server


def _attach(job: Job, share: Share, record: Record, *, alone: bool) -> Server[Any] | None:
    """The server of a record; None when it is of no use and may be removed."""
    if not record.ready:
        return None  # Whoever was starting it has died over that: else it would still hold the gate.
    imported = starting.import_aside(job.service)
    if alone and share.lifetime and record.base != warm.identity(job.engine, job.spec, job.trace, job.service.kind):
        return None  # The image or program of that name is another one now.
    found = job.engine.find({naming.SESSION: record.session})
    if not found:
        return None
    imported()  # As when it is started.
    try:
        server = _answering(job, found[0], record)
    except Exception:  # Also what knows no port of its own, because somebody has removed a file.
        running = found[0].state().running
        if not alone and running:
            raise
        if running:
            trace.say(
                f"the {job.service.title} of an earlier run does not answer ({found[0]}), so a new one is started"
            )
        return None
    server.share, server.shared, server.fresh = share, True, False
    if alone and share.lifetime and not _is_clean(server, record):
        trace.say(f"the {server.title} of an earlier run was changed as a whole, so a new one is started")
        server.close()
        return None
    return server


def _answering(job: Job, instance: Instance, record: Record) -> Server[Any]:
    """Raises ItestError when it does not answer."""
    address = job.service.address(instance, record.secret)
    deadline = Deadline.after(min(job.timeout, ANSWER_TIMEOUT), job.clock)
    if job.service.asks_to_connect:
        with contextlib.suppress(Exception):  # Why not is told by the check.
            return _connected(job, instance, address)
    check = job.service.readiness(address)
    try:
        check(instance)  # It does in nearly all cases, and then nobody needs to ask whether it lives.
    except NotReady:
        until_ready(check, instance, deadline, subject=f"{job.service.title} ({instance})")
    return _connected(job, instance, address)


def _connected(job: Job, instance: Instance, address: str) -> Server[Any]:
    server: Server[Any] = job.service.connect(instance, address)
    return server


def _is_clean(server: Server[Any], record: Record) -> bool:
    """Whether it is what it was when it was new, once what earlier runs left in it is removed."""
    try:
        server.clear()
        return server.footprint() == record.footprint
    except Exception:
        return False
