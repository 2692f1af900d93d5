"""Where the files of a run are, how they are written, and when a run counts as finished.

A run is one model fine-tuned on one list of training languages. Its name is MODEL-LANGS, the languages joined by "-"
in the order given, and everything about it is in two folders of that name:

    outputs/[SUBFOLDER/]MODEL-LANGS/
        train.json                one record per epoch
        run.json                  options, corpus, versions, hash of the weights; written last: the run is finished
        predictions/LANG.tsv      one row per test text
        eval/LANG.json            confusion counts, scores, their signature; written last: LANG is evaluated
        cfm.png, errors/LANG.tsv, keywords/LANG.tsv   written by post_eval.py
        train.txt, eval.txt       logs of the submit scripts' jobs
        .lock                     held while the run is trained; says by whom
    models/[SUBFOLDER/]MODEL-LANGS/
        model.safetensors, config.json, tokenizer…, README.md
        checkpoints/              of a training that is not finished, with its settings

Every file is written under a temporary name, flushed to disk and renamed, so that a file which has its final name is
complete, however the process ended.
"""

import argparse
import contextlib
import datetime
import errno
import glob
import hashlib
import io
import json
import logging
import math
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parent.parent
PRETRAINED = ROOT / "models" / "pretrained"  # what download_model.py writes: no run's subfolder

LFS_POINTER = b"version https://git-lfs"

# control characters, line ends, marks that change the direction of writing, surrogates
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

NO_PERMISSION = (errno.EROFS, errno.EACCES, errno.EPERM)
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # from file systems that can't lock files
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, *NO_PERMISSION)
ABANDONED = 24 * 3600  # seconds after which a temporary file no longer belongs to a running process

RETRAIN = "finetune.py --overwrite trains it again"

# the part of run.json and of checkpoints/started.json that is read again
FINISHED = {
    "settings": {"processes": int},
    "model_name": str,
    "train_langs": [str],
    "weights_sha256": str,
    "model_files": {str: {"bytes": int, "sha256": str}},
}
STARTED = {
    "settings": {"processes": int}, "start_langs": [str], "start_revision": str, "texts_sha256": str,
    "precision": re.compile("fp32|bf16|fp16"), "devices": [str],
}  # fmt: skip
KINDS = {dict: "an object", list: "a list", str: "a string", int: "a count", float: "a number"}


class RunError(Exception):
    """A corpus, checkpoint or run that cannot be used: one line `where: what is wrong; what to do`."""


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
    """Return the folders of a run: a pure function of these names, which looks up and creates nothing."""
    name = "-".join([model_name, *train_langs])
    return Run(name, ROOT / "outputs" / subfolder / name, ROOT / "models" / subfolder / name)


# ---- files ----


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; after the block, flush it to disk and rename it to path, or remove it.

    Creates the folder. RunError if the disk is full or can't be written to.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        # the rename must survive a power cut before anything that relies on it is written or removed
        descriptor = os.open(path.parent, os.O_RDONLY)
        with contextlib.suppress(OSError):  # not every file system supports it
            os.fsync(descriptor)
        os.close(descriptor)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            with contextlib.suppress(OSError):  # another process may remove it first
                if time.time() - left.stat().st_mtime > ABANDONED:
                    left.unlink()
    except OSError as error:
        raise disk_fault(path, error) or error from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, through atomic_file."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write JSON that people can read: indented, keys in the order given; nan is refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, through atomic_file, with the permissions that the umask gives."""
    with atomic_file(target) as temporary:
        shutil.copyfile(source, temporary)


