"""The files of a run: whole whatever happens, known again by what decided them, held by one training at a time."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import make_grid
import numpy as np
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
    with pytest.raises(ZeroDivisionError), runs.whole_file(target) as temporary:
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
        (OSError(errno.ENOSPC, "x"), "the disk is full"),
        (OSError(errno.EDQUOT, "x"), "the disk is full"),
        (RuntimeError("I/O error: File too large (os error 27)"), "the disk is full"),  # of safetensors
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos"), "the disk is full"),  # of torch
        (OSError(errno.EROFS, "x"), "no permission"),
        (PermissionError(errno.EACCES, "x"), "no permission"),
        (OSError(errno.ESTALE, "x"), ""),
        (KeyError("x"), ""),
    ],
)
def test_a_fault_of_the_disk_is_told_as_one(tmp_path, error, told):
    fault = runs.disk_fault(tmp_path / "not" / "there" / "file", error)
    assert (told in str(fault) and "there/file: " in str(fault)) if told else fault is None


def test_sizes_and_paths_are_as_people_read_them(monkeypatch):
    sizes = [runs.in_bytes(size) for size in (999, 1000, 33_600_000, 1.14e9, 2e12)]
    assert sizes == ["999 bytes", "1 kB", "34 MB", "1.1 GB", "2000.0 GB"]
    assert (runs.shown(runs.ROOT / "models" / "x"), runs.shown(Path("/x"))) == ("models/x", "/x")
    monkeypatch.chdir(ROOT / "tests")
    assert (runs.shown_from_here("figures"), runs.shown_from_here(ROOT)) == ("figures", str(ROOT))
    assert runs.one_line("a\x1b[31m\n\u202eb é") == "a\\x1b[31m\\n\\u202eb é"
    assert [runs.first_line(ValueError(text)) for text in ("\na\nb", "")] == ["a", "ValueError"]


# ---- records ----

SHAPE = {"name": re.compile("[a-z]+"), "n": int, "share": float, "langs": [str], "files": {str: {"bytes": int}}}
CONTENT = {"name": "ab", "n": 7, "share": 1, "langs": ["en"], "files": {"x": {"bytes": 0}}, "more": None}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""), ({"langs": []}, ""), ({"files": {}}, ""), ({"share": 0.5}, ""), ({"name": "AB"}, "name"),
        ({"name": 7}, "name"), ({"n": -1}, "n to be a count"), ({"n": True}, "n"), ({"n": 2**53}, "n"),
        ({"n": 0.5}, "n"),
        ({"n": None}, "n"), ({"share": "x"}, "share to be a number"), ({"share": True}, "share"),
        ({"langs": "en"}, "langs to be a list"), ({"langs": ["en", 1]}, r"langs\[1\] to be a string"),
        ({"files": []}, "files to be an object"), ({"files": {"x": {"bytes": "1"}}}, r"files\.x\.bytes"),
        ({"files": {"x": {}}}, r"files\.x\.bytes, found none.*another version"), ({"n": ...}, "n, found none"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_shape_is_named_with_the_remedy(tmp_path, changes, told):
    path = tmp_path / "record.json"
    content = {key: value for key, value in (CONTENT | changes).items() if value is not ...}
    path.write_text(json.dumps(content))
    if told:
        with pytest.raises(RunError, match=f"record.json: expected {told}.*; do this"):
            runs.read_record(path, SHAPE, "do this")
    else:
        assert runs.read_record(path, SHAPE, "do this") == content


def test_a_record_that_is_not_there_or_no_object_is_told(tmp_path):
    with pytest.raises(RunError, match="no such file; do this"):
        runs.read_record(tmp_path / "x.json", {}, "do this")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(RunError, match="expected the file to be an object, found a list; do this"):
        runs.read_record(tmp_path / "x.json", {}, "do this")


OLD = {"seed": 1, "langs": ["en", "fr"], "file": "0" * 64, "batch_size": 16, "gradient_accumulation": 1, "processes": 1}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"batch_size": 4, "gradient_accumulation": 4}, ""),
        ({"batch_size": 8}, "batch_size was 16, is now 8"),
        ({"batch_size": 8, "gradient_accumulation": 4}, "is now 8; gradient_accumulation was 1, is now 4"),
        ({"batch_size": 8, "processes": 2}, "processes was 1, is now 2"),  # sums are rounded otherwise
        ({"seed": 2, "langs": ["en"]}, "seed was 1, is now 2; langs was en fr, is now en"),
        ({"file": "1" * 64, "new": None}, "file was 000000000000…, is now 111111111111…"),
        ({"new": 1}, "new was not set, is now 1"),
    ],
)
def test_settings_that_differ_are_named(run, changes, told):
    if told:
        with pytest.raises(RunError, match=rf"{told}\. --overwrite.*--subfolder"):
            runs.check_same(run, OLD, OLD | changes)
    else:
        runs.check_same(run, OLD, OLD | changes)


def test_a_renamed_run_is_told(run):
    runs.check_names(
        Namespace(model_name="a", train_langs=["pt-br"]), run, {"model_name": "a", "train_langs": ["pt-br"]}
    )
    for other in ({"model_name": "b", "train_langs": ["pt-br"]}, {"model_name": "a", "train_langs": ["pt", "br"]}):
        with pytest.raises(
            RunError, match=f"holds the run of {other['model_name']} on {' '.join(other['train_langs'])}"
        ):
            runs.check_names(Namespace(model_name="a", train_langs=["pt-br"]), run, other)


def test_only_the_job_that_began_a_run_goes_on_with_it_in_spite_of_overwrite(run, monkeypatch):
    record = {
        "settings": {"processes": 1},
        "model_name": "a",
        "train_langs": [],
        "weights_sha256": "",
        "model_files": {},
    }
    runs.write_json(run.outputs / "run.json", record | {"slurm_job": "17"})
    for job, restarts, expected in (("17", "1", True), ("17", "0", False), ("18", "1", False)):
        for name in ("SLURM_JOB_ID", "REGISTER_JOB"):
            monkeypatch.setenv(name, job)
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
        assert runs.started_by_this_job(run) == expected
    monkeypatch.setenv("REGISTER_JOB", "17")  # a terminal within another job
    assert runs.slurm_job() is None and not runs.started_by_this_job(run)


def test_starting_again_leaves_nothing_of_what_was_but_the_logs_and_other_runs(run):
    names = ["run.json", "train.json", "cfm.png", "cfm-12.pdf", "eval/fr.json", "predictions/fr.tsv", "errors/fr.tsv"]
    for path in [
        *(run.outputs / name for name in [*names, "train.txt"]),
        run.checkpoints / "x",
        run.models / "x" / "y",
    ]:
        runs.write_text(path, "")
    runs.write_text(run.models / "model.safetensors", "")
    runs.start_again(run)
    assert [path.name for path in run.outputs.iterdir()] == ["train.txt"]
    assert [path.name for path in run.models.iterdir()] == ["x"]


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
        who = f"trained on {socket.gethostname()} (process {first.pid}, Slurm job 17, since "
        assert f"finetune.py: outputs/tiny-en is being {who}" in out and out.splitlines()[-1].endswith(
            "; wait until it has finished"
        )
    wait_for(run.outputs / "train.json", first)  # an epoch later, as if nothing had been
    grid = ["bash", "submit_train_jobs.sh", "--local", "--models", "tiny", "--langs", "en"]
    environment = {**os.environ, "REGISTER_CORPUS": str(SAMPLE_CORPUS)}
    done, status = (
        subprocess.run([*grid, *option], cwd=shared_project, env=environment, capture_output=True, text=True)
        for option in ((), ("--status",))
    )
    assert who in done.stderr and done.returncode == 0 and not done.stdout
    assert who in status.stdout
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
    assert f"(process {holder.pid}, since" in runs.trained_by(run)
    with pytest.raises(RunError, match=rf"\(process {holder.pid}, since"), runs.lock(run):
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
            assert f"process {os.getpid()}," in runs.trained_by(run)
        assert runs.trained_by(run) is None


def leave_note(run, **changes):
    note = {"host": "node7", "process": 1234, "slurm_job": None, "since": "2026-01-02 03:04:05+01:00"}
    (run.outputs / ".lock").write_text(json.dumps(note | changes) + "\n", encoding="utf-8")


def test_a_note_from_another_machine_counts_until_slurm_says_that_its_job_is_gone(run, monkeypatch):
    assert runs.trained_by(run) is None
    leave_note(run)  # by hand: had it lived, it would have kept its lock
    assert runs.trained_by(run) is None
    leave_note(run, slurm_job="17")
    assert runs.trained_by(run).startswith("trained on node7 (process 1234, Slurm job 17, since 2026-")
    monkeypatch.setenv("SLURM_JOB_ID", "17")  # a terminal within it, on another node
    with pytest.raises(RunError, match=r"job 17, .* for certain, remove .*/\.lock"), runs.lock(run):
        pass
    monkeypatch.setenv("REGISTER_JOB", "17")  # the same job, started again on another node
    with runs.lock(run):
        pass


@pytest.mark.parametrize(
    ("answer", "is_gone"),
    [
        ("echo RUNNING", False), ("echo PENDING", True), (":", True),
        ("echo 'Invalid job id specified' >&2; exit 1", True), ("echo 'Unable to contact' >&2; exit 1", False),
    ],
)  # fmt: skip
def test_what_slurm_says_of_a_job(run, monkeypatch, tmp_path, answer, is_gone):
    (tmp_path / "squeue").write_text(f'#!/bin/bash\n[[ "$*" == *=17 ]] || exit 9\n{answer}\n')
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    leave_note(run, slurm_job="17")
    assert (runs.trained_by(run) is None) is is_gone


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_where_files_cannot_be_locked_the_note_decides(run, monkeypatch, number):
    def no_flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_flock)
    for note in ({}, {"host": socket.gethostname(), "process": os.getpid()}):
        leave_note(run, **note)
        assert runs.trained_by(run)
        with pytest.raises(RunError, match="is being trained on"), runs.lock(run):
            pass
    leave_note(run, host=socket.gethostname(), process=2**22 + 1)  # above the largest there can be
    assert runs.trained_by(run) is None
    with runs.lock(run):
        assert runs.trained_by(run)
    assert runs.trained_by(run) is None


def test_many_evaluations_at_once_lose_nothing():
    program = [sys.executable, ROOT / "tests" / "programs" / "at_once.py", "--rounds=2"]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 rounds of 21 processes: 0 results lost, 0 processes ended wrongly, 0 files left\n"


# ---- ends ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP])
def test_a_signal_before_a_training_step_leaves_nothing(shared_project, number):
    process = start(shared_project, *TRAINING, "--subfolder=signal")
    while (
        "libtorch_cpu" not in Path(f"/proc/{process.pid}/maps").read_text()
    ):  # the imports take some seconds from here
        time.sleep(0.01)
    process.send_signal(number)
    out = finish(process, expect=130 if number == signal.SIGINT else -number)
    told = [line for line in out.splitlines() if not line[:2].isdigit()]  # those of the log begin with the time
    assert told == ["finetune.py: interrupted; what is done is kept"] * (number == signal.SIGINT)
    assert not list((shared_project / "models" / "signal").rglob("*"))
    assert {path.name for path in (shared_project / "outputs" / "signal").rglob("*")} <= {"tiny-en", ".lock"}


def test_a_killed_drawing_process_is_told_in_one_line(shared_project):
    for i in range(8):
        folder = shared_project / "outputs" / "grid" / f"tiny-x{i}"
        make_grid.make_run(folder, "tiny", f"x{i}", make_grid.LANGS, 60, np.random.default_rng(0))
    process = start(shared_project, "post_eval.py", "--base-dir=outputs/grid", "--jobs=2", "--ignore-tve")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    drawn = shared_project / "outputs" / "grid" / "tiny-x0" / "cfm.png"
    while not drawn.exists() and process.poll() is None:
        time.sleep(0.005)
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    out = finish(process, expect=1)
    assert "Traceback" not in out and out.splitlines()[-1].startswith("post_eval.py: a process that drew was killed")


def bash(project, command, **variables):
    """Run a line of bash in the project's folder, $PYTHON and the corpus at hand; its exit code, and both streams."""
    of_tests = {
        "PYTHON": sys.executable,
        "PYTHONUNBUFFERED": "",
        "REGISTER_CORPUS": str(SAMPLE_CORPUS),
        "HF_HUB_OFFLINE": "1",
    }
    environment = {**os.environ, **of_tests, **variables}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=project, env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_reader_who_has_seen_enough_ends_an_evaluation_quietly(shared_project):
    names = "--model-name=tiny --train-langs=en --subfolder=read --threads=1"
    code, _, err = bash(shared_project, f"$PYTHON finetune.py {names} --num-epochs=1 --max-length=32 --precision=fp32")
    assert code == 0, err
    code, out, err = bash(shared_project, f"$PYTHON evaluate.py {names} --eval-lang fr en ru sv | head -n1")
    assert code == 141 and out.startswith("fr  ") and "not evaluated" not in err and "Traceback" not in err, err
    folder = run_of(shared_project, "read").outputs
    done = [json.loads(path.read_text())["eval_lang"] for path in (folder / "eval").iterdir()]
    assert "fr" in done and not list(folder.rglob("*.tmp"))
    code, out, err = bash(shared_project, f"$PYTHON evaluate.py {names} --eval-lang fr en ru sv")
    assert code == 0 and "fr: evaluated already" in err
    assert sorted(path.stem for path in (folder / "eval").iterdir()) == ["en", "fr", "ru", "sv"]


