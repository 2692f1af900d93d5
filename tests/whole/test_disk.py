"""A disk that is full, read-only or under a quota: one line and exit 1, and the same command, later, ends as ever."""

import contextlib
import os
import re
import resource
import shutil
import subprocess
import time

import make_grid
import numpy as np
import pytest
from conftest import FAST, finish, result, run_of, start

pytestmark = pytest.mark.usefixtures("corpus")
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


@pytest.fixture
def small_disk(shared_project):
    """Return a function that mounts a disk of a size on a folder; unmounted after the test."""
    if os.geteuid():
        pytest.skip("mounting a disk needs root")
    mounted = []

    def mount(folder, n_bytes):
        folder.mkdir(parents=True, exist_ok=True)
        options = ["-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(folder)]
        if subprocess.run(["mount", *options], capture_output=True).returncode:
            pytest.skip("root here may not mount a disk")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def undisturbed(project, corpus, epochs):
    """Return what TRAINING gives; the corpus is the same in each test."""
    finish(start(project, *TRAINING, f"--num-epochs={epochs}", f"--subfolder=u{epochs}", corpus=corpus))
    return result(run_of(project, f"u{epochs}"))


def test_a_disk_that_is_too_small_is_told_before_the_training(shared_project, corpus, small_disk):
    small_disk(shared_project / "models" / "small", 8 * MB)
    out = finish(start(shared_project, *TRAINING, "--num-epochs=3", "--subfolder=small", corpus=corpus), expect=1)
    line = one_line(out, "finetune.py")
    assert "models/small/tiny-en: checkpoints and model need 34 MB, and 8 MB are free on the disk" in line
    assert "training on" not in out
    subprocess.run(["mount", "-o", f"remount,size={40 * MB}", str(shared_project / "models" / "small")], check=True)
    finish(start(shared_project, *TRAINING, "--num-epochs=3", "--subfolder=small", corpus=corpus))


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(shared_project, corpus, small_disk):
    disk = small_disk(shared_project / "models" / "full", 40 * MB)
    command = [*TRAINING, "--num-epochs=40", "--subfolder=full"]
    run = run_of(shared_project, "full")
    process = start(shared_project, *command, corpus=corpus)
    while process.poll() is None and not list(run.checkpoints.glob("*/hashes.json")):
        time.sleep(0.001)
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(100_000))
    line = one_line(finish(process, expect=1), "finetune.py")
    assert "models/full/tiny-en/checkpoints/" in line and "the disk is full" in line
    whole = list(run.checkpoints.glob("*/hashes.json"))
    assert whole and len(whole) == len(list(run.checkpoints.glob("checkpoint-*")))  # no pieces
    (disk / "filler").unlink()
    assert "going on from checkpoint-" in finish(start(shared_project, *command, corpus=corpus))
    assert result(run) == undisturbed(shared_project, corpus, 40)


def test_a_quota_stops_a_training_in_one_line(shared_project, corpus):
    command = [*TRAINING, "--num-epochs=2", "--subfolder=quota"]
    for limit in (100_000, 3 * MB):  # at the weights, at AdamW's means
        with file_limit(limit):
            out = finish(start(shared_project, *command, corpus=corpus), expect=1)
        line = one_line(out, "finetune.py")
        assert "models/quota/tiny-en/checkpoints/checkpoint: the disk is full (File too large, " in line
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
    assert "fr not evaluated: outputs/u2/tiny-en/predictions/fr.tsv: the disk is full (File too" in out
    assert "Traceback" not in out and files_of(outputs) == before
    finish(start(shared_project, *command, "fr", corpus=corpus))


def test_a_quota_stops_the_figures_in_one_line(shared_project):
    for mix in ("en", "fr"):
        folder = shared_project / "outputs" / "grid" / f"tiny-{mix}"
        make_grid.make_run(folder, "tiny", mix, ["en", "fr"], 60, np.random.default_rng(0))
    before = files_of(shared_project / "outputs" / "grid")
    for limit in (5000, 20_000):  # at a figure; at that of another process
        with file_limit(limit):
            out = finish(start(shared_project, "post_eval.py", "--base-dir=outputs/grid", "--jobs=1"), expect=1)
        assert "the disk is full" in one_line(out, "post_eval.py")
        after = files_of(shared_project / "outputs" / "grid")
        assert {path: after[path] for path in before} == before
        assert not [path for path in after if path.name.startswith(".")]


def test_a_quota_stops_the_making_of_tiny_in_one_line(project):
    tiny = project / "models" / "pretrained"
    shutil.rmtree(tiny)
    for limit in (50_000, MB):  # at the tokenizer, at the weights
        with file_limit(limit):
            out = finish(start(project, "utils/download_model.py", "tiny"), expect=1)
        assert "the disk is full" in out and "Traceback" not in out
    finish(start(project, "utils/download_model.py", "tiny"))
    assert [path.name for path in tiny.iterdir() if path.name != ".lock"] == ["tests--sample-corpus"]


def test_folders_that_cannot_be_written_to_are_named(shared_project, corpus, small_disk):
    undisturbed(shared_project, corpus, 2)
    outputs = small_disk(shared_project / "outputs" / "ro", MB)
    shutil.copytree(run_of(shared_project, "u2").outputs, outputs / "tiny-en")
    shutil.copytree(run_of(shared_project, "u2").models, run_of(shared_project, "ro").models)
    subprocess.run(["mount", "-o", "remount,ro", str(outputs)], check=True)
    names = ["--model-name=tiny", "--train-langs=en", "--subfolder=ro", "--overwrite"]
    out = finish(start(shared_project, "evaluate.py", *names, "--eval-lang=fr", corpus=corpus), expect=1)
    assert (
        re.search(r"outputs/ro/tiny-en/\w+/fr\.\w+: no permission to write or read it", out) and "Traceback" not in out
    )
    out = finish(start(shared_project, *TRAINING, "--num-epochs=2", "--subfolder=ro", "--overwrite", corpus=corpus), 1)
    assert "outputs/ro/tiny-en/.lock: no permission to write or read it" in one_line(out, "finetune.py")
