"""Read all that finetune.py and evaluate.py wrote, as one DataFrame: a row per run, evaluation language and metric.

Figures, tables, page and comparisons are made from this frame only; nothing here needs torch, a model or the corpus.
Its columns:

    base_dir, folder, path    where the run is; path: its folder relative to the base dir
    subfolder, model, train_langs, training, weights    what was trained; training: the languages joined by "-"
    record                    run.json; its settings are the options and files that decide the weights
    eval_lang, own, n         own: the model, or its start model, was trained on this language
    zero_shot                 neither was, and no model was trained on distr, which may contain it
    registers, counts         confusion counts, rows gold, columns predicted, in the order of the registers
    signature, facts          what the scores depend on; all of eval/LANG.json
    metric, score, low, high  in [0, 1]; nan: too few texts
    not_comparable            how the evaluation differs from most of its matrix; "" if it does not

Evaluations of a matrix are comparable if they used the same test file and registers (within a column), were computed
in the same way (length, precision, versions), and if their models were trained with the same options. Within a cell,
which repeats one training with other seeds, the training files must be the same too. An evaluation is compared with the
most frequent value (of two that are equally frequent, with the first).
"""

import csv
import functools
import logging
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils import metrics, runs, uncertainty
from utils.corpus_load import CORPUS_PATH, DISTR, CorpusError, read_texts
from utils.labels import no_formula
from utils.options import LANGUAGE, MODEL_NAME, REGISTER, SUBFOLDER
from utils.runs import RunError

# the parts of run.json and eval/LANG.json that are read
RECORD = {
    "model_name": MODEL_NAME, "train_langs": [LANGUAGE], "start_langs": [LANGUAGE],
    "subfolder": re.compile(f"({SUBFOLDER.pattern})?"), "weights_sha256": str, "epochs": int, "best_epoch": int,
    "settings": {"seed": int, "max_length": int},
    "corpus": {
        "path": str, "train": {str: {str: int}}, "files": {str: str}, "languages": {str: str},
        "several_registers": [str],
    },
}  # fmt: skip
SCORES = {
    "eval_lang": str, "language": str, "registers": [REGISTER], "counts": [[int]], "metrics": {},
    "several_registers": [str], "over_max_length": float, "predictions_sha256": str,
    "signature": {"weights_sha256": str, "test_sha256": str, "max_length": int},
}  # fmt: skip

OF_A_COLUMN = ("test_sha256", "registers")  # of the signature, within a column
# of the signature, within a matrix
OF_A_MATRIX = ("max_length", "precision_used", "torch", "transformers", "scikit-learn")
NOT_COMPARED = {"seed", "train_langs", "model_name", "registers", "batch_size", "gradient_accumulation", "processes"}
BEGINNING = 200  # characters of a text shown in lists of errors

log = logging.getLogger(__name__)


# ---- reading ----


