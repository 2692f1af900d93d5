"""Read what finetune.py and evaluate.py wrote: the evaluated runs under one or several base dirs.

Nothing here needs torch, a model, or the corpus.
"""

import csv
import functools
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils import intervals, metrics
from utils.corpus_load import DISTR

log = logging.getLogger(__name__)


class Evaluation(NamedTuple):
    """A run's result on one language. confusion: counts, rows gold, columns predicted, in the registers' order."""

    eval_lang: str
    registers: list[str]
    confusion: np.ndarray
    scores: dict[str, float]
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
    def subfolder(self) -> str:
        """The folders between the base dir and the run's own, as `seed1`; "" if there are none."""
        path = self.folder.relative_to(self.base_dir).parent
        return "" if path == Path() else str(path)

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
        for record_file in sorted(base_dir.rglob("run.json")):
            folder = record_file.parent
            try:
                record = json.loads(record_file.read_text(encoding="utf-8"))
                run = EvaluatedRun(base_dir, folder, record["model_name"], tuple(record["train_langs"]), record, {})
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.error("%s: expected the record of a run, found %s: passed over", record_file, _reason(error))
                damaged += 1
                continue
            for path in sorted((folder / "eval").glob("[!.]*.json")):
                try:
                    run.evaluations[path.stem] = load_evaluation(folder, path.stem)
                except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
                    log.error(
                        "%s: expected the scores and counts of an evaluation, found %s: passed over",
                        path,
                        _reason(error),
                    )
                    damaged += 1
            if run.evaluations:
                found.append(run)
            else:
                log.warning("%s: not evaluated yet, passed over", folder)
    return sorted(found, key=_order), damaged


def load_evaluation(folder: Path, eval_lang: str) -> Evaluation:
    """Read the scores and counts of one language; ValueError if the scores do not follow from the counts."""
    scores = json.loads((folder / "eval" / f"{eval_lang}.json").read_text(encoding="utf-8"))
    counts = json.loads((folder / "cfm" / f"{eval_lang}.json").read_text(encoding="utf-8"))
    confusion = np.array(counts["counts"], dtype=np.int64)
    registers = counts["registers"]
    if confusion.shape != (len(registers), len(registers)) or (confusion < 0).any():
        raise ValueError(f"counts of shape {confusion.shape} for {len(registers)} registers")
    expected = metrics.all_metrics(confusion)
    if any(abs(scores["metrics"][name] - value) > 1e-9 for name, value in expected.items()):
        raise ValueError("scores that do not follow from the counts in cfm/")
    return Evaluation(eval_lang, registers, confusion, scores["metrics"], scores["signature"])


def load_predictions(folder: Path, eval_lang: str) -> list[dict[str, str]]:
    """Return the rows of predictions/LANG.tsv as dictionaries: row, gold, predicted, and a probability per register."""
    with open(folder / "predictions" / f"{eval_lang}.tsv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def majority_baseline(confusion: np.ndarray) -> np.ndarray:
    """Return the counts of a classifier that predicts the test set's largest gold register for every text."""
    counts = np.zeros_like(confusion)
    gold = confusion.sum(axis=1)
    counts[:, gold.argmax()] = gold
    return counts


def compare_runs(
    a: EvaluatedRun, b: EvaluatedRun, eval_lang: str, metric: str, n_resamples: int = 1000
) -> dict[str, float] | None:
    """Compare two runs by a paired bootstrap on their common test texts; None if they have none or can't be read."""
    if a.evaluations[eval_lang].signature["test_sha256"] != b.evaluations[eval_lang].signature["test_sha256"]:
        return None
    registers = tuple(a.evaluations[eval_lang].registers)
    try:
        (gold, predicted_a), (_, predicted_b) = (_label_ids(run.folder, eval_lang, registers) for run in (a, b))
    except (OSError, KeyError):
        return None
    return intervals.compare(gold, predicted_a, predicted_b, len(registers), metric, n_resamples=n_resamples)


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


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)
