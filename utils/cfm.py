"""Draw the confusion matrices of a run: a panel per evaluation language, on one page or, if need be, several.

The first panel shows the registers of the training texts. In a matrix rows are gold registers with their number of
texts, columns predicted ones; a cell shows the share of its row in % and, below it, the number of texts. A register
without gold texts is a blank row. All matrices share one colour scale.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from seaborn import heatmap

from utils import metrics
from utils.figures import COLOURS, Panel, draw_pages, height_of, name_cells, text_width, wrapped
from utils.labels import REGISTERS, label, language, number, word

PAGE = 14.0, 21.0  # inches, about; a page is larger if one panel is
SIDE = 2.36  # inches, of a matrix; more if its cells' texts need more
TITLE, NAME = 8.5, 7  # points
DARK = 0.55  # cells with a larger share are dark: white text


def draw_run(rows: pd.DataFrame, names: dict[str, str], lang: str, with_summary: bool) -> Iterator[Figure]:
    """Give the pages of a run: its training texts (with_summary), then its evaluations, those trained on first."""
    # all panels have cells of one size, in which no text covers another
    registers = list(dict.fromkeys(register for of_row in rows["registers"] for register in of_row))
    n, largest = max(map(len, rows["registers"])), max(int(counts.max()) for counts in rows["counts"])
    font = max(min(6.4, 48 / n), 5)
    cell = max(SIDE / n, text_width(f"({largest})", font) + 0.03, height_of("\n", font))
    shown = {register: wrapped(register, 1.1, NAME, 2 if cell > height_of("\n", NAME) else 1) for register in registers}

    record = rows["record"].iloc[0]
    of_langs = record["corpus"]["train"].values()
    totals = {register: sum(counts.get(register, 0) for counts in of_langs) for register in registers}
    side = cell * len(registers)
    panels: list[Panel] = [((side, side), partial(draw_training_texts, side, totals, shown, lang))] * with_summary
    for row in rows.sort_values(["zero_shot", "eval_lang"]).itertuples():
        side = cell * len(row.registers)
        panels.append(((side, side), partial(draw_matrix, row, shown, cell, font, names, lang)))

    title = f"{record['model_name']}, {word('trained on', lang)} "
    title += ", ".join(language(code, names, lang) for code in record["train_langs"])
    words = {register: label(REGISTERS, register, lang) for register in registers}
    key = "   ".join(f"{register}\N{NO-BREAK SPACE}{name}" for register, name in words.items() if name != register)
    n_columns, n_rows = (int(length / (n * cell + 1.1)) for length in PAGE)
    yield from draw_pages(panels, min(4, n_columns), n_rows, title, [word("share", lang), key])


def draw_matrix(
    row: Any, shown: dict[str, str], cell: float, font: float, names: dict[str, str], lang: str, ax: Axes
) -> None:
    """Draw the confusion matrix of an evaluation; shown: registers as they are displayed."""
    counts, gold = row.counts, row.counts.sum(axis=1)
    shares = np.divide(counts, gold[:, None], out=np.full(counts.shape, np.nan), where=gold[:, None] > 0)
    style: dict[str, Any] = {"cmap": COLOURS, "cbar": False, "linewidths": 0.6, "xticklabels": False}
    heatmap(shares, ax=ax, vmin=0, vmax=1, yticklabels=False, **style)
    for i, j in np.argwhere(counts):
        colour = "white" if shares[i, j] > DARK else "black"
        text = f"{number(100 * shares[i, j], 0, lang)}\n({counts[i, j]})"
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=font, color=colour, linespacing=0.95)
    middles, heads = np.arange(len(counts)) + 0.5, [shown[register] for register in row.registers]
    name_cells(ax, middles, heads, middles, [f"{h} ({n})" for h, n in zip(heads, gold, strict=True)], cell, NAME)
    ax.set_xlabel(word("predicted", lang), fontsize=7.5)
    ax.set_ylabel(word("gold", lang), fontsize=7.5)
    title = f"{language(row.eval_lang, names, lang)}{'' if row.zero_shot else ' *'}   n = {row.n}\n"
    if (macro_f1 := metrics.all_metrics(counts)["macro_f1_10"]) is None:
        title += word("registers with 10", lang)
    else:
        score, k = number(100 * macro_f1, 1, lang), metrics.measurable(gold).sum()
        title += word("registers averaged", lang, score=score, k=k, n=(gold > 0).sum())
    ax.set_title(title, fontsize=TITLE, pad=4, y=1)  # without y, it is measured again and again
    ax.spines[:].set(visible=True, linewidth=0.5 if row.zero_shot else 1.6, color="0.6" if row.zero_shot else "black")


def draw_training_texts(side: float, totals: dict[str, int], shown: dict[str, str], lang: str, ax: Axes) -> None:
    """Draw how many training texts each register has, a bar per register."""
    longest = max(totals.values())
    ax.barh(range(len(shown)), [*totals.values()], color="0.25", height=0.75)
    # right of the longest bar there is room for its number
    share = 1 - (text_width(f" {longest}", NAME) + 0.05) / side
    ax.set(xlim=(0, max(longest, 1) / share), ylim=(len(shown) - 0.5, -0.5))
    for index, total in enumerate(totals.values()):
        ax.text(total, index, f" {total}", va="center", fontsize=NAME)
    ax.set_yticks(range(len(shown)), list(shown.values()), fontsize=NAME)
    ax.set_xticks([])
    ax.tick_params(length=2)
    ax.set_xlabel(word("number of texts", lang), fontsize=7.5)
    ax.set_title(f"{word('training texts', lang)}   n = {sum(totals.values())}", fontsize=TITLE, pad=4, y=1)
    ax.spines[["top", "right"]].set_visible(False)
