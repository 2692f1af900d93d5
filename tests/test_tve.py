"""Transfer matrices: what they show, and that all of it can be read, whatever the names and however many."""

import numpy as np
import pandas as pd
import pytest
from legible import check_legible
from matplotlib.patches import Rectangle

from utils import figures, tve
from utils.tables import BASELINE, MEAN, Matrix

LANGS = ["en", "fi", "fr"]


@pytest.fixture(autouse=True)
def style():
    figures.use_style([])


def make_cell(row, column, kind="cell", score=0.5, text=("50.0", "40.1–60.2"), mark="", best="", own=False):
    found = {"row": row, "column": column, "kind": kind, "score": score, "text": text, "mark": mark}
    return found | {"best": best, "own": own, "n": 1, "low": 0.4, "high": 0.6, "sd": np.nan}


def make_matrix(
    rows=("l0", "l1", "l2"), langs=LANGS, metric="macro_f1_10", model="xlmr", subfolder="", seeds=1, **cell
):
    rows, langs = list(rows), list(langs)
    cells = [make_cell(row, lang, own=lang in row.split("-"), **cell) for row in rows for lang in langs]
    cells += [make_cell(BASELINE, lang, "baseline", 0.1, ("10.0",)) for lang in langs]
    cells += [make_cell(row, MEAN, "mean", 0.4, ("40.0", "30.3–50.3")) for row in rows]
    last = [] if metric == "micro_f1" else ["2/3 reg."]
    heads = {lang: [lang, "400/12345" if seeds > 1 else "400", *last] for lang in langs}
    gold = {lang: {"IN": 20, "OP": 30, "LY": 5} for lang in langs}
    name = f"{subfolder}/{model}" if subfolder else model
    return Matrix(name, model, subfolder, metric, seeds, rows, langs, heads, gold, langs[1:], pd.DataFrame(cells))


def both_metrics(**options):
    return [make_matrix(metric=metric, **options) for metric in ("macro_f1_10", "micro_f1")]


@pytest.mark.parametrize(
    ("options", "lang"),
    [
        ({"rows": ["en"], "langs": ["en"]}, "fr"),
        ({"langs": [f"l{i}" for i in range(19)]}, "en"),
        ({"langs": [f"l{i}" for i in range(60)], "rows": ["en", "fi"]}, "fr"),
        ({"langs": ["zho_Hans"], "rows": [f"l{i}" for i in range(70)]}, "en"),
        ({"seeds": 12, "text": ("75.0 ±12.5 †↓°", "10.0–98.7", "2 sur 12")}, "fr"),
        ({"score": np.nan, "text": ("trop peu de textes †",)}, "fr"),
        ({"langs": [f"{'language' * 7}_{i:02}" for i in range(4)]}, "en"),
        ({"langs": ["a_" * 31 + str(i) for i in range(3)], "rows": ["-".join(f"l{i}" for i in range(30))]}, "fr"),
        ({"rows": ["en"], "langs": ["en"], "model": "m" * 64, "subfolder": "s" * 64 + "/" + "t" * 64}, "fr"),
    ],
)
def test_texts_are_apart_and_within_the_figure(options, lang):
    for figure in tve.draw_matrices(both_metrics(**options), lang):
        check_legible(figure)


def test_the_best_is_bold_those_not_distinguishable_are_underlined_and_a_training_language_is_outlined():
    cells = [
        make_cell("en", "en", best="best", own=True, text=("90.1",)),
        make_cell("fi", "en", best="tied", text=("88.2 ±1.1 †",)),
        make_cell("fr", "en", text=("60.3",)),
        make_cell(BASELINE, "en", "baseline", 0.1, ("10.4",)),
    ]
    matrix = make_matrix(["en", "fi", "fr"], ["en"])._replace(cells=pd.DataFrame(cells), zero_shot=[])
    (figure,) = tve.draw_matrices([matrix], "en")
    check_legible(figure)
    (ax,) = figure.axes
    weights = {text.get_text(): text.get_weight() for text in ax.texts if text.get_text()}
    assert weights == {"90.1": "bold", "88.2 ±1.1 †": "normal", "60.3": "normal", "10.4": "normal"}
    (outline,) = (patch for patch in ax.patches if isinstance(patch, Rectangle))
    assert outline.get_window_extent().count_contains([ax.transData.transform((0.5, 0.5))])
    (line,) = (found for found in ax.collections if len(found.get_paths()) == 1 and found.get_linewidth()[0] == 0.7)
    score = next(text for text in ax.texts if text.get_text().startswith("88.2")).get_window_extent()
    (start, y), (end, _) = ax.transData.transform(line.get_segments()[0])
    assert start == pytest.approx(score.x0, abs=3) and end < (score.x0 + score.x1) / 2  # the score alone
    assert score.y0 - 3 < y < score.y0 + score.height / 3


def test_a_matrix_larger_than_a_page_is_drawn_in_parts_that_lack_and_repeat_nothing():
    matrix = make_matrix([f"l{i}" for i in range(100)], [f"l{i}" for i in range(60)])
    kept = matrix.cells["column"].isin(["l0", "l31", "l59", MEAN])
    pages = list(tve.draw_matrices([matrix._replace(cells=matrix.cells[kept])], "en"))
    axes = [ax for figure in pages for ax in figure.axes]
    assert [ax.get_title()[-6:].strip() for ax in axes] == [f"({i}/4)" for i in (1, 2, 3, 4)]
    shown = [text.get_text() for ax in axes for text in ax.texts]
    assert shown.count("40.1–60.2") == 100 * 3 and shown.count("30.3–50.3") == 100  # cells and means
    for figure in pages:
        assert (figure.get_size_inches() < tve.PAGE + 2).all()
    check_legible(pages[-1])
