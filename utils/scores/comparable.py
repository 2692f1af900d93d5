"""Which evaluations of a matrix can't be compared with the others in it.

In a column all must have read one test file, with the same registers; in a panel all must have read texts of one
length, at one numeric precision, with one version of torch and of transformers. What most have is taken as the rule
(of two as frequent, what the first row has); the others are odd: named, marked, and left out of means and bests.
"""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from utils.scores.results import Evaluation

OF_A_COLUMN = ("test_sha256", "registers")
OF_A_PANEL = ("max_length", "precision_used", "torch", "transformers")
SHOWN = 12  # characters of a value


def differences(evaluations: "pd.DataFrame", panel: Iterable[str]) -> "list[str]":
    """Return in what each evaluation differs from the others, "" where it does not.

    evaluations: a row per evaluation, as in results.all_scores. panel: the columns that are one within a panel.
    """
    told: list[list[str]] = [[] for _ in range(len(evaluations))]
    for key in (*OF_A_PANEL, *OF_A_COLUMN):
        values = evaluations["evaluation"].map(lambda found, key=key: _value(found, key))
        one = [*panel, "eval_lang"] if key in OF_A_COLUMN else [*panel]
        usual = values.groupby([evaluations[name] for name in one]).transform(_most)
        for differs, value, most in zip(told, values, usual, strict=True):
            if value != most:
                differs.append(f"{key} {value[:SHOWN]}, not {most[:SHOWN]}")
    return ["; ".join(differs) for differs in told]


def _value(evaluation: "Evaluation", key: str) -> str:
    return " ".join(evaluation.registers) if key == "registers" else str(evaluation.signature.get(key))


def _most(values: "pd.Series") -> str:
    """Return the most frequent value, of several the first."""
    return Counter(values).most_common(1)[0][0]