def remove_folder(folder: Path) -> None:
    """Remove a folder and its content; if it is a link, as to a larger disk, remove the content only."""
    if not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def disk_fault(path: Path, error: Exception) -> RunError | None:
    """Return the message for an error in writing or reading path; None if the error does not come from the disk.

    safetensors and torch write files by themselves and raise errors of their own types.
    """
    number = error.errno if isinstance(error, OSError) else None
    if of_safetensors := re.search(r"\(os error (\d+)\)", str(error)):
        number = int(of_safetensors[1])
    elif "inline_container.cc" in str(error):  # torch.save gives no reason
        number = errno.ENOSPC
    if number not in DISK_FAULTS:
        return None
    if number in NO_PERMISSION:
        return RunError(f"{shown(path)}: no permission to write or read it ({os.strerror(number)})")
    folder = next(folder for folder in path.parents if folder.is_dir())
    return RunError(
        f"{shown(path)}: the disk is full ({os.strerror(number)}, {in_bytes(shutil.disk_usage(folder).free)} free); "
        "make room, then type the same command again"
    )


def fault_of_file(error: OSError) -> RunError | None:
    """Return disk_fault for the file that a system error names; None if it names none."""
    return disk_fault(Path(error.filename), error) if isinstance(error.filename, str) else None


def in_bytes(size: float) -> str:
    """Return a number of bytes in words, as `1.1 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def follow_umask(folder: Path) -> None:
    """Give the files of a folder the permissions of new files: those that safetensors writes are for the owner only."""
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
    """Tell whether a file is only a pointer of Git LFS, as in a clone made without git-lfs."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def read_record(path: Path, shape: Any, remedy: str) -> Any:
    """Read a JSON file that has at least this shape; RunError, ending in the remedy, if it has not or can't be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode()  # otherwise it could not be written again
    except FileNotFoundError:
        raise RunError(f"{shown(path)}: there is no such file; {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{shown(path)}: can't be read as JSON: {first_line(error)}; {remedy}") from error
    if difference := misfit(content, shape):
        raise RunError(f"{shown(path)}: expected {difference}; {remedy}")
    return content


def misfit(content: Any, shape: Any, place: str = "") -> str:
    """Return where content differs from a shape, as `epochs to be a count, found 'x'`; "" if it does not.

    A shape is a type (float: any number), a pattern for a string, a list that holds the shape of its elements, or a
    dict with the shape of each value that is read; {str: shape} allows any keys.
    """
    if isinstance(shape, re.Pattern):
        is_name = isinstance(content, str) and shape.fullmatch(content)
        return "" if is_name else f"{place} to be a name, found {_brief(content)}"
    kind = shape if isinstance(shape, type) else type(shape)
    # beyond 2^53, integers are no longer exact in the JSON of other programs
    fits = type(content) in (kind, int if kind is float else kind) and (kind is not int or 0 <= content < 2**53)
    if not fits:
        return f"{place or 'the file'} to be {KINDS[kind]}, found {_brief(content)}"
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(shape, list):
        parts = [(f"{place}[{index}]", element, shape[0]) for index, element in enumerate(content)]
    elif isinstance(shape, dict):
        under = f"{place}." if place else ""
        absent = [key for key in shape if key is not str and key not in content]
        if absent:
            return f"{under}{absent[0]}, found none: it was written by another version of this tool"
        keys = content if str in shape else shape
        parts = [(f"{under}{key}", content[key], shape.get(str, shape.get(key))) for key in keys]
    return next((found for part in parts if (found := misfit(part[1], part[2], part[0]))), "")


def _brief(content: Any) -> str:
    return KINDS[type(content)] if isinstance(content, dict | list) else repr(content)[:40]


# ---- one training of a run at a time ----


@contextlib.contextmanager
def lock(run: Run) -> Iterator[None]:
    """Lock a run while it is trained; RunError that says who trains it, if another process does.

    The kernel releases the lock when the process ends, in whatever way. On some clusters, a lock is not seen from other
    machines; so the process that holds it also writes into the file who it is, and if that is a job on another machine,
    the lock counts as long as Slurm runs the job. Among the processes of one torchrun, the first holds it for all.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    from filelock import FileLock, Timeout

    path, has_locks = run.outputs / ".lock", True
    held = FileLock(path, fallback_to_soft=False)
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                held.acquire(timeout=2)  # a process that only asks whether it is free holds it for an instant
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                has_locks = False
            if _note_counts(run, has_locks):
                raise RunError(
                    f"{shown(run.outputs)}: is being {_holder(run)}; wait until it has finished (if you are sure that "
                    f"this process no longer exists, remove {shown(path)})"
                )
            since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            note = {"host": socket.gethostname(), "process": os.getpid(), "slurm_job": slurm_job(), "since": since}
            path.write_text(json.dumps(note) + "\n", encoding="utf-8")
        except Timeout:
            raise RunError(f"{shown(run.outputs)}: is being {_holder(run)}; wait until it has finished") from None
        except OSError as error:
            raise disk_fault(path, error) or error from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.write_text("", encoding="utf-8")
                if os.listdir(run.outputs) == [path.name]:  # a training that is refused leaves no folder behind
                    path.unlink()
                    os.removedirs(run.outputs)  # and an empty --subfolder
    finally:
        held.release()


