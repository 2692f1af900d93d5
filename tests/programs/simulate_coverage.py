"""Measure on simulated test sets whether utils/uncertainty.py keeps its promises.

    python tests/programs/simulate_coverage.py              how often a score's interval holds the truth: a minute
    python tests/programs/simulate_coverage.py --trainings  the same of a mean over 1, 3 and 5 trainings: ten minutes
    python tests/programs/simulate_coverage.py --compare    two models: how often they are called different (p < 0.05),
                                                            and how often the interval holds: a quarter of an hour

A population is the shares of the gold registers and a classifier: for each gold register, the probabilities of the
predicted ones. Each simulation draws a test set of n texts from it. The truth is the score of the population's own
probabilities, averaged over the registers that the drawn test set averages. Trainings `apart` have probabilities of
their own each, from a Dirichlet distribution around the classifier's.

A line: the population, n, then what was measured. `!` marks what misses its target: intervals that hold the truth in 92
to 97 of 100 cases, equal models called different in 3 to 7, no interval of width 0. With 2,000 simulations, .95 has a
standard error of .005. Every line has a random stream of its own: --only gives the same numbers.
"""

import argparse
import itertools
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils import metrics, uncertainty

COVERAGE, ALARMS = (0.92, 0.97), (0.03, 0.07)
UNEVEN = np.array([0.18, 0.39, 0.002, 0.37, 0.05, 0.007, 0.004])  # as in a real language
SHARES = {"7 even": np.full(7, 1 / 7), "7 uneven": UNEVEN / UNEVEN.sum(), "8 even": np.full(8, 1 / 8)}
SHARES["8 uneven"] = np.append(UNEVEN, 0.003) / (UNEVEN.sum() + 0.003)
TWO_LARGE = np.array([0.3, 0.3, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05])  # two registers can be exchanged
# recall of the three largest registers and of the others
RECALLS = {
    "near-perfect": (0.95, 0.95),
    "usual": (0.78, 0.78),
    "weak": (0.5, 0.5),
    "rare well": (0.75, 0.95),
    "rare badly": (0.8, 0.25),
    "rare nearly never": (0.8, 0.03),
    "rare never": (0.8, 0.0),
}


def classifier(shares: np.ndarray, recalls: np.ndarray, errors: str = "any") -> np.ndarray:
    """Return a classifier; its errors go to any register, to neighbours or to the largest. Recall 0: not predicted."""
    n_registers = len(shares)
    wrong = np.tile(shares, (n_registers, 1))
    if errors == "neighbours":
        wrong = np.roll(np.eye(n_registers), 1, axis=1) + np.roll(np.eye(n_registers), -1, axis=1)
    elif errors == "largest":
        first, second = np.argsort(-shares, kind="stable")[:2]
        wrong = np.eye(n_registers)[np.where(np.arange(n_registers) == first, second, first)]
    np.fill_diagonal(wrong, 0)
    model = wrong / wrong.sum(axis=1, keepdims=True) * (1 - recalls)[:, None] + np.diag(recalls)
    model[:, recalls == 0] = 0
    model[model.sum(axis=1) == 0, shares.argmax()] = 1
    return model / model.sum(axis=1, keepdims=True)


def nearly_constant(favourite: int, at_random: float) -> np.ndarray:
    """Return a classifier that predicts the favourite, and for a share of the texts any register of TWO_LARGE."""
    return np.tile(np.eye(8)[favourite] * (1 - at_random) + at_random / 8, (8, 1))


def one_good_one_bad(*recalls: float) -> np.ndarray:
    """Return a classifier of TWO_LARGE with these recalls of the two large registers, and .7 for the others."""
    return classifier(TWO_LARGE, np.array([*recalls, *[0.7] * 6]))


