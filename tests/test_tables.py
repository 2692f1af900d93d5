"""Matrices: means over the runs that are said, marks that every medium has, digits that are the same everywhere."""

import csv
import io
import re

import make_grid
import numpy as np
import pytest
from make_grid import make_run

from utils import labels, metrics, results, tables, uncertainty
from utils.tables import BASELINE, MEAN

LANGS = ["en", "fi", "fr", "sv"]
HOSTILE = ["$x$", "a_b", "50 %", "<b>", "R&D", "x\\y", "{z}", "#|`*"]


def make_answers(folder, training, answered):
    """Write a run with these answers: language -> (gold, predicted) label ids, of make_grid's registers."""
    make_grid.write_record(folder, "m", training, {lang: {} for lang in training.split("-")})
    for lang, (gold, predicted) in answered.items():
        make_grid.write_evaluation(folder, lang, gold, np.eye(8)[predicted], make_grid.REGISTERS)


def answer(gold, accuracy, rng):
    return np.where(rng.random(len(gold)) < accuracy, gold, (gold + rng.integers(1, 8, len(gold))) % 8)


def matrix_of(base_dirs, metric="micro_f1", lang="en"):
    frame, _ = results.read_results(base_dirs)
    (matrix,) = tables.make_matrices(frame, [metric], len(base_dirs), lang)
    return matrix, {(cell.row, cell.column): cell for cell in matrix.cells.itertuples()}


@pytest.fixture
def grid(tmp_path):
    """A model on en, en-fr and distr, evaluated on four languages with random predictions."""
    rng = np.random.default_rng(0)
    for training in ("en", "en-fr", "distr"):
        make_run(tmp_path / f"xlmr-{training}", "xlmr", training, LANGS, 120, rng)
    return tmp_path


# ---- cells ----


def test_the_zero_shot_mean_and_its_interval_are_over_the_same_runs(tmp_path):
    rng, gold = np.random.default_rng(2), np.repeat(np.arange(8), 25)
    for seed, accuracy in (("1", 0.9), ("2", 0.5), ("3", 0.5)):
        langs = ("ru", "tr") if seed == "1" else ("ru",)  # seeds 2 and 3 are not yet evaluated on tr
        make_answers(tmp_path / seed / "m-fi", "fi", {lang: (gold, answer(gold, accuracy, rng)) for lang in langs})
    _, cells = matrix_of([tmp_path / seed for seed in "123"])
    mean = cells["fi", MEAN]
    assert mean.low < mean.score < mean.high and mean.n == 1 and len(mean.text) == 3
    assert mean.score == pytest.approx((cells["fi", "tr"].score + cells["fi", "ru"].rows[0].score) / 2)


def test_the_zero_shot_mean_is_blank_where_no_run_has_all_languages(tmp_path):
    rng, gold = np.random.default_rng(2), np.repeat(np.arange(8), 25)
    for seed, lang in (("1", "ru"), ("2", "tr")):
        make_answers(tmp_path / seed / "m-fi", "fi", {lang: (gold, answer(gold, 0.7, rng))})
    matrix, cells = matrix_of([tmp_path / "1", tmp_path / "2"])
    assert matrix.zero_shot == ["ru", "tr"] and ("fi", MEAN) not in cells


def test_the_zero_shot_mean_is_over_the_same_languages_for_every_row_and_not_for_distr(grid):
    matrix, cells = matrix_of([grid])
    assert matrix.zero_shot == ["fi", "sv"] and ("distr", MEAN) not in cells
    for row in ("en", "en-fr"):
        mean, of_langs = cells[row, MEAN], [cells[row, lang] for lang in ("fi", "sv")]
        assert mean.score == pytest.approx(np.mean([cell.score for cell in of_langs]))
        assert mean.high - mean.low < min(cell.high - cell.low for cell in of_langs)
    assert cells["en-fr", "fr"].own and not cells["en", "fr"].own


