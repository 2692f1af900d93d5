"""Fonts, broken lines and pages of figures."""

import warnings

import matplotlib
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils.scores import figures

SCRIPTS = {"Chinese": "新闻", "Devanagari": "क्षेत्रीय", "Arabic": "أخبار", "Thai": "ข่าว"}


@pytest.fixture(autouse=True)
def fonts_anew():
    figures.find_fonts.cache_clear()
    yield
    figures.find_fonts.cache_clear()
    figures.use_style([])


@pytest.fixture
def own_fonts(monkeypatch):
    """Let matplotlib know no fonts but its own."""
    own = matplotlib.get_data_path()
    listed = [entry for entry in font_manager.fontManager.ttflist if entry.fname.startswith(own)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", listed)


def draw(*names):
    figure = Figure()
    for name in names:
        figure.text(0.5, 0.5, name)
    FigureCanvasAgg(figure).draw()


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_installed_font_with_the_characters_is_used(script, caplog):
    _, missing = figures.find_fonts(frozenset(SCRIPTS[script]))
    if missing:
        pytest.skip(f"no font for {script} is installed")
    figures.use_style([SCRIPTS[script], "IN"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(SCRIPTS[script])
    assert not caplog.text


def test_a_font_installed_after_matplotlib_listed_them_is_found(own_fonts):
    fonts, missing = figures.find_fonts(frozenset("新闻"))
    if missing:
        pytest.skip("no font for Chinese is installed")
    assert len(fonts) == 1


def test_without_a_font_one_line_says_which_to_install_and_no_warning_follows(own_fonts, monkeypatch, caplog):
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    with warnings.catch_warnings(record=True) as caught:
        figures.use_style(["新闻", "समाचार", "IN"])
        draw("新闻", "समाचार")
    assert not caught
    (line,) = caplog.messages
    assert "no installed font has च म र स ा …" not in line and "新 闻" in line
    assert "install Noto Sans CJK SC and Noto Sans Devanagari (Debian: fonts-noto-cjk fonts-noto-core)" in line


def test_the_users_settings_are_set_back():
    matplotlib.rcParams |= {"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}
    figures.use_style([])
    assert matplotlib.rcParams["font.size"] == 10 and matplotlib.rcParams["axes.facecolor"] == "white"


def test_lines_are_broken_after_spaces_and_marks_and_within_a_word_only_if_it_is_too_wide():
    width = figures.text_width("Information/", 7)
    assert figures.wrapped("Information/Explanation", width, 7) == "Information/\nExplanation"
    assert figures.wrapped("of the row", 5, 7) == "of the row"
    broken = figures.wrapped("x" * 40, 1, 7).split("\n")
    assert "".join(broken) == "x" * 40 and all(figures.text_width(line, 7) <= 1 for line in broken)
    assert figures.in_lines("x" * 40, 2, 1, 7) == "x" * 40  # rather wider than broken


@pytest.mark.parametrize(
    ("n", "most", "lengths"), [(1, 5, [1]), (10, 5, [5, 5]), (11, 5, [3, 4, 4]), (3, 1, [1, 1, 1])]
)
def test_parts_are_few_and_of_about_the_same_length(n, most, lengths):
    parts = figures.evenly(list(range(n)), most)
    assert [len(part) for part in parts] == lengths and sum(parts, []) == list(range(n))
