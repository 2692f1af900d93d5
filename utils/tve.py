"""Matrices of training languages x evaluation languages (TVE): their cells, figures and tables.

One panel per subfolder, model and metric. Rows are training mixes (single languages, then mixes, then distr) and a
baseline that always answers the test set's largest register; columns are evaluation languages, and
last, where it can be had, the mean over the languages that every row but distr has and none of them was
trained on. A cell holds a score and its 95 % interval, for other texts; with several base dirs, which repeat the same
grid with other seeds, the mean over them, its standard deviation, the number of seeds, and the interval for other texts
and other trainings. What was not evaluated is blank; what has too few texts says so; what can't be compared with the
rest of its column or panel (utils/comparable.py) has a † and is in no mean.
"""

from typing import NamedTuple

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from utils import intervals, metrics
from utils.comparable import odd_evaluations
from utils.corpus_load import DISTR
from utils.labels import METRICS, PHRASES, label, number
from utils.results import EvaluatedRun, Evaluation, correlation_of_trainings, majority_baseline

COLOURS = "Blues"  # one hue, dark to light: the same order in grey and for colour-blind eyes
CELL_WIDTH, CELL_HEIGHT = 0.66, 0.46  # inches
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_BOTTOM, MARGIN_TOP = 1.55, 0.15, 0.82, 0.5  # inches around a panel's cells
SCALE_TOP = 1.2  # the score of the darkest colour: above 1, so that dark cells stay readable


NONE = float("nan")


class Cell(NamedTuple):
    """A score in [0, 1], or the mean over seeds; nan: too few texts. low, high: its 95 % interval; nan: it has none.

    sd: over seeds, nan of one. odd: it can't be compared with the others of its column or panel.
    """

    score: float
    low: float = NONE
    high: float = NONE
    sd: float = NONE
    n_seeds: int = 1
    odd: bool = False


class Row(NamedTuple):
    """One training mix of one model: its runs, one per base dir that has it, and its cells by language."""

    label: str
    train_langs: tuple[str, ...]
    runs: list[EvaluatedRun]
    cells: dict[str, Cell]


class Panel(NamedTuple):
    """One model and metric. zero_shot: the languages of the mean column; none: there is no such column.

    means: the mean column, by the rows' labels. gold: language -> register -> gold texts, of those that have any.
    """

    subfolder: str
    model_name: str
    metric: str
    rows: list[Row]
    baseline: dict[str, Cell]
    columns: list[str]
    n_texts: dict[str, list[int]]
    zero_shot: list[str]
    means: dict[str, Cell]
    gold: dict[str, dict[str, int]]
    n_seeds: int


# ---- cells ----


def make_panels(
    runs: list[EvaluatedRun], eval_langs: list[str], metric_names: list[str], n_seeds: int, with_intervals: dict
) -> list[Panel]:
    """Return the panels, by subfolder and model, then metric. with_intervals: see score_intervals."""
    panels = []
    for subfolder, model_name in dict.fromkeys((run.subfolder, run.model_name) for run in runs):
        of_model = [run for run in runs if (run.subfolder, run.model_name) == (subfolder, model_name)]
        mixes = dict.fromkeys(run.train_langs for run in of_model)
        columns = [lang for lang in eval_langs if any(lang in run.evaluations for run in of_model)]
        odd = odd_evaluations(of_model, columns)
        evaluations = {lang: [run.evaluations[lang] for run in of_model if lang in run.evaluations] for lang in columns}
        usual = {
            lang: next(r.evaluations[lang] for r in of_model if lang in r.evaluations and (r.folder, lang) not in odd)
            if any(lang in r.evaluations and (r.folder, lang) not in odd for r in of_model)
            else found[0]
            for lang, found in evaluations.items()
        }
        n_texts = {lang: sorted({evaluation.n for evaluation in found}) for lang, found in evaluations.items()}
        gold = {lang: gold_texts(evaluation) for lang, evaluation in usual.items()}
        for metric in metric_names:
            rows = []
            for mix in mixes:
                same = [run for run in of_model if run.train_langs == mix]
                cells = {lang: cell for lang in columns if (cell := make_cell(same, lang, metric, with_intervals, odd))}
                rows.append(Row("-".join(mix), mix, same, cells))
            baseline = {lang: baseline_cell(evaluation, metric) for lang, evaluation in usual.items()}
            zero_shot = zero_shot_languages(rows, columns)
            means = {row.label: cell for row in rows if (cell := zero_shot_mean(row, zero_shot, metric))}
            panels.append(
                Panel(subfolder, model_name, metric, rows, baseline, columns, n_texts, zero_shot, means, gold, n_seeds)
            )
    return panels