def populations() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, shares and classifier of each."""
    for name, shares in SHARES.items():
        rare = np.argsort(np.argsort(-shares, kind="stable")) >= 3
        for label, (usual, of_rare) in RECALLS.items():
            for errors in ("any", "neighbours", "largest"):
                yield f"{name}, {label}, {errors}", shares, classifier(shares, np.where(rare, of_rare, usual), errors)
        yield f"{name}, constant", shares, np.tile(np.eye(len(shares))[shares.argmax()], (len(shares), 1))
    for at_random in (0.0, 0.05, 0.3):
        yield f"two large, {at_random:.0%} at random, else one", TWO_LARGE, nearly_constant(0, at_random)
    yield "two large, recalls .9 and .3", TWO_LARGE, one_good_one_bad(0.9, 0.3)


def pairs() -> Iterator[tuple[str, np.ndarray, list[np.ndarray], float]]:
    """Yield name, shares, two classifiers, and the share of the texts that are equally hard for both; = : equal."""
    usual, high, better = np.full(7, 0.7), np.full(7, 0.95), np.full(7, 0.8)
    for name in ("7 even", "7 uneven"):
        shares, other = SHARES[name], usual.copy()
        other[np.argsort(-shares, kind="stable")[:2]] += 0.15, -0.15
        labels = ("= alike", "= near-perfect", "other errors", "better by 10 points")
        for label, both in zip(labels, ((usual, usual), (high, high), (usual, other), (usual, better)), strict=True):
            yield f"{name} {label}", shares, [classifier(shares, recalls) for recalls in both], 0.5
    for at_random in (0.0, 0.05, 0.3):
        one, other = nearly_constant(0, at_random), nearly_constant(1, at_random)
        yield f"= {at_random:.0%} at random, else one or other", TWO_LARGE, [one, other], 0.0
        if at_random:
            yield f"= {at_random:.0%} at random, else the same", TWO_LARGE, [one, one], 0.0
    yield "= recalls exchanged", TWO_LARGE, [one_good_one_bad(0.9, 0.3), one_good_one_bad(0.3, 0.9)], 0.5


def stream(args: argparse.Namespace, name: str) -> np.random.Generator:
    return np.random.default_rng([args.seed, zlib.crc32(name.encode())])


def trainings_of(model: np.ndarray, concentration: float, rng: np.random.Generator, n: int = 100) -> np.ndarray:
    """Return the classifiers of n trainings, shape (n, registers, registers)."""
    if concentration == np.inf:
        return model[None]
    parts = rng.standard_gamma(np.broadcast_to(model * concentration, (n, *model.shape))) + 1e-12 * model
    return parts / parts.sum(axis=2, keepdims=True)


def answers(models: np.ndarray, gold: np.ndarray, alike: float, rng: np.random.Generator) -> np.ndarray:
    """Return what each model predicts, shape (n_models, n_texts); alike: share of texts equally hard for all."""
    chance = rng.random((len(models), len(gold)))
    shared = rng.random(len(gold)) < alike
    chance[:, shared] = chance[0, shared]
    return (chance[:, :, None] > models.cumsum(axis=2)[:, gold, :-1]).sum(axis=2)


def true_score(shares: np.ndarray, models: np.ndarray, gold: np.ndarray, metric: str) -> float:
    """Return the population's score, as a mean over models, over the registers that these gold labels average."""
    chosen = uncertainty.averaged(np.bincount(gold, minlength=len(shares)), metric)
    chosen = np.broadcast_to(chosen, (len(models), len(shares)))
    return float(uncertainty.score_and_slopes(shares[:, None] * models, chosen, metric)[0].mean())


def marked(value: float, target: tuple[float, float]) -> str:
    return f"{value:.3f}{' ' if target[0] <= value <= target[1] else '!'}"


