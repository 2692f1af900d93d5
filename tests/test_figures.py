"""Style, fonts and lines of figures, and that they are the same bytes whatever the user's settings."""

import warnings

import matplotlib
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils import figures


@pytest.fixture(autouse=True)
def usual_style(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
        yield
    matplotlib.rcdefaults()


def draw(*names):
    figure = Figure()
    for name in names:
        figure.text(0.5, 0.5, name)
    FigureCanvasAgg(figure).draw()


def test_without_a_font_one_line_says_which_to_install_and_no_warning_follows(monkeypatch, caplog):
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    with warnings.catch_warnings(record=True) as caught:
        figures.use_style(["新闻", "समाचार", "IN"])
        draw("新闻", "समाचार")
    assert not caught
    (line,) = caplog.messages
    assert "新 闻" in line and "fonts-noto-core" in line and "fonts-noto-cjk" in line


def test_lines_are_broken_after_spaces_and_marks_and_words_stay_whole():
    width = figures.text_width("Information/", 7)
    assert figures.wrapped("Information/Explanation", width, 7) == "Information/\nExplanation"
    assert figures.wrapped("of the row", 5, 7) == "of the row"
    assert figures.wrapped("x" * 40, 1, 7) == "x" * 40
    assert figures.wrapped("a b c d", 0.01, 7).count("\n") == 3
    assert figures.wrapped("a b c d", 0.01, 7, 2).count("\n") == 1  # rather wider than in more lines
