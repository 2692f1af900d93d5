"""The shell scripts: a grid on this machine, single runs by hand, the environment they make."""

import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE_CORPUS

QUICK = ["--num-epochs=1", "--max-length=16"]


def bash(
    project: Path, *command: str, cwd: Path | None = None, corpus: Path = SAMPLE_CORPUS
) -> subprocess.CompletedProcess:
    environment = {**os.environ, "REGISTER_CORPUS": str(corpus), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        ["bash", *command], cwd=cwd or project, env=environment, capture_output=True, text=True, timeout=300
    )


def evaluated_langs(outputs: Path) -> list[str]:
    return sorted(path.stem for path in (outputs / "eval").iterdir())


@pytest.fixture
def corpus(tmp_path) -> Path:
    """A copy of the sample corpus, to be changed."""
    return shutil.copytree(SAMPLE_CORPUS, tmp_path / "corpus")


def test_a_grid_on_this_machine_goes_on_past_a_run_that_fails(project, corpus):
    (corpus / "corpus" / "train" / "fi.tsv").write_text("no tab\n")
    grid = ["--local", "--models", "tiny", "--langs", "fi", "sv", "en-fr", "--subfolder", "s"]
    trained = bash(project, "submit_train_jobs.sh", *grid, "--", *QUICK, corpus=corpus)
    assert trained.returncode == 1
    assert "train/fi.tsv:1: " in trained.stdout
    assert trained.stderr.count("\n") == 1 and "train-s/tiny-fi" in trained.stderr
    evaluated = bash(project, "submit_eval_jobs.sh", *grid, "--eval-lang", "sv", "ru")
    assert "eval-s/tiny-fi" in evaluated.stderr.splitlines()[-1]
    for name in ("tiny-sv", "tiny-en-fr"):
        assert evaluated_langs(project / "outputs" / "s" / name) == ["ru", "sv"]
    table = bash(project, "-c", "source utils/load_env.sh; python post_eval.py")
    title, header, *rows = table.stdout.split("\n\n")[1].splitlines()
    assert title.startswith("s/tiny, ") and header.split()[:2] == ["ru", "sv"]
    assert [row.split()[0] for row in rows[:2]] == ["sv", "en-fr"]

    left = project / "models" / "s" / "tiny-sv" / "checkpoints"  # by a training that was ended when it had finished
    (left / "checkpoint-9").mkdir(parents=True)
    bash(project, "submit_train_jobs.sh", *grid, "--dry-run", "--", *QUICK, corpus=corpus)
    assert left.is_dir()
    again = bash(project, "submit_train_jobs.sh", *grid, "--", *QUICK, corpus=corpus)
    assert "train-s/tiny-sv" in again.stderr and "train-s/tiny-sv" not in again.stdout
    assert not left.exists()
    states = bash(project, "submit_eval_jobs.sh", *grid, "--status", "--eval-lang", "sv", "ru").stdout
    table, _, reasons = states.partition("\n\n")
    failed, *done = [re.split("  +", line) for line in table.splitlines()[1:]]
    assert failed[0] == "s/tiny-fi" and "train-s/tiny-fi" in reasons and "train/fi.tsv:1: " in reasons
    assert [row[0] for row in done] == ["s/tiny-sv", "s/tiny-en-fr"] and all(row[2][:6] == "2 of 2" for row in done)


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_grid_on_this_machine_with_its_training(project, name):
    command = ["bash", "submit_train_jobs.sh", "--local", "--models", "tiny", "--langs", "sv", "en"]
    process = subprocess.Popen(
        [*command, "--", "--num-epochs=1000", "--max-length=16"], cwd=project, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.STDOUT, env={**os.environ, "REGISTER_CORPUS": str(SAMPLE_CORPUS)}, start_new_session=True,
    )  # fmt: skip
    for line in process.stdout:
        if "epoch 2:" in line:
            break
    process.send_signal(name)
    out, _ = process.communicate(timeout=120)  # until no process has the pipe any more
    assert process.returncode == 128 + name
    assert "train-tiny-en" not in out
    assert "epoch 2:" in (project / "outputs" / "tiny-sv" / "train.txt").read_text()
    assert list((project / "models" / "tiny-sv" / "checkpoints").glob("*/hashes.json"))