def test_seeds_give_mean_deviation_and_an_interval_from_three_on(tmp_path):
    for seed in (1, 2, 3):
        make_run(tmp_path / str(seed) / "xlmr-en", "xlmr", "en", ["fi"], 100, np.random.default_rng(seed))
    base_dirs = [tmp_path / str(seed) for seed in (1, 2, 3)]
    matrix, cells = matrix_of(base_dirs)
    cell, scores = cells["en", "fi"], np.array([row.score for row in cells["en", "fi"].rows])
    assert (cell.score, cell.sd, cell.n) == (pytest.approx(scores.mean()), pytest.approx(scores.std(ddof=1)), 3)
    assert cell.low < cell.score < cell.high and "3" in matrix.title("en")
    assert cell.text[0] == f"{100 * cell.score:.1f} ±{100 * cell.sd:.1f}" and len(cell.text) == 2
    assert cells["en", "fi"].best == ""  # there is nothing to compare it with
    _, cells = matrix_of(base_dirs[:2])
    assert np.isnan(cells["en", "fi"].low) and len(cells["en", "fi"].text) == 1


def test_a_constant_answer_and_a_register_never_predicted_are_marked(tmp_path):
    gold = np.repeat(np.arange(8), 25)
    make_answers(tmp_path / "m-en", "en", {"fi": (gold, np.zeros_like(gold))})
    make_answers(tmp_path / "m-fr", "fr", {"fi": (gold, np.where(gold == 7, 0, gold))})
    make_answers(tmp_path / "m-tr", "tr", {"fi": (gold, answer(gold, 0.8, np.random.default_rng(0)))})
    marks = {metric: matrix_of([tmp_path], metric)[1] for metric in ("micro_f1", "macro_f1_10")}
    assert [marks["micro_f1"][row, "fi"].mark for row in ("en", "fr", "tr")] == ["↓", "", ""]
    assert [marks["macro_f1_10"][row, "fi"].mark for row in ("en", "fr", "tr")] == ["↓°", "°", ""]
    constant = marks["macro_f1_10"]["en", "fi"]
    assert constant.low < constant.score < constant.high  # other texts have other numbers of that register


def test_the_baseline_always_predicts_the_most_frequent_gold_register():
    counts = np.array([[1, 1, 0], [2, 3, 0], [0, 0, 0]])
    assert tables.majority_baseline(counts).tolist() == [[0, 2, 0], [0, 5, 0], [0, 0, 0]]


# ---- which is best ----


def test_best_and_tied_are_those_of_the_corrected_comparison(tmp_path):
    rng, gold = np.random.default_rng(1), np.repeat(np.arange(8), 40)
    for i, accuracy in enumerate((0.8, 0.8, 0.72, 0.5, 0.76)):
        make_answers(tmp_path / f"m-l{i}", f"l{i}", {"fi": (gold, answer(gold, accuracy, rng))})
    for metric in ("micro_f1", "macro_f1_10"):
        matrix, cells = matrix_of([tmp_path], metric)
        column = [cells[row, "fi"] for row in matrix.rows]
        best = max(column, key=lambda cell: cell.score)
        assert best.best == "best"
        for cell in column:
            if cell is not best:
                gold_ids, predicted = results.answers(cell.rows[0].folder, "fi", tuple(make_grid.REGISTERS))
                of_best = results.answers(best.rows[0].folder, "fi", tuple(make_grid.REGISTERS))[1]
                p = uncertainty.compare(gold_ids, of_best[None], predicted[None], 8, metric)["p"]
                assert cell.best == ("tied" if 4 * p >= 0.05 else "")
        assert {cell.best for cell in column} == {"best", "tied", ""}


@pytest.mark.parametrize(
    ("compared", "n_comparisons", "apart"),
    [({"p": 0.02}, 1, True), ({"p": 0.02}, 2, True), ({"p": 0.02}, 3, False), ({"p": np.nan}, 1, False)],
)
def test_p_is_corrected_for_the_rows_and_without_p_nothing_differs(compared, n_comparisons, apart):
    assert tables.differ(compared, {}, {}, n_comparisons) == apart


def test_without_predictions_models_differ_if_their_intervals_do_not_overlap():
    a, b, c = ({"low": low, "high": low + 0.1} for low in (0.5, 0.55, 0.61))
    pairs = [(a, b), (b, a), (b, c), (a, c), (c, a)]
    assert [tables.differ(None, *pair, 1) for pair in pairs] == [False, False, False, True, True]