def score_intervals(runs: list[EvaluatedRun], eval_langs: list[str]) -> dict:
    """Return each evaluation's 95 % intervals: (run's folder, language) -> metric -> (low, high)."""
    return {
        (run.folder, lang): intervals.intervals(run.evaluations[lang].confusion)
        for run in runs
        for lang in eval_langs
        if lang in run.evaluations
    }


def gold_texts(evaluation: Evaluation) -> dict[str, int]:
    counts = evaluation.confusion.sum(axis=1).tolist()
    return {register: n for register, n in zip(evaluation.registers, counts, strict=True) if n}


def make_cell(
    same: list[EvaluatedRun], eval_lang: str, metric: str, with_intervals: dict, odd: dict | None = None
) -> Cell | None:
    """Return the cell of one training mix and language, over its seeds; None if none was evaluated."""
    scored = [run for run in same if eval_lang in run.evaluations]
    if not scored:
        return None
    is_odd = any((run.folder, eval_lang) in (odd or {}) for run in scored)
    scores = np.array([run.evaluations[eval_lang].scores[metric] for run in scored], dtype=float)  # None becomes nan
    if len(scored) == 1:
        low, high = with_intervals[scored[0].folder, eval_lang][metric]
        return Cell(float(scores[0]), low, high, NONE, 1, is_odd)
    low, high = (NONE, NONE) if is_odd else interval_of_mean([scored], [eval_lang], metric)
    return Cell(float(scores.mean()), low, high, float(scores.std(ddof=1)), len(scores), is_odd)


def interval_of_mean(runs_of: list[list[EvaluatedRun]], eval_langs: list[str], metric: str) -> tuple[float, float]:
    """Return the 95 % interval of a mean over languages and trainings; runs_of: per language the same trainings."""
    spreads, correlations = [], []
    for same, lang in zip(runs_of, eval_langs, strict=True):
        counts = np.array([run.evaluations[lang].confusion for run in same])
        spreads.append(intervals.spread(counts, metric))
        correlations.append(correlation_of_trainings(same, lang, metric) if len(same) > 1 else 1.0)
    if any(np.isnan(found.score).any() for found in spreads):
        return NONE, NONE
    return intervals.interval_of_mean(spreads, correlations)


def baseline_cell(evaluation: Evaluation, metric: str) -> Cell:
    score = metrics.METRICS[metric](majority_baseline(evaluation.confusion))
    return Cell(NONE if score is None else score)


def zero_shot_languages(rows: list[Row], columns: list[str]) -> list[str]:
    """Return the languages of the mean: every row but distr has a score, and none of these rows was trained on them.

    A row that can't be compared on most of its languages has no mean, and takes no language from the others.
    """
    known = [row for row in rows if DISTR not in row.train_langs and not _mostly_odd(row)]
    trained = {lang for row in known for lang in row.train_langs}
    return [
        lang
        for lang in columns
        if known and lang not in trained and all(lang in row.cells and _counts(row.cells[lang]) for row in known)
    ]


def _mostly_odd(row: Row) -> bool:
    return sum(cell.odd for cell in row.cells.values()) > len(row.cells) / 2


def _counts(cell: Cell) -> bool:
    return not cell.odd and not np.isnan(cell.score)


def zero_shot_mean(row: Row, eval_langs: list[str], metric: str) -> Cell | None:
    """Return the row's mean over these languages; None if there are none, for distr, or if one can't be compared."""
    if not eval_langs or DISTR in row.train_langs:
        return None
    if not all(lang in row.cells and _counts(row.cells[lang]) for lang in eval_langs):
        return None
    everywhere = [run for run in row.runs if all(lang in run.evaluations for lang in eval_langs)]
    low, high = NONE, NONE
    if everywhere:
        low, high = interval_of_mean([everywhere] * len(eval_langs), eval_langs, metric)
    return Cell(float(np.mean([row.cells[lang].score for lang in eval_langs])), low, high)


