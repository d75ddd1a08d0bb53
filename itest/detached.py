# SPDX-License-Identifier: Apache-2.0
"""Processes of ours that work on when their maker has ended: reapers, and those that keep a state for later runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from itest import naming

READ = (
    # Nothing is imported before the orders have come to their end: a waiting process costs 9 MB and no time.
    "import os, sys\ndata = b''\nwhile chunk := os.read(0, 65536): data += chunk\n"
)
"""The beginning of each one's code: all that its maker writes, to the end, in `data`."""


def calling(module: str) -> str:
    """The code of a process that reads its orders (JSON, with `naming.import_path` under "path") and then has
    `module.main` carry them out."""
    return (
        f"{READ}import json\n"
        "orders = json.loads(data)\n"
        "sys.path += orders['path']\n"  # Behind the standard library: tests may have modules of the same names.
        f"from {module} import main\n"
        "main(orders)\n"
    )


def start(
    code: str,
    *arguments: str,
    stdin: int = subprocess.PIPE,
    environment: Mapping[str, str] | None = None,
    held: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process with this code. It holds the descriptors `held` as long as it lives. Raises OSError."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code, *arguments],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches the whole foreground group; these must outlive it.
        cwd="/",
        env=environment,
        pass_fds=held,
    )


def leave(process: subprocess.Popen[bytes], orders: bytes) -> None:
    """Give it its orders and let it work on after us. Raises OSError where it has died."""
    try:
        _instruct(process, orders)
    finally:
        process.returncode = 0  # Its destructor must not warn about a process that still runs.


def complete(process: subprocess.Popen[bytes], orders: bytes, timeout: float) -> None:
    """Give it its orders and wait until it is done: where it would end with us (`goes_on`).

    Raises OSError where it has died, by `kill_awaited` say, and TimeoutError when it is not done after `timeout` seconds; it is
    killed then, as on Ctrl-C.
    """
    _awaited.add(process)
    if _given_up.is_set():  # After the line above: who gives up sets it first, and then kills what is there.
        process.kill()
    try:
        _instruct(process, orders)
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"it was not done after {timeout:g} s") from None
    finally:
        _awaited.discard(process)
        process.kill()
        process.wait()
    if code:
        raise ChildProcessError(f"the process that was to do it {naming.exit_text(code)}")


def kill_awaited() -> None:
    """Kill what other threads are waiting for, or begin to wait for from now on: Ctrl-C has ended the run."""
    _given_up.set()
    for process in list(_awaited):
        process.kill()


def _instruct(process: subprocess.Popen[bytes], orders: bytes) -> None:
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(orders)


def goes_on() -> bool:
    """Whether what `start` has started works on when this process has ended. Not where that ends its container: it is the main
    command, or of the session of that, as with a shell or `docker run --init` above it. The kernel then kills all that is left
    in there. What `docker exec` runs has a session of its own; 0 is one that began outside of the PID namespace (bwrap)."""
    return not hasattr(os, "getsid") or os.getsid(0) > 1


_awaited: set[subprocess.Popen[bytes]] = set()
_given_up = threading.Event()
