"""Matrices of training languages x evaluation languages (TVE): their cells, figures and tables.

One panel per subfolder, model and metric. Rows are training mixes (single languages, then mixes, then distr) and a
baseline that always answers the test set's largest register; columns are evaluation languages, and
last, where it can be had, the mean over the languages that every row but distr has and none of them was
trained on. A cell holds a score and its 95 % interval; with several base dirs, which repeat the same
grid with other seeds, the mean over them, its standard deviation, and the number of seeds. What was not
evaluated is blank.
"""

from typing import NamedTuple

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from utils import intervals, metrics
from utils.corpus_load import DISTR
from utils.labels import METRICS, PHRASES, label, number
from utils.results import EvaluatedRun, Evaluation, majority_baseline

COLOURS = "Blues"  # one hue, dark to light: the same order in grey and for colour-blind eyes
CELL_WIDTH, CELL_HEIGHT = 0.66, 0.46  # inches
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_BOTTOM, MARGIN_TOP = 1.55, 0.15, 0.75, 0.5  # inches around a panel's cells
SCALE_TOP = 1.2  # the score of the darkest colour: above 1, so that dark cells stay readable


class Cell(NamedTuple):
    """A score in [0, 1], or the mean over seeds. low, high: its 95 % interval (nan over seeds); sd: nan of one."""

    score: float
    low: float
    high: float
    sd: float
    n_seeds: int


class Row(NamedTuple):
    """One training mix of one model: its runs, one per base dir that has it, and its cells by language."""

    label: str
    train_langs: tuple[str, ...]
    runs: list[EvaluatedRun]
    cells: dict[str, Cell]


class Panel(NamedTuple):
    """One model and metric. zero_shot: the languages of the mean column; none: there is no such column."""

    subfolder: str
    model_name: str
    metric: str
    rows: list[Row]
    baseline: dict[str, Cell]
    columns: list[str]
    n_texts: dict[str, list[int]]
    zero_shot: list[str]
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
        for metric in metric_names:
            rows = []
            for mix in mixes:
                same = [run for run in of_model if run.train_langs == mix]
                cells = {lang: cell for lang in columns if (cell := make_cell(same, lang, metric, with_intervals))}
                rows.append(Row("-".join(mix), mix, same, cells))
            evaluations = {
                lang: [run.evaluations[lang] for run in of_model if lang in run.evaluations] for lang in columns
            }
            baseline = {lang: baseline_cell(found[0], metric) for lang, found in evaluations.items()}
            n_texts = {lang: sorted({evaluation.n for evaluation in found}) for lang, found in evaluations.items()}
            zero_shot = zero_shot_languages(rows, columns)
            panels.append(Panel(subfolder, model_name, metric, rows, baseline, columns, n_texts, zero_shot, n_seeds))
    return panels


def score_intervals(runs: list[EvaluatedRun], eval_langs: list[str], seed: int) -> dict:
    """Return each evaluation's 95 % intervals: (run's folder, language) -> metric -> (low, high)."""
    return {
        (run.folder, lang): intervals.intervals(run.evaluations[lang].confusion, seed)
        for run in runs
        for lang in eval_langs
        if lang in run.evaluations
    }


def make_cell(same: list[EvaluatedRun], eval_lang: str, metric: str, with_intervals: dict) -> Cell | None:
    """Return the cell of one training mix and language, over its seeds; None if none was evaluated."""
    scored = [run for run in same if eval_lang in run.evaluations]
    if not scored:
        return None
    scores = [run.evaluations[eval_lang].scores[metric] for run in scored]
    if len(scored) == 1:
        low, high = with_intervals[scored[0].folder, eval_lang][metric]
        return Cell(scores[0], low, high, float("nan"), 1)
    return Cell(float(np.mean(scores)), float("nan"), float("nan"), float(np.std(scores, ddof=1)), len(scores))


def baseline_cell(evaluation: Evaluation, metric: str) -> Cell:
    score = metrics.METRICS[metric](majority_baseline(evaluation.confusion))
    return Cell(score, float("nan"), float("nan"), float("nan"), 1)


def zero_shot_languages(rows: list[Row], columns: list[str]) -> list[str]:
    """Return the languages that every row but distr has and that none of these rows was trained on."""
    known = [row for row in rows if DISTR not in row.train_langs]
    trained = {lang for row in known for lang in row.train_langs}
    return [lang for lang in columns if known and lang not in trained and all(lang in row.cells for row in known)]