def cell_text(cell: Cell, lang: str, n_seeds: int) -> tuple[str, ...]:
    """Return the lines of a cell: the score x 100; what is known over the seeds, if there are several; the interval."""
    mark = " †" if cell.odd else ""
    if np.isnan(cell.score):
        return (label(PHRASES, "too few texts", lang) + mark,)
    lines = [number(100 * cell.score, 1, lang) + mark]
    if n_seeds > 1:
        lines[0] += "" if np.isnan(cell.sd) else f" ±{number(100 * cell.sd, 1, lang)}"
        of = "" if cell.n_seeds == n_seeds else f" {label(PHRASES, 'of', lang)} {n_seeds}"
        lines.append(f"{cell.n_seeds}{of} {label(PHRASES, 'seeds', lang)}")
    if not np.isnan(cell.low):
        lines.append(f"{number(100 * cell.low, 1, lang)}–{number(100 * cell.high, 1, lang)}")
    return tuple(lines)


def mean_text(cell: Cell, lang: str) -> tuple[str, ...]:
    return cell_text(cell, lang, 1)


def column_head(panel: Panel, column: str, lang: str) -> list[str]:
    """Return the lines above or below a column: language, number of texts, and how many registers are averaged."""
    lines = [column, "/".join(map(str, panel.n_texts[column]))]
    if panel.metric != "micro_f1":
        gold = panel.gold[column]
        n_averaged = len(gold) if panel.metric != "macro_f1_10" else len(gold) - len(few_texts(gold))
        lines.append(f"{n_averaged}/{len(gold)} {label(PHRASES, 'reg.', lang)}")
    return lines


def few_texts(gold: dict[str, int]) -> dict[str, int]:
    """Return the registers that macro_f1_10 leaves out, with their gold texts."""
    measured = metrics.measurable(np.array(list(gold.values()), dtype=int))
    return {register: n for (register, n), chosen in zip(gold.items(), measured, strict=True) if not chosen}


# ---- figures ----


