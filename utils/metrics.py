"""Scores of a register classifier, as pure functions of its confusion counts.

Everything is computed from one matrix of counts per test set: rows are gold registers, columns are
predicted ones, cell (g, p) is the number of texts of gold register g that were predicted as p.
For one register r:

    support    the number of texts whose gold register is r (the sum of row r)
    precision  the share of the texts predicted as r whose gold register is r
    recall     the share of the texts with gold register r that are predicted as r
    F1         the harmonic mean of the two: 2 x correct / (support + predicted as r)

and over a test set:

    macro_f1_10  the mean of F1 over the registers that have at least 10 gold texts in this test set; not
                 defined, and None, if fewer than two registers have that many
    micro_f1     the share of all texts whose register is predicted correctly. Since every text has one gold
                 and one predicted register, micro-averaged F1, precision and recall all equal accuracy
    macro_f1     the mean of F1 over all registers that have gold texts in this test set
    precision    the mean of precision over the same registers as macro_f1
    recall       the mean of recall over the same registers as macro_f1

Two or three texts say little about how well a model knows a register: macro_f1_10 leaves such registers out, so that
its interval (utils/uncertainty.py) is narrow enough to be useful. Their texts still count: one that is predicted as
another register lowers the precision of that register. A register without gold texts is left out of all means, even if
some text is predicted as it, so that every model is averaged over the same registers. A register with gold texts that
is never predicted has no precision of its own; it counts as 0 in the mean. All scores are in [0, 1].
"""

import numpy as np

NOTHING_LEARNT = (
    "it is no better on the validation texts than always predicting their most frequent register; it needs more texts, "
    "more epochs or another learning rate"
)
METRICS = ("macro_f1_10", "micro_f1", "macro_f1", "precision", "recall")
MIN_TEXTS = 10  # gold texts of a register that macro_f1_10 is averaged over
MIN_REGISTERS = 2  # with that many texts; with fewer, there is no macro_f1_10


def count_confusions(gold: np.ndarray, predicted: np.ndarray, n_registers: int) -> np.ndarray:
    """Count texts per pair of registers: shape (n_registers, n_registers), rows gold, columns predicted.

    gold, predicted: label ids in [0, n_registers), one per text, in the same order; there is at least one.
    """
    pairs = np.asarray(gold, dtype=np.int64) * n_registers + np.asarray(predicted, dtype=np.int64)
    return np.bincount(pairs, minlength=n_registers**2).reshape(n_registers, n_registers)


def register_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return precision, recall, f1 and support of each register, in the matrix's order.

    nan where a score is not defined: precision of a register never predicted, recall and F1 of one without gold texts.
    The same to the last bit as scikit-learn's precision_recall_fscore_support, which takes 85 times as long.
    """
    correct, gold, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is nan
        precision, recall, f1 = correct / predicted, correct / gold, 2 * correct / (gold + predicted)
    return {"precision": precision, "recall": recall, "f1": np.where(gold > 0, f1, np.nan), "support": gold}


def measurable(gold: np.ndarray) -> np.ndarray:
    """Tell which registers macro_f1_10 is averaged over; gold: texts per register, along the last axis."""
    enough = np.asarray(gold) >= MIN_TEXTS
    return enough & (enough.sum(axis=-1, keepdims=True) >= MIN_REGISTERS)


def micro_f1(confusion: np.ndarray) -> float:
    """Return the share of texts whose register is predicted correctly; nan without texts."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def beats_largest_register(confusion: np.ndarray) -> bool:
    """Tell whether more texts are predicted correctly than by always predicting the most frequent register."""
    return bool(np.trace(confusion) > confusion.sum(axis=1).max())


def all_metrics(confusion: np.ndarray) -> dict[str, float | None]:
    """Return every metric over the test set, in the order of METRICS; None: too few texts, nan: no texts."""
    scores = register_scores(confusion)
    has_gold, is_measured = scores["support"] > 0, measurable(scores["support"])

    def mean(score: str, chosen: np.ndarray) -> float:
        return float(np.nan_to_num(scores[score][chosen]).mean()) if chosen.any() else float("nan")

    return {
        "macro_f1_10": mean("f1", is_measured) if is_measured.any() else None,
        "micro_f1": micro_f1(confusion),
        **{name: mean(name.removeprefix("macro_"), has_gold) for name in ("macro_f1", "precision", "recall")},
    }
