"""A training interrupted at any moment and started again ends with the weights and metrics of an undisturbed one."""

import signal
import time

import pytest
from conftest import finish, result, run_of, start

from utils import training

COMMAND = [
    "finetune.py", "--model-name=tiny", "--train-langs", "en", "fr", "--num-epochs=6", "--learning-rate=1e-3",
    "--max-length=128", "--batch-size=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(shared_project):
    """Return what an undisturbed training of COMMAND gives."""
    finish(start(shared_project, *COMMAND, "--subfolder=undisturbed"))
    return result(run_of(shared_project, "undisturbed", "tiny-en-fr"))


def no_leftovers(run):
    hidden = [path for folder in (run.models, run.outputs) for path in folder.rglob(".*")]
    return not run.checkpoints.exists() and hidden == [run.outputs / ".lock"]


def test_signals_save_and_the_same_command_goes_on(shared_project, undisturbed):
    run, command = run_of(shared_project, "signals", "tiny-en-fr"), [*COMMAND, "--subfolder=signals"]
    codes = {"SIGTERM": 143, "SIGUSR2": 140, "SIGINT": 130, "SIGHUP": 129}
    stopped_within_an_epoch = {}
    for name, code in codes.items():
        process = start(shared_project, *command)
        wait_for_step(run, process, newest_step(run) + 1)  # an epoch is saved: it is now training the next one
        time.sleep(0.05)
        process.send_signal(signal.Signals[name])
        _, err = process.communicate(timeout=120)
        assert process.returncode == code, err
        assert "Traceback" not in err
        stopped_within_an_epoch[name] = newest_step(run) % steps_of_an_epoch(run) != 0
    finish(start(shared_project, *command))
    assert any(stopped_within_an_epoch.values()), stopped_within_an_epoch
    assert result(run) == undisturbed
    assert no_leftovers(run)


def test_a_training_of_the_upper_half_goes_on_too(shared_project, pretrained):
    results = {}
    for subfolder, n_stops in (("half-undisturbed", 0), ("half-stopped", 2)):
        run = run_of(shared_project, subfolder, "tiny-en-fr")
        command = [*COMMAND, f"--subfolder={subfolder}", f"--checkpoint={pretrained}"]
        for _ in range(n_stops):
            process = start(shared_project, *command)
            wait_for_step(run, process, newest_step(run) + 1)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=120)
            assert process.returncode == 143, err
        finish(start(shared_project, *command))
        results[subfolder] = result(run)
    assert results["half-stopped"] == results["half-undisturbed"]


def wait_for_step(run, process, step):
    deadline = time.monotonic() + 120
    while newest_step(run) < step and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def newest_step(run):
    whole = [folder for folder in run.checkpoints.glob("checkpoint-*") if (folder / "hashes.json").exists()]
    return max((int(folder.name.split("-")[1]) for folder in whole), default=0)


def steps_of_an_epoch(run):
    return training.steps_per_epoch(training.load_state(run.checkpoints / f"checkpoint-{newest_step(run)}"))


@pytest.fixture
def interrupted(shared_project, request):
    """Start COMMAND, end it with SIGTERM after its first checkpoint; return run and command."""
    subfolder = request.node.name[:40]
    run, command = run_of(shared_project, subfolder, "tiny-en-fr"), [*COMMAND, f"--subfolder={subfolder}"]
    process = start(shared_project, *command)
    wait_for_step(run, process, 1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert newest_step(run) > 0
    return run, command


def test_pieces_of_a_checkpoint_and_a_damaged_one_are_passed_over(shared_project, undisturbed, interrupted):
    run, command = interrupted
    newest = run.checkpoints / f"checkpoint-{newest_step(run)}"
    (run.checkpoints / "checkpoint-9999").mkdir()  # as a crash leaves it: newest, and empty
    with open(newest / "optimizer.pt", "r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    out = finish(start(shared_project, *command))
    assert "checkpoint-9999 is incomplete" in out and f"{newest.name} is incomplete" in out
    assert result(run) == undisturbed


def test_other_options_are_refused_while_unfinished(shared_project, interrupted):
    run, command = interrupted
    out = finish(start(shared_project, *command, "--seed=1"), expect=1)
    assert "seed was 42, is now 1" in out and "--overwrite" in out
    assert newest_step(run) > 0
