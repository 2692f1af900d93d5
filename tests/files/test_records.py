"""Fine-tuning again: what is finished is not trained again, what differs is refused by name; and wrong use."""

import os
import shutil
import subprocess
import sys
import time

import pytest
import torch
from conftest import FAST, epochs, finish, start, weights

import finetune
from utils import runs
from utils.files import records
from utils.runs import RunError

# ---- run again ----


def test_a_finished_run_is_not_trained_again(project, corpus):
    command = ["finetune.py", "--model-name=tiny", "--train-langs", "en", "fr", "--num-epochs=1", *FAST]
    finish(start(project, *command, corpus=corpus))
    began = time.monotonic()
    out = finish(
        start(project, *[c.replace("en", "en-fr") if c == "en" else c for c in command if c != "fr"], corpus=corpus)
    )
    assert "trained already" in out
    assert time.monotonic() - began < 20  # it loads no model; its time is measured elsewhere


def test_other_options_or_another_corpus_are_refused_by_name(train, corpus):
    run = train("--num-epochs=1")
    before = weights(run)
    with pytest.raises(RunError, match="num_epochs was 1, is now 2.*--overwrite.*--subfolder"):
        train("--num-epochs=2")
    with open(corpus / "corpus" / "train" / "en.tsv", "a", encoding="utf-8") as file:
        file.write("IN	one more text\n")
    with pytest.raises(RunError, match=r"train/en\.tsv was [0-9a-f]{12}…, is now"):
        train("--num-epochs=1")
    assert weights(run) == before
    train("--num-epochs=2", "--overwrite")
    assert len(epochs(run)) == 2


def test_a_model_whose_record_is_gone_is_not_overwritten_unasked(train):
    run = train("--num-epochs=1")
    (run.outputs / "run.json").unlink()
    with pytest.raises(RunError, match="expected the record of the model"):
        train("--num-epochs=1")
    assert (run.models / "model.safetensors").is_file()


def test_a_new_training_removes_old_evaluations(train):
    run = train("--num-epochs=1")
    drawn = [run.outputs / "cfm.png", run.outputs / "cfm.pdf", run.outputs / "errors" / "xx.tsv"]
    for path in (run.scores("xx"), run.predictions("xx"), *drawn):
        runs.write_text(path, "{}")
    train("--num-epochs=1", "--seed=1", "--overwrite")
    assert sorted(path.name for path in run.outputs.rglob("*")) == ["run.json", "train.json"]


# ---- refused ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision=fp16"], "expected a GPU, found none"),
        (["--max-length=513"], "expected at most 512"),
        (["--checkpoint=/nowhere/at-all"], "expected a folder with config.json, or a model of"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_cannot_be_is_refused_in_one_line(train, options, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RunError, match=message) as error:
        train(*options)
    assert "\n" not in str(error.value)
    assert epochs(train("--num-epochs=1"))  # what could not start leaves nothing behind that stands in the way


@pytest.mark.parametrize(
    "options",
    [
        ["--model-name", "nobody-knows", "--train-langs", "en"],
        ["--model-name", "tiny", "--train-langs", "en", "en"],
        ["--model-name", "tiny", "--train-langs", "../en"],
        ["--model-name", "../tiny", "--train-langs", "en", "--checkpoint", "x"],
        ["--model-name", "tiny", "--train-langs", "en", "--subfolder", "../x"],
        ["--model-name", "tiny", "--train-langs", "en", "--subfolder", "/tmp/x"],
        ["--model-name", "tiny", "--train-langs", "en", "--subfolder", "pretrained"],
        ["--model-name", "tiny", "--train-langs", "en", "--batch-size", "0"],
        ["--model-name", "tiny", "--train-langs", "en", "--validation-size", "1"],
        ["--model-name", "tiny", "--train-langs", "en", "--learning-rate", "nan"],
        ["--train-langs", "en"],
        ["--model-name", "tiny"],
    ],
)
def test_wrong_use_ends_with_2(options, capsys):
    with pytest.raises(SystemExit) as end:
        finetune.main(options)
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_several_slurm_tasks_without_torchrun_are_refused(project, tmp_path):
    slurmstepd = shutil.copy("/bin/bash", tmp_path / "slurmstepd")  # what starts the tasks of a step
    variables = {**os.environ, "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "REGISTER_CORPUS": str(tmp_path)}
    command = f"{sys.executable} finetune.py --model-name=tiny --train-langs=en"
    for starter, code in ((slurmstepd, 2), ("bash", 1)):  # by hand, in a terminal of such a step: as ever
        done = subprocess.run(
            [starter, "-c", f"{command}; exit $?"], cwd=project, env=variables, capture_output=True, text=True
        )
        assert done.returncode == code and ("torchrun" in done.stderr) == (code == 2), done.stderr


def test_an_error_is_one_line_and_exit_1(project, tmp_path):
    out = finish(start(project, "finetune.py", "--model-name=tiny", "--train-langs=en", corpus=tmp_path), expect=1)
    assert out.startswith("finetune.py: ") and out.count("\n") == 1 and "--corpus-path" in out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_trains_on_the_cpu_and_says_so(train, caplog):
    caplog.set_level("INFO")
    train("--num-epochs=1")
    assert "training on CPU" in caplog.text


def test_a_training_anew_leaves_no_page_of_the_one_before(tmp_path):
    run = runs.Run("tiny-en", tmp_path / "outputs", tmp_path / "models")
    run.outputs.mkdir()
    for name in ("cfm.png", "cfm-2.png", "cfm-12.pdf", "train.txt"):
        (run.outputs / name).touch()
    records.start_anew(run)
    assert [path.name for path in run.outputs.iterdir()] == ["train.txt"]
