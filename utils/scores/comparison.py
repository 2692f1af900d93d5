"""Whether two models differ on the same texts, and which models can't be told from the best.

Of two models, one training each, p comes from a paired randomisation test: if the models are alike, each text's two
answers could as well be exchanged (Noreen 1989; for F1, Yeh 2000, COLING). What is compared is the difference of the
scores over its standard error, by the delta method within gold rows as in intervals.py; that makes the test right
also where the models' scores are alike and their errors are not (Chung and Romano 2013, Ann. Stat. 41). p is a mid-p:
exchanges that give the very difference observed count half, for with few texts that differ there are many of these, and
counting them whole would make the test blunt. Of accuracy, this is McNemar's test (mid-p).

The interval of the difference is its standard error times the value that 95 % of the exchanges stay below, on both
sides: it leaves 0 out where p is below 0.05.

Of several trainings of each model, the trainings are compared: the standard error holds the scatter of the trainings
between them and that of the texts, and p is that of Welch's t test. Few trainings have few degrees of freedom.

Measured by `python tests/programs/simulate_coverage.py --compare` (1,000 simulations a line or more, standard error
.007; 30 to 1,000 texts, 7 registers, even and uneven): models that are alike were called different in .041 to .060 of
cases by macro_f1_10 (a bootstrap of the texts: .048 to .085) and in .033 to .051 by accuracy (bootstrap .037 to .061,
exact McNemar test .007 to .032; up to 300 texts), least with 30 texts; models as good that err otherwise, in .038 to
.068.
A model better by ten points in each register was found with 100 texts in .565 of cases by macro_f1_10 (bootstrap .580),
with 300 in .945 (.940). The interval held the difference in .937 to .986.
"""

import numpy as np

from utils.scores import intervals

N_EXCHANGES = 10_000
AT_ONCE = 1_000  # exchanges, so that memory stays small


