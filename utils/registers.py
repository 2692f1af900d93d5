"""Draw the F1 of each register with its interval: a panel per evaluation language, a colour per training."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from seaborn import color_palette

from utils import metrics, results, tables
from utils.figures import Panel, draw_pages, height_of, name_cells, parts, text_width, wrapped
from utils.labels import language, word

COLOURS = color_palette("colorblind", 8)  # of so many trainings on a page
PAGE_WIDTH, ROWS = 16.5, 10  # inches; panels below each other on a page
HEIGHT, DOT, GAP = 2.2, 0.09, 0.17  # inches: of a panel, from dot to dot, more from register to register
TEXT = 11  # points


def draw(frame: pd.DataFrame, names: dict[str, str], lang: str) -> Iterator[Figure]:
    """Yield a page per subfolder and model, or several if there are many trainings or languages."""
    for (subfolder, model), of_model in results.evaluations(frame).groupby(["subfolder", "model"], sort=False):
        # a dot for the mean over the seeds, a bar over the intervals of all of them
        of_langs = [list(of_lang.itertuples()) for _, of_lang in of_model.groupby("eval_lang")]
        scores = tables.register_scores([row for of_lang in of_langs for row in tables.comparable(of_lang)])
        scores = scores.groupby(["eval_lang", "train_langs", "register"], sort=False, as_index=False)
        scores = scores.agg(f1=("f1", "mean"), low=("f1_low", "min"), high=("f1_high", "max"), n=("support", "max"))
        registers = list(dict.fromkeys(scores["register"]))
        trainings = parts(list(dict.fromkeys(of_model["training"])), len(COLOURS))
        # wide enough for the dots of a register, and for its name, vertical and in three lines if necessary
        widest = text_width(f"({scores['n'].max()})", TEXT) + 0.1
        step = max(len(trainings[0]) * DOT + GAP, widest, height_of("\n\n", TEXT))
        size, langs = (step * len(registers), HEIGHT), list(dict.fromkeys(scores["eval_lang"]))
        n_columns = max(1, int(PAGE_WIDTH / (size[0] + 0.8)))
        pages = [(of_page, codes) for of_page in trainings for codes in parts(langs, n_columns * ROWS - 1)]
        for index, (of_page, codes) in enumerate(pages, start=1):
            panels: list[Panel] = [(size, partial(draw_legend, of_page, lang))]
            for code in codes:
                of_lang, name = scores[scores["eval_lang"] == code], language(code, names, lang)
                panels.append((size, partial(draw_panel, of_lang, registers, of_page, step, name)))
            title = f"{subfolder}{'/' if subfolder else ''}{model}, {word('f1 of registers', lang)}"
            title += f" ({index}/{len(pages)})" if len(pages) > 1 else ""
            yield from draw_pages(panels, n_columns, ROWS, title, [word("f1 note", lang)], TEXT)


def draw_legend(trainings: list[str], lang: str, ax: Axes) -> None:
    """Draw the legend of the colours."""
    for training, colour in zip(trainings, COLOURS, strict=False):
        ax.scatter([], [], color=colour, label=wrapped(training, 4, TEXT))
    ax.legend(title=word("training", lang), fontsize=TEXT, title_fontsize=TEXT, loc="center")
    ax.set_axis_off()


def draw_panel(
    scores: pd.DataFrame, registers: list[str], trainings: list[str], step: float, title: str, ax: Axes
) -> None:
    """Draw the registers of a language; those that macro_f1_10 leaves out, for lack of texts, are hollow and pale."""
    n_texts = scores.groupby("register")["n"].max().to_dict()
    scores = scores[scores["train_langs"].isin(trainings) & (scores["n"] > 0)]
    number, is_few = (
        pd.Index(trainings).get_indexer(scores["train_langs"]),
        (scores["n"] < metrics.MIN_TEXTS).to_numpy(),
    )
    x = pd.Index(registers).get_indexer(scores["register"]) + (number - (len(trainings) - 1) / 2) * DOT / step
    f1, low, high = 100 * scores[["f1", "low", "high"]].astype(float).to_numpy().T
    colours = np.array(COLOURS)[number]
    pale = np.where(is_few[:, None], 0.6 + 0.4 * colours, colours)
    ax.vlines(x, low, high, color=pale, linewidth=1.5)
    ax.scatter(x, f1, 26, np.where(is_few[:, None], 1, colours), edgecolors=pale, zorder=3)
    ax.vlines(np.arange(1, len(registers)) - 0.5, 0, 100, color="0.9", linewidth=0.8)
    ax.grid(axis="y", color="0.9")
    ax.set(xlim=(-0.5, len(registers) - 0.5), ylim=(-3, 103), axisbelow=True)
    heads = [f"{wrapped(register, 1, TEXT, 2)}\n({n_texts.get(register, 0)})" for register in registers]
    ticks = range(0, 101, 25)
    name_cells(ax, range(len(registers)), heads, ticks, [*map(str, ticks)], step, TEXT)
    ax.set_title(title, fontsize=TEXT + 2, y=1)
    ax.spines[["top", "right"]].set_visible(False)
