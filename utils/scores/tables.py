"""The matrices as tables: CSV in long form; Markdown, LaTeX and text digit for digit as in the figures.

Names come from folders and corpora, and are escaped for each: a folder whose name a spreadsheet would take for a
formula gets an apostrophe before it in CSV (a register of such a name is refused, by utils/corpus_load.py).
"""

import csv
import io
from typing import Any

import numpy as np

from utils import metrics
from utils.scores.labels import METRICS, PHRASES, label, markdown_row, markdown_text, no_formula, number
from utils.scores.panels import Cell, Panel, Row, cell_text, column_head, few_texts, footer_lines, gold_texts, mean_text
from utils.scores.results import EvaluatedRun, compare_runs

FEW_EXCHANGES, N_EXCHANGES = 100, 1_000  # of a comparison in a matrix, which has many: most are clear after few


def long_table(runs: list[EvaluatedRun], eval_langs: list[str], with_intervals: dict, odd: dict) -> str:
    """Return tve.csv: one row per run and language, every metric with its interval's bounds, in [0, 1].

    What there is none of is empty. registers_10: those that macro_f1_10 is averaged over. not_comparable: in what the
    evaluation differs from the others of its column or panel.
    """
    names = [f"{name}{end}" for name in metrics.METRICS for end in ("", "_low", "_high")]
    header = ["base_dir", "subfolder", "model", "train_langs", "eval_lang", "zero_shot", "n", *names]
    header += ["registers_10", "not_comparable", "signature"]
    rows = []
    for run in runs:
        for lang in (lang for lang in eval_langs if lang in run.evaluations):
            evaluation = run.evaluations[lang]
            bounds = with_intervals[run.folder, lang]
            values = [value for name in metrics.METRICS for value in (evaluation.scores[name], *bounds[name])]
            signature = "|".join(f"{key}:{_plain(value)}" for key, value in evaluation.signature.items())
            zero_shot = int(run.is_zero_shot(lang))
            key = [run.base_dir.name, run.subfolder, run.model_name, run.mix, lang, zero_shot, evaluation.n]
            gold = gold_texts(evaluation)
            measured = " ".join(register for register in gold if register not in few_texts(gold))
            rows.append([*key, *map(_defined, values), measured, odd.get((run.folder, lang), ""), signature])
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
            "",
            *(f"- {markdown_text(note)}" for note in notes(panel, lang)),
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def terminal_table(panels: list[Panel], lang: str) -> str:
    """Return the panels as text in columns, for a terminal: scores only; * marks languages trained on."""
    parts, shown = [], {"*"}
    for panel in panels:
        title, header, _ = _text_table(panel, lang)
        names = [row.label for row in panel.rows]
        width = max(len(name) for name in [*names, label(PHRASES, "baseline", lang)])
        lines = [title, " ".join([" " * width, *(f"{column:>6} " for column in panel.columns)])]
        for row in panel.rows:
            cells = [_terminal_cell(row.cells.get(c), c in row.train_langs, lang) for c in panel.columns]
            lines.append(" ".join([f"{row.label:{width}}", *cells]).rstrip())
        baseline = [_terminal_cell(panel.baseline[c], False, lang) for c in panel.columns]
        lines.append(" ".join([f"{label(PHRASES, 'baseline', lang):{width}}", *baseline]).rstrip())
        parts.append("\n".join(lines))
        shown.update(_marks_shown(panel))
    legend = {"*": "trained on", "–": "too few texts", "†": "odd"}
    lines = [label(PHRASES, key, lang).replace("\n", " ") for mark, key in legend.items() if mark in shown]
    return "\n\n".join(parts) + "".join(
        f"\n{line if line.startswith(mark) else f'{mark} {line}'}"
        for mark, line in zip((mark for mark in legend if mark in shown), lines, strict=True)
    )


def _marks_shown(panel: Panel) -> set[str]:
    cells = [*panel.baseline.values(), *(cell for row in panel.rows for cell in row.cells.values())]
    return {"–" for cell in cells if np.isnan(cell.score)} | {"†" for cell in cells if cell.odd}


def _terminal_cell(cell: Cell | None, is_trained_on: bool, lang: str) -> str:
    if cell is None:
        return " " * 7
    score = "–" if np.isnan(cell.score) else number(100 * cell.score, 1, lang)
    return f"{score:>6}{'†' if cell.odd else '*' if is_trained_on else ' '}"


