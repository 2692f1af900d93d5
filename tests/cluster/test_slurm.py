"""A grid on a real Slurm: submitted once, disturbed, failed, cancelled, and what the status table says of it."""

import json
import os
import random
import shutil
import subprocess

import pytest
from cluster import Cluster, wait_until, why_not
from conftest import SAMPLE_CORPUS
from rounds import EVAL_LANGS, TRAINING, Disturber, Grid, disturbed_round, prepare

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"no Slurm tests: {why_not()}")

QUICK = ["--num-epochs=2", "--max-length=16", "--batch-size=16", "--learning-rate=1e-3"]
LONG = ["--num-epochs=500", "--max-length=128", "--batch-size=4", "--patience=0"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    # sockets of Slurm have at most 107 characters
    cluster = Cluster(tmp_path_factory.mktemp("slurm") / "c")
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("grid") / "a project")  # blanks in the path


@pytest.fixture
def grid(cluster, project, request):
    """Return a function that makes a grid with the mixes given; its jobs are cancelled after the test."""
    grids = []

    def make(*langs):
        grids.append(Grid(cluster, project, request.node.name[:60], list(langs)))
        return grids[-1]

    yield make
    for grid in grids:
        numbers = [*grid.jobs("train").values(), *grid.jobs("eval").values()]
        if numbers:
            cluster.ask("scancel", *numbers)
            grid.wait(60)


def test_from_submission_to_matrices_and_nothing_runs_twice(grid, project, cluster):
    grid = grid("en", "fr", "sv", "en-fr")
    options = ["--then-evaluate", "--", *QUICK]
    assert grid.bash("submit_train_jobs.sh", *options).count("job ") == 8
    again = grid.bash("submit_train_jobs.sh", *options)
    assert again.count(" already, as job ") == 8
    assert " already, as job " in grid.bash("submit_eval_jobs.sh")
    states = grid.status()
    assert all(cells[1].startswith("pending (Dependency") for cells in states.values())
    assert {cells[0].split()[0] for cells in states.values()} <= {"running", "pending"}
    grid.wait()
    for mix in grid.langs:
        assert grid.log(mix).count("training on CPU") == 1
    states = grid.status()
    assert all(
        training.startswith("trained, 2 epochs") and evaluation == "2 of 2 languages"
        for training, evaluation in states.values()
    )
    assert grid.bash("submit_train_jobs.sh", *options).count(": done already") == 8
    assert "was 2, is now 3" in grid.bash("submit_train_jobs.sh", "--", *QUICK, "--num-epochs=3", expect=1)
    code = f"source utils/load_env.sh; python post_eval.py --base-dir outputs/{grid.subfolder}"
    drawn = subprocess.run(["bash", "-c", code], cwd=project, capture_output=True, text=True, timeout=300)
    assert drawn.returncode == 0, drawn.stderr
    for name in ("tve.png", "tve.csv", "tiny-en-fr/cfm.png"):
        assert (project / "outputs" / grid.subfolder / name).is_file()


def test_disturbed_in_every_way_it_ends_with_the_same_weights_and_metrics(grid):
    alone, disturbed = grid("en-fr", "sv"), grid("en-fr", "sv")
    disturbed.subfolder = "disturbed"
    alone.bash("submit_train_jobs.sh", "--then-evaluate", "--", *TRAINING)
    alone.wait()
    done = disturbed_round(disturbed, random.Random(0))
    assert len(done) >= 5, done
    assert disturbed.results() == alone.results()


def test_a_failed_training_takes_only_its_own_evaluation_with_it(grid, tmp_path):
    corpus = tmp_path / "corpus"
    shutil.copytree(SAMPLE_CORPUS, corpus)
    with open(corpus / "corpus" / "train" / "fr.tsv", "a", encoding="utf-8") as file:
        file.write("a line without a tab\n")
    grid = grid("fr", "en", "sv")
    submitted = grid.bash("submit_train_jobs.sh", "--then-evaluate", "--", *QUICK, REGISTER_CORPUS=str(corpus))
    assert submitted.count("job ") == 6
    failed = grid.jobs("train")["fr"]
    cancelled = grid.jobs("eval")["fr"]
    wait_until("the failure", lambda: grid.cluster.job(failed)["JobState"] == "FAILED")
    wait_until("the cancellation", lambda: grid.cluster.job(cancelled)["JobState"] == "CANCELLED", 60)
    grid.wait()
    states = grid.status()
    assert states["tiny-fr"] == ["failed", "not submitted"]
    assert f"\ntrain-{grid.subfolder}/tiny-fr: finetune.py: " in grid.bash("submit_train_jobs.sh", "--status")
    for mix in ("en", "sv"):
        assert states[f"tiny-{mix}"][1] == "2 of 2 languages"
    left_out = grid.bash("submit_eval_jobs.sh", expect=1)
    assert left_out.endswith(f"not done: eval-{grid.subfolder}/tiny-fr\n")


def test_a_cancelled_training_stays_cancelled_and_is_gone_on_with(grid):
    grid = grid("sv")
    grid.bash("submit_train_jobs.sh", "--then-evaluate", "--", *LONG)
    wait_until("an epoch", lambda: grid.saved_epochs("sv") >= 1)
    assert ", epoch " in grid.status()["tiny-sv"][0]
    number, before = grid.jobs("train")["sv"], grid.saved_epochs("sv")
    grid.cluster.ask("scancel", number)
    grid.wait(60)
    assert grid.cluster.job(number)["JobState"] == "CANCELLED"
    assert grid.log("sv").count("the same command goes on from the checkpoint") == 1
    assert grid.status()["tiny-sv"][0].startswith("interrupted in epoch ")
    grid.bash("submit_train_jobs.sh", "--", *LONG)
    wait_until("more epochs", lambda: grid.saved_epochs("sv") > before + 1)
    assert "going on from checkpoint-" in grid.log("sv")


