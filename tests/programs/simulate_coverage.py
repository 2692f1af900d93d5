"""Measure how often the intervals of utils/scores/intervals.py hold the truth, and how often --compare is wrong.

    python tests/programs/simulate_coverage.py  2,000 simulations a line, a minute on one core
    python tests/programs/simulate_coverage.py --methods new delta old bootstrap --only "7 uneven"  1 h
    python tests/programs/simulate_coverage.py --predictions outputs/xlmr-en/predictions/fi.tsv  your model's answers
    python tests/programs/simulate_coverage.py --compare  type I error and power of the paired test
    python tests/programs/simulate_coverage.py --trainings  the interval over several trainings

A simulation draws the gold counts of a test set of n texts from the shares of the registers, then each gold register's
row of the confusion matrix from the classifier's probabilities. The truth is the score of the expected counts: the
drawn gold counts times those probabilities. With --predictions, shares and probabilities are those of the files put
together: their texts are drawn anew.

A line: shares, classifier and where its errors go, n; the share of test sets that have a macro_f1_10 at all; then
of macro_f1_10, for each method, the share of intervals that hold the truth, those with the truth below and above,
the mean width, and the share of scores outside the middle half of their interval (scores of 0 and 1 apart); and of
each other metric the share of intervals that hold the truth. `!` marks a coverage below .93 or a side above .04.
With 2,000 simulations a coverage of .95 has a standard error of .005. Every line has a random stream of its own, from
--seed and the line's name.

Methods: new, that of the module intervals; old, the Bayesian one it replaced (a prior of .6 of a text right in each
gold row); bootstrap, the percentile interval of texts drawn from the whole test set; delta, as new without its three
cautions.
"""

import argparse
import csv
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils import metrics
from utils.scores import comparison, intervals

SIZES = (30, 60, 300, 1000, 8000)
UNEVEN = np.array([0.18, 0.39, 0.002, 0.37, 0.05, 0.007, 0.004])  # as in a real language
SHARES = {
    "7 even": np.full(7, 1 / 7),
    "7 uneven": UNEVEN / UNEVEN.sum(),
    "8 even": np.full(8, 1 / 8),
    "8 uneven": np.append(UNEVEN, 0.003) / (UNEVEN.sum() + 0.003),
}
# recall of the three largest registers and of the others
RECALLS = {
    "near-perfect": (0.95, 0.95),
    "usual": (0.78, 0.78),
    "weak": (0.5, 0.5),
    "rare well": (0.75, 0.95),
    "rare badly": (0.8, 0.25),
    "rare nearly never": (0.8, 0.03),
    "rare never": (0.8, 0.0),  # nor is it ever taken for another
}
ERRORS = ("any", "neighbours", "largest")
N_DRAWS = 400  # of the old method and the bootstrap


# ---- classifiers ----


def largest_first(shares: np.ndarray) -> np.ndarray:
    return np.argsort(-shares, kind="stable")


def probabilities(shares: np.ndarray, recalls: np.ndarray, errors: str, never: np.ndarray) -> np.ndarray:
    """Return a classifier: row g holds the probabilities of each predicted register, given gold register g."""
    n_registers = len(shares)
    off = np.tile(shares, (n_registers, 1))
    if errors == "neighbours":
        off = np.roll(np.eye(n_registers), 1, axis=1) + np.roll(np.eye(n_registers), -1, axis=1)
    elif errors == "largest":
        first, second = largest_first(shares)[:2]
        off = np.eye(n_registers)[np.where(np.arange(n_registers) == first, second, first)]
    np.fill_diagonal(off, 0)
    found = off / off.sum(axis=1, keepdims=True) * (1 - recalls)[:, None] + np.diag(recalls)
    found[:, never] = 0
    found[found.sum(axis=1) == 0, shares.argmax()] = 1
    return found / found.sum(axis=1, keepdims=True)


def classifiers(shares: np.ndarray) -> dict[str, np.ndarray]:
    rare = np.ones(len(shares), dtype=bool)
    rare[largest_first(shares)[:3]] = False
    found = {}
    for label, (usual, of_rare) in RECALLS.items():
        recalls = np.where(rare, of_rare, usual)
        for errors in ERRORS:
            found[f"{label}, {errors}"] = probabilities(shares, recalls, errors, recalls == 0)
    found["always one register"] = np.tile(np.eye(len(shares))[shares.argmax()], (len(shares), 1))
    return found


