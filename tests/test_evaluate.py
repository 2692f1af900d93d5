"""Evaluation: scores of the right texts, languages that fail, many processes at once, results that are stale."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from conftest import REGISTERS

import evaluate
import finetune
from utils import corpus_load, metrics, model
from utils.runs import RunError, run_paths

LANGS = [f"l{i}" for i in range(19)]


@pytest.fixture
def corpus(write_corpus):
    rng = np.random.default_rng(0)
    words = {"IN": "bread is a kind of food", "OP": "we should never do this", "LY": "oh la la la"}

    def rows(n, seed):
        return [(r, f"{words[r]} " * int(rng.integers(1, 20)) + f"{seed}-{i}") for i in range(n) for r in REGISTERS]

    tests = {f"test/{lang}": rows(5, lang) for lang in LANGS}
    tests["test/l0"] = [("unused", "skip me"), ("LY", ""), *tests["test/l0"]]
    tests["test/l1"] = [("IN", "only IN here")] * 3
    return write_corpus({"train/en": rows(20, "en"), "test/en": rows(5, "test"), **tests})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder for the run that all tests evaluate, trained by the first of them."""
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def run(root, corpus, tiny, trained):
    options = ["--num-epochs=4", "--learning-rate=1e-3", "--max-length=64", "--precision=fp32", "--threads=1"]
    names = ["--model-name=tiny", "--train-langs=en", f"--corpus-path={corpus}", f"--checkpoint={tiny}"]
    if not trained.exists():
        assert finetune.main([*names, *options]) == 0
        for kind in ("outputs", "models"):
            shutil.copytree(root / kind, trained / kind)
    shutil.copytree(trained, root, dirs_exist_ok=True)
    return run_paths("tiny", ["en"])


def evaluate_main(corpus, *options):
    names = ["--model-name=tiny", "--train-langs=en", f"--corpus-path={corpus}"]
    return evaluate.main([*names, "--precision=fp32", *options])


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_predictions_are_in_the_files_order_and_agree_with_counts_and_scores(run, corpus):
    assert evaluate_main(corpus, "--eval-lang", "en", "l0", "--batch-size=4") == 0
    registers = list(REGISTERS)
    for lang in ("en", "l0"):
        texts = corpus_load.read_texts(corpus, "test", lang, registers)
        with open(run.predictions(lang), encoding="utf-8", newline="") as table:
            rows = list(csv.DictReader(table, delimiter="\t"))
        assert [(int(row["row"]), row["gold"]) for row in rows] == list(
            zip(texts["row"], texts["register"], strict=True)
        )
        probabilities = np.array([[float(row[register]) for register in registers] for row in rows])
        assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-5)
        assert [registers[i] for i in probabilities.argmax(axis=1)] == [row["predicted"] for row in rows]
        one_by_one = predict_one_by_one(run, texts["text"])
        np.testing.assert_allclose(probabilities, one_by_one, atol=2e-6)

        gold = [registers.index(row["gold"]) for row in rows]
        predicted = [registers.index(row["predicted"]) for row in rows]
        confusion = metrics.count_confusions(gold, predicted, 3)
        scores = load(run.scores(lang))
        assert scores["counts"] == confusion.tolist() and scores["registers"] == registers
        assert scores["metrics"] == metrics.all_metrics(confusion)
        assert scores["n"] == len(rows) and scores["zero_shot"] == (lang != "en")
    assert load(run.scores("l0"))["rows_skipped"] == 2 and load(run.scores("l0"))["too_few_texts"] == registers


def predict_one_by_one(run, texts):
    """The probabilities of each text, put through the model alone, with nothing of our loop."""
    classifier, tokenizer = model.load_classifier(run.models, list(REGISTERS)).eval(), model.load_tokenizer(run.models)
    options = {"truncation": True, "max_length": 64, "return_tensors": "pt"}
    with torch.no_grad():
        logits = [classifier(**tokenizer(text, **options)).logits[0] for text in texts]
    return torch.stack(logits).softmax(dim=1).numpy()


