"""All results as one frame: what is read, what is left out and named, and what can't be compared."""

import json
import os
import shlex
import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT
from make_grid import make_run

from utils import metrics, results, runs, tables
from utils.runs import RunError

USUAL = {"max_length": 512, "learning_rate": 1e-4, "num_epochs": 5, "seed": 1, "train/en.tsv": "a" * 64}


def make(folder, model="xlmr", training="en", langs=("fi", "sv"), seed=0, n=100, **record):
    make_run(folder, model, training, list(langs), n, np.random.default_rng(seed))
    change(folder / "run.json", **record)
    return folder


def change(path, **values):
    runs.write_json(path, json.loads(path.read_text()) | values)


def read(*base_dirs):
    frame, damaged = results.read_results(list(base_dirs))
    assert not damaged
    return frame


def cells(frame, n_seeds, metric="micro_f1"):
    (matrix,) = tables.make_matrices(frame, [metric], n_seeds, "en")
    return matrix, {(cell.row, cell.column): cell for cell in matrix.cells.itertuples()}


def test_a_row_per_run_language_and_metric_with_scores_that_follow_from_the_counts(tmp_path):
    make(tmp_path / "sub" / "xlmr-en-fr", training="en-fr", langs=["en", "fi"])
    frame = read(tmp_path)
    assert list(frame["metric"]) == [*metrics.METRICS] * 2
    for row in frame.itertuples():
        assert row.score == pytest.approx(metrics.all_metrics(row.counts)[row.metric], abs=1e-12, nan_ok=True)
    found = results.evaluations(frame)
    assert list(found["zero_shot"]) == [False, True] and set(found["subfolder"]) == {"sub"}
    assert found["train_langs"].iloc[0] == ("en", "fr") and found["path"].iloc[0] == "sub/xlmr-en-fr"


def test_languages_of_the_start_model_are_languages_trained_on(tmp_path):
    make(tmp_path / "xlmr-fr", training="fr", langs=["en", "fi"], start_langs=["en"])
    frame = read(tmp_path)
    assert dict(zip(frame["eval_lang"], frame["zero_shot"], strict=True)) == {"en": False, "fi": True}
    matrix, found = cells(frame, 1)
    assert matrix.zero_shot == ["fi"] and found["fr", "en"].own


def test_the_same_weights_in_several_base_dirs_count_once_and_that_is_said(tmp_path, caplog):
    make(tmp_path / "seed1" / "xlmr-en")
    for seed in (2, 3):
        shutil.copytree(tmp_path / "seed1", tmp_path / f"seed{seed}")
    matrix, found = cells(read(*(tmp_path / f"seed{seed}" for seed in (1, 2, 3))), 3)
    assert found["en", "fi"].n == 1 and np.isnan(found["en", "fi"].sd)
    assert "1" in found["en", "fi"].text[-1] and "3" in found["en", "fi"].text[-1]
    for seed in (2, 3):
        assert f"seed{seed}/xlmr-en" in caplog.text


def test_a_copy_of_a_run_beside_it_is_left_out_and_named(tmp_path, caplog):
    make(tmp_path / "xlmr-en", seed=1)
    alone = read(tmp_path)
    make(tmp_path / "xlmr-en-old", seed=2)
    make(tmp_path / "another" / "xlmr-en", seed=3)  # another subfolder is another matrix
    beside = read(tmp_path)
    assert list(beside[beside["subfolder"] == ""]["score"]) == list(alone["score"])
    assert set(beside["subfolder"]) == {"", "another"}
    assert "xlmr-en-old" in caplog.text


def test_runs_and_folders_that_are_links_are_read_and_links_in_a_circle_end(tmp_path):
    make(tmp_path / "elsewhere" / "xlmr-en", seed=1)
    make(tmp_path / "store" / "seed" / "xlmr-fr", training="fr", seed=2)
    base_dir = tmp_path / "outputs"
    base_dir.mkdir()
    (base_dir / "xlmr-en").symlink_to(tmp_path / "elsewhere" / "xlmr-en")
    (base_dir / "sub").symlink_to(tmp_path / "store" / "seed")
    (base_dir / "circle").symlink_to(base_dir)
    assert set(read(base_dir)["path"]) == {"xlmr-en", "sub/xlmr-fr"}


def test_the_demo_counts_only_where_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    make(tmp_path / "outputs" / "xlmr-en", seed=1)
    make(tmp_path / "outputs" / "demo" / "tiny-en", model="tiny", seed=2)
    assert set(read(tmp_path / "outputs")["model"]) == {"xlmr"}
    assert set(read(tmp_path / "outputs" / "demo")["model"]) == {"tiny"}
    assert set(read(tmp_path / "outputs", tmp_path / "outputs" / "demo")["model"]) == {"xlmr", "tiny"}


def test_a_base_dir_within_another_is_a_seed_beside_it(tmp_path):
    make(tmp_path / "xlmr-en", seed=1)
    make(tmp_path / "seed2" / "xlmr-en", seed=2)
    _, found = cells(read(tmp_path, tmp_path / "seed2"), 2)
    assert found["en", "fi"].n == 2