def notes(panel: Panel, lang: str) -> list[str]:
    """Return what has to be told of a panel: its cells, its registers, its mean."""
    found = footer_lines([panel], lang)
    if panel.metric != "micro_f1":
        left_out = panel.metric == "macro_f1_10"
        rare = {
            column: few_texts(gold) if left_out else {r: n for r, n in gold.items() if n < metrics.MIN_TEXTS}
            for column, gold in ((column, panel.gold[column]) for column in panel.columns)
        }
        named = ", ".join(
            f"{column} {' '.join(f'{register} ({n})' for register, n in few.items())}"
            for column, few in rare.items()
            if few
        )
        key = "left out" if left_out else "assumption"
        found += [f"{label(PHRASES, key, lang)}{':' if lang == 'en' else ' :'} {named}"] if named else []
    if panel.zero_shot:
        found.append(f"{label(PHRASES, 'mean of', lang)} {' '.join(panel.zero_shot)}")
    return found


def latex_table(panels: list[Panel], lang: str) -> str:
    """Return tve.tex: a booktabs table per panel; best score of a column in bold, those not told apart underlined."""
    parts = []
    for panel in panels:
        title, header, body = _text_table(panel, lang)
        marks = best_marks(panel)
        best = label(PHRASES, "best", lang)
        lines = [
            r"\begin{table}", r"\centering", rf"\caption{{{_tex(f'{title}. {best}')}}}",
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
        told = [rf"\par\footnotesize {_tex(note)}" for note in notes(panel, lang)]
        lines += [r"\bottomrule", r"\end{tabular}", *told, r"\end{table}"]
        parts.append("\n".join(lines))
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(parts) + "\n"


def best_marks(panel: Panel) -> dict[tuple[int, int], str]:
    """Return (row, column) -> \\textbf for the best score of a column, \\underline for those not told apart from it.

    A row is told apart if p of the paired comparison with the best one, times the number of comparisons in the column
    (Bonferroni), is below 0.05: so the row that is really best is among those marked in at least 95 of 100 columns,
    whichever row looks best. What can't be compared with its column takes no part.
    """
    marks = {}
    for j, column in enumerate(panel.columns):
        cells = {i: row.cells[column] for i, row in enumerate(panel.rows) if column in row.cells}
        rows = [i for i, cell in cells.items() if not cell.odd and not np.isnan(cell.score)]
        if len(rows) < 2:
            continue
        best = max(rows, key=lambda i: cells[i].score)
        marks[best, j] = r"\textbf"
        for i in rows:
            if i != best and not _told_apart(panel.rows[best], panel.rows[i], column, panel.metric, len(rows) - 1):
                marks[i, j] = r"\underline"
    return marks


def _told_apart(best: Row, row: Row, column: str, metric: str, n_comparisons: int) -> bool:
    """Tell whether two rows differ on a language; without predictions, only if their intervals don't touch."""
    one, other = ([run for run in side.runs if column in run.evaluations] for side in (best, row))
    compared = compare_runs(one, other, column, metric, n_exchanges=FEW_EXCHANGES)
    if compared is not None and compared["p"] <= 0.1:
        compared = compare_runs(one, other, column, metric, n_exchanges=N_EXCHANGES)
    if compared is None:
        return row.cells[column].high < best.cells[column].low
    return compared["p"] * n_comparisons < 0.05


def _text_table(panel: Panel, lang: str) -> tuple[str, list[str], list[list[str]]]:
    """Return title, header and body of a panel as text, cells as in the figure."""
    where = f"{panel.subfolder}/" if panel.subfolder else ""
    title = f"{where}{panel.model_name}, {label(METRICS, panel.metric, lang)}, × 100"
    header = [label(PHRASES, "training", lang)]
    heads = [column_head(panel, column, lang) for column in panel.columns]
    header += [f"{column} ({', '.join(rest)})" for column, *rest in heads]
    if panel.zero_shot:
        header.append(label(PHRASES, "zero-shot mean", lang).replace("\n", " "))
    body = []
    for row in panel.rows:
        line = [row.label, *(_cell_line(row.cells.get(column), lang, panel.n_seeds) for column in panel.columns)]
        if panel.zero_shot:
            mean = panel.means.get(row.label)
            line.append("" if mean is None else _joined(mean_text(mean, lang), lang))
        body.append(line)
    last = [label(PHRASES, "baseline", lang), *(_cell_line(panel.baseline[c], lang, 1) for c in panel.columns)]
    return title, header, [*body, last + [""] * bool(panel.zero_shot)]


def _cell_line(cell: Cell | None, lang: str, n_seeds: int) -> str:
    if cell is None:
        return ""
    return _joined(cell_text(cell, lang, n_seeds), lang)


def _joined(lines: tuple[str, ...], lang: str) -> str:
    first, *rest = (line.replace("\n", " ") for line in lines)
    return f"{first} ({('; ' if lang == 'en' else ' ; ').join(rest)})" if rest else first


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


def _defined(value: float | None) -> float | str:
    return "" if value is None or np.isnan(value) else float(value)


def _csv(rows: list[list]) -> str:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(
        [no_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    return table.getvalue()
