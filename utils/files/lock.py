"""One training of a run at a time, and no evaluation meanwhile; any number of evaluations at once.

    with lock.hold(run, "trained"):                     alone
    with lock.hold(run, "evaluated", shared=True):      with others who evaluate it

What decides is flock on outputs/RUN/.lock: the kernel gives it up when its process ends, however that ends, and it
holds between the machines of a cluster too (NFS, Lustre, GPFS, Ceph), where a lost machine's locks run out. No other
sign is as trustworthy: numbers of processes are used again, and clocks differ. But some file systems are mounted so
that flock stays within one machine, or have none. So each holder writes a line on itself into the file, for the
messages, and the line of a job on another machine counts until Slurm says that it is gone. Two machines where somebody
works by hand, on such a file system, don't see each other.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from utils.runs import Run, RunError, shown, slurm_job, undone

SECONDS = 2  # to try for: whoever leaves shuts the others out for an instant


@contextlib.contextmanager
def hold(run: Run, work: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the run while it is worked on: "trained", "evaluated"; RunError that says who holds it, if another does.

    The processes of one torchrun hold it together: the first for all.
    """
    if os.environ.get("RANK", "0") != "0" or (shared and not run.outputs.is_dir()):
        yield
        return
    path = run.outputs / ".lock"
    file = _take(path, shared)
    with file, undone(lambda: _give_back(file, path, shared)):
        if not shared:
            file.truncate(0)
        file.write(json.dumps(_note(work)) + "\n")
        file.flush()
        yield


def trainer_of(run: Run) -> str | None:
    """Return who trains the run just now, in words; None if nobody does."""
    path = run.outputs / ".lock"
    try:
        with open(path, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                held = False
            except BlockingIOError:
                held = True
            notes = [note for note in _notes(path) if note["work"] == "trained"]
            return next((_in_words(note) for note in notes if held or not _is_dead(note)), None)
    except OSError:
        return None


def _take(path: Path, shared: bool) -> TextIO:
    """Open and lock the file; RunError if somebody else holds it."""
    until = time.monotonic() + SECONDS
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "a", encoding="utf-8")  # noqa: SIM115  # NFS asks for one that can be written
        except FileNotFoundError:  # whoever left has just removed the empty folder
            continue
        works = busy = False
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            works = True
        except OSError as error:
            busy = error.errno in (errno.EAGAIN, errno.EACCES)
        notes = _notes(path)
        against = [note for note in notes if not shared or note["work"] == "trained"]
        if busy and time.monotonic() > until:
            _refuse(path, against or notes)
        if not busy and _is_at(file, path):
            if living := [note for note in against if not _is_dead(note, works)]:
                _refuse(path, living)
            return file
        file.close()  # taken, or removed just now by whoever left
        if busy:
            time.sleep(0.05)


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _give_back(file: TextIO, path: Path, shared: bool) -> None:
    """Remove the file, unless others share it: then the last of them does."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if shared or error.errno == errno.EAGAIN:
            return
    with contextlib.suppress(OSError):
        path.unlink()
        path.parent.rmdir()  # if the work has left nothing in it


def _refuse(path: Path, notes: list[dict[str, Any]]) -> None:
    who = _in_words(notes[0]) if notes else "worked on by another process"
    elsewhere = notes and notes[0]["host"] != socket.gethostname()
    gone = f"; if that process is gone for certain, remove {shown(path)}" if elsewhere else ""
    raise RunError(f"{shown(path.parent)}: expected a run that is free, found it being {who}; wait for its end{gone}")


def _note(work: str) -> dict[str, Any]:
    return {
        "work": work,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "slurm_job": slurm_job(),
        "since": datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    }


def _notes(path: Path) -> list[dict[str, Any]]:
    """Return what the holders, the living and the dead, have written on themselves."""
    notes = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # being written
                notes.append(json.loads(line))
    return notes


def _in_words(note: dict[str, Any]) -> str:
    job = f", Slurm job {note['slurm_job']}" if note["slurm_job"] else ""
    return f"{note['work']} on {note['host']} by process {note['pid']}{job}, since {note['since']}"


def _is_dead(note: dict[str, Any], flock_works: bool = True) -> bool:
    """Tell whether the holder that wrote the note is gone, where its lock is not in the way."""
    if note["host"] == socket.gethostname():
        return flock_works or not Path(f"/proc/{note['pid']}").exists()
    return _is_gone(note["slurm_job"]) if note["slurm_job"] else flock_works


def _is_gone(job: str) -> bool:
    """Tell whether Slurm knows that a job does not run; this job's own earlier start, on another node, does not."""
    if job == slurm_job():
        return True
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    if answer.returncode:
        return "Invalid job id" in answer.stderr
    return answer.stdout.strip() in ("", "PENDING")  # ended, or waiting to be started again
