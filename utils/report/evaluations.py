"""The data that page.js makes the evaluations of."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils import metrics, runs
from utils.report.cautions import Cautions
from utils.report.colours import SHADES
from utils.report.comparisons import grid_data
from utils.scores.errors import Error
from utils.scores.labels import LANGUAGES, METRICS, REGISTERS, label
from utils.scores.panels import Panel
from utils.scores.results import EvaluatedRun, run_options

if TYPE_CHECKING:
    import pandas as pd


class _Strings:
    """Strings of the page's data, each kept once and told by its place."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def place(self, text: str) -> int:
        return self.places.setdefault(text, len(self.places))


def make_data(
    found: list[EvaluatedRun],
    eval_langs: list[str],
    scores: "pd.DataFrame",
    grids: list[list[Panel]],
    lang: str,
    words: dict[str, str],
    keys: dict[Path, str],
    cautions: Cautions,
    listed: dict[tuple[Path, str], list[Error] | None],
    texts: dict[str, dict[int, str]],
) -> dict[str, Any]:
    """Return what page.js makes the evaluations of; see the comments there."""
    strings = _Strings()
    sets: dict[tuple[str, ...], int] = {}
    signatures: dict[tuple[str, ...], int] = {}  # their keys
    files: dict[str, int] = {}
    bounds: dict[tuple[Path, str], list[list[int | None]]] = {}  # of the metrics, in their order
    for row in scores.itertuples():
        bounds.setdefault((row.run.folder, row.eval_lang), []).append([_tenths(row.low), _tenths(row.high)])
    of_runs = []
    for run in found:
        evaluations = {}
        for eval_lang in (name for name in eval_langs if name in run.evaluations):
            evaluation = run.evaluations[eval_lang]
            ids = {register: index for index, register in enumerate(evaluation.registers)}
            of_registers = metrics.register_scores(evaluation.confusion)
            of_errors = listed[run.folder, eval_lang]
            evaluations[eval_lang] = [
                sets.setdefault(tuple(evaluation.registers), len(sets)),
                evaluation.confusion.ravel().tolist(),
                [_tenths(evaluation.scores[name]) for name in metrics.METRICS],
                bounds[run.folder, eval_lang],
                [[_tenths(float(value)) for value in of_registers[name]] for name in ("precision", "recall", "f1")],
                signatures.setdefault(tuple(evaluation.signature), len(signatures)),
                [strings.place(_plain(value)) for value in evaluation.signature.values()],
                [
                    [strings.place(kind), strings.place(sentence)]
                    for kind, sentence in cautions.of_evaluations[run.folder, eval_lang]
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
                "key": keys[run.folder],
                "name": runs.one_line(str(run.path)),
                "base": runs.one_line(run.base_dir.name),
                "model": run.model_name,
                "mix": run.mix,
                "langs": list(run.train_langs),
                "train": run.record["corpus"]["train"],
                "epochs": [run.record.get("epochs"), run.record.get("best_epoch")],
                "seed": settings.get("seed"),
                "warnings": cautions.of_runs[run.folder],
                "command": f"python evaluate.py {run_options(run.record)} --overwrite --eval-lang ",  # of a language
                "evaluations": evaluations,
            }
        )
    trained_on = [name for run in found for name in run.train_langs]
    shown_registers = list(dict.fromkeys(register for registers in sets for register in registers))
    return {
        "lang": lang,
        "words": words,
        "languages": {name: label(LANGUAGES, name, lang) for name in [*eval_langs, *trained_on]},
        "registers": {register: label(REGISTERS, register, lang) for register in shown_registers},
        "metrics": [[name, label(METRICS, name, lang)] for name in metrics.METRICS],
        "sets": [list(registers) for registers in sets],
        "keys": [list(names) for names in signatures],
        "strings": list(strings.places),
        "shades": SHADES,
        "minTexts": metrics.MIN_TEXTS,
        "runs": of_runs,
        "grids": grid_data(grids, found, lang),
        "texts": [texts.get(sha, {}) for sha in files],
    }


def _tenths(score: float | None) -> int | None:
    """Return a score in [0, 1] in tenths of a hundredth, rounded as the tables round it; None: there is none."""
    return None if score is None or np.isnan(score) else round(float(f"{100 * score:.1f}") * 10)


def _plain(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return runs.one_line(text)