def read_results(base_dirs: Sequence[Path]) -> tuple[pd.DataFrame, int]:
    """Return all evaluations in the base dirs, and the number of damaged files, which are logged and left out.

    Order: subfolder, model, then single training languages, several, distr; base dirs in the order given. Runs that are
    not evaluated, copies of a run beside it, and a second place of the same training are also logged and left out.
    """
    rows, damaged = [], 0
    for number, base_dir in enumerate(base_dirs):
        if not os.path.isdir(base_dir):
            raise RunError(f"{runs.shown(base_dir)}: there is no such folder; name one that contains evaluated runs")
        records: dict[Path, dict[str, Any]] = {}
        for folder in _run_folders(base_dir, base_dirs):
            try:
                remedy = "it is left out; finetune.py --overwrite trains it again"
                records[folder] = runs.read_record(folder / "run.json", RECORD, remedy)
            except RunError as error:
                log.error("%s", error)
                damaged += 1
        # of several copies, the one in the folder that finetune.py would choose counts, else the first
        names = {folder: "-".join([record["model_name"], *record["train_langs"]]) for folder, record in records.items()}
        kept: dict[tuple[Path, str], Path] = {}
        for folder in sorted(records, key=lambda folder: (folder.name != names[folder], folder)):
            one = kept.setdefault((folder.parent, names[folder]), folder)
            if one != folder:
                text = (
                    "%s: left out: the same model and training languages as %s beside it; move or remove one of the two"
                )
                log.warning(text, runs.shown(folder), runs.shown(one))
        for folder in (folder for folder in records if folder in kept.values()):
            found, wrong = _read_run(base_dir, folder, records[folder])
            rows += [{"number": number, **row} for row in found]
            damaged += wrong
            if not found and not wrong:
                log.warning("%s: is not evaluated yet, and left out", runs.shown(folder))
    if not rows:
        return pd.DataFrame(), damaged

    frame = pd.DataFrame(rows)
    for _, same in frame.groupby(["subfolder", "model", "training"], sort=False):
        first = same.iloc[0]
        # pt br and pt-br would share a row
        for other in same[same["train_langs"] != first["train_langs"]].itertuples():
            raise RunError(
                f"{runs.shown(other.folder)}: was trained on {' '.join(other.train_langs)}, but "
                f"{runs.shown(first.folder)} on {' '.join(first['train_langs'])}; draw one base dir at a time"
            )
    frame["order"] = [(DISTR in langs, len(langs), langs) for langs in frame["train_langs"]]
    frame = frame.sort_values(["subfolder", "model", "order", "number", "eval_lang"], kind="stable", ignore_index=True)
    # a training counts once, even if it is in several base dirs
    training = ["subfolder", "model", "training", "weights", "eval_lang"]
    frame["first"] = frame.groupby(training, sort=False)["folder"].transform("first")
    for copy in frame[frame["first"] != frame["folder"]].drop_duplicates("folder").itertuples():
        log.warning("%s: has the same weights as %s, and counts once", runs.shown(copy.folder), runs.shown(copy.first))
    frame = frame.drop_duplicates(training, ignore_index=True).drop(columns=["number", "order", "first"])
    frame["not_comparable"] = differences(frame)
    frame = frame.explode(["metric", "score", "low", "high"])
    return frame.astype({"score": float, "low": float, "high": float}), damaged


