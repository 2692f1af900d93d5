"""Write report.html: one page from the matrices to the evaluations behind them, and to their errors.

It is made from the same frame and matrices as figures and tables, so it shows the same scores and verdicts. It is plain
HTML: an evaluation is displayed when a link leads to it (CSS :target), and such a link can be sent. The page loads
nothing, and its own policy forbids it: only its style and script are allowed, by their hashes. Jinja escapes names and
texts; links are percent-encoded. The same input gives the same bytes.
"""

import base64
import functools
import hashlib
import itertools
import os
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd
from matplotlib import colormaps

from utils import labels, metrics, results, runs, tables
from utils.corpus_load import DISTR
from utils.runs import RunError

MOST_EVALUATIONS = 1_000  # with more, the page contains only matrices and registers
MOST_BYTES = 9_900_000  # if the page is larger, it gets fewer texts, then fewer errors
COMPARE_ALL = 20  # with up to so many rows, all of them are compared with each other
FEW_TEXTS = 100  # of a test file
PLACES = 8  # named in a sentence
CONFUSED, CONFUSED_TEXTS = 0.1, 3  # share of a register's texts, and texts, predicted as another: they are confused
SHADES, DARKEST = 25, 1.2  # number of colours, and the score of the darkest one
GRAVE, SLIGHT = ("constant", "no better", "never", "incomparable", "changed"), ("few texts", "few")  # warnings
MOST_SUSPECTS, MOST_WORDS = 10, 8  # of a language, of a pair or register; all are in suspects/ and keywords/
PARTS = ("scores", "comparison", "matrix", "registers", "languages", "decides", "errors")  # of an evaluation

Errors = dict[tuple[str, str], list[tuple[str, str]]]  # (gold, predicted) -> row and probability, text's beginning


def say(key: str, lang: str, **values: object) -> str:
    """Return an entry of labels.WORDS with its places filled; in French, with no-break spaces before punctuation."""
    text = labels.word(key, lang, **values)
    return re.sub(" (?=[:;?!%])", "\u00a0", text) if lang == "fr" else text


