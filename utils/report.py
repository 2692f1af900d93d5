"""Write report.html: one page from the matrices to the evaluations behind them, and to their errors.

It is made of the same frame and matrices as figures and tables, and prints the same scores and verdicts. All of it is
HTML: an evaluation is displayed where a link leads to it or into it (CSS :target), and such a link can be sent. Nothing
is loaded from elsewhere, and a policy in the page forbids it: its style and its script are allowed by their hashes.
Jinja escapes names and texts; links are percent-encoded. The same input gives the same bytes.
"""

import base64
import functools
import hashlib
import itertools
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd
from matplotlib import colormaps

from utils import labels, metrics, results, runs, tables
from utils.corpus_load import DISTR

MOST_EVALUATIONS = 1_000  # in a page; beyond, it holds matrices and registers alone
MOST_BYTES = 9_900_000  # of a page: errors take what the rest leaves
BYTES_OF_PAIR, BYTES_OF_ERROR, BYTES_OF_TEXT = 55, 12, 40  # of registers, about; without the text itself
COMPARE_ALL = 20  # rows of a column that are all compared with each other
FEW_TEXTS = 100  # of a test file
PLACES = 8  # named in a sentence
CONFUSED, CONFUSED_TEXTS = 0.1, 3  # share of a register's texts, and texts, predicted as another: they are confused
SHADES, DARKEST = 25, 1.2  # of the figures' palette, and the score that its darkest colour would have
GRAVE, SLIGHT = ("constant", "no better", "never", "incomparable", "changed"), ("few texts", "few")  # warnings
PARTS = ("scores", "comparison", "matrix", "registers", "languages", "decides", "errors")  # of an evaluation
WORDS = labels.WORDS | labels.PAGE
UNBROKEN = {key: re.sub(" (?=[:;?!%])", "\u00a0", french) for key, (_, french) in WORDS.items()}
TEMPLATE = Path(__file__).with_suffix(".html.jinja")


def say(key: str, lang: str, **values: object) -> str:
    """Return what the page says, its places filled; in French no line begins with a punctuation mark."""
    return (UNBROKEN[key] if lang == "fr" else WORDS[key][0]).format(**values)


