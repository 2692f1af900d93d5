"""Draw the matrices of training languages x evaluation languages (TVE), one metric beside the other or below it."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Affine2D
from seaborn import color_palette, heatmap

from utils.figures import COLOURS, Panel, draw_pages, name_cells, parts, text_width, wrapped
from utils.labels import word
from utils.tables import BASELINE, MEAN, Matrix, legend, notes, row_label

README, PAGE = 10.5, 30.0  # inches, about: width of a page, unless one matrix is wider; most of width and height
WIDTH, HEIGHT = 0.66, 0.44  # inches, of a cell; wider if a text is
GAP = 0.3  # cells between the matrix and its baseline and means
TITLE, TEXT, SMALL = 10.5, 8, 6.2  # points
SCALE_TOP = 1.5  # the score of the darkest colour: above 1, so that black text is legible on all cells
TOO_FEW = -1.0  # stands for the score of a cell with too few texts


def draw_matrices(matrices: list[Matrix], lang: str) -> Iterator[Figure]:
    """Yield the pages of all matrices; one that does not fit on a page is drawn in parts."""
    # all cells are equally wide, with room for the longest text
    texts = {text for matrix in matrices for text in matrix.cells.loc[matrix.cells["score"].notna(), "text"]}
    scores, others = {text[0] for text in texts}, {line for text in texts for line in text[1:]}
    widths = [text_width(line, TEXT, "bold") for line in scores] + [text_width(line, SMALL) for line in others]
    cell = max([WIDTH, *(width + 0.08 for width in widths)])
    panels: list[Panel] = []
    for matrix in matrices:
        columns = parts(matrix.columns, int((PAGE - 3) / cell))
        blocks = [(r, c) for r in parts(matrix.rows, int((PAGE - 5) / HEIGHT)) for c in columns]
        for index, block in enumerate(blocks, start=1):
            title = matrix.title(lang) + (f" ({index}/{len(blocks)})" if len(blocks) > 1 else "")
            part = part_of(matrix, *block)
            size = (len(part.columns) + (1 + GAP) * bool(part.zero_shot)) * cell, (len(part.rows) + 1 + GAP) * HEIGHT
            panels.append((size, partial(draw_part, part, title, cell, lang)))

    # metrics are beside each other if there is room, and a model is not divided over pages
    width, height = np.max([size for size, _ in panels], axis=0)
    n_metrics = len({matrix.metric for matrix in matrices})
    n_columns = max(n for n in range(1, n_metrics + 1) if n_metrics % n == 0 and (n == 1 or n * (width + 1.6) < README))
    n_rows, of_model = int(PAGE / (height + 1.6)), n_metrics // n_columns
    n_rows = max(1, n_rows - n_rows % of_model if n_rows > of_model else n_rows)
    yield from draw_pages(panels, n_columns, n_rows, "", legend(matrices, lang, "figure"))


def part_of(matrix: Matrix, rows: list[str], columns: list[str]) -> Matrix:
    """Return some rows and columns of a matrix; the zero-shot mean is beside the last column."""
    zero_shot = matrix.zero_shot if columns[-1] == matrix.columns[-1] else []
    is_here = matrix.cells["column"].isin([*columns, *[MEAN] * bool(zero_shot)])
    cells = matrix.cells[is_here & matrix.cells["row"].isin([*rows, BASELINE])]
    gold = {column: matrix.gold[column] for column in columns}
    return matrix._replace(rows=rows, columns=columns, gold=gold, zero_shot=zero_shot, cells=cells)


def draw_part(matrix: Matrix, title: str, cell: float, lang: str, ax: Axes) -> None:
    """Draw a matrix, and beside it, with a gap, its baseline and its zero-shot means."""
    y_of = {row: float(i) for i, row in enumerate(matrix.rows)} | {BASELINE: len(matrix.rows) + GAP}
    x_of = {column: float(j) for j, column in enumerate(matrix.columns)}
    x_of |= {MEAN: len(matrix.columns) + GAP} if matrix.zero_shot else {}
    right, below = max(x_of.values()) + 1, max(y_of.values()) + 1
    cells = matrix.cells.assign(score=matrix.cells["score"].fillna(TOO_FEW))
    scores = cells.pivot(index="row", columns="column", values="score").reindex(index=[*y_of], columns=[*x_of])
    colours = color_palette(COLOURS, as_cmap=True).with_extremes(under="0.93")
    style: dict[str, Any] = {"cbar": False, "linewidths": 0.8, "xticklabels": False, "yticklabels": False}
    for rows, columns in (matrix.rows, matrix.columns), ([BASELINE], matrix.columns), (matrix.rows, [MEAN]):
        if columns[0] in x_of:
            place = Affine2D().translate(x_of[columns[0]], y_of[rows[0]]) + ax.transData
            heatmap(scores.loc[rows, columns], ax=ax, vmin=0, vmax=SCALE_TOP, cmap=colours, transform=place, **style)
    ax.set(xlim=(0, right), ylim=(below, 0))

    for one in cells.itertuples():
        x, y = x_of[one.column] + 0.5, y_of[one.row] + 0.5
        if one.own:
            ax.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, linewidth=1.8))
        if one.score == TOO_FEW:
            text = wrapped(one.text[0], cell - 0.06, SMALL)
            ax.text(x, y, text, ha="center", va="center", fontsize=SMALL, color="0.3")
            continue
        first, *rest = one.text
        # the score is higher if there are lines below it
        base, weight = y + 0.1 - 0.14 * len(rest), "bold" if one.best == "best" else "normal"
        ax.text(x, base, first, ha="center", va="baseline", fontsize=TEXT, weight=weight)
        if rest:
            ax.text(x, base + 0.1, "\n".join(rest), ha="center", va="top", fontsize=SMALL)
        if one.best == "tied":
            start = x - text_width(first, TEXT) / cell / 2
            end = start + text_width(first.split(" ")[0], TEXT) / cell
            ax.hlines(base + 0.05, start, end, color="black", linewidth=0.7)

    heads = ["\n".join(matrix.heads[column]) for column in matrix.columns]
    heads += [wrapped(word("zero-shot mean", lang), cell - 0.06, TEXT)] * bool(matrix.zero_shot)
    names = [wrapped(row_label(row, lang), 1.1, TEXT, 3) for row in y_of]
    name_cells(ax, np.add([*x_of.values()], 0.5), heads, np.add([*y_of.values()], 0.5), names, cell, TEXT)
    caption = word("evaluation" if matrix.metric == "micro_f1" else "evaluation registers", lang)
    width = max(right * cell, 3)
    said = [wrapped(line, width, TEXT) for line in (caption, *notes(matrix, lang))]
    ax.set_xlabel("\n".join(said), fontsize=TEXT)
    ax.set_ylabel(wrapped(word("training", lang), below * HEIGHT, TEXT), fontsize=TEXT, labelpad=6)
    ax.set_title(wrapped(title, width, 1.05 * TITLE), fontsize=TITLE, weight="bold", pad=7, y=1)
