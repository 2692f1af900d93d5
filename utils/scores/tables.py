"""The matrices as tables: CSV in long form; Markdown, LaTeX and text digit for digit as in the figures.

Names come from folders and corpora, and are escaped for each: a folder whose name a spreadsheet would take for a
formula gets an apostrophe before it in CSV (a register of such a name is refused, by utils/corpus_load.py).
"""

import operator

import numpy as np
import pandas as pd

from utils import metrics
from utils.scores import results
from utils.scores.labels import PHRASES, label, markdown_row, markdown_text, no_formula, number
from utils.scores.panels import Cell, Panel, Row, cell_text, column_head, few_texts, footer_lines, gold_texts

FEW_EXCHANGES, N_EXCHANGES = 100, 1_000  # of a comparison in a matrix, which has many: most are clear after few


def long_table(scores: pd.DataFrame) -> str:
    """Return tve.csv: one row per run and language, every metric with its interval's bounds, in [0, 1].

    What there is none of is empty. registers_10: those that macro_f1_10 is averaged over. not_comparable: in what the
    evaluation differs from the others of its column or panel.
    """
    found = results.evaluations_of(scores)
    table = found[[*results.NAMES, "zero_shot", "n"]].copy()
    for name, of_metric in scores.groupby("metric", sort=False):
        table[[name, f"{name}_low", f"{name}_high"]] = of_metric[["score", "low", "high"]]
    gold = found["evaluation"].map(gold_texts)
    table["registers_10"] = gold.map(lambda texts: " ".join(r for r in texts if r not in few_texts(texts)))
    table["not_comparable"] = found["not_comparable"]
    table["signature"] = found["evaluation"].map(_signature)
    return _csv(table)


def register_table(scores: pd.DataFrame) -> str:
    """Return per_register.csv: one row per run, language and register; a score that is not defined is empty."""
    found = results.evaluations_of(scores)
    table = found[results.NAMES].assign(register=found["evaluation"].map(operator.attrgetter("registers")))
    of_registers = found["evaluation"].map(lambda evaluation: metrics.register_scores(evaluation.confusion))
    for name in ("precision", "recall", "f1", "support"):
        table[name] = of_registers.map(operator.itemgetter(name))
    exploded = table.explode(["register", "precision", "recall", "f1", "support"])
    return _csv(exploded.astype({"precision": float, "recall": float, "f1": float, "support": int}))


def markdown_table(panels: list[Panel], lang: str) -> str:
    """Return tve.md: a table per panel, cells as in the figure."""
    parts = []
    for panel in panels:
        table = _text_table(panel, lang)
        rows = [list(table), ["---"] * len(table.columns), *table.to_numpy().tolist()]
        told = [f"- {markdown_text(note)}" for note in notes(panel, lang)]
        parts.append("\n".join([f"### {markdown_text(_title(panel, lang))}", "", *map(markdown_row, rows), "", *told]))
    return "\n\n".join(parts) + "\n"


def terminal_table(panels: list[Panel], lang: str) -> str:
    """Return the panels as text in columns, for a terminal: scores only; * marks languages trained on."""
    parts, marks = [], "*"
    for panel in panels:
        baseline = Row(label(PHRASES, "baseline", lang), (), [], panel.baseline)
        width = max(len(row.label) for row in [*panel.rows, baseline])
        lines = [_title(panel, lang), " ".join([" " * width, *(f"{column:>6} " for column in panel.columns)])]
        for row in [*panel.rows, baseline]:
            cells = [_terminal_cell(row.cells.get(c), c in row.train_langs, lang) for c in panel.columns]
            marks += "".join(cells)
            lines.append(" ".join([f"{row.label:{width}}", *cells]).rstrip())
        parts.append("\n".join(lines))
    legend = [f"* {label(PHRASES, 'trained on', lang)}"]
    if "–" in marks:
        legend.append("– " + label(PHRASES, "too few texts", lang).replace("\n", " "))
    if "†" in marks:
        legend.append(label(PHRASES, "odd", lang))
    return "\n\n".join(parts) + "\n" + "\n".join(legend)


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
    parts = ["% needs \\usepackage{booktabs}\n"]
    for panel in panels:
        table = _text_table(panel, lang)
        cells = table.map(_tex)
        for (i, j), mark in best_marks(panel).items():
            score, _, rest = table.iat[i, j + 1].partition(" ")
            cells.iat[i, j + 1] = f"{mark}{{{_tex(score)}}} {_tex(rest)}".strip()
        text = cells.set_axis(map(_tex, table), axis=1).style.hide(axis="index").to_latex(
            hrules=True, position_float="centering", column_format="l" + "r" * (len(table.columns) - 1),
            caption=_tex(f"{_title(panel, lang)}. {label(PHRASES, 'best', lang)}"),
        )  # fmt: skip
        told = "".join(rf"\par\footnotesize {_tex(note)}" + "\n" for note in notes(panel, lang))
        parts.append(text.replace("\\end{table}", told + "\\end{table}"))
    return "\n".join(parts)