def test_a_run_by_hand_from_any_folder(project, tmp_path):
    trained = bash(project, str(project / "run_train.sh"), "tiny", "sv-fr", *QUICK, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    evaluated = bash(project, str(project / "run_eval.sh"), "tiny", "sv-fr", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert evaluated_langs(project / "outputs" / "tiny-sv-fr") == ["en", "fr", "ru", "sv"]


def test_the_default_grid_is_42_runs(project, corpus):
    for lang in ("fi", "id", "tr", "de"):
        shutil.copy(corpus / "corpus" / "train" / "sv.tsv", corpus / "corpus" / "train" / f"{lang}.tsv")
    done = bash(project, "submit_train_jobs.sh", "--dry-run", "--local", corpus=corpus)
    lines = done.stdout.splitlines()
    assert len(lines) == len(set(lines)) == 42
    assert all(line.startswith("bash run_train.sh ") for line in lines)
    evaluations = bash(project, "submit_eval_jobs.sh", "--dry-run", "--local", "--eval-lang", "sv", corpus=corpus)
    left_out = [word for word in evaluations.stderr.splitlines()[-1].split() if "-" in word]  # none is trained
    assert len(left_out) == len(set(left_out)) == 42
    assert not (project / "outputs").exists()


def files_of(project: Path) -> list[Path]:
    return sorted(path for path in project.parent.rglob("*") if "__pycache__" not in path.parts)


@pytest.mark.parametrize(
    "option", ["--model-name=x", "--train-langs=sv", "--subfolder=x", "--help", "-x", "$(touch x)"]
)
def test_options_for_python_can_not_change_the_run(project, option):
    done = bash(project, "submit_train_jobs.sh", "--local", "--models", "tiny", "--langs", "en", "--", option)
    assert done.returncode == 2 and not (project / "outputs").exists()


@pytest.mark.parametrize("script", ["submit_train_jobs.sh", "submit_eval_jobs.sh"])
def test_wrong_options_end_with_2_and_help_with_0(project, script):
    wrong = bash(project, script, "--nonsense")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
    assert bash(project, script, "--models", "--dry-run").returncode == 2
    shown = bash(project, script, "--help")
    assert shown.returncode == 0
    for option in ("--models", "--langs", "--subfolder", "--local", "--dry-run", "--status", "--eval-lang"):
        assert option in shown.stdout


# ---- Slurm's jobs, with stand-ins for its commands; on a real one: test_slurm.py ----


@pytest.fixture
def slurm(project, tmp_path):
    """Return a function that runs a script beside stand-ins for Slurm: exit code, output, the calls that they got.

    srun does what `step` says; scontrol knows no job, as when slurmctld is busy, but requeues.
    """
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, work in {
        "srun": 'while [[ $1 == -* ]]; do shift; done; eval "$STEP"',
        "scontrol": "[[ $1 == requeue ]]",
        "scancel": ":",
        "sbatch": 'eval "$SBATCH"',
        "squeue": 'printf "$QUEUE"; [[ $QUEUE != *error* ]]',
    }.items():
        (folder / name).write_text(f'#!/bin/bash\necho "{name} $*" >> {folder}/calls\n{work}\n')
        (folder / name).chmod(0o755)

    def run(*command, step="exit 75", sbatch="echo 1", queue="", **variables):
        (folder / "calls").write_text("")
        environment = {
            **os.environ, "REGISTER_CORPUS": str(SAMPLE_CORPUS), "PATH": f"{folder}:{os.environ['PATH']}", "STEP": step,
            "SBATCH": sbatch, "QUEUE": queue, "SLURM_JOB_ID": "17", **variables,
        }  # fmt: skip
        done = subprocess.run(
            ["bash", *command], cwd=project, env=environment, text=True, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout, (folder / "calls").read_text().splitlines()

    return run


@pytest.fixture
def batch_script(project, tmp_path):
    """Return run_train.sh as a job has it: Slurm's copy, in a folder of slurmd."""
    (tmp_path / "job00017").mkdir()
    return shutil.copy(project / "run_train.sh", tmp_path / "job00017" / "slurm_script")


SUBMISSION = ["submit_train_jobs.sh", "--models", "tiny", "--langs", "sv", "--then-evaluate"]


@pytest.mark.parametrize("answer", ["41", "41;cluster", "Welcome to 2026\n\n41", "2 jobs\n41;a-b\nGood luck!"])
def test_the_number_of_a_job_is_found_in_what_sbatch_prints(slurm, answer):
    code, out, calls = slurm(*SUBMISSION, sbatch=f"echo {shlex.quote(answer)}")
    assert code == 0 and out == "job 41: train-tiny-sv\njob 41: eval-tiny-sv\n"
    squeue, train, evaluation = calls
    assert squeue.startswith("squeue ") and "--dependency=singleton --kill" in train
    assert "--dependency=singleton,afterok:41 --kill" in evaluation and evaluation.endswith("run_eval.sh tiny sv")


@pytest.mark.parametrize("sbatch", ["exit 1", "echo submitted"])
def test_what_sbatch_does_not_take_ends_the_submission(slurm, sbatch):
    code, out, calls = slurm(*SUBMISSION, sbatch=sbatch)
    assert code == 1 and "sbatch" in out and "train-tiny-sv" in out
    assert len(calls) == 2


def test_without_an_answer_of_squeue_nothing_is_submitted(slurm):
    code, out, calls = slurm(*SUBMISSION, queue="slurm_load_jobs error\\n")
    assert code == 1 and "squeue" in out and len(calls) == 1


def test_what_is_queued_from_here_is_left_out_and_waited_for(slurm, project):
    line = "{}\\t{}\\tPENDING\\tPriority\\t0:00\\t0\\t{}\\t\\n"
    other = line.format("eval-tiny-sv", 7, "/elsewhere")
    code, out, calls = slurm(*SUBMISSION, queue=other + line.format("train-tiny-sv", 8, project))
    assert code == 0 and re.fullmatch(r"train-tiny-sv.* 8\njob 1: eval-tiny-sv\n", out)
    assert len(calls) == 2 and "afterok:8 " in calls[1]


# what a terminal within a job has in its environment
SURROUNDING = {"SLURM_NTASKS": "4", "SLURM_GPUS_ON_NODE": "2", "SLURM_CPUS_PER_TASK": "4", "SLURM_RESTART_COUNT": "1"}


def test_a_terminal_within_a_job_is_left_alone(project, slurm):
    grid = ["submit_train_jobs.sh", "--local", "--models", "tiny", "--langs", "sv", "--subfolder", "terminal"]
    code, out, calls = slurm(*grid, "--", *QUICK, **SURROUNDING)
    assert code == 0 and "best epoch" in out, out
    assert calls == []
    again = [*grid, "--", "--num-epochs=2", "--max-length=16", "--overwrite"]
    code, out, _ = slurm(*again, **SURROUNDING)
    assert code == 0 and "epoch 2:" in out, out  # no earlier start of a job of ours: begun anew as asked


@pytest.mark.parametrize("option", ["", "--subfolder seed1", "--subfolder=seed1"])
def test_only_what_the_run_itself_has_saved_is_progress(slurm, batch_script, option):
    def turn(folder, requeues):
        checkpoint = f"models/{folder}/checkpoints/$$"
        step = f"mkdir -p {checkpoint}; touch {checkpoint}/hashes.json; exit 75"
        return slurm(batch_script, "tiny", "sv", *option.split(), step=step, SLURM_RESTART_COUNT=str(requeues))

    for requeues in (0, 3, 50):
        assert "scontrol requeue 17" in turn("seed1/tiny-sv" if option else "tiny-sv", requeues)[2]
    # the requeues before, with progress or after a preemption, do not count
    turns = [turn("seed2/tiny-sv", requeues) for requeues in range(3, 7)]
    assert ["scontrol requeue 17" in calls for _, _, calls in turns] == [True, True, True, False]
    assert turns[3][0] == 1


def test_a_job_makes_no_environment(project, slurm, batch_script):
    shutil.rmtree(project / ".venv")
    code, out, calls = slurm(batch_script, "tiny", "sv")
    assert code == 1 and out.count("\n") == 1 and calls == []
    assert "source utils/load_env.sh" in out


# ---- the environment ----


@pytest.fixture
def bare(tmp_path) -> Path:
    """A folder with load_env.sh and requirements that need no download."""
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils" / "load_env.sh").write_text((ROOT / "utils" / "load_env.sh").read_text())
    (tmp_path / "requirements.txt").write_text("# none\n")
    return tmp_path


def load_env(bare: Path) -> subprocess.Popen:
    code = 'set -euo pipefail; source utils/load_env.sh; python -c "import sys; print(sys.prefix)"'
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    return subprocess.Popen(
        ["bash", "-c", code], cwd=bare, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def test_two_at_once_make_one_environment_and_a_changed_list_a_new_one(bare):
    results = [process.communicate(timeout=120) for process in (load_env(bare), load_env(bare))]
    assert [out.strip() for out, _ in results] == [str(bare / ".venv")] * 2
    assert sum(bool(err) for _, err in results) == 1  # one of them says that it makes .venv
    assert not load_env(bare).communicate(timeout=60)[1]
    (bare / "requirements.txt").write_text("# changed\n")
    assert load_env(bare).communicate(timeout=60)[1]
