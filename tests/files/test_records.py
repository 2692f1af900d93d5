"""Fine-tuning again: what is finished is not trained again, what differs is refused by name; and wrong use."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch
import transformers
from conftest import FAST, epochs, finish, record, start, weights

import evaluate
import finetune
from utils import runs
from utils.files import records
from utils.runs import RunError, run_paths

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


# ---- checked first, kept until all is well ----


@pytest.mark.parametrize("lang", ["TR", "turkish", "Turkish", "trk"])
def test_a_language_that_is_not_there_is_told_before_the_model_is_looked_for(root, write_corpus, monkeypatch, lang):
    corpus = write_corpus({"train/tr": [("IN", "a")], "train/en": [("IN", "a")], "test/tr": [("IN", "b")]})
    (corpus / "info" / "lang2name.json").write_text('{"tr": "turkish", "en": "english", "id": "indonesian"}')
    monkeypatch.setattr("utils.download_model.find_checkpoint", lambda checkpoint: pytest.fail("the model comes last"))
    words = ["--model-name=xlmr", f"--corpus-path={corpus}", "--train-langs", lang]
    with pytest.raises(RunError) as error:
        finetune.main(words)
    text = str(error.value)
    assert text.endswith(f"train/{lang}.tsv: no such file; did you mean tr? there are en tr"), text


def test_a_corpus_that_does_not_fit_is_told_before_the_model_is_looked_for(root, write_corpus, monkeypatch):
    corpus = write_corpus({"train/en": [("IN", "a"), ("XX", "b")]})
    monkeypatch.setattr("utils.download_model.find_checkpoint", lambda checkpoint: pytest.fail("the model comes last"))
    words = ["--model-name=xlmr", f"--corpus-path={corpus}", "--train-langs=en"]
    with pytest.raises(RunError, match="en.tsv:2: expected REGISTER<tab>TEXT"):
        finetune.main(words)


def all_files(run):
    return {
        path: path.read_bytes() for folder in (run.outputs, run.models) for path in folder.rglob("*") if path.is_file()
    }


def test_nothing_is_removed_before_everything_is_checked(train, corpus, monkeypatch):
    run = train("--num-epochs=1")
    runs.write_json(run.scores("xx"), {})
    before = all_files(run)
    for options in (
        ["--max-length=5120"],
        ["--precision=fp16"],
        ["--checkpoint=/nowhere/at-all"],
        ["--validation-size=0.001"],
    ):
        with pytest.raises(RunError):
            train("--overwrite", "--num-epochs=1", *options)
        assert all_files(run) == before, options
    with monkeypatch.context() as patch, pytest.raises(RunError, match="free on the disk"):
        patch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0})())
        train("--overwrite", "--num-epochs=1")
    assert all_files(run) == before
    train("--overwrite", "--num-epochs=1", "--seed=1")
    assert not run.scores("xx").exists()


def test_checkpoints_may_be_a_link_to_another_disk(train, tmp_path):
    for name in ("first", "again"):
        run = run_paths("tiny", ["en"], name)
        (tmp_path / "scratch" / name).mkdir(parents=True)
        run.models.mkdir(parents=True)
        run.checkpoints.symlink_to(tmp_path / "scratch" / name)
        run = train("--num-epochs=1", subfolder=name)
        assert record(run) and not list((tmp_path / "scratch" / name).iterdir()) and run.checkpoints.is_symlink()
    (run.checkpoints / "checkpoint-7").mkdir()
    train("--num-epochs=1", subfolder="again")  # what a finished training has left is removed
    assert not list((tmp_path / "scratch" / "again").iterdir())


def test_another_start_model_under_the_same_name_is_another_training(train, pretrained, caplog):
    run = train("--num-epochs=1", f"--checkpoint={pretrained}")
    train("--num-epochs=1", f"--checkpoint={pretrained}")
    start = runs.sha256_of(pretrained / "model.safetensors")
    assert record(run)["settings"]["start_weights"] == start and record(run)["start_revision"] == ""
    model = transformers.BertModel.from_pretrained(pretrained)
    model.embeddings.word_embeddings.weight.data += 1
    model.save_pretrained(pretrained)
    with pytest.raises(RunError, match=f"start_weights was {start[:12]}…, is now"):
        train("--num-epochs=1", f"--checkpoint={pretrained}")
    shutil.rmtree(pretrained)  # a finished training needs its start no more
    train("--num-epochs=1", f"--checkpoint={pretrained}")
    with pytest.raises(RunError, match="expected a folder"):
        train("--num-epochs=1", f"--checkpoint={pretrained}", subfolder="other")


def test_the_languages_of_the_start_model_are_trained_on(train, corpus):
    first = train("--num-epochs=1")
    second = train("--num-epochs=1", f"--checkpoint={first.models}", model_name="second", langs=("fr",))
    third = train("--num-epochs=1", f"--checkpoint={second.models}", model_name="third", langs=("fr",))
    assert [record(run)["start_langs"] for run in (first, second, third)] == [[], ["en"], ["en", "fr"]]
    names = ["--model-name=second", "--train-langs=fr", f"--corpus-path={corpus}", "--threads=1"]
    assert evaluate.main([*names, "--eval-lang", "en"]) == 0
    assert json.loads(second.scores("en").read_text())["zero_shot"] is False
    assert "before that, its start model was fine-tuned on texts in en" in (second.models / "README.md").read_text()
    assert "start model" not in (first.models / "README.md").read_text()


def test_a_model_that_does_not_load_from_its_folder_keeps_its_checkpoints(train, monkeypatch):
    copy = runs.copy_file
    with monkeypatch.context() as patch, pytest.raises(RunError, match="a file of its tokenizer is missing"):
        patch.setattr(runs, "copy_file", lambda source, target: "tokenizer" in source.name or copy(source, target))
        train("--num-epochs=1")
    run = run_paths("tiny", ["en"])
    assert list(run.checkpoints.glob("checkpoint-*")) and not (run.outputs / "run.json").exists()
    train("--num-epochs=1")
    assert record(run) and not run.checkpoints.exists()
