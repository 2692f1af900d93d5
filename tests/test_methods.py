"""methods.md: every number of the records is in the paragraph, in both languages, and nothing that no record has."""

import json
import re

import numpy as np
import pytest
from make_grid import make_run

import evaluate
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
    ("lang", "rate", "share", "trainings", "test"),
    [
        ("en", "0.00013", "0.25", "English (601, 602 and 642) and English + French (601 + 700, ", "Welch’s t test"),
        ("fr", "0,00013", "0,25", "anglais (601, 602 et 642) et anglais + français (601 + 700, ", "test t de Welch"),
    ],
)  # fmt: skip
def test_every_number_of_the_records_is_in_the_paragraph(seeds, lang, rate, share, trainings, test):
    paragraph, _ = write(seeds, lang)
    last = {"en": "and", "fr": "et"}[lang]
    for text in (
        "xlmr (FacebookAI/xlm-roberta-base)", rate, share, "17 × 3", "× 4", "511", "bf16", "11", "7", "0123abc",
        "2.97", "5.98", f"1, 2 {last} 42", "fi (301)", "Bonferroni", "Wilson", "Takahashi",
    ):  # fmt: skip
        assert text in paragraph, text
    assert trainings in paragraph
    assert test in paragraph and "None" not in paragraph and "{" not in paragraph
    assert not re.search(r"[^\xa0][:;%]" if lang == "fr" else r"\s[:;]", paragraph)


def test_where_trainings_differ_all_values_are_named(seeds):
    change(seeds[0] / "xlmr-en" / "run.json", settings={"learning_rate": 5e-5, "checkpoint": "my/own"})
    paragraph, _ = write(seeds)
    assert "Peak learning rate: 5e-5 and 0.00013" in paragraph
    assert "xlmr (my/own) and xlmr (FacebookAI/xlm-roberta-base)" in paragraph
    assert "xlmr-en (en fi fr): checkpoint my/own, not FacebookAI/x; learning_rate 5e-05, not 0.00013" in paragraph
    assert "learning_rate 5e-05, et non 0.00013" in write(seeds, "fr")[0]


def test_only_what_the_tables_use_is_said(seeds):
    single, _ = write(seeds[:1], drawn=["micro_f1"])
    assert "McNemar’s exact test" in single and "Wilson’s" in single and "Macro-F1" not in single
    assert "hold for other trainings" not in single and "Not comparable" not in single
    several, _ = write(seeds, drawn=["macro_f1", "recall"])
    assert "all registers of the test file: macro-F1 and recall (macro)." in several and "Wilson" not in several
    assert "Those over 3 trainings also hold for other trainings." in several


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_what_no_record_has_is_left_out(tmp_path, lang):
    make_run(tmp_path / "old" / "xlmr-en", "xlmr", "en", ["fi"], 50, np.random.default_rng(0))
    paragraph, bibtex = write([tmp_path / "old"], lang)
    assert "xlmr" in paragraph and "fi (50)" in paragraph
    assert not re.search("None|nan|learning|apprentissage|torch|[:(,] *[.,)]", paragraph)
    assert "note" not in bibtex


def test_the_record_of_a_real_run_has_all_that_is_asked_of_it(train, corpus):
    run = train("--num-epochs=1")
    options = ["--model-name=tiny", "--train-langs=en", f"--corpus-path={corpus}", "--precision=fp32"]
    assert evaluate.main([*options, "--eval-lang", "en", "fr"]) == 0
    paragraph, _ = write([run.outputs.parent])
    # there is one training of an encoder on all texts, of two metrics, and no git in the folder that is the project
    left_out = {"zero_shot", "several", "different", "averages", "test", "commit", "ngrams", "texts"}
    for sentence in re.split(r"(?<=\.) ", methods.PARAGRAPH["en"].replace("\n", " ")):
        if not left_out & set(re.findall(r"{(\w+)", sentence)):
            assert re.split(r"\W*{", sentence)[0].replace(" %", "\xa0%") in paragraph, sentence
    assert "Peak learning rate: 0.001, of the classifier’s head 0.001." in paragraph
    assert "Share of the layers frozen, with the embeddings: 0." in paragraph  # its weights are random


def test_bibtex_can_be_pasted(seeds):
    for base_dir, checkpoint in zip(seeds, ("cis-lmu/glot500-base", "a_b/c{}", "me/mine_x"), strict=True):
        change(base_dir / "xlmr-en" / "run.json", settings={"checkpoint": checkpoint})
    _, bibtex = write(seeds)
    entries = re.split(r"\n\n(?=@)", bibtex)
    keys = [re.match(r"@(?:misc|inproceedings)\{([\w:.-]+),", entry)[1].lower() for entry in entries]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {
        "register-finetuning", "register-corpus", "conneau-etal-2020-unsupervised", "imanigooghari-etal-2023-glot500",
        "me:mine_x",
    }  # fmt: skip
    for entry in entries:
        depths = np.cumsum([{"{": 1, "}": -1}.get(c, 0) for c in entry])
        assert depths.min() >= 0 and depths[-1] == 0 and (depths[entry.index("{") : -1] > 0).all(), entry
        assert re.search(r"title = \{.+?\}", entry, re.DOTALL)
    assert r"title = {{me/mine\_x}}, howpublished = {\url{https://huggingface.co/me/mine_x}}" in bibtex
    assert "note = {commit 0123abc}" in bibtex


def test_another_corpus_is_not_cited_as_register_corpus(seeds):
    for path in (path for base_dir in seeds for path in base_dir.glob("*/run.json")):
        change(path, corpus={"path": "/data/sample-corpus"})
    assert "register-corpus" not in write(seeds)[1]