def draw_panels(panels: list[Panel], n_columns: int, lang: str) -> Figure:
    """Return one figure of all panels, n_columns in a row."""
    widths = [panel_size(panel)[0] for panel in panels]
    heights = [panel_size(panel)[1] for panel in panels]
    n_rows = -(-len(panels) // n_columns)
    row_heights = [max(heights[row * n_columns : (row + 1) * n_columns]) for row in range(n_rows)]
    footer = footer_lines(panels, lang)
    foot = 0.2 + 0.15 * len(footer)
    size = (max(widths) * min(n_columns, len(panels)), sum(row_heights) + foot)
    rcParams["text.parse_math"] = False  # a $ in a name is a dollar
    figure = Figure(figsize=size, dpi=150)
    FigureCanvasAgg(figure)
    for index, panel in enumerate(panels):
        row, column = divmod(index, n_columns)
        left = column * max(widths) + MARGIN_LEFT
        bottom = size[1] - sum(row_heights[: row + 1]) + MARGIN_BOTTOM
        width, height = widths[index] - MARGIN_LEFT - MARGIN_RIGHT, heights[index] - MARGIN_BOTTOM - MARGIN_TOP
        top_gap = row_heights[row] - heights[index]
        box = (left / size[0], (bottom + top_gap) / size[1], width / size[0], height / size[1])
        draw_panel(panel, figure.add_axes(box), lang)
    figure.text(0.5, 0.08 / size[1], "\n".join(footer), ha="center", va="bottom", fontsize=8, linespacing=1.3)
    return figure


def footer_lines(panels: list[Panel], lang: str) -> list[str]:
    """Return what stands below all panels: what a cell shows, what its interval holds, what is left out."""
    keys = ["cells seeds" if panels[0].n_seeds > 1 else "cells"]
    if any(panel.metric != "micro_f1" for panel in panels):
        keys.append("registers")
    if any(cell.odd for panel in panels for row in panel.rows for cell in row.cells.values()):
        keys.append("odd")
    return [line for key in keys for line in label(PHRASES, key, lang).split("\n")]


def panel_size(panel: Panel) -> tuple[float, float]:
    """Return width and height of a panel in inches, margins included."""
    n_columns = len(panel.columns) + (1.3 if panel.zero_shot else 0)
    n_rows = len(panel.rows) + 1.3
    return (
        max(n_columns * CELL_WIDTH, 3.0) + MARGIN_LEFT + MARGIN_RIGHT,
        n_rows * CELL_HEIGHT + MARGIN_BOTTOM + MARGIN_TOP,
    )


def draw_panel(panel: Panel, ax: Axes, lang: str) -> Axes:
    """Draw one matrix: rows training mixes and the baseline, columns languages and the zero-shot mean."""
    n_rows = len(panel.rows)
    for i, row in enumerate(panel.rows):
        for j, column in enumerate(panel.columns):
            if column in row.cells:
                draw_cell(ax, j, i, row.cells[column].score, cell_text(row.cells[column], lang, panel.n_seeds))
            if column in row.train_langs:
                ax.add_patch(Rectangle((j + 0.03, i + 0.03), 0.94, 0.94, fill=False, edgecolor="black", linewidth=1.8))
        if row.label in panel.means:
            mean = panel.means[row.label]
            draw_cell(ax, len(panel.columns) + 0.3, i, mean.score, mean_text(mean, lang))
    for j, column in enumerate(panel.columns):
        cell = panel.baseline[column]
        draw_cell(ax, j, n_rows + 0.3, cell.score, cell_text(cell, lang, 1))
    right = len(panel.columns) + (1.3 if panel.zero_shot else 0)
    ax.set(xlim=(0, right), ylim=(n_rows + 1.3, 0))
    ticks = [j + 0.5 for j in range(len(panel.columns))]
    names = ["\n".join(column_head(panel, column, lang)) for column in panel.columns]
    if panel.zero_shot:
        ticks.append(len(panel.columns) + 0.8)
        names.append(label(PHRASES, "zero-shot mean", lang))
    ax.set_xticks(ticks, names, fontsize=7.5)
    ax.set_yticks(
        [*(i + 0.5 for i in range(n_rows)), n_rows + 0.8],
        [*(row.label for row in panel.rows), label(PHRASES, "baseline", lang)],
        fontsize=8,
    )
    ax.tick_params(length=0, pad=3)
    below = "evaluation" if panel.metric == "micro_f1" else "evaluation registers"
    ax.set_xlabel(label(PHRASES, below, lang), fontsize=8, labelpad=3)
    ax.set_ylabel(label(PHRASES, "training", lang), fontsize=8, labelpad=3)
    where = f"{panel.subfolder}/" if panel.subfolder else ""
    ax.set_title(
        f"{where}{panel.model_name}, {label(METRICS, panel.metric, lang)}", fontsize=10.5, weight="bold", pad=7
    )
    ax.spines[:].set_visible(False)
    return ax


def draw_cell(ax: Axes, x: float, y: float, score: float, lines: tuple[str, ...]) -> None:
    """Draw one cell with its upper left corner at (x, y): colour by the score, one to three lines of text."""
    shade = 0.0 if np.isnan(score) else score / SCALE_TOP
    face = "0.93" if np.isnan(score) else colormaps[COLOURS](shade)
    ax.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor="white", linewidth=0.8))
    colour = "white" if shade > 0.62 else "black"
    if np.isnan(score):
        ax.text(x + 0.5, y + 0.5, lines[0], ha="center", va="center", fontsize=5.6, color="0.3")
        return
    places = {1: (0.5,), 2: (0.38, 0.75), 3: (0.27, 0.58, 0.84)}[len(lines)]
    for place, line, size in zip(places, lines, (8, 5.6, 5.6), strict=False):
        narrow = size if len(line) < 9 else 6.6
        ax.text(x + 0.5, y + place, line, ha="center", va="center", fontsize=min(size, narrow), color=colour)
