"""Where the files of a run lie, how they are written, and how a run is known again.

A run is one model fine-tuned on one list of training languages. Its name is MODEL-LANGS, the languages joined by "-"
in the order given, and everything about it lies in two folders of that name:

    outputs/[SUBFOLDER/]MODEL-LANGS/
        train.json                one record per epoch
        run.json                  options, corpus, versions, weights' hash; written last: the run is finished
        predictions/LANG.tsv      one row per test text
        eval/LANG.json            confusion counts, scores, their signature; written last: LANG is evaluated
        cfm.png, errors/LANG.tsv  drawn and listed by post_eval.py
        train.txt, eval.txt       logs of the submit scripts' jobs
        .lock                     held while the run is trained, and who does
    models/[SUBFOLDER/]MODEL-LANGS/
        model.safetensors, config.json, tokenizer…, README.md
        checkpoints/              of an unfinished training, with the settings it was started with

Every file is written under a temporary name, flushed to disk and renamed, so that under its own name it is always
whole, however a process ends.
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

# control characters, line ends, marks that change the direction of writing, halves of characters
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

NO_PERMISSION = (errno.EROFS, errno.EACCES, errno.EPERM)
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of file systems of clusters that can't lock files
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, *NO_PERMISSION)
ABANDONED = 24 * 3600  # seconds after which a temporary file is no living process's

RETRAIN = "finetune.py --overwrite trains it again"

# what is read of run.json and of checkpoints/started.json
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
    """Return the folders of a run: a pure function of these names, nothing is looked up or made."""
    name = "-".join([model_name, *train_langs])
    return Run(name, ROOT / "outputs" / subfolder / name, ROOT / "models" / subfolder / name)


# ---- files ----


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; after the block it is flushed to disk and renamed to path, or removed.

    Makes the folder. RunError if the disk does not take it.
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
        # the rename must outlive a power cut before what relies on it is written or removed
        descriptor = os.open(path.parent, os.O_RDONLY)
        with contextlib.suppress(OSError):  # not every file system can
            os.fsync(descriptor)
        os.close(descriptor)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            with contextlib.suppress(OSError):  # another process removes it too
                if time.time() - left.stat().st_mtime > ABANDONED:
                    left.unlink()
    except OSError as error:
        raise disk_fault(path, error) or error from error


def write_text(path: Path, text: str) -> None:
    """Write a file so that under its own name it is always whole; makes the folder."""
    with whole_file(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people: indented, keys in the order given, nan refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file so that under its own name it is always whole, readable as the umask says."""
    with whole_file(target) as temporary:
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


def disk_fault(path: Path, error: Exception) -> RunError | None:
    """Return what to say of an error in writing or reading path; None if it is no fault of the disk.

    safetensors and torch write by themselves, and raise errors of their own kinds.
    """
    number = error.errno if isinstance(error, OSError) else None
    if of_safetensors := re.search(r"\(os error (\d+)\)", str(error)):
        number = int(of_safetensors[1])
    elif "inline_container.cc" in str(error):  # torch.save does not say why
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
    """Return disk_fault of the file that the system's error names; None if it names none."""
    return disk_fault(Path(error.filename), error) if isinstance(error.filename, str) else None


def in_bytes(size: float) -> str:
    """Return a number of bytes as people read it, as `1.1 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


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
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def read_record(path: Path, shape: Any, remedy: str) -> Any:
    """Read a JSON file that has this shape, and maybe more; RunError with the remedy if it is not so, or not whole."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode()  # else it could not be written again
    except FileNotFoundError:
        raise RunError(f"{shown(path)}: there is no such file; {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{shown(path)}: can't be read as JSON: {first_line(error)}; {remedy}") from error
    if difference := misfit(content, shape):
        raise RunError(f"{shown(path)}: expected {difference}; {remedy}")
    return content


