"""The comparison of two models: by hand, against another way of doing it, and simulated."""

import numpy as np
import pytest
from scipy import stats

from utils import metrics
from utils.scores import comparison


def two_models(n_texts: int, accuracy_a: float, accuracy_b: float, seed: int = 0):
    rng = np.random.default_rng(seed)
    gold = rng.choice(4, n_texts, p=[0.5, 0.3, 0.15, 0.05])
    return gold, *(
        np.where(rng.random(n_texts) < accuracy, gold, rng.integers(0, 4, n_texts))
        for accuracy in (accuracy_a, accuracy_b)
    )


@pytest.mark.parametrize("metric", metrics.METRICS)
def test_compare_finds_a_clear_difference(metric):
    gold, a, b = two_models(1000, 0.8, 0.5)
    found = comparison.compare(gold, a, b, 4, metric)
    score = metrics.METRICS[metric]
    expected = score(metrics.count_confusions(gold, a, 4)) - score(metrics.count_confusions(gold, b, 4))
    assert found["difference"] == pytest.approx(expected, abs=1e-12)
    assert 0 < found["low"] < found["difference"] < found["high"] < 1
    assert found["p"] == pytest.approx(0.5 / 10_001)  # no exchange gives as much, and never 0


def test_compare_of_identical_predictions():
    gold, a, _ = two_models(200, 0.7, 0.7)
    assert comparison.compare(gold, a, a, 4) == {"difference": 0, "low": 0, "high": 0, "p": 1}


def test_compare_of_different_predictions_with_equal_scores():
    found = comparison.compare([0, 0, 1, 1], [0, 1, 1, 0], [1, 0, 0, 1], 2, "macro_f1")
    assert found["difference"] == 0
    assert found["p"] > 0.5
    assert found["low"] < 0 < found["high"]


@pytest.mark.parametrize("seed", range(5))
def test_compare_swapped_changes_only_the_sign(seed):
    gold, a, b = two_models(150, 0.7, 0.65, seed)
    one, other = comparison.compare(gold, a, b, 4), comparison.compare(gold, b, a, 4)
    assert one["p"] == other["p"]
    assert (one["difference"], one["low"], one["high"]) == pytest.approx(
        (-other["difference"], -other["high"], -other["low"]), abs=1e-12
    )


def test_compare_depends_on_the_seed_and_not_on_the_order_of_texts():
    gold, a, b = two_models(150, 0.7, 0.6)
    one = comparison.compare(gold, a, b, 4, seed=1)
    assert comparison.compare(gold[::-1], a[::-1], b[::-1], 4, seed=1) == one
    other = comparison.compare(gold, a, b, 4, seed=2)
    assert other["difference"] == one["difference"]
    assert other["low"] != one["low"]
    assert other == pytest.approx(one, abs=0.03)


def test_p_is_that_of_exchanging_text_by_text():
    gold, a, b = two_models(120, 0.75, 0.6)
    cells, counts = comparison._cells(gold, a, b, 4)
    chosen = metrics.measurable(np.bincount(gold, minlength=4))
    difference, error = comparison._differences(cells, counts[None], chosen, "macro_f1_10")
    observed = abs(difference[0] / error[0])
    rng = np.random.default_rng(0)
    beyond = 0.0
    for _ in range(2000):
        exchanged = rng.random(len(gold)) < 0.5
        one, other = np.where(exchanged, b, a), np.where(exchanged, a, b)
        places, numbers = comparison._cells(gold, one, other, 4)
        difference, error = comparison._differences(places, numbers[None], chosen, "macro_f1_10")
        scores = [metrics.macro_f1_10(metrics.count_confusions(gold, model, 4)) for model in (one, other)]
        assert difference[0] == pytest.approx(scores[0] - scores[1], abs=1e-11)
        beyond += float(abs(difference[0] / error[0]) > observed)
    assert comparison.compare(gold, a, b, 4)["p"] == pytest.approx(beyond / 2000, abs=0.015)


def test_accuracys_p_is_mcnemars_mid_p():
    gold, a, b = two_models(200, 0.75, 0.68, seed=3)
    only_a, only_b = ((a == gold) & (b != gold)).sum(), ((b == gold) & (a != gold)).sum()
    fewer, both = min(only_a, only_b), only_a + only_b
    mid_p = 2 * stats.binom.cdf(fewer, both, 0.5) - stats.binom.pmf(fewer, both, 0.5)
    assert comparison.compare(gold, a, b, 4, "micro_f1")["p"] == pytest.approx(mid_p, abs=0.01)


