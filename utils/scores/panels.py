"""Matrices of training languages x evaluation languages (TVE): their cells.

One panel per subfolder, model and metric. Rows are training mixes (single languages, then mixes, then distr) and a
baseline that always answers the test set's largest register; columns are evaluation languages, and
last, where it can be had, the mean over the languages that every row but distr has and none of them was
trained on. A cell holds a score and its 95 % interval, for other texts; with several base dirs, which repeat the same
grid with other seeds, the mean over them, its standard deviation, the number of seeds, and the interval for other texts
and other trainings. What was not evaluated is blank; what has too few texts says so; what can't be compared with the
rest of its column or panel (utils/scores/comparable.py) has a † and is in no mean.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from utils import metrics
from utils.corpus_load import DISTR
from utils.scores import intervals
from utils.scores.labels import METRICS, PHRASES, label, number
from utils.scores.results import EvaluatedRun, Evaluation, correlation_of_trainings, majority_baseline

if TYPE_CHECKING:
    import pandas as pd

NONE = float("nan")


class Cell(NamedTuple):
    """A score in [0, 1], or the mean over seeds; nan: too few texts. low, high: its 95 % interval; nan: it has none.

    sd: over seeds, nan of one. odd: it can't be compared with the others of its column or panel.
    """

    score: float
    low: float = NONE
    high: float = NONE
    sd: float = NONE
    n_seeds: int = 1
    odd: bool = False


class Row(NamedTuple):
    """One training mix of one model: its runs, one per base dir that has it, and its cells by language."""

    label: str
    train_langs: tuple[str, ...]
    runs: list[EvaluatedRun]
    cells: dict[str, Cell]


class Panel(NamedTuple):
    """One model and metric. zero_shot: the languages of the mean column; none: there is no such column.

    means: the mean column, by the rows' labels. gold: language -> register -> gold texts, of those that have any.
    """

    subfolder: str
    model_name: str
    metric: str
    rows: list[Row]
    baseline: dict[str, Cell]
    columns: list[str]
    n_texts: dict[str, list[int]]
    zero_shot: list[str]
    means: dict[str, Cell]
    gold: dict[str, dict[str, int]]
    n_seeds: int

    @property
    def name(self) -> str:
        """SUBFOLDER/MODEL, or MODEL."""
        return f"{self.subfolder}/{self.model_name}" if self.subfolder else self.model_name

    def title(self, lang: str) -> str:
        return f"{self.name}, {label(METRICS, self.metric, lang)}"


def make_panels(scores: "pd.DataFrame", metric_names: list[str], n_seeds: int) -> list[Panel]:
    """Return the panels, by subfolder and model, then metric. scores: of results.all_scores."""
    panels = []
    for (subfolder, model_name), of_model in scores.groupby(["subfolder", "model"], sort=False):
        by_column = {lang: found["evaluation"] for lang, found in of_model.groupby("eval_lang")}
        comparable = of_model[of_model["not_comparable"] == ""].groupby("eval_lang")["evaluation"].first()
        usual = {lang: comparable.get(lang, found.iloc[0]) for lang, found in by_column.items()}
        n_texts = {lang: sorted({evaluation.n for evaluation in found}) for lang, found in by_column.items()}
        gold = {lang: gold_texts(evaluation) for lang, evaluation in usual.items()}
        for metric in metric_names:
            found: dict[tuple[str, ...], dict[str, list]] = {}
            for score in of_model[of_model["metric"] == metric].itertuples():
                found.setdefault(score.run.train_langs, {}).setdefault(score.eval_lang, []).append(score)
            rows = [make_row(mix, of_mix, metric) for mix, of_mix in found.items()]
            baseline = {lang: baseline_cell(evaluation, metric) for lang, evaluation in usual.items()}
            zero_shot = zero_shot_languages(rows, list(usual))
            means = {row.label: cell for row in rows if (cell := zero_shot_mean(row, zero_shot, metric))}
            shared = (baseline, list(usual), n_texts, zero_shot, means, gold, n_seeds)
            panels.append(Panel(subfolder, model_name, metric, rows, *shared))
    return panels


def gold_texts(evaluation: Evaluation) -> dict[str, int]:
    counts = evaluation.confusion.sum(axis=1).tolist()
    return {register: n for register, n in zip(evaluation.registers, counts, strict=True) if n}


def make_row(train_langs: tuple[str, ...], found: dict[str, list], metric: str) -> Row:
    """Return the row of one training mix. found: language -> rows of the scores, one per base dir that has it."""
    same = {score.run.folder: score.run for of_lang in found.values() for score in of_lang}
    cells = {lang: make_cell(of_lang, metric) for lang, of_lang in found.items()}
    return Row("-".join(train_langs), train_langs, list(same.values()), cells)


def make_cell(same: list, metric: str) -> Cell:
    """Return the cell of one training mix and language, over its seeds."""
    first, is_odd = same[0], any(score.not_comparable for score in same)
    if len(same) == 1:
        return Cell(first.score, first.low, first.high, NONE, 1, is_odd)
    scores = np.array([found.score for found in same])
    low, high = (NONE, NONE) if is_odd else interval_of_mean([[s.run for s in same]], [first.eval_lang], metric)
    return Cell(float(scores.mean()), low, high, float(scores.std(ddof=1)), len(same), is_odd)


def interval_of_mean(runs_of: list[list[EvaluatedRun]], eval_langs: list[str], metric: str) -> tuple[float, float]:
    """Return the 95 % interval of a mean over languages and trainings; runs_of: per language the same trainings."""
    spreads, correlations = [], []
    for same, lang in zip(runs_of, eval_langs, strict=True):
        counts = np.array([run.evaluations[lang].confusion for run in same])
        spreads.append(intervals.spread(counts, metric))
        correlations.append(correlation_of_trainings(same, lang, metric) if len(same) > 1 else 1.0)
    if any(np.isnan(found.score).any() for found in spreads):
        return NONE, NONE
    return intervals.interval_of_mean(spreads, correlations)


def baseline_cell(evaluation: Evaluation, metric: str) -> Cell:
    score = metrics.METRICS[metric](majority_baseline(evaluation.confusion))
    return Cell(NONE if score is None else score)


def zero_shot_languages(rows: list[Row], columns: list[str]) -> list[str]:
    """Return the languages of the mean: every row but distr has a score, and none of these rows was trained on them.

    A row that can't be compared on most of its languages has no mean, and takes no language from the others.
    """
    known = [row for row in rows if DISTR not in row.train_langs and not _mostly_odd(row)]
    trained = {lang for row in known for lang in row.train_langs}
    return [
        lang
        for lang in columns
        if known and lang not in trained and all(lang in row.cells and _counts(row.cells[lang]) for row in known)
    ]


def _mostly_odd(row: Row) -> bool:
    return sum(cell.odd for cell in row.cells.values()) > len(row.cells) / 2


def _counts(cell: Cell) -> bool:
    return not cell.odd and not np.isnan(cell.score)


def zero_shot_mean(row: Row, eval_langs: list[str], metric: str) -> Cell | None:
    """Return the row's mean over these languages; None if there are none, for distr, or if one can't be compared."""
    if not eval_langs or DISTR in row.train_langs:
        return None
    if not all(lang in row.cells and _counts(row.cells[lang]) for lang in eval_langs):
        return None
    everywhere = [run for run in row.runs if all(lang in run.evaluations for lang in eval_langs)]
    low, high = NONE, NONE
    if everywhere:
        low, high = interval_of_mean([everywhere] * len(eval_langs), eval_langs, metric)
    return Cell(float(np.mean([row.cells[lang].score for lang in eval_langs])), low, high)


def cell_text(cell: Cell, lang: str, n_seeds: int) -> tuple[str, ...]:
    """Return the lines of a cell: the score x 100; what is known over the seeds, if there are several; the interval."""
    mark = " †" if cell.odd else ""
    if np.isnan(cell.score):
        return (label(PHRASES, "too few texts", lang) + mark,)
    lines = [number(100 * cell.score, 1, lang) + mark]
    if n_seeds > 1:
        lines[0] += "" if np.isnan(cell.sd) else f" ±{number(100 * cell.sd, 1, lang)}"
        of = "" if cell.n_seeds == n_seeds else f" {label(PHRASES, 'of', lang)} {n_seeds}"
        lines.append(f"{cell.n_seeds}{of} {label(PHRASES, 'seeds', lang)}")
    if not np.isnan(cell.low):
        lines.append(f"{number(100 * cell.low, 1, lang)}–{number(100 * cell.high, 1, lang)}")
    return tuple(lines)


def mean_text(cell: Cell, lang: str) -> tuple[str, ...]:
    return cell_text(cell, lang, 1)


def column_head(panel: Panel, column: str, lang: str) -> list[str]:
    """Return the lines above or below a column: language, number of texts, and how many registers are averaged."""
    lines = [column, "/".join(map(str, panel.n_texts[column]))]
    if panel.metric != "micro_f1":
        gold = panel.gold[column]
        n_averaged = len(gold) if panel.metric != "macro_f1_10" else len(gold) - len(few_texts(gold))
        lines.append(f"{n_averaged}/{len(gold)} {label(PHRASES, 'reg.', lang)}")
    return lines


def few_texts(gold: dict[str, int]) -> dict[str, int]:
    """Return the registers that macro_f1_10 leaves out, with their gold texts."""
    measured = metrics.measurable(np.array(list(gold.values()), dtype=int))
    return {register: n for (register, n), chosen in zip(gold.items(), measured, strict=True) if not chosen}


def footer_lines(panels: list[Panel], lang: str) -> list[str]:
    """Return what stands below all panels: what a cell shows, what its interval holds, what is left out."""
    keys = ["cells seeds" if panels[0].n_seeds > 1 else "cells"]
    if any(panel.metric != "micro_f1" for panel in panels):
        keys.append("registers")
    if any(cell.odd for panel in panels for row in panel.rows for cell in row.cells.values()):
        keys.append("odd")
    return [line for key in keys for line in label(PHRASES, key, lang).split("\n")]