def test_the_tests_of_the_bests_are_named(tmp_path):
    rng = np.random.default_rng(0)
    for seed, training in ((1, "en"), (1, "fr"), (2, "en"), (2, "fr"), (1, "tr")):
        make_run(tmp_path / str(seed) / f"xlmr-{training}", "xlmr", training, ["fi"], 100, rng)
    one, two = (matrix_of([tmp_path / str(seed) for seed in seeds])[0] for seeds in ((1,), (1, 2)))
    assert tables.tests_of_bests([one], "en") == labels.test_of("micro_f1", 1, 1)
    several = tables.tests_of_bests([two], "en")
    rest = labels.word("test some", "en", tests="")
    assert several.endswith(rest) and labels.test_of("micro_f1", 2, 1) in several
    two = two._replace(cells=two.cells[two.cells["row"] != "tr"])
    assert tables.tests_of_bests([two], "en") == labels.test_of("micro_f1", 2, 2)


def test_every_medium_marks_the_best_those_not_distinguishable_and_languages_trained_on(grid):
    matrix, cells = matrix_of([grid], "macro_f1_10")
    markdown, latex = tables.markdown_table([matrix], "en"), tables.latex_table([matrix], "en")
    terminal = tables.terminal_table([matrix], "en")
    listed = list(csv.DictReader(io.StringIO(tables.cells_csv([matrix]))))
    for cell in cells.values():
        score, (line, *rest) = f"{100 * cell.score:.1f}", cell.text
        assert (
            line.startswith(score)
            and {"": score, "best": f"**{score}**", "tied": f"<u>{score}</u>"}[cell.best] in markdown
        )
        marked = {"": score, "best": rf"\textbf{{{score}}}", "tied": rf"\underline{{{score}}}"}[cell.best]
        assert marked + "".join(f" ({part})" for part in rest).replace("–", "--") in latex
        shown = score + {"": "", "best": "^", "tied": "~"}[cell.best] + "*" * cell.own
        assert re.search(rf"(?<!\S){re.escape(shown)}(?!\S)", terminal), shown
        (row,) = (row for row in listed if (row["row"], row["column"]) == (cell.row, cell.column))
        assert float(row["score"]) == cell.score and row["best"] == cell.best
        assert row["n"] == ("" if cell.kind == "baseline" else "1")
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 1 and "{lrrrrr}" in latex
    assert "%" not in latex.replace("% needs", "").replace(r"\%", "")


def test_the_scores_and_registers_of_every_run_are_listed_with_their_intervals(grid):
    frame, _ = results.read_results([grid])
    rows = list(csv.DictReader(io.StringIO(tables.scores_csv(frame))))
    assert len(rows) == 12
    for row, evaluation in zip(rows, results.evaluations(frame).itertuples(), strict=True):
        for metric, score in metrics.all_metrics(evaluation.counts).items():
            low, high = uncertainty.intervals(evaluation.counts[None], metric)
            assert float(row[metric]) == pytest.approx(score, abs=1e-12)
            assert [row[f"{metric}_low"] or "nan", row[f"{metric}_high"] or "nan"] == [str(low[0]), str(high[0])]
    of_registers = list(csv.DictReader(io.StringIO(tables.registers_csv(frame))))
    assert [row["register"] for row in of_registers] == make_grid.REGISTERS * 12
    for row in of_registers:
        if row["f1"]:
            assert float(row["f1_low"]) <= float(row["f1"]) <= float(row["f1_high"])
            assert float(row["f1_low"]) < float(row["f1_high"])


def test_too_few_texts_are_said(tmp_path):
    make_run(tmp_path / "xlmr-en", "xlmr", "en", ["fi"], 12, np.random.default_rng(0))
    matrix, cells = matrix_of([tmp_path], "macro_f1_10", "fr")
    assert len(cells["en", "fi"].text) == 1 and matrix.zero_shot == []
    assert "nan" not in tables.markdown_table([matrix], "fr") + tables.terminal_table([matrix], "fr")


def test_registers_left_out_are_named_with_their_texts(tmp_path):
    make_run(tmp_path / "xlmr-en", "xlmr", "en", ["fi"], 60, np.random.default_rng(0))
    matrix, cells = matrix_of([tmp_path], "macro_f1_10")
    counts = cells["en", "fi"].rows[0].counts.sum(axis=1)
    few = " ".join(f"{r} ({n})" for r, n in zip(make_grid.REGISTERS, counts, strict=True) if 0 < n < 10)
    assert few and any(note.endswith(f": fi {few}") for note in tables.notes(matrix, "en"))
    assert matrix.heads["fi"][:2] == ["fi", "60"]
    assert matrix.heads["fi"][2].startswith(f"{(counts >= 10).sum()}/{(counts > 0).sum()} ")
    assert labels.word("columns", "en") in tables.legend([matrix], "en", "table")
    assert labels.word("columns", "en") not in tables.legend([matrix_of([tmp_path])[0]], "en", "table")