def write_report(path: Path, frame: pd.DataFrame, matrices: list[tables.Matrix], lang: str, n_texts: int) -> None:
    """Write the page; n_texts: of each pair of registers in an evaluation, the errors with their text's beginning."""
    rows = results.evaluations(frame)
    fits = len(rows) <= MOST_EVALUATIONS
    place = os.path.commonpath([*rows["base_dir"]])
    anchors = {
        row.Index: "/".join(quote(runs.one_line(part), safe="") for part in row.folder.relative_to(place).parts)
        + f"/{row.eval_lang}"
        for row in (rows.itertuples() if fits else ())
    }
    macros = _macros(lang, results.language_names(frame), anchors)
    warnings = {row.Index: _warnings(row, lang) for row in rows.itertuples()}
    columns = (frame[name] for name in ("metric", "score", "low", "high"))
    scores: dict[int, dict[str, tuple[float, ...]]] = {}
    for index, metric, *score in zip(frame.index, *columns, strict=True):
        scores.setdefault(index, {})[metric] = tuple(score)

    # one model after the other: its matrices, what they say of the registers, its evaluations
    models, articles, base_dirs = [], [], list(dict.fromkeys(rows["base_dir"]))
    per_register = tables.register_scores(rows).to_dict("index") if fits else {}
    for name, group in itertools.groupby(matrices, lambda matrix: matrix.name):
        drawn = [(matrix, {(c.row, c.column): c for c in matrix.cells.itertuples()}) for matrix in group]
        first = drawn[0][0]
        of_model = rows[(rows["subfolder"] == first.subfolder) & (rows["model"] == first.model)]
        models.append((name, drawn, _registers(first, of_model)))
        compared = [_comparisons(*one) for one in drawn] if fits else []
        of_runs = {folder: list(found.itertuples()) for folder, found in of_model.groupby("folder")}
        for row in of_model.itertuples() if fits else ():
            finding, commands = _finding(row, drawn, compared, base_dirs, lang)
            html = macros.evaluation(
                row, finding, commands, warnings[row.Index], drawn, compared, scores, per_register[row.Index],
                of_runs[row.folder],
            )  # fmt: skip
            articles.append((row, html, _errors(row, n_texts)))
    # warnings by what many evaluations have in common, then by what differs
    by_kind: dict[str, dict[str, list[Any]]] = {}
    for row in rows.itertuples():
        for _, sentence in warnings[row.Index]:
            common, _, differs = sentence.partition(":")
            by_kind.setdefault(common.strip(), {}).setdefault(differs.strip(), []).append(row)
    overview = macros.overview(models, warnings, by_kind)

    # the errors, and then texts, take what is left of the page: of each pair of registers the most confident ones
    sizes, of_texts = Counter[int](), Counter[int]()
    for _, _, errors in articles:
        sizes[0] += BYTES_OF_PAIR * len(errors or {})
        for rank, (_, _, text) in itertools.chain.from_iterable(map(enumerate, (errors or {}).values())):
            sizes[rank] += BYTES_OF_ERROR
            of_texts[rank] += (len(text.encode()) + BYTES_OF_TEXT) * bool(text)
    room = MOST_BYTES - len(overview.encode()) - sum(len(html.encode()) for _, html, _ in articles)
    totals = [total for total in itertools.accumulate(sizes[rank] for rank in range(len(sizes))) if total <= room]
    room -= totals[-1] if totals else 0
    most_errors = max(len(totals), 1)
    most_texts = sum(total <= room for total in itertools.accumulate(of_texts[rank] for rank in range(most_errors)))
    if not fits:
        command = "post_eval.py --tve-models " + rows["model"].iloc[0]
        about = [say("too many", lang, most=MOST_EVALUATIONS, command=command), say("no texts", lang)]
    else:
        of_corpus = "no texts" if not n_texts else "texts" if of_texts.total() else "no corpus"
        of_errors = "all errors" if most_errors >= len(sizes) else "fewer errors"
        about = [say(of_corpus, lang, k=min(most_texts, n_texts), n=n_texts), say(of_errors, lang, k=most_errors)]
    evaluations = [html + macros.errors(row, errors, most_errors, most_texts) for row, html, errors in articles]
    numbers = (rows["folder"].nunique(), rows["eval_lang"].nunique(), len(rows))
    runs.write_text(path, macros.page(numbers, overview, evaluations, about).strip() + "\n")


def _macros(lang: str, names: dict[str, str], anchors: dict[int, str]) -> Any:
    """Return the template's macros; names: language -> English name; anchors: evaluation -> where it is in the page."""

    def number(value: float | None) -> str:
        return "–" if value is None or np.isnan(value) else labels.number(100 * value, 1, lang)

    def signed(value: float) -> str:
        return labels.signed(100 * value, 1, lang)

    def language(code: str, article: bool = False) -> str:
        """Return a language with its code; article: as it stands in a sentence, in French with le or l’."""
        name = labels.language(code, names, lang)
        if article and lang == "fr" and name != code:
            name = f"l’{name}" if name[0] in "aàâeéèêiîoôu" or name == "hébreu" else f"le {name}"
        return name if name == code else f"{name} ({code})"

    def most_confused(row: Any) -> list[tuple[int, str, str]]:
        pairs = [(-row.counts[i, j], i, j) for i, j in itertools.permutations(range(len(row.registers)), 2)]
        return [(-n, row.registers[i], row.registers[j]) for n, i, j in sorted(pairs)[:3] if n]

    colours = (colormaps["Blues"](step / SHADES, bytes=True)[:3] for step in range(SHADES + 1))
    known = {
        "anchors": anchors,
        "baselines": lambda counts: metrics.all_metrics(tables.majority_baseline(counts)),
        "bounds": lambda of: "" if np.isnan(of[0]) else f" ({signed(of[0])} {say('to', lang)} {signed(of[1])})",
        "isnan": np.isnan,
        "lang": lang,
        "language": language,
        "link": lambda text: quote(text, safe=""),
        "metric": lambda name: labels.label(labels.METRICS, name, lang),
        "most_confused": most_confused,
        "number": number,
        "p_value": functools.partial(labels.p_value, lang=lang),
        # on a blue of little green white is clearer, on a lighter one black
        "palette": "\n".join(
            f".b{step}{{background:rgb({r},{g},{b});color:{'#fff' if g < 120 else '#000'}}}"
            for step, (r, g, b) in enumerate(colours)
        ),
        "percent": lambda value: labels.number(100 * value, 0, lang),
        "plain": lambda value: runs.one_line(" ".join(map(str, value)) if isinstance(value, list) else str(value)),
        "probability": lambda value: labels.number(value, 2, lang),
        "range": lambda of: "" if np.isnan(of[0]) else f"{number(of[0])}–{number(of[1])}",
        "register": lambda name: " ".join(dict.fromkeys((name, labels.label(labels.REGISTERS, name, lang)))),
        "sha256": lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode(),
        "shade": lambda score, top=DARKEST: "none" if np.isnan(score) else f"b{round(score / top * SHADES)}",
        "signed": signed,
        "tables": tables,
        "w": functools.partial(say, lang=lang),
        **{name: globals()[name] for name in ("COMPARE_ALL", "FEW_TEXTS", "GRAVE", "PARTS", "PLACES", "SLIGHT")},
        "MIN_TEXTS": metrics.MIN_TEXTS,
    }
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {name: function for name, function in known.items() if callable(function)}
    environment.globals |= known
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).module


