"""One training of a run at a time, and no evaluation meanwhile; any number of evaluations at once.

    with lock.hold(run, "trained"):                     alone
    with lock.hold(run, "evaluated", shared=True):      with others who evaluate it

What decides is flock on outputs/RUN/.lock: the kernel gives it up when its process ends, however that ends, and it
holds between the machines of a cluster too (NFS, Lustre, GPFS, Ceph), where a lost machine's locks run out. No other
sign is as trustworthy: numbers of processes are used again, and clocks differ. But some file systems, by type or
by mount option, keep flock to one machine, or have none. So each holder writes a line on itself into the file, for
the messages, and there the line of another machine counts, until Slurm says that its job is gone.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from utils.runs import Run, RunError, shown, slurm_job, undone

SECONDS = 2  # to try for: whoever leaves shuts the others out for an instant
LOCAL_TYPES = re.compile("beegfs|9p|fuse")
LOCAL_OPTIONS = re.compile("(nolock|localflock|local_lock=(all|flock)|nobrl)")


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
            return next((_in_words(note) for note in notes if held or not _is_dead(note, path)), None)
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
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            works = True
        except OSError as error:
            works = error.errno in (errno.EAGAIN, errno.EACCES)
            if works and time.monotonic() > until:
                notes = _notes(path)
                _refuse(path, [note for note in notes if not shared or note["work"] == "trained"] or notes)
            if works:
                file.close()
                time.sleep(0.05)
                continue
        if _is_at(file, path):
            against = [note for note in _notes(path) if not shared or note["work"] == "trained"]
            living = [note for note in against if not _is_dead(note, path, works)]
            if living:
                _refuse(path, living)
            return file
        file.close()  # removed just now by whoever left


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


def _is_dead(note: dict[str, Any], path: Path, flock_works: bool = True) -> bool:
    """Tell whether the holder that wrote the note is known to be gone, where its lock is not in the way."""
    if note["host"] == socket.gethostname():
        return flock_works or not Path(f"/proc/{note['pid']}").exists()
    if flock_works and reaches_all_machines(path.resolve(), Path("/proc/self/mountinfo").read_text(encoding="utf-8")):
        return True
    return note["slurm_job"] is not None and _is_gone(note["slurm_job"])


def reaches_all_machines(path: Path, mounts: str) -> bool:
    """Tell whether a lock on path is seen by all machines that have the file. mounts: /proc/self/mountinfo."""
    found = ("", "", "")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        kind, _, options = after.split(maxsplit=2)
        if path.is_relative_to(place) and len(place) >= len(found[0]):
            found = (place, kind, f"{before.split()[5]},{options}")
    _, kind, options = found
    return not LOCAL_TYPES.match(kind) and not any(LOCAL_OPTIONS.fullmatch(option) for option in options.split(","))


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
