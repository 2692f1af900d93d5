"""What all figures share: style and fonts, wrapped texts, and pages on which no text covers another.

Lengths are in inches, sizes of fonts in points.
"""

import functools
import logging
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font

COLOURS = "Blues"  # one hue, dark to light: the same order in grey and for colour-blind eyes
DPI = 150
PIECE = re.compile(r"[^ /_,;-]*[ /_,;-]*")  # kept together when a text is wrapped

Panel = tuple[tuple[float, float], Callable[[Axes], None]]  # width and height, and a function that draws it


def use_style(names: Iterable[str]) -> None:
    """Set the style of figures, whatever the user's own settings are, with fonts for all these names.

    If no installed font has some characters, one warning names them, and the fonts to install.
    """
    missing = {c for c in "".join(names) if unicodedata.category(c)[0] != "C"}
    missing -= {chr(code) for code in FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap()}
    # the files are read, since one may be newer than matplotlib's list of fonts
    fonts, families = {}, ["DejaVu Sans"]
    for path in sorted(font_manager.findSystemFonts()) if missing else []:
        try:
            font = FT2Font(path)
        except (OSError, RuntimeError):
            continue  # not a font, or a damaged one
        # neither bold nor italic, nor the font that draws a box for every character
        if not font.style_flags and "Resort" not in font.family_name:
            fonts[path] = font.family_name, {c for c in missing if font.get_char_index(ord(c))}
    while any(has & missing for _, has in fonts.values()):
        path = min(fonts, key=lambda path: (-len(fonts[path][1] & missing), "Sans" not in path, "Regular" not in path))
        font_manager.fontManager.addfont(path)
        families.append(fonts[path][0])
        missing -= fonts[path][1]
    matplotlib.rcdefaults()
    # a $ in a name is not the start of a formula
    matplotlib.rcParams |= {"font.family": families, "svg.hashsalt": "figures", "text.parse_math": False}
    text_width.cache_clear()
    warnings.filterwarnings("ignore", message="Glyph ")
    if missing:
        text = "no installed font has %s, drawn as boxes; install Noto Sans (Debian: fonts-noto-core; for Chinese, "
        text += "Japanese and Korean fonts-noto-cjk), or put a font into ~/.local/share/fonts"
        logging.getLogger(__name__).warning(text, " ".join(sorted(missing)[:10]) + " …" * (len(missing) > 10))


@functools.cache
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of the longest line of a text."""
    renderer, font = RendererAgg(1, 1, DPI), FontProperties(size=size, weight=weight)
    return max(renderer.get_text_width_height_descent(line, font, ismath=False)[0] for line in text.split("\n")) / DPI


def height_of(text: str, size: float) -> float:
    return (text.count("\n") + 1) * size * 1.25 / 72


def wrapped(text: str, width: float, size: float, n_lines: int = 99) -> str:
    """Wrap a text to this width, or wider if there would be more than n_lines; words are not broken."""
    lines = [""]
    for piece in filter(None, PIECE.findall(text)):
        if lines[-1] and text_width((lines[-1] + piece).rstrip(), size) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(map(str.rstrip, lines)) if len(lines) <= n_lines else wrapped(text, 1.1 * width, size, n_lines)


def parts(items: list, most: int) -> list[list]:
    return [items[start : start + max(1, most)] for start in range(0, len(items), max(1, most))]


def name_cells(ax: Axes, xs: Any, heads: list[str], ys: Any, names: list[str], width: float, size: float) -> None:
    """Write names beside rows and below columns of this width, vertically if one is wider."""
    upright = max(text_width(head, size) for head in heads) > width - 0.04
    ax.set_xticks(xs, heads, fontsize=size, rotation=90 * upright, multialignment="right" if upright else "center")
    ax.set_yticks(ys, names, fontsize=size)
    ax.tick_params(length=0, pad=3)


def draw_pages(
    panels: list[Panel], n_columns: int, n_rows: int, title: str, notes: Iterable[str], size: float = 8
) -> Iterator[Figure]:
    """Yield pages with these panels, as close as their texts allow, below a title and above notes of this size."""
    # as few rows as possible, all but the last one full
    n_columns = -(-len(panels) // -(-len(panels) // max(1, n_columns)))
    pages = parts(parts(panels, n_columns), n_rows)
    for index, rows in enumerate(pages, start=1):
        # on a figure of one inch, each panel has its own size, and its texts can be measured
        figure, renderer = Figure(figsize=(1, 1), dpi=DPI), RendererAgg(1, 1, DPI)
        axes = [figure.add_axes((0, 0, *extent)) for row in rows for extent, _ in row]
        for ax, (_, draw) in zip(axes, (panel for row in rows for panel in row), strict=True):
            draw(ax)
        reach = [ax.get_tightbbox(renderer, bbox_extra_artists=[]) for ax in axes]
        boxes = np.array([box.extents if box else np.zeros(4) for box in reach]) / DPI
        # how far the texts reach from the lower left corners of the axes, with a margin
        starts = np.cumsum([0, *map(len, rows[:-1])])
        left, right = 0.1 - boxes[:, 0].min(), boxes[:, 2].max() + 0.1
        below, above = (0.1 + np.maximum.reduceat(one, starts) for one in (-boxes[:, 1], boxes[:, 3]))
        inner, bottoms = (left + right) * len(rows[0]), np.cumsum(above + below)

        of = f" ({index}/{len(pages)})" if title and len(pages) > 1 else ""
        head = wrapped(title + of, max(inner, 7) - 0.5, 1.65 * size)
        foot = "\n".join(wrapped(line, max(inner, 7) - 0.3, size) for line in notes if line)
        width = max(inner, text_width(head, 1.6 * size, "bold") + 0.2, text_width(foot, size) + 0.2)
        top = height_of(head, 1.6 * size) + 0.15 if title else 0.05
        height = top + bottoms[-1] + 1.15 * height_of(foot, size) + 0.2
        figure.set_size_inches(width, height)
        figure.text(0.5, 1 - 0.1 / height, head, ha="center", va="top", fontsize=1.6 * size, weight="bold")
        figure.text(0.5, 0.08 / height, foot, ha="center", va="bottom", fontsize=size, linespacing=1.4)
        for number, ax in enumerate(axes):
            i, j = divmod(number, len(rows[0]))
            x, y = (width - inner) / 2 + j * (left + right) + left, height - top - bottoms[i] + below[i]
            ax.set_position((x / width, y / height, *np.divide(ax.get_position().size, (width, height))))
        yield figure
