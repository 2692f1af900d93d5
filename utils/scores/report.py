"""Write report.html: one page from the transfer matrices to the evaluations and texts behind them.

The matrices and the view of the registers are HTML; an evaluation is made of data in the page, by report.js, when a
link leads to it. Nothing is loaded from elsewhere, and a policy in the page forbids it: the one script and the one
style run by their hashes. Names and texts are escaped, by Jinja and as JSON. The same input gives the same bytes.

So that the page stays below 10 MB, the evaluations of a large grid list fewer errors and texts each; the page says so.
"""

import base64
import hashlib
import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib import colormaps

from utils import metrics, runs
from utils.scores import errors, tables
from utils.scores.figures import COLOURS
from utils.scores.labels import LANGUAGES, METRICS, PHRASES, REGISTERS, label, number
from utils.scores.panels import Panel, cell_text, column_head, mean_text
from utils.scores.report_words import WORDS
from utils.scores.results import EvaluatedRun, Evaluation, compare_runs, load_predictions
from utils.tve import SCALE_TOP

if TYPE_CHECKING:
    import pandas as pd

MOST_ERRORS = 100_000  # listed in a page
MOST_BYTES = 9_000_000  # of a page; its texts take what is left
BYTES_OF_EVALUATION, BYTES_OF_ERROR = 700, 12  # about
MOST_F1 = 40_000  # in the tables of the registers
MOST_COMPARISONS = 4_000  # beyond those with the best of each column
FEW_TEXTS = 100  # of a test file
PLACES = 10  # named in a warning
COMPARE_ALL = 6  # rows of a matrix whose pairs are all compared
CONFUSED, CONFUSED_TEXTS = 0.1, 3  # share of a register's texts, and texts, taken for another: they are confused
WARNINGS = 7  # their place in an evaluation's data
SHADES = 50  # of the palette of the figures, from 0 to 1


def write_report(path: Path, scores: "pd.DataFrame", matrices: list[Panel], lang: str, n_texts: int) -> None:
    """Write the page, in English or French, on the scores of results.all_scores and their panels.

    n_texts: how many texts of each pair of registers in an evaluation are shown.
    """
    runs.write_text(path, make_report(scores, matrices, lang, n_texts))


