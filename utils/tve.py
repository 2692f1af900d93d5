"""The figure of the matrices of training languages x evaluation languages (TVE): panels of utils/scores/panels.py."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Affine2D
from seaborn import color_palette, heatmap

from utils.scores.figures import COLOURS, DPI, evenly, height_of, in_lines, name_below, place, text_width, wrapped
from utils.scores.labels import PHRASES, label
from utils.scores.panels import Cell, Panel, cell_text, column_head, footer_lines

PAGE = 32.0  # inches, width and height at most
CELL_WIDTH, CELL_HEIGHT = 0.66, 0.46  # inches, at least
MARGIN_LEFT, MARGIN_RIGHT = 1.55, 0.15  # inches beside a panel's cells, at least
SCALE_TOP = 1.2  # the score of the darkest colour: above 1, so that dark cells stay readable
DARK = 0.62  # cells with a larger share of it are dark: white text
TOO_FEW = -1.0  # stands for the score of a cell with too few texts
TITLE, NAME, CAPTION, FOOT, HEAD, SCORE, SMALL = 10.5, 8, 8, 8, 7.5, 8, 5.6  # points
PLACES = {1: (0.5,), 2: (0.38, 0.75), 3: (0.27, 0.58, 0.84)}  # of a cell's lines, from its top
GAP = 0.3  # cells between the matrix and its baseline and means
SPACED = 1.15  # the notes' lines, which are apart


Block = list[list[tuple[float, tuple[str, ...]] | None]]  # scores and texts of cells that touch


class Layout(NamedTuple):
    """What all panels of a figure have in common, in inches."""

    cell: float
    names_width: float  # of the texts beside the rows
    below: float  # height of the texts below the columns
    upright: bool  # so are these texts

    @property
    def left(self) -> float:
        return max(self.names_width + 0.4, MARGIN_LEFT)


class Part(NamedTuple):
    """A panel, or what of a large one fits on a page, with the texts around it; width and height in inches."""

    panel: Panel
    title: str
    caption: str
    width: float  # of the cells
    height: float  # of the cells


def draw_panels(panels: list[Panel], n_columns: int, lang: str) -> Iterator[Figure]:
    """Give the pages of all panels, n_columns in a row where a page is wide enough; a large panel is drawn in parts."""
    layout = make_layout(panels, lang)
    parts = [part for panel in panels for part in split(panel, layout, lang)]
    width = max(part.width for part in parts) + layout.left + MARGIN_RIGHT
    n_columns = max(1, min(n_columns, len(parts), int(PAGE / width)))
    page: list[list[Part]] = []
    for start in range(0, len(parts), n_columns):
        row = parts[start : start + n_columns]
        if page and sum(height_of_row(other, layout) for other in [*page, row]) > PAGE:
            yield draw_page(page, width, layout, lang)
            page = []
        page.append(row)
    yield draw_page(page, width, layout, lang)


def make_layout(panels: list[Panel], lang: str) -> Layout:
    """Return sizes in which no text covers another."""
    blocks = [block for panel in panels for _, _, block in blocks_of(panel, lang)]
    texts = {cell[1] for block in blocks for row in block for cell in row if cell}
    longest = {(size, len(line)): line for lines in texts for line, size in sized(lines)}
    heads = {head for panel in panels for head in heads_of(panel, lang)}
    names = {name for panel in panels for name in names_of(panel, lang)}
    cell = max(CELL_WIDTH, *(text_width(line, size) + 0.06 for (size, _), line in longest.items()))
    widest, tallest = max(text_width(head, HEAD) for head in heads), max(height_of(head, HEAD) for head in heads)
    upright = widest > cell - 0.04
    names_width = max(text_width(name, NAME) for name in names)
    below = widest if upright else tallest
    return Layout(max(cell, tallest if upright else 0), names_width, below, upright)


def split(panel: Panel, layout: Layout, lang: str) -> list[Part]:
    """Return a panel in parts that fit on a page; the zero-shot mean is in those of the last columns."""
    most_rows = int((PAGE - layout.below - 2) / CELL_HEIGHT - 1 - GAP)
    most_columns = int((PAGE - layout.left - MARGIN_RIGHT) / layout.cell - 1 - GAP)
    blocks = [(rows, names) for rows in evenly(panel.rows, most_rows) for names in evenly(panel.columns, most_columns)]
    title = panel.title(lang)
    caption = label(PHRASES, "evaluation" if panel.metric == "micro_f1" else "evaluation registers", lang)
    parts = []
    for index, (rows, names) in enumerate(blocks, start=1):
        zero_shot = panel.zero_shot if names[-1] == panel.columns[-1] else []
        width = max((len(names) + (1 + GAP if zero_shot else 0)) * layout.cell, 3.0)
        of = f" ({index}/{len(blocks)})" if len(blocks) > 1 else ""
        parts.append(
            Part(
                panel._replace(rows=rows, columns=names, zero_shot=zero_shot),
                wrapped(title + of, width + MARGIN_RIGHT, TITLE, "bold"),
                wrapped(caption, width + MARGIN_RIGHT, CAPTION),
                width,
                (len(rows) + 1 + GAP) * CELL_HEIGHT,
            )
        )
    return parts


def height_of_row(parts: list[Part], layout: Layout) -> float:
    """Return the height of parts beside each other, with their margins."""
    around = max(height_of(part.title, TITLE) + height_of(part.caption, CAPTION) for part in parts)
    return max(part.height for part in parts) + layout.below + around + 0.6


def draw_page(rows: list[list[Part]], width: float, layout: Layout, lang: str) -> Figure:
    """Return a page of these rows of parts; width: of one part with its margins."""
    heights = [height_of_row(row, layout) for row in rows]
    page_width = width * len(rows[0])
    footer = [
        wrapped(line, page_width - 0.3, FOOT)
        for line in footer_lines([part.panel for row in rows for part in row], lang)
    ]
    notes = "\n".join(footer)
    size = page_width, sum(heights) + height_of(notes, FOOT) * SPACED + 0.2
    figure = Figure(figsize=size, dpi=DPI)
    for i, row in enumerate(rows):
        top = sum(heights[:i]) + 0.2 + max(height_of(part.title, TITLE) for part in row)
        for j, part in enumerate(row):
            draw_part(part, place(figure, j * width + layout.left, top, part.width, part.height), layout, lang)
    figure.text(0.5, 0.08 / size[1], notes, ha="center", va="bottom", fontsize=FOOT, linespacing=1.2 * SPACED)
    return figure


def draw_part(part: Part, ax: Axes, layout: Layout, lang: str) -> Axes:
    """Draw one matrix: rows training mixes and the baseline, columns languages and the zero-shot mean."""
    panel = part.panel
    for x, y, block in blocks_of(panel, lang):
        draw_block(ax, x, y, block)
    for i, row in enumerate(panel.rows):
        for j in (j for j, name in enumerate(panel.columns) if name in row.train_langs):
            ax.add_patch(Rectangle((j + 0.03, i + 0.03), 0.94, 0.94, fill=False, edgecolor="black", linewidth=1.8))
    right, below = len(panel.columns) + (1 + GAP if panel.zero_shot else 0), len(panel.rows) + 1 + GAP
    ax.set(xlim=(0, right), ylim=(below, 0))
    x_inch, y_inch = right / part.width, below / part.height  # in the units of the axes
    for j, head in enumerate(heads_of(panel, lang)):
        x = j + 0.5 + (GAP if j == len(panel.columns) else 0)
        name_below(ax, x, below + 0.05 * y_inch, head, HEAD, layout.upright)
    for i, name in enumerate(names_of(panel, lang)):
        y = i + 0.5 + (GAP if i == len(panel.rows) else 0)
        ax.text(-0.05 * x_inch, y, name, ha="right", va="center", fontsize=NAME)
    ax.text(right / 2, below + (layout.below + 0.1) * y_inch, part.caption, ha="center", va="top", fontsize=CAPTION)
    training = wrapped(label(PHRASES, "training", lang), part.height, CAPTION)
    beside = (layout.names_width + 0.1) * x_inch
    ax.text(-beside, below / 2, training, ha="right", va="center", fontsize=CAPTION, rotation="vertical")
    ax.set_title(part.title, fontsize=TITLE, weight="bold", pad=7)
    return ax


def draw_block(ax: Axes, x: float, y: float, block: Block) -> None:
    """Draw cells that touch, the first one's upper left corner at (x, y)."""
    scores = np.array([[np.nan if cell is None else cell[0] for cell in row] for row in block])
    place_of = Affine2D().translate(x, y) + ax.transData
    colours = color_palette(COLOURS, as_cmap=True).with_extremes(under="0.93")
    options = {"cbar": False, "linewidths": 0.8, "xticklabels": False, "yticklabels": False, "transform": place_of}
    heatmap(scores, ax=ax, vmin=0, vmax=SCALE_TOP, cmap=colours, **options)
    for i, j in np.argwhere(~np.isnan(scores)):
        lines = block[i][j][1]
        colour = "0.3" if scores[i, j] == TOO_FEW else "white" if scores[i, j] / SCALE_TOP > DARK else "black"
        for (line, size), down in zip(sized(lines), PLACES[len(lines)], strict=True):
            ax.text(x + j + 0.5, y + i + down, line, ha="center", va="center", fontsize=size, color=colour)


