"""A training interrupted at any moment and started again ends with the weights and metrics of an undisturbed one."""

import json
import random
import signal
import time

import pytest
from conftest import finish, start

from utils import runs, trainer
from utils.runs import run_paths

COMMAND = [
    "finetune.py", "--model-name=tiny", "--train-langs", "en", "fr", "--num-epochs=6", "--learning-rate=1e-3",
    "--max-length=128", "--batch-size=8",
]  # fmt: skip


@pytest.fixture
def undisturbed(project, monkeypatch):
    """Return what an undisturbed training of COMMAND gives."""
    began = time.monotonic()
    finish(start(project, *COMMAND, "--subfolder=undisturbed"))
    seconds = time.monotonic() - began
    monkeypatch.setattr(runs, "ROOT", project)
    return result(run_paths("tiny", ["en", "fr"], "undisturbed")), seconds


def result(run):
    """The hash of the weights, and all metrics of all epochs."""
    records = json.loads((run.outputs / "train.json").read_text())
    scores = [(r["epoch"], r["loss"], r["learning_rate"], r["validation"]) for r in records]
    return runs.sha256_of(run.models / "model.safetensors"), scores


def no_leftovers(run):
    return not run.checkpoints.exists() and not list(run.models.glob(".*")) and not list(run.outputs.rglob(".*"))


def test_killed_at_10_random_moments(project, undisturbed):
    expected, seconds = undisturbed
    run = run_paths("tiny", ["en", "fr"])
    moments = random.Random(3)
    killed, epochs_seen = 0, set()
    while killed < 10 and not (run.outputs / "run.json").exists():
        process = start(project, *COMMAND)
        # from the start of Python to somewhat past the next checkpoints: every stage is hit
        time.sleep(moments.uniform(0.3, 1) * seconds)
        if process.poll() is None:
            killed += 1
        process.send_signal(signal.SIGKILL)
        process.communicate()
        epochs_seen |= {folder.name for folder in run.checkpoints.glob("checkpoint-*")}
    assert killed >= 3 and epochs_seen
    finish(start(project, *COMMAND))
    assert result(run) == expected
    assert no_leftovers(run)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGUSR2", 140), ("SIGINT", 130)])
def test_a_signal_saves_and_the_same_command_goes_on(project, undisturbed, name, code):
    expected, _ = undisturbed
    run = run_paths("tiny", ["en", "fr"])
    stopped_in_epoch = []
    for _ in range(20):
        process = start(project, *COMMAND)
        seen = newest_step(run)
        deadline = time.monotonic() + 60
        while newest_step(run) <= seen and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)  # until its next epoch is saved: it is then training the one after
        time.sleep(0.05)
        process.send_signal(signal.Signals[name])
        out, err = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == code, err
        assert "Traceback" not in err
        stopped_in_epoch.append(newest_step(run) % steps_of_an_epoch(run) != 0)
    finish(start(project, *COMMAND))
    assert any(stopped_in_epoch), "no signal fell within an epoch"
    assert result(run) == expected
    assert no_leftovers(run)


def newest_step(run):
    whole = [folder for folder in run.checkpoints.glob("checkpoint-*") if (folder / "hashes.json").exists()]
    return max((int(folder.name.split("-")[1]) for folder in whole), default=0)


def steps_of_an_epoch(run):
    return trainer.steps_per_epoch(trainer.load_state(run.checkpoints / f"checkpoint-{newest_step(run)}"))


def test_pieces_of_a_checkpoint_and_a_damaged_one_are_passed_over(project, undisturbed):
    expected, _ = undisturbed
    run = run_paths("tiny", ["en", "fr"])
    process = start(project, *COMMAND)
    while newest_step(run) == 0:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    newest = run.checkpoints / f"checkpoint-{newest_step(run)}"
    (run.checkpoints / "checkpoint-9999").mkdir()  # as a crash leaves it: newest, and empty
    with open(newest / "optimizer.pt", "r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    out = finish(start(project, *COMMAND))
    assert "checkpoint-9999 is not whole" in out and f"{newest.name} is not whole" in out
    assert result(run) == expected


def test_other_options_are_refused_while_unfinished(project, undisturbed):
    run = run_paths("tiny", ["en", "fr"])
    process = start(project, *COMMAND)
    while newest_step(run) == 0:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    out = finish(start(project, *COMMAND, "--seed=1"), expect=1)
    assert "seed was 42, is now 1" in out and "--overwrite" in out
    assert newest_step(run) > 0
