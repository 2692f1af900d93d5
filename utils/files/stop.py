"""Begin a script in this project's own environment; end it in one line on Ctrl-C, SIGTERM, SIGUSR2 or the end of its
terminal, and quietly when nobody reads what it prints any more.

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

# variables by which Python would take other packages than those of requirements.txt, or run them in another way
FOREIGN = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONPLATLIBDIR",
    "PYTHONOPTIMIZE",
    "PYTHONWARNINGS",
    "PYTHONINSPECT",
    "PYTHONDEVMODE",
)
# torchrun's, which sets TORCHELASTIC_RUN_ID with them; another launcher's, or one's own, would be taken for them
TORCHRUNS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")

PACKAGES = ("torch", "transformers", "datasets", "numpy", "pandas", "sklearn", "matplotlib")

to_undo: list = []  # functions without arguments


def end_on_signals() -> None:
    """From now on, end this process on SIGNALS with exit code 128 + N; those that are ignored stay ignored.

    On SIGPIPE too, without a word, if it is the reader of this process's output that has gone.
    """
    process = os.getpid()

    def end(number: int, frame: object) -> None:
        try:
            if os.getpid() == process:  # else a child that was forked just now, whose parent says it
                _undo()
                if os.environ.get("RANK", "0") == "0":
                    name = os.path.basename(sys.argv[0])
                    os.write(2, f"{name}: ended by {NAMES[number]}; what is done is kept\n".encode())
        finally:  # the terminal may be gone
            os._exit(128 + number)

    def end_unread(number: int, frame: object) -> None:
        if os.getpid() == process and _is_unread():  # else a child's pipe or a connection: whoever writes is told
            _undo()
            os._exit(128 + number)

    for number in SIGNALS:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, end)
    _signal.signal(_signal.SIGPIPE, end_unread)
    _open_what_is_closed()
    _leave_foreign_python()
    _name_missing_packages()
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        for name in TORCHRUNS:
            os.environ.pop(name, None)


def _undo() -> None:
    while to_undo:
        try:
            to_undo.pop()()
        except OSError:
            continue


def _is_unread() -> bool:
    """Tell whether standard output or error is a pipe that nobody reads."""
    import select

    output = select.poll()
    for number in (1, 2):
        output.register(number, 0)  # errors are always told
    return any(event & select.POLLERR for _, event in output.poll(0))


def _open_what_is_closed() -> None:
    """Open standard input, output or error that is closed: the next file would get its number, and what is printed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def _name_missing_packages() -> None:
    """End with one line if this Python has not the packages of requirements.txt, or is too old for them."""
    from importlib.util import find_spec

    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing or sys.version_info < (3, 11):
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        there = os.path.exists(os.path.join(root, ".venv", "bin", "activate"))
        what = f"without {', '.join(missing)}" if missing else "older than 3.11"
        how = (
            "source .venv/bin/activate"
            if there
            else "bash -c 'source utils/load_env.sh'  makes .venv; then activate it"
        )
        name = os.path.basename(sys.argv[0])
        sys.exit(f"{name}: {sys.executable} is a Python {what}; type in {root}: {how}")


def _leave_foreign_python() -> None:
    """Begin this process anew, as itself, without FOREIGN, if one of them is set."""
    if any(os.environ.get(name) for name in FOREIGN) and not sys.flags.ignore_environment:
        kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], kept)