@pytest.mark.parametrize("shares", [[0.25, 0.25, 0.25, 0.25], [0.5, 0.3, 0.15, 0.05]])
@pytest.mark.parametrize("n", [30, 300])
def test_equal_models_are_called_different_in_about_5_percent_of_cases(shares, n):
    rng = np.random.default_rng(n)
    called = held = 0
    for _ in range(400):
        gold = rng.choice(4, n, p=shares)
        easy = rng.random(n) < 0.4  # as hard for both
        a, b = (np.where(easy | (rng.random(n) < 0.5), gold, rng.integers(0, 4, n)) for _ in range(2))
        found = comparison.compare(gold, a, b, 4, "micro_f1", n_exchanges=400)
        called += found["p"] < 0.05
        held += found["low"] <= 0 <= found["high"]
    assert 0.01 <= called / 400 <= 0.08
    assert 0.92 <= held / 400 <= 0.995


def test_a_difference_in_the_interval_goes_with_p():
    for seed in range(20):
        gold, a, b = two_models(150, 0.75, 0.65, seed)
        found = comparison.compare(gold, a, b, 4)
        if abs(found["p"] - 0.05) > 0.005:
            assert (found["p"] < 0.05) != (found["low"] <= 0 <= found["high"])


def test_too_few_texts_have_no_comparison():
    assert np.isnan(list(comparison.compare([0] * 9 + [1] * 30, [0] * 39, [1] * 39, 2).values())).all()


def trainings(accuracy, n_trainings, gold, rng, scatter=0.0):
    return np.array([
        np.where(rng.random(len(gold)) < accuracy + scatter * rng.normal(), gold, rng.integers(0, 4, len(gold)))
        for _ in range(n_trainings)
    ])  # fmt: skip


def test_several_trainings_are_compared_by_their_scatter():
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 4, 2000)
    clear = comparison.compare(gold, trainings(0.8, 3, gold, rng), trainings(0.6, 3, gold, rng), 4)
    assert clear["p"] < 0.01 and 0 < clear["low"] < clear["difference"] < clear["high"]
    a, b = trainings(0.7, 3, gold, rng, 0.1), trainings(0.7, 3, gold, rng, 0.1)
    unsure = comparison.compare(gold, a, b, 4)
    assert unsure["p"] > 0.05 and unsure["high"] - unsure["low"] > 2 * (clear["high"] - clear["low"])
    other = comparison.compare(gold, b, a, 4)
    assert other["p"] == pytest.approx(unsure["p"]) and other["difference"] == pytest.approx(-unsure["difference"])


def test_trainings_that_are_equally_good_are_called_different_in_about_5_percent_of_cases():
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(400):
        gold = rng.integers(0, 4, 200)
        a, b = (trainings(0.7, 3, gold, rng, 0.05) for _ in range(2))
        called += comparison.compare(gold, a, b, 4)["p"] < 0.05
    assert called / 400 <= 0.08


@pytest.mark.parametrize(("t", "degrees"), [(0.5, 1), (2.3, 7.4), (12, 2), (1.96, 200)])
def test_students_p_is_scipys(t, degrees):
    assert comparison.student_p(t, degrees) == pytest.approx(2 * stats.t.sf(t, degrees), rel=1e-3)


def test_compare_without_texts():
    empty = np.array([], dtype=int)
    assert np.isnan(list(comparison.compare(empty, empty, empty, 3).values())).all()


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        pytest.param([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02], id="by hand"),
        pytest.param([0.04, 0.03], [0.06, 0.06], id="never below a smaller one's"),
        pytest.param([0.5, 0.7, 0.9], [1, 1, 1], id="capped at 1"),
        pytest.param([0.02, 0.02], [0.04, 0.04], id="ties"),
        pytest.param([0.2], [0.2], id="one"),
        pytest.param([], [], id="none"),
    ],
)
def test_holm(p_values, adjusted):
    assert comparison.holm(p_values) == pytest.approx(adjusted, abs=1e-15)
