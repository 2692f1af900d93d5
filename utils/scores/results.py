"""Read what finetune.py and evaluate.py wrote: the evaluated runs under one or several base dirs.

Nothing here needs torch, a model, or the corpus.
"""

import csv
import functools
import logging
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from utils import metrics, runs
from utils.corpus_load import CORPUS_PATH, DISTR
from utils.files import shapes
from utils.options import LANGUAGE, MODEL_NAME, REGISTER, SUBFOLDER
from utils.runs import RunError
from utils.scores import comparison, intervals

if TYPE_CHECKING:
    import pandas as pd

# what is read of run.json, cfm/LANG.json and eval/LANG.json
RECORD = {
    "model_name": MODEL_NAME,
    "train_langs": [LANGUAGE],
    "subfolder": re.compile(f"({SUBFOLDER.pattern})?"),
    "weights_sha256": str,
    "corpus": {"path": str, "train": {str: {str: int}}},
}
COUNTS = {"eval_lang": str, "registers": [REGISTER], "counts": [[int]]}
SCORES = {
    "eval_lang": str,
    "metrics": dict.fromkeys((name for name in metrics.METRICS if name != "macro_f1_10"), float),  # null if too few
    "sha256": {"predictions": str, "cfm": str},
    "signature": {"weights_sha256": str, "test_sha256": str},
}

NAMES = ["base_dir", "subfolder", "model", "train_langs", "eval_lang"]  # of a row of scores
VALUES = ["metric", "score", "low", "high"]

log = logging.getLogger(__name__)


class Evaluation(NamedTuple):
    """A run's result on one language. confusion: counts, rows gold, columns predicted, in the registers' order."""

    eval_lang: str
    registers: list[str]
    confusion: np.ndarray
    scores: dict[str, float | None]
    signature: dict[str, Any]

    @property
    def n(self) -> int:
        return int(self.confusion.sum())


class EvaluatedRun(NamedTuple):
    """A fine-tuned model with its evaluations, language -> evaluation. folder: where its files lie."""

    base_dir: Path
    folder: Path
    model_name: str
    train_langs: tuple[str, ...]
    record: dict[str, Any]
    evaluations: dict[str, Evaluation]

    @property
    def path(self) -> Path:
        """The run's folder within the base dir, as `seed1/xlmr-en`."""
        return self.folder.relative_to(self.base_dir)

    @property
    def subfolder(self) -> str:
        """The folders between the base dir and the run's own, as `seed1`; "" if there are none."""
        return "" if self.path.parent == Path() else runs.one_line(str(self.path.parent))

    @property
    def mix(self) -> str:
        return "-".join(self.train_langs)

    def is_zero_shot(self, eval_lang: str) -> bool:
        """Tell whether the language is none of the training ones; distr may hold any language."""
        return not {eval_lang, DISTR} & set(self.train_langs)


def find_runs(base_dirs: Iterable[Path]) -> tuple[list[EvaluatedRun], int]:
    """Return the evaluated runs, and the number of damaged files, which are named in the log and passed over.

    Order: subfolder, model, then single training languages, mixes, distr. A run without evaluations
    is passed over with a note.
    """
    found, damaged = [], 0
    for base_dir in base_dirs:
        if not os.path.isdir(base_dir):
            raise RunError(f"{runs.shown(base_dir)}: expected a folder of evaluated runs, found none")
        for record_file in sorted(base_dir.rglob("run.json")):
            folder = record_file.parent
            try:
                record = shapes.read_record(record_file, RECORD, "passed over; finetune.py --overwrite trains it anew")
            except RunError as error:
                log.error("%s", error)
                damaged += 1
                continue
            run = EvaluatedRun(base_dir, folder, record["model_name"], tuple(record["train_langs"]), record, {})
            for path in sorted((folder / "eval").glob("[!.]*.json")):
                try:
                    run.evaluations[path.stem] = load_evaluation(folder, path.stem, record)
                except RunError as error:
                    if path.is_file():  # else it is being evaluated anew just now
                        log.error("%s", error)
                        damaged += 1
            if run.evaluations:
                found.append(run)
            else:
                log.warning("%s: not evaluated yet, passed over", folder)
    check_mixes(found)
    return sorted(found, key=_order), damaged