def test_a_register_without_gold_texts_has_no_scores_and_is_no_zero(run, corpus):
    evaluate_main(corpus, "--eval-lang", "l1")
    registers = load(run.scores("l1"))["per_register"]
    assert registers["LY"]["support"] == 0 and registers["LY"]["f1"] is None and registers["LY"]["recall"] is None
    assert registers["IN"]["support"] == 3
    assert load(run.scores("l1"))["metrics"]["macro_f1"] == registers["IN"]["f1"]


def test_a_language_that_fails_is_reported_and_the_others_go_on(run, corpus, caplog):
    (corpus / "corpus" / "test" / "l3.tsv").write_text("XX\tno such register\n", encoding="utf-8")
    assert evaluate_main(corpus, "--eval-lang", "l2", "nowhere", "l3", "l4") == 1
    assert sorted(path.name for path in (run.outputs / "eval").iterdir()) == ["l2.json", "l4.json"]
    assert "nowhere" in caplog.text and "l3.tsv:1: " in caplog.text and "nowhere l3" in caplog.text


def test_what_is_done_is_skipped_and_what_is_stale_is_done_anew(run, corpus, caplog, capsys, tiny):
    def evaluated(*options):
        capsys.readouterr()
        assert evaluate_main(corpus, "--eval-lang", "l2", "l4", *options) == 0
        return [line.split()[0] for line in capsys.readouterr().out.splitlines()]

    assert evaluated() == ["l2", "l4"]
    assert evaluated() == []
    assert evaluated("--overwrite") == ["l2", "l4"]
    run.predictions("l4").unlink()
    assert evaluated() == ["l4"]
    with open(corpus / "corpus" / "test" / "l2.tsv", "a", encoding="utf-8") as file:
        file.write("IN\tone more text\n")
    assert evaluated() == ["l2"]
    assert evaluated() == []


def test_scores_of_another_length_or_precision_are_not_replaced_unasked(run, corpus, capsys, caplog):
    assert evaluate_main(corpus, "--eval-lang", "l2") == 0
    before = run.scores("l2").read_bytes()
    assert evaluate_main(corpus, "--eval-lang", "l2", "l4", "--max-length=16") == 1
    assert run.scores("l2").read_bytes() == before
    assert "--max-length 64" in caplog.text and "--overwrite" in caplog.text
    assert load(run.scores("l4"))["signature"]["max_length"] == 16  # the others are evaluated
    assert evaluate_main(corpus, "--eval-lang", "l2", "--max-length=16", "--overwrite") == 0
    assert load(run.scores("l2"))["signature"]["max_length"] == 16
    caplog.clear()
    assert evaluate_main(corpus, "--eval-lang", "l2") == 1  # the default is the training's length
    assert evaluate_main(corpus, "--eval-lang", "l2", "--max-length=16", "--precision=bf16") == 1
    assert "--precision fp32" in caplog.text


def test_a_model_that_is_not_the_one_trained_is_refused(run, corpus):
    with open(run.models / "model.safetensors", "r+b") as file:
        file.seek(-4, 2)
        file.write(b"xxxx")
    with pytest.raises(RunError, match="model.safetensors: .*--overwrite"):
        evaluate_main(corpus, "--eval-lang", "l2")


def test_the_training_that_is_missing_is_a_command_only_where_it_can_be_typed(root, corpus):
    with pytest.raises(RunError, match="python finetune.py --model-name xlmr --train-langs en$"):
        evaluate.main(["--model-name=xlmr", "--train-langs=en", f"--corpus-path={corpus}", "--eval-lang=en"])
    with pytest.raises(RunError, match="--checkpoint"):
        evaluate.main(["--model-name=mine", "--train-langs=en", f"--corpus-path={corpus}", "--eval-lang=en"])


def test_texts_under_several_registers_are_counted(run, corpus):
    with open(corpus / "corpus" / "test" / "l2.tsv", "a") as file:
        file.write("IN\ttwo ways\nOP\ttwo  ways\n")
    assert evaluate.main(["--model-name=tiny", "--train-langs=en", f"--corpus-path={corpus}", "--eval-lang=l2"]) == 0
    scores = json.loads(run.scores("l2").read_text())
    assert scores["several_registers"] == ["test/l2.tsv:16 IN, test/l2.tsv:17 OP"] and scores["n"] == 17
    assert list(REGISTERS) == scores["signature"]["registers"]
