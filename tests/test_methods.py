"""methods.md: every number of the records is in the paragraph, in both languages, and nothing that no record has."""

import json
import re

import numpy as np
import pytest
from make_grid import make_run

from utils import methods, results, runs, tables

LANGS = ["en", "fi", "fr"]
SETTINGS = {
    "checkpoint": "FacebookAI/xlm-roberta-base", "learning_rate": 0.00013, "head_rate": 0.0005, "batch_size": 17,
    "gradient_accumulation": 3, "processes": 4, "frozen_layers": 0.25, "balanced": False, "max_length": 511,
    "validation_size": 0.2,
}  # fmt: skip
RECORD = {"epochs": 11, "best_epoch": 7, "precision": "bf16", "commit": "0123abc", "versions": {"torch": "2.97"}}


def change(path, **values):
    """Change values of a JSON file, those of its dicts one by one."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        content[key] = content.get(key, {}) | value if isinstance(value, dict) else value
    runs.write_json(path, content)


def write(base_dirs, lang="en", drawn=("macro_f1_10", "micro_f1")):
    frame, damaged = results.read_results(base_dirs)
    assert damaged == 0
    path = base_dirs[0] / "methods.md"
    matrices = tables.make_matrices(frame, drawn, len(base_dirs), lang)
    methods.write_methods(path, frame, matrices, results.language_names(frame), lang)
    text = path.read_text(encoding="utf-8")
    paragraph, bibtex = re.fullmatch(r"(.+)\n\n```bibtex\n(.+)\n```\n", text, re.DOTALL).groups()
    return re.sub(r"\\(?=[\W_])", "", paragraph), bibtex


@pytest.fixture
def seeds(tmp_path):
    """Three base dirs of two trainings each, with complete records."""
    rng = np.random.default_rng(0)
    for seed in (1, 2, 42):
        for training in ("en", "en-fr"):
            folder = tmp_path / f"seed{seed}" / f"xlmr-{training}"
            make_run(folder, "xlmr", training, LANGS, 301, rng)
            counts = {"en": {"IN": 600 + seed, "OP": 0}, "fr": {"IN": 700}}
            train = {code: counts[code] for code in training.split("-")}
            names = {"en": "english", "fr": "french"}
            corpus = {"path": "/data/register-corpus", "train": train, "languages": names}
            change(folder / "run.json", settings=SETTINGS | {"seed": seed}, corpus=corpus, **RECORD)
            for code in LANGS:
                change(folder / "eval" / f"{code}.json", signature={"max_length": 511, "transformers": "5.98"})
    return [tmp_path / f"seed{seed}" for seed in (1, 2, 42)]


@pytest.mark.parametrize(
    ("lang", "rate", "share", "trainings", "last"),
    [
        ("en", "0.00013", "0.25", "English (601, 602 and 642)", "and"),
        ("fr", "0,00013", "0,25", "anglais (601, 602 et 642)", "et"),
    ],
)
def test_every_number_of_the_records_is_in_the_paragraph(seeds, lang, rate, share, trainings, last):
    paragraph, _ = write(seeds, lang)
    for text in (
        "xlmr (FacebookAI/xlm-roberta-base)", rate, share, "17 × 3", "× 4", "511", "bf16", "11", "7", "0123abc",
        "2.97", "5.98", f"1, 2 {last} 42", "fi (301)", "Bonferroni", "Wilson", "Takahashi", "Welch", trainings,
    ):  # fmt: skip
        assert text in paragraph, text
    assert "None" not in paragraph and "{" not in paragraph
    assert not re.search(r"[^\xa0][:;%]" if lang == "fr" else r"\s[:;]", paragraph)


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_what_no_record_has_is_left_out(tmp_path, lang):
    make_run(tmp_path / "old" / "xlmr-en", "xlmr", "en", ["fi"], 50, np.random.default_rng(0))
    paragraph, bibtex = write([tmp_path / "old"], lang)
    assert "xlmr" in paragraph and "fi (50)" in paragraph
    assert not re.search("None|nan|learning|apprentissage|torch|[:(,] *[.,)]", paragraph)
    assert "note" not in bibtex