# ---- warnings ----


def _warnings(row: Any, lang: str) -> list[tuple[str, str]]:
    """Return what to mind of an evaluation, the gravest first: the kind of warning, and its sentence."""
    counts, corpus, test = row.counts, row.record["corpus"], row.signature["test_sha256"]
    gold, predicted = counts.sum(axis=1), counts.sum(axis=0)
    accuracy, baseline = (metrics.micro_f1(of) for of in (counts, tables.majority_baseline(counts)))

    def named(chosen: np.ndarray) -> str:
        return ", ".join(f"{r} ({n})" for r, n, is_in in zip(row.registers, gold, chosen, strict=True) if is_in)

    def places(found: list) -> dict[str, Any]:
        return {"n": len(found), "names": ", ".join(runs.one_line(str(place)) for place in found[:PLACES])}

    several, in_training = row.facts.get("several_registers"), corpus.get("several_registers")
    over, length = row.facts.get("over_max_length"), row.signature.get("max_length")
    tenths = {"score": labels.number(100 * accuracy, 1, lang), "baseline": labels.number(100 * baseline, 1, lang)}
    is_constant = (predicted > 0).sum() == 1
    never, few = (gold > 0) & (predicted == 0), (gold > 0) & (gold < metrics.MIN_TEXTS)
    found: list[tuple[Any, str, dict[str, Any]]] = [
        (is_constant, "constant", {"names": row.registers[predicted.argmax()]}),
        (accuracy <= baseline, "no better", tenths),
        (never.any() and not is_constant, "never", {"names": named(never)}),
        (row.not_comparable, "incomparable", {"what": row.not_comparable}),
        (corpus.get("files", {}).get(f"test/{row.eval_lang}.tsv", test) != test, "changed", {}),
        (row.record.get("beats_largest_register") is False, "learnt", {}),
        (n_epochs := _epochs_if_cut(row.folder), "cut", {"n": n_epochs}),
        (several, "several", places(several or [])),
        (in_training, "several in training", places(in_training or [])),
        (length and (over or 0) > 0.5, "long", {"share": round(100 * (over or 0)), "length": length}),
        (row.n < FEW_TEXTS, "few texts", {"n": row.n}),
        (few.any(), "few", {"names": named(few)}),
    ]
    return [(kind, say(kind, lang, **values)) for applies, kind, values in found if applies]


@functools.lru_cache(maxsize=1_000)
def _epochs_if_cut(folder: Path) -> int:
    """Return how many epochs a training had that was stopped before its planned end, when the rate is 0; else 0."""
    try:
        epochs = json.loads((folder / "train.json").read_text(encoding="utf-8"))
        rates = [epoch["learning_rate"] for epoch in epochs]
        return len(rates) if rates[-1] > 0.05 * max(rates) else 0
    except (OSError, ValueError, LookupError, TypeError):
        return 0


# ---- comparisons ----


def _ranked(cells: dict[tuple[str, str], Any], column: str) -> list[Any]:
    """Return the cells of a column that can be compared, the best first."""
    found = [c for (_, of), c in cells.items() if of == column and c.kind == "cell" and c.is_comparable is True]
    return sorted((c for c in found if not np.isnan(c.score)), key=lambda c: (c.best != "best", -c.score))


