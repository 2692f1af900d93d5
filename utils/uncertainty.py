"""How far a score can be trusted, and whether two models differ: intervals, several trainings, comparisons.

A score estimates what this trained model would reach on a very large number of texts like those of the test file. The
texts are a sample, with their gold registers and predictions. The influence of a text is how far the score moves if one
more text like it is added; the variance of a score is the sum of the squared influences (the delta method for counts;
Takahashi, Yamamoto, Kuchiba and Koyama 2022, Appl. Intell. 52).

The interval of micro_f1 is Wilson's (1927, J. Am. Stat. Assoc. 22); the others come from the delta method on the logit
scale, with three corrections for few texts. Each gold register gets one more text, half of it right and half
distributed like the predictions; Student's t has Satterthwaite's (1946) degrees of freedom over the gold registers; the
slope of the logit is taken where the score would be with half a text more. The variance of the mean of three or more
trainings is the one that they share because of the texts, plus the variance between them divided by their number; it is
never less than the texts alone give.

Two models are compared on the same texts. For micro_f1 of one training each, the test is McNemar's exact one with the
mid-p (Fagerland, Lydersen and Laake 2013, BMC Med. Res. Methodol. 13), and the interval Tango's (1998, Stat. Med. 17).
Otherwise, the influence of each text on one score minus its influence on the other gives the variance of the
difference; in the test, the squared difference over the number of texts is added to it, as in McNemar's for many texts.
The interval contains the differences that this score test does not reject. If both models have several trainings, the
variance between them is added, as in Welch's test.

Measured by `python tests/programs/simulate_coverage.py` (2,000 simulations a line) and its modes (500, standard error
.010). Intervals cover the true value: of macro_f1_10 in .929 to .992 of cases with 30 and 60 texts, .932 to .975 from
300 on (.942 to 1 if registers are hardly ever predicted), of micro_f1 in .924 to .980, of means over 3 and 5 trainings
in .922 to .980 (to 1 if nearly constant). From 100 texts on, macro_f1_10 and micro_f1 declare equal models different in
.030 to .078 of cases with one training each, .018 to .068 with three, .034 to .090 with three that vary, and .024 to
.076 with three against one; less often, down to 0, with 30 texts and where few texts decide, as between nearly constant
models.
"""

from collections.abc import Sequence

import numpy as np
from scipy import special

from utils import metrics

Arrays = tuple[np.ndarray, np.ndarray]
Z = float(special.ndtri(0.975))
FOR_VARIANCE, FOR_SLOPE = 1.0, 0.5  # texts added to each gold register
SMALLEST_P = 1e-300


def averaged(gold: np.ndarray, metric: str) -> np.ndarray:
    """Tell which registers the metric is averaged over; gold: texts per register, along the last axis."""
    return metrics.measurable(gold) if metric == "macro_f1_10" else np.asarray(gold) > 0


def score_and_slopes(counts: np.ndarray, chosen: np.ndarray, metric: str) -> Arrays:
    """Return the metric of n matrices, shape (n,), and its derivative by each count, shape (n, registers, registers).

    counts: rows gold, columns predicted. chosen: the registers averaged over, shape (n, registers). nan: no score.
    The derivative by a count is also the influence of each of its texts; all influences sum to 0.
    """
    counts = np.asarray(counts, dtype=float)
    right = np.diagonal(counts, axis1=1, axis2=2)
    gold, predicted = counts.sum(axis=2), counts.sum(axis=1)
    identity = np.eye(counts.shape[1])
    if metric == "micro_f1":
        total = counts.sum(axis=(1, 2))[:, None, None]
        score = right.sum(axis=1) / total[:, 0, 0]
        return score, (identity - score[:, None, None]) / total
    # each register's score is part x right / whole: 2 right / (gold + predicted), right / gold, right / predicted
    in_gold, in_predicted = {"recall": (1, 0), "precision": (0, 1)}.get(metric, (1, 1))
    whole = (in_gold * gold + in_predicted * predicted) * chosen.sum(axis=1, keepdims=True)
    gives = np.divide(in_gold + in_predicted, whole, out=np.zeros(gold.shape), where=chosen & (whole > 0))
    takes = gives * right / np.maximum(in_gold * gold + in_predicted * predicted, 1)
    slopes = identity * gives[:, None, :] - in_gold * takes[:, :, None] - in_predicted * takes[:, None, :]
    score = np.minimum((gives * right).sum(axis=1), 1)  # a sum of tenths can exceed 1 by a rounding error
    return np.where(chosen.any(axis=1), score, np.nan), slopes


