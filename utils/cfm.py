"""Draw the confusion matrices of a run: one matrix per evaluation language, on one page or, if need be, several.

The first panel shows the registers of the training texts. In a matrix rows are gold registers with
their number of texts, columns predicted ones; a cell shows the share of its row in % and, below it,
the number of texts. A register without gold texts is a blank row. All matrices share one colour scale.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from seaborn import heatmap

from utils.scores.figures import COLOURS, DPI, evenly, height_of, in_lines, name_below, place, text_width, wrapped
from utils.scores.labels import LANGUAGES, PHRASES, REGISTERS, label, number
from utils.scores.results import EvaluatedRun, Evaluation

COLUMNS = 4
PAGE_WIDTH, PAGE_HEIGHT = 14.0, 21.0  # inches; a page is larger only if one panel is
WIDTH = 6.8  # inches, at least, for the notes
SIDE = 2.36  # inches, of a matrix; more if its cells' texts need more
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP = 0.82, 0.22, 0.42  # inches within a panel, at least
DARK = 0.55  # cells with a larger share are dark: white text
HEAD, TITLE, FOOT, LABEL, LEGEND = 13, 8.5, 8, 7, 6.5  # points
SPACED = 1.3  # the notes' lines, which are apart
SHADES = 6  # training languages that can be told apart in greys


class Layout(NamedTuple):
    """What all panels of a run have in common. Inches, but font: points, of the text in a cell."""

    names: dict[str, str]  # registers as they are shown, in one line or two
    titles: dict[str, str]  # by evaluation language
    font: float
    cell: float
    side: float
    names_width: float  # with their numbers of texts
    bottom: float
    top: float
    upright: bool  # names below the matrix

    @property
    def left(self) -> float:
        return max(self.names_width + 0.23, MARGIN_LEFT)

    @property
    def size(self) -> tuple[float, float]:
        return self.left + self.side + MARGIN_RIGHT, self.top + self.side + self.bottom


def draw_run(run: EvaluatedRun, eval_langs: list[str], lang: str, with_summary: bool) -> Iterator[Figure]:
    """Give the pages of a run: its training texts (with_summary), then eval_langs, those trained on first."""
    ordered = sorted(eval_langs, key=lambda name: (name not in run.train_langs, name))
    evaluations = [run.evaluations[name] for name in ordered]
    layout = make_layout(run, evaluations, lang)
    panels = [*([None] if with_summary else []), *evaluations]
    n_columns = max(1, min(COLUMNS, len(panels), int(PAGE_WIDTH / layout.size[0])))
    rows = [panels[start : start + n_columns] for start in range(0, len(panels), n_columns)]
    pages = evenly(rows, max(1, int(PAGE_HEIGHT / layout.size[1])))
    trained = ", ".join(label(LANGUAGES, name, lang) for name in run.train_langs)
    title = f"{run.model_name}, {label(PHRASES, 'trained on', lang)} {trained}"
    for index, page in enumerate(pages, start=1):
        yield draw_page(run, page, layout, f"{title} ({index}/{len(pages)})" if len(pages) > 1 else title, lang)


def make_layout(run: EvaluatedRun, evaluations: list[Evaluation], lang: str) -> Layout:
    """Return sizes in which no text covers another."""
    n = max(len(evaluation.registers) for evaluation in evaluations)
    font = max(min(6.4, 48 / n), 5)
    largest = max(int(evaluation.confusion.max()) for evaluation in evaluations)
    cell = max(SIDE / n, text_width(f"({largest})", font) + 0.03, height_of("\n", font))
    side = n * cell
    n_lines = 2 if cell > height_of("\n", LABEL) else 1
    registers = dict.fromkeys(register for evaluation in evaluations for register in evaluation.registers)
    names = {register: in_lines(register, n_lines, 1.1, LABEL) for register in registers}
    widest = max(text_width(name, LABEL) for name in names.values())
    last = max(text_width(name.split("\n")[-1], LABEL) for name in names.values())
    total = max(int(evaluation.confusion.sum(axis=1).max()) for evaluation in evaluations)
    names_width = max(widest, last + text_width(f" ({'0' * len(str(total))})", LABEL))
    upright = widest > cell - 0.04
    below = widest if upright else max(height_of(name, LABEL) for name in names.values())
    titles = {
        evaluation.eval_lang: wrapped(title_of(evaluation, run, lang), side + 2 * MARGIN_RIGHT, TITLE)
        for evaluation in evaluations
    }
    top = max(height_of(title, TITLE) for title in titles.values()) - height_of("", TITLE)
    return Layout(names, titles, font, cell, side, names_width, below + 0.49, MARGIN_TOP + top, upright)


def title_of(evaluation: Evaluation, run: EvaluatedRun, lang: str) -> str:
    score = evaluation.scores["macro_f1_10"]
    scores = f"F1 {number(100 * score, 1, lang)}" if score is not None else label(PHRASES, "too few texts for F1", lang)
    star = "" if run.is_zero_shot(evaluation.eval_lang) else " *"
    return f"{label(LANGUAGES, evaluation.eval_lang, lang)}{star}   n = {evaluation.n}   {scores}"


def draw_page(run: EvaluatedRun, rows: list[list[Evaluation | None]], layout: Layout, title: str, lang: str) -> Figure:
    """Return a page of these rows of panels; None: the panel of the training texts."""
    panel_width, panel_height = layout.size
    width = max(len(rows[0]) * panel_width, WIDTH)
    title = wrapped(title, width - 0.3, HEAD, "bold")
    words = {register: label(REGISTERS, register, lang) for register in layout.names}
    key = "   ".join(f"{register}\N{NO-BREAK SPACE}{word}" for register, word in words.items() if word != register)
    notes = "\n".join(wrapped(text, width - 0.3, FOOT) for text in (label(PHRASES, "share", lang), key) if text)
    head = 0.28 + height_of(title, HEAD)
    height = head + len(rows) * panel_height + 0.25 + height_of(notes, FOOT) * SPACED
    figure = Figure(figsize=(width, height), dpi=DPI)
    figure.text(0.5, 1 - 0.17 / height, title, ha="center", va="top", fontsize=HEAD, weight="bold")
    figure.text(0.5, 0.08 / height, notes, ha="center", va="bottom", fontsize=FOOT, linespacing=1.2 * SPACED)
    for i, row in enumerate(rows):
        for j, evaluation in enumerate(row):
            left, top = j * panel_width + layout.left, head + i * panel_height + layout.top
            side = layout.cell * len(evaluation.registers if evaluation else layout.names)
            ax = place(figure, left, top, side, side)
            if evaluation:
                draw_matrix(evaluation, run, ax, layout, lang)
            else:
                draw_training_texts(run, ax, layout, lang)
    return figure


def draw_matrix(evaluation: Evaluation, run: EvaluatedRun, ax: Axes, layout: Layout, lang: str) -> Axes:
    """Draw one confusion matrix, gold registers as rows."""
    counts = evaluation.confusion
    gold = counts.sum(axis=1)
    shares = np.divide(counts, gold[:, None], out=np.full(counts.shape, np.nan), where=gold[:, None] > 0)
    n = len(counts)
    heatmap(
        shares, ax=ax, vmin=0, vmax=1, cmap=COLOURS, cbar=False, linewidths=0.6, xticklabels=False, yticklabels=False
    )
    for i, j in np.argwhere(counts):
        colour = "white" if shares[i, j] > DARK else "black"
        text = f"{number(100 * shares[i, j], 0, lang)}\n({counts[i, j]})"
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=layout.font, color=colour, linespacing=0.95)
    inch = 1 / layout.cell  # in the unit of the axes
    for i, (register, total) in enumerate(zip(evaluation.registers, gold, strict=True)):
        name = layout.names[register]
        name_below(ax, i + 0.5, n + 0.03 * inch, name, LABEL, layout.upright)
        ax.text(-0.03 * inch, i + 0.5, f"{name} ({total})", ha="right", va="center", fontsize=LABEL)
    below, beside = n + (layout.bottom - 0.43) * inch, (layout.names_width + 0.07) * inch
    ax.text(n / 2, below, label(PHRASES, "predicted", lang), ha="center", va="top", fontsize=7.5)
    ax.text(-beside, n / 2, label(PHRASES, "gold", lang), ha="right", va="center", fontsize=7.5, rotation="vertical")
    ax.set_title(layout.titles[evaluation.eval_lang], fontsize=TITLE, pad=4)
    is_trained_on = not run.is_zero_shot(evaluation.eval_lang)
    ax.spines[:].set(visible=True, linewidth=1.6 if is_trained_on else 0.5, color="black" if is_trained_on else "0.6")
    return ax


def draw_training_texts(run: EvaluatedRun, ax: Axes, layout: Layout, lang: str) -> Axes:
    """Draw how many training texts each register has, a bar per register, stacked by language if they can be told."""
    by_lang = run.record["corpus"]["train"]
    registers = list(layout.names)
    table = np.array([[counts.get(register, 0) for register in registers] for counts in by_lang.values()])
    totals = table.sum(axis=0)
    names = [label(LANGUAGES, name, lang) for name in by_lang]
    legend = 0.3 + max(text_width(name, LEGEND) for name in names)
    stacked = 1 < len(names) <= SHADES and legend < layout.side / 2
    starts = np.vstack([np.zeros_like(totals), table.cumsum(axis=0)])
    for name, values, start, grey in zip(names, table, starts, np.linspace(0.25, 0.75, len(names)), strict=False):
        ax.barh(
            range(len(registers)), values, left=start, color=str(grey if stacked else 0.25), height=0.75, label=name
        )
    # right of the longest bar: its total and, where there is one, the legend
    share = 1 - (text_width(str(totals.max()), LABEL) + 0.1 + (legend if stacked else 0)) / layout.side
    ax.set(xlim=(0, max(totals.max(), 1) / share), ylim=(len(registers) - 0.5, -0.5))
    for index, total in enumerate(totals):
        ax.text(total + totals.max() * 0.02, index, str(total), va="center", fontsize=LABEL)
    ax.set_yticks(range(len(registers)), layout.names.values(), fontsize=LABEL)
    ax.locator_params(axis="x", nbins=4, integer=True)
    ax.set_xticks([tick for tick in ax.get_xticks() if tick <= ax.get_xlim()[1]])  # matplotlib keeps one beyond
    ax.tick_params(labelsize=LABEL, length=2)
    ax.set_xlabel(label(PHRASES, "number of texts", lang), fontsize=7.5, labelpad=2)
    ax.set_title(f"{label(PHRASES, 'training texts', lang)}   n = {totals.sum()}", fontsize=TITLE, pad=4)
    if stacked:
        ax.legend(fontsize=LEGEND, frameon=False, loc="lower right", borderaxespad=0)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