def held(truth: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    """Return what is printed about intervals: how many hold the truth, truths below and above, mean width."""
    below, above = (truth < low - 1e-9).mean(), (truth > high + 1e-9).mean()
    width = high - low
    no_width = " width 0!" if width.min() <= 0 else ""
    return f"{marked(1 - below - above, COVERAGE)} {below:.3f} {above:.3f} {width.mean():.3f}{no_width}"


def coverage_table(args: argparse.Namespace) -> None:
    print("share of test sets that have an interval; it holds the truth; truth below it, above it; mean width")
    print(f"{'':48}{'  '.join(f'{metric:30}' for metric in metrics.METRICS)}")
    for name, shares, model in populations():
        for n in args.sizes or (30, 60, 300, 1000, 8000) if args.only in name else ():
            cells, line = shares[:, None] * model, []
            counts = stream(args, f"{name} {n}").multinomial(n, cells.ravel(), size=args.simulations)
            counts = counts.reshape(-1, *cells.shape)
            for metric in metrics.METRICS:
                chosen = uncertainty.averaged(counts.sum(axis=2), metric)
                truth, _ = uncertainty.score_and_slopes(np.broadcast_to(cells, counts.shape), chosen, metric)
                low, high = uncertainty.intervals(counts, metric)
                has = np.isfinite(low)
                what = held(truth[has], low[has], high[has]) if has.mean() >= 0.05 else ""
                line.append(f"{has.mean():.2f} {what}")
            print(f"{name:40} {n:5}  {'  '.join(f'{what:30}' for what in line)}".rstrip(), flush=True)


def trainings_table(args: argparse.Namespace) -> None:
    """Print how often interval_of_mean holds the truth: of 1 training its own score, of several that of very many."""
    print("holds the truth, truth below, above, mean width: of 1, 3 and 5 trainings")
    for name, shares, model in populations():
        wanted = name.startswith("two large") or (name[0] == "7" and name.endswith(("usual, any", "near-perfect, any")))
        sizes = args.sizes or (60, 300, 1000) if wanted and args.only in name else ()
        for n, concentration, metric in itertools.product(sizes, (100, np.inf), ("macro_f1_10", "micro_f1")):
            label, line = f"{name + ', apart' * (concentration < np.inf):42} {n:5} {metric:12}", []
            rng = stream(args, label)
            many = trainings_of(model, concentration, rng)
            for n_trainings in (1, 3, 5):
                bounds = np.empty((args.simulations, 3))
                for i in range(args.simulations):
                    gold = rng.choice(len(shares), n, p=shares)
                    models = many[rng.integers(len(many), size=n_trainings)]
                    predicted = answers(models, gold, 0.6, rng)
                    counts = np.array([metrics.count_confusions(gold, one, len(shares)) for one in predicted])
                    truth = true_score(shares, models if n_trainings == 1 else many, gold, metric)
                    bounds[i] = truth, *uncertainty.interval_of_mean([(counts, gold, predicted)], metric)
                has = np.isfinite(bounds[:, 1])
                line.append(held(*bounds[has].T) if has.mean() >= 0.05 else "")
            print(f"{label}  {'  '.join(f'{what:26}' for what in line)}", flush=True)


def comparison_table(args: argparse.Namespace) -> None:
    """Print how often two models are called different, and how often the interval holds their difference."""
    settings = {"1:1": (1, 1, np.inf), "3:3": (3, 3, np.inf), "3:3 apart": (3, 3, 100), "3:1": (3, 1, np.inf)}
    print(f"{'called different, interval holds the truth':56}", "".join(f"{label:16}" for label in settings))
    for name, shares, pair, alike in pairs():
        sizes = args.sizes or (30, 100, 300, 1000) if args.only in name else ()
        for n, metric in itertools.product(sizes, ("macro_f1_10", "micro_f1")):
            line = []
            for label, (n_a, n_b, concentration) in settings.items():
                rng, results = stream(args, f"{name} {n} {metric} {label}"), []
                many = [trainings_of(model, concentration, rng) for model in pair]
                for _ in range(args.simulations):
                    gold = rng.choice(len(shares), n, p=shares)
                    models = [of[rng.integers(len(of), size=k)] for of, k in zip(many, (n_a, n_b), strict=True)]
                    predicted = answers(np.concatenate(models), gold, alike, rng)
                    one = uncertainty.compare(gold, predicted[:n_a], predicted[n_a:], len(shares), metric)
                    truth = [true_score(shares, of, gold, metric) for of in many]
                    results.append((one["p"], truth[0] - truth[1], one["low"], one["high"]))
                p, *bounds = np.array(results)[np.isfinite([result[0] for result in results])].T
                called = marked((p < 0.05).mean(), ALARMS if "=" in name else (0, 1)) if len(p) else ""
                line.append(f"{called} {held(*bounds)[:6]}" if len(p) >= args.simulations / 20 else "")
            print(f"{name:38} {n:5} {metric:12} {'  '.join(f'{what:14}' for what in line)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of texts")
    parser.add_argument("--only", default="", metavar="TEXT", help="populations with this in their name")
    modes = {"--trainings": trainings_table, "--compare": comparison_table}
    for mode, table in modes.items():
        parser.add_argument(mode, action="store_const", const=table, default=coverage_table, dest="table")
    args = parser.parse_args()
    print(f"{args.simulations} simulations a line, seed {args.seed}")
    args.table(args)


if __name__ == "__main__":
    main()