def zero_shot_mean(row: Row, panel: Panel) -> float | None:
    """Return the row's mean over the panel's zero-shot languages; None if there are none, or for distr."""
    if not panel.zero_shot or DISTR in row.train_langs:
        return None
    return float(np.mean([row.cells[lang].score for lang in panel.zero_shot]))


def cell_text(cell: Cell, lang: str, n_seeds: int) -> tuple[str, str]:
    """Return the two lines of a cell: the score x 100, and its interval or what is known over the seeds."""
    score = number(100 * cell.score, 1, lang)
    if n_seeds > 1:
        spread = "" if np.isnan(cell.sd) else f" ±{number(100 * cell.sd, 1, lang)}"
        many = (
            f"{cell.n_seeds}" if cell.n_seeds == n_seeds else f"{cell.n_seeds} {label(PHRASES, 'of', lang)} {n_seeds}"
        )
        return score + spread, f"{many} {label(PHRASES, 'seeds', lang)}"
    if np.isnan(cell.low):
        return score, ""
    return score, f"{number(100 * cell.low, 1, lang)}–{number(100 * cell.high, 1, lang)}"


# ---- figures ----


def draw_panels(panels: list[Panel], n_columns: int, lang: str) -> Figure:
    """Return one figure of all panels, n_columns in a row."""
    widths = [panel_size(panel)[0] for panel in panels]
    heights = [panel_size(panel)[1] for panel in panels]
    n_rows = -(-len(panels) // n_columns)
    row_heights = [max(heights[row * n_columns : (row + 1) * n_columns]) for row in range(n_rows)]
    foot = 0.35
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
    footer = label(PHRASES, "cells seeds" if panels[0].n_seeds > 1 else "cells", lang)
    figure.text(0.5, 0.17 / size[1], footer, ha="center", va="center", fontsize=8)
    return figure


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
                draw_cell(ax, j, i, row.cells[column].score, *cell_text(row.cells[column], lang, panel.n_seeds))
            if column in row.train_langs:
                ax.add_patch(Rectangle((j + 0.03, i + 0.03), 0.94, 0.94, fill=False, edgecolor="black", linewidth=1.8))
        mean = zero_shot_mean(row, panel)
        if mean is not None:
            draw_cell(ax, len(panel.columns) + 0.3, i, mean, number(100 * mean, 1, lang), "")
    for j, column in enumerate(panel.columns):
        cell = panel.baseline[column]
        draw_cell(ax, j, n_rows + 0.3, cell.score, number(100 * cell.score, 1, lang), "")
    right = len(panel.columns) + (1.3 if panel.zero_shot else 0)
    ax.set(xlim=(0, right), ylim=(n_rows + 1.3, 0))
    ticks = [j + 0.5 for j in range(len(panel.columns))]
    names = [f"{column}\n{'/'.join(map(str, panel.n_texts[column]))}" for column in panel.columns]
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
    ax.set_xlabel(label(PHRASES, "evaluation", lang), fontsize=8, labelpad=3)
    ax.set_ylabel(label(PHRASES, "training", lang), fontsize=8, labelpad=3)
    where = f"{panel.subfolder}/" if panel.subfolder else ""
    ax.set_title(
        f"{where}{panel.model_name}, {label(METRICS, panel.metric, lang)}", fontsize=10.5, weight="bold", pad=7
    )
    ax.spines[:].set_visible(False)
    return ax


def draw_cell(ax: Axes, x: float, y: float, score: float, first: str, second: str) -> None:
    """Draw one cell with its upper left corner at (x, y): colour by the score, one or two lines of text."""
    shade = score / SCALE_TOP
    ax.add_patch(Rectangle((x, y), 1, 1, facecolor=colormaps[COLOURS](shade), edgecolor="white", linewidth=0.8))
    colour = "white" if shade > 0.62 else "black"
    ax.text(x + 0.5, y + (0.38 if second else 0.5), first, ha="center", va="center", fontsize=8, color=colour)
    if second:
        ax.text(x + 0.5, y + 0.75, second, ha="center", va="center", fontsize=5.6, color=colour)