def test_an_overwriting_job_that_is_requeued_does_not_start_anew(grid):
    grid = grid("sv")
    grid.bash("submit_train_jobs.sh", "--", *QUICK)
    grid.wait()
    grid.bash("submit_train_jobs.sh", "--", *LONG, "--overwrite")
    wait_until("an epoch", lambda: grid.saved_epochs("sv") >= 1 and "500 epochs" in grid.log("sv"))
    grid.cluster.ask("scontrol", "requeue", grid.jobs("train")["sv"])
    wait_until("the next turn", lambda: grid.log("sv").count("at most 500 epochs") == 2)
    assert "going on from checkpoint-" in grid.log("sv")
    assert "requeued 1 times (job " in grid.status()["tiny-sv"][0]


def test_without_progress_it_is_requeued_three_times_and_no_more(grid):
    grid = grid("en")
    # five minutes, all of them after the signal; at the clock's speed, 30 seconds, and Python is told at its start
    grid.bash("submit_train_jobs.sh", "--then-evaluate", "--", *LONG, SBATCH_TIMELIMIT="5")
    number = grid.jobs("train")["en"]
    wait_until("its end", lambda: grid.cluster.job(number)["JobState"] == "FAILED", 180)
    assert grid.cluster.job(number)["Restarts"] == "3"
    assert "after 3 requeues this turn has saved nothing" in grid.log("en").splitlines()[-1]
    grid.wait(60)


def within_a_job(grid, *command, **variables):
    """Run a command in a terminal within a job; return what it and its state afterwards print."""
    allocation = ["--ntasks=1", "--cpus-per-task=1", "--mem-per-cpu=100", "--gres=gpu:2"]
    state = '"$@"; echo "exit code $?"; scontrol show job "$SLURM_JOB_ID"'
    done = subprocess.run(
        ["salloc", *allocation, "srun", "--overlap", "bash", "-c", state, "bash", *command],
        cwd=grid.project, env=grid.environment(**variables), text=True, timeout=300,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.stdout


def test_in_a_terminal_within_a_job_it_trains_and_the_job_is_still_there(grid):
    grid = grid("sv")
    run = ["--local", "--models", "tiny", "--langs", "sv", "--subfolder", grid.subfolder]
    told = within_a_job(grid, "bash", "submit_train_jobs.sh", *run, "--then-evaluate", "--", *QUICK)
    assert "exit code 0" in told and "best epoch" in told, told
    assert "JobState=RUNNING" in told and "Restarts=0" in told
    assert grid.status()["tiny-sv"][1] == "2 of 2 languages"


def test_submitted_within_a_job_it_is_requeued_like_any_other(grid):
    grid = grid("sv")
    run = ["--models", "tiny", "--langs", "sv", "--subfolder", grid.subfolder, "--then-evaluate"]
    assert within_a_job(grid, "bash", "submit_train_jobs.sh", *run, "--", *TRAINING).count("job ") >= 2
    disturber = Disturber(grid, random.Random(0))
    disturber.near_time_limit(*disturber.a_training())
    grid.wait()
    assert "the time limit is near: job " in grid.log("sv") and "going on from checkpoint-" in grid.log("sv")
    assert grid.status()["tiny-sv"][1] == "2 of 2 languages"


def test_two_gpus_train_through_torchrun(grid):
    grid = grid("sv")
    grid.bash("submit_train_jobs.sh", "--", *QUICK, "--batch-size=8", SBATCH_GRES="gpu:2")
    grid.wait()
    record = json.loads((grid.run("sv").outputs / "run.json").read_text())
    assert record["settings"]["processes"] == 2
    assert grid.bash("submit_train_jobs.sh", "--", *QUICK, "--batch-size=8").count("done already") == 1


def test_by_hand_from_any_folder(grid, project, tmp_path):
    grid = grid("sv")
    options = ["--subfolder", grid.subfolder]
    environment = grid.environment()
    done = subprocess.run(
        ["sbatch", "--parsable", str(project / "run_train.sh"), "tiny", "sv", *options, *QUICK],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    number = done.stdout.strip()
    wait_until("its end", lambda: grid.cluster.job(number)["JobState"] == "COMPLETED", 180)
    assert "best epoch" in (tmp_path / f"slurm-{number}.out").read_text()
    evaluated = subprocess.run(
        ["bash", str(project / "run_eval.sh"), "tiny", "sv", *options],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert evaluated.returncode == 0, evaluated.stderr
    assert [line.split()[0] for line in evaluated.stdout.splitlines()] == EVAL_LANGS
    assert grid.status()["tiny-sv"][1] == "2 of 2 languages"


def test_what_is_missing_is_told_before_anything_is_submitted(grid, project, tmp_path):
    grid = grid("sv", "xx", "en-yy")
    pretrained, aside = project / "models" / "pretrained", tmp_path / "aside"
    pretrained.rename(aside)
    try:
        told = grid.bash("submit_train_jobs.sh", expect=1)
    finally:
        os.rename(aside, pretrained)
    assert "no LANG.tsv for xx yy; change --langs" in told
    assert "type: python utils/download_model.py tiny" in told
    assert told.endswith("nothing was submitted\n") and not grid.jobs("train")
    assert not (project / "outputs" / grid.subfolder).exists()