def of_predictions(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return shares and probabilities of the texts of predictions/LANG.tsv files, put together."""
    counts = 0
    for path in paths:
        with open(path, encoding="utf-8", newline="") as file:
            table = csv.DictReader(file, delimiter="\t")
            registers = table.fieldnames[3:]
            rows = [(registers.index(row["gold"]), registers.index(row["predicted"])) for row in table]
        counts = counts + metrics.count_confusions(*np.array(rows).T, len(registers))
    gold = counts.sum(axis=1)
    return gold[gold > 0] / gold.sum(), _rows_of(counts[gold > 0][:, gold > 0])


def _rows_of(counts: np.ndarray) -> np.ndarray:
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def populations(predictions: list[Path]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, shares and probabilities of each."""
    if predictions:
        yield "predictions", *of_predictions(predictions)
    for name, shares in {} if predictions else SHARES.items():
        for label, classifier in classifiers(shares).items():
            yield f"{name}, {label}", shares, classifier


# ---- methods: (counts of n matrices, metric) -> low and high ----


def delta(counts: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    gold = counts.sum(axis=2)
    score, slopes = intervals.scores_and_slopes(counts.astype(float), intervals.averaged(gold, metric), metric)
    shares = counts / np.maximum(gold, 1)[:, :, None]
    variance = (gold * ((shares * slopes**2).sum(axis=2) - (shares * slopes).sum(axis=2) ** 2)).sum(axis=1)
    return intervals.ends(score, score, np.maximum(variance, 0), np.full(len(score), np.inf))


def drawn(counts: np.ndarray, metric: str, draw: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Return the 2.5 % and 97.5 % quantiles of the scores of N_DRAWS matrices drawn for each."""
    bounds = np.empty((len(counts), 2))
    for i, confusion in enumerate(counts):
        chosen = intervals.averaged(confusion.sum(axis=1), metric)[None]
        tails = []
        for matrices in draw(confusion):
            correct = np.diagonal(matrices, axis1=1, axis2=2)
            gold, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
            own = chosen & (gold > 0)
            tails.append(intervals.scores_and_weights(correct, gold, predicted, own, metric)[0])
        bounds[i] = np.quantile(tails[0], 0.025), np.quantile(tails[-1], 0.975)
    return bounds.T


def bootstrap(counts: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)

    def draw(confusion: np.ndarray) -> list[np.ndarray]:
        flat = rng.multinomial(confusion.sum(), confusion.ravel() / confusion.sum(), N_DRAWS)
        return [flat.reshape(N_DRAWS, *confusion.shape)]

    return drawn(counts, metric, draw)


def old(counts: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)

    def draw(confusion: np.ndarray) -> list[np.ndarray]:
        gold, right = confusion.sum(axis=1), np.eye(len(confusion), dtype=bool)
        prior = np.where(right, 0.6, 0.4 / (len(confusion) - 1))
        gammas = rng.standard_gamma(confusion + prior, (N_DRAWS, *confusion.shape))
        wrongly = (confusion * ~right).sum(axis=0) == 0
        none, all_found = np.diag(confusion) == 0, np.diag(confusion) == gold
        left_out = right & none[:, None], ~right & (all_found[:, None] | wrongly)
        kept = [gammas * ~excluded for excluded in left_out]
        return [part * (gold[:, None] / part.sum(axis=2, keepdims=True)) for part in kept]

    return drawn(counts, metric, draw)


METHODS = {"new": intervals.bounds, "delta": delta, "old": old, "bootstrap": bootstrap}


# ---- coverage ----


def simulate(
    classifier: np.ndarray, shares: np.ndarray, n: int, simulations: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of that many test sets, and those expected: (simulations, n_registers, n_registers)."""
    gold = rng.multinomial(n, shares, size=simulations)
    return rng.multinomial(gold, classifier[None]), gold[:, :, None] * classifier


def judge(counts: np.ndarray, expected: np.ndarray, metric: str, method: Callable) -> dict[str, float]:
    """Return coverage, the shares of truths below and above, mean width, and scores outside the middle half.

    Only test sets with a score and an interval count; share: how many have.
    """
    gold = counts.sum(axis=2)
    chosen = intervals.averaged(gold, metric)
    has_score = chosen.any(axis=1)
    if has_score.mean() < 0.05:
        return {"share": float(has_score.mean())}
    counts, expected, chosen = counts[has_score], expected[has_score], chosen[has_score]
    truth, _ = intervals.scores_and_slopes(expected, chosen, metric)
    score, _ = intervals.scores_and_slopes(counts.astype(float), chosen, metric)
    low, high = method(counts, metric)
    shown = np.isfinite(low)
    truth, score, low, high = (values[shown] for values in (truth, score, low, high))
    if not len(truth):
        return {"share": 0.0}
    below, above = (truth < low - 1e-9).mean(), (truth > high + 1e-9).mean()
    inner = (score > 1e-9) & (score < 1 - 1e-9) & (high > low)
    place = (score - low)[inner] / (high - low)[inner]
    return {
        "share": float(has_score.mean() * shown.mean()),
        "coverage": 1 - below - above,
        "below": below,
        "above": above,
        "width": float((high - low).mean()),
        "outside": float(((place < 0.25) | (place > 0.75)).sum() / len(score)),
    }


def shown(found: dict[str, float]) -> str:
    if "coverage" not in found:
        return "   too few texts           "
    mark = "!" if found["coverage"] < 0.93 or max(found["below"], found["above"]) > 0.04 else " "
    return "{coverage:.3f}{mark} {below:.3f} {above:.3f} {width:.3f} {outside:.2f}".format(mark=mark, **found)


def stream(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def coverage_table(args: argparse.Namespace) -> None:
    print(f"{args.simulations} simulations a line, seed {args.seed}")
    columns = "".join(f"  {method:27}" for method in args.methods)
    print(f"{'population':43} {'n':>5} has  {columns}  macro_f1 recall precision micro_f1")
    for name, shares, classifier in populations(args.predictions):
        for n in args.sizes if args.only in name else ():
            rng = stream(args.seed, f"{name} {n}")
            counts, expected = simulate(classifier, shares, n, args.simulations, rng)
            found = [judge(counts, expected, "macro_f1_10", METHODS[method]) for method in args.methods]
            others = [
                judge(counts, expected, metric, intervals.bounds) for metric in ("macro_f1", "recall", "precision")
            ]
            wilson = np.array([intervals.wilson(int(np.trace(c)), n) for c in counts]).T
            others.append(judge(counts, expected, "micro_f1", lambda *_, both=wilson: both))
            rest = " ".join(f"{one.get('coverage', np.nan):8.3f}" for one in others)
            print(f"{name:43} {n:5} {found[0]['share']:.2f}  {'  '.join(map(shown, found))}  {rest}", flush=True)


# ---- comparisons ----


def two_models(
    a: np.ndarray, b: np.ndarray, shares: np.ndarray, n: int, alike: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return gold registers and two models' answers; a share of the texts, alike, is as hard for both."""
    gold = rng.choice(len(shares), n, p=shares)
    first = rng.random(n)
    second = np.where(rng.random(n) < alike, first, rng.random(n))
    answers = (
        np.minimum((chance[:, None] > model.cumsum(axis=1)[gold]).sum(axis=1), len(shares) - 1)
        for model, chance in ((a, first), (b, second))
    )
    return gold, *answers


def old_p(
    gold: np.ndarray, a: np.ndarray, b: np.ndarray, n_registers: int, metric: str, rng: np.random.Generator
) -> float:
    """Return p of the paired bootstrap that the randomisation test replaced (Koehn 2004), 400 resamples."""
    one_hot = np.eye(n_registers)
    weights = rng.multinomial(len(gold), np.full(len(gold), 1 / len(gold)), N_DRAWS)
    scores = []
    for model in (a, b):
        counts = (weights @ (one_hot[gold] * one_hot[model]), weights @ one_hot[gold], weights @ one_hot[model])
        chosen = intervals.averaged(np.bincount(gold, minlength=n_registers), metric)[None] & (counts[1] > 0)
        scores.append(intervals.scores_and_weights(*counts, chosen, metric)[0])
    difference = np.round(scores[0] - scores[1], 12)
    return min(1.0, 2 * (min((difference <= 0).sum(), (difference >= 0).sum()) + 1) / (N_DRAWS + 1))


def mcnemar_p(gold: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import binomtest

    only_a, only_b = int(((a == gold) & (b != gold)).sum()), int(((b == gold) & (a != gold)).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def comparison_table(args: argparse.Namespace) -> None:
    """Print how often two models are called different (p < .05), and how often the interval holds their difference."""
    print(f"{args.simulations} simulations a line, seed {args.seed}; called different by --compare, bootstrap, McNemar")
    for shares_name in ("7 even", "7 uneven"):
        shares = SHARES[shares_name]
        usual = np.full(7, 0.7)
        other = usual.copy()
        other[largest_first(shares)[:2]] += 0.15, -0.15  # as good on average, and not alike
        pairs = {"alike": (usual, usual), "others' errors": (usual, other), "better by 10": (usual, usual + 0.1)}
        for label, recalls in pairs.items():
            models = [probabilities(shares, recall, "any", recall == 0) for recall in recalls]
            for n in (30, 100, 300, 1000):
                for metric in ("macro_f1_10", "micro_f1"):
                    compare_line(f"{shares_name}, {label}", models, shares, n, metric, args)


def compare_line(
    name: str, models: list[np.ndarray], shares: np.ndarray, n: int, metric: str, args: argparse.Namespace
) -> None:
    rng = stream(args.seed, f"{name} {n} {metric}")
    called, held = [], []
    for _ in range(args.simulations):
        gold, a, b = two_models(*models, shares, n, 0.5, rng)
        found = comparison.compare(gold, a, b, len(shares), metric, n_exchanges=500)
        if np.isnan(found["p"]):
            continue
        counts = np.bincount(gold, minlength=len(shares))
        chosen = intervals.averaged(counts, metric)[None]
        truth = [intervals.scores_and_slopes(counts[None, :, None] * m, chosen, metric)[0][0] for m in models]
        held.append(found["low"] - 1e-9 <= truth[0] - truth[1] <= found["high"] + 1e-9)
        p_values = (found["p"], old_p(gold, a, b, len(shares), metric, rng))
        called.append([p < 0.05 for p in (*p_values, mcnemar_p(gold, a, b) if metric == "micro_f1" else 1)])
    if len(held) < args.simulations / 20:
        return
    rates = np.mean(called, axis=0)
    last = f"{rates[2]:.3f}" if metric == "micro_f1" else "     "
    print(
        f"{name:26} {n:5} {metric:12} {rates[0]:.3f} {rates[1]:.3f} {last}  interval holds {np.mean(held):.3f}",
        flush=True,
    )


# ---- several trainings ----


def trainings_table(args: argparse.Namespace) -> None:
    """Print how often interval_of_mean holds the mean score of very many trainings, each a little different."""
    print(f"{args.simulations} simulations a line, seed {args.seed}; trainings, coverage, below, above, width")
    for shares_name in ("7 even", "7 uneven"):
        shares = SHARES[shares_name]
        base = classifiers(shares)["usual, any"]
        for n in (300, 1000):
            for scatter in (30, 300):
                for n_trainings in (2, 3, 5):
                    name = f"{shares_name}, n {n}, scatter {scatter}, {n_trainings}"
                    trainings_line(name, base, shares, n, scatter, n_trainings, args)


def trainings_line(
    name: str, base: np.ndarray, shares: np.ndarray, n: int, scatter: int, n_trainings: int, args: argparse.Namespace
) -> None:
    rng = stream(args.seed, name)
    many = np.stack([rng.dirichlet(row * scatter + 1e-3, size=500) for row in base], axis=1)
    bounds = []
    for _ in range(args.simulations):
        gold = rng.choice(len(shares), n, p=shares)
        chance = rng.random(n)
        models = many[rng.choice(len(many), n_trainings, replace=False)]
        chances = [np.where(rng.random(n) < 0.6, chance, rng.random(n)) for _ in models]
        answers = np.array([
            np.minimum((own[:, None] > model.cumsum(axis=1)[gold]).sum(axis=1), len(shares) - 1)
            for model, own in zip(models, chances, strict=True)
        ])  # fmt: skip
        counts = np.array([metrics.count_confusions(gold, one, len(shares)) for one in answers])
        together = intervals.correlation(gold, answers, len(shares), "macro_f1_10")
        low, high = intervals.interval_of_mean([intervals.spread(counts, "macro_f1_10")], [together])
        per_gold = counts[:1].sum(axis=2)
        chosen = intervals.averaged(per_gold, "macro_f1_10")
        truth = np.mean(intervals.scores_and_slopes(per_gold[:, :, None] * many, chosen, "macro_f1_10")[0])
        bounds.append((low, truth, high))
    low, truth, high = np.array(bounds).T
    below, above = (truth < low).mean(), (truth > high).mean()
    print(f"{name:40} {1 - below - above:.3f} {below:.3f} {above:.3f} {(high - low).mean():.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["new"])
    parser.add_argument("--only", default="", metavar="TEXT", help="populations with this in their name")
    parser.add_argument("--predictions", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--trainings", action="store_true")
    args = parser.parse_args()
    table = comparison_table if args.compare else trainings_table if args.trainings else coverage_table
    table(args)


if __name__ == "__main__":
    main()
