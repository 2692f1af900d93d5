"""Which evaluations of a matrix can't be compared with the others in it.

In a column all must have read one test file, with the same registers; in a panel all must have read texts of one
length, at one numeric precision, with one version of torch and of transformers. What most have is taken as the rule
(of two as frequent, what the first row has); the others are odd: named, marked, and left out of means and bests.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from utils.scores.results import EvaluatedRun

OF_A_COLUMN = ("test_sha256", "registers")
OF_A_PANEL = ("max_length", "precision_used", "torch", "transformers")
SHOWN = 12  # characters of a value


def odd_evaluations(runs: list[EvaluatedRun], eval_langs: list[str]) -> dict[tuple[Path, str], str]:
    """Return (run's folder, language) -> in what the evaluation differs, of those that do; the runs are one panel's."""
    values = {
        (run.folder, lang): {key: str(run.evaluations[lang].signature.get(key)) for key in OF_A_PANEL}
        | {"test_sha256": str(run.evaluations[lang].signature["test_sha256"])}
        | {"registers": " ".join(run.evaluations[lang].registers)}
        for run in runs
        for lang in eval_langs
        if lang in run.evaluations
    }
    rule = {key: _most(found[key] for found in values.values()) for key in OF_A_PANEL}
    odd = {}
    for lang in eval_langs:
        column = {place: found for place, found in values.items() if place[1] == lang}
        rule_here = rule | {key: _most(found[key] for found in column.values()) for key in OF_A_COLUMN}
        for place, found in column.items():
            differs = [
                f"{key} {found[key][:SHOWN]}, not {usual[:SHOWN]}"
                for key, usual in rule_here.items()
                if found[key] != usual
            ]
            if differs:
                odd[place] = "; ".join(differs)
    return odd


def _most(values: Iterable[str]) -> str:
    """Return the most frequent value, of several the first; "" of none."""
    return next((value for value, _ in Counter(values).most_common(1)), "")
