"""The files of a run: whole whatever happens, known again by what decided them, held by one training at a time."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import FAST, ROOT, SAMPLE_CORPUS, finish, run_of, start

from utils import runs
from utils.runs import Run, RunError

TRAINING = ["finetune.py", "--model-name=tiny", "--train-langs=en", "--num-epochs=2000", *FAST]


@pytest.fixture
def run(tmp_path) -> Run:
    folder = tmp_path / "outputs" / "tiny-en"
    folder.mkdir(parents=True)
    return Run("tiny-en", folder, tmp_path / "models")


# ---- files ----


def test_a_file_is_whole_or_not_there_and_what_the_dead_left_is_removed(tmp_path):
    target = tmp_path / "folder" / "a[1].json"
    runs.write_json(target, {"é": 1})
    assert target.read_text(encoding="utf-8") == '{\n  "é": 1\n}\n'
    with pytest.raises(ZeroDivisionError), runs.atomic_file(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert list(target.parent.iterdir()) == [target]
    old, young = (target.parent / f".a[1].json.{name}.tmp" for name in ("old", "young"))
    for path, hours in ((old, 25), (young, 23)):
        path.write_text("of a killed process")
        os.utime(path, times=(time.time() - hours * 3600,) * 2)
    with pytest.raises(ValueError):
        runs.write_json(target, float("nan"))
    assert "é" in target.read_text(encoding="utf-8")
    runs.write_text(target, "again")
    assert sorted(target.parent.iterdir()) == sorted([target, young]) and target.read_text() == "again"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (RuntimeError("I/O error: File too large (os error 27)"), True),  # of safetensors
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos"), True),  # of torch
        (OSError(errno.EROFS, "x"), True),
        (PermissionError(errno.EACCES, "x"), True),
        (OSError(errno.ESTALE, "x"), False),
        (KeyError("x"), False),
    ],
)
def test_a_fault_of_the_disk_is_told_as_one(tmp_path, error, told):
    fault = runs.disk_fault(tmp_path / "not" / "there" / "file", error)
    assert "there/file: " in str(fault) if told else fault is None


# ---- records ----

SHAPE = {"name": re.compile("[a-z]+"), "n": int, "share": float, "langs": [str], "files": {str: {"bytes": int}}}
CONTENT = {"name": "ab", "n": 7, "share": 1, "langs": ["en"], "files": {"x": {"bytes": 0}}, "more": None}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""), ({"langs": []}, ""), ({"files": {}}, ""), ({"share": 0.5}, ""), ({"name": "AB"}, "name"),
        ({"name": 7}, "name"), ({"n": -1}, "n"), ({"n": True}, "n"), ({"n": 2**53}, "n"),
        ({"n": 0.5}, "n"),
        ({"n": None}, "n"), ({"share": "x"}, "share"), ({"share": True}, "share"),
        ({"langs": "en"}, "langs"), ({"langs": ["en", 1]}, r"langs\[1\]"),
        ({"files": []}, "files"), ({"files": {"x": {"bytes": "1"}}}, r"files\.x\.bytes"),
        ({"files": {"x": {}}}, r"files\.x\.bytes"), ({"n": ...}, "n"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_shape_is_named_with_the_remedy(tmp_path, changes, told):
    path = tmp_path / "record.json"
    content = {key: value for key, value in (CONTENT | changes).items() if value is not ...}
    path.write_text(json.dumps(content))
    if told:
        with pytest.raises(RunError, match=rf"record.json: .*\b{told}(?!\w).*do this"):
            runs.read_record(path, SHAPE, "do this")
    else:
        assert runs.read_record(path, SHAPE, "do this") == content


OLD = {"seed": 1, "langs": ["en", "fr"], "file": "0" * 64, "batch_size": 16, "gradient_accumulation": 1, "processes": 1}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"batch_size": 4, "gradient_accumulation": 4}, ""),
        ({"batch_size": 8}, "batch_size .*16.*8"),
        ({"batch_size": 8, "gradient_accumulation": 4}, "batch_size .*16.*8.*gradient_accumulation .*1.*4"),
        ({"batch_size": 8, "processes": 2}, "processes .*1.*2"),  # sums are rounded otherwise
        ({"seed": 2, "langs": ["en"]}, "seed .*1.*2.*langs .*en fr.*en"),
        ({"file": "1" * 64, "new": None}, "file .*000.*111"),
        ({"new": 1}, "new .*1"),
    ],
)
def test_settings_that_differ_are_named(run, changes, told):
    if told:
        with pytest.raises(RunError, match=rf"{told}.*--overwrite.*--subfolder"):
            runs.check_same(run, OLD, OLD | changes)
    else:
        runs.check_same(run, OLD, OLD | changes)


# ---- one training at a time ----


def wait_for(path, process):
    while not (path.is_file() and path.read_text()) and process.poll() is None:
        time.sleep(0.005)


def test_the_second_of_two_trainings_says_who_holds_the_run(shared_project, corpus, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("REGISTER_JOB", "17")
    first, run = start(shared_project, *TRAINING, corpus=corpus), run_of(shared_project)
    wait_for(run.outputs / ".lock", first)
    monkeypatch.delenv("SLURM_JOB_ID")
    for command in (TRAINING, [*TRAINING, "--overwrite"]):
        out = finish(start(shared_project, *command, corpus=corpus), expect=1)
        who = (socket.gethostname(), f"process {first.pid}", "job 17")
        assert out.splitlines()[-1].startswith("finetune.py: outputs/tiny-en") and all(one in out for one in who)
    wait_for(run.outputs / "train.json", first)  # an epoch later, as if nothing had been
    grid = ["bash", "submit_train_jobs.sh", "--local", "--models", "tiny", "--langs", "en"]
    environment = {**os.environ, "REGISTER_CORPUS": str(SAMPLE_CORPUS)}
    done, status = (
        subprocess.run([*grid, *option], cwd=shared_project, env=environment, capture_output=True, text=True)
        for option in ((), ("--status",))
    )
    assert who[1] in done.stderr and done.returncode == 0 and not done.stdout
    assert who[1] in status.stdout
    first.send_signal(signal.SIGTERM)
    finish(first, expect=143)
    assert not (run.outputs / ".lock").read_text() and list(run.checkpoints.glob("*/hashes.json"))


HOLD = """
import sys, time; from pathlib import Path; from utils import runs
folder = Path(sys.argv[1])
with runs.lock(runs.Run('tiny-en', folder, folder)): print('held', flush=True); time.sleep(60)
"""


def test_a_killed_process_is_no_obstacle_and_processes_of_one_torchrun_are_none(run, monkeypatch):
    command = [sys.executable, "-c", HOLD, run.outputs]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    assert f"process {holder.pid}" in runs.trained_by(run)
    with pytest.raises(RunError, match=f"process {holder.pid}"), runs.lock(run):
        pass
    with monkeypatch.context() as patch:
        patch.setenv("RANK", "1")
        with runs.lock(run):
            pass
    holder.kill()
    holder.wait()
    assert json.loads((run.outputs / ".lock").read_text())["process"] == holder.pid
    assert runs.trained_by(run) is None
    for _ in range(2):
        with runs.lock(run):
            assert f"process {os.getpid()}" in runs.trained_by(run)
        assert runs.trained_by(run) is None


def leave_note(run, **changes):
    note = {"host": "node7", "process": 1234, "slurm_job": None, "since": "2026-01-02 03:04:05+01:00"}
    (run.outputs / ".lock").write_text(json.dumps(note | changes) + "\n", encoding="utf-8")


def test_a_note_from_another_machine_counts_until_slurm_says_that_its_job_is_gone(run, monkeypatch):
    assert runs.trained_by(run) is None
    leave_note(run)  # by hand: had it lived, it would have kept its lock
    assert runs.trained_by(run) is None
    leave_note(run, slurm_job="17")
    assert all(part in runs.trained_by(run) for part in ("node7", "1234", "job 17", "2026-"))
    monkeypatch.setenv("SLURM_JOB_ID", "17")  # a terminal within it, on another node
    with pytest.raises(RunError, match=r"job 17.*/\.lock"), runs.lock(run):
        pass
    monkeypatch.setenv("REGISTER_JOB", "17")  # the same job, started again on another node
    with runs.lock(run):
        pass


# ---- ends ----


def test_an_error_of_use_is_one_line_and_a_bug_keeps_its_traceback(tmp_path):
    code = "from utils import runs\ndef main(): {}\nruns.run_script(main)"
    for line, expected in (
        ("raise runs.RunError('a\\x1bb')", (1, "-c: a\\x1bb\n")),
        ("open('/proc/x', 'w')", (1, "-c: /proc/x: ")),
        ("return 7", (7, "")),
    ):
        if "/proc" in line and os.geteuid() == 0:
            line = f"raise OSError({errno.EACCES}, 'x', '/proc/x')"
        done = subprocess.run([sys.executable, "-c", code.format(line)], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == expected[0] and done.stderr.startswith(expected[1]), done.stderr
        assert done.stderr.count("\n") == bool(expected[1])
    done = subprocess.run([sys.executable, "-c", code.format("1 / 0")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" in done.stderr


# ---- who runs, and what ----
