"""A training interrupted at any moment and started again ends with the weights and metrics of an undisturbed one."""

import signal
import time

import pytest
from conftest import finish, result, run_of, start

from utils import training

pytestmark = pytest.mark.slow
COMMAND = [
    "finetune.py", "--model-name=tiny", "--train-langs", "en", "fr", "--num-epochs=6", "--learning-rate=1e-3",
    "--max-length=128", "--batch-size=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(shared_project):
    """Return what an undisturbed training of COMMAND gives."""
    finish(start(shared_project, *COMMAND, "--subfolder=undisturbed"))
    return result(run_of(shared_project, "undisturbed", "tiny-en-fr"))


def newest_step(run):
    whole = [path.parent.name for path in run.checkpoints.glob("checkpoint-*/hashes.json")]
    return max((int(name.split("-")[1]) for name in whole), default=0)


def interrupt(project, run, command, number):
    """Start a training, and end it by a signal once it has saved an epoch more; return whether within an epoch."""
    process, step = start(project, *command), newest_step(run)
    while newest_step(run) <= step and process.poll() is None:
        time.sleep(0.005)
    time.sleep(0.05)  # it is now training the next one
    process.send_signal(number)
    out = finish(process, expect=128 + number)
    assert "Traceback" not in out and "the same command" in out
    checkpoint = run.checkpoints / f"checkpoint-{newest_step(run)}"
    return newest_step(run) % training.steps_per_epoch(training.load_state(checkpoint)) != 0


def test_signals_save_and_the_same_command_goes_on(shared_project, undisturbed):
    run, command = run_of(shared_project, "signals", "tiny-en-fr"), [*COMMAND, "--subfolder=signals"]
    numbers = (signal.SIGTERM, signal.SIGINT)
    assert any([interrupt(shared_project, run, command, number) for number in numbers])
    finish(start(shared_project, *command))
    assert result(run) == undisturbed
    hidden = [path for folder in (run.models, run.outputs) for path in folder.rglob(".*")]
    assert not run.checkpoints.exists() and hidden == [run.outputs / ".lock"]
