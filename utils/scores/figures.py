"""What all figures share: their style and fonts, the extents of texts, broken lines, pages.

Sizes are in inches, those of fonts in points.
"""

import functools
import logging
import re
import unicodedata
import warnings
from collections.abc import Iterable

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font

COLOURS = "Blues"  # one hue, dark to light: the same order in grey and for colour-blind eyes
DPI = 150
LINE = 1.25 / 72  # inches from line to line, for each point of the font's size
PIECE = re.compile(r"[^ /_,;-]*[ /_,;-]*")  # what is kept together as long as it fits into a line
EAST_ASIAN = {"CJK", "HANGUL", "HIRAGANA", "KATAKANA"}  # first words of characters' names

log = logging.getLogger(__name__)


def use_style(names: Iterable[str]) -> None:
    """Set how figures look, whatever the user's own settings are; names: what they will show, for the fonts.

    The names' characters that no installed font has are told in one line, with a font to install.
    """
    fonts, missing = find_fonts(frozenset("".join(names)))
    matplotlib.rcdefaults()
    matplotlib.rcParams |= {
        "font.family": ["DejaVu Sans", *fonts],
        "svg.hashsalt": "register-finetuning",
        "text.parse_math": False,  # a $ in a name is a dollar
    }
    text_width.cache_clear()
    warnings.filterwarnings("ignore", message="Glyph ")
    if missing:
        words = {unicodedata.name(c, "?").split()[0] for c in missing if unicodedata.category(c)[0] in "LM"}
        wanted = {"CJK SC" if word in EAST_ASIAN else word.title() for word in words} or {"Symbols"}
        log.warning(
            "no installed font has %s: drawn as boxes; install %s (Debian: fonts-noto-%s), or put it into "
            "~/.local/share/fonts",
            " ".join(sorted(missing)[:10]) + (" …" if len(missing) > 10 else ""),
            " and ".join(f"Noto Sans {word}" for word in sorted(wanted)),
            " fonts-noto-".join(sorted({"cjk" if word == "CJK SC" else "core" for word in wanted})),
        )


@functools.cache
def find_fonts(characters: frozenset[str]) -> tuple[list[str], set[str]]:
    """Return the fewest installed families with the characters that DejaVu Sans lacks, and the characters none has."""
    missing = {c for c in characters if unicodedata.category(c)[0] != "C"}
    missing -= characters_of(font_manager.findfont("DejaVu Sans"), 0, missing)
    manager, fonts, found = font_manager.fontManager, {}, []
    if missing:  # also in fonts that were installed after matplotlib had listed them
        for path in sorted(set(font_manager.findSystemFonts()) - {entry.fname for entry in manager.ttflist}):
            try:
                manager.addfont(path)
            except (OSError, RuntimeError):
                continue  # no font, or a broken one
        for entry in manager.ttflist:
            if entry.style == "normal" and entry.weight in (400, "normal", "regular") and "Resort" not in entry.name:
                fonts[entry.name] = characters_of(entry.fname, entry.index, missing)
    while missing:
        best = min(fonts, key=lambda name: (-len(fonts[name] & missing), "Sans" not in name, name))
        if not fonts[best] & missing:
            break
        found.append(best)
        missing -= fonts[best]
    return found, missing


def characters_of(path: str, index: int, characters: set[str]) -> set[str]:
    """Return those characters that a font has; none of a file that is gone or broken."""
    try:
        font = FT2Font(path, face_index=index)
    except (OSError, RuntimeError):
        return set()
    return {c for c in characters if font.get_char_index(ord(c))}


@functools.cache
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a text's longest line in inches."""
    renderer, font = RendererAgg(1, 1, DPI), FontProperties(size=size, weight=weight)
    return max(renderer.get_text_width_height_descent(line, font, ismath=False)[0] for line in text.split("\n")) / DPI


def wrapped(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Return a text in lines of at most this width: broken after spaces and marks within names, else anywhere."""
    if text_width(text, size, weight) <= width:
        return text
    lines = [""]
    for piece in PIECE.findall(text):
        if text_width((lines[-1] + piece).rstrip(), size, weight) <= width:
            lines[-1] += piece
            continue
        lines += [""] if lines[-1] else []
        for character in piece:
            ends_here = text_width((lines[-1] + character).rstrip(), size, weight) > width
            if lines[-1] and ends_here and not unicodedata.category(character).startswith("M"):
                lines.append("")
            lines[-1] += character
    return "\n".join(line.strip() for line in lines)


def in_lines(text: str, n_lines: int, width: float, size: float) -> str:
    """Return a text in at most n_lines, as narrow as can be from this width on; words stay whole."""
    width = max([width, *(text_width(piece.strip(), size) for piece in PIECE.findall(text))])
    while (broken := wrapped(text, width, size)).count("\n") >= n_lines:
        width *= 1.1
    return broken


def name_below(ax: Axes, x: float, y: float, name: str, size: float, upright: bool) -> None:
    """Write a name below a column, whose middle is x, from y on downwards."""
    rotation, lines = ("vertical", "right") if upright else ("horizontal", "center")
    ax.text(x, y, name, ha="center", va="top", fontsize=size, rotation=rotation, multialignment=lines)


def height_of(text: str, size: float) -> float:
    return (text.count("\n") + 1) * size * LINE


def evenly(items: list, most: int) -> list[list]:
    """Return the items in as few parts as can be, of about the same length, none longer than most."""
    n_parts = -(-len(items) // most)
    bounds = [len(items) * part // n_parts for part in range(n_parts + 1)]
    return [items[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return new axes, placed by the distances of their upper left corner from the figure's."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))
