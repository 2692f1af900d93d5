"""End a script in one line on Ctrl-C, SIGTERM or SIGUSR2, whatever it is doing.

The process ends within the signal's handler. An exception, as Python's own KeyboardInterrupt, would unwind through
whatever library is at work, and some of them swallow it, or print it as a fault of their own. Nothing is lost by it:
every file is written so that even SIGKILL does no harm, and what must not stay behind is named to `undone`.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

_to_undo: list[Callable[[], Any]] = []


def end_on_signals() -> None:
    """From now on, end this process on SIGNALS with exit code 128 + N; those that are ignored stay ignored."""
    process = os.getpid()

    def end(number: int, frame: Any) -> None:
        if os.getpid() == process:  # else a child that was forked just now, whose parent says it
            while _to_undo:
                with contextlib.suppress(OSError):
                    _to_undo.pop()()
            if os.environ.get("RANK", "0") == "0":
                name = os.path.basename(sys.argv[0])
                os.write(2, f"{name}: ended by {signal.Signals(number).name}; what is done is kept\n".encode())
        os._exit(128 + number)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


@contextlib.contextmanager
def undone(undo: Callable[[], Any]) -> Iterator[None]:
    """Call undo at the end of the block, or when a signal ends the process within it."""
    _to_undo.append(undo)
    try:
        yield
    finally:
        if undo in _to_undo:
            _to_undo.remove(undo)
        undo()