def check_mixes(found: Iterable[EvaluatedRun]) -> None:
    """RunError if two lists of languages would be one row, as pt and br, and pt-br."""
    rows: dict[tuple[str, str, str], EvaluatedRun] = {}
    for run in found:
        other = rows.setdefault((run.subfolder, run.model_name, run.mix), run)
        if other.train_langs != run.train_langs:
            raise RunError(
                f"{runs.shown(run.folder)}: expected a run on {' '.join(other.train_langs)}, as in "
                f"{runs.shown(other.folder)}, found one on {' '.join(run.train_langs)}; draw one base dir at a time"
            )


def load_evaluation(folder: Path, eval_lang: str, record: dict[str, Any]) -> Evaluation:
    """Read the scores and counts of one language; RunError with the remedy if its files do not belong together.

    They do if they are of this language and of the model of the record (run.json), the scores follow from the counts,
    and the other files have the hashes that eval/LANG.json tells. Predictions may be gone.
    """
    run = runs.Run(folder.name, folder, folder)
    path = run.scores(eval_lang)
    remedy = f"to evaluate it again, type: {evaluate_command(record, [eval_lang])}"
    scores = shapes.read_record(path, SCORES, remedy)
    counts = shapes.read_record(run.confusions(eval_lang), COUNTS, remedy)
    registers, n = counts["registers"], len(counts["registers"])
    if len(set(registers)) < n or [len(row) for row in counts["counts"]] != [n] * n or not np.any(counts["counts"]):
        raise RunError(f"{runs.shown(run.confusions(eval_lang))}: expected counts for {n} registers; {remedy}")
    confusion = np.array(counts["counts"], dtype=np.int64)
    if not LANGUAGE.fullmatch(eval_lang) or {scores["eval_lang"], counts["eval_lang"]} != {eval_lang}:
        raise RunError(f"{runs.shown(path)}: expected the scores of {eval_lang}, found others; {remedy}")
    if scores["signature"]["weights_sha256"] != record["weights_sha256"]:
        raise RunError(f"{runs.shown(path)}: expected scores of the model in run.json, found another's; {remedy}")
    found = metrics.all_metrics(confusion)
    if any(_differ(scores["metrics"].get(name, value), value) for name, value in found.items()):
        raise RunError(
            f"{runs.shown(path)}: expected scores that follow from the counts in cfm/{eval_lang}.json, found others; "
            f"{remedy}"
        )
    for name, other in (("cfm", run.confusions(eval_lang)), ("predictions", run.predictions(eval_lang))):
        if other.is_file() and runs.sha256_of(other) != scores["sha256"][name]:
            raise RunError(
                f"{runs.shown(other)}: expected the file that eval/{eval_lang}.json tells of, by its hash, found "
                f"another one; {remedy}"
            )
    return Evaluation(eval_lang, registers, confusion, found, scores["signature"])


def _differ(told: Any, value: float | None) -> bool:
    """Tell whether a score as told is not the one that follows from the counts."""
    if value is None or type(told) not in (int, float):
        return told is not value
    return abs(told - value) > 1e-9


def run_options(record: dict[str, Any]) -> str:
    """Return the options that name a run, to be typed; record: what is in its run.json."""
    subfolder = f" --subfolder {record['subfolder']}" if record["subfolder"] else ""
    return f"--model-name {record['model_name']} --train-langs {' '.join(record['train_langs'])}{subfolder}"


def evaluate_command(record: dict[str, Any], eval_langs: list[str]) -> str:
    """Return the command that evaluates a run on these languages, to be typed here.

    The corpus of the training is named, unless it is the one of CORPUS_PATH, or is not on this machine.
    """
    langs = " ".join(shlex.quote(runs.one_line(lang)) for lang in eval_langs)
    path = record["corpus"]["path"]
    is_usual = os.path.realpath(path) == os.path.realpath(runs.ROOT / CORPUS_PATH)
    corpus = "" if is_usual or not os.path.isdir(path) else f" --corpus-path {shlex.quote(runs.shown_from_here(path))}"
    script = shlex.quote(runs.shown_from_here(runs.ROOT / "evaluate.py"))
    return f"python {script} {run_options(record)} --eval-lang {langs}{corpus}"


