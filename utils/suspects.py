"""Suspected labels: test texts whose gold register is contradicted by the models that never saw their language.

post_eval.py writes them to suspects/LANG.tsv, beside the matrices, the most suspect first; its columns:

    row                     of the test file, from 1
    gold                    the register that the file says
    predicted               what the trainings say instead: of the other registers, the one with the highest mean log p
    agreement, trainings    how many of the trainings predict that one, and how many there are
    log_odds                mean over the trainings of log p(predicted) - log p(gold), in nats
    score                   log_odds less its median over all texts of the same gold register
    text                    its beginning where the corpus is at hand, else empty

Listed are the texts with log-odds above 0. The score does not suspect all texts of a register that the models can't
recognise. Every model, list of training languages and seed is a training; it weighs as many texts as it predicts right
beyond those of the most frequent register, so that the better ones decide. Left out are trainings on the language
itself, or on distr, which may have learnt the habits of the file's annotators; those that do no better on it than its
most frequent register; and evaluations of another test file, or with other registers, than most. Two trainings at least
must be left. A high score is a reason to read the text again, not a correction.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from utils import metrics, results, runs
from utils.labels import no_formula

LEAST = 1e-6  # the smallest probability but 0 that evaluate.py writes

log = logging.getLogger(__name__)


def find(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return language -> its suspects, with all columns but the text; rows: of results.evaluations.

    Languages without two trainings that can judge are left out.
    """
    found = {}
    for lang, of_lang in rows.groupby("eval_lang"):
        answers = ask(of_lang)
        if len(answers) < 2:
            continue
        registers, texts = answers[0, 0, 3:], answers[0, 1:]
        gold, probabilities = pd.Index(registers).get_indexer(texts[:, 1]), answers[:, 1:, 3:].astype(float)
        table = judge(gold, probabilities).assign(row=texts[:, 0].astype(int), trainings=len(answers))
        for column in ("gold", "predicted"):
            table[column] = registers[table[column]]
        table = table[table["log_odds"] > 0].sort_values(["score", "row"], ascending=[False, True], ignore_index=True)
        found[lang] = table[["row", "gold", "predicted", "agreement", "trainings", "log_odds", "score"]]
    return found


def ask(rows: pd.DataFrame) -> np.ndarray:
    """Return what evaluate.py wrote of the trainings that can judge: trainings x texts, after a header, x columns.

    rows: evaluations on one language. Those of another test file are named in the log.
    """
    # the rows of another test file are other texts
    files = rows["signature"].map(lambda one: one["test_sha256"]) + " " + rows["registers"].map(" ".join)
    is_usual = files == files.value_counts().index[0]
    for path, lang in rows.loc[~is_usual, ["path", "eval_lang"]].itertuples(index=False):
        log.warning("%s on %s: not asked for suspected labels: another test file, or other registers", path, lang)
    asked = rows[is_usual & rows["zero_shot"] & rows["counts"].map(metrics.beats_largest_register)]
    read = (results.read_predictions(*one) for one in zip(asked["folder"], asked["eval_lang"], strict=True))
    return np.array([lines for lines in read if lines])


def judge(gold: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return gold, predicted, agreement, log_odds and score of each text, with label ids.

    probabilities: trainings x texts x registers; one of 0 counts as the smallest that is written.
    """
    answers, texts = probabilities.argmax(axis=2), np.arange(len(gold))
    weights = np.maximum((answers == gold).sum(axis=1) - np.bincount(gold).max(), 1)
    log_p = np.average(np.log(np.maximum(probabilities, LEAST)), axis=0, weights=weights)
    of_gold = log_p[texts, gold]
    log_p[texts, gold] = -np.inf
    other = log_p.argmax(axis=1)
    table = pd.DataFrame({"gold": gold, "predicted": other, "agreement": (answers == other).sum(axis=0)})
    table["log_odds"] = log_p[texts, other] - of_gold
    table["score"] = table["log_odds"] - table.groupby("gold")["log_odds"].transform("median")
    return table


def write(folder: Path, rows: pd.DataFrame, found: dict[str, pd.DataFrame]) -> None:
    """Write suspects/LANG.tsv of each language; rows: as for find."""
    for lang, table in found.items():
        of_lang = rows[rows["eval_lang"] == lang].itertuples()
        texts = next(filter(None, map(results.test_texts, of_lang)), {})
        beginnings = [no_formula(results.beginning(texts.get(row, ""))) for row in table["row"]]
        content = table.assign(text=beginnings).to_csv(sep="\t", index=False, float_format="%.3f")
        runs.write_text(folder / "suspects" / f"{lang}.tsv", content)
