"""The palette of the figures, as classes of the page's style."""

import numpy as np
from matplotlib import colormaps

from utils.scores.figures import COLOURS
from utils.tve import SCALE_TOP

SHADES = 50  # of the palette, from 0 to 1


def shades() -> str:
    """Return the rules of the classes b0, b1 …: the palette of the figures, and black or white on it, as is clearer."""
    rules = []
    for step in range(SHADES + 1):
        colour = np.array(colormaps[COLOURS](step / SHADES)[:3])
        linear = np.where(colour <= 0.03928, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)  # WCAG 2
        light = float(linear @ [0.2126, 0.7152, 0.0722])
        text = "#fff" if 1.05 / (light + 0.05) > (light + 0.05) / 0.05 else "#000"
        values = "".join(f"{round(255 * value):02x}" for value in colour)
        rules.append(f".b{step}{{background:#{values};color:{text}}}")
    return "\n".join(rules) + "\n"


def shade(score: float) -> str:
    """Return the class of a score in [0, 1]; none: it is nan."""
    return "none" if np.isnan(score) else f"b{round(min(max(score / SCALE_TOP, 0), 1) * SHADES)}"