# ---- names ----


def test_hostile_names_are_what_they_are_in_every_table(tmp_path, monkeypatch):
    monkeypatch.setattr(make_grid, "REGISTERS", HOSTILE)
    base_dir = tmp_path / "=cmd()"
    folder = base_dir / "-1_$a$ [x] & 50% \x1b[31m"
    for model in ("m_1", "m_2"):
        make_run(folder / f"{model}-en", model, "en", ["en", "fi"], 60, np.random.default_rng(1))
    frame, damaged = results.read_results([base_dir])
    assert len(frame) == 20 and not damaged
    matrices = tables.make_matrices(frame, ["macro_f1"], 1, "en")
    listed = [tables.scores_csv(frame), tables.registers_csv(frame), tables.cells_csv(matrices)]
    for content in listed:
        cells = [cell for row in csv.reader(io.StringIO(content)) for cell in row]
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert {row["register"] for row in csv.DictReader(io.StringIO(listed[1]))} == set(HOSTILE)
    markdown, latex = tables.markdown_table(matrices, "en"), tables.latex_table(matrices, "en")
    assert "### -1\\_\\$a\\$ \\[x\\] \\& 50% \\\\x1b\\[31m/m\\_1" in markdown
    assert r"\caption{-1\_\$a\$ [x] \& 50\% \textbackslash{}x1b[31m/m\_1" in latex
    assert all(line.isprintable() for content in (markdown, latex, *listed) for line in content.splitlines())


@pytest.mark.parametrize(
    "text", ['a_b & 50 % {x} # $y$ ~ ^ \\ < > | "q" × ± – † ↓ °', "\\input{/etc/passwd}", "%", "\\\\[2cm]"]
)
def test_every_mark_of_latex_and_markdown_is_escaped(text):
    latex = tables.tex(text)
    commands = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|textquotedbl)\{\}"
    rest = re.sub(commands + r"|\\[&%$#_{}]|\$\^?\\(times|pm|dagger|downarrow|circ|geq)\$", "", latex)
    assert not re.search(r"[\\&%$#_{}~^<>|\"]", rest), latex
    assert re.sub(r"\\(.)", r"\1", labels.markdown(text)) == text


def test_names_that_pandas_takes_for_missing_values_are_names(tmp_path, monkeypatch):
    monkeypatch.setattr(make_grid, "REGISTERS", ["NA", "nan", "None", "1.0", "null", "N/A", "NaN", "0"])
    rng = np.random.default_rng(1)
    for training in ("NA", "nan"):
        make_run(tmp_path / "null" / "None" / f"nan-{training}", "nan", training, ["NA", "null"], 60, rng)
    frame, _ = results.read_results([tmp_path / "null"])
    (matrix,) = tables.make_matrices(frame, ["macro_f1"], 1, "en")
    assert (matrix.subfolder, matrix.model, matrix.columns, matrix.rows) == (
        "None",
        "nan",
        ["NA", "null"],
        ["NA", "nan"],
    )
    rows = list(csv.DictReader(io.StringIO(tables.registers_csv(frame))))
    assert [row["register"] for row in rows] == make_grid.REGISTERS * 4
    assert BASELINE in set(matrix.cells["row"])
    wrong = results.read_errors(next(frame.itertuples()))
    assert set(wrong["gold"]) <= set(make_grid.REGISTERS) and wrong["probability"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0.0"), (-0.04, "0.0"), (0.04, "0.0"), (-1.25, "−1.2"), (1.26, "+1.3"), (12, "+12.0")]
)
def test_a_difference_that_is_rounded_to_0_has_no_sign(value, shown):
    assert labels.signed(value, 1, "en") == shown
    assert (
        labels.p_value(0.0, "en") == labels.p_value(0.00009, "en") == "< 0.0001"
        and labels.p_value(0.0001, "fr") == "0,0001"
    )