def make_report(scores: "pd.DataFrame", matrices: list[Panel], lang: str, n_texts: int) -> str:
    words = {key: pair[lang == "fr"] for key, pair in WORDS.items()}
    grids = _grids(matrices)
    found = list({id(run): run for run in scores["run"]}.values())
    eval_langs = sorted(set(scores["eval_lang"]))
    warnings = {id(run): _run_warnings(run, words) for run in found}
    odd = {(row.run.folder, row.eval_lang): row.not_comparable for row in scores.itertuples() if row.not_comparable}
    bounds: dict[tuple[Path, str], list[list[int | None]]] = {}  # of the metrics, in their order
    for row in scores.itertuples():
        bounds.setdefault((row.run.folder, row.eval_lang), []).append([_tenths(row.low), _tenths(row.high)])
    names = _keys(found)
    listed, texts, told = _errors_and_texts(found, eval_langs, n_texts, words)
    data = _data(found, eval_langs, grids, bounds, lang, words, names, warnings, odd, listed, texts)
    place = Path(__file__).parent
    css, js = ((place / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    css += _shades()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(place), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    n_evaluations = sum(lang_ in run.evaluations for run in found for lang_ in eval_langs)
    n_registers = max(len(registers) for registers in data["sets"])
    has_tables = n_evaluations * n_registers <= MOST_F1
    page = environment.get_template("report.html.jinja").render(
        lang=lang,
        w=words,
        css=Markup(css),
        js=Markup(js),
        css_hash=_hash(css),
        js_hash=_hash(js),
        data=Markup(_json(data)),
        intro=words["intro"].format(runs=len(found), evaluations=n_evaluations, languages=len(eval_langs)),
        panels=[_matrix(panel, lang, words, names, data) for panel in matrices],
        models=[(name, name) for name in dict.fromkeys(panel.model_name for panel in matrices)],
        subfolders=[(name, name or "–") for name in dict.fromkeys(panel.subfolder for panel in matrices)],
        metric_names=[(name, label(METRICS, name, lang)) for name in dict.fromkeys(p.metric for p in matrices)],
        registers=[_register_view(grid[0], lang, words, names, odd, has_tables) for grid in grids],
        to_mind=_to_mind(data, words),
        told=told,
    )
    return page if page.endswith("\n") else page + "\n"


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _json(data: Any) -> str:
    """Return JSON that can stand in a script element: no character that HTML would read."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _grids(matrices: list[Panel]) -> list[list[Panel]]:
    """Return the panels of each subfolder and model, a list of its metrics."""
    grids: dict[tuple[str, str], list[Panel]] = {}
    for panel in matrices:
        grids.setdefault((panel.subfolder, panel.model_name), []).append(panel)
    return list(grids.values())


def _keys(found: list[EvaluatedRun]) -> dict[int, str]:
    """Return the name of each run in links: its folder as seen from the base dir, or from what holds the base dirs."""
    place = os.path.commonpath([run.base_dir for run in found])
    return {
        id(run): "/".join(quote(runs.one_line(part), safe="") for part in run.folder.relative_to(place).parts)
        for run in found
    }


# ---- colours ----


def _shades() -> str:
    """Return the rules of the classes b0, b1 …: the palette of the figures, and black or white on it, as is clearer."""
    rules = []
    for step in range(SHADES + 1):
        colour = np.array(colormaps[COLOURS](step / SHADES)[:3])
        linear = np.where(colour <= 0.03928, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)  # WCAG 2
        light = float(linear @ [0.2126, 0.7152, 0.0722])
        text = "#fff" if 1.05 / (light + 0.05) > (light + 0.05) / 0.05 else "#000"
        values = "".join(f"{round(255 * value):02x}" for value in colour)
        rules.append(f".b{step}{{background:#{values};color:{text}}}")
    return "\n".join(rules) + "\n"


def _shade(value: float, top: float) -> str:
    return "none" if np.isnan(value) else f"b{round(min(max(value / top, 0), 1) * SHADES)}"


# ---- errors and texts ----


class Error(NamedTuple):
    """A wrong prediction; row: in the test file, from 1."""

    probability: float
    row: int
    gold: str
    predicted: str


def _errors_and_texts(
    found: list[EvaluatedRun], eval_langs: list[str], n_texts: int, words: dict[str, str]
) -> tuple[dict[tuple[int, str], list[Error] | None], dict[str, dict[int, Any]], list[str]]:
    """Return the errors of each evaluation that the page lists, the texts of each test file, and what to tell of both.

    Errors: (id of the run, language) -> the most confident first; None where the predictions are gone.
    Texts: hash of the test file -> row -> [beginning of the text, other registers that it occurs under].
    """
    places = [(run, lang) for run in found for lang in eval_langs if lang in run.evaluations]
    n_wrong = [int(e.n - np.trace(e.confusion)) for e in (run.evaluations[lang] for run, lang in places)]
    most = _most_each(n_wrong, MOST_ERRORS)
    told = [words["errors whole"] if max(n_wrong) <= most else words["errors thinned"].format(k=most)]
    listed: dict[tuple[int, str], list[Error] | None] = {}
    wanted: dict[str, dict[int, int]] = {}  # test file -> row -> its rank among those of its pair, at best
    for run, lang in places:
        chosen = read_errors(run, lang)
        listed[id(run), lang] = None if chosen is None else chosen[:most]
        ranks: dict[tuple[str, str], int] = {}
        for error in listed[id(run), lang] or [] if n_texts else []:
            rank = ranks[error.gold, error.predicted] = ranks.get((error.gold, error.predicted), 0) + 1
            rows = wanted.setdefault(run.evaluations[lang].signature["test_sha256"], {})
            rows[error.row] = min(rank, rows.get(error.row, rank))
    texts: dict[str, dict[int, Any]] = {}
    for run, lang in places:
        sha256 = run.evaluations[lang].signature["test_sha256"]
        if n_texts and sha256 not in texts and (known := _beginnings(run, lang)):
            texts[sha256] = {row: known[row] for row in wanted.get(sha256, {}) if row in known}
    ranked = [(wanted[sha][row], len(str(text).encode())) for sha, rows in texts.items() for row, text in rows.items()]
    n_listed = sum(min(n, most) for n in n_wrong)
    room = MOST_BYTES - BYTES_OF_EVALUATION * len(places) - BYTES_OF_ERROR * n_listed
    largest = max((rank for rank, _ in ranked), default=0)
    fits = (k for k in range(min(n_texts, largest), 0, -1) if sum(size for rank, size in ranked if rank <= k) <= room)
    kept = next(fits, 0)
    kept = n_texts if kept == largest else kept
    texts = {
        sha: {row: text for row, text in sorted(rows.items()) if wanted[sha][row] <= kept}
        for sha, rows in texts.items()
    }
    n_shown = sum(map(len, texts.values()))
    if n_shown:
        told.insert(0, words["holds texts"].format(n=n_shown, k=kept, chars=errors.SHOWN))
        told += [words["texts thinned"].format(asked=n_texts)] if kept < n_texts else []
    else:
        told.insert(
            0,
            words["no corpus"] if n_texts else words["holds no texts"].format(command="post_eval.py --report-texts 5"),
        )
    return listed, texts, [*told, words["nothing loaded"]]


def _most_each(sizes: list[int], total: int) -> int:
    """Return how many may be taken of each, the same of all, so that they are not more than total; at least 1."""
    low, high = 1, max([1, *sizes])
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sum(min(size, middle) for size in sizes) <= total else (low, middle - 1)
    return low


def read_errors(run: EvaluatedRun, eval_lang: str) -> list[Error] | None:
    """Return the wrong predictions, the most confident first; None where the predictions are gone."""
    try:
        rows = load_predictions(run.folder, eval_lang)
    except OSError:
        return None
    wrong = [
        Error(float(row[row["predicted"]]), int(row["row"]), row["gold"], row["predicted"])
        for row in rows
        if row["gold"] != row["predicted"]
    ]
    return sorted(wrong, key=lambda error: (-error.probability, error.row))


def _beginnings(run: EvaluatedRun, eval_lang: str) -> dict[int, Any]:
    """Return row -> [the beginning of its text, the other registers that this text occurs under]; {} without corpus."""
    evaluation = run.evaluations[eval_lang]
    texts = errors.test_texts(
        run.record["corpus"]["path"], eval_lang, evaluation.signature["test_sha256"], tuple(evaluation.registers)
    )
    return {row: runs.one_line(" ".join(text.split())[: errors.SHOWN]) for row, text in texts.items()}


# ---- warnings ----


def _run_warnings(run: EvaluatedRun, words: dict[str, str]) -> list[str]:
    """Return what to mind of a training."""
    found = []
    rates = [epoch.get("learning_rate", 0.0) for epoch in _epochs(run)]
    if rates and rates[-1] > 0.05 * max(rates):  # a whole training ends with a rate of 0
        found.append(words["cut"].format(n=len(rates)))
    if run.record.get("beats_largest_register") is False:
        found.append(words["learnt nothing"])
    if several := run.record["corpus"].get("several_registers"):
        found.append(words["several in training"].format(n=len(several), places=_places(several, words)))
    return found


def _epochs(run: EvaluatedRun) -> list[dict[str, Any]]:
    try:
        epochs = json.loads((run.folder / "train.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return epochs if isinstance(epochs, list) and all(isinstance(epoch, dict) for epoch in epochs) else []


def _evaluation_warnings(
    run: EvaluatedRun, evaluation: Evaluation, odd: str | None, words: dict[str, str]
) -> list[tuple[str, str]]:
    """Return what to mind of an evaluation: the kind of warning, and its sentence."""
    found = []
    if odd:
        found.append(("odd", words["odd"].format(what=odd)))
    told = run.record["corpus"].get("files", {}).get(f"test/{evaluation.eval_lang}.tsv")
    if told and told != evaluation.signature["test_sha256"]:
        found.append(("changed", words["changed"]))
    if evaluation.n < FEW_TEXTS:
        found.append(("few texts", words["few texts"].format(n=evaluation.n)))
    few = [
        f"{register} ({n})"
        for register, n in zip(evaluation.registers, evaluation.confusion.sum(axis=1).tolist(), strict=True)
        if 0 < n < metrics.MIN_TEXTS
    ]
    if few:
        found.append(("few of register", words["few of register"].format(names=", ".join(few))))
    facts = _facts(run, evaluation.eval_lang)
    if several := facts.get("several_registers"):
        found.append(("several", words["several"].format(n=len(several), places=_places(several, words))))
    share, length = facts.get("over_max_length"), evaluation.signature.get("max_length")
    if isinstance(share, float) and share > 0.5 and length:
        found.append(("long", words["long"].format(share=round(100 * share), length=length)))
    return found


def _facts(run: EvaluatedRun, eval_lang: str) -> dict[str, Any]:
    """Return what eval/LANG.json tells beside the scores."""
    try:
        facts = json.loads((run.folder / "eval" / f"{eval_lang}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _places(found: Any, words: dict[str, str]) -> str:
    shown = "; ".join(runs.one_line(str(place)) for place in found[:PLACES])
    return shown + (f"; {words['and more'].format(n=len(found) - PLACES)}" if len(found) > PLACES else "")


# ---- data of the evaluations ----


class _Strings:
    """Strings of the page's data, each kept once and told by its place."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def place(self, text: str) -> int:
        return self.places.setdefault(text, len(self.places))


def _tenths(score: float | None) -> int | None:
    """Return a score in [0, 1] in tenths of a hundredth, rounded as the tables round it; None: there is none."""
    return None if score is None or np.isnan(score) else round(float(f"{100 * score:.1f}") * 10)


def _data(
    found: list[EvaluatedRun],
    eval_langs: list[str],
    grids: list[list[Panel]],
    bounds: dict,
    lang: str,
    words: dict[str, str],
    names: dict[int, str],
    warnings: dict[int, list[str]],
    odd: dict[tuple[Path, str], str],
    listed: dict[tuple[int, str], list[Error] | None],
    texts: dict[str, dict[int, Any]],
) -> dict[str, Any]:
    """Return what report.js makes the evaluations of; see the comments there."""
    strings = _Strings()
    sets: dict[tuple[str, ...], int] = {}
    keys: dict[tuple[str, ...], int] = {}
    files: dict[str, int] = {}
    numbers = {id(run): index for index, run in enumerate(found)}
    of_runs = []
    for run in found:
        evaluations = {}
        for eval_lang in (name for name in eval_langs if name in run.evaluations):
            evaluation = run.evaluations[eval_lang]
            ids = {register: index for index, register in enumerate(evaluation.registers)}
            scores = metrics.register_scores(evaluation.confusion)
            of_errors = listed[id(run), eval_lang]
            evaluations[eval_lang] = [
                sets.setdefault(tuple(evaluation.registers), len(sets)),
                evaluation.confusion.ravel().tolist(),
                [_tenths(evaluation.scores[name]) for name in metrics.METRICS],
                bounds[run.folder, eval_lang],
                [[_tenths(float(value)) for value in scores[name]] for name in ("precision", "recall", "f1")],
                keys.setdefault(tuple(evaluation.signature), len(keys)),
                [strings.place(_plain(value)) for value in evaluation.signature.values()],
                [
                    [strings.place(kind), strings.place(sentence)]
                    for kind, sentence in _evaluation_warnings(run, evaluation, odd.get((run.folder, eval_lang)), words)
                ],
                files.setdefault(evaluation.signature["test_sha256"], len(files)),
                None
                if of_errors is None
                else [
                    value
                    for error in of_errors
                    for value in (
                        error.row,
                        ids[error.gold] * len(ids) + ids[error.predicted],
                        round(10000 * error.probability),
                    )
                ],
            ]
        settings = run.record.get("settings", {})
        of_runs.append(
            {
                "key": names[id(run)],
                "name": runs.one_line(str(run.folder.relative_to(run.base_dir))),
                "base": runs.one_line(run.base_dir.name),
                "model": run.model_name,
                "mix": run.mix,
                "langs": list(run.train_langs),
                "train": run.record["corpus"]["train"],
                "epochs": [run.record.get("epochs"), run.record.get("best_epoch")],
                "seed": settings.get("seed"),
                "warnings": warnings[id(run)],
                "command": _command(run),
                "evaluations": evaluations,
            }
        )
    shown_registers = list(dict.fromkeys(register for registers in sets for register in registers))
    return {
        "lang": lang,
        "words": words,
        "languages": {name: label(LANGUAGES, name, lang) for name in _all_languages(found, eval_langs)},
        "registers": {register: label(REGISTERS, register, lang) for register in shown_registers},
        "metrics": [[name, label(METRICS, name, lang)] for name in metrics.METRICS],
        "sets": [list(registers) for registers in sets],
        "keys": [list(names) for names in keys],
        "strings": list(strings.places),
        "shades": SHADES,
        "minTexts": metrics.MIN_TEXTS,
        "runs": of_runs,
        "grids": _grid_data(grids, lang, numbers),
        "texts": [texts.get(sha, {}) for sha in files],
    }


def _command(run: EvaluatedRun) -> str:
    """Return the command that evaluates the run again, but for the language; it names no place on this machine."""
    subfolder = f" --subfolder {run.record['subfolder']}" if run.record["subfolder"] else ""
    names = f"--model-name {run.model_name} --train-langs {' '.join(run.train_langs)}"
    return f"python evaluate.py {names}{subfolder} --overwrite --eval-lang "


def _all_languages(found: Iterable[EvaluatedRun], eval_langs: list[str]) -> list[str]:
    return list(dict.fromkeys([*eval_langs, *(lang for run in found for lang in run.train_langs)]))


def _plain(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return runs.one_line(text)


def _grid_data(grids: list[list[Panel]], lang: str, numbers: dict[int, int]) -> list[dict[str, Any]]:
    """Return of each subfolder and model its rows, cells as text, and the comparisons of each column."""
    pairs = {
        (number_, panel.metric, column): _pairs(panel, column, with_parts=True)
        for number_, grid in enumerate(grids)
        for panel in grid
        for column in panel.columns
    }
    whole = sum(map(len, pairs.values())) <= MOST_COMPARISONS + sum(
        len(p.rows) * len(p.columns) for g in grids for p in g
    )
    found = []
    for number_, grid in enumerate(grids):
        compared: dict[str, dict[str, list]] = {}
        for panel in grid:
            for column in panel.columns:
                chosen = pairs[number_, panel.metric, column] if whole else _pairs(panel, column, with_parts=False)
                compared.setdefault(panel.metric, {})[column] = [
                    [i, j, *values] for i, j in chosen if (values := _compared(panel, i, j, column)) is not None
                ]
        rows = grid[0].rows
        found.append(
            {
                "subfolder": grid[0].subfolder,
                "columns": grid[0].columns,
                "metrics": [panel.metric for panel in grid],
                "rows": [{"label": row.label, "runs": [numbers[id(run)] for run in row.runs]} for row in rows],
                "cells": {panel.metric: _cells(panel, lang) for panel in grid},  # null: as of the one evaluation
                "best": {panel.metric: {c: _best(panel, c) for c in panel.columns} for panel in grid},
                "compared": compared,
                "parts": whole,
            }
        )
    return found


def _cells(panel: Panel, lang: str) -> list[dict[str, str]] | None:
    """Return the cells of each row as text, where they are means over seeds."""
    if panel.n_seeds == 1:
        return None
    return [{c: _joined(cell_text(cell, lang, panel.n_seeds)) for c, cell in row.cells.items()} for row in panel.rows]


def _joined(lines: tuple[str, ...]) -> str:
    first, *rest = (line.replace("\n", " ") for line in lines)
    return f"{first} ({'; '.join(rest)})" if rest else first


def _comparable_rows(panel: Panel, column: str) -> list[int]:
    cells = {i: row.cells[column] for i, row in enumerate(panel.rows) if column in row.cells}
    return [i for i, cell in cells.items() if not cell.odd and not np.isnan(cell.score)]


def _best(panel: Panel, column: str) -> int | None:
    """Return the row with the best score of a column, as tables.best_marks chooses it."""
    rows = _comparable_rows(panel, column)
    return max(rows, key=lambda i: panel.rows[i].cells[column].score) if rows else None


def _pairs(panel: Panel, column: str, with_parts: bool) -> list[tuple[int, int]]:
    """Return which rows of a column are compared: the best with each, a mix with those that it holds; of few, all."""
    rows, best = _comparable_rows(panel, column), _best(panel, column)
    langs = [set(row.train_langs) for row in panel.rows]
    return [
        (best, j if i == best else i) if best in (i, j) else (i, j)
        for i, j in itertools.combinations(rows, 2)
        if best in (i, j) or with_parts and (len(rows) <= COMPARE_ALL or langs[i] < langs[j] or langs[j] < langs[i])
    ]


def _compared(panel: Panel, i: int, j: int, column: str) -> list[float | int] | None:
    """Return difference, low, high (tenths of a hundredth) and p (ten thousandths) of two rows; None: can't be had."""
    one, other = ([run for run in panel.rows[k].runs if column in run.evaluations] for k in (i, j))
    compared = compare_runs(one, other, column, panel.metric, n_exchanges=tables.FEW_EXCHANGES)
    if compared is not None and compared["p"] <= 0.1:
        compared = compare_runs(one, other, column, panel.metric, n_exchanges=tables.N_EXCHANGES)
    if compared is None or np.isnan(compared["p"]):
        return None
    return [*(round(1000 * compared[name]) for name in ("difference", "low", "high")), round(10000 * compared["p"])]


# ---- matrices ----


def _matrix(
    panel: Panel, lang: str, words: dict[str, str], names: dict[int, str], data: dict[str, Any]
) -> dict[str, Any]:
    """Return what the template shows of one panel."""
    by_key = {run["key"]: run for run in data["runs"]}
    rows = []
    for row in panel.rows:
        warned = [sentence for run in row.runs for sentence in by_key[names[id(run)]]["warnings"]]
        cells: list[dict[str, Any]] = []
        for column in panel.columns:
            cell = row.cells.get(column)
            if cell is None:
                cells.append({"class": "none", "lines": ()})
                continue
            run = next(run for run in row.runs if column in run.evaluations)
            kinds = {
                data["strings"][kind]
                for run_ in row.runs
                if column in run_.evaluations
                for kind, _ in by_key[names[id(run_)]]["evaluations"][column][WARNINGS]
            }
            cells.append(
                {
                    "class": " ".join(
                        [
                            _shade(cell.score, SCALE_TOP),
                            *(["own"] if column in row.train_langs else []),
                            *([] if run.is_zero_shot(column) else ["seen"]),
                        ]
                    ),
                    "href": f"#{names[id(run)]}/{column}",
                    "lines": cell_text(cell, lang, panel.n_seeds),
                    "warned": "changed" in kinds,
                }
            )
        mean = panel.means.get(row.label)
        rows.append(
            {
                "label": row.label,
                "title": ", ".join(label(LANGUAGES, name, lang) for name in row.train_langs),
                "warned": "; ".join(dict.fromkeys(warned)),
                "cells": cells,
                "mean": None
                if mean is None
                else {"class": _shade(mean.score, SCALE_TOP), "lines": mean_text(mean, lang)},
                "order": "" if mean is None or np.isnan(mean.score) else f"{mean.score:.6f}",
            }
        )
    return {
        "title": f"{_name(panel)}, {label(METRICS, panel.metric, lang)}",
        "model": panel.model_name,
        "subfolder": panel.subfolder,
        "metric": panel.metric,
        "heads": [
            {
                "name": column,
                "title": label(LANGUAGES, column, lang),
                "lines": column_head(panel, column, lang)[1:],
                "few": max(panel.n_texts[column]) < FEW_TEXTS,
            }
            for column in panel.columns
        ],
        "rows": rows,
        "has_mean": bool(panel.zero_shot),
        "mean_label": label(PHRASES, "zero-shot mean", lang).replace("\n", " "),
        "training_label": label(PHRASES, "training", lang),
        "baseline_label": label(PHRASES, "baseline", lang),
        "baseline": [
            {"class": _shade(cell.score, SCALE_TOP), "lines": cell_text(cell, lang, 1)}
            for cell in (panel.baseline[column] for column in panel.columns)
        ],
        "notes": tables.notes(panel, lang),
    }


def _name(panel: Panel) -> str:
    return f"{panel.subfolder}/{panel.model_name}" if panel.subfolder else panel.model_name


def _to_mind(data: dict[str, Any], words: dict[str, str]) -> list[dict[str, Any]]:
    """Return the warnings by kind, each sentence with the evaluations that it is about."""
    kinds: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for run in data["runs"]:
        for sentence in run["warnings"]:
            links = kinds.setdefault(words["of trainings"], {}).setdefault(sentence, [])
            links.append((f"#{run['key']}/{next(iter(run['evaluations']))}", run["name"]))
        for eval_lang, evaluation in run["evaluations"].items():
            for kind, place in evaluation[WARNINGS]:
                sentence = f"{data['languages'][eval_lang]}: {data['strings'][place]}"
                links = kinds.setdefault(words[f"kind {data['strings'][kind]}"], {}).setdefault(sentence, [])
                links.append((f"#{run['key']}/{eval_lang}", run["name"]))
    return [
        {
            "kind": kind,
            "sentences": [
                {
                    "sentence": sentence,
                    "links": links[:PLACES],
                    "more": words["and more"].format(n=len(links) - PLACES) if len(links) > PLACES else "",
                }
                for sentence, links in of_kind.items()
            ],
        }
        for kind, of_kind in kinds.items()
    ]


# ---- registers ----


def _register_view(
    panel: Panel,
    lang: str,
    words: dict[str, str],
    names: dict[int, str],
    odd: dict[tuple[Path, str], str],
    has_tables: bool,
) -> dict[str, Any]:
    """Return what the template shows of the registers of one model; has_tables: F1 of each training mix too."""
    shown = list(
        dict.fromkeys(
            r for row in panel.rows for run in row.runs for e in run.evaluations.values() for r in e.registers
        )
    )
    f1 = _f1(panel, odd)
    suffers = _suffers(panel, shown, f1, lang, words)
    return {
        "title": _name(panel),
        "suffers": suffers,
        "has_same": any(row["same"] for row in suffers),
        "columns": panel.columns,
        "overview": _overview(panel, shown, f1, lang),
        "pairs": _confused(panel, odd, lang, words),
        "tables": [
            _f1_table(panel, register, f1, lang, words, names)
            for register in shown
            if has_tables and any(register in gold for gold in panel.gold.values())
        ],
    }


def _f1(panel: Panel, odd: dict[tuple[Path, str], str]) -> dict[tuple[int, str, str], float]:
    """Return (row, language, register) -> F1, the mean over the row's trainings; what is not comparable is left out."""
    found: dict[tuple[int, str, str], list[float]] = {}
    for i, row in enumerate(panel.rows):
        for run in row.runs:
            for column in (c for c in panel.columns if c in run.evaluations and (run.folder, c) not in odd):
                evaluation = run.evaluations[column]
                values = metrics.register_scores(evaluation.confusion)["f1"]
                for register, value in zip(evaluation.registers, values.tolist(), strict=True):
                    if not np.isnan(value):
                        found.setdefault((i, column, register), []).append(value)
    return {key: float(np.mean(values)) for key, values in found.items()}


def _suffers(
    panel: Panel, registers: list[str], f1: dict[tuple[int, str, str], float], lang: str, words: dict[str, str]
) -> list[dict[str, str]]:
    """Return per register its F1 trained on it and zero-shot; first those that lose most on the same texts."""
    rows = []
    for register in registers:
        own: dict[str, list[float]] = {}
        zero: dict[str, list[float]] = {}
        for i, row in enumerate(panel.rows):
            for column in panel.columns:
                value = f1.get((i, column, register))
                if value is None or panel.gold[column].get(register, 0) < metrics.MIN_TEXTS:
                    continue
                if column in row.train_langs:
                    own.setdefault(column, []).append(value)
                elif row.runs[0].is_zero_shot(column):
                    zero.setdefault(column, []).append(value)
        if not own or not zero:
            continue
        trained = float(np.mean([np.mean(values) for values in own.values()]))
        both = {c: (float(np.mean(own[c])), float(np.mean(zero[c]))) for c in own if c in zero}
        everywhere = {c: float(np.mean(values)) for c, values in zero.items()}
        loss_same = float(np.mean([z - o for o, z in both.values()])) if both else float("nan")
        loss = float(np.mean(list(everywhere.values()))) - trained
        rows.append(
            (
                (np.isnan(loss_same), loss if np.isnan(loss_same) else loss_same, loss),
                {
                    "register": register,
                    "name": label(REGISTERS, register, lang),
                    "trained": number(100 * trained, 1, lang),
                    "same": number(100 * float(np.mean([z for _, z in both.values()])), 1, lang) if both else "",
                    "loss_same": _signed(loss_same, lang) if both else "",
                    "lower_same": _k_of_m(sum(z < o for o, z in both.values()), len(both), words) if both else "",
                    "every": number(100 * float(np.mean(list(everywhere.values()))), 1, lang),
                    "loss": _signed(loss, lang),
                    "lower": _k_of_m(sum(z < trained for z in everywhere.values()), len(everywhere), words),
                },
            )
        )
    return [shown for _, shown in sorted(rows, key=lambda entry: entry[0])]


def _signed(value: float, lang: str) -> str:
    text = number(abs(100 * value), 1, lang)
    return f"{'−' if value < 0 else '+'}{text}"


def _k_of_m(k: int, m: int, words: dict[str, str]) -> str:
    return words["k of m"].format(k=k, m=m)


def _confused(panel: Panel, odd: dict[tuple[Path, str], str], lang: str, words: dict[str, str]) -> list[dict[str, Any]]:
    """Return the pairs of registers that are confused, in groups: in every language, in several, in one."""
    shares: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for column in panel.columns:
        found = [
            run.evaluations[column]
            for row in panel.rows
            for run in row.runs
            if column in run.evaluations and (run.folder, column) not in odd
        ]
        if not found:
            continue
        registers = found[0].registers
        mean = np.mean([evaluation.confusion for evaluation in found], axis=0)
        for i, gold in enumerate(registers):
            n = float(mean[i].sum())
            for j, predicted in enumerate(registers):
                if i != j and n >= metrics.MIN_TEXTS:
                    shares.setdefault((gold, predicted), {})[column] = float(mean[i, j]) / n, float(mean[i, j])
    groups: dict[str, list] = {"everywhere": [], "several languages": [], "one language": [], "only language": []}
    for (gold, predicted), of_langs in shares.items():
        where = {c: s for c, (s, n) in of_langs.items() if s >= CONFUSED and n >= CONFUSED_TEXTS}
        if not where:
            continue
        k, m = len(where), len(of_langs)
        group = (
            "only language" if m == 1 else "everywhere" if k == m else "one language" if k == 1 else "several languages"
        )
        mean_share = float(np.mean([share for share, _ in of_langs.values()]))
        ordered = sorted(where.items(), key=lambda entry: (-entry[1], entry[0]))
        groups[group].append(
            (
                (-k / m, -mean_share, gold, predicted),
                {
                    "gold": gold,
                    "predicted": predicted,
                    "names": f"{label(REGISTERS, gold, lang)} → {label(REGISTERS, predicted, lang)}",
                    "count": _k_of_m(k, m, words),
                    "share": number(100 * mean_share, 0, lang),
                    "where": ", ".join(f"{c} {number(100 * share, 0, lang)}" for c, share in ordered),
                },
            )
        )
    return [
        {"title": words[group], "pairs": [shown for _, shown in sorted(pairs, key=lambda entry: entry[0])]}
        for group, pairs in groups.items()
        if pairs
    ]


def _overview(
    panel: Panel, registers: list[str], f1: dict[tuple[int, str, str], float], lang: str
) -> list[dict[str, Any]]:
    """Return per register its F1 on each language, the mean over the trainings without the language."""
    rows = []
    for register in registers:
        cells: list[dict[str, Any]] = []
        for column in panel.columns:
            found = [
                f1[i, column, register]
                for i, row in enumerate(panel.rows)
                if (i, column, register) in f1 and row.runs[0].is_zero_shot(column)
            ]
            few = panel.gold[column].get(register, 0) < metrics.MIN_TEXTS
            mean = float(np.mean(found)) if found else float("nan")
            kind = "none" if not found else "few" if few else _shade(mean, SCALE_TOP)
            cells.append({"class": kind, "text": number(100 * mean, 1, lang) if found else ""})
        name = label(REGISTERS, register, lang)
        rows.append({"register": register, "name": "" if name == register else name, "cells": cells})
    return rows


def _f1_table(
    panel: Panel,
    register: str,
    f1: dict[tuple[int, str, str], float],
    lang: str,
    words: dict[str, str],
    names: dict[int, str],
) -> dict[str, Any]:
    """Return the table of a register's F1: rows training mixes, columns the languages that have gold texts of it."""
    columns = [column for column in panel.columns if panel.gold[column].get(register)]
    rows = []
    for i, row in enumerate(panel.rows):
        cells: list[dict[str, Any]] = []
        for column in columns:
            value = f1.get((i, column, register))
            few = panel.gold[column][register] < metrics.MIN_TEXTS
            if value is None:
                cells.append({"class": "none", "text": "", "href": ""})
                continue
            run = next(run for run in row.runs if column in run.evaluations)
            kinds = ["few" if few else _shade(value, SCALE_TOP), *(["own"] if column in row.train_langs else [])]
            cells.append(
                {
                    "class": " ".join(kinds),
                    "text": number(100 * value, 1, lang),
                    "href": f"#{names[id(run)]}/{column}",
                }
            )
        rows.append({"label": row.label, "cells": cells})
    name = label(REGISTERS, register, lang)
    return {
        "title": words["f1 of"].format(register=register if name == register else f"{register} ({name})"),
        "heads": [(column, panel.gold[column][register]) for column in columns],
        "rows": rows,
    }
