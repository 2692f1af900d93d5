"""How far a score can be trusted: 95 % intervals from confusion counts, and a paired test of two models.

Every text of gold register g is taken to be predicted as p with the same probability. What an interval should
hold is the score of the counts expected from these probabilities, given how many texts of each gold register the
test set has: the texts are a sample, the mix of registers is not.

micro_f1    Wilson's score interval for a proportion (Wilson 1927, J. Am. Stat. Assoc. 22), in closed form.

macro_f1,   Bayesian. The probabilities of one gold register's row of the matrix get a Dirichlet prior,
precision,  independent of the other rows', so they have a Dirichlet posterior (Caelen 2017, Ann. Math. Artif.
recall      Intell. 81; Toetsch and Hoffmann 2021, PeerJ Comput. Sci. 7:e398; with priors on precision, recall
            and F1 themselves: Goutte and Gaussier 2005, ECIR). The prior weighs as much as one text: 0.6 of a text
            predicted right and 0.4 spread evenly over the other registers. (Recall's Jeffreys prior would be half
            and half; of the few splits tried, this one covers best.)
            1,000 draws of the posterior give 1,000 scores; their 2.5 % and 97.5 % quantiles are the bounds.
            As in the Jeffreys interval of one proportion (Brown, Cai and DasGupta 2001, Stat. Sci. 16), the prior
            must not keep a bound away from what was seen without exception: for the lower bound, a register none
            of whose texts was found has recall 0; for the upper one, a register all of whose texts were found
            has recall 1, and one that was never predicted wrongly never will be.

Coverage, measured by `python tests/simulate_coverage.py` (2,000 simulations a line, standard error about .005;
7 registers, even or as uneven as in a real language; four classifiers with recalls from .1 to .95), lowest and highest:

    texts    macro_f1 even  macro_f1 uneven  micro_f1      recall        precision even  precision uneven
    1,000    .935 to .951   .938 to .961     .943 to .982  .922 to .967  .939 to .944    .926 to .966
    300      .930 to .955   .957 to .969     .948 to .979  .930 to .966  .931 to .945    .957 to .982
    60       .925 to .965   .957 to .974     .945 to .980  .929 to .977  .882 to .978    .944 to .982

Tried and left out as covering worse on uneven registers, 300 texts: resampling texts (percentile, .78 to .94),
Jeffreys' prior without the rule for what was seen without exception (.70 near-perfect), a prior shared between
registers (.74 where rare ones are found badly), the delta method within gold rows with smoothed counts (.91 to .99).
"""

import numpy as np

from utils import metrics

Z = 1.959964  # the normal distribution's 97.5 % quantile
TAILS = (0.025, 0.975)
N_DRAWS = 1000
PRIOR_RIGHT, PRIOR_WRONG = 0.6, 0.4  # texts


def intervals(confusion: np.ndarray, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval (low, high) of every metric of utils.metrics, by its name.

    confusion: counts, shape (n_registers, n_registers), rows gold, columns predicted.
    Every call draws from a stream of its own: the same counts and seed always give the same intervals.
    0 <= low <= score <= high <= 1; (nan, nan) without texts. Registers without gold texts are left out, as in
    the scores themselves. What the model is like in other registers, on another mix of registers or after
    another training run is not in the interval.
    """
    confusion = np.asarray(confusion)
    scores = metrics.all_metrics(confusion)
    if not confusion.sum():
        return dict.fromkeys(scores, (float("nan"), float("nan")))
    found = {"micro_f1": wilson(int(np.trace(confusion)), int(confusion.sum())), **_posterior(confusion, seed)}
    return {name: _around(score, *found[name]) for name, score in scores.items()}


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval (low, high) of the proportion correct / total, in [0, 1]."""
    share = correct / total
    centre = share + Z**2 / (2 * total)
    half = Z * np.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    scale = 1 + Z**2 / total
    return max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale))