def misfit(content: Any, shape: Any, place: str = "") -> str:
    """Return where content differs from a shape, as `epochs to be a count, found 'x'`; "" if it does not.

    A shape is a type (float: any number), a pattern that a string matches, a list with the shape of its elements, or
    an object with the shape of each value that is read; {str: shape} is an object with any keys.
    """
    if isinstance(shape, re.Pattern):
        is_name = isinstance(content, str) and shape.fullmatch(content)
        return "" if is_name else f"{place} to be a name, found {_brief(content)}"
    kind = shape if isinstance(shape, type) else type(shape)
    # beyond 2^53, whole numbers are no longer exact in other programs' JSON
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
    """Hold a run while it is trained; RunError that says who holds it, if another process does.

    The kernel gives the lock up when its process ends, however that ends. Some file systems of clusters keep locks
    within one machine; so its holder writes a note on itself into the file, and a note of a job on another machine
    counts for as long as Slurm runs that job. Of the processes of one torchrun, the first holds it for all.
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
                held.acquire(timeout=2)  # who only asks whether it is free holds it for an instant
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                has_locks = False
            if _note_counts(run, has_locks):
                raise RunError(
                    f"{shown(run.outputs)} is being {_holder(run)}; wait until it has finished (if that process is "
                    f"gone for certain, remove {shown(path)})"
                )
            since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            note = {"host": socket.gethostname(), "process": os.getpid(), "slurm_job": slurm_job(), "since": since}
            path.write_text(json.dumps(note) + "\n", encoding="utf-8")
        except Timeout:
            raise RunError(f"{shown(run.outputs)} is being {_holder(run)}; wait until it has finished") from None
        except OSError as error:
            raise disk_fault(path, error) or error from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.write_text("", encoding="utf-8")
                if os.listdir(run.outputs) == [path.name]:  # what was refused leaves no folder behind
                    path.unlink()
                    run.outputs.rmdir()
    finally:
        held.release()


def trained_by(run: Run) -> str | None:
    """Return who trains a run just now, in words; None if nobody does."""
    from filelock import FileLock, Timeout

    path = run.outputs / ".lock"
    if not path.is_file():
        return None
    try:
        with FileLock(path, timeout=0, fallback_to_soft=False):
            return _holder(run) if _note_counts(run, has_locks=True) else None
    except Timeout:
        return _holder(run)
    except OSError as error:  # else a folder that can only be read: whoever trains would be told
        return _holder(run) if error.errno in NO_LOCKS and _note_counts(run, has_locks=False) else None


def _note(run: Run) -> dict[str, Any]:
    try:
        return json.loads((run.outputs / ".lock").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # nobody has held it, or is just writing
        return {}


def _holder(run: Run) -> str:
    note = _note(run)
    if not note:
        return "trained by another process"
    job = f", Slurm job {note['slurm_job']}" if note["slurm_job"] else ""
    return f"trained on {note['host']} (process {note['process']}{job}, since {note['since']})"


def _note_counts(run: Run, has_locks: bool) -> bool:
    """Tell whether the note in a lock file that is free is that of a job which runs on another machine all the same.

    Where files can't be locked, it counts too where its process lives, or may live on another machine.
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
    return answer.stdout.strip() not in ("", "PENDING")  # it has ended, or waits to be started again


# ---- what decides a training ----


def is_finished(run: Run, settings: dict[str, Any]) -> bool:
    """Tell whether the run is trained; RunError if it was started with other settings, or if its model is gone."""
    earlier = earlier_record(run)
    if earlier:
        # a start model that is not there any more can't be compared, and a finished training needs it no more
        known = {} if settings["start_weights"] else {"start_weights": earlier["settings"].get("start_weights")}
        check_same(run, earlier["settings"], settings | known)
    if earlier and (run.outputs / "run.json").is_file():
        check_model(run, earlier, by_hash=False)
        return True
    if (run.models / "model.safetensors").is_file() and not any(run.checkpoints.glob("*")):
        raise RunError(f"{shown(run.outputs)}: run.json is missing, but there is a model in models/; {RETRAIN}")
    return False


def earlier_record(run: Run) -> dict[str, Any] | None:
    """Return the record of the run's training, or of its start if there is something to go on from; else None."""
    if (run.outputs / "run.json").is_file():
        return read_record(run.outputs / "run.json", FINISHED, RETRAIN)
    return read_started(run) if any(run.checkpoints.glob("checkpoint-*")) else None


def read_started(run: Run) -> dict[str, Any]:
    """Return the record of a training's start."""
    return read_record(run.checkpoints / "started.json", STARTED, "finetune.py --overwrite starts again")


