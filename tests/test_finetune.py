"""Fine-tuning as it is typed: what is written, refused, done again and gone on with."""

import json
import logging
import os
import shutil
import stat

import numpy as np
import pytest
import torch
import transformers
from conftest import FAST, REGISTERS, epochs, finish, record, run_of, start, weights
from test_read_texts import REFUSED, place

import evaluate
import finetune
from utils import metrics, model, runs
from utils.runs import RunError

# ---- what it writes ----


def test_the_model_answers_with_registers_in_a_pipeline(train):
    run = train("--num-epochs=3")
    answer = transformers.pipeline("text-classification", model=str(run.models))("oh la la winter")
    assert answer[0]["label"] in REGISTERS
    config = json.loads((run.models / "config.json").read_text())
    assert config["id2label"] == {"0": "IN", "1": "OP", "2": "LY"}
    assert not run.checkpoints.exists()
    card = (run.models / "README.md").read_text()
    validated = epochs(run)[record(run)["best_epoch"] - 1]["validation"]
    assert np.sum(validated["confusion"]) == sum(record(run)["corpus"]["validation"]["en"].values())
    assert f"| accuracy (micro-F1) | {validated['micro_f1']:.3f} | " in card and "| IN | information |" in card
    umask = os.umask(0)
    os.umask(umask)
    for path in run.models.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask, path
        assert path.suffix not in (".bin", ".pt", ".pth"), "no pickled file in a finished model"


FAST_SETTINGS = {"learning_rate": 1e-3, "patience": 0, "max_length": 64, "seed": 42, "batch_size": 16, "processes": 1}


def test_run_json_tells_everything_that_decided_the_weights(train, corpus):
    run = train("--num-epochs=1")
    found = record(run)
    assert found["settings"] | FAST_SETTINGS | {"frozen_layers": 0.5} == found["settings"]
    assert found["weights_sha256"] == weights(run) == found["model_files"]["model.safetensors"]["sha256"]
    assert found["corpus"]["files"]["train/en.tsv"] == runs.sha256_of(corpus / "corpus" / "train" / "en.tsv")
    assert found["settings"]["train/en.tsv"] == found["corpus"]["files"]["train/en.tsv"]
    assert set(found["corpus"]["files"]) == {"train/en.tsv", "test/en.tsv", "test/fr.tsv"}
    assert sum(found["corpus"]["train"]["en"].values()) == 80
    assert list(found["corpus"]["validation"]["en"].values()) in ([7, 7, 6], [7, 6, 7], [6, 7, 7])
    assert found["versions"]["torch"] == torch.__version__
    assert found["peak_memory_bytes"] > 1e8 and found["seconds"] > 0 and found["devices"] == [model.describe_device()]
    assert found["optimiser"]["weight_decay"] == 0.0 and found["optimiser"]["max_grad_norm"] == 1.0


def test_the_defaults_follow_the_texts_and_the_rate(train, monkeypatch):
    def rate(*rates):
        return finetune.parse_args(["--model-name=tiny", "--train-langs=en", *rates])[0].head_rate

    assert rate() == 5e-4 and rate("--learning-rate=1e-5") == pytest.approx(1e-4)
    assert rate("--learning-rate=2e-3") == 2e-3 and rate("--head-rate=1e-5") == 1e-5
    for shown, expected in ((330, 5), (100, 3)):  # 80 training texts; 3 at least
        monkeypatch.setattr(finetune, "TEXTS_SHOWN", shown)
        assert record(train("--overwrite"))["epochs"] == expected
    monkeypatch.setattr(finetune, "TEXTS_SHOWN", 10**6)
    monkeypatch.setattr(finetune, "MOST_EPOCHS", 4)
    assert record(train("--overwrite"))["epochs"] == 4


def test_the_seed_draws_the_head_and_the_split(train, tiny):
    hashes = set()
    for seed in (3, 4):
        run = train("--num-epochs=1", "--learning-rate=1e-12", f"--seed={seed}", subfolder=str(seed))
        transformers.set_seed(seed)
        drawn = model.load_classifier(tiny, list(REGISTERS)).classifier.weight
        kept = model.load_classifier(run.models, list(REGISTERS)).classifier.weight
        torch.testing.assert_close(kept, drawn, rtol=0, atol=1e-9)
        hashes.add(record(run)["corpus"]["texts_sha256"])
    assert len(hashes) == 2


def test_a_model_that_has_learnt_nothing_says_so(train, caplog):
    for options, learnt in ((["--num-epochs=1", "--learning-rate=1e-9"], False), (["--num-epochs=6"], True)):
        caplog.clear()
        run = train(*options, subfolder=f"learnt-{learnt}")
        assert record(run)["beats_largest_register"] == learnt
        assert (metrics.NOTHING_LEARNT in (run.models / "README.md").read_text()) != learnt


# ---- run again ----


def test_a_finished_run_is_not_trained_again(project, corpus):
    command = ["finetune.py", "--model-name=tiny", "--num-epochs=1", *FAST, "--train-langs"]
    finish(start(project, *command, "en", "fr", corpus=corpus))
    before = run_of(project, "", "tiny-en-fr").models.stat().st_mtime_ns
    finish(start(project, *command, "en-fr", corpus=corpus))
    assert run_of(project, "", "tiny-en-fr").models.stat().st_mtime_ns == before


def test_other_options_or_another_corpus_are_refused_by_name(train, corpus):
    run = train("--num-epochs=1")
    before = weights(run)
    train("--num-epochs=1", "--batch-size=4", "--gradient-accumulation=4", "--threads=1", "--cpu")  # nothing to do
    with pytest.raises(RunError, match="num_epochs .*1.*2"):
        train("--num-epochs=2")
    with open(corpus / "corpus" / "train" / "en.tsv", "a", encoding="utf-8") as file:
        file.write("IN	one more text\n")
    with pytest.raises(RunError, match=r"train/en\.tsv "):
        train("--num-epochs=1")
    assert weights(run) == before
    train("--num-epochs=2", "--overwrite")
    assert len(epochs(run)) == 2


