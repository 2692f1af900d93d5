"""The figure of registers: which dots and bars it shows, and that all of it can be read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from legible import check_legible

from utils import figures, registers, tables

REGISTERS = ("IN", "OP", "LY")
COUNTS = [[18, 2, 0], [1, 10, 0], [3, 0, 1]]


@pytest.fixture(autouse=True)
def style():
    figures.use_style([])


def make_frame(trainings=("en", "fi"), langs=("en",), seeds=1, of_registers=REGISTERS, counts=COUNTS):
    rows = [
        {"subfolder": "", "model": "xlmr", "training": training, "eval_lang": lang, "registers": tuple(of_registers),
         "counts": np.array(counts) + seed, "folder": Path(f"{seed}/{training}"), "not_comparable": "",
         "base_dir": Path(str(seed))}
        for training in trainings for seed in range(seeds) for lang in langs
    ]  # fmt: skip
    return pd.DataFrame(rows)


def dots_of(ax):
    """Return the dots' F1 and whether they are hollow, and the bars' ends."""
    bars, dots = ax.collections[:2]
    hollow = (dots.get_facecolors()[:, :3] == 1).all(axis=1)
    return np.asarray(dots.get_offsets()[:, 1]), hollow, np.array(bars.get_segments())[:, :, 1]


def test_a_dot_is_the_f1_its_bar_the_interval_and_a_register_of_few_texts_is_hollow():
    frame = make_frame()
    (figure,) = registers.draw(frame, {"en": "english"}, "en")
    check_legible(figure)
    legend, ax = figure.axes
    assert [text.get_text() for text in legend.get_legend().get_texts()] == ["en", "fi"]
    assert ax.get_title() == "English" and "xlmr" in figure.texts[0].get_text()
    assert [text.get_text() for text in ax.get_xticklabels()] == ["IN\n(20)", "OP\n(11)", "LY\n(4)"]
    f1, hollow, bars = dots_of(ax)
    expected = tables.register_scores([*frame.itertuples()][:1])
    assert f1 == pytest.approx(100 * np.tile(expected["f1"], 2))
    assert list(hollow) == [False, False, True] * 2
    assert bars == pytest.approx(np.tile(100 * np.array([expected["f1_low"], expected["f1_high"]]).T, (2, 1)))


def test_several_seeds_are_one_dot_at_their_mean_with_a_bar_over_all_intervals():
    frame = make_frame(["en"], seeds=3)
    (figure,) = registers.draw(frame, {}, "fr")
    scores = tables.register_scores(frame.itertuples()).groupby("register", sort=False)
    f1, _, bars = dots_of(figure.axes[1])
    assert f1 == pytest.approx(100 * scores["f1"].mean())
    assert bars[:, 0] == pytest.approx(100 * scores["f1_low"].min())
    assert bars[:, 1] == pytest.approx(100 * scores["f1_high"].max())


def test_more_trainings_than_colours_and_many_languages_go_to_further_pages_each_with_its_legend():
    langs = [f"l{i}" for i in range(60)]
    pages = list(registers.draw(make_frame([f"t{i}" for i in range(12)], langs), {}, "en"))
    assert f"({len(pages)}/{len(pages)})" in pages[-1].texts[0].get_text()
    shown = {}
    for figure in pages:
        legend, *panels = figure.axes
        names = [text.get_text() for text in legend.get_legend().get_texts()]
        assert len(names) <= 8
        for training in names:
            shown.setdefault(training, []).extend(ax.get_title() for ax in panels)
    assert shown == {f"t{i}": sorted(langs) for i in range(12)}


@pytest.mark.parametrize(
    "names", [("Information/Explanation", "Opinion/Argumentation", "Other"), ("x" * 30, "y" * 30, "IN")]
)
def test_texts_are_apart_and_within_the_figure(names):
    frame = make_frame(["-".join(f"l{i}" for i in range(30)), "en", "fi"], ["en", "a" * 40], of_registers=names)
    for figure in registers.draw(frame, {}, "fr"):
        check_legible(figure)