@pytest.mark.parametrize("script", ["finetune.py --help", "utils/audit.py"])
def test_nothing_is_said_to_a_reader_who_has_gone(shared_project, script):
    assert bash(shared_project, f"$PYTHON {script} | true") == (141, "", "")


def test_a_full_device_is_told_in_one_line(shared_project):
    code, _, err = bash(shared_project, "$PYTHON utils/audit.py > /dev/full")
    assert (code, err) == (1, "audit.py: can't print: No space left on device\n")


def test_an_error_of_use_is_one_line_and_a_bug_keeps_its_traceback(tmp_path):
    code = "from utils import runs\ndef main(): {}\nruns.run_script(main)"
    for line, expected in (
        ("raise runs.RunError('a\\x1bb')", (1, "-c: a\\x1bb\n")),
        ("open('/proc/x', 'w')", (1, "-c: /proc/x: no permission")),
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


def test_a_parent_that_is_hidden_or_outside_is_no_fault(monkeypatch):
    monkeypatch.setattr(os, "getppid", lambda: 0)  # the first process of a container
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    assert runs.slurm_tasks() == 1
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")  # Slurm's own process is another user's, and may be hidden
    assert runs.slurm_tasks() == 2


def git(folder, *words):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def code_version_of(project, **variables):
    code = "import sys; sys.path.insert(0, '.'); from utils import runs; print(runs.code_version())"
    environment = {**os.environ, **variables}
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_these_sources_and_of_no_other_repository(project):
    alone = code_version_of(project)
    git(project.parent, "init", "-q")
    git(project.parent, "commit", "-q", "--allow-empty", "-m", "x")
    assert code_version_of(project) == alone and alone.startswith("sources-") and len(alone) == 20
    with open(project / "finetune.py", "a") as file:
        file.write("# changed\n")
    assert code_version_of(project) != alone
    shutil.rmtree(project / ".venv")
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "x")
    commit = git(project, "rev-parse", "--short=12", "HEAD")
    assert code_version_of(project, GIT_DIR=str(project.parent / ".git")).removesuffix("-dirty") == commit
    if os.geteuid() == 0:  # another user's checkout
        for path in [project, project / ".git", *project.rglob("*")]:
            os.chown(path, 65534, 65534, follow_symlinks=False)
        assert code_version_of(project).removesuffix("-dirty") == commit
