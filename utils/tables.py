"""The matrices as tables: CSV in long form; Markdown, LaTeX and text digit for digit as in the figures.

Names come from folders and corpora, and are escaped for each: a folder whose name a spreadsheet would take for a
formula gets an apostrophe before it in CSV (a register of such a name is refused, by utils/corpus_load.py).
"""

import csv
import io
from typing import Any

import numpy as np

from utils import metrics
from utils.labels import METRICS, PHRASES, label, markdown_row, markdown_text, no_formula, number
from utils.results import EvaluatedRun, compare_runs
from utils.tve import Cell, Panel, cell_text, zero_shot_mean


def long_table(runs: list[EvaluatedRun], eval_langs: list[str], with_intervals: dict) -> str:
    """Return tve.csv: one row per run and language, every metric with its interval's bounds, in [0, 1]."""
    names = [f"{name}{end}" for name in metrics.METRICS for end in ("", "_low", "_high")]
    header = ["base_dir", "subfolder", "model", "train_langs", "eval_lang", "zero_shot", "n", *names, "signature"]
    rows = []
    for run in runs:
        for lang in (lang for lang in eval_langs if lang in run.evaluations):
            evaluation = run.evaluations[lang]
            bounds = with_intervals[run.folder, lang]
            values = [value for name in metrics.METRICS for value in (evaluation.scores[name], *bounds[name])]
            signature = "|".join(f"{key}:{_plain(value)}" for key, value in evaluation.signature.items())
            zero_shot = int(run.is_zero_shot(lang))
            key = [run.base_dir.name, run.subfolder, run.model_name, run.mix, lang, zero_shot, evaluation.n]
            rows.append([*key, *values, signature])
    return _csv([header, *rows])


def register_table(runs: list[EvaluatedRun], eval_langs: list[str]) -> str:
    """Return per_register.csv: one row per run, language and register; a score that is not defined is empty."""
    header = [
        "base_dir",
        "subfolder",
        "model",
        "train_langs",
        "eval_lang",
        "register",
        "precision",
        "recall",
        "f1",
        "support",
    ]
    rows = []
    for run in runs:
        for lang in (lang for lang in eval_langs if lang in run.evaluations):
            evaluation = run.evaluations[lang]
            scores = metrics.register_scores(evaluation.confusion)
            for index, register in enumerate(evaluation.registers):
                values = [_defined(scores[name][index]) for name in ("precision", "recall", "f1")]
                key = [run.base_dir.name, run.subfolder, run.model_name, run.mix, lang, register]
                rows.append([*key, *values, int(scores["support"][index])])
    return _csv([header, *rows])


def markdown_table(panels: list[Panel], lang: str) -> str:
    """Return tve.md: a table per panel, cells as in the figure."""
    parts = []
    for panel in panels:
        title, header, body = _text_table(panel, lang)
        lines = [
            f"### {markdown_text(title)}",
            "",
            markdown_row(header),
            markdown_row(["---"] * len(header)),
            *(markdown_row(line) for line in body),
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def terminal_table(panels: list[Panel], lang: str) -> str:
    """Return the panels as text in columns, for a terminal: scores only; * marks languages trained on."""
    parts = []
    for panel in panels:
        title, header, _ = _text_table(panel, lang)
        names = [row.label for row in panel.rows]
        width = max(len(name) for name in [*names, label(PHRASES, "baseline", lang)])
        lines = [title, " ".join([" " * width, *(f"{column:>6} " for column in panel.columns)])]
        for row in panel.rows:
            cells = [
                f"{number(100 * row.cells[c].score, 1, lang):>6}{'*' if c in row.train_langs else ' '}"
                if c in row.cells
                else " " * 7
                for c in panel.columns
            ]
            lines.append(" ".join([f"{row.label:{width}}", *cells]).rstrip())
        baseline = [f"{number(100 * panel.baseline[c].score, 1, lang):>6} " for c in panel.columns]
        lines.append(" ".join([f"{label(PHRASES, 'baseline', lang):{width}}", *baseline]).rstrip())
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + f"\n* {label(PHRASES, 'trained on', lang)}"


def latex_table(panels: list[Panel], lang: str) -> str:
    """Return tve.tex: a booktabs table per panel; best score of a column in bold, those not told apart underlined.

    Told apart by a paired bootstrap on the texts (p < 0.05) where both were predicted on the same test file.
    """
    parts = []
    for panel in panels:
        title, header, body = _text_table(panel, lang)
        marks = best_marks(panel)
        lines = [
            r"\begin{table}", r"\centering", rf"\caption{{{_tex(title)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule",
            " & ".join(_tex(text) for text in header) + r" \\", r"\midrule",
        ]  # fmt: skip
        for i, line in enumerate(body):
            cells = [_tex(line[0])]
            for j, text in enumerate(line[1:]):
                mark = marks.get((i, j))
                score, _, rest = text.partition(" ")
                cells.append(f"{mark}{{{_tex(score)}}} {_tex(rest)}".strip() if mark else _tex(text))
            lines.append(" & ".join(cells) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(parts) + "\n"


def best_marks(panel: Panel) -> dict[tuple[int, int], str]:
    """Return (row, column) -> \\textbf for the best score of a column, \\underline for those not told apart from it."""
    marks = {}
    for j, column in enumerate(panel.columns):
        rows = [i for i, row in enumerate(panel.rows) if column in row.cells]
        if len(rows) < 2:
            continue
        best = max(rows, key=lambda i: panel.rows[i].cells[column].score)
        marks[best, j] = r"\textbf"
        if panel.n_seeds > 1:
            continue
        near = [i for i in rows if not panel.rows[i].cells[column].high < panel.rows[best].cells[column].low]
        for i in set(near) - {best}:  # the others are told apart: their intervals don't even touch
            compared = compare_runs(panel.rows[best].runs[0], panel.rows[i].runs[0], column, panel.metric)
            if compared and compared["p"] >= 0.05:
                marks[i, j] = r"\underline"
    return marks


def _text_table(panel: Panel, lang: str) -> tuple[str, list[str], list[list[str]]]:
    """Return title, header and body of a panel as text, cells as in the figure."""
    where = f"{panel.subfolder}/" if panel.subfolder else ""
    title = f"{where}{panel.model_name}, {label(METRICS, panel.metric, lang)}, × 100"
    header = [label(PHRASES, "training", lang)]
    header += [f"{column} ({'/'.join(map(str, panel.n_texts[column]))})" for column in panel.columns]
    if panel.zero_shot:
        header.append(label(PHRASES, "zero-shot mean", lang).replace("\n", " "))
    body = []
    for row in panel.rows:
        line = [row.label, *(_cell_line(row.cells.get(column), lang, panel.n_seeds) for column in panel.columns)]
        mean = zero_shot_mean(row, panel)
        if panel.zero_shot:
            line.append("" if mean is None else number(100 * mean, 1, lang))
        body.append(line)
    last = [label(PHRASES, "baseline", lang), *(_cell_line(panel.baseline[c], lang, 1) for c in panel.columns)]
    return title, header, [*body, last + [""] * bool(panel.zero_shot)]


def _cell_line(cell: Cell | None, lang: str, n_seeds: int) -> str:
    if cell is None:
        return ""
    first, second = cell_text(cell, lang, n_seeds)
    return f"{first} ({second})" if second else first


def _tex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "×": r"$\times$",
        "±": r"$\pm$",
    }
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text).replace("–", "--")


def _plain(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def _defined(value: float) -> float | str:
    return "" if np.isnan(value) else float(value)


def _csv(rows: list[list]) -> str:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(
        [no_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    return table.getvalue()
