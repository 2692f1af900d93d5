"""What the tests of figures share: are all texts of a figure within it, and none over another?"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

SLACK = 1.0  # pixels: extents are of whole pixels


def check_legible(figure: Figure, smallest: float = 5) -> None:
    """Assert that all texts of a figure are at least so large (points), lie within it, and apart from each other."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    texts = [text for text in shown if text.get_window_extent(renderer).width > 1]
    assert min(text.get_fontsize() for text in texts) >= smallest
    boxes = np.array([text.get_window_extent(renderer).extents for text in texts])
    left, low, right, high = boxes.T
    outside = (left < 0) | (low < 0) | (right > figure.bbox.width) | (high > figure.bbox.height)
    assert not outside.any(), [texts[i].get_text() for i in np.flatnonzero(outside)]
    for i in range(len(texts) - 1):
        rest = slice(i + 1, None)
        wide = np.minimum(right[i], right[rest]) - np.maximum(left[i], left[rest])
        tall = np.minimum(high[i], high[rest]) - np.maximum(low[i], low[rest])
        over = (wide > SLACK) & (tall > SLACK)
        assert not over.any(), (texts[i].get_text(), [texts[i + 1 + j].get_text() for j in np.flatnonzero(over)])
