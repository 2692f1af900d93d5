"""The statistics: held against scikit-learn, statsmodels and published values, and simulated."""

import itertools

import numpy as np
import pytest
from scipy import special, stats
from sklearn.metrics import precision_recall_fscore_support
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from utils import metrics, uncertainty

CONFUSION = np.array([[40, 8, 2], [5, 30, 5], [1, 3, 16]])


def intervals(confusion: np.ndarray) -> dict[str, tuple[float, float]]:
    both = {metric: uncertainty.intervals(np.array([confusion]), metric) for metric in metrics.METRICS}
    return {metric: (float(low[0]), float(high[0])) for metric, (low, high) in both.items()}


def trainings(n_texts: int, accuracies: list[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return gold labels of four registers and the answers of trainings, right as often as given."""
    rng = np.random.default_rng(seed)
    gold = rng.choice(4, n_texts, p=[0.4, 0.3, 0.15, 0.15])
    answers = [np.where(rng.random(n_texts) < right, gold, rng.integers(0, 4, n_texts)) for right in accuracies]
    return gold, np.array(answers)


# ---- scores and their slopes ----


@pytest.mark.parametrize("metric", metrics.METRICS)
def test_scores_are_scikit_learns(metric):
    for seed in range(20):
        gold, answers = trainings(60, [0.6], seed)
        chosen = uncertainty.averaged(np.bincount(gold, minlength=5), metric)
        score, _ = uncertainty.influences(gold, answers, 5, metric)
        each = precision_recall_fscore_support(gold, answers[0], labels=np.flatnonzero(chosen), zero_division=0)
        expected = {"precision": each[0].mean(), "recall": each[1].mean(), "micro_f1": (gold == answers[0]).mean()}
        assert score[0] == pytest.approx(expected.get(metric, each[2].mean()), abs=1e-12)
        assert score[0] == pytest.approx(metrics.all_metrics(metrics.count_confusions(gold, answers[0], 5))[metric])


# ---- intervals of one score ----


def test_wilson_is_statsmodels():
    total = np.repeat(np.arange(1, 40), np.arange(2, 41))
    right = np.concatenate([np.arange(n + 1) for n in range(1, 40)])
    assert np.allclose(uncertainty.wilson(right, total), proportion_confint(right, total, method="wilson"), atol=1e-12)
    assert np.isnan(uncertainty.wilson(np.array([0]), np.array([0]))).all()


# ---- the method of the module's docstring, written out in loops and numerical derivatives ----


def score_of(counts, metric, chosen):
    each = []
    for r in np.flatnonzero(chosen):
        right, gold, predicted = counts[r, r], counts[r].sum(), counts[:, r].sum()
        whole = {"recall": gold, "precision": predicted}.get(metric, (gold + predicted) / 2)
        each.append(right / whole if whole else 0.0)
    return np.trace(counts) / counts.sum() if metric == "micro_f1" else np.mean(each)


def spread_of(counts, metric, chosen):
    """Return the score, with half a text and with a text more in each register, its variance, degrees of freedom."""
    n, k, gold, predicted = counts.sum(), len(counts), counts.sum(axis=1), counts.sum(axis=0)
    slopes = np.zeros((k, k))
    for cell in itertools.product(range(k), repeat=2):
        step = np.zeros((k, k))
        step[cell] = 1e-5
        ends = (score_of(counts + sign * step, metric, chosen) for sign in (1, -1))
        slopes[cell] = -np.subtract(*reversed([*ends])) / 2e-5

    def more(texts):
        added = [(np.eye(k)[g] + (predicted + 1 / k) / (n + 1)) / 2 for g in range(k)]
        return np.array([gold[g] / (gold[g] + texts) * (counts[g] + texts * added[g]) for g in range(k)])

    squares = (more(1) * slopes**2).sum(axis=1)
    variance = squares.sum() - (more(1) * slopes).sum() ** 2 / n
    freedom = variance**2 / sum(squares[g] ** 2 / (max(gold[g], 10) - 1) for g in range(k))
    return *(score_of(c, metric, chosen) for c in (counts, more(0.5), more(1))), variance, max(freedom, 1)


def ends_of(score, nearby, variance, freedom):
    half = stats.t.ppf(0.975, freedom) * np.sqrt(variance) / (nearby * (1 - nearby))
    centre = special.logit(score if 0 < score < 1 else nearby)
    low, high = special.expit(centre - half), special.expit(centre + half)
    return (low if score > 0 else 0.0), (high if score < 1 else 1.0)


OTHERS = [
    CONFUSION, np.array([[12, 3, 0], [2, 31, 5], [0, 4, 14]]), np.diag([30, 20, 12]),
    np.array([[11, 2, 1], [9, 4, 1], [1, 0, 2]]), np.array([[40, 8, 2, 1], [5, 30, 5, 0], [1, 3, 16, 1], [0, 0, 0, 0]]),
]  # fmt: skip


@pytest.mark.parametrize("metric", ["macro_f1_10", "macro_f1", "recall", "precision"])
@pytest.mark.parametrize("counts", OTHERS, ids=range(5))
def test_an_interval_is_that_of_the_method_written_out(counts, metric):
    gold = counts.sum(axis=1)
    score, nearby, far, *of_texts = spread_of(
        counts.astype(float), metric, gold >= 10 if metric == "macro_f1_10" else gold > 0
    )
    low, high = ends_of(score, nearby if score < 1 else far, *of_texts)
    if metric == "precision" and min(*gold[gold > 0], *counts.sum(axis=0)[gold > 0]) < 10:
        low = high = np.nan
    assert intervals(counts)[metric] == pytest.approx((low, high), abs=1e-6, nan_ok=True)
    f1, recall, precision = (uncertainty.register_intervals(counts)[name] for name in ("f1", "recall", "precision"))
    for found, total in ((recall, gold), (precision, counts.sum(axis=0))):
        expected = proportion_confint(np.diag(counts)[total > 0], total[total > 0], method="wilson")
        assert np.allclose(np.array(found)[:, total > 0], expected, atol=1e-12)
    assert np.isnan(f1)[:, gold == 0].all() and np.isnan(recall)[:, gold == 0].all()
    for r in np.flatnonzero(gold):
        score, nearby, far, *of_texts = spread_of(counts.astype(float), "f1", np.eye(len(counts))[r])
        assert (f1[0][r], f1[1][r]) == pytest.approx(ends_of(score, nearby if score < 1 else far, *of_texts), abs=1e-6)


@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1"])
@pytest.mark.parametrize("n_files", [1, 2])
@pytest.mark.parametrize("accuracies", [(0.7,), (0.7, 0.7, 0.7), (0.6, 0.7, 0.85, 0.7)])
def test_the_interval_of_a_mean_is_that_of_the_method_written_out(metric, n_files, accuracies):
    n, files, of_mean, shared, unsure, scores, nearby = len(accuracies), [], 0.0, 0.0, 0.0, [], []
    for seed in range(n_files):
        gold, answers = trainings(150, list(accuracies), seed)
        counts = np.array([metrics.count_confusions(gold, one, 4) for one in answers])
        files.append((counts, gold, answers))
        spreads = [spread_of(one.astype(float), metric, np.ones(4, dtype=bool)) for one in counts]
        scores.append([one[0] for one in spreads])
        nearby.append([one[1] for one in spreads])
        # what each training errs alone is averaged away
        influence = uncertainty.influences(gold, answers, 4, metric)[1]
        alone = sum(np.var(influence[:, text], ddof=1) for text in range(150)) if n > 1 else 0.0
        variance = np.mean([one[3] for one in spreads])
        of_mean += max(variance - alone * (n - 1) / n, 0) / n_files**2
        shared += max(variance - alone, 0) / n_files**2
        unsure += (max(variance - alone * (n - 1) / n, 0) / n_files**2) ** 2 / np.mean([one[4] for one in spreads])
    means = np.mean(scores, axis=0)
    between = np.var(means, ddof=1) / n if n > 1 else 0.0
    variance = max(of_mean, shared + between)
    freedom = max(variance**2 / (unsure + (between**2 / (n - 1) if n > 1 else 0)), 1)
    expected = ends_of(means.mean(), np.mean(nearby), variance, freedom)
    assert uncertainty.interval_of_mean(files, metric) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1"])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 1), (3, 2), (3, 4)])
def test_a_comparison_is_that_of_the_method_written_out(metric, sizes):
    n, (n_a, n_b) = 120, sizes
    gold, answers = trainings(n, [0.75, 0.5, 0.9, 0.7, 0.45, 0.7, 0.6])
    a, b = answers[:n_a], answers[-n_b:]
    found = uncertainty.compare(gold, a, b, 4, metric)
    (scores_a, of_a), (scores_b, of_b) = (uncertainty.influences(gold, one, 4, metric) for one in (a, b))
    difference = scores_a.mean() - scores_b.mean()
    moved = of_a.mean(axis=0) - of_b.mean(axis=0)
    variance, unsure = sum(moved**2), sum(moved**4) if n_a != n_b else 0.0
    if min(sizes) > 1:
        between = [np.var(one, ddof=1) / len(one) for one in (scores_a, scores_b)]
        alone = sum(np.var(one, axis=0, ddof=1).sum() / len(one) for one in (of_a, of_b))
        excess = max(sum(between) - alone, 0)
        variance += excess
        welch = between[0] ** 2 / (n_a - 1) + between[1] ** 2 / (n_b - 1)
        unsure += welch * (excess / sum(between) if min(sizes) > 2 else 1)
    reference = stats.t(max(variance**2 / unsure, 1)) if unsure else stats.norm
    if (metric, sizes) == ("micro_f1", (1, 1)):
        return  # McNemar's and Tango's, below
    assert found["difference"] == pytest.approx(difference)
    # p, and the interval's ends as the differences of which the same test has p = 0.05
    assert found["p"] == pytest.approx(
        2 * reference.sf(abs(difference) / np.sqrt(variance + difference**2 / n)), rel=1e-6
    )
    for end in (found["low"], found["high"]):
        gap = abs(difference - end)
        assert 2 * reference.sf(gap / np.sqrt(variance + gap**2 / n)) == pytest.approx(0.05, rel=1e-6)


def test_an_interval_holds_its_score_and_is_never_a_point():
    rng = np.random.default_rng(0)
    matrices = [rng.multinomial(rng.integers(1, 90), rng.dirichlet(np.full(16, 0.3))).reshape(4, 4) for _ in range(300)]
    constant = [np.array([[n, 0, 0], [5 * n, 0, 0], [2 * n, 0, 0]]) for n in (1, 12, 500)]
    for confusion in [*matrices, *constant, np.diag([30, 20, 12]), np.array([[0, 30], [20, 0]])]:
        for metric, (low, high) in intervals(confusion).items():
            score = metrics.all_metrics(confusion)[metric]
            if score is None:
                assert np.isnan([low, high]).all()
            elif not (metric == "precision" and np.isnan(low)):
                assert 0 <= low <= score + 1e-12 and score - 1e-12 <= high <= 1 and high - low > 1e-4, (
                    metric,
                    confusion,
                )


def test_all_right_and_all_wrong():
    right, wrong = intervals(np.diag([30, 20, 12])), intervals(np.array([[0, 30], [20, 0]]))
    for metric in metrics.METRICS:
        assert 0.8 < right[metric][0] < right[metric][1] == 1
        assert wrong[metric][0] == pytest.approx(0, abs=1e-12) and 0.01 < wrong[metric][1] < 0.4


def test_what_cannot_be_measured_has_no_interval_and_no_score_is_above_1():
    for k in range(2, 60):  # where tenths are summed, they may be rounded to more
        counts = 12 * np.eye(k)[None]
        assert uncertainty.score_and_slopes(counts, np.ones((1, k), dtype=bool), "macro_f1")[0] <= 1
    assert np.isnan(list(intervals(np.zeros((3, 3), dtype=int)).values())).all()
    assert np.isnan(intervals(np.array([[30, 2], [15, 5]]))["precision"]).all()
    assert np.isnan(intervals(np.array([[30, 2], [3, 5]]))["macro_f1_10"]).all()


# ---- means over trainings and files ----


def test_mean_over_files_is_narrower_and_two_trainings_have_no_interval():
    one = (CONFUSION[None], np.array([]), None)
    widths = [np.diff(uncertainty.interval_of_mean([one] * n, "macro_f1_10"))[0] for n in (1, 4)]
    assert widths[1] == pytest.approx(widths[0] / 2, rel=0.05)
    assert np.isnan(uncertainty.interval_of_mean([(CONFUSION[None].repeat(2, 0), np.array([]), None)], "recall")).all()


# ---- comparisons: what is promised ----


def test_mcnemar_is_statsmodels_less_half_of_what_was_observed():
    for only_a, only_b in itertools.product(range(0, 30, 3), repeat=2):
        exact = mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue
        observed = stats.binom.pmf(only_a, only_a + only_b, 0.5)
        expected = 1 if only_a == only_b else exact - observed
        assert uncertainty.mcnemar(only_a, only_b) == pytest.approx(expected, abs=1e-12)
    assert uncertainty.mcnemar(3000, 0) > 0


def test_tango_is_as_published():
    # Newcombe 1998 (Stat. Med. 17:2635-2650), table II, by Tango's method; Fagerland, Lydersen and Laake 2014
    assert uncertainty.tango(12, 2, 50) == pytest.approx((0.0611, 0.3447), abs=5e-5)
    assert uncertainty.tango(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(("a", "b", "n"), [(5, 0, 12), (0, 1, 3), (1, 7, 21), (3, 3, 9), (2, 0, 2), (4, 1, 5)])
def test_the_ends_of_tangos_interval_are_where_its_score_test_has_p_005(a, b, n):
    for end in uncertainty.tango(a, b, n):
        # the share of texts that b alone gets right that is most likely, if the true difference is the end
        shares = np.linspace(max(0, -end), (1 - end) / 2, 2_000_003)[1:-1]
        likely = (
            special.xlogy(a, shares + end) + special.xlogy(b, shares) + special.xlogy(n - a - b, 1 - 2 * shares - end)
        )
        variance = n * (2 * shares[likely.argmax()] + end - end**2)
        if abs(end) < 1:
            assert abs(a - b - n * end) / np.sqrt(variance) == pytest.approx(stats.norm.ppf(0.975), rel=1e-3)


@pytest.mark.parametrize("metric", metrics.METRICS)
def test_a_clear_difference_of_the_scores_that_are_printed(metric):
    gold, answers = trainings(1000, [0.8, 0.82, 0.81, 0.5])
    for a in (answers[:1], answers[:3]):
        found = uncertainty.compare(gold, a, answers[3:], 4, metric)
        counts = [metrics.count_confusions(gold, one, 4) for one in (*a, answers[3])]
        scores = [metrics.all_metrics(one)[metric] for one in counts]
        assert found["difference"] == pytest.approx(np.mean(scores[:-1]) - scores[-1], abs=1e-12)
        assert 0 < found["low"] < found["difference"] < found["high"] < 1 and 0 < found["p"] < 1e-6


@pytest.mark.parametrize("metric", ["macro_f1_10", "micro_f1", "precision"])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 1), (3, 3), (2, 4)])
def test_exchanging_models_changes_signs_and_the_order_of_texts_nothing(metric, sizes):
    gold, answers = trainings(150, [0.7, 0.6, 0.65, 0.68, 0.66, 0.64])
    a, b = answers[: sizes[0]], answers[sizes[0] : sum(sizes)]
    one, other = uncertainty.compare(gold, a, b, 4, metric), uncertainty.compare(gold, b, a, 4, metric)
    assert one["p"] == pytest.approx(other["p"], rel=1e-9) and one["trainings"] == (min(sizes) > 1)
    mirrored = (-other["difference"], -other["high"], -other["low"])
    assert (one["difference"], one["low"], one["high"]) == pytest.approx(mirrored, abs=1e-9)
    assert uncertainty.compare(gold[::-1], a[:, ::-1], b[:, ::-1], 4, metric) == pytest.approx(one, abs=1e-9)


def test_the_same_answers_to_all_texts():
    gold, answers = trainings(200, [0.7, 0.7])
    for metric in ("macro_f1_10", "micro_f1"):
        found = uncertainty.compare(gold, answers, answers[::-1], 4, metric)
        assert found["same"] and found["difference"] == 0 and found["p"] == 1
        assert not uncertainty.compare(gold, answers[:1], answers[1:], 4, metric)["same"]
    found = uncertainty.compare(gold, answers[:1], answers[:1], 4, "micro_f1")
    assert found["same"] and found["low"] < 0 < found["high"]


def test_p_is_never_0():
    gold = np.arange(4000) % 2
    for wrong in (1 - gold, np.zeros(4000, dtype=int)):
        for metric in ("macro_f1_10", "micro_f1"):
            found = uncertainty.compare(gold, gold[None], wrong[None], 2, metric)
            assert 0 < found["p"] < 1e-100


def test_where_no_text_could_move_a_score_one_more_counts():
    gold, n = np.arange(100) % 2, 100
    found = uncertainty.compare(gold, gold[None], 1 - gold[None], 2, "macro_f1")
    assert found["p"] == pytest.approx(2 * stats.norm.sf(1 / np.sqrt(1 / n**2 + 1 / n)), rel=1e-9)


def test_too_few_texts_have_no_comparison():
    gold = np.repeat([0, 1], [9, 30])
    right, wrong = gold[None], 1 - gold[None]
    for metric in ("macro_f1_10", "macro_f1", "recall", "precision"):
        assert np.isnan([uncertainty.compare(gold, right, wrong, 2, metric)[key] for key in ("low", "high", "p")]).all()


# ---- comparisons: simulated ----


def test_with_very_many_texts_trainings_are_compared_by_welchs_test():
    gold, answers = trainings(100_000, [0.5, 0.6, 0.7, 0.75, 0.78, 0.8, 0.72])
    scores = (answers == gold).mean(axis=1)
    welch = stats.ttest_ind(scores[:3], scores[3:], equal_var=False)
    found = uncertainty.compare(gold, answers[:3], answers[3:], 4, "micro_f1")
    assert found["p"] == pytest.approx(welch.pvalue, rel=0.02) and found["trainings"]
    assert (found["low"], found["high"]) == pytest.approx(tuple(welch.confidence_interval()), abs=0.003)
    # and a mean by Student's t, on the logit scale
    counts = np.array([metrics.count_confusions(gold, one, 4) for one in answers[:3]])
    mean, half = scores[:3].mean(), stats.t.ppf(0.975, 2) * scores[:3].std(ddof=1) / np.sqrt(3)
    expected = special.expit(special.logit(mean) + np.array([-1, 1]) * half / (mean * (1 - mean)))
    assert uncertainty.interval_of_mean([(counts, gold, answers[:3])], "micro_f1") == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.005], [0.04, 0.03], [0.5, 0.7, 0.9], [0.02, 0.02], [0.2]])
def test_holm_is_statsmodels(p_values):
    assert uncertainty.holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-15)
    assert uncertainty.holm([]) == []