def best_marks(panel: Panel) -> dict[tuple[int, int], str]:
    """Return (row, column) -> \\textbf for the best score of a column, \\underline for those not told apart from it.

    A row is told apart if p of the paired comparison with the best one, times the number of comparisons in the column
    (Bonferroni), is below 0.05: so the row that is really best is among those marked in at least 95 of 100 columns,
    whichever row looks best. What can't be compared with its column takes no part.
    """
    marks = {}
    for j, column in enumerate(panel.columns):
        rows, best = comparable_rows(panel, column), best_row(panel, column)
        if best is None or len(rows) < 2:
            continue
        marks[best, j] = r"\textbf"
        for i in rows:
            if i != best and not _told_apart(panel, best, i, column, len(rows) - 1):
                marks[i, j] = r"\underline"
    return marks


def comparable_rows(panel: Panel, column: str) -> list[int]:
    """Return the rows that have a score in a column, and can be compared with the others."""
    cells = {i: row.cells[column] for i, row in enumerate(panel.rows) if column in row.cells}
    return [i for i, cell in cells.items() if not cell.odd and not np.isnan(cell.score)]


def best_row(panel: Panel, column: str) -> int | None:
    """Return the row with the best score of a column, of several the first; None: there is no score."""
    return max(comparable_rows(panel, column), key=lambda i: panel.rows[i].cells[column].score, default=None)


def compare_rows(panel: Panel, i: int, j: int, column: str) -> dict[str, float] | None:
    """Compare two rows on a language, by results.compare_runs; with more exchanges where few leave it open."""
    one, other = ([run for run in panel.rows[k].runs if column in run.evaluations] for k in (i, j))
    compared = results.compare_runs(one, other, column, panel.metric, n_exchanges=FEW_EXCHANGES)
    if compared is not None and compared["p"] <= 0.1:
        compared = results.compare_runs(one, other, column, panel.metric, n_exchanges=N_EXCHANGES)
    return compared


def _told_apart(panel: Panel, best: int, i: int, column: str, n_comparisons: int) -> bool:
    """Tell whether two rows differ on a language; without predictions, only if their intervals don't touch."""
    compared = compare_rows(panel, best, i, column)
    if compared is None:
        return panel.rows[i].cells[column].high < panel.rows[best].cells[column].low
    return compared["p"] * n_comparisons < 0.05


def _title(panel: Panel, lang: str) -> str:
    return f"{panel.title(lang)}, × 100"


def _text_table(panel: Panel, lang: str) -> pd.DataFrame:
    """Return a panel as text, cells as in the figure."""
    table = {label(PHRASES, "training", lang): [*(row.label for row in panel.rows), label(PHRASES, "baseline", lang)]}
    for column, *rest in (column_head(panel, column, lang) for column in panel.columns):
        cells = [cell_line(row.cells.get(column), lang, panel.n_seeds) for row in panel.rows]
        table[f"{column} ({', '.join(rest)})"] = [*cells, cell_line(panel.baseline[column], lang, 1)]
    if panel.zero_shot:
        means = [cell_line(panel.means.get(row.label), lang, 1) for row in panel.rows]
        table[label(PHRASES, "zero-shot mean", lang).replace("\n", " ")] = [*means, ""]
    return pd.DataFrame(table)


def cell_line(cell: Cell | None, lang: str, n_seeds: int) -> str:
    """Return a cell in one line, as `74.4 ±1.2 (3 seeds; 70.1–78.0)`."""
    if cell is None:
        return ""
    first, *rest = (line.replace("\n", " ") for line in cell_text(cell, lang, n_seeds))
    return f"{first} ({('; ' if lang == 'en' else ' ; ').join(rest)})" if rest else first


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


def _signature(evaluation: results.Evaluation) -> str:
    return "|".join(
        f"{key}:{'-'.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in evaluation.signature.items()
    )


def _csv(table: pd.DataFrame) -> str:
    safe = table.map(lambda cell: no_formula(cell) if isinstance(cell, str) else cell)
    return safe.to_csv(index=False, lineterminator="\n")