def _comparisons(matrix: tables.Matrix, cells: dict[tuple[str, str], Any]) -> dict[tuple[str, str, str], dict]:
    """Return (column, row, other row) -> the row minus the other, and the verdict by which the matrix marks them."""
    compared = {}
    for column in matrix.columns:
        ranked = _ranked(cells, column)
        sides = {cell.row: tuple(cell.rows["folder"]) for cell in ranked}
        which = (matrix.metric, column, ranked[0].rows["registers"].iloc[0]) if ranked else ()
        for a, b in itertools.combinations(ranked, 2):
            if len(ranked) > COMPARE_ALL and a is not ranked[0]:
                break
            one = results.compare_trainings(sides[a.row], sides[b.row], *which)
            apart = tables.told_apart(one, a._asdict(), b._asdict(), len(ranked) - 1)
            if one is None:
                verdict = "gone more" if apart else "gone"
                one = dict.fromkeys(("low", "high", "p"), np.nan) | {"difference": a.score - b.score, "trainings": 1}
            elif one["same"]:
                verdict = "same"
            else:
                chance = "chance of many" if one["p"] < 0.05 else "chance"
                verdict = "few to compare" if np.isnan(one["p"]) else "more" if apart else chance
            alone = not one["trainings"] and len(sides[a.row]) + len(sides[b.row]) > 2
            minus = {"difference": -one["difference"], "low": -one["high"], "high": -one["low"]}
            compared[column, a.row, b.row] = {**one, "verdict": verdict, "alone": alone}
            compared[column, b.row, a.row] = {**one, **minus, "verdict": verdict, "alone": alone}
    return compared


def _finding(row: Any, drawn: list, compared: list, base_dirs: list[Path], lang: str) -> tuple[str, list[str]]:
    """Return the sentence that says what an evaluation has found, and the commands that repeat it."""
    length = row.signature.get("max_length")
    commands = [results.evaluate_command(row.record, [row.eval_lang]) + " --overwrite"]
    if length != row.settings.get("max_length", length):
        commands[0] += f" --max-length {length}"
    # of the first metric that there are texts enough for
    has_score = [not np.isnan(cells[row.training, row.eval_lang].score) for _, cells in drawn]
    if not any(has_score):
        return say("too few texts", lang), commands
    (matrix, cells), of_matrix = drawn[has_score.index(True)], compared[has_score.index(True)]
    own, ranked = cells[row.training, row.eval_lang], _ranked(cells, row.eval_lang)
    others = [cell for cell in ranked if cell is not own]
    if row.Index not in own.rows.index or own not in ranked:
        relation = say("apart", lang)
    elif not others:
        relation = say("only", lang)
    else:
        pair = (own.row, others[0].row) if own is ranked[0] else (others[0].row, own.row)
        one = of_matrix[row.eval_lang, *pair]
        points, low, high = (labels.number(100 * one[name], 1, lang) for name in ("difference", "low", "high"))
        bounds = "" if np.isnan(one["low"]) else f" ({low} {say('to', lang)} {high})"
        key = "as" if one["verdict"] == "same" else "best" if own is ranked[0] else "worse"
        verdict = say(one["verdict"], lang) + (f", {say('texts alone', lang)}" if one["alone"] else "")
        values = {"other": others[0].row, "n": len(ranked), "points": points, "bounds": bounds, "verdict": verdict}
        relation = say(key, lang, **values)
        commands.append(results.compare_command(base_dirs, [row.path, others[0].rows["path"].iloc[0]]))
    return say(
        "finding",
        lang,
        score=labels.number(100 * own.score, 1, lang) + (f" ({say('mean', lang, n=int(own.n))})" if own.n > 1 else ""),
        relation=relation,
        baseline=labels.number(100 * cells[tables.BASELINE, row.eval_lang].score, 1, lang),
        metric=labels.label(labels.METRICS, matrix.metric, lang),
    ), commands


# ---- registers and errors ----