def influences(gold: np.ndarray, predicted: np.ndarray, n_registers: int, metric: str) -> Arrays:
    """Return the scores of the trainings, and the influences of the texts, in predicted's (n_trainings, n_texts)."""
    counts = np.array([metrics.count_confusions(gold, one, n_registers) for one in predicted])
    score, slopes = score_and_slopes(counts, averaged(counts.sum(axis=2), metric), metric)
    return score, slopes[np.arange(len(predicted))[:, None], gold, predicted]


def wilson(right: np.ndarray, total: np.ndarray) -> Arrays:
    """Return Wilson's 95 % interval of the proportions right / total; nan where total is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = right / np.asarray(total, dtype=float)
        half = Z * np.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
        centre, scale = share + Z**2 / (2 * total), 1 + Z**2 / total
        return np.maximum((centre - half) / scale, 0), np.minimum((centre + half) / scale, 1)


def intervals(counts: np.ndarray, metric: str) -> Arrays:
    """Return the bounds of the 95 % interval of the metric, for many matrices, each of shape (n,).

    counts: shape (n, registers, registers), rows gold, columns predicted. 0 <= low <= score <= high <= 1, and
    low < high; nan if there are too few texts for the score or for its interval.
    """
    gold, predicted = counts.sum(axis=2), counts.sum(axis=1)
    if metric == "micro_f1":
        return wilson(np.trace(counts, axis1=1, axis2=2), counts.sum(axis=(1, 2)))
    low, high = _ends(*_spread(counts, averaged(gold, metric), metric))
    if metric == "precision":
        rare = ((gold > 0) & (np.minimum(gold, predicted) < metrics.MIN_TEXTS)).any(axis=1)
        low, high = np.where(rare, np.nan, low), np.where(rare, np.nan, high)
    return low, high


def register_intervals(confusion: np.ndarray) -> dict[str, Arrays]:
    """Return the bounds of each register's precision, recall and F1: Wilson's, and for F1 as for its mean."""
    right, gold, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    each = np.eye(len(confusion), dtype=bool) & (gold > 0)[:, None]
    f1 = _ends(*_spread(np.broadcast_to(confusion, (len(confusion), *confusion.shape)), each, "f1"))
    return {"precision": wilson(right, predicted), "recall": wilson(right, gold), "f1": f1}


def _spread(counts: np.ndarray, chosen: np.ndarray, metric: str) -> tuple[np.ndarray, ...]:
    """Return scores, scores with a little more in each gold register, variances and their degrees of freedom."""
    gold, predicted, total = counts.sum(axis=2), counts.sum(axis=1), counts.sum(axis=(1, 2))
    score, slopes = score_and_slopes(counts, chosen, metric)
    # add a text to each gold register: half of it right, half distributed like the predictions plus one per register
    usual = (predicted + 1 / counts.shape[1]) / (total[:, None] + 1)
    added = (usual[:, None, :] + np.eye(counts.shape[1])) / 2
    smoothed, nearly = (
        gold[:, :, None] * (counts + texts * added) / (gold + texts)[:, :, None] for texts in (FOR_VARIANCE, FOR_SLOPE)
    )
    of_registers = (smoothed * slopes**2).sum(axis=2)
    centre = (smoothed * slopes).sum(axis=(1, 2)) ** 2 / np.maximum(total, 1)
    variance = np.maximum(of_registers.sum(axis=1) - centre, 0)
    # a register with few texts counts as one with ten, or Student's t would explode
    unsure = (of_registers**2 / (np.maximum(gold, metrics.MIN_TEXTS) - 1)).sum(axis=1)
    freedom = np.maximum(variance**2 / np.maximum(unsure, 1e-300), 1)
    far, near = (score_and_slopes(matrices, chosen, metric)[0] for matrices in (smoothed, nearly))
    return score, np.where((score < 1e-9) | (score > 1 - 1e-9), far, near), variance, freedom


def _ends(score: np.ndarray, nearby: np.ndarray, variance: np.ndarray, freedom: np.ndarray) -> Arrays:
    """Return bounds that are symmetric on the logit scale; a score of 0 or 1 is a bound itself."""
    worst, best, inside = score < 1e-9, score > 1 - 1e-9, np.clip(nearby, 1e-9, 1 - 1e-9)
    centre = special.logit(np.where(worst | best, inside, score))
    half = special.stdtrit(freedom, 0.975) * np.sqrt(variance) / (inside * (1 - inside))
    low, high = special.expit(centre - half), special.expit(centre + half)
    return np.where(worst, 0.0, np.minimum(low, score)), np.where(best, 1.0, np.maximum(high, score))


def interval_of_mean(files: Sequence[tuple[*Arrays, np.ndarray | None]], metric: str) -> tuple[float, float]:
    """Return the 95 % interval of a score averaged over trainings, over test files, or over both.

    files: for each test file, the counts of the trainings, shape (n_trainings, registers, registers), the gold label
    ids and the predicted ones, shape (n_trainings, n_texts), with the trainings in the same order; None if predictions
    are gone, and the trainings are then assumed to make the same errors. The texts of different files are independent.
    nan for two trainings, and if a file has too few texts.
    """
    n_trainings, scores, nearby, of_texts, shared, unsure = len(files[0][0]), [], [], 0.0, 0.0, 0.0
    for counts, gold, predicted in files:
        score, near, variances, freedom = _spread(counts, averaged(counts.sum(axis=2), metric), metric)
        scores.append(score)
        nearby.append(near)
        # averaging reduces the errors that trainings make independently, but not those on the texts that _spread adds
        of_mean = common = variances.mean()
        if n_trainings > 1 and predicted is not None:
            alone = influences(gold, predicted, counts.shape[1], metric)[1].var(axis=0, ddof=1).sum()
            of_mean = max(of_mean - alone * (n_trainings - 1) / n_trainings, 0.0)
            common = max(common - alone, 0.0)
        of_texts += of_mean / len(files) ** 2
        shared += common / len(files) ** 2
        unsure += (of_mean / len(files) ** 2) ** 2 / freedom.mean()
    of_trainings = np.mean(scores, axis=0)
    if n_trainings == 2 or np.isnan(of_trainings).any():
        return float("nan"), float("nan")
    between = of_trainings.var(ddof=1) / n_trainings if n_trainings > 1 else 0.0
    variance = max(of_texts, shared + between)
    freedom = np.maximum(variance**2 / max(unsure + between**2 / max(n_trainings - 1, 1), 1e-300), 1)
    low, high = _ends(*(np.asarray(value) for value in (of_trainings.mean(), np.mean(nearby), variance, freedom)))
    return float(low), float(high)


def compare(gold: np.ndarray, a: np.ndarray, b: np.ndarray, n_registers: int, metric: str) -> dict[str, float]:
    """Compare two models on the same texts.

    gold: label ids in [0, n_registers), one per text; a, b: the predicted ones of each model's trainings, shape
    (n_trainings, n_texts). Returns the difference of the mean scores, a minus b; low and high, its 95 % interval, which
    excludes 0 if the two-sided p is below 0.05; trainings: whether it is about other trainings too, or only about other
    texts; same: whether both predict the same for every text. p, low and high are nan if there are too few texts, low
    and high also if the score can't change. Exchanging the models changes only the signs.
    """
    n, n_texts, fewest_trainings = len(gold), np.bincount(gold, minlength=n_registers), min(len(a), len(b))
    (scores_a, of_a), (scores_b, of_b) = (influences(gold, ids, n_registers, metric) for ids in (a, b))
    difference = float(scores_a.mean() - scores_b.mean())
    result = dict.fromkeys(("low", "high", "p"), float("nan"))
    result |= {"difference": difference, "trainings": fewest_trainings > 1}
    result["same"] = len(a) == len(b) and bool((np.sort(a, axis=0) == np.sort(b, axis=0)).all())
    chosen = averaged(n_texts, metric)
    # micro_f1 needs no register with many texts
    texts = n_texts[chosen] if metric != "micro_f1" else np.array([metrics.MIN_TEXTS])
    if metric == "precision":
        texts = np.concatenate([texts, *(np.bincount(ids, minlength=n_registers)[chosen] for ids in (*a, *b))])
    if not chosen.any() or texts.min() < metrics.MIN_TEXTS:
        return result
    if metric == "micro_f1" and len(a) == len(b) == 1:
        only_a, only_b = int(((a == gold) & (b != gold)).sum()), int(((b == gold) & (a != gold)).sum())
        p, (low, high) = mcnemar(only_a, only_b), tango(only_a, only_b, n)
        # for a few numbers, as 4 texts against none, Tango's interval excludes 0 although the exact p is above 0.05
        low, high = (min(low, 0.0), max(high, 0.0)) if p >= 0.05 else (low, high)
        return result | {"low": low, "high": high, "p": p}

    moved = of_a.mean(axis=0) - of_b.mean(axis=0)
    # at least what one more text would add for which both predict the same
    variance = max(float((moved**2).sum()), (difference / n) ** 2)
    # with unequal numbers of trainings, the difference is skewed, the more so the fewer texts decide
    unsure = float((moved**4).sum()) if len(a) != len(b) else 0.0
    if fewest_trainings > 1:
        # the variance between trainings, without their independent errors, which are in the variance already
        between = np.array([scores.var(ddof=1) / len(scores) for scores in (scores_a, scores_b)])
        alone = sum(of_one.var(axis=0, ddof=1).sum() / len(of_one) for of_one in (of_a, of_b))
        excess = max(between.sum() - alone, 0.0)
        variance += excess
        # it is as uncertain as Welch's variance; with two trainings, even whether there is any is uncertain
        share = excess / max(between.sum(), 1e-300) if fewest_trainings > 2 else 1.0
        unsure += share * float((between**2 / [len(a) - 1, len(b) - 1]).sum())
    if variance < 1e-20:  # the predictions differ, but not the score
        return result | {"p": 1.0}
    # the score test: if the true difference is d, the variance is larger by (difference - d)^2 / n
    freedom = max(variance**2 / unsure, 1) if unsure else np.inf
    t, quantile = difference / np.sqrt(variance + difference**2 / n), special.stdtrit(freedom, 0.975)
    half = quantile * np.sqrt(variance / max(1 - quantile**2 / n, 1e-9))
    p = max(2 * special.stdtr(freedom, -abs(t)), SMALLEST_P)
    return result | {"low": float(max(difference - half, -1)), "high": float(min(difference + half, 1)), "p": float(p)}


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the mid-p of McNemar's exact test; only_a, only_b: texts that only this model predicts correctly."""
    fewer, both = min(only_a, only_b), only_a + only_b
    # twice the probability of this number or fewer, minus that of this number
    p = special.bdtr(fewer, both, 0.5) + (special.bdtr(fewer - 1, both, 0.5) if fewer else 0)
    return float(min(max(p, SMALLEST_P), 1.0))


def tango(only_a: int, only_b: int, n: int) -> tuple[float, float]:
    """Return Tango's 95 % score interval of the difference of two accuracies on the same n texts."""
    from scipy import optimize  # slow to load, and not needed in training

    def distance(difference: float) -> float:  # in standard errors, if this were the true one
        b = (2 * n - only_a + only_b) * difference - only_a - only_b
        share = (np.sqrt(max(b**2 + 8 * n * only_b * difference * (1 - difference), 0)) - b) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        return float((only_a - only_b - n * difference) / np.sqrt(max(variance, 1e-300)))

    observed, edge = (only_a - only_b) / n, 1 - 1e-12
    low = -1.0 if observed < -edge else optimize.brentq(lambda d: distance(d) - Z, -edge, observed, xtol=1e-10)
    high = 1.0 if observed > edge else optimize.brentq(lambda d: distance(d) + Z, observed, edge, xtol=1e-10)
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number, in the order given (Holm 1979, Scand. J. Stat. 6)."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.arange(len(order), 0, -1) * np.asarray(p_values, dtype=float)[order]
    return np.minimum(1, np.maximum.accumulate(adjusted))[np.argsort(order)].tolist()
