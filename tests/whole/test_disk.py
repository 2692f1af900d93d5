"""A disk that is full, read-only or under a quota: one line and exit 1, and the same command, later, ends as ever."""

import contextlib
import resource

import pytest
from conftest import FAST, finish, result, run_of, start

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("corpus")]
TRAINING = ["finetune.py", "--model-name=tiny", "--train-langs=en", *FAST]
MB = 1_000_000


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_line(out, script):
    lines = [line for line in out.splitlines() if line.startswith(f"{script}: ")]
    assert len(lines) == 1 and "Traceback" not in out, out
    return lines[0]


@contextlib.contextmanager
def file_limit(n_bytes):
    """Let processes started in the block write no file longer than this."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def undisturbed(project, corpus, epochs):
    """Return what TRAINING gives; the corpus is the same in each test."""
    finish(start(project, *TRAINING, f"--num-epochs={epochs}", f"--subfolder=u{epochs}", corpus=corpus))
    return result(run_of(project, f"u{epochs}"))


def test_a_quota_stops_a_training_in_one_line(shared_project, corpus):
    command = [*TRAINING, "--num-epochs=2", "--subfolder=quota"]
    for limit in (100_000, 3 * MB):  # at the weights, at AdamW's means
        with file_limit(limit):
            out = finish(start(shared_project, *command, corpus=corpus), expect=1)
        line = one_line(out, "finetune.py")
        assert "models/quota/tiny-en/checkpoints/checkpoint: " in line
        assert not list((shared_project / "models" / "quota" / "tiny-en" / "checkpoints").glob("checkpoint-*"))
    finish(start(shared_project, *command, corpus=corpus))
    assert result(run_of(shared_project, "quota")) == undisturbed(shared_project, corpus, 2)


def test_a_quota_stops_an_evaluation_in_one_line_each(shared_project, corpus):
    undisturbed(shared_project, corpus, 2)
    command = ["evaluate.py", "--model-name=tiny", "--train-langs=en", "--subfolder=u2", "--eval-lang"]
    finish(start(shared_project, *command, "en", corpus=corpus))
    outputs = run_of(shared_project, "u2").outputs
    before = files_of(outputs)
    with file_limit(500):
        out = finish(start(shared_project, *command, "fr", "en", corpus=corpus), expect=1)
    assert "outputs/u2/tiny-en/predictions/fr.tsv: " in out
    assert "Traceback" not in out and files_of(outputs) == before
    finish(start(shared_project, *command, "fr", corpus=corpus))