def all_files(run):
    files = [path for folder in (run.outputs, run.models) for path in folder.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files}


def test_nothing_is_removed_before_everything_is_checked(train, monkeypatch):
    run = train("--num-epochs=1")
    runs.write_json(run.scores("xx"), {})
    before = all_files(run)
    refused = ["--max-length=5120", "--precision=fp16", "--checkpoint=/nowhere/at-all", "--validation-size=0.001"]
    for option in refused[torch.cuda.is_available() :]:
        with pytest.raises(RunError) as error:
            train("--overwrite", "--num-epochs=1", option)
        assert "\n" not in str(error.value) and all_files(run) == before, option
    with monkeypatch.context() as patch, pytest.raises(RunError):
        patch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0})())
        train("--overwrite", "--num-epochs=1")
    assert all_files(run) == before
    train("--overwrite", "--num-epochs=1", "--seed=1")
    assert {path.name for path in run.outputs.rglob("*")} == {"run.json", "train.json", ".lock"}


def test_another_start_model_under_the_same_name_is_another_training(train, pretrained):
    options = ["--num-epochs=1", f"--checkpoint={pretrained}"]
    run = train(*options)
    train(*options)
    start = runs.sha256_of(pretrained / "model.safetensors")
    assert record(run)["settings"]["start_weights"] == start and record(run)["start_revision"] == ""
    other = transformers.BertModel.from_pretrained(pretrained)
    other.embeddings.word_embeddings.weight.data += 1
    other.save_pretrained(pretrained)
    with pytest.raises(RunError, match=f"start_weights .*{start[:12]}"):
        train(*options)
    shutil.rmtree(pretrained)  # a finished training needs its start no more
    train(*options)
    with pytest.raises(RunError, match="config.json"):
        train(*options, subfolder="other")


def test_the_languages_of_the_start_model_are_trained_on(train, corpus):
    first = train("--num-epochs=1")
    second = train("--num-epochs=1", f"--checkpoint={first.models}", model_name="second", langs=("fr",))
    third = train("--num-epochs=1", f"--checkpoint={second.models}", model_name="third", langs=("fr",))
    assert [record(run)["start_langs"] for run in (first, second, third)] == [[], ["en"], ["en", "fr"]]
    names = ["--model-name=second", "--train-langs=fr", f"--corpus-path={corpus}", "--threads=1"]
    assert evaluate.main([*names, "--eval-lang", "en"]) == 0
    assert json.loads(second.scores("en").read_text())["zero_shot"] is False


# ---- refused ----


@pytest.mark.parametrize(
    "changes",
    [
        {"model-name": "nobody-knows"}, {"model-name": "../tiny", "checkpoint": "x"}, {"train-langs": "../en"},
        {"train-langs": "en-en"}, {"subfolder": "../x"}, {"subfolder": "/tmp/x"}, {"subfolder": "pretrained"},
        {"batch-size": "0"}, {"validation-size": "1"}, {"learning-rate": "nan"}, {"warmup": "1"}, {"seed": "-1"},
        {"model-name": None}, {"train-langs": None},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_use_ends_with_2(changes, write_corpus, capsys):
    corpus = write_corpus({"train/en": [("IN", "a")]})
    words = {"model-name": "tiny", "train-langs": "en", "corpus-path": str(corpus)} | changes
    with pytest.raises(SystemExit) as end:
        finetune.main([f"--{name}={value}" for name, value in words.items() if value is not None])
    assert end.value.code == 2 and "Traceback" not in capsys.readouterr().err


# ---- memory that runs out ----


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (["--batch-size=6", "--gradient-accumulation=4"], "--batch-size 3 --gradient-accumulation 8"),
        (["--max-length=512"], "--batch-size 2 --gradient-accumulation 8"),  # a CPU computes 4 of 512 tokens at once
        (["--batch-size=1"], "--max-length 32 --overwrite"),
    ],
)
def test_the_advice_keeps_the_effective_batch_where_it_can(train, monkeypatch, options, advice):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(finetune, "train_run", no_memory)
    with pytest.raises(RunError, match=advice):
        train(*options)


def test_a_file_that_does_not_fit_is_refused_in_one_line_and_nothing_is_left(root, train, write_corpus, caplog, capsys):
    def files():
        return {path: path.read_bytes() for path in root.glob("[mo]*s/**/*") if path.is_file()}

    train("--num-epochs=1")
    trained = files()
    names = ["--model-name=tiny", f"--corpus-path={root / 'corpus-of-this-test'}", "--train-langs"]
    caplog.set_level(logging.INFO)
    for name in ("three columns", "unknown register"):
        content, line, _ = REFUSED[name]
        _, path = place(write_corpus, content, "train/bad")
        with pytest.raises(SystemExit) as end:
            runs.run_script(lambda: finetune.main([*names, "bad"]))
        assert isinstance(end.value.code, str), name  # which Python prints, to exit with 1
        assert f"{path}:{line}: " in end.value.code and len(end.value.code.splitlines()) == 1, name

        _, path = place(write_corpus, content, "test/bad")
        caplog.clear()
        with pytest.raises(SystemExit) as end:
            runs.run_script(lambda: evaluate.main([*names, "en", "--eval-lang", "bad"]))
        first, last = (entry.getMessage() for entry in caplog.records)
        assert end.value.code == 1 and f"{path}:{line}: " in first and "bad" in last, name
    assert trained and files() == trained and "Traceback" not in caplog.text + "".join(capsys.readouterr())
