"""Matrices of training languages x evaluation languages (TVE), and how text, CSV, Markdown and LaTeX show them.

A matrix is one subfolder, model and metric. Its rows are the training languages (single ones, then several, then the
distr) and a baseline that always predicts the most frequent register; its columns are evaluation languages and, if
there is one, the mean over the languages that every row has and none was trained on. All cells are rows of one
DataFrame, and every figure, table and page takes its texts from it:

    row, column, kind      "cell", "baseline" or "mean"; row and column are labels
    score, low, high, sd   in [0, 1], over the seeds if there are several; nan: not defined
    n                      number of seeds behind the score; expected: the number behind the others
    mark                   † not comparable, ↓ no better than the baseline, ° never predicts one of the registers
    best                   "best" in its column, or "tied": not distinguishable from the best
    own                    whether the model was trained on this language
    text                   the lines displayed
    rows                   the evaluations behind it, a list of tuples: the comparable ones if there are any
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from utils import metrics, results, uncertainty
from utils.corpus_load import DISTR
from utils.labels import METRICS, label, markdown, markdown_rows, no_formula, number, test_of, word

MARKS = "†↓°"
MEAN, BASELINE = "(mean)", "(baseline)"  # no language is called so


class Matrix(NamedTuple):
    """heads: column -> lines above it. gold: column -> register -> gold texts. zero_shot: languages of the mean."""

    name: str  # SUBFOLDER/MODEL, or MODEL
    model: str
    subfolder: str
    metric: str
    n_seeds: int
    rows: list[str]
    columns: list[str]
    heads: dict[str, list[str]]
    gold: dict[str, dict[str, int]]
    zero_shot: list[str]
    cells: pd.DataFrame

    def title(self, lang: str) -> str:
        seeds = f" ({word('seeds', lang, n=self.n_seeds)})" if self.n_seeds > 1 else ""
        return f"{self.name}, {label(METRICS, self.metric, lang)}{seeds}"


def make_matrices(frame: pd.DataFrame, metric_names: Sequence[str], n_seeds: int, lang: str) -> list[Matrix]:
    """Return the matrices, by subfolder and model, then metric; lang: the language of their texts, en or fr."""
    found = []
    for (subfolder, model), of_model in frame.groupby(["subfolder", "model"], sort=False):
        rows, columns = list(dict.fromkeys(of_model["training"])), sorted(set(of_model["eval_lang"]))
        for metric in metric_names:
            # a cell per training and evaluation language, over its seeds
            of_cells: dict[tuple[str, str], list[Any]] = {}
            for one in of_model[of_model["metric"] == metric].itertuples():
                of_cells.setdefault((one.training, one.eval_lang), []).append(one)
            cells = [
                {"row": row, "column": column, "kind": "cell", **_cell(evaluations, metric)}
                for (row, column), evaluations in of_cells.items()
            ]
            _mark_bests(cells, metric)

            # the mean is over the languages on which every row except distr has a score, and none was trained; a row
            # that is not comparable on most of its languages has no mean, and does not limit that of the others
            pure = [[c for c in cells if c["row"] == row and DISTR not in c["rows"][0].train_langs] for row in rows]
            pure = [of_row for of_row in pure if of_row]
            common = [
                {cell["column"] for cell in of_row if cell["is_comparable"] and cell["rows"][0].zero_shot}
                for of_row in pure
                if 2 * sum(cell["is_comparable"] for cell in of_row) >= len(of_row)
            ]
            zero_shot = [column for column in columns if common and all(column in langs for langs in common)]
            for row in (of_row[0]["row"] for of_row in pure if zero_shot):
                of_row = [one for (training, _), of_cell in of_cells.items() if training == row for one in of_cell]
                if mean := _mean(of_row, zero_shot, metric):
                    cells.append({"row": row, "column": MEAN, "kind": "mean", **mean})

            # the baseline, and what is written above each column
            heads, gold = {}, {}
            for column in columns:
                of_column = [one for (_, lang_), of_cell in of_cells.items() if lang_ == column for one in of_cell]
                usual = comparable(of_column)[0]  # represents the texts of the column
                score = metrics.all_metrics(majority_baseline(usual.counts))[metric]
                cells.append(
                    {"row": BASELINE, "column": column, "kind": "baseline", "score": np.nan if score is None else score}
                )
                n_texts = zip(usual.registers, usual.counts.sum(axis=1).tolist(), strict=True)
                gold[column] = {register: n for register, n in n_texts if n}
                heads[column] = [column, "/".join(map(str, sorted({one.n for one in of_column})))]
                if metric != "micro_f1":
                    n_averaged = len(gold[column]) - (metric == "macro_f1_10") * len(few_texts(gold[column]))
                    heads[column].append(f"{n_averaged}/{len(gold[column])} {word('reg.', lang)}")
            empty = {"low": np.nan, "high": np.nan, "sd": np.nan, "n": n_seeds, "mark": "", "best": "", "own": False}
            cells = [empty | {"expected": n_seeds, "rows": None} | cell for cell in cells]
            table = pd.DataFrame(cells).assign(text=[_lines(cell, lang) for cell in cells])
            name = f"{subfolder}/{model}" if subfolder else model
            found.append(Matrix(name, model, subfolder, metric, n_seeds, rows, columns, heads, gold, zero_shot, table))
    return found


def majority_baseline(counts: np.ndarray) -> np.ndarray:
    """Return the counts of a classifier that always predicts the most frequent gold register of the test set."""
    baseline, gold = np.zeros_like(counts), counts.sum(axis=1)
    baseline[:, gold.argmax()] = gold
    return baseline


def comparable(rows: Sequence[Any]) -> list[Any]:
    """Return the evaluations that are comparable with most of their matrix, or all if none is."""
    return [row for row in rows if not row.not_comparable] or list(rows)


def _cell(rows: list[Any], metric: str) -> dict:
    """Return the cell of one training and language, over its seeds."""
    used = comparable(rows)
    first, is_comparable = used[0], not used[0].not_comparable
    scores, counts = np.array([row.score for row in used]), np.array([row.counts for row in used])
    low, high = first.low, first.high
    if len(used) > 1:
        low, high = results.interval_of_mean([used], metric) if is_comparable else (np.nan, np.nan)
    # marks: not comparable, no better than the baseline, a register in the mean that is never predicted
    accuracy = np.mean([metrics.micro_f1(one) for one in counts])
    never = metrics.measurable(counts.sum(axis=2)) & (counts.sum(axis=1) == 0)
    marks = [
        "†" if len(used) < len(rows) or not is_comparable else "",
        "↓" if accuracy <= metrics.micro_f1(majority_baseline(counts.sum(axis=0))) else "",
        "°" if never.any() and metric != "micro_f1" else "",
    ]
    return {
        "score": float(scores.mean()),
        "low": low,
        "high": high,
        "sd": float(scores.std(ddof=1)) if len(used) > 1 else np.nan,
        "n": len(used),
        "mark": "".join(marks),
        "own": first.own,
        "is_comparable": is_comparable and not np.isnan(scores.mean()),
        "rows": used,
    }


def _mean(rows: list[Any], zero_shot: list[str], metric: str) -> dict | None:
    """Return the mean of a row over the languages, and its interval, from the n seeds that have all; None if none."""
    # only seeds with all languages: another mean would be over other texts
    of_seeds: dict[Path, list[Any]] = {}
    for row in sorted(rows, key=lambda row: row.Index):
        if row.eval_lang in zero_shot and not row.not_comparable and not np.isnan(row.score):
            of_seeds.setdefault(row.folder, []).append(row)
    complete = [of_seed for of_seed in of_seeds.values() if len(of_seed) == len(zero_shot)]
    if not complete:
        return None
    scores = pd.DataFrame([(row.folder, row.score) for of_seed in complete for row in of_seed])
    scores = scores.groupby(0, sort=False)[1].mean()
    low, high = results.interval_of_mean(list(zip(*complete, strict=True)), metric)
    return {"score": scores.mean(), "low": low, "high": high, "sd": scores.std(), "n": len(scores)}


def _mark_bests(cells: list[dict], metric: str) -> None:
    """Mark the best cell of each column as "best", and those not distinguishable from it as "tied"."""
    of_columns: dict[str, list[dict]] = {}
    for cell in cells:
        if cell["is_comparable"]:
            of_columns.setdefault(cell["column"], []).append(cell)
    for column in of_columns.values():
        best = max(column, key=lambda cell: cell["score"])
        for cell in column:
            compared = None if cell is best else results.compare(best["rows"], cell["rows"], metric)
            if len(column) > 1 and (cell is best or not differ(compared, best, cell, len(column) - 1)):
                cell["best"] = "best" if cell is best else "tied"


def differ(compared: dict[str, float] | None, a: Any, b: Any, n_comparisons: int) -> bool:
    """Tell whether two cells of a column differ by more than chance; n_comparisons: rows of the column, less one.

    compared: from results.compare. p times n_comparisons must be below 0.05 (Bonferroni), so that the best row is among
    those marked in at least 95 of 100 columns. Without predictions, the intervals must not overlap.
    """
    if compared is None:
        return bool(b["high"] < a["low"] or a["high"] < b["low"])
    return bool(compared["p"] * n_comparisons < 0.05)


# ---- texts ----


def _lines(cell: dict, lang: str) -> tuple[str, ...]:
    """Return the lines of a cell: score x 100 ± standard deviation, interval, and seeds if some are missing."""
    mark = f" {cell['mark']}" if cell["mark"] else ""
    if np.isnan(cell["score"]):
        return (word("too few texts", lang) + mark,)
    # the score comes first, then what says how certain it is
    sd = "" if np.isnan(cell["sd"]) else f" ±{number(100 * cell['sd'], 1, lang)}"
    lines = [number(100 * cell["score"], 1, lang) + sd + mark]
    if not np.isnan(cell["low"]):
        lines.append(f"{number(100 * cell['low'], 1, lang)}–{number(100 * cell['high'], 1, lang)}")
    if cell["n"] < cell["expected"]:
        lines.append(word("of seeds", lang, k=cell["n"], n=cell["expected"]))
    return tuple(lines)


def few_texts(gold: dict[str, int]) -> dict[str, int]:
    """Return the registers that macro_f1_10 leaves out, with their gold texts."""
    measured = metrics.measurable(np.array(list(gold.values()), dtype=int))
    return {register: n for (register, n), chosen in zip(gold.items(), measured, strict=True) if not chosen}


def row_label(row: str, lang: str) -> str:
    return word("baseline", lang) if row == BASELINE else row


LEGENDS = {  # medium -> how it marks a training language, and the best of a column
    "figure": ("own figure", "best figure"),
    "table": ("own text", "best figure"),
    "terminal": ("own text", "best text"),
}


def tests_of_bests(matrices: Sequence[Matrix], lang: str) -> str:
    """Return the names of the tests that compared the best scores with the others; "" if there were none."""
    pairs = [
        (matrix.metric, int(best), int(n))
        for matrix in matrices
        for _, column in matrix.cells[matrix.cells["kind"] == "cell"].groupby("column")
        for best in column.loc[column["best"] == "best", "n"]
        for n in column.loc[column["best"] != "best", "n"]
    ]
    tests = ", ".join(dict.fromkeys(test_of(*pair, lang) for pair in pairs))
    is_single = matrices[0].n_seeds > 1 and any(min(pair[1:]) == 1 for pair in pairs)
    return word("test some", lang, tests=tests) if is_single else tests


def legend(matrices: Sequence[Matrix], lang: str, medium: str) -> list[str]:
    """Return the lines below matrices: what a cell shows, and its marks; medium: one of LEGENDS."""
    own, best = LEGENDS[medium]
    seeds = matrices[0].n_seeds
    cells = pd.concat([matrix.cells for matrix in matrices])
    lines = [word("cells seeds", lang, n=seeds) if seeds > 1 else word("cells", lang)]
    marks = [word(own, lang)] if cells["own"].any() else []
    if test := tests_of_bests(matrices, lang):
        marks.append(f"{word(best, lang)}, {word('best test', lang, test=test)}")
    lines += [("; " if lang == "en" else " ; ").join(marks)] if marks else []
    if any(matrix.metric != "micro_f1" for matrix in matrices):
        lines.append(word("columns", lang))
    return lines + [word(mark, lang) for mark in MARKS if cells["mark"].str.contains(mark, regex=False).any()]


def notes(matrix: Matrix, lang: str) -> list[str]:
    """Return the notes on a single matrix: registers with few texts, languages of the mean."""
    found, is_ten = [], matrix.metric == "macro_f1_10"
    few = [
        f"{column} " + " ".join(f"{register} ({n})" for register, n in rare.items())
        for column, gold in matrix.gold.items()
        if (rare := few_texts(gold) if is_ten else {r: n for r, n in gold.items() if n < metrics.MIN_TEXTS})
    ]
    if few and matrix.metric != "micro_f1":
        found.append(word("left out" if is_ten else "few in mean", lang, names=", ".join(few)))
    if matrix.zero_shot:
        key = "mean of seeds" if matrix.n_seeds > 1 else "mean of"
        found.append(word(key, lang, langs=" ".join(matrix.zero_shot)))
    return found


# ---- tables ----


def _wide(matrix: Matrix, texts: list[str], lang: str) -> pd.DataFrame:
    """Return the matrix as a table with these texts, one row per training and the baseline, labelled for display."""
    wide = matrix.cells.assign(shown=texts).pivot(index="row", columns="column", values="shown").fillna("")
    wide = wide.reindex(index=[*matrix.rows, BASELINE], columns=[*matrix.columns, *[MEAN] * bool(matrix.zero_shot)])
    return wide.rename(index={BASELINE: word("baseline", lang)}, columns={MEAN: word("zero-shot mean", lang)})


def _escaped(
    matrix: Matrix, lang: str, show: dict[str, str], escape: Callable[[str], str]
) -> tuple[str, pd.DataFrame, list[str]]:
    """Return title, table and lines below it, escaped; show: formats of a best score and of a training language."""
    shown = []
    for lines, best, own in matrix.cells[["text", "best", "own"]].itertuples(index=False):
        first, *more = lines
        line = f"{first} ({('; ' if lang == 'en' else ' ; ').join(more)})" if more else first
        score, blank, rest = escape(line).partition(" ")
        shown.append(show[best].format(score) + blank + rest + (show["own"] if own else ""))
    heads = {column: f"{lines[0]} ({', '.join(lines[1:])})" for column, lines in matrix.heads.items()}
    wide = _wide(matrix, shown, lang).rename(index=escape, columns=lambda column: escape(heads.get(column) or column))
    below = [escape(line) for line in (*legend([matrix], lang, "table"), *notes(matrix, lang))]
    return escape(f"{matrix.title(lang)}, × 100"), wide.reset_index(names=escape(word("training", lang))), below


def markdown_table(matrices: Sequence[Matrix], lang: str) -> str:
    """Return tve.md: a table per matrix; the best score of a column is bold, those not distinguishable underlined."""
    parts, show = [], {"": "{}", "best": "**{}**", "tied": "<u>{}</u>", "own": r" \*"}
    for matrix in matrices:
        title, wide, below = _escaped(matrix, lang, show, markdown)
        lines = [f"### {title}", "", markdown_rows(list(wide), wide.to_numpy().tolist()), ""]
        parts.append("\n".join([*lines, *(f"- {line}" for line in below)]) + "\n")
    return "\n".join(parts)


def latex_table(matrices: Sequence[Matrix], lang: str) -> str:
    """Return tve.tex: a booktabs table per matrix."""
    parts = ["% needs \\usepackage{booktabs}\n"]
    show = {"": "{}", "best": r"\textbf{{{}}}", "tied": r"\underline{{{}}}", "own": r"\rlap{*}"}
    for matrix in matrices:
        title, wide, below = _escaped(matrix, lang, show, tex)
        layout = {"position_float": "centering", "column_format": "l" + "r" * (len(wide.columns) - 1)}
        text = wide.style.hide(axis="index").to_latex(hrules=True, caption=title, **layout)
        lines = "".join(rf"\par\footnotesize {line}" + "\n" for line in below)
        parts.append(text.replace("\\end{table}", lines + "\\end{table}"))
    return "\n".join(parts)


def terminal_table(matrices: Sequence[Matrix], lang: str) -> str:
    """Return the matrices as text for a terminal: only scores, with their marks."""
    parts, marks = [], {"best": "^", "tied": "~", "": ""}
    for matrix in matrices:
        texts = [
            ("–" if np.isnan(score) else number(100 * score, 1, lang)).rjust(6) + marks[best] + "*" * own + mark
            for score, best, own, mark in matrix.cells[["score", "best", "own", "mark"]].itertuples(index=False)
        ]
        wide = _wide(matrix, texts, lang).reset_index(names="")
        columns = [[column.rjust(6) if column else "", *wide[column]] for column in wide]
        widths = [max(map(len, column)) for column in columns]
        rows = [" ".join(map(str.ljust, row, widths)).rstrip() for row in zip(*columns, strict=True)]
        parts.append("\n".join([f"{matrix.title(lang)}, × 100", *rows]) + "\n")
    said = legend(matrices, lang, "terminal")[1:]
    if any(matrix.cells["score"].isna().any() for matrix in matrices):
        said.append(f"–: {word('too few texts', lang)}")
    return "\n".join(parts) + "\n".join(said)


def tex(text: str) -> str:
    """Return a text escaped for LaTeX."""
    special = {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
        ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "×": r"$\times$", "±": r"$\pm$",
        "†": r"$\dagger$", "↓": r"$\downarrow$", "°": r"$^\circ$", "≥": r"$\geq$", "–": "--", "−": r"$-$",
    }  # fmt: skip
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)


# ---- CSV ----

NAMES = ["base_dir", "subfolder", "model", "train_langs", "eval_lang"]
REGISTER_SCORES = [
    *(f"{name}{end}" for name in ("precision", "recall", "f1") for end in ("", "_low", "_high")),
    "support",
]


def scores_csv(frame: pd.DataFrame) -> str:
    """Return tve.csv: one row per run and language, every metric with its interval in [0, 1], empty if not defined.

    registers_10: those that macro_f1_10 is averaged over. not_comparable: how the evaluation differs from most of its
    matrix. signature: what the scores depend on.
    """
    rows = results.evaluations(frame)
    table = pd.DataFrame([_named(row) for row in rows.itertuples()], rows.index)
    table = table.assign(zero_shot=rows["zero_shot"].astype(int), n=rows["n"])
    for metric, of_metric in frame.groupby("metric", sort=False):
        table[[metric, f"{metric}_low", f"{metric}_high"]] = of_metric[["score", "low", "high"]]
    table["registers_10"] = [
        " ".join(np.array(registers)[metrics.measurable(counts.sum(axis=1))])
        for registers, counts in zip(rows["registers"], rows["counts"], strict=True)
    ]
    table["not_comparable"] = rows["not_comparable"]
    table["signature"] = [
        "|".join(f"{key}:{'-'.join(map(str, v)) if isinstance(v, list) else v}" for key, v in signature.items())
        for signature in rows["signature"]
    ]
    return _csv(table)


def registers_csv(frame: pd.DataFrame) -> str:
    """Return per_register.csv: one row per run, language and register; scores that are not defined are empty."""
    return _csv(register_scores(results.evaluations(frame).itertuples()))


def register_scores(rows: Iterable[Any]) -> pd.DataFrame:
    """Return a row per evaluation and register: names, precision, recall, F1, their intervals, support."""
    parts: dict[str, list[Any]] = {name: [] for name in (*NAMES, "register", *REGISTER_SCORES)}
    for row in rows:
        values = metrics.register_scores(row.counts) | {"register": row.registers}
        for name, (low, high) in uncertainty.register_intervals(row.counts).items():
            values |= {f"{name}_low": low, f"{name}_high": high}
        values |= {name: [value] * len(row.registers) for name, value in _named(row).items()}
        for name, of_name in parts.items():
            of_name.extend(values[name])
    return pd.DataFrame(parts)


def cells_csv(matrices: Sequence[Matrix]) -> str:
    """Return tve_cells.csv: one row per cell of the matrices, as figures and tables show them."""
    parts = [
        matrix.cells.assign(
            subfolder=matrix.subfolder, model=matrix.model, metric=matrix.metric,
            n=matrix.cells["n"].astype("Int64").where(matrix.cells["kind"] != "baseline"),
            mean_of=np.where(matrix.cells["kind"] == "mean", " ".join(matrix.zero_shot), ""),
        )
        for matrix in matrices
    ]  # fmt: skip
    columns = ["row", "column", "score", "low", "high", "sd", "n", "mark", "best", "mean_of"]
    return _csv(pd.concat(parts)[["subfolder", "model", "metric", *columns]])


def _named(row: Any) -> dict[str, str]:
    return dict(zip(NAMES, (row.base_dir.name, row.subfolder, row.model, row.training, row.eval_lang), strict=True))


def _csv(table: pd.DataFrame) -> str:
    safe = table.map(lambda cell: no_formula(cell) if isinstance(cell, str) else cell)
    return safe.to_csv(index=False, lineterminator="\n")