def compare(
    gold: np.ndarray,
    predicted_a: np.ndarray,
    predicted_b: np.ndarray,
    n_registers: int,
    metric: str = "macro_f1_10",
    seed: int = 0,
    n_exchanges: int = N_EXCHANGES,
) -> dict[str, float]:
    """Compare two models on the same texts.

    gold: label ids in [0, n_registers), one per text. predicted_a, predicted_b: the same, of one training: shape
    (n_texts,); or of several trainings of each model: (n_trainings, n_texts).
    Returns the difference of the metric, a's score minus b's (of several trainings, of the means); low and high, its
    95 % interval; and p, two-sided, in (0, 1]. All nan where there are too few texts. Swapping the models changes the
    signs and nothing else; the same texts in another order change nothing.
    """
    gold = np.asarray(gold, dtype=np.int64)
    a, b = (np.atleast_2d(np.asarray(ids, dtype=np.int64)) for ids in (predicted_a, predicted_b))
    chosen = intervals.averaged(np.bincount(gold, minlength=n_registers), metric)
    if not chosen.any():
        return dict.fromkeys(("difference", "low", "high", "p"), float("nan"))
    if len(a) > 1 and len(b) > 1:
        return _compare_trainings(gold, a, b, chosen, metric)
    cells, counts = _cells(gold, a[0], b[0], n_registers)
    others = _cells(gold, b[0], a[0], n_registers)[1]
    swap = others.tolist() < counts.tolist()  # one order for both ways of calling, hence the same draws
    sign = -1 if swap else 1
    difference, error = _differences(cells, (others if swap else counts)[None], chosen, metric)
    if not difference[0] and not error[0]:
        return {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    sizes = _exchanged(cells, counts, chosen, metric, seed, n_exchanges)
    observed = abs(float(difference[0])) / float(error[0])
    beyond, alike = (sizes > observed + 1e-9).sum(), (np.abs(sizes - observed) <= 1e-9).sum() + 1
    p = float(beyond + alike / 2) / (n_exchanges + 1) if observed else 1.0
    return _found(sign * float(difference[0]), float(np.quantile(sizes, 0.95)) * float(error[0]), p)


def _found(difference: float, half: float, p: float) -> dict[str, float]:
    return {"difference": difference, "low": max(-1.0, difference - half), "high": min(1.0, difference + half), "p": p}


def _cells(gold: np.ndarray, a: np.ndarray, b: np.ndarray, n_registers: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the triples (gold, a's answer, b's) that occur, or would after exchanges, and how often: texts of a
    triple are alike. Both ways of calling give the same triples in the same order."""
    shape = (n_registers,) * 3
    counts = np.bincount(np.ravel_multi_index((gold, a, b), shape), minlength=n_registers**3).reshape(shape)
    cells = np.argwhere(counts + counts.transpose(0, 2, 1))
    return cells, counts[tuple(cells.T)].astype(float)


def _differences(
    cells: np.ndarray, counts: np.ndarray, chosen: np.ndarray, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the difference of the scores and its standard error, each of shape (n,).

    counts: texts per cell, shape (n, n_cells), with the same gold texts throughout. For the variance, each gold
    register gets one more text, on which the models do not differ.
    """
    n_registers = len(chosen)
    of_gold = np.eye(n_registers)[cells[:, 0]]
    gold = counts[:1] @ of_gold
    difference, influence = np.zeros(len(counts)), np.zeros(counts.shape)
    for sign, answers in ((1, cells[:, 1]), (-1, cells[:, 2])):
        is_right = answers == cells[:, 0]
        correct = counts @ (of_gold * is_right[:, None])
        predicted = counts @ np.eye(n_registers)[answers]
        score, own, other = intervals.scores_and_weights(correct, gold, predicted, chosen[None], metric)
        difference += sign * score
        influence += sign * (own[:, answers] * is_right - other[:, answers])
    sums, squares = (counts * influence) @ of_gold, (counts * influence**2) @ of_gold
    # of accuracy, nothing is taken off: exchanges leave the squares as they are, and the test is McNemar's
    rows = squares if metric == "micro_f1" else np.maximum(squares - sums**2 / (gold + 1), 0)
    variance = rows.sum(axis=1)
    # equal scores, differently rounded, are equal
    return np.round(difference, 12), np.sqrt(np.where(variance > 1e-20, variance, 0))


def _exchanged(
    cells: np.ndarray, counts: np.ndarray, chosen: np.ndarray, metric: str, seed: int, n_exchanges: int
) -> np.ndarray:
    """Return the size of the difference over its standard error after each of n_exchanges random exchanges."""
    place = {tuple(cell): index for index, cell in enumerate(cells.tolist())}
    pairs = np.array([(i, place[g, b, a]) for (g, a, b), i in place.items() if a < b])
    totals = counts[pairs].sum(axis=1).astype(np.int64)
    rng = np.random.default_rng(seed)
    sizes = []
    for start in range(0, n_exchanges, AT_ONCE):
        drawn = np.repeat(counts[None], min(AT_ONCE, n_exchanges - start), axis=0)
        drawn[:, pairs[:, 0]] = rng.binomial(totals, 0.5, size=(len(drawn), len(totals)))
        drawn[:, pairs[:, 1]] = totals - drawn[:, pairs[:, 0]]
        difference, error = _differences(cells, drawn, chosen, metric)
        sizes.append(np.abs(np.divide(difference, error, out=np.zeros(len(error)), where=error > 0)))
    return np.concatenate(sizes)


def _compare_trainings(
    gold: np.ndarray, a: np.ndarray, b: np.ndarray, chosen: np.ndarray, metric: str
) -> dict[str, float]:
    """Compare the means of several trainings of two models, by Welch's t test with the texts' variance added."""
    n_texts = np.bincount(gold, minlength=len(chosen))
    mean, between, variances, shared, lonely = [], [], [], [], np.zeros(len(chosen))
    for answers in (a, b):
        scores, of_texts = intervals.influences(gold, answers, len(chosen), metric)
        mean.append(np.mean(scores))
        between.append(np.var(scores, ddof=1) / len(answers))
        shared.append(of_texts.mean(axis=0))
        variances.append(len(answers) - 1)
        scatter = ((of_texts - shared[-1]) ** 2).sum(axis=0) / (len(answers) - 1) / len(answers)
        lonely += np.bincount(gold, scatter, minlength=len(chosen))  # it is in the scatter of the trainings already
    rows = np.maximum(np.bincount(gold, (shared[0] - shared[1]) ** 2, minlength=len(chosen)) - lonely, 0)
    variance = rows.sum() + sum(between)
    if not variance:
        return {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    uncertainty = (rows**2 / intervals.degrees_of_rows(n_texts)).sum() + sum(
        v**2 / n for v, n in zip(between, variances, strict=True)
    )
    degrees, error = float(intervals.freedom(variance, uncertainty)), float(np.sqrt(variance))
    difference = float(mean[0] - mean[1])
    half = float(intervals.student(np.array(degrees))) * error
    return _found(difference, half, student_p(difference / error, degrees))


def student_p(t: float, degrees: float) -> float:
    """Return how probable a value as far from 0 as t is under Student's distribution, by numeric integration."""
    angle = np.arctan(abs(t) / np.sqrt(degrees))
    inside, outside = (
        np.trapezoid(np.cos(angles) ** (degrees - 1), angles)
        for angles in (np.linspace(0, angle, 2001), np.linspace(angle, np.pi / 2, 2001))
    )
    return float(outside / (inside + outside))


def holm(p_values: list[float]) -> list[float]:
    """Return the p values adjusted for their number (Holm 1979, Scand. J. Stat. 6), in the order given.

    Calling significant what has an adjusted p below 0.05 keeps the chance of one or more false alarms below 0.05.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.arange(len(order), 0, -1) * np.asarray(p_values, dtype=float)[order]
    return np.minimum(1, np.maximum.accumulate(adjusted))[np.argsort(order)].tolist()