def _registers(matrix: tables.Matrix, rows: pd.DataFrame) -> dict[str, Any]:
    """Return what a model's evaluations say of the registers: which suffer from zero-shot, and which are confused.

    A training counts once, as the mean of its seeds. What can't be compared is left out, and evaluations that say
    nothing of the registers: no better than the most frequent one, or of a model that never predicts one of ten texts.
    """
    rows = rows[rows["not_comparable"] == ""]
    void = np.array([not metrics.beats_largest_register(counts) for counts in rows["counts"]], dtype=bool)
    silent = set()
    for folder, of_run in rows[~void].groupby(["folder", "registers"])["counts"]:
        counts = np.sum(of_run.tolist(), axis=0)
        if ((counts.sum(axis=1) >= metrics.MIN_TEXTS) & (counts.sum(axis=0) == 0)).any():
            silent.add(folder[0])
    is_out = void | rows["folder"].isin(silent).to_numpy()

    # of each cell that is left: training, language, F1 and counts by register, means over its seeds
    found = []
    for (training, column), seeds in rows[~is_out].groupby(["training", "eval_lang"], sort=False):
        first = seeds.iloc[0]
        kind = "zero" if first["zero_shot"] else "" if DISTR in first["train_langs"] else "own"
        f1 = np.mean([metrics.register_scores(counts)["f1"] for counts in seeds["counts"]], axis=0)
        counts = np.mean(seeds["counts"].tolist(), axis=0)
        found.append((training, column, kind, seeds.index[0], dict(zip(first["registers"], f1, strict=True)), counts))
    names = list(dict.fromkeys(name for registers in rows["registers"] for name in registers))
    enough = {(c, r) for c, gold in matrix.gold.items() for r, n in gold.items() if n >= metrics.MIN_TEXTS}

    def mean_f1(register: str, column: str, kind: str) -> float:
        values = [f1[register] for _, lang, of, _, f1, _ in found if lang == column and of == kind and register in f1]
        return float(np.mean(values)) if values else float("nan")

    suffers, overview = [], []
    for register in names:
        own, zero = ({c: mean_f1(register, c, kind) for c in matrix.columns} for kind in ("own", "zero"))
        overview.append((register, [(zero[c], (c, register) in enough) for c in matrix.columns]))
        both = [c for c in matrix.columns if (c, register) in enough and not np.isnan(own[c] + zero[c])]
        if both:
            # rounded first: the reader can subtract the two averages
            trained, without = (round(float(np.mean([of[c] for c in both])), 3) for of in (own, zero))
            lower = [c for c in both if zero[c] < own[c]]
            suffers.append((without - trained, register, trained, without, lower, both))

    pairs: dict[tuple[str, str], dict[str, tuple[float, float, int]]] = {}
    for column in matrix.columns:
        of_column = [one for one in found if one[1] == column]
        for (i, gold), (j, predicted) in itertools.permutations(enumerate(of_column[0][4]), 2) if of_column else ():
            if (column, gold) in enough:
                shares = [counts[i, j] / counts[i].sum() for *_, counts in of_column]
                texts = float(np.mean([counts[i, j] for *_, counts in of_column]))
                most = of_column[int(np.argmax(shares))][3]
                pairs.setdefault((gold, predicted), {})[column] = (float(np.mean(shares)), texts, most)
    confused = []
    for (gold, predicted), of_langs in pairs.items():
        where = [(share, column, most) for column, (share, texts, most) in of_langs.items()
                 if share >= CONFUSED and texts >= CONFUSED_TEXTS]  # fmt: skip
        if where:
            mean = float(np.mean([share for share, _, _ in of_langs.values()]))
            order = (-len(where) / len(of_langs), -mean)
            confused.append((*order, gold, predicted, len(of_langs), sorted(where, reverse=True)))
    return {
        "suffers": sorted(suffers),
        "confused": sorted(confused),
        "has_pairs": bool(pairs),
        "overview": overview,
        "left_out": list(rows[is_out].itertuples()),
    }


def _errors(row: Any, n_texts: int) -> dict[tuple[str, str], list[tuple[int, float, str]]] | None:
    """Return (gold, predicted) -> row, probability and text's beginning of each error, the most confident first.

    The most frequent pair comes first. None where the predictions are gone.
    """
    errors = results.read_errors(row)
    if errors is None:
        return None
    texts = results.test_texts(row) if n_texts else {}
    pairs: dict[tuple[str, str], list[tuple[int, float, str]]] = {}
    columns = (errors[name] for name in ("gold", "predicted", "row", "probability"))
    for gold, predicted, number, probability in zip(*columns, strict=True):
        of_pair = pairs.setdefault((gold, predicted), [])
        text = results.beginning(texts.get(number, "")) if len(of_pair) < n_texts else ""
        of_pair.append((number, probability, runs.one_line(text)))
    return dict(sorted(pairs.items(), key=lambda pair: (-len(pair[1]), pair[0])))
