"""Suspected labels: test texts whose gold register is contradicted by the models that never saw their language.

post_eval.py writes them to suspects/LANG.tsv, beside the matrices, the most suspect first. Its columns:

    row                     row of the test file, from 1
    gold                    the register in the file
    predicted               the other register with the highest mean log p
    agreement, trainings    how many of the trainings predict that one, and how many there are
    log_odds                mean over the trainings of log p(predicted) - log p(gold), in nats
    score                   log_odds minus its median over all texts of the same gold register
    text                    beginning of the text; empty if the corpus is not on this machine

Texts with log_odds above 0 are listed. Because of the median, a register that the models can't recognise is not suspect
as a whole. Every model, list of training languages and seed is a training. Its weight is the number of texts that it
predicts correctly beyond those of the most frequent register. Left out are trainings on the language itself or on
distr, which may have learnt the habits of the annotators, trainings that are no better than always predicting the most
frequent register, and evaluations with another test file or other registers than most. At least two trainings are
needed. A high score is a reason to read the text again, not a correction.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from utils import metrics, results, runs
from utils.labels import no_formula

LEAST = 1e-6  # the smallest probability above 0 that evaluate.py writes

log = logging.getLogger(__name__)


def find(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return language -> its suspects, with all columns except the text; rows: from results.evaluations.

    Languages with fewer than two trainings that can judge are left out.
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
    """Return the predictions of the trainings that can judge: trainings x (header and texts) x columns.

    rows: evaluations on one language. Those with another test file are logged.
    """
    # in another test file, the same row is another text
    files = rows["signature"].map(lambda one: one["test_sha256"]) + " " + rows["registers"].map(" ".join)
    is_usual = files == files.value_counts().index[0]
    for path, lang in rows.loc[~is_usual, ["path", "eval_lang"]].itertuples(index=False):
        log.warning("%s on %s: not used for suspected labels: another test file, or other registers", path, lang)
    asked = rows[is_usual & rows["zero_shot"] & rows["counts"].map(metrics.beats_largest_register)]
    read = (results.read_predictions(*one) for one in zip(asked["folder"], asked["eval_lang"], strict=True))
    return np.array([lines for lines in read if lines])


def judge(gold: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return gold, predicted, agreement, log_odds and score of each text, with label ids.

    probabilities: trainings x texts x registers; 0 counts as LEAST.
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
