"""Where the files of a run lie, how they are written, and how a run is known again.

A run is one model fine-tuned on one mix of training languages. Its name is MODEL-LANGS, the languages
joined by "-" in the order given, and everything about it lies in two folders of that name:

    outputs/[SUBFOLDER/]MODEL-LANGS/
        train.json                one record per epoch
        run.json                  options, corpus, versions, weights' hash; written last: the run is finished
        predictions/LANG.tsv      one row per test text
        eval/LANG.json            confusion counts, scores, their signature; written last: LANG is evaluated
        cfm.png, errors/LANG.tsv  drawn and listed by post_eval.py
        train.txt, eval.txt       logs of the submit scripts' jobs
        .lock                     who works on the run, while somebody does (utils/files/lock.py)
    models/[SUBFOLDER/]MODEL-LANGS/
        model.safetensors, config.json, tokenizer…, README.md
        checkpoints/              of an unfinished training, with the settings it was started with

Every file is written under a temporary name, flushed to disk and renamed, so that under its own name
it is always whole.
"""

import contextlib
import errno
import fcntl
import glob
import hashlib
import io
import json
import logging
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from utils.files import stop

ROOT = Path(__file__).resolve().parent.parent
PRETRAINED = ROOT / "models" / "pretrained"  # what download_model.py writes: no run's subfolder

LFS_POINTER = b"version https://git-lfs"

# control characters, line ends, marks that change the direction of writing, halves of characters
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class RunError(Exception):
    """A corpus, checkpoint or run that cannot be used: one line with place, fact and remedy."""


DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def disk_fault(path: Path, error: Exception, size: int | None = None) -> RunError | None:
    """Return what to say of an error in writing to path, size bytes if known; None if it is no fault of the disk.

    safetensors and torch write by themselves, and raise errors of their own kinds.
    """
    number = error.errno if isinstance(error, OSError) else None
    if found := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors
        number = int(found[1])
    elif "inline_container.cc" in str(error):  # torch.save, which does not say why
        number = errno.ENOSPC
    if number not in DISK_FAULTS:
        return None
    reason = os.strerror(number)
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return RunError(f"{shown(path)}: expected leave to write or read it, found: {reason}")
    folder = next(folder for folder in path.parents if folder.is_dir())
    needed = "" if size is None else f" for {in_bytes(size)}"
    free = in_bytes(shutil.disk_usage(folder).free)
    return RunError(
        f"{shown(path)}: expected room{needed}, found: {reason}, {free} free on the disk; make room, then type the "
        "same command again"
    )


def in_bytes(size: float) -> str:
    """Return a number of bytes as people read it, as `1.1 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


class Run(NamedTuple):
    """The two folders of one run."""

    name: str
    outputs: Path
    models: Path

    @property
    def checkpoints(self) -> Path:
        return self.models / "checkpoints"

    def predictions(self, eval_lang: str) -> Path:
        return self.outputs / "predictions" / f"{eval_lang}.tsv"

    def scores(self, eval_lang: str) -> Path:
        return self.outputs / "eval" / f"{eval_lang}.json"


def run_paths(model_name: str, train_langs: list[str], subfolder: str = "") -> Run:
    """Return the folders of a run: a pure function of these names, nothing is looked up or made."""
    name = "-".join([model_name, *train_langs])
    return Run(name, ROOT / "outputs" / subfolder / name, ROOT / "models" / subfolder / name)


# ---- files ----


@contextlib.contextmanager
def undone(undo: Callable[[], Any]) -> Iterator[None]:
    """Call undo at the end of the block, or when a signal ends the process within it."""
    stop.to_undo.append(undo)
    try:
        yield
    finally:
        if undo in stop.to_undo:
            stop.to_undo.remove(undo)
        undo()


@contextlib.contextmanager
def whole_file(path: Path, size: int | None = None) -> Iterator[Path]:
    """Give a temporary path to write to; after the block it is flushed to disk and renamed to path, or removed.

    size: bytes that will be written, where known, for the RunError if the disk does not take them. Temporaries
    that dead processes left of the same file are removed.
    """
    try:
        holder, temporary = _new_temporary(path)
        with holder, undone(lambda: temporary.unlink(missing_ok=True)):
            yield temporary
            os.fsync(holder)
            temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        fault = disk_fault(path, error, size)
        if fault is None:
            raise
        raise fault from error
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError), open(left, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its process lives
            left.unlink()


def _new_temporary(path: Path) -> tuple[BinaryIO, Path]:
    """Make an empty temporary file beside path, locked as long as the file returned stays open.

    The lock tells other processes, also on other machines, that its writer lives; a number of the process would
    not: two machines, or two containers, have the same ones.
    """
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        holder = open(temporary, "xb")  # noqa: SIM115
        with contextlib.suppress(OSError):  # a file system without locks: what is left there stays
            fcntl.flock(holder, fcntl.LOCK_EX)
        if temporary.exists():  # else another process took it for one that was left, before it was locked
            return holder, temporary
        holder.close()


def _flush_folder(folder: Path) -> None:
    """Make renames in a folder outlive a power cut, before what relies on them is written or removed."""
    descriptor = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):  # not every file system can
        os.fsync(descriptor)
    os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a file so that under its own name it is always whole; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode()
    with whole_file(path, len(content)) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people: indented, keys in the order given, nan refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file so that under its own name it is always whole, readable as the umask says."""
    with whole_file(target, source.stat().st_size) as temporary:
        shutil.copyfile(source, temporary)