def write_report(
    path: Path, frame: pd.DataFrame, matrices: list[tables.Matrix], names: dict[str, str], lang: str, n_texts: int,
    suspected: dict[str, pd.DataFrame], words: dict[int, pd.DataFrame],
) -> None:  # fmt: skip
    """Write the page; names: language -> English name; n_texts: errors of a pair of registers that show their text.

    suspected, words: what suspects.find and keywords.find return.
    """
    rows = results.evaluations(frame)
    fits = len(rows) <= MOST_EVALUATIONS
    place = os.path.commonpath([*rows["base_dir"]])
    anchors = {
        row.Index: "/".join(quote(runs.one_line(part), safe="") for part in row.folder.relative_to(place).parts)
        + f"/{row.eval_lang}"
        for row in (rows.itertuples() if fits else ())
    }
    macros = _macros(lang, names, anchors)
    warnings = {row.Index: _warnings(row, lang) for row in rows.itertuples()}
    scores: dict[int, dict[str, tuple[float, ...]]] = {}
    for index, metric, *score in frame[["metric", "score", "low", "high"]].itertuples():
        scores.setdefault(index, {})[metric] = tuple(score)

    # for each model: its matrices, what they say about registers, its evaluations
    models, articles, base_dirs = [], [], list(dict.fromkeys(rows["base_dir"]))
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
                row, finding, commands, warnings[row.Index], drawn, compared, scores,
                tables.register_scores([row]).to_dict("list"), of_runs[row.folder],
            )  # fmt: skip
            articles.append((row, html, _errors(row, n_texts, lang)))
    # warnings, grouped by their common words
    by_kind: dict[str, dict[str, list[Any]]] = {}
    for row in rows.itertuples():
        for _, sentence in warnings[row.Index]:
            common, _, differs = sentence.partition(":")
            by_kind.setdefault(common.strip(), {}).setdefault(differs.strip(), []).append(row)
    of_pairs = {row.Index: _words(words[row.Index]) for row in rows.itertuples() if row.Index in words}
    of_langs = {code: of_pairs[i] for i, code in reversed([*rows.loc[list(of_pairs), "eval_lang"].items()])}
    parts = ["matrices", "registers", "suspects", *["words"] * bool(of_langs), "warnings", "about"]
    overview = macros.overview(models, warnings, by_kind, suspected, dict(sorted(of_langs.items())))

    # fewer texts, and then fewer errors per pair of registers, until the page is small enough
    longest = max((len(pair) for _, _, errors in articles for pair in (errors or {}).values()), default=1)
    has_texts = any(text for _, _, errors in articles for pair in (errors or {}).values() for *_, text in pair)
    of_corpus = "no texts" if not n_texts else "texts" if has_texts else "no corpus"
    numbers = (rows["folder"].nunique(), rows["eval_lang"].nunique(), len(rows))
    k_errors, k_texts = longest, min(n_texts, longest)
    while True:
        if fits:
            of_errors = "all errors" if k_errors == longest else "fewer errors"
            about = [say(of_corpus, lang, k=k_texts, n=n_texts), say(of_errors, lang, k=k_errors)]
        else:
            command = "post_eval.py --tve-models " + rows["model"].iloc[0]
            about = [say("too many", lang, most=MOST_EVALUATIONS, command=command), say("no texts", lang)]
        about += [say("single words", lang)] if of_pairs else []
        evaluations = [
            html + macros.errors(row, errors, k_errors, k_texts, of_pairs.get(row.Index, {}))
            for row, html, errors in articles
        ]
        page = macros.page(numbers, overview, evaluations, about, parts).strip() + "\n"
        if len(page.encode()) <= MOST_BYTES or k_errors == 1:
            break
        k_errors, k_texts = (k_errors, k_texts // 2) if k_texts else (k_errors // 2, 0)
    runs.write_text(path, page)


def _macros(lang: str, names: dict[str, str], anchors: dict[int, str]) -> Any:
    """Return the macros of the template; names: language -> English name; anchors: evaluation -> its id in the page."""

    def number(value: float | None) -> str:
        return "–" if value is None or np.isnan(value) else labels.number(100 * value, 1, lang)

    def signed(value: float) -> str:
        return labels.signed(100 * value, 1, lang)

    def language(code: str, article: bool = False) -> str:
        """Return a language with its code; article: within a sentence, in French with le or l’."""
        name = labels.language(code, names, lang)
        if article and lang == "fr" and name != code:
            name = f"l’{name}" if name[0] in "aàâeéèêiîoôu" or name == "hébreu" else f"le {name}"
        return name if name == code else f"{name} ({code})"

    colours = (colormaps["Blues"](step / SHADES, bytes=True)[:3] for step in range(SHADES + 1))
    constants = ("COMPARE_ALL", "FEW_TEXTS", "GRAVE", "MOST_SUSPECTS", "PARTS", "PLACES", "SLIGHT")
    known = {name: globals()[name] for name in constants} | {
        "anchors": anchors,
        "baselines": lambda counts: metrics.all_metrics(tables.majority_baseline(counts)),
        "bounds": lambda of: "" if np.isnan(of[0]) else f" ({signed(of[0])} {say('to', lang)} {signed(of[1])})",
        "isnan": np.isnan,
        "lang": lang,
        "language": language,
        "link": lambda text: quote(text, safe=""),
        "metric": lambda name: labels.label(labels.METRICS, name, lang),
        "MIN_TEXTS": metrics.MIN_TEXTS,
        "number": number,
        "p_value": functools.partial(labels.p_value, lang=lang),
        # white text on dark blue, black on light blue
        "palette": "\n".join(
            f".b{step}{{background:rgb({r},{g},{b});color:{'#fff' if g < 120 else '#000'}}}"
            for step, (r, g, b) in enumerate(colours)
        ),
        "percent": lambda value: labels.number(100 * value, 0, lang),
        "plain_number": lambda value: labels.number(value, 2, lang),
        "plain": lambda value: runs.one_line(" ".join(map(str, value)) if isinstance(value, list) else str(value)),
        "range": lambda of: "" if np.isnan(of[0]) else f"{number(of[0])}–{number(of[1])}",
        "register": lambda name: " ".join(dict.fromkeys((name, labels.label(labels.REGISTERS, name, lang)))),
        "sha256": lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode(),
        "shade": lambda score, top=DARKEST: "none" if np.isnan(score) else f"b{round(score / top * SHADES)}",
        "signed": signed,
        "tables": tables,
        "w": functools.partial(say, lang=lang),
    }
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {name: function for name, function in known.items() if callable(function)}
    environment.globals |= known
    template = Path(__file__).with_suffix(".html.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).module


def _warnings(row: Any, lang: str) -> list[tuple[str, str]]:
    """Return the warnings about an evaluation, the most serious first: kind and sentence."""
    counts, corpus, test = row.counts, row.record["corpus"], row.signature["test_sha256"]
    gold, predicted = counts.sum(axis=1), counts.sum(axis=0)
    accuracy, baseline = (metrics.micro_f1(of) for of in (counts, tables.majority_baseline(counts)))

    def named(chosen: np.ndarray) -> str:
        return ", ".join(f"{r} ({n})" for r, n, is_in in zip(row.registers, gold, chosen, strict=True) if is_in)

    def places(found: list[str]) -> dict[str, Any]:
        return {"n": len(found), "names": ", ".join(runs.one_line(place) for place in found[:PLACES])}

    # a training that --patience stopped: at its planned end, the rate would be 0
    try:
        epochs = runs.read_record(row.folder / "train.json", [{"learning_rate": float}], "")
        rates = [epoch["learning_rate"] for epoch in epochs]
        n_epochs = len(rates) if rates and rates[-1] > 0.05 * max(rates) else 0
    except RunError:
        n_epochs = 0
    several, in_training = row.facts["several_registers"], corpus["several_registers"]
    over, length = row.facts["over_max_length"], row.signature["max_length"]
    tenths = {"score": labels.number(100 * accuracy, 1, lang), "baseline": labels.number(100 * baseline, 1, lang)}
    is_constant = (predicted > 0).sum() == 1
    never, few = (gold > 0) & (predicted == 0), (gold > 0) & (gold < metrics.MIN_TEXTS)
    # whether it applies, its kind, the values of its sentence
    found: list[tuple[Any, str, dict[str, Any]]] = [
        (is_constant, "constant", {"names": row.registers[predicted.argmax()]}),
        (accuracy <= baseline, "no better", tenths),
        (never.any() and not is_constant, "never", {"names": named(never)}),
        (row.not_comparable, "incomparable", {"what": row.not_comparable}),
        (corpus["files"].get(f"test/{row.eval_lang}.tsv", test) != test, "changed", {}),
        (row.record.get("beats_largest_register") is False, "learnt", {}),
        (n_epochs, "cut", {"n": n_epochs}),
        (several, "several", places(several)),
        (in_training, "several in training", places(in_training)),
        (over > 0.5, "long", {"share": round(100 * over), "length": length}),
        (row.n < FEW_TEXTS, "few texts", {"n": row.n}),
        (few.any(), "few", {"names": named(few)}),
    ]
    return [(kind, say(kind, lang, **values)) for applies, kind, values in found if applies]


# ---- comparisons ----


def _ranked(cells: dict[tuple[str, str], Any], column: str) -> list[Any]:
    """Return the cells of a column that can be compared, the best first."""
    found = [c for (_, of), c in cells.items() if of == column and c.kind == "cell" and c.is_comparable is True]
    return sorted(found, key=lambda c: (c.best != "best", -c.score))


def _comparisons(matrix: tables.Matrix, cells: dict[tuple[str, str], Any]) -> dict[tuple[str, str, str], dict]:
    """Return (column, row, other row) -> the row minus the other, and the verdict behind the marks of the matrix."""
    # all pairs of a column, or with many rows the best against each other one
    compared = {}
    for column in matrix.columns:
        ranked = _ranked(cells, column)
        for a, b in itertools.combinations(ranked, 2):
            if len(ranked) > COMPARE_ALL and a is not ranked[0]:
                break
            one = results.compare(a.rows, b.rows, matrix.metric)
            apart = tables.differ(one, a._asdict(), b._asdict(), len(ranked) - 1)
            if one is None:
                verdict = "gone more" if apart else "gone"
                one = dict.fromkeys(("low", "high", "p"), np.nan) | {"difference": a.score - b.score, "trainings": 1}
            elif one["same"]:
                verdict = "same"
            else:
                chance = "chance of many" if one["p"] < 0.05 else "chance"
                verdict = "few to compare" if np.isnan(one["p"]) else "more" if apart else chance
            shown: dict[str, Any] = one | {
                "verdict": verdict,
                "alone": not one["trainings"] and len(a.rows) + len(b.rows) > 2,
            }
            compared[column, a.row, b.row] = shown
            minus = {"difference": -one["difference"], "low": -one["high"], "high": -one["low"]}
            compared[column, b.row, a.row] = shown | minus
    return compared


def _finding(row: Any, drawn: list, compared: list, base_dirs: list[Path], lang: str) -> tuple[str, list[str]]:
    """Return the result of an evaluation in a sentence, and the commands that repeat it."""
    length = row.signature["max_length"]
    commands = [results.evaluate_command(row.record, [row.eval_lang]) + " --overwrite"]
    if length != row.record["settings"]["max_length"]:
        commands[0] += f" --max-length {length}"
    # of the first metric for which there are enough texts
    has_score = [not np.isnan(cells[row.training, row.eval_lang].score) for _, cells in drawn]
    if not any(has_score):
        return say("too few texts", lang), commands
    (matrix, cells), of_matrix = drawn[has_score.index(True)], compared[has_score.index(True)]
    own, ranked = cells[row.training, row.eval_lang], _ranked(cells, row.eval_lang)
    others = [cell for cell in ranked if cell is not own]
    if row.Index not in [one.Index for one in own.rows] or own not in ranked:
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
        script, *dirs = (runs.shown_from_here(path) for path in (runs.ROOT / "post_eval.py", *base_dirs))
        paths = ["--compare", row.path, others[0].rows[0].path]
        commands.append(shlex.join(["python", script, "--base-dir", *dirs, *paths]))
    score = labels.number(100 * own.score, 1, lang) + (f" ({say('mean', lang, n=int(own.n))})" if own.n > 1 else "")
    baseline = labels.number(100 * cells[tables.BASELINE, row.eval_lang].score, 1, lang)
    metric = labels.label(labels.METRICS, matrix.metric, lang)
    return say("finding", lang, score=score, relation=relation, baseline=baseline, metric=metric), commands


# ---- registers and errors ----


def _registers(matrix: tables.Matrix, rows: pd.DataFrame) -> dict[str, Any]:
    """Return what the evaluations of a model say about registers: which suffer in zero-shot, which are confused.

    A training counts once, as the mean of its seeds. Left out are evaluations that are not comparable, and those that
    say nothing about registers: no better than always predicting the most frequent one, or by a model that never
    predicts a register of ten texts.
    """
    # which evaluations say nothing
    rows = rows[rows["not_comparable"] == ""]
    is_void = np.array([not metrics.beats_largest_register(counts) for counts in rows["counts"]], dtype=bool)
    silent = set()
    for (folder, _), of_run in rows[~is_void].groupby(["folder", "registers"])["counts"]:
        counts = np.sum(of_run.tolist(), axis=0)
        if ((counts.sum(axis=1) >= metrics.MIN_TEXTS) & (counts.sum(axis=0) == 0)).any():
            silent.add(folder)
    is_out = is_void | rows["folder"].isin(silent).to_numpy()

    # for each register with ten texts: its F1 by training and language, and the share predicted as each other register
    f1: dict[str, dict[tuple[str, bool], list[float]]] = {}
    pairs: dict[tuple[str, str], dict[str, list[tuple[float, float, int]]]] = {}
    for (_, lang), seeds in rows[~is_out].groupby(["training", "eval_lang"], sort=False):
        first, counts = seeds.iloc[0], np.mean(seeds["counts"].tolist(), axis=0)
        scores = np.mean([metrics.register_scores(one)["f1"] for one in seeds["counts"]], axis=0)
        for i, register in enumerate(first["registers"]):
            if matrix.gold[lang].get(register, 0) < metrics.MIN_TEXTS:
                continue
            if first["own"] or DISTR not in first["train_langs"]:
                f1.setdefault(register, {}).setdefault((lang, first["zero_shot"]), []).append(scores[i])
            for j, other in enumerate(first["registers"]):
                if i != j:
                    share = (counts[i, j] / counts[i].sum(), counts[i, j], seeds.index[0])
                    pairs.setdefault((register, other), {}).setdefault(lang, []).append(share)

    # F1 with and without training on the language, averaged over the languages that have both
    suffers = []
    for register, of_langs in f1.items():
        both = [lang for lang in matrix.columns if {(lang, True), (lang, False)} <= of_langs.keys()]
        if both:
            zero, own = ([np.mean(of_langs[lang, kind]) for lang in both] for kind in (True, False))
            # rounded first, so that the difference agrees with the two means displayed
            trained, without = (round(float(np.mean(means)), 3) for means in (own, zero))
            lower = [lang for lang, a, b in zip(both, zero, own, strict=True) if a < b]
            suffers.append((without - trained, register, trained, without, lower, both))
    # pairs that are confused in at least one language, the most widespread first
    confused = []
    for (gold, predicted), of_pair in pairs.items():
        means = {lang: np.mean([share[:2] for share in shares], axis=0) for lang, shares in of_pair.items()}
        where = [
            (float(share), lang, max(of_pair[lang], key=lambda one: one[0])[2])
            for lang, (share, texts) in means.items()
            if share >= CONFUSED and texts >= CONFUSED_TEXTS
        ]
        if where:
            order = (-len(where) / len(means), -float(np.mean([share for share, _ in means.values()])))
            confused.append((*order, gold, predicted, len(means), sorted(where, reverse=True)))
    return {
        "suffers": sorted(suffers),
        "confused": sorted(confused),
        "has_pairs": bool(pairs),
        "left_out": list(rows[is_out].itertuples()),
    }


def _errors(row: Any, n_texts: int, lang: str) -> Errors | None:
    """Return the errors of an evaluation by pair of registers: frequent pairs first, then confident errors first.

    None if the predictions are gone.
    """
    errors, pairs = results.read_errors(row), Errors()
    if errors is None:
        return None
    texts = results.test_texts(row) if n_texts else {}
    for probability, gold, predicted, number in errors.itertuples(index=False):
        of_pair = pairs.setdefault((gold, predicted), [])
        text = results.beginning(texts.get(number, "")) if len(of_pair) < n_texts else ""
        of_pair.append((f"{number} ({labels.number(probability, 2, lang)})", runs.one_line(text)))
    return dict(sorted(pairs.items(), key=lambda pair: (-len(pair[1]), pair[0])))


def _words(words: pd.DataFrame) -> dict[tuple[str, str], list[tuple[str, int, int]]]:
    """Return (gold, predicted) -> first words with their two counts; predicted is "" for the words of a register."""
    found: dict[tuple[str, str], list[tuple[str, int, int]]] = {}
    for one in words.groupby(["gold", "predicted"], sort=False).head(MOST_WORDS).itertuples():
        found.setdefault((one.gold, one.predicted), []).append((one.word, one.count, one.count_other))
    return found
