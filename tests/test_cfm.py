"""Confusion matrices: what they show, and that all of it can be read, whatever the names and however many."""

from pathlib import Path

import numpy as np
import pytest
from legible import check_legible
from matplotlib.patches import Rectangle

from utils import cfm, metrics
from utils.scores import figures
from utils.scores.results import EvaluatedRun, Evaluation

ABBREVIATIONS = ["IN", "OP", "RN", "JN", "HI", "LY", "ND", "AD"]
WORDS = ["Information/Explanation", "Instruction", "Legal", "News", "Opinion/Argumentation", "Promotion",
         "Prose/Lyrical", "Forum", "Other"]  # fmt: skip
LONG = [f"{'x' * 30}{i:02}" for i in range(60)]  # nowhere to break them


@pytest.fixture(autouse=True)
def style():
    figures.use_style([])


def make_run(registers, langs, train_langs=("en",), largest=40, model="xlmr"):
    rng = np.random.default_rng(0)
    evaluations = {}
    for lang in langs:
        counts = rng.integers(0, largest, (len(registers), len(registers)))
        evaluations[lang] = Evaluation(lang, registers, counts, metrics.all_metrics(counts), {})
    train = {lang: dict.fromkeys(registers, 1234) for lang in train_langs}
    return EvaluatedRun(Path(), Path(), model, tuple(train_langs), {"corpus": {"train": train}}, evaluations)


def draw(run, lang="en", with_summary=True):
    return list(cfm.draw_run(run, list(run.evaluations), lang, with_summary))


@pytest.mark.parametrize(
    ("registers", "n_langs", "n_pages", "lang"),
    [
        (["A", "B"], 1, 1, "fr"),
        (ABBREVIATIONS, 19, 1, "en"),
        (ABBREVIATIONS, 60, 3, "fr"),
        (WORDS, 1, 1, "en"),
        (WORDS, 19, 2, "fr"),
        (LONG[:2], 1, 1, "en"),
        (LONG, 1, 2, "fr"),
    ],
)
def test_texts_are_apart_and_within_the_figure(registers, n_langs, n_pages, lang):
    pages = draw(make_run(registers, [f"l{i}" for i in range(n_langs)]), lang)
    assert len(pages) == n_pages
    assert sum(len(figure.axes) for figure in pages) == n_langs + 1
    for figure in pages:
        check_legible(figure)


@pytest.mark.parametrize("n_mixed", [2, 19])
def test_long_names_of_languages_and_models_are_broken(n_mixed):
    langs = [f"{'language' * 7}_{i:02}" for i in range(n_mixed)]
    run = make_run(WORDS, langs, langs, model="model-" + 58 * "m")
    for figure in draw(run, "fr"):
        check_legible(figure)


def test_counts_of_six_digits_fit_their_cells():
    (figure,) = draw(make_run(ABBREVIATIONS, ["en"], largest=400_000))
    check_legible(figure)


def test_the_legend_of_training_languages_covers_no_bar():
    (figure,) = draw(make_run(ABBREVIATIONS, ["en"], ("en", "fi", "fr")))
    check_legible(figure)
    ax = figure.axes[0]
    left = ax.get_legend().get_window_extent().x0
    bars = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert len(bars) == 3 * 8 and max(bar.get_window_extent().x1 for bar in bars) < left


def test_every_page_says_which_it_is_and_has_its_notes():
    pages = draw(make_run(WORDS, [f"l{i}" for i in range(19)]))
    for number, figure in enumerate(pages, start=1):
        title, notes = (text.get_text() for text in figure.texts)
        assert title == f"xlmr, trained on English ({number}/2)"
        assert "share of the row in %" in notes and "Legal" not in notes  # a word needs no key
    (figure,) = draw(make_run(ABBREVIATIONS, ["fi"]))
    assert figure.texts[0].get_text() == "xlmr, trained on English"
    assert "HI\N{NO-BREAK SPACE}how-to" in figure.texts[1].get_text()
