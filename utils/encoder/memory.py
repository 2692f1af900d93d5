"""Tell when memory has run out, and which options need less of it."""

import argparse
import contextlib
from collections.abc import Iterator

from utils.runs import RunError

# how torch, its libraries, C++ and the system say it; a CPU's is a plain RuntimeError
SIGNS = (
    "out of memory", "not enough memory", "allocate memory", "bad_alloc", "bad allocation", "ALLOC_FAILED",
    "could not create a memory object", "can't start new thread",
)  # fmt: skip


def is_shortage(error: BaseException) -> bool:
    """Tell whether an error says that there is no more memory, of a GPU or of the machine."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in SIGNS)


@contextlib.contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Turn a lack of memory within the block into a RunError: `out of memory: …; …`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RunError) or not is_shortage(error):
            raise
        raise RunError(f"out of memory: {what}; {remedy}") from error


def training(args: argparse.Namespace, at_once: int | None = None) -> tuple[str, str]:
    """Return what needed memory in a training, and the options that halve it without another effective batch.

    args: finetune.py's arguments. at_once: how many texts of args.max_length go through the model together, where
    they are fewer than a batch.
    """
    size, parts = args.batch_size, args.gradient_accumulation
    at_once = min(at_once or size, size)
    if at_once == 1:
        remedy = f"--max-length {max(args.max_length // 2, 1)} takes about half, but is another training (--overwrite)"
    else:
        factor = next(n for n in range(2, size + 1) if size % n == 0 and 2 * size // n <= at_once)
        share = round(at_once * factor / size)
        less = "about half" if share == 2 else f"about 1/{share}"
        remedy = (
            f"--batch-size {size // factor} --gradient-accumulation {parts * factor} takes {less} for the texts and is "
            "the same training: it goes on from the last finished epoch"
        )
    return _texts(at_once, args.max_length), f"{remedy}, or use a device with more"


def evaluation(batch_size: int, max_length: int) -> tuple[str, str]:
    """Return what needed memory in an evaluation, and the option that halves it."""
    if batch_size == 1:
        return _texts(1, max_length), "use a device with more"
    return _texts(batch_size, max_length), f"--batch-size {batch_size // 2} takes about half, for the same scores"


def _texts(batch_size: int, max_length: int) -> str:
    return f"{batch_size} text{'s' * (batch_size > 1)} of up to {max_length} tokens at once were too much"


LOADING = ("there is not enough to begin", "use a smaller model, or a device or job (--mem in the wrappers) with more")
