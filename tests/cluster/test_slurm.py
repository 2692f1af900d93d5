"""A grid on a real Slurm: submitted once, disturbed, failed, cancelled, and what the status table says of it."""

import json
import random
import re
import shutil
import subprocess

import pytest
from cluster import Cluster, wait_until, why_not
from conftest import SAMPLE_CORPUS
from rounds import TRAINING, Grid, disturbed_round, prepare

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=f"no Slurm tests: {why_not()}")]

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
    assert not re.findall("^job ", again, re.MULTILINE) and again.count("tiny-") == 8
    assert not re.findall("^job ", grid.bash("submit_eval_jobs.sh"), re.MULTILINE)
    states = grid.status()
    assert all("Dependency" in cells[1] for cells in states.values())
    grid.wait()
    for mix in grid.langs:
        assert grid.log(mix).count("epoch 1:") == 1
    states = grid.status()
    assert all("2" in training and evaluation[:6] == "2 of 2" for training, evaluation in states.values())
    assert "job " not in grid.bash("submit_train_jobs.sh", *options)
    assert "num_epochs" in grid.bash("submit_train_jobs.sh", "--", *QUICK, "--num-epochs=3", expect=1)
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
    assert states["tiny-fr"][0] == "failed"
    assert f"\ntrain-{grid.subfolder}/tiny-fr: finetune.py: " in grid.bash("submit_train_jobs.sh", "--status")
    for mix in ("en", "sv"):
        assert states[f"tiny-{mix}"][1][:6] == "2 of 2"
    left_out = grid.bash("submit_eval_jobs.sh", expect=1)
    assert left_out.endswith(f" eval-{grid.subfolder}/tiny-fr\n")


def test_a_cancelled_training_stays_cancelled_and_is_gone_on_with(grid):
    grid = grid("sv")
    grid.bash("submit_train_jobs.sh", "--then-evaluate", "--", *LONG)
    wait_until("an epoch", lambda: grid.saved_epochs("sv") >= 1)
    assert ", epoch " in grid.status()["tiny-sv"][0]
    number, before = grid.jobs("train")["sv"], grid.saved_epochs("sv")
    grid.cluster.ask("scancel", number)
    grid.wait(60)
    assert grid.cluster.job(number)["JobState"] == "CANCELLED"
    assert grid.status()["tiny-sv"][0].startswith("interrupted")
    grid.bash("submit_train_jobs.sh", "--", *LONG)
    wait_until("more epochs", lambda: grid.saved_epochs("sv") > before + 1)
    assert "checkpoint-" in grid.log("sv")


def test_two_gpus_train_through_torchrun(grid):
    grid = grid("sv")
    grid.bash("submit_train_jobs.sh", "--", *QUICK, "--batch-size=8", SBATCH_GRES="gpu:2")
    grid.wait()
    record = json.loads((grid.run("sv").outputs / "run.json").read_text())
    assert record["settings"]["processes"] == 2
    assert "job " not in grid.bash("submit_train_jobs.sh", "--", *QUICK, "--batch-size=8")
