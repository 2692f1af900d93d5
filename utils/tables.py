"""Matrices of training languages x evaluation languages (TVE), and how text, CSV, Markdown and LaTeX show them.

A matrix is one subfolder, model and metric. Its rows are the training languages (single ones, then several, then the
mixed corpus) and a baseline that always predicts the most frequent register; its columns are evaluation languages and,
where there is one, the mean over the languages that every row has and none was trained on. All cells are rows of one
DataFrame, and every figure, table and page prints the same texts from it:

    row, column, kind      "cell", "baseline" or "mean"; row and column are labels
    score, low, high, sd   in [0, 1], over the seeds if there are several; nan: there is none
    n                      seeds that the score is the mean of; expected: how many there are elsewhere
    mark                   † not comparable, ↓ no better than the baseline, ° never predicts a register averaged over
    best                   "best" of its column, "tied": not distinguishable from it
    own                    it was trained on this language
    text                   the lines that are shown
    rows                   the evaluations behind it, those that can be compared if any can
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from utils import metrics, results, uncertainty
from utils.corpus_load import DISTR
from utils.labels import METRICS, label, markdown, no_formula, number, test_of, word

MARKS = "†↓°"
MEAN, BASELINE = "(mean)", "(baseline)"  # labels that no language has


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
    """Return the matrices, by subfolder and model, then metric; lang: of their texts, en or fr."""
    found = []
    for (subfolder, model), of_model in frame.groupby(["subfolder", "model"], sort=False):
        name = f"{subfolder}/{model}" if subfolder else model
        rows, columns = list(dict.fromkeys(of_model["training"])), sorted(set(of_model["eval_lang"]))
        # the evaluation that stands for a column's texts, and the column's numbers of texts
        usual = {lang: comparable(of_lang).iloc[0] for lang, of_lang in of_model.groupby("eval_lang")}
        n_texts = {lang: sorted(set(of_lang["n"])) for lang, of_lang in of_model.groupby("eval_lang")}
        gold = {
            column: {r: int(n) for r, n in zip(row["registers"], row["counts"].sum(axis=1), strict=True) if n}
            for column, row in usual.items()
        }
        for metric in metric_names:
            of_metric = of_model[of_model["metric"] == metric]
            cells = [
                {"row": training, "column": column, "kind": "cell", **_cell(of_cell, metric)}
                for (training, column), of_cell in of_metric.groupby(["training", "eval_lang"], sort=False)
            ]
            _mark_bests(cells, metric)
            zero_shot = _zero_shot_languages(cells, columns)
            for training, of_row in of_metric.groupby("training", sort=False):
                if zero_shot and DISTR not in of_row["train_langs"].iloc[0]:
                    cells += [{"row": training, "column": MEAN, "kind": "mean", **_mean(of_row, zero_shot, metric)}]
            cells = [cell for cell in cells if cell["n"]]
            for column in columns:
                score = metrics.METRICS[metric](majority_baseline(usual[column]["counts"]))
                cells.append(
                    {"row": BASELINE, "column": column, "kind": "baseline", "score": np.nan if score is None else score}
                )
            empty = {"low": np.nan, "high": np.nan, "sd": np.nan, "n": n_seeds, "mark": "", "best": "", "own": False}
            cells = [empty | {"expected": n_seeds, "rows": None} | cell for cell in cells]
            table = pd.DataFrame(cells).assign(text=[_lines(cell, lang) for cell in cells])
            heads = {column: _head(column, n_texts[column], gold[column], metric, lang) for column in columns}
            found.append(Matrix(name, model, subfolder, metric, n_seeds, rows, columns, heads, gold, zero_shot, table))
    return found


def majority_baseline(counts: np.ndarray) -> np.ndarray:
    """Return the counts of a classifier that predicts the test set's most frequent gold register for every text."""
    baseline, gold = np.zeros_like(counts), counts.sum(axis=1)
    baseline[:, gold.argmax()] = gold
    return baseline


