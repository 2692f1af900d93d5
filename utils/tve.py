"""The figure of the matrices of training languages x evaluation languages (TVE): panels of utils/scores/panels.py."""

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from utils.scores.labels import METRICS, PHRASES, label
from utils.scores.panels import Panel, cell_text, column_head, footer_lines, mean_text

COLOURS = "Blues"  # one hue, dark to light: the same order in grey and for colour-blind eyes
CELL_WIDTH, CELL_HEIGHT = 0.66, 0.46  # inches
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_BOTTOM, MARGIN_TOP = 1.55, 0.15, 0.82, 0.5  # inches around a panel's cells
SCALE_TOP = 1.2  # the score of the darkest colour: above 1, so that dark cells stay readable


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