def evaluations(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per evaluation: the one of its first metric."""
    return frame[~frame.index.duplicated()]


def _run_folders(base_dir: Path, base_dirs: Sequence[Path]) -> Iterator[Path]:
    """Yield the folders with a run.json in a base dir, also linked ones, except those that belong to another base dir.

    outputs/demo, from the made-up sample corpus, is read only if it is named.
    """
    apart = {path.resolve() for path in (*base_dirs, runs.ROOT / "outputs" / "demo")}
    for place, folders, files in os.walk(base_dir, followlinks=True):
        here = Path(place)
        # a link to a folder above would make an endless loop
        left_out = apart | {above.resolve() for above in (here, *here.parents) if above.is_relative_to(base_dir)}
        folders[:] = sorted(name for name in folders if (here / name).resolve() not in left_out)
        if "run.json" in files:
            yield here


def _read_run(base_dir: Path, folder: Path, record: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of a run, and the number of its damaged files, which are logged."""
    path, rows, damaged = folder.relative_to(base_dir), [], 0
    for file in sorted((folder / "eval").glob("[!.]*.json")):
        try:
            facts = load_evaluation(folder, file.stem, record)
        except RunError as error:
            if file.is_file():  # otherwise it is being evaluated again at this moment
                log.error("%s", error)
                damaged += 1
            continue
        counts = np.array(facts["counts"], dtype=np.int64)
        bounds = [uncertainty.intervals(counts[None], metric) for metric in metrics.METRICS]
        # the languages of the start model count too, and distr may contain any language
        trained_on = {*record["train_langs"], *record["start_langs"]}
        rows.append({
            "base_dir": base_dir, "folder": folder, "path": runs.one_line(str(path)),
            "subfolder": "" if path.parent == Path() else runs.one_line(str(path.parent)),
            "model": record["model_name"], "train_langs": tuple(record["train_langs"]),
            "training": "-".join(record["train_langs"]), "weights": record["weights_sha256"], "record": record,
            "eval_lang": file.stem, "zero_shot": not {file.stem, DISTR} & trained_on, "own": file.stem in trained_on,
            "n": int(counts.sum()), "registers": tuple(facts["registers"]), "counts": counts,
            "signature": facts["signature"], "facts": facts, "metric": list(metrics.METRICS),
            "score": [np.nan if score is None else score for score in facts["metrics"].values()],
            "low": [float(low[0]) for low, _ in bounds], "high": [float(high[0]) for _, high in bounds],
        })  # fmt: skip
    return rows, damaged


def load_evaluation(folder: Path, eval_lang: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return eval/LANG.json; RunError, with the remedy, if it belongs to another language or model.

    Its scores must agree with its counts, and predictions/LANG.tsv must be the file it was written with, or missing.
    """
    run = runs.Run(folder.name, folder, folder)
    path, predictions = run.scores(eval_lang), run.predictions(eval_lang)
    remedy = f"to evaluate it again, type: {evaluate_command(record, [eval_lang])}"
    facts = runs.read_record(path, SCORES, remedy)
    counts, n = facts["counts"], len(set(facts["registers"]))
    wrong = ""
    if n < len(facts["registers"]) or [len(row) for row in counts] != [n] * n or not np.any(counts):
        wrong = f"its counts are not those of {n} registers"
    elif not LANGUAGE.fullmatch(eval_lang) or facts["eval_lang"] != eval_lang:
        wrong = f"contains the scores of another language than {eval_lang}"
    elif facts["signature"]["weights_sha256"] != record["weights_sha256"]:
        wrong = "contains the scores of another model than the one in run.json"
    else:
        scores, written = metrics.all_metrics(np.array(counts, dtype=np.int64)), facts["metrics"]
        for metric, score in scores.items():
            value = written.get(metric)
            is_number = score is not None and type(value) in (int, float)
            if abs(value - score) > 1e-9 if is_number else value is not score:
                wrong = f"{metric} does not agree with the counts"
        if predictions.is_file() and runs.sha256_of(predictions) != facts["predictions_sha256"]:
            path, wrong = predictions, f"is not the file that belongs to eval/{eval_lang}.json"
    if wrong:
        raise RunError(f"{runs.shown(path)}: {wrong}; {remedy}")
    return facts | {"metrics": scores}


def differences(frame: pd.DataFrame) -> list[str]:
    """Return how each evaluation differs from most of its matrix, "" if it does not; frame: a row per evaluation."""
    matrix, options = ["subfolder", "model"], []
    for settings in (record["settings"] for record in frame["record"]):
        # the texts of an update are one setting, however they are divided into batches and processes
        cut = [settings.get(name, 1) for name in ("batch_size", "gradient_accumulation", "processes")]
        batch = int(np.prod(cut)) if all(isinstance(size, int) for size in cut) else cut
        options.append({name: value for name, value in settings.items() if name not in NOT_COMPARED} | {"batch": batch})
    signatures, names = frame["signature"].tolist(), sorted({name for settings in options for name in settings})
    compared = [(name, signatures, [*matrix, "eval_lang"]) for name in OF_A_COLUMN]
    compared += [(name, signatures, matrix) for name in OF_A_MATRIX]
    compared += [(name, options, matrix) for name in names if not name.startswith("train/")]
    compared += [(name, options, [*matrix, "training"]) for name in names if name.startswith("train/")]
    found: list[list[str]] = [[] for _ in range(len(frame))]
    for name, content, groups in compared:
        # training files are compared within a cell, with the evaluations that do not differ otherwise
        rows = [i for i, one in enumerate(found) if not one or "training" not in groups]
        raw = [content[i].get(name) for i in rows]
        values = pd.Series([" ".join(map(str, v)) if isinstance(v, list) else str(v) for v in raw], dtype=object)
        of_groups = values.groupby([frame[group].iloc[rows].to_numpy() for group in groups])
        usual = of_groups.transform(lambda of: Counter(of).most_common(1)[0][0])
        for i, value, most in zip(rows, values, usual, strict=True):
            if value != most:
                found[i].append(runs.one_line(f"{name} {value[:12]}, not {most[:12]}"))
    return ["; ".join(one) for one in found]


# ---- predictions ----


def read_predictions(folder: Path, eval_lang: str) -> list[list[str]] | None:
    """Return the rows of predictions/LANG.tsv, header first: row, gold, predicted, probabilities; None if gone."""
    try:
        # pandas takes five times as long, and there may be hundreds of these files
        with open(runs.Run(folder.name, folder, folder).predictions(eval_lang), encoding="utf-8", newline="") as file:
            return list(csv.reader(file, delimiter="\t"))
    except OSError:
        return None


@functools.lru_cache(maxsize=4000)  # a run is compared with many others
def answers(folder: Path, eval_lang: str, registers: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return gold and predicted label ids of the test texts, in the file's order; None if the predictions are gone."""
    ids, rows = {register: index for index, register in enumerate(registers)}, read_predictions(folder, eval_lang)
    if rows is None:
        return None
    gold, predicted = np.array([(ids[gold], ids[predicted]) for _, gold, predicted, *_ in rows[1:]]).T
    return gold, predicted


def _answers_of(folders: Sequence[Path], *which: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return gold label ids, and predicted ones of several trainings; None if any predictions are gone."""
    present = [one for folder in folders if (one := answers(folder, *which)) is not None]
    if len(present) < len(folders):
        return np.array([]), None
    return present[0][0], np.array([predicted for _, predicted in present])


def compare(a: Sequence[Any], b: Sequence[Any], metric: str) -> dict[str, float] | None:
    """Compare two models on one language, each given by the rows of its trainings; see uncertainty.compare.

    None if their test files differ, or if predictions are gone.
    """
    if len({(row.signature["test_sha256"], row.registers) for row in (*a, *b)}) > 1:
        return None
    folders = (tuple(row.folder for row in side) for side in (a, b))
    return compare_trainings(*folders, metric, a[0].eval_lang, a[0].registers)


@functools.lru_cache(maxsize=200_000)  # matrices and page need the same comparisons
def compare_trainings(a: tuple[Path, ...], b: tuple[Path, ...], metric: str, *which: Any) -> dict[str, float] | None:
    gold, predicted = _answers_of(a + b, *which)
    if predicted is None:
        return None
    return uncertainty.compare(gold, predicted[: len(a)], predicted[len(a) :], len(which[1]), metric)


def interval_of_mean(columns: Sequence[Sequence[Any]], metric: str) -> tuple[float, float]:
    """Return the interval of a mean over trainings and languages; columns: per language, rows of the same trainings."""
    files = []
    for rows in columns:
        answered = _answers_of([row.folder for row in rows], rows[0].eval_lang, rows[0].registers)
        files.append((np.array([row.counts for row in rows]), *answered))
    return uncertainty.interval_of_mean(files, metric)


def read_errors(row: Any) -> pd.DataFrame | None:
    """Return the wrong predictions of an evaluation, the most confident first; None if they are gone.

    Columns: probability (of the predicted register), gold, predicted, row (in the test file, from 1).
    """
    if (rows := read_predictions(row.folder, row.eval_lang)) is None:
        return None
    column = {register: index for index, register in enumerate(rows[0][3:], start=3)}
    wrong = [(float(one[column[one[2]]]), one[1], one[2], int(one[0])) for one in rows[1:] if one[1] != one[2]]
    wrong.sort(key=lambda one: (-one[0], one[3]))
    return pd.DataFrame(wrong, columns=["probability", "gold", "predicted", "row"])


def write_errors(row: Any) -> None:
    """Write errors/LANG.tsv: probability, gold, predicted, row in the test file, beginning of the text.

    The text is empty if the corpus of the training, with the same test file, is not on this machine. A text that a
    spreadsheet would take for a formula gets an apostrophe. Writes nothing if the predictions are gone.
    """
    if (errors := read_errors(row)) is None:
        return
    texts = test_texts(row)
    errors["probability"] = errors["probability"].map("{:.4f}".format)
    errors["text"] = [no_formula(beginning(texts.get(number, ""))) for number in errors["row"]]
    runs.write_text(row.folder / "errors" / f"{row.eval_lang}.tsv", errors.to_csv(sep="\t", index=False))


def test_texts(row: Any) -> dict[int, str]:
    """Return row -> text of the test file of an evaluation, in its order.

    {} if the corpus is not on this machine, or its test file has changed.
    """
    return _test_texts(row.record["corpus"]["path"], row.eval_lang, row.signature["test_sha256"], row.registers)


@functools.lru_cache(maxsize=64)
def _test_texts(corpus: str, eval_lang: str, sha256: str, registers: tuple[str, ...]) -> dict[int, str]:
    try:
        texts = read_texts(Path(corpus or os.devnull), "test", eval_lang, registers)
    except CorpusError:
        return {}
    return dict(zip(texts["row"], texts["text"], strict=True)) if texts.attrs["sha256"] == sha256 else {}


def beginning(text: str) -> str:
    """Return the beginning of a text, on one line, as lists show it."""
    return " ".join(text.split())[:BEGINNING]


# ---- names and commands ----


def language_names(frame: pd.DataFrame) -> dict[str, str]:
    """Return language -> English name, from the corpora of these runs; languages without a name are left out."""
    names: dict[str, str] = {}
    for row in evaluations(frame).itertuples():
        found = row.record["corpus"]["languages"] | {row.eval_lang: row.facts["language"]}
        names |= {code: name for code, name in found.items() if name}
    return names


def evaluate_command(record: dict[str, Any], eval_langs: Sequence[str]) -> str:
    """Return the command, to be typed in the current folder, that evaluates a run on these languages.

    Names the corpus of the training unless it is CORPUS_PATH, or not on this machine.
    """
    corpus = record["corpus"]["path"]
    is_usual = os.path.realpath(corpus) == os.path.realpath(runs.ROOT / CORPUS_PATH)
    words = ["python", runs.shown_from_here(runs.ROOT / "evaluate.py"), "--model-name", record["model_name"]]
    words += ["--train-langs", *record["train_langs"]]
    words += ["--subfolder", record["subfolder"]] if record["subfolder"] else []
    words += ["--eval-lang", *map(runs.one_line, eval_langs)]
    words += [] if is_usual or not os.path.isdir(corpus) else ["--corpus-path", runs.shown_from_here(corpus)]
    return shlex.join(words)


def missing_commands(frame: pd.DataFrame, eval_langs: Sequence[str]) -> list[str]:
    """Return the commands that make missing evaluations.

    A language is missing if another run is evaluated on it, and the corpus of this run has the same test file.
    """
    rows = evaluations(frame)
    tests = {(r.eval_lang, r.signature["test_sha256"], r.record["corpus"]["path"]) for r in rows.itertuples()}
    commands = []
    for _, of_run in rows.groupby("folder", sort=False):
        record = of_run["record"].iloc[0]
        own, path = record["corpus"]["files"], record["corpus"]["path"]
        asked = {lang for lang, sha256, other in tests if other == path or own.get(f"test/{lang}.tsv") == sha256}
        if gaps := [lang for lang in eval_langs if lang in asked - set(of_run["eval_lang"])]:
            commands.append(evaluate_command(record, gaps))
    return list(dict.fromkeys(commands))