def sized(lines: tuple[str, ...]) -> list[tuple[str, float]]:
    """Return the lines of a cell with their font sizes: first the score, or that there are too few texts."""
    first = SMALL if "\n" in lines[0] else SCORE if len(lines[0]) < 9 else 6.6
    return [(line, SMALL if number else first) for number, line in enumerate(lines)]


def heads_of(panel: Panel, lang: str) -> list[str]:
    """Return the texts below the columns."""
    heads = ["\n".join(wrapped(line, 2, HEAD) for line in column_head(panel, name, lang)) for name in panel.columns]
    return [*heads, *([label(PHRASES, "zero-shot mean", lang)] if panel.zero_shot else [])]


def names_of(panel: Panel, lang: str) -> list[str]:
    """Return the texts beside the rows."""
    names = [row.label for row in panel.rows]
    return [in_lines(name, 3, 1.2, NAME) for name in (*names, label(PHRASES, "baseline", lang))]


def blocks_of(panel: Panel, lang: str) -> list[tuple[float, float, Block]]:
    """Return the cells that touch, with the place of the first: the matrix, the baseline, the zero-shot means."""
    n_rows, n_columns = len(panel.rows), len(panel.columns)
    matrix = [[shown(row.cells.get(name), lang, panel.n_seeds) for name in panel.columns] for row in panel.rows]
    baseline = [[shown(panel.baseline[name], lang, 1) for name in panel.columns]]
    means = [[shown(panel.means.get(row.label), lang, 1)] for row in panel.rows]
    blocks = [(0, 0, matrix), (0, n_rows + GAP, baseline), (n_columns + GAP, 0, means)]
    return blocks if panel.zero_shot else blocks[:2]


def shown(cell: Cell | None, lang: str, n_seeds: int) -> tuple[float, tuple[str, ...]] | None:
    """Return what is drawn of a cell: the score, which chooses the colour, and the lines of text."""
    return None if cell is None else (TOO_FEW if np.isnan(cell.score) else cell.score, cell_text(cell, lang, n_seeds))
