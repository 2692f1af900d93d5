"""Measure how often the intervals of utils/intervals.py hold the truth, on simulated classifiers.

    python tests/simulate_coverage.py                        2,000 simulations per line, about four minutes
    python tests/simulate_coverage.py --simulations 200      a quick look
    python tests/simulate_coverage.py --method percentile    the plain bootstrap over all texts, for comparison
    python tests/simulate_coverage.py --all-classifiers      also the harder classifiers below

A simulation draws the gold counts of a test set of n texts from the shares of the registers, then each gold
register's row of the confusion matrix from the classifier's probabilities. The truth is the score of the expected
counts: the drawn gold counts times those probabilities. Registers that got no gold texts are left out of both.

Printed per line: the shares (even, or uneven as in a real language), n, the classifier, and for macro-F1 the
share of intervals that hold the truth, the shares of truths below and above the interval and the interval's mean
width; for the other metrics, the share that hold the truth. With 2,000 simulations of a coverage of .95, a figure
has a standard error of .005.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils import intervals, metrics

UNEVEN = np.array([0.18, 0.39, 0.002, 0.37, 0.05, 0.007, 0.004])
SHARES = {"even": np.full(7, 1 / 7), "uneven": UNEVEN / UNEVEN.sum()}
SIZES = (60, 300, 1000)
# recall per register, in the order of the shares; errors go to the other registers in proportion to their shares
RECALLS = {
    "usual": [0.78] * 7,
    "weak": [0.55] * 7,
    "near-perfect": [0.95] * 7,
    "rare badly": [0.8, 0.85, 0.1, 0.8, 0.5, 0.3, 0.2],
}
HARDER_RECALLS = {
    "rare half": [0.8, 0.85, 0.4, 0.8, 0.65, 0.5, 0.5],
    "rare well": [0.7, 0.75, 0.97, 0.7, 0.8, 0.95, 0.97],
    "rare never": [0.75, 0.9, 0.0, 0.85, 0.3, 0.0, 0.0],
}
RANDOM_CLASSIFIERS = 3


def probabilities(recalls: list[float], shares: np.ndarray) -> np.ndarray:
    """Return a classifier: row g holds the probabilities of each predicted register, given gold register g."""
    errors = np.tile(shares, (len(shares), 1))
    np.fill_diagonal(errors, 0)
    errors /= errors.sum(axis=1, keepdims=True)
    return errors * (1 - np.array(recalls))[:, None] + np.diag(recalls)


def random_probabilities(seed: int, shares: np.ndarray) -> np.ndarray:
    """Return a classifier with rows from a Dirichlet distribution: recalls mostly between .4 and .8."""
    return np.array([np.random.default_rng((seed, g)).dirichlet(0.3 + 2 * shares + 5 * np.eye(7)[g]) for g in range(7)])


def classifiers(shares: np.ndarray, harder: bool) -> dict[str, np.ndarray]:
    recalls = RECALLS | (HARDER_RECALLS if harder else {})
    found = {name: probabilities(values, shares) for name, values in recalls.items()}
    for seed in range(1, RANDOM_CLASSIFIERS + 1 if harder else 1):
        found[f"random {seed}"] = random_probabilities(seed, shares)
    return found


def percentile(confusion: np.ndarray, n_resamples: int = 1000) -> dict[str, tuple[float, float]]:
    """Return the percentile intervals of the bootstrap that draws texts from the whole test set."""
    draws = np.random.default_rng(0).multinomial(confusion.sum(), confusion.ravel() / confusion.sum(), n_resamples)
    draws = draws.reshape(n_resamples, *confusion.shape)
    correct = np.diagonal(draws, axis1=1, axis2=2)
    scores = intervals._scores(correct, draws.sum(axis=2), draws.sum(axis=1))
    return {name: tuple(np.quantile(values, intervals.TAILS)) for name, values in scores.items()}


def simulate(
    classifier: np.ndarray,
    shares: np.ndarray,
    n: int,
    simulations: int,
    method: Callable[[np.ndarray], dict[str, tuple[float, float]]] = intervals.intervals,
    seed: str = "",
) -> dict[str, np.ndarray]:
    """Return per metric an array of shape (simulations, 3): low, truth, high."""
    rng = np.random.default_rng(list(seed.encode()))
    found = {name: np.empty((simulations, 3)) for name in metrics.METRICS}
    for i in range(simulations):
        gold = rng.multinomial(n, shares)
        truth = metrics.all_metrics(gold[:, None] * classifier)
        bounds = method(rng.multinomial(gold, classifier))
        for name, (low, high) in bounds.items():
            found[name][i] = low, truth[name], high
    return found


def coverage(low_truth_high: np.ndarray) -> tuple[float, float, float]:
    """Return the share of truths inside the interval, below it and above it; the bounds are inside."""
    low, truth, high = low_truth_high.T
    below, above = (truth < low - 1e-9).mean(), (truth > high + 1e-9).mean()
    return 1 - below - above, below, above


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--method", choices=["posterior", "percentile"], default="posterior")
    parser.add_argument("--all-classifiers", action="store_true")
    args = parser.parse_args()
    method = {"posterior": intervals.intervals, "percentile": percentile}[args.method]

    print(f"{args.method}, {args.simulations} simulations")
    print("shares  n     classifier    macro_f1 below above width   micro_f1 precision recall")
    for name, shares in SHARES.items():
        for n in SIZES:
            for label, classifier in classifiers(shares, args.all_classifiers).items():
                seed = f"{name} {n} {label}"
                found = simulate(classifier, shares, n, args.simulations, method, seed)
                inside = {metric: coverage(values) for metric, values in found.items()}
                width = np.diff(found["macro_f1"][:, ::2]).mean()
                macro = " ".join(f"{share:.3f}" for share in inside["macro_f1"])
                others = "     ".join(f"{inside[metric][0]:.3f}" for metric in ("micro_f1", "precision", "recall"))
                print(f"{name:7} {n:<5} {label:13} {macro} {width:.3f}    {others}", flush=True)


if __name__ == "__main__":
    main()
