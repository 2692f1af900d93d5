"""End a script in one line on Ctrl-C, SIGTERM, SIGUSR2 or the end of its terminal, whatever it is doing.

The process ends within the signal's handler. An exception, as Python's own KeyboardInterrupt, would unwind through
whatever library is at work, and some of them swallow it, or print it as a fault of their own. Nothing is lost by it:
every file is written so that even SIGKILL does no harm, and what must not stay behind is undone (runs.undone).

The scripts call this before anything else, and it imports nothing that Python has not loaded: until then, Python
itself answers Ctrl-C, with a traceback. (signal, which wraps _signal, takes longer to load than all of this.)
"""

import _signal
import os
import sys

NAMES = {_signal.SIGINT: "SIGINT", _signal.SIGTERM: "SIGTERM", _signal.SIGUSR2: "SIGUSR2", _signal.SIGHUP: "SIGHUP"}
SIGNALS = tuple(NAMES)

to_undo: list = []  # functions without arguments


def end_on_signals() -> None:
    """From now on, end this process on SIGNALS with exit code 128 + N; those that are ignored stay ignored."""
    process = os.getpid()

    def end(number: int, frame: object) -> None:
        try:
            if os.getpid() == process:  # else a child that was forked just now, whose parent says it
                while to_undo:
                    try:
                        to_undo.pop()()
                    except OSError:
                        continue
                if os.environ.get("RANK", "0") == "0":
                    name = os.path.basename(sys.argv[0])
                    os.write(2, f"{name}: ended by {NAMES[number]}; what is done is kept\n".encode())
        finally:  # the terminal may be gone
            os._exit(128 + number)

    for number in SIGNALS:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, end)
