"""How far a score can be trusted: 95 % intervals from confusion counts.

What a score is an estimate of: the score that this one trained model would have on very many texts like those of the
test file, as many of each gold register in proportion as the file has. The texts are a sample, the mix of registers
is not, and another training is not in it: with several trainings, interval_of_mean holds these too.

micro_f1     Wilson's score interval for a proportion (Wilson 1927, J. Am. Stat. Assoc. 22).

macro_f1_10, The delta method on the logit scale (Takahashi, Yamamoto, Kuchiba and Koyama 2022, Appl. Intell. 52),
macro_f1,    within gold rows: the texts of a gold register fall into its row's cells, gold counts stay as they are.
precision,   With slopes m = d score / d count and the row's shares p, a row of n texts adds
recall       n (sum p m^2 - (sum p m)^2) to the score's variance. Few texts need three cautions:
             - for its variance, a row gets one more text, half of it right and half spread as the model's answers are:
               ten texts of ten found, or none, do not say that all will be;
             - a variance from few texts is itself unsure: Student's t instead of the normal distribution's quantile,
               its degrees of freedom after Satterthwaite (1946, Biometrics Bull. 2);
             - the logit's slope is taken where the score would be with half a text more in each row (where it is 0 or
               1, with one text more), so that a score of .99 does not get a bound of .5, nor one of 1 none.

Two assumptions stay. A register with ten texts or more that was never predicted is taken for one that this model never
predicts: if it is found once in thirty texts, and nothing else is taken for it, the truth lies above the interval in up
to 17 % of test sets. Of a register with fewer texts, the text added is most of what is known: the interval of macro_f1
and recall is then wide, and holds the truth more often than it says. The precision of a register that is hardly ever
predicted can't be told at all: precision has an interval where each register has ten texts and ten predictions.

Coverage, measured by `python tests/programs/simulate_coverage.py` (2,000 simulations a line, standard error .005; 7
and 8 registers, even and uneven, 22 classifiers each), lowest and highest, and in brackets the largest share of truths
on one side: of macro_f1_10, by how the registers that are not among the three largest are found.

    texts   well or badly             1 in 30, errors as others'  1 in 30, errors to one  never
    8,000   .935 to .972 (.050)       .947 to .985 (.032)         .840 to .952 (.159)     .943 to .956 (.036)
    1,000   .934 to .966 (.046)       .950 to .968 (.033)         .891 to .960 (.104)     .936 to .957 (.051)
    300     .929 to .971 (.053)       .961 to .988 (.020)         .903 to .954 (.090)     .934 to .957 (.056)
    60      .943 to .980 (.038)       .960 to .988 (.025)         .803 to .960 (.176)     .946 to .975 (.053)
    30      .952 to .976 (.036)       .960 to .978 (.025)         .964 to .965 (.022)     .955 to .991 (.025)

A model that always answers one register has one possible score: its interval is that, and holds it always. With 300
texts and more the score lies in the middle half of its interval; with 30 and 60, where it is above .9, nearer to the
upper end in up to 67 % of test sets, since it can't go above 1. Tried and left out: Wilson's interval for each row
and their combination (.84 to .95, all misses above, for near-perfect models), centring at the smoothed score (the
same), the arcsine scale (.75 with 60 texts), a calibrated bootstrap at the smoothed matrix (.88 to .98, and slow).
Of several trainings (--trainings): .92 to .96 from three on.
"""

from typing import NamedTuple

import numpy as np

from utils import metrics

Z = 1.959964  # the normal distribution's 97.5 % quantile
FOR_VARIANCE, FOR_SLOPE = 1.0, 0.5  # texts added to a gold row
NEAR = 1e-9  # so near to 0 or 1 a score counts as 0 or 1
# Student's 97.5 % quantiles, by degrees of freedom; in between, their logarithm is taken as straight in 1 / freedom
FREEDOMS = np.array([1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 6, 10, 25, np.inf])
QUANTILES = np.array([
    12.7062, 10.2768, 8.0280, 6.0167, 4.9488, 4.3027, 3.5747, 3.1824, 2.7764, 2.4469, 2.2281, 2.0595, Z,
])  # fmt: skip


class Spread(NamedTuple):
    """Scores of n matrices of counts, and how far other texts would move them.

    score: shape (n,); nan where there is none. nearby: shape (n,), the same with a little more in each gold row.
    variances: shape (n, n_registers), what each gold row adds to the score's variance. gold: texts per row, the same
    shape.
    """

    score: np.ndarray
    nearby: np.ndarray
    variances: np.ndarray
    gold: np.ndarray