def remove_folder(folder: Path) -> None:
    """Remove a folder and what is in it; of a link to one, as to a larger disk, only what is in it."""
    if not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def follow_umask(folder: Path) -> None:
    """Give a folder's files the permissions that new files have: safetensors writes them for the owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(0o666 & ~umask)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_lfs_pointer(path: Path) -> bool:
    """Tell whether Git LFS has left a pointer in place of a file, as where git-lfs is not installed."""
    if not path.is_file() or path.stat().st_size > 1000:
        return False
    with open(path, "rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def first_line(error: BaseException) -> str:
    """Return what a library's error says, in one line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def one_line(text: str) -> str:
    """Return a text with what would move a terminal's cursor, break the line or not encode as an escape."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shown(path: Path) -> str:
    """Return a path as messages show it: relative to the repository where it lies in it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def shown_from_here(path: Path | str) -> str:
    """Return a path to be typed: relative to the current folder where it lies in it."""
    with contextlib.suppress(FileNotFoundError):  # the current folder was removed
        path = os.path.abspath(path)
        return os.path.relpath(path) if path.startswith(os.getcwd().rstrip("/") + "/") else path
    return str(path)


# ---- scripts ----


def code_version() -> str:
    """Return the commit of this code, ending in -dirty if files were changed since.

    Outside git, and in a folder without a repository of its own, `sources-` and a hash of the files that compute.
    """
    code = Path(__file__).resolve().parent.parent
    if (code / ".git").exists():  # else git would answer for a repository around this folder
        variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # of another one
        # git refuses another user's checkout, unless told that it is meant
        trusted = ["-c", f"safe.directory={code}", "-c", "core.fsmonitor=false"]
        command = ["git", *trusted, "-C", str(code), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True, env=variables).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            pass
    digest = hashlib.sha256()
    for path in sorted([*code.glob("*.py"), *code.glob("utils/**/*.py"), code / "requirements.txt"]):
        digest.update(f"{path.relative_to(code)} {sha256_of(path)}\n".encode())
    return f"sources-{digest.hexdigest()[:12]}"


def slurm_job() -> str | None:
    """Return the number of the job that was submitted for this very work (utils/cluster/job.sh); None elsewhere.

    A terminal may lie within a job too, and SLURM_JOB_ID and its like then tell of that one.
    """
    job = os.environ.get("REGISTER_JOB")
    return job if job and job == os.environ.get("SLURM_JOB_ID") else None


def slurm_tasks() -> int:
    """Return how many times srun starts this script; 1 if srun is not what starts it."""
    try:
        is_task = Path(f"/proc/{os.getppid()}/comm").read_text() == "slurmstepd\n"
    except OSError:  # another user's process that is hidden, as slurmstepd is root's, or one outside of a container
        is_task = True
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) if is_task else 1


def choose_gpu(cpu: bool) -> None:
    """Let this process see one GPU only, unless torchrun started it: with two, Trainer splits batches unasked.

    cpu: let it see none.
    """
    if cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif "LOCAL_RANK" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def run_script(main: Callable[[], int]) -> NoReturn:
    """Run a script's main and leave with its exit code; the only place where errors of use are caught.

    A RunError, and a disk that can't be written to, become one line and exit code 1. A bug keeps its traceback.
    What a terminal's encoding lacks is printed as an escape.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # standard error does so by itself
        sys.stdout.reconfigure(errors="backslashreplace")
    rank = int(os.environ.get("RANK", 0))
    logging.basicConfig(
        format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO if rank == 0 else logging.ERROR
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(to_one_line)
    try:
        try:
            code = main()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a reader who has gone can be told from a fault
        sys.exit(code)
    except RunError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {one_line(str(error))}")
    except OSError as error:
        fault = disk_fault(Path(error.filename), error) if isinstance(error.filename, str) else None
        if error.filename is None and error.errno in DISK_FAULTS:  # every file that is written has a name
            fault = RunError(f"expected room for what is printed, found: {error.strerror}")
            sys.stdout = None  # type: ignore[assignment]  # Python would try again at its end
        if fault is None:
            raise
        sys.exit(f"{Path(sys.argv[0]).name}: {one_line(str(fault))}")


def to_one_line(entry: logging.LogRecord) -> bool:
    """Let what is logged be one line; for a handler's addFilter."""
    entry.msg, entry.args = one_line(entry.getMessage()), None  # a traceback keeps its lines
    return True