def comparable(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that can be compared with the others of their matrix, or all if none of them can."""
    found = rows[rows["not_comparable"] == ""]
    return rows if found.empty else found


def _cell(rows: pd.DataFrame, metric: str) -> dict:
    """Return the cell of one training and language, over its seeds."""
    used = comparable(rows)
    is_comparable = not used["not_comparable"].iloc[0]
    scores, counts = used["score"].to_numpy(), np.array(used["counts"].tolist())
    low, high = used["low"].iloc[0], used["high"].iloc[0]
    if len(used) > 1:
        low, high = results.interval_of_mean([used], metric) if is_comparable else (np.nan, np.nan)
    accuracy = np.mean([metrics.micro_f1(one) for one in counts])
    never = metrics.measurable(counts.sum(axis=2)) & (counts.sum(axis=1) == 0)
    marks = [
        "†" if len(used) < len(rows) or not is_comparable else "",
        "↓" if accuracy <= metrics.micro_f1(majority_baseline(counts.sum(axis=0))) else "",
        "°" if never.any() and metric != "micro_f1" else "",
    ]
    lang, train_langs, record = (rows[name].iloc[0] for name in ("eval_lang", "train_langs", "record"))
    return {
        "score": float(scores.mean()),
        "low": low,
        "high": high,
        "sd": float(scores.std(ddof=1)) if len(used) > 1 else np.nan,
        "n": len(used),
        "mark": "".join(marks),
        "own": lang in {*train_langs, *record.get("start_langs", [])},
        "zero_shot": bool(rows["zero_shot"].iloc[0]),
        "mixed": DISTR in train_langs,
        "is_comparable": is_comparable and not np.isnan(scores.mean()),
        "rows": used,
    }


def _zero_shot_languages(cells: list[dict], columns: list[str]) -> list[str]:
    """Return the languages of the mean: every row but distr has a score there, and none of them was trained on it.

    A row that can't be compared on most of its languages has no mean, and takes no language from the others.
    """
    of_rows: dict[str, list[dict]] = {}
    for cell in cells:
        of_rows.setdefault(cell["row"], []).append(cell)
    known = [
        of_row
        for of_row in of_rows.values()
        if not of_row[0]["mixed"] and 2 * sum(cell["is_comparable"] for cell in of_row) >= len(of_row)
    ]
    common = [{cell["column"] for cell in of_row if cell["is_comparable"] and cell["zero_shot"]} for of_row in known]
    return [column for column in columns if known and all(column in langs for langs in common)]


def _mean(rows: pd.DataFrame, zero_shot: list[str], metric: str) -> dict:
    """Return a row's mean over the languages: score and interval over the seeds that have all of them; n: how many."""
    rows = rows[rows["eval_lang"].isin(zero_shot) & (rows["not_comparable"] == "") & rows["score"].notna()]
    complete = rows[rows.groupby("folder")["eval_lang"].transform("size") == len(zero_shot)]
    if complete.empty:
        return {"n": 0}
    scores = complete.groupby("folder", sort=False)["score"].mean()
    low, high = results.interval_of_mean([complete[complete["eval_lang"] == lang] for lang in zero_shot], metric)
    return {"score": scores.mean(), "low": low, "high": high, "sd": scores.std(), "n": len(scores)}


def _mark_bests(cells: list[dict], metric: str) -> None:
    """Set "best" of each column's best cell, and "tied" of those not distinguishable from it."""
    of_columns: dict[str, list[dict]] = {}
    for cell in cells:
        if cell["is_comparable"]:
            of_columns.setdefault(cell["column"], []).append(cell)
    for column in of_columns.values():
        best = max(column, key=lambda cell: cell["score"])
        for cell in column:
            compared = None if cell is best else results.compare(best["rows"], cell["rows"], metric)
            if len(column) > 1 and (cell is best or not told_apart(compared, best, cell, len(column) - 1)):
                cell["best"] = "best" if cell is best else "tied"


def told_apart(compared: dict[str, float] | None, a: Any, b: Any, n_comparisons: int) -> bool:
    """Tell whether two cells of a column differ by more than chance; n_comparisons: rows of the column, less one.

    compared: what results.compare says of them. p times their number must be below 0.05 (Bonferroni): so the row that
    is really best is among those marked in at least 95 of 100 columns, whichever looks best. Without predictions, only
    if their intervals don't touch.
    """
    if compared is None:
        return bool(b["high"] < a["low"] or a["high"] < b["low"])
    return bool(compared["p"] * n_comparisons < 0.05)


# ---- texts ----


def _lines(cell: dict, lang: str) -> tuple[str, ...]:
    """Return the lines of a cell: score x 100 ± standard deviation, interval, seeds where some are missing."""
    mark = f" {cell['mark']}" if cell["mark"] else ""
    if np.isnan(cell["score"]):
        return (word("too few texts", lang) + mark,)
    sd = "" if np.isnan(cell["sd"]) else f" ±{number(100 * cell['sd'], 1, lang)}"
    lines = [number(100 * cell["score"], 1, lang) + sd + mark]
    if not np.isnan(cell["low"]):
        lines.append(f"{number(100 * cell['low'], 1, lang)}–{number(100 * cell['high'], 1, lang)}")
    if cell["n"] < cell["expected"]:
        lines.append(word("of seeds", lang, k=cell["n"], n=cell["expected"]))
    return tuple(lines)


def one_line(lines: Sequence[str], lang: str) -> str:
    """Return a cell in one line, as `74.4 ±1.2 (70.1–78.0)`."""
    first, *rest = lines
    return f"{first} ({('; ' if lang == 'en' else ' ; ').join(rest)})" if rest else first


def _head(column: str, n_texts: list[int], gold: dict[str, int], metric: str, lang: str) -> list[str]:
    lines = [column, "/".join(map(str, n_texts))]
    if metric != "micro_f1":
        n_averaged = len(gold) if metric != "macro_f1_10" else len(gold) - len(few_texts(gold))
        lines.append(f"{n_averaged}/{len(gold)} {word('reg.', lang)}")
    return lines


def few_texts(gold: dict[str, int]) -> dict[str, int]:
    """Return the registers that macro_f1_10 leaves out, with their gold texts."""
    measured = metrics.measurable(np.array(list(gold.values()), dtype=int))
    return {register: n for (register, n), chosen in zip(gold.items(), measured, strict=True) if not chosen}


def row_label(row: str, lang: str) -> str:
    return word("baseline", lang) if row == BASELINE else row


TERMINAL = {"best": "^", "tied": "~", "": ""}
LEGENDS = {  # medium -> how it shows a training language, and the best of a column
    "figure": ("own figure", "best figure"),
    "table": ("own text", "best figure"),
    "terminal": ("own text", "best text"),
}


def tests_of_bests(matrices: Sequence[Matrix], lang: str) -> str:
    """Return the names of the tests by which the best scores were compared with the others; "" if none was."""
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
    """Return what stands below matrices: what a cell shows, and its marks; medium: one of LEGENDS."""
    own, best = LEGENDS[medium]
    seeds = matrices[0].n_seeds
    cells = pd.concat([matrix.cells for matrix in matrices])
    lines = [word("cells seeds", lang, n=seeds) if seeds > 1 else word("cells", lang)]
    marks = []
    if cells["own"].any():
        marks.append(word(own, lang))
    if test := tests_of_bests(matrices, lang):
        marks.append(f"{word(best, lang)}, {word('best test', lang, test=test)}")
    lines += [("; " if lang == "en" else " ; ").join(marks)] if marks else []
    if any(matrix.metric != "micro_f1" for matrix in matrices):
        lines.append(word("columns", lang))
    return lines + [word(mark, lang) for mark in MARKS if cells["mark"].str.contains(mark, regex=False).any()]


def notes(matrix: Matrix, lang: str) -> list[str]:
    """Return what is said of one matrix alone: registers of few texts, languages of the mean."""
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
    """Return the matrix with these texts of its cells, one row per training and the baseline's, named as displayed."""
    wide = matrix.cells.assign(shown=texts).pivot(index="row", columns="column", values="shown").fillna("")
    wide = wide.reindex(index=[*matrix.rows, BASELINE], columns=[*matrix.columns, *[MEAN] * bool(matrix.zero_shot)])
    return wide.rename(index={BASELINE: word("baseline", lang)}, columns={MEAN: word("zero-shot mean", lang)})


def _marked(matrix: Matrix, lang: str, show: dict[str, str], escape: Callable[[str], str]) -> pd.DataFrame:
    """Return the matrix with its first column and head escaped; show: how a best score, and an own language, look."""
    shown = []
    for lines, best, own in matrix.cells[["text", "best", "own"]].itertuples(index=False):
        score, blank, rest = escape(one_line(lines, lang)).partition(" ")
        shown.append((show[best].format(score) if best else score) + blank + rest + (show["own"] if own else ""))
    wide = _wide(matrix, shown, lang)
    heads = {column: f"{lines[0]} ({', '.join(lines[1:])})" for column, lines in matrix.heads.items()}
    wide = wide.rename(index=escape, columns=lambda column: escape(heads.get(column) or column))
    return wide.reset_index(names=escape(word("training", lang)))


def markdown_table(matrices: Sequence[Matrix], lang: str) -> str:
    """Return tve.md: a table per matrix; best score of a column in bold, those not distinguishable underlined."""
    parts = []
    for matrix in matrices:
        wide = _marked(matrix, lang, {"best": "**{}**", "tied": "<u>{}</u>", "own": r" \*"}, markdown)
        rows = [list(wide), ["---"] * len(wide.columns), *wide.to_numpy().tolist()]
        lines = [f"### {markdown(matrix.title(lang))}, × 100", "", *("| " + " | ".join(row) + " |" for row in rows), ""]
        lines += [f"- {markdown(line)}" for line in [*legend([matrix], lang, "table"), *notes(matrix, lang)]]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def latex_table(matrices: Sequence[Matrix], lang: str) -> str:
    """Return tve.tex: a booktabs table per matrix, to be pasted."""
    parts = ["% needs \\usepackage{booktabs}\n"]
    for matrix in matrices:
        wide = _marked(matrix, lang, {"best": r"\textbf{{{}}}", "tied": r"\underline{{{}}}", "own": r"\rlap{*}"}, tex)
        text = wide.style.hide(axis="index").to_latex(
            hrules=True, position_float="centering", column_format="l" + "r" * (len(wide.columns) - 1),
            caption=tex(f"{matrix.title(lang)}, × 100"),
        )  # fmt: skip
        said = [*legend([matrix], lang, "table"), *notes(matrix, lang)]
        below = "".join(rf"\par\footnotesize {tex(line)}" + "\n" for line in said)
        parts.append(text.replace("\\end{table}", below + "\\end{table}"))
    return "\n".join(parts)


def terminal_table(matrices: Sequence[Matrix], lang: str) -> str:
    """Return the matrices as text for a terminal: scores alone, with their marks."""
    parts = []
    for matrix in matrices:
        texts = [
            ("–" if np.isnan(score) else number(100 * score, 1, lang)).rjust(6) + TERMINAL[best] + "*" * own + mark
            for score, best, own, mark in matrix.cells[["score", "best", "own", "mark"]].itertuples(index=False)
        ]
        wide = _wide(matrix, texts, lang).reset_index(names="")
        columns = [[column.rjust(6) if column else "", *wide[column]] for column in wide]
        widths = [max(map(len, column)) for column in columns]
        rows = [" ".join(map(str.ljust, row, widths)).rstrip() for row in zip(*columns, strict=True)]
        parts.append("\n".join([f"{matrix.title(lang)}, × 100", *rows]))
    said = legend(matrices, lang, "terminal")[1:]
    said += (
        [f"–: {word('too few texts', lang)}"] if any(matrix.cells["score"].isna().any() for matrix in matrices) else []
    )
    return "\n\n".join([*parts, ""])[:-1] + "\n".join(said)


def tex(text: str) -> str:
    """Return a text that LaTeX shows as it is."""
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
    """Return tve.csv: one row per run and language, every metric with its interval, in [0, 1]; empty: there is none.

    registers_10: those that macro_f1_10 is averaged over. not_comparable: in what the evaluation differs from the
    others of its matrix. signature: what decides the scores.
    """
    rows = results.evaluations(frame)
    table = _named(rows).assign(zero_shot=rows["zero_shot"].astype(int), n=rows["n"])
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
    """Return per_register.csv: one row per run, language and register; a score that is not defined is empty."""
    rows = results.evaluations(frame)
    return _csv(pd.concat([_named(rows), register_scores(rows)], axis=1).explode(["register", *REGISTER_SCORES]))


def register_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, for each evaluation, lists over its registers: register, scores with intervals, support."""
    found = []
    for registers, counts in zip(rows["registers"], rows["counts"], strict=True):
        values = metrics.register_scores(counts)
        for name, (low, high) in uncertainty.register_intervals(counts).items():
            values |= {f"{name}_low": low, f"{name}_high": high}
        found.append({"register": list(registers)} | {name: list(values[name]) for name in REGISTER_SCORES})
    return pd.DataFrame(found, index=rows.index)


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


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(train_langs=rows["training"], base_dir=rows["base_dir"].map(lambda path: path.name))[NAMES]


def _csv(table: pd.DataFrame) -> str:
    safe = table.map(lambda cell: no_formula(cell) if isinstance(cell, str) else cell)
    return safe.to_csv(index=False, lineterminator="\n")
