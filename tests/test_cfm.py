"""Confusion matrices: what they show, and that all of it can be read, whatever the names and however many."""

import re

import numpy as np
import pandas as pd
import pytest
from legible import check_legible

from utils import cfm, figures

ABBREVIATIONS = ["IN", "OP", "RN", "JN", "HI", "LY", "ND", "AD"]
WORDS = ["Information/Explanation", "Instruction", "Legal", "News", "Opinion/Argumentation", "Promotion",
         "Prose/Lyrical", "Forum", "Other"]  # fmt: skip
LONG = [f"{'x' * 30}{i:02}" for i in range(60)]  # nowhere to break them
NAMES = {"en": "english", "fi": "finnish", "fr": "french"}


@pytest.fixture(autouse=True)
def style():
    figures.use_style([])


def make_rows(registers, langs, train_langs=("en",), largest=40, model="xlmr", counts=None):
    """Return a row per evaluation, as results.evaluations does."""
    rng = np.random.default_rng(0)
    train = {lang: dict.fromkeys(registers, 1234) for lang in train_langs}
    record = {"model_name": model, "train_langs": list(train_langs), "corpus": {"train": train}}
    rows = []
    for lang in langs:
        one = rng.integers(0, largest, (len(registers), len(registers))) if counts is None else np.array(counts)
        row = {"eval_lang": lang, "registers": tuple(registers), "counts": one, "n": int(one.sum())}
        rows.append(row | {"zero_shot": lang not in train_langs, "record": record})
    return pd.DataFrame(rows)


def draw(rows, lang="en", with_summary=True, names=NAMES):
    return list(cfm.draw_run(rows, names, lang, with_summary))


@pytest.mark.parametrize(
    ("registers", "n_langs", "n_pages", "lang"),
    [
        (["A", "B"], 1, 1, "fr"),
        (ABBREVIATIONS, 19, 1, "en"),
        (ABBREVIATIONS, 60, 3, "fr"),
        (WORDS, 19, 1, "fr"),
        (LONG[:2], 1, 1, "en"),
        (LONG, 1, 2, "fr"),
    ],
)
def test_texts_are_apart_and_within_the_figure(registers, n_langs, n_pages, lang):
    pages = draw(make_rows(registers, [f"l{i}" for i in range(n_langs)]), lang)
    assert len(pages) == n_pages
    assert sum(len(figure.axes) for figure in pages) == n_langs + 1
    for figure in pages:
        check_legible(figure)


def test_languages_trained_on_come_first_and_every_title_says_how_many_registers_are_averaged():
    counts = [[18, 2, 0], [1, 10, 0], [3, 0, 0]]
    (figure,) = draw(make_rows(["IN", "OP", "LY"], ["fi", "en", "da"], ("en",), counts=counts))
    titles = [ax.get_title() for ax in figure.axes]
    assert "3702" in titles[0]  # training texts
    assert titles[1].startswith("English *") and {"34", "86.3"} <= set(re.findall(r"\d+\.?\d*", titles[1]))
    assert [title.split()[0] for title in titles[2:]] == ["da", "Finnish"]


def test_rows_are_gold_and_a_register_without_texts_is_blank():
    (figure,) = draw(make_rows(["IN", "OP"], ["fi"], counts=[[3, 1], [0, 0]]), with_summary=False)
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["IN (4)", "OP (0)"]
    assert {(text.get_position(), text.get_text()) for text in ax.texts} == {
        ((0.5, 0.5), "75\n(3)"),
        ((1.5, 0.5), "25\n(1)"),
    }
    (shares,) = (mesh.get_array() for mesh in ax.collections)
    assert np.ma.getmaskarray(shares)[1].all() and not np.ma.getmaskarray(shares)[0].any()
