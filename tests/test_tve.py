"""Transfer matrices: what they show, and that all of it can be read, whatever the names and however many."""

import numpy as np
import pytest
from legible import check_legible

from utils import tve
from utils.scores import figures
from utils.scores.panels import Cell, Panel, Row


@pytest.fixture(autouse=True)
def style():
    figures.use_style([])


def make_panel(
    n_rows=3, langs=("en", "fi", "fr"), metric="macro_f1_10", seeds=1, subfolder="", model="xlmr", mixes=None, few=False
):
    rng = np.random.default_rng(0)
    score = float("nan") if few else 1.0
    rows = []
    for mix in mixes or [f"l{i}" for i in range(n_rows)]:
        cells = {
            lang: Cell(score * rng.uniform(), 0.123, 0.987, 0.012 if seeds > 1 else np.nan, 2, few) for lang in langs
        }
        rows.append(Row(mix, tuple(mix.split("-")), [], cells))
    baseline = {lang: Cell(0.1) for lang in langs}
    n_texts = {lang: [400, 12_345][: 1 + (seeds > 1)] for lang in langs}
    gold = {lang: {"IN": 20, "OP": 30, "LY": 5} for lang in langs}
    means = {row.label: Cell(0.5, 0.4, 0.6) for row in rows}
    return Panel(subfolder, model, metric, rows, baseline, list(langs), n_texts, list(langs), means, gold, seeds)


def both_metrics(**options):
    return [make_panel(metric=metric, **options) for metric in ("macro_f1_10", "micro_f1")]


@pytest.mark.parametrize(
    ("options", "lang"),
    [
        ({"n_rows": 1, "langs": ["en"]}, "fr"),
        ({"n_rows": 5, "langs": [f"l{i}" for i in range(19)]}, "en"),
        ({"n_rows": 2, "langs": [f"l{i}" for i in range(60)]}, "fr"),
        ({"n_rows": 70, "langs": ["zho_Hans"]}, "en"),
        ({"seeds": 12}, "fr"),
        ({"few": True}, "fr"),
        ({"langs": [f"{'language' * 7}_{i:02}" for i in range(4)], "n_rows": 2}, "en"),
        ({"langs": ["a_" * 31 + str(i) for i in range(3)], "mixes": ["-".join(f"l{i}" for i in range(30))]}, "fr"),
        ({"n_rows": 1, "langs": ["en"], "model": "m" * 64, "subfolder": "s" * 64 + "/" + "t" * 64}, "fr"),
    ],
)
def test_texts_are_apart_and_within_the_figure(options, lang):
    for figure in tve.draw_panels(both_metrics(**options), 2, lang):
        check_legible(figure)


def test_many_models_are_split_into_pages_of_whole_rows():
    langs = [f"l{i}" for i in range(20)]
    panels = [panel for i in range(9) for panel in both_metrics(n_rows=12, langs=langs, model=f"m{i}")]
    panels = [panel._replace(rows=[row._replace(cells={}) for row in panel.rows]) for panel in panels]
    pages = list(tve.draw_panels(panels, 2, "en"))
    assert [len(figure.axes) for figure in pages] == [8, 8, 2]
    for figure in pages:
        assert (figure.get_size_inches() <= tve.PAGE).all()
        assert "score × 100" in figure.texts[0].get_text()  # the notes
    assert pages[1].axes[0].get_title() == "m4, macro-F1, registers of ≥ 10 texts"


def test_a_panel_larger_than_a_page_is_drawn_in_parts_that_lack_and_repeat_nothing():
    panel = make_panel(n_rows=100, langs=[f"l{i}" for i in range(60)])
    kept = [row._replace(cells={lang: row.cells[lang] for lang in ("l0", "l31", "l59")}) for row in panel.rows]
    pages = list(tve.draw_panels([panel._replace(rows=kept)], 1, "en"))
    axes = [ax for figure in pages for ax in figure.axes]
    assert [ax.get_title()[-6:] for ax in axes] == [f" ({i}/4)" for i in (1, 2, 3, 4)]
    shown = [text.get_text() for ax in axes for text in ax.texts]
    assert shown.count("12.3–98.7") == 100 * 3 and shown.count("40.0–60.0") == 100  # cells and means
    for figure in pages:
        assert (figure.get_size_inches() <= tve.PAGE).all()
    check_legible(pages[-1])


def test_colours_are_of_the_scores_and_cells_with_too_few_texts_are_grey():
    panel = make_panel(n_rows=1, langs=["en", "fi"])
    cells = {"en": Cell(0.5), "fi": Cell(float("nan"))}
    (figure,) = tve.draw_panels([panel._replace(rows=[panel.rows[0]._replace(cells=cells)])], 1, "en")
    (ax,) = figure.axes
    matrix, baseline, means = ax.collections
    matrix.update_scalarmappable()
    colours = matrix.get_facecolors()
    assert colours[0] == pytest.approx(matrix.get_cmap()(0.5 / tve.SCALE_TOP))
    assert colours[1] == pytest.approx([0.93] * 3 + [1])
    assert "too few\ntexts" in {text.get_text() for text in ax.texts}
    assert baseline.get_array().shape == (1, 2) and means.get_array().shape == (1, 1)