def intervals(confusion: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval (low, high) of every metric of utils.metrics, by its name.

    confusion: counts, shape (n_registers, n_registers), rows gold, columns predicted.
    0 <= low <= score <= high <= 1; (nan, nan) where there are too few texts for the score or for its interval.
    """
    confusion = np.asarray(confusion)
    total = int(confusion.sum())
    found = {}
    for metric in metrics.METRICS:
        if metric == "micro_f1" and total:
            found[metric] = wilson(int(np.trace(confusion)), total)
        else:
            low, high = bounds(confusion[None], metric)
            found[metric] = float(low[0]), float(high[0])
    return found


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval (low, high) of the proportion correct / total, in [0, 1]."""
    share = correct / total
    centre = share + Z**2 / (2 * total)
    half = Z * np.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    scale = 1 + Z**2 / total
    return max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale))


def bounds(counts: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return low and high of the metric for many matrices, shape (n, n_registers, n_registers): each of shape (n,)."""
    found = spread(counts, metric)
    variance = found.variances.sum(axis=1)
    uncertainty = (found.variances**2 / degrees_of_rows(found.gold)).sum(axis=1)
    low, high = ends(found.score, found.nearby, variance, freedom(variance, uncertainty))
    if metric == "precision":
        fewest = np.minimum(found.gold, np.asarray(counts).sum(axis=1))
        rare = (found.gold > 0) & (fewest < metrics.MIN_TEXTS)
        low, high = (np.where(rare.any(axis=1), np.nan, end) for end in (low, high))
    return low, high


def interval_of_mean(spreads: list[Spread], correlations: list[float]) -> tuple[float, float]:
    """Return the 95 % interval of a score averaged over trainings, test files, or both.

    spreads: one per test file, each over the same trainings in the same order. correlations: per test file, that of
    the trainings' chance errors on the same texts, from `correlation`. The texts of different files are independent.
    The trainings' part is the variance of their means between them, over their number; with few trainings it has few
    degrees of freedom, and the interval is wide. One training: its texts alone. Two trainings are too few: nan.
    """
    n_files, n_trainings = len(spreads), len(spreads[0].score)
    if n_trainings == 2:
        return float("nan"), float("nan")
    of_trainings = np.mean([found.score for found in spreads], axis=0)
    variance = uncertainty = np.float64(0)
    for found, shared in zip(spreads, correlations, strict=True):
        rows = (shared if n_trainings > 1 else 1.0) * found.variances.mean(axis=0) / n_files**2
        variance += rows.sum()
        uncertainty += (rows**2 / degrees_of_rows(found.gold[0])).sum()
    if n_trainings > 1:
        between = of_trainings.var(ddof=1) / n_trainings
        variance += between
        uncertainty += between**2 / (n_trainings - 1)
    score, nearby = (np.array([np.mean([getattr(found, name) for found in spreads])]) for name in ("score", "nearby"))
    low, high = ends(score, nearby, np.array([variance]), freedom(np.array([variance]), np.array([uncertainty])))
    return float(low[0]), float(high[0])


def influences(gold: np.ndarray, predicted: np.ndarray, n_registers: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of several trainings, and how far each text's answer moves them.

    gold: label ids, one per text; predicted: the same, shape (n_trainings, n_texts), as of what is returned second,
    which is held against what the answers to all texts of the same gold register do on average.
    """
    place = np.arange(len(predicted))[:, None], gold, predicted
    counts = np.zeros((len(predicted), n_registers, n_registers))
    np.add.at(counts, place, 1)
    score, slopes = scores_and_slopes(counts, averaged(counts.sum(axis=2), metric), metric)
    moved = slopes[place]
    for register in np.unique(gold):
        moved[:, gold == register] -= moved[:, gold == register].mean(axis=1, keepdims=True)
    return score, moved


def correlation(gold: np.ndarray, predicted: np.ndarray, n_registers: int, metric: str) -> float:
    """Return how far the chance errors of several trainings on the same texts go together, in [0, 1].

    gold: label ids, one per text; predicted: the same, shape (n_trainings, n_texts).
    """
    _, moved = influences(gold, predicted, n_registers, metric)
    n_trainings, single = len(moved), (moved**2).sum(axis=1).mean()
    if n_trainings < 2 or not single:
        return 1.0
    kept = (moved.mean(axis=0) ** 2).sum() / single
    return float(np.clip((kept * n_trainings - 1) / (n_trainings - 1), 0, 1))


def averaged(gold: np.ndarray, metric: str) -> np.ndarray:
    """Tell which registers the metric is averaged over; gold: texts per register, along the last axis."""
    return metrics.measurable(gold) if metric == "macro_f1_10" else np.asarray(gold) > 0


def scores_and_weights(
    correct: np.ndarray, gold: np.ndarray, predicted: np.ndarray, chosen: np.ndarray, metric: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the metric of n matrices, and what one text predicted as a register gives it and takes from it.

    correct, gold, predicted: texts per register, shape (n, n_registers). chosen: the registers averaged over.
    A text predicted as register r moves the score, shape (n,), by gives[r] if that is right, and by -takes[r] in any
    case, both of shape (n, n_registers); up to a constant per gold register, as gold counts stay. nan: no score.
    """
    n_averaged = chosen.sum(axis=1, keepdims=True)
    if metric == "micro_f1":  # as a sum over registers of parts of all texts
        factor, whole, n_averaged = 1, gold.sum(axis=1, keepdims=True) + 0 * correct, n_averaged > 0
    else:
        factor, whole = {"precision": (1, predicted), "recall": (1, gold + 0 * correct)}.get(
            metric, (2, gold + predicted)
        )
    use = chosen & (whole > 0)
    gives = np.divide(factor, whole * n_averaged, out=np.zeros(correct.shape), where=use)
    takes = np.zeros(correct.shape)
    if metric not in ("micro_f1", "recall"):
        np.divide(gives * correct, whole, out=takes, where=use)
    score = np.minimum((gives * correct).sum(axis=1), 1)  # a sum of tenths can exceed 1 by a rounding error
    return np.where(n_averaged[:, 0] > 0, score, np.nan), gives, takes


def scores_and_slopes(counts: np.ndarray, chosen: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the metric of n matrices, shape (n,), and its derivative by each count, (n, n_registers, n_registers)."""
    correct = np.diagonal(counts, axis1=1, axis2=2)
    score, gives, takes = scores_and_weights(correct, counts.sum(axis=2), counts.sum(axis=1), chosen, metric)
    return score, np.eye(counts.shape[1]) * gives[:, None, :] - takes[:, None, :]


def spread(counts: np.ndarray, metric: str) -> Spread:
    """Return the scores of n matrices, shape (n, n_registers, n_registers), with their gold rows' variances."""
    counts = np.asarray(counts, dtype=float)
    gold, predicted = counts.sum(axis=2), counts.sum(axis=1)
    chosen = averaged(gold, metric)
    score, slopes = scores_and_slopes(counts, chosen, metric)
    usual = predicted / np.maximum(predicted.sum(axis=1, keepdims=True), 1)
    never = (predicted == 0) & (gold >= metrics.MIN_TEXTS)
    added = usual[:, None, :] + np.eye(counts.shape[1]) * ~never[:, None, :]
    added /= np.maximum(added.sum(axis=2, keepdims=True), 1)
    shares, half_shares = ((counts + texts * added) / (gold + texts)[:, :, None] for texts in (FOR_VARIANCE, FOR_SLOPE))
    variances = gold * ((shares * slopes**2).sum(axis=2) - (shares * slopes).sum(axis=2) ** 2)
    nearer, further = (
        scores_and_slopes(gold[:, :, None] * smoothed, chosen, metric)[0] for smoothed in (half_shares, shares)
    )
    nearby = np.where((score < NEAR) | (score > 1 - NEAR), further, nearer)
    return Spread(score, nearby, np.maximum(variances, 0), gold)


def degrees_of_rows(gold: np.ndarray) -> np.ndarray:
    """Return the degrees of freedom of gold rows' variances; rows of few texts stand as of ten, or t would explode."""
    return np.maximum(gold, metrics.MIN_TEXTS) - 1


def freedom(variance: np.ndarray, uncertainty: np.ndarray) -> np.ndarray:
    """Return Satterthwaite's degrees of freedom of a sum of variances, at least 1.

    uncertainty: the sum of each squared over its own degrees of freedom.
    """
    return np.maximum(np.asarray(variance) ** 2 / np.maximum(uncertainty, 1e-300), 1)


def student(degrees: np.ndarray) -> np.ndarray:
    """Return Student's 97.5 % quantile for these degrees of freedom, to 0.3 %."""
    return np.exp(np.interp(-1 / np.asarray(degrees), -1 / FREEDOMS, np.log(QUANTILES)))


def ends(
    score: np.ndarray, nearby: np.ndarray, variance: np.ndarray, degrees: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of scores in [0, 1], symmetric on the logit scale; nan where the score is."""
    inside = np.clip(nearby, NEAR, 1 - NEAR)
    worst, best = score < NEAR, score > 1 - NEAR
    middle = np.where(worst | best, inside, score)
    centre = np.log(middle / (1 - middle))
    half = student(degrees) * np.sqrt(variance) / (inside * (1 - inside))
    low, high = (1 / (1 + np.exp(-np.clip(end, -700, 700))) for end in (centre - half, centre + half))
    low, high = np.where(worst, 0.0, np.minimum(low, score)), np.where(best, 1.0, np.maximum(high, score))
    return np.where(variance > 0, low, score), np.where(variance > 0, np.minimum(high, 1), score)
