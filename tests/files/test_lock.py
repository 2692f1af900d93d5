"""Two at once: who works on a run is told, who is dead is no obstacle, and nothing is mixed."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import FAST, ROOT, SAMPLE_CORPUS, finish, result, run_of, start

from utils.files import lock
from utils.runs import Run, RunError

TRAINING = ["finetune.py", "--model-name=tiny", "--train-langs=en", "--num-epochs=2", *FAST]
EVALUATION = ["evaluate.py", "--model-name=tiny", "--train-langs=en", "--eval-lang=fr"]


def wait_for(path, process):
    while not path.is_file() and process.poll() is None:
        time.sleep(0.005)


def test_the_second_of_two_trainings_says_who_holds_the_run(shared_project, corpus, monkeypatch):
    training = [*TRAINING, "--num-epochs=2000"]
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("REGISTER_JOB", "17")
    first = start(shared_project, *training, corpus=corpus)
    run = run_of(shared_project)
    wait_for(run.outputs / ".lock", first)
    monkeypatch.delenv("SLURM_JOB_ID")
    for command in (training, [*training, "--overwrite"], EVALUATION):
        out = finish(start(shared_project, *command, corpus=corpus), expect=1)
        assert (
            f"{command[0]}: outputs/tiny-en: expected a run that is free, found it being trained on "
            f"{socket.gethostname()} by process {first.pid}, Slurm job 17, since " in out
        )
        assert out.splitlines()[-1].endswith("wait for its end")
    wait_for(run.outputs / "train.json", first)  # an epoch later, as if nothing had been
    first.send_signal(signal.SIGTERM)
    finish(first, expect=143)
    assert not (run.outputs / ".lock").exists() and list(run.checkpoints.glob("*/hashes.json"))


def test_while_a_run_is_evaluated_it_is_not_trained_anew(shared_project, corpus):
    finish(start(shared_project, *TRAINING, "--subfolder=e", corpus=corpus))
    run = run_of(shared_project, "e")
    before = result(run)
    with lock.hold(run, "evaluated", shared=True):
        out = finish(start(shared_project, *TRAINING, "--subfolder=e", "--overwrite", corpus=corpus), expect=1)
        assert f"found it being evaluated on {socket.gethostname()} by process {os.getpid()}, since" in out
        out = finish(start(shared_project, *TRAINING, "--subfolder=e", corpus=corpus))
        assert "trained already" in out
        finish(start(shared_project, *EVALUATION, "--subfolder=e", corpus=corpus))
        assert (run.outputs / ".lock").is_file()  # the last to leave removes it
    assert not (run.outputs / ".lock").exists()
    assert result(run) == before and run.scores("fr").is_file()


def test_several_processes_of_one_training_share_one_lock(shared_project, corpus):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, *TRAINING, "--subfolder=two", "--overwrite"]
    run = run_of(shared_project, "two")
    process = start(shared_project, *command, corpus=corpus)
    wait_for(run.outputs / ".lock", process)
    out = finish(start(shared_project, *EVALUATION, "--subfolder=two", corpus=corpus), expect=1)
    assert "found it being trained" in out
    finish(process)
    assert (run.outputs / "run.json").is_file() and not (run.outputs / ".lock").exists()


def test_a_grid_leaves_out_what_is_trained_by_hand(shared_project):
    grid = ["bash", "submit_train_jobs.sh", "--local", "--models", "tiny", "--langs", "en", "--subfolder", "hand"]
    environment = {**os.environ, "REGISTER_CORPUS": str(SAMPLE_CORPUS)}
    with lock.hold(run_of(shared_project, "hand"), "trained"):
        done, told = (
            subprocess.run([*grid, *option], cwd=shared_project, env=environment, capture_output=True, text=True)
            for option in ((), ("--status",))
        )
    who = f"trained on {socket.gethostname()} by process {os.getpid()}, since "
    assert done.stderr.startswith(f"train-hand/tiny-en: being {who}") and done.returncode == 0 and not done.stdout
    assert f"hand/tiny-en  epoch 1, {who}" in told.stdout


def test_many_evaluations_at_once_lose_nothing():
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "programs" / "at_once.py", "--rounds=2"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 rounds of 21 processes: 0 results lost, 0 processes ended wrongly, 0 files left\n"


# ---- the dead, and other machines ----


@pytest.fixture
def run(tmp_path) -> Run:
    folder = tmp_path / "outputs" / "tiny-en"
    folder.mkdir(parents=True)
    return Run("tiny-en", folder, tmp_path / "models")


def leave_note(run, **changes):
    note = {"work": "trained", "host": "node7", "pid": 1234, "slurm_job": None, "since": "2026-01-02 03:04:05+01:00"}
    (run.outputs / ".lock").write_text(json.dumps(note | changes) + "\n", encoding="utf-8")


def test_a_killed_process_is_no_obstacle(run):
    code = (
        "import sys, time; from pathlib import Path; from utils import runs; from utils.files import lock\n"
        "folder = Path(sys.argv[1])\n"
        "with lock.hold(runs.Run('tiny-en', folder, folder), 'trained'): print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, run.outputs], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    assert f"process {holder.pid}" in lock.trainer_of(run)
    with pytest.raises(RunError, match=f"by process {holder.pid}, since"), lock.hold(run, "trained"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (run.outputs / ".lock").is_file() and lock.trainer_of(run) is None
    with lock.hold(run, "evaluated", shared=True), lock.hold(run, "evaluated", shared=True):
        pass
    with lock.hold(run, "trained"):
        pass
    assert not run.outputs.exists()  # nothing else was in it


def test_a_note_from_another_machine_counts_until_slurm_says_that_its_job_is_gone(run, monkeypatch):
    leave_note(run)  # by hand: had it lived, it would have kept its lock
    assert lock.trainer_of(run) is None
    leave_note(run, slurm_job="17")
    assert lock.trainer_of(run).startswith("trained on node7 by process 1234, Slurm job 17, since 2026-")
    monkeypatch.setenv("SLURM_JOB_ID", "17")  # a terminal within it, on another node
    with (
        pytest.raises(RunError, match=r"job 17, .* for certain, remove .*/\.lock"),
        lock.hold(run, "trained"),
    ):
        pass
    monkeypatch.setenv("REGISTER_JOB", "17")  # the same job, started again on another node
    with lock.hold(run, "trained"):
        pass


@pytest.mark.parametrize(
    ("answer", "is_gone"),
    [
        ("echo RUNNING", False),
        ("echo PENDING", True),
        (":", True),
        ("echo 'Invalid job id specified' >&2; exit 1", True),
        ("echo 'Unable to contact' >&2; exit 1", False),
    ],
)
def test_what_slurm_says_of_a_job(run, monkeypatch, tmp_path, answer, is_gone):
    (tmp_path / "squeue").write_text(f"#!/bin/bash\n{answer}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    leave_note(run, slurm_job="17")
    assert (lock.trainer_of(run) is None) is is_gone


def test_where_there_is_no_flock_the_note_decides(run, monkeypatch):
    def no_flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_flock)
    leave_note(run)
    with pytest.raises(RunError, match="trained on node7"), lock.hold(run, "trained"):
        pass
    leave_note(run, host=socket.gethostname(), pid=2**22 + 1)  # above the largest there can be
    with lock.hold(run, "trained"):
        pass
    assert not run.outputs.exists()