def trained_by(run: Run) -> str | None:
    """Return who is training a run, in words; None if nobody is."""
    from filelock import FileLock, Timeout

    path = run.outputs / ".lock"
    if not path.is_file():
        return None
    try:
        with FileLock(path, timeout=0, fallback_to_soft=False):
            return _holder(run) if _note_counts(run, has_locks=True) else None
    except Timeout:
        return _holder(run)
    except OSError as error:  # a folder that can only be read is reported when something is written
        return _holder(run) if error.errno in NO_LOCKS and _note_counts(run, has_locks=False) else None


def _note(run: Run) -> dict[str, Any]:
    try:
        return json.loads((run.outputs / ".lock").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # nobody has held it yet, or it is being written
        return {}


def _holder(run: Run) -> str:
    note = _note(run)
    if not note:
        return "trained by another process"
    job = f", Slurm job {note['slurm_job']}" if note["slurm_job"] else ""
    return f"trained on {note['host']} (process {note['process']}{job}, since {note['since']})"


def _note_counts(run: Run, has_locks: bool) -> bool:
    """Tell whether the note in a lock file that is free is from a job that still runs on another machine.

    Where files can't be locked, a note also counts if its process exists, or may exist on another machine.
    """
    note = _note(run)
    if not note or (note["slurm_job"] and note["slurm_job"] == slurm_job()):
        return False
    if note["host"] == socket.gethostname():
        return not has_locks and Path(f"/proc/{note['process']}").exists()
    if note["slurm_job"] is None:
        return not has_locks
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={note['slurm_job']}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return True
    if answer.returncode:
        return "Invalid job id" not in answer.stderr
    return answer.stdout.strip() not in ("", "PENDING")  # otherwise it has ended, or is waiting to be restarted


# ---- what decides a training ----


def is_finished(run: Run, settings: dict[str, Any]) -> bool:
    """Tell whether the run is finished; RunError if it was started with other settings, or if its model is gone."""
    earlier = earlier_record(run)
    if earlier:
        # a start model that is gone can't be compared, and a finished run no longer needs it
        known = {} if settings["start_weights"] else {"start_weights": earlier["settings"].get("start_weights")}
        check_same(run, earlier["settings"], settings | known)
    if earlier and (run.outputs / "run.json").is_file():
        check_model(run, earlier, by_hash=False)
        return True
    if (run.models / "model.safetensors").is_file() and not any(run.checkpoints.glob("*")):
        raise RunError(f"{shown(run.outputs)}: run.json is missing, but there is a model in models/; {RETRAIN}")
    return False


def earlier_record(run: Run) -> dict[str, Any] | None:
    """Return the record of a finished run, or of its start if there is a checkpoint to resume from; else None."""
    if (run.outputs / "run.json").is_file():
        return read_record(run.outputs / "run.json", FINISHED, RETRAIN)
    return read_started(run) if any(run.checkpoints.glob("checkpoint-*")) else None


def read_started(run: Run) -> dict[str, Any]:
    """Return what was recorded when the training started."""
    return read_record(run.checkpoints / "started.json", STARTED, "finetune.py --overwrite starts again")


def check_same(run: Run, old: dict[str, Any], new: dict[str, Any]) -> None:
    """RunError that says which settings differ, as `learning_rate was 1e-05, is now 2e-05`."""
    cut = ("batch_size", "gradient_accumulation", "processes")
    products = [math.prod(settings.get(key, 0) for key in cut) for settings in (old, new)]
    # an update is computed from the same texts, however they are divided
    left_out = cut[:2] if products[0] == products[1] else ()
    different = [
        f"{key} was {_phrase(old.get(key))}, is now {_phrase(new.get(key))}"
        for key in old | new
        if old.get(key) != new.get(key) and key not in left_out
    ]
    if different:
        raise RunError(
            f"{shown(run.outputs)}: started with other settings: {'; '.join(different)}. --overwrite starts again, "
            "--subfolder NAME keeps both"
        )


def _phrase(value: Any) -> str:
    text = "not set" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{text[:12]}…" if re.fullmatch("[0-9a-f]{64}", text) else text


def check_names(args: argparse.Namespace, run: Run, record: dict[str, Any]) -> None:
    """RunError if a run's folder holds that of another model or of other languages, as run.json has them.

    Either the folder was renamed or copied, or two lists of languages give the same name, as pt br and pt-br do.
    """
    if (record["model_name"], record["train_langs"]) != (args.model_name, args.train_langs):
        raise RunError(
            f"{shown(run.outputs)}: holds the run of {record['model_name']} on {' '.join(record['train_langs'])}, not "
            f"that of {args.model_name} on {' '.join(args.train_langs)}; was it renamed or copied?"
        )


def describe_model(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and hash of each file that predictions depend on, by its name."""
    paths = sorted(path for path in folder.glob("[!.]*") if path.is_file() and path.name != "README.md")
    return {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in paths}


def check_model(run: Run, record: dict[str, Any], *, by_hash: bool) -> None:
    """RunError if a file of a finished run's model is gone or has changed, by its size and, if asked for, its hash."""
    for name, expected in record["model_files"].items():
        path = run.models / name
        is_same = path.is_file() and expected["bytes"] == path.stat().st_size
        if not is_same or (by_hash and expected["sha256"] != sha256_of(path)):
            wrong = "has changed since the training" if path.is_file() else "is gone"
            raise RunError(f"{shown(path)}: {wrong} ({shown(run.outputs / 'run.json')} has its hash); {RETRAIN}")


def started_by_this_job(run: Run) -> bool:
    """Tell whether this is a restarted Slurm job whose earlier turn started the run."""
    if slurm_job() is None or int(os.environ.get("SLURM_RESTART_COUNT", 0)) == 0:
        return False
    try:
        earlier = earlier_record(run)
    except RunError:  # it is damaged, and will be overwritten
        return False
    return earlier is not None and earlier.get("slurm_job") == slurm_job()


def start_again(run: Run) -> None:
    """Remove an earlier training of this run with its evaluations, and first the file that says it is finished."""
    (run.outputs / "run.json").unlink(missing_ok=True)
    for folder in ("eval", "predictions", "errors", "keywords"):  # scores first: they say "done"
        shutil.rmtree(run.outputs / folder, ignore_errors=True)
    for file in [*run.outputs.glob("cfm*.*"), run.outputs / "train.json"]:
        file.unlink(missing_ok=True)
    remove_folder(run.checkpoints)
    for path in run.models.glob("*"):  # folders in it belong to other runs, if it is also a --subfolder
        if not path.is_dir():
            path.unlink(missing_ok=True)


# ---- text for people ----


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error message."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def one_line(text: str) -> str:
    """Return a text in which characters that break a line, move the cursor or can't be encoded are escaped."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def shown(path: Path) -> str:
    """Return a path as messages show it: relative to the repository if it is inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def shown_from_here(path: Path | str) -> str:
    """Return a path that can be typed: relative to the current folder if it is inside."""
    with contextlib.suppress(FileNotFoundError):  # the current folder was removed
        path = os.path.abspath(path)
        return os.path.relpath(path) if path.startswith(os.getcwd().rstrip("/") + "/") else path
    return str(path)


# ---- scripts ----


def code_version() -> str:
    """Return the commit of this code, with -dirty at the end if files have changed since.

    Without a git repository of its own: `sources-` and a hash of the code.
    """
    code = Path(__file__).resolve().parent.parent
    if (code / ".git").exists():  # otherwise git would answer for a repository around this folder
        variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        # git refuses another user's checkout unless it is declared safe
        trusted = ["-c", f"safe.directory={code}", "-c", "core.fsmonitor=false"]
        command = ["git", *trusted, "-C", str(code), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            return subprocess.run(command, capture_output=True, text=True, check=True, env=variables).stdout.strip()
    digest = hashlib.sha256()
    for path in sorted([*code.glob("*.py"), *code.glob("utils/**/*.py"), code / "requirements.txt"]):
        digest.update(f"{path.relative_to(code)} {sha256_of(path)}\n".encode())
    return f"sources-{digest.hexdigest()[:12]}"


def slurm_job() -> str | None:
    """Return the number of the job that was submitted for this run (utils/cluster/job.sh); None elsewhere.

    A terminal may run within a job too, and SLURM_JOB_ID is then the number of that one.
    """
    job = os.environ.get("REGISTER_JOB")
    return job if job and job == os.environ.get("SLURM_JOB_ID") else None


def slurm_tasks() -> int:
    """Return how many times srun starts this script; 1 if it was not srun that started it."""
    try:
        is_task = Path(f"/proc/{os.getppid()}/comm").read_text() == "slurmstepd\n"
    except OSError:  # slurmstepd is another user's process, which may be hidden, or is outside of a container
        is_task = True
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) if is_task else 1


def run_script(main: Callable[[], int]) -> NoReturn:
    """Run a script's main and exit with its code; the only place that catches errors of use.

    A RunError or a disk that can't be written to becomes one line and exit code 1, Ctrl-C one line and 130. A bug keeps
    its traceback. Characters that the terminal can't encode are printed as escapes.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # standard error does this by itself
        sys.stdout.reconfigure(errors="backslashreplace")
    rank = int(os.environ.get("RANK", 0))
    logging.basicConfig(
        format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO if rank == 0 else logging.ERROR
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(to_one_line)
    script = Path(sys.argv[0]).name
    try:
        try:
            code = main()
        finally:
            sys.stdout.flush()  # here, where a closed pipe can be told from an error
        sys.exit(code)
    except KeyboardInterrupt:
        print(f"{script}: interrupted; finished work is kept", file=sys.stderr, flush=True)
        os._exit(130)
    except RunError as error:
        sys.exit(f"{script}: {one_line(str(error))}")
    except BrokenPipeError:  # the reader has closed the pipe, as head does
        os._exit(141)
    except OSError as error:
        fault = fault_of_file(error)
        if error.filename is None and error.errno in DISK_FAULTS:  # an error about a file names it
            print(f"{script}: can't print: {error.strerror}", file=sys.stderr, flush=True)
            os._exit(1)  # otherwise Python would try again on exit
        if fault is None:
            raise
        sys.exit(f"{script}: {one_line(str(fault))}")


def to_one_line(entry: logging.LogRecord) -> bool:
    """Make a log entry one line; for the addFilter of a handler."""
    entry.msg, entry.args = one_line(entry.getMessage()), None  # tracebacks keep their lines
    return True