def check_same(run: Run, old: dict[str, Any], new: dict[str, Any]) -> None:
    """RunError that says which settings differ, as `learning_rate was 1e-05, is now 2e-05`."""
    cut = ("batch_size", "gradient_accumulation", "processes")
    products = [math.prod(settings.get(key, 0) for key in cut) for settings in (old, new)]
    # the same texts make an update, however it is cut
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

    The folder was renamed or copied, or two lists of languages have one name: pt and br, and pt-br.
    """
    if (record["model_name"], record["train_langs"]) != (args.model_name, args.train_langs):
        raise RunError(
            f"{shown(run.outputs)}: holds the run of {record['model_name']} on {' '.join(record['train_langs'])}, not "
            f"that of {args.model_name} on {' '.join(args.train_langs)}; was it renamed or copied?"
        )


def describe_model(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and hash of each file that decides what a model answers, by its name."""
    paths = sorted(path for path in folder.glob("[!.]*") if path.is_file() and path.name != "README.md")
    return {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in paths}


def check_model(run: Run, record: dict[str, Any], *, by_hash: bool) -> None:
    """RunError if a file of a finished run's model is gone or not the one that was trained, by size or by hash too."""
    for name, expected in record["model_files"].items():
        path = run.models / name
        is_same = path.is_file() and expected["bytes"] == path.stat().st_size
        if not is_same or (by_hash and expected["sha256"] != sha256_of(path)):
            wrong = "not the file that was trained" if path.is_file() else "is gone"
            raise RunError(f"{shown(path)}: {wrong}, says {shown(run.outputs / 'run.json')}; {RETRAIN}")


def started_by_this_job(run: Run) -> bool:
    """Tell whether this is a Slurm job started again, and the run was started by its earlier turn."""
    if slurm_job() is None or int(os.environ.get("SLURM_RESTART_COUNT", 0)) == 0:
        return False
    try:
        earlier = earlier_record(run)
    except RunError:  # it is damaged, and to be overwritten
        return False
    return earlier is not None and earlier.get("slurm_job") == slurm_job()


def start_again(run: Run) -> None:
    """Remove all that an earlier training of this run left, its evaluations too; what says "finished" goes first."""
    (run.outputs / "run.json").unlink(missing_ok=True)
    for folder in ("eval", "predictions", "errors"):  # scores first: they say "done"
        shutil.rmtree(run.outputs / folder, ignore_errors=True)
    for file in [*run.outputs.glob("cfm*.*"), run.outputs / "train.json"]:
        file.unlink(missing_ok=True)
    remove_folder(run.checkpoints)
    for path in run.models.glob("*"):  # folders in it are other runs', if it is a --subfolder too
        if not path.is_dir():
            path.unlink(missing_ok=True)


# ---- text for people ----


def first_line(error: BaseException) -> str:
    """Return what a library's error says, in one line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def one_line(text: str) -> str:
    """Return a text with what would move a terminal's cursor, break the line or not encode as an escape."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


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
        variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        # git refuses another user's checkout, unless told that it is meant
        trusted = ["-c", f"safe.directory={code}", "-c", "core.fsmonitor=false"]
        command = ["git", *trusted, "-C", str(code), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            return subprocess.run(command, capture_output=True, text=True, check=True, env=variables).stdout.strip()
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


def run_script(main: Callable[[], int]) -> NoReturn:
    """Run a script's main and leave with its exit code; the only place where errors of use are caught.

    A RunError, and a disk that can't be written to, become one line and exit code 1, Ctrl-C one line and 130. A bug
    keeps its traceback. What a terminal's encoding lacks is printed as an escape.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # standard error does so by itself
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
            sys.stdout.flush()  # here, where a reader who has gone can be told from a fault
        sys.exit(code)
    except KeyboardInterrupt:
        print(f"{script}: interrupted; what is done is kept", file=sys.stderr, flush=True)
        os._exit(130)
    except RunError as error:
        sys.exit(f"{script}: {one_line(str(error))}")
    except BrokenPipeError:  # whoever read what is printed has seen enough, as head does
        os._exit(141)
    except OSError as error:
        fault = fault_of_file(error)
        if error.filename is None and error.errno in DISK_FAULTS:  # every file that is written has a name
            print(f"{script}: can't print: {error.strerror}", file=sys.stderr, flush=True)
            os._exit(1)  # Python would try again at its end
        if fault is None:
            raise
        sys.exit(f"{script}: {one_line(str(fault))}")


def to_one_line(entry: logging.LogRecord) -> bool:
    """Let what is logged be one line; for a handler's addFilter."""
    entry.msg, entry.args = one_line(entry.getMessage()), None  # a traceback keeps its lines
    return True