def all_scores(
    run_list: list[EvaluatedRun], eval_langs: list[str], panel: Iterable[str] = ("subfolder", "model")
) -> "pd.DataFrame":
    """Return a row per run, evaluation language and metric, in this order; the index numbers the evaluations.

    run, evaluation: these objects. zero_shot: 0 or 1. score, low, high: the metric and its 95 % interval, in [0, 1],
    nan where there is none. not_comparable: in what the evaluation differs from the others of its column or panel;
    panel: what is one within a panel.
    """
    import pandas as pd  # here, for it takes half a second: what is finished is skipped in less

    from utils.scores import comparable

    rows = []
    for run in run_list:
        names = (runs.one_line(run.base_dir.name), run.subfolder, run.model_name, run.mix)
        for found in (run.evaluations[lang] for lang in eval_langs if lang in run.evaluations):
            bounds = zip(*intervals.intervals(found.confusion).values(), strict=True)
            values = (list(metrics.METRICS), list(found.scores.values()), *map(list, bounds))
            rows.append((run, found, *names, found.eval_lang, int(run.is_zero_shot(found.eval_lang)), found.n, *values))
    scores = pd.DataFrame(rows, columns=["run", "evaluation", *NAMES, "zero_shot", "n", *VALUES])
    scores["not_comparable"] = comparable.differences(scores, panel)
    return scores.explode(VALUES).astype(dict.fromkeys(VALUES[1:], float))


def evaluations_of(scores: "pd.DataFrame") -> "pd.DataFrame":
    """Return one row per evaluation of all_scores."""
    return scores[~scores.index.duplicated()]


def load_predictions(folder: Path, eval_lang: str) -> list[dict[str, str]]:
    """Return the rows of predictions/LANG.tsv as dictionaries: row, gold, predicted, and a probability per register.

    With csv: with pandas, a list of errors takes 10 ms instead of 2, and a grid has 800.
    """
    with open(folder / "predictions" / f"{eval_lang}.tsv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def majority_baseline(confusion: np.ndarray) -> np.ndarray:
    """Return the counts of a classifier that predicts the test set's largest gold register for every text."""
    counts = np.zeros_like(confusion)
    gold = confusion.sum(axis=1)
    counts[:, gold.argmax()] = gold
    return counts


def compare_runs(
    a: list[EvaluatedRun], b: list[EvaluatedRun], eval_lang: str, metric: str, n_exchanges: int = 10_000
) -> dict[str, float] | None:
    """Compare two models, each of one training or several, on their common test texts, by comparison.compare.

    None if they have none, or if predictions can't be read. nan where there are too few texts.
    """
    evaluations = [run.evaluations[eval_lang] for run in [*a, *b]]
    if len({(found.signature["test_sha256"], *found.registers) for found in evaluations}) > 1:
        return None
    folders_a, folders_b = (tuple(run.folder for run in side) for side in (a, b))
    return _compare(folders_a, folders_b, eval_lang, tuple(evaluations[0].registers), metric, n_exchanges)


@functools.lru_cache(maxsize=50_000)  # tables and report.html show the same comparisons
def _compare(
    a: tuple[Path, ...], b: tuple[Path, ...], eval_lang: str, registers: tuple[str, ...], metric: str, n_exchanges: int
) -> dict[str, float] | None:
    try:
        ids = [[_label_ids(folder, eval_lang, registers) for folder in side] for side in (a, b)]
    except (OSError, KeyError):
        return None
    answers_a, answers_b = (np.array([found for _, found in side]) for side in ids)
    return comparison.compare(ids[0][0][0], answers_a, answers_b, len(registers), metric, n_exchanges=n_exchanges)


def correlation_of_trainings(same: list[EvaluatedRun], eval_lang: str, metric: str) -> float:
    """Return intervals.correlation of several trainings on a language; 1, the safe side, without predictions."""
    registers = tuple(same[0].evaluations[eval_lang].registers)
    try:
        ids = [_label_ids(run.folder, eval_lang, registers) for run in same]
    except (OSError, KeyError):
        return 1.0
    return intervals.correlation(ids[0][0], np.array([found for _, found in ids]), len(registers), metric)


@functools.lru_cache(maxsize=1000)  # a full grid compares each run's predictions with many others'
def _label_ids(folder: Path, eval_lang: str, registers: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    ids = {register: index for index, register in enumerate(registers)}
    rows = load_predictions(folder, eval_lang)
    return np.array([ids[row["gold"]] for row in rows]), np.array([ids[row["predicted"]] for row in rows])


def languages(run_list: Iterable[EvaluatedRun]) -> list[str]:
    """Return the evaluation languages of the runs, in alphabetical order."""
    return sorted({lang for run in run_list for lang in run.evaluations})


def _order(run: EvaluatedRun) -> tuple:
    return (
        run.subfolder,
        run.model_name,
        DISTR in run.train_langs,
        len(run.train_langs),
        run.train_langs,
        str(run.base_dir),
    )