def test_two_lists_of_languages_that_give_one_name_are_refused(tmp_path):
    make(tmp_path / "a" / "xlmr-pt-br", training="pt-br", seed=1)
    make(tmp_path / "b" / "xlmr-pt-br", training="pt-br", seed=2, train_langs=["pt-br"])
    with pytest.raises(RunError, match="xlmr-pt-br.*pt br"):
        results.read_results([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("name", ["counts", "metrics", "predictions_sha256", "eval_lang", "signature"])
def test_an_evaluation_that_does_not_belong_together_is_named_with_its_command(tmp_path, name, caplog):
    folder = make(tmp_path / "xlmr-en")
    facts = json.loads((folder / "eval" / "fi.json").read_text())
    other = {
        "counts": [[n + 1 for n in row] for row in facts["counts"]],
        "metrics": facts["metrics"] | {"micro_f1": 0.123},
        "predictions_sha256": "0" * 64,
        "eval_lang": "sv",
        "signature": facts["signature"] | {"weights_sha256": "another"},
    }
    change(folder / "eval" / "fi.json", **{name: other[name]})
    (make(tmp_path / "xlmr-fr", training="fr") / "run.json").write_text("{")
    frame, damaged = results.read_results([tmp_path])
    assert damaged == 2 and set(frame["eval_lang"]) == {"sv"}
    assert "--model-name xlmr --train-langs en --eval-lang fi" in caplog.text


# ---- what can be compared ----


@pytest.mark.parametrize(
    "other",
    [
        {"learning_rate": 1e-5},
        {"frozen_layers": 0.0},
        {"checkpoint": "another"},
        {"batch_size": 8},
        {"all_texts": True},
    ],
)
def test_other_options_of_a_training_are_named_marked_and_kept_out(tmp_path, other):
    usual = USUAL | {"frozen_layers": 0.5, "checkpoint": "one", "batch_size": 16, "all_texts": False}
    for i, training in enumerate(("en", "fr", "tr")):
        make(tmp_path / f"xlmr-{training}", training=training, seed=i, settings=usual | {"seed": i, "train_langs": [i]})
    change(tmp_path / "xlmr-tr" / "run.json", settings=usual | other)
    frame = read(tmp_path)
    odd = frame[frame["not_comparable"] != ""]
    (name,) = other
    assert set(odd["training"]) == {"tr"}
    assert all(text.startswith("batch" if name == "batch_size" else name) for text in odd["not_comparable"])
    matrix, found = cells(frame, 1)
    assert "†" in found["tr", "fi"].text[0] and found["tr", "fi"].best == ""
    assert "†" not in found["en", "fi"].text[0]
    assert ("tr", tables.MEAN) not in found and ("en", tables.MEAN) in found


@pytest.mark.parametrize("key", ["max_length", "precision_used", "torch", "transformers", "test_sha256"])
def test_evaluations_that_were_made_otherwise_are_named(tmp_path, key):
    for i, training in enumerate(("en", "fr", "tr")):
        make(tmp_path / f"xlmr-{training}", training=training, seed=i)
    path = tmp_path / "xlmr-fr" / "eval" / "fi.json"
    signature = json.loads(path.read_text())["signature"]
    change(path, signature=signature | {key: 20 if key == "max_length" else "other"})
    odd = results.evaluations(read(tmp_path)).set_index(["training", "eval_lang"])["not_comparable"]
    assert odd["fr", "fi"].startswith(f"{key} {'20' if key == 'max_length' else 'other'}")
    assert set(odd.drop([("fr", "fi")])) == {""}


def test_a_batch_that_is_cut_otherwise_and_another_seed_are_the_same_training(tmp_path):
    cuts = ({"batch_size": 16}, {"batch_size": 4, "gradient_accumulation": 4}, {"batch_size": 8, "processes": 2})
    for seed, cut in enumerate(cuts):
        make(tmp_path / str(seed) / "xlmr-en", seed=seed, settings=USUAL | {"seed": seed} | cut)
    assert set(read(*(tmp_path / str(seed) for seed in range(3)))["not_comparable"]) == {""}


def test_seeds_trained_with_other_options_or_files_are_no_seeds_of_one_cell(tmp_path):
    for seed, settings in enumerate((USUAL, USUAL, USUAL | {"train/en.tsv": "b" * 64}, USUAL | {"num_epochs": 1})):
        make(tmp_path / str(seed) / "xlmr-en", seed=seed, settings=settings | {"seed": seed})
    frame = read(*(tmp_path / str(seed) for seed in range(4)))
    odd = results.evaluations(frame).set_index(["base_dir", "eval_lang"])["not_comparable"]
    assert "train/en.tsv bbb" in odd[tmp_path / "2", "fi"] and "num_epochs 1" in odd[tmp_path / "3", "fi"]
    _, found = cells(frame, 4)
    cell = found["en", "fi"]
    usual = frame[(frame["not_comparable"] == "") & (frame["metric"] == "micro_f1") & (frame["eval_lang"] == "fi")]
    assert (cell.n, cell.score) == (2, pytest.approx(usual["score"].mean()))
    assert cell.text[0].endswith("†") and len(cell.text) == 2


def test_a_training_with_other_options_makes_no_rule_for_the_files_of_its_cell(tmp_path):
    other = USUAL | {"learning_rate": 1e-5, "train/en.tsv": "b" * 64}
    for number, (seed, training, settings) in enumerate(
        [("1", "en", USUAL), ("1", "fr", other), ("2", "en", other), ("2", "fr", USUAL)]
    ):
        make(tmp_path / seed / f"xlmr-{training}", training=training, seed=number, settings=settings)
    frame = read(tmp_path / "1", tmp_path / "2")
    odd = frame[frame["not_comparable"] != ""]
    assert odd["not_comparable"].str.startswith("learning_rate 1e-05").all()
    assert set(odd["path"].map(str) + odd["base_dir"].map(lambda path: path.name)) == {"xlmr-fr1", "xlmr-en2"}


def test_answers_to_other_test_files_are_not_compared_and_nothing_without_predictions(tmp_path):
    a, b, other = (next(read(make(tmp_path / str(i) / "xlmr-en", seed=i, langs=["fi"])).itertuples()) for i in range(3))
    assert results.compare([a], [b], "micro_f1")["difference"] == pytest.approx(
        a.facts["metrics"]["micro_f1"] - b.facts["metrics"]["micro_f1"]
    )
    assert results.compare([a], [other._replace(signature={"test_sha256": "another"})], "micro_f1") is None
    (other.folder / "predictions" / "fi.tsv").unlink()
    assert results.compare([a], [other], "micro_f1") is results.read_errors(other) is None
    rows = set()
    for row in (a, b):
        gold, predicted = results.answers(row.folder, "fi", row.registers)
        wrong = results.read_errors(row)
        assert sorted(wrong["row"]) == list(1 + np.flatnonzero(gold != predicted))
        assert wrong["probability"].is_monotonic_decreasing
        rows |= set(wrong["row"])
    assert {1, 100} <= rows  # the first text and the last


# ---- commands and gaps ----


def test_what_is_missing_is_asked_for_within_one_corpus(tmp_path):
    one, other = (
        {"path": path, "train": {"en": {}}, "files": {}, "languages": {}, "several_registers": []}
        for path in ("/one", "/other")
    )
    make(tmp_path / "xlmr-en", langs=["fi", "sv"], seed=1, corpus=one)
    make(tmp_path / "mbert-en", model="mbert", langs=["fi"], seed=2, corpus=one)
    make(tmp_path / "other" / "xlmr-en", langs=["ru"], seed=3, corpus=other)
    (command,) = results.missing_commands(read(tmp_path), ["fi", "ru", "sv"])
    assert "--model-name mbert" in command and command.endswith("--eval-lang sv")
    # moved to another folder, it is the same corpus if the file is
    change(tmp_path / "other" / "xlmr-en" / "run.json", corpus=other | {"files": {"test/sv.tsv": "made-sv"}})
    assert len(results.missing_commands(read(tmp_path), ["fi", "ru", "sv"])) == 2


def test_a_command_names_corpus_and_folders_so_that_it_can_be_pasted(tmp_path, monkeypatch):
    corpus = tmp_path / "my corpus;touch PWNED"
    corpus.mkdir()
    monkeypatch.chdir(tmp_path)
    record = {"model_name": "m", "train_langs": ["en", "fr"], "subfolder": "a/b", "corpus": {"path": str(corpus)}}
    command = results.evaluate_command(record, ["fi", "$(touch x)"])
    words = shlex.split(command)
    assert words == [
        "python", str(ROOT / "evaluate.py"), "--model-name", "m", "--train-langs", "en", "fr", "--subfolder", "a/b",
        "--eval-lang", "fi", "$(touch x)", "--corpus-path", "my corpus;touch PWNED",
    ]  # fmt: skip
    echoed = subprocess.run(
        ["bash", "-c", command.replace("python ", "printf '%s\\n' ", 1)], capture_output=True, text=True
    )
    assert echoed.stdout.splitlines() == words[1:] and os.listdir(tmp_path) == [corpus.name]


def test_gaps_in_names_of_languages_are_left_out(tmp_path):
    folder = make(tmp_path / "xlmr-en")
    corpus = json.loads((folder / "run.json").read_text())["corpus"]
    change(folder / "run.json", corpus=corpus | {"languages": {"en": "english", "sv": ""}})
    change(folder / "eval" / "fi.json", language="finnish")
    assert results.language_names(read(tmp_path)) == {"en": "english", "fi": "finnish"}


def test_runs_that_are_not_evaluated_are_named(tmp_path, caplog):
    make(tmp_path / "xlmr-en", langs=[])
    make(tmp_path / "xlmr-fr", training="fr")
    assert set(read(tmp_path)["training"]) == {"fr"}
    assert "xlmr-en" in caplog.text
