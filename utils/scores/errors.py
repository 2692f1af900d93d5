"""List the wrong predictions of a run, the most confident first, for reading."""

import csv
import functools
import io
from pathlib import Path
from typing import NamedTuple

from utils import corpus_load, runs
from utils.scores.labels import no_formula
from utils.scores.results import EvaluatedRun, load_predictions

SHOWN = 200  # characters of a text


class Error(NamedTuple):
    """A wrong prediction. row: in the test file, from 1."""

    probability: float
    row: int
    gold: str
    predicted: str


def write_errors(run: EvaluatedRun, eval_lang: str) -> None:
    """Write errors/LANG.tsv: probability, gold, predicted, row in the test file, and the text's first characters.

    The texts come from the corpus of the training, if it is still there and the test file the same; else
    the column is left empty. A text that a spreadsheet would take for a formula gets an apostrophe before it.
    Nothing is written where the predictions are gone.
    """
    wrong = read_errors(run, eval_lang)
    if wrong is None:
        return
    texts = test_texts(run, eval_lang)
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t", lineterminator="\n")
    writer.writerow(["probability", "gold", "predicted", "row", "text"])
    for error in wrong:
        text = no_formula(beginning(texts.get(error.row, "")))
        writer.writerow([f"{error.probability:.4f}", error.gold, error.predicted, error.row, text])
    runs.write_text(run.folder / "errors" / f"{eval_lang}.tsv", table.getvalue())


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


def test_texts(run: EvaluatedRun, eval_lang: str) -> dict[int, str]:
    """Return row -> text of a run's test file, {} if the corpus is not at hand or the file is another one."""
    evaluation = run.evaluations[eval_lang]
    sha256 = evaluation.signature["test_sha256"]
    return _test_texts(run.record["corpus"]["path"], eval_lang, sha256, tuple(evaluation.registers))


def beginning(text: str) -> str:
    """Return the text's first characters, on one line, as lists of errors show them."""
    return " ".join(text.split())[:SHOWN]


@functools.lru_cache(maxsize=64)
def _test_texts(corpus: str, eval_lang: str, sha256: str, registers: tuple[str, ...]) -> dict[int, str]:
    if not corpus:
        return {}
    try:
        texts = corpus_load.read_texts(Path(corpus), "test", eval_lang, registers)
    except corpus_load.CorpusError:
        return {}
    return dict(zip(texts["row"], texts["text"], strict=True)) if texts.attrs["sha256"] == sha256 else {}