def compare(
    gold: np.ndarray,
    predicted_a: np.ndarray,
    predicted_b: np.ndarray,
    n_registers: int,
    metric: str = "macro_f1",
    seed: int = 0,
    n_resamples: int = 10_000,
) -> dict[str, float]:
    """Compare two models on the same texts, by the paired bootstrap (Koehn 2004, EMNLP).

    gold, predicted_a, predicted_b: label ids in [0, n_registers), one per text, in the same order.
    Returns the difference of the metric, a's score minus b's; low and high, its 95 % percentile interval; and p,
    two-sided: twice the share of resamples in which the difference is zero or has the other sign, one resample
    added (Davison and Hinkley 1997, ch. 4), so that p lies in (0, 1]. All nan without texts.
    Swapping the models changes the signs and nothing else. A resample can lose a rare register, so p is a little
    too small where registers are rare: of 300 pairs of equally good models on 300 texts each, 4 % got a p below
    0.05 with even registers and 7 % with uneven ones.
    """
    gold, predicted_a, predicted_b = (np.asarray(ids, dtype=np.int64) for ids in (gold, predicted_a, predicted_b))
    if not len(gold):
        return dict.fromkeys(("difference", "low", "high", "p"), float("nan"))
    # texts with the same three registers are alike: drawing texts anew is drawing these counts anew
    shape = (n_registers,) * 3
    counts = np.bincount(np.ravel_multi_index((gold, predicted_a, predicted_b), shape), minlength=n_registers**3)
    swapped = counts.reshape(shape).transpose(0, 2, 1).ravel()
    swap = counts.tolist() < swapped.tolist()  # one order for both ways of calling, hence the same draws
    if swap:
        counts = swapped
    cells = np.flatnonzero(counts)
    draws = np.random.default_rng(seed).multinomial(len(gold), counts[cells] / len(gold), size=n_resamples)
    of_gold, of_a, of_b = (np.eye(n_registers)[ids] for ids in np.unravel_index(cells, shape))

    def difference(cell_counts: np.ndarray) -> np.ndarray:
        a, b = (
            _scores(cell_counts @ (of_gold * of_model), cell_counts @ of_gold, cell_counts @ of_model)[metric]
            for of_model in (of_a, of_b)
        )
        return np.round(b - a if swap else a - b, 12)  # equal scores, differently rounded, are equal

    observed = float(difference(counts[cells][None].astype(float))[0])
    resampled = difference(draws.astype(float))
    low, high = np.quantile(resampled, TAILS)
    fewer = min((resampled <= 0).sum(), (resampled >= 0).sum())
    return {
        "difference": observed,
        "low": min(float(low), observed),
        "high": max(float(high), observed),
        "p": min(1.0, float(2 * (fewer + 1) / (n_resamples + 1))),
    }


def holm(p_values: list[float]) -> list[float]:
    """Return the p values adjusted for their number (Holm 1979, Scand. J. Stat. 6), in the order given.

    Calling significant what has an adjusted p below 0.05 keeps the chance of one or more false alarms below 0.05.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _around(score: float, low: float, high: float) -> tuple[float, float]:
    """Return the bounds moved apart to hold the score, which the quantiles can miss where texts are few."""
    return max(0.0, min(low, score)), min(1.0, max(high, score))


def _posterior(confusion: np.ndarray, seed: int) -> dict[str, tuple[float, float]]:
    """Return the posterior's bounds of macro_f1, precision and recall; the confusion holds texts."""
    n_registers = len(confusion)
    with_gold = np.flatnonzero(confusion.sum(axis=1))
    counts = confusion[with_gold]
    row, own = np.arange(len(with_gold)), with_gold  # cell (row, own) is a register predicted right
    gold, predicted, right = counts.sum(axis=1), counts.sum(axis=0), counts[row, own]

    prior = np.full(counts.shape, PRIOR_WRONG / max(n_registers - 1, 1))
    prior[row, own] = PRIOR_RIGHT

    rng = np.random.default_rng(seed)
    # gamma draws, divided by their row's sum, are Dirichlet draws; cell by cell is numpy's fastest way
    draws = np.array([[rng.standard_gamma(shape, N_DRAWS) for shape in line] for line in counts + prior])

    is_right = np.zeros(counts.shape, dtype=bool)
    is_right[row, own] = True
    all_found, none_found = right == gold, right == 0
    never_wrongly = predicted == counts.sum(axis=0, where=is_right)
    bounds = []
    for excluded, tail in (
        (is_right & none_found[:, None], TAILS[0]),
        (~is_right & (all_found[:, None] | never_wrongly), TAILS[1]),
    ):
        expected = draws * ~excluded[:, :, None]
        expected *= (gold[:, None] / expected.sum(axis=1))[:, None]
        scores = _scores(expected[row, own].T, gold, expected.sum(axis=0)[own].T)
        bounds.append({name: float(np.quantile(values, tail)) for name, values in scores.items()})
    return {name: (bounds[0][name], bounds[1][name]) for name in ("macro_f1", "precision", "recall")}


def _scores(correct: np.ndarray, gold: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Return the metrics of many matrices at once, as utils.metrics defines them; registers along the last axis."""
    gold = np.broadcast_to(gold, correct.shape)
    has_gold = gold > 0
    n_with_gold = has_gold.sum(axis=-1)

    def mean(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        ratio = np.divide(numerator, denominator, out=np.zeros(correct.shape), where=has_gold & (denominator > 0))
        return ratio.sum(axis=-1) / n_with_gold

    return {
        "micro_f1": correct.sum(axis=-1) / gold.sum(axis=-1),
        "macro_f1": mean(2 * correct, gold + predicted),
        "precision": mean(correct, predicted),
        "recall": mean(correct, gold),
    }
