"""List the wrong predictions of a run, the most confident first, for reading."""

import csv
import functools
import io
from pathlib import Path

from utils import corpus_load, runs
from utils.scores.labels import no_formula
from utils.scores.results import EvaluatedRun, load_predictions

SHOWN = 200  # characters of a text


def write_errors(run: EvaluatedRun, eval_lang: str) -> None:
    """Write errors/LANG.tsv: probability, gold, predicted, row in the test file, and the text's first characters.

    The texts come from the corpus of the training, if it is still there and the test file the same; else
    the column is left empty. A text that a spreadsheet would take for a formula gets an apostrophe before it.
    Nothing is written where the predictions are gone.
    """
    try:
        rows = load_predictions(run.folder, eval_lang)
    except OSError:
        return
    evaluation = run.evaluations[eval_lang]
    texts = test_texts(
        run.record["corpus"]["path"], eval_lang, evaluation.signature["test_sha256"], tuple(evaluation.registers)
    )
    wrong = [(float(row[row["predicted"]]), row) for row in rows if row["gold"] != row["predicted"]]
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t", lineterminator="\n")
    writer.writerow(["probability", "gold", "predicted", "row", "text"])
    for probability, row in sorted(wrong, key=lambda entry: (-entry[0], int(entry[1]["row"]))):
        text = no_formula(" ".join(texts.get(int(row["row"]), "").split())[:SHOWN])
        writer.writerow([f"{probability:.4f}", row["gold"], row["predicted"], row["row"], text])
    runs.write_text(run.folder / "errors" / f"{eval_lang}.tsv", table.getvalue())


@functools.lru_cache(maxsize=64)
def test_texts(corpus: str, eval_lang: str, sha256: str, registers: tuple[str, ...]) -> dict[int, str]:
    """Return row -> text of a test file, {} if the corpus is not at hand or the file is another one."""
    if not corpus:
        return {}
    try:
        file = corpus_load.read_file(Path(corpus), "test", eval_lang, registers)
    except corpus_load.CorpusError:
        return {}
    return {text.row: text.text for text in file.texts} if file.sha256 == sha256 else {}
