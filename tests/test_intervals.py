"""The intervals and the paired test: worked out by hand, held against published values, and simulated."""

import numpy as np
import pytest
import simulate_coverage

from utils import intervals, metrics

CONFUSION = np.array([[40, 8, 2], [5, 30, 5], [1, 3, 6]])


def confusion_of(n_registers: int, n_texts: int, rng: np.random.Generator) -> np.ndarray:
    gold = rng.choice(n_registers, n_texts, p=rng.dirichlet(np.full(n_registers, 0.5)))
    predicted = np.where(rng.random(n_texts) < rng.random(), gold, rng.integers(0, n_registers, n_texts))
    return metrics.count_confusions(gold, predicted, n_registers)


# Newcombe 1998 (Stat. Med. 17:857-872), table I, method 3, to four decimals
@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_published_intervals(correct, total, low, high):
    assert intervals.wilson(correct, total) == pytest.approx((low, high), abs=5e-5)
    assert intervals.wilson(total - correct, total) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_by_hand():
    # of 4 texts 2 are right: 1/2 -+ z sqrt(1/16 + z^2/64) / (1 + z^2/4) = 1/2 -+ z / (2 sqrt(4 + z^2))
    half = 1.959964 / (2 * np.sqrt(4 + 1.959964**2))
    assert intervals.wilson(2, 4) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-12)


def test_micro_f1_is_wilsons_interval():
    assert intervals.intervals(CONFUSION)["micro_f1"] == intervals.wilson(76, 100)


def test_recall_of_one_register_is_the_quantile_of_its_beta_posterior():
    # 10 texts, all found: Beta(10.6, 0.4) has 2.5 % below 0.8059; high is 1, as nothing was seen to go wrong
    low, high = intervals.intervals(np.array([[10, 0], [0, 0]]))["recall"]
    assert low == pytest.approx(0.8059, abs=0.03)
    assert high == 1
    # 700 of 1,000 texts found: Beta(700.6, 300.4)
    found = intervals.intervals(np.array([[700, 300], [0, 0]]))["recall"]
    assert found == pytest.approx((0.6712, 0.7279), abs=0.005)


def test_bounds_hold_the_score_and_lie_between_0_and_1_on_300_random_matrices():
    rng = np.random.default_rng(0)
    for _ in range(300):
        confusion = confusion_of(int(rng.integers(1, 9)), int(rng.integers(1, 60)), rng)
        found = intervals.intervals(confusion)
        assert list(found) == list(metrics.METRICS)
        for name, score in metrics.all_metrics(confusion).items():
            low, high = found[name]
            assert type(low) is type(high) is float
            assert 0 <= low <= score <= high <= 1


def test_same_seed_same_intervals_and_another_seed_others():
    first = intervals.intervals(CONFUSION, seed=1)
    intervals.intervals(CONFUSION.T, seed=1)  # what is computed in between does not matter
    np.random.seed(5)
    assert intervals.intervals(CONFUSION, seed=1) == first
    other = intervals.intervals(CONFUSION, seed=2)
    assert other["micro_f1"] == first["micro_f1"]
    for name in ("macro_f1", "precision", "recall"):
        assert other[name] != first[name]
        assert other[name] == pytest.approx(first[name], abs=0.03)


def test_more_texts_make_narrower_intervals():
    widths = [
        {name: high - low for name, (low, high) in intervals.intervals(CONFUSION * times).items()}
        for times in (1, 4, 100)
    ]
    for name in metrics.METRICS:
        assert widths[0][name] > 1.5 * widths[1][name] > 5 * widths[2][name]


def test_without_texts_there_is_no_interval():
    found = intervals.intervals(np.zeros((3, 3), dtype=int))
    assert list(found) == list(metrics.METRICS)
    assert np.isnan(list(found.values())).all()


def test_only_registers_with_gold_texts_count():
    without_gold = np.array([[45, 5, 0], [10, 40, 0], [0, 0, 0]])
    low, high = intervals.intervals(without_gold)["macro_f1"]
    assert 0.7 < low < 0.85 < high < 0.95  # with a third register at 0 it would be around 0.57


def test_all_right_and_all_wrong():
    right = intervals.intervals(np.diag([30, 20, 2]))
    wrong = intervals.intervals(np.array([[0, 30], [20, 0]]))
    for name in metrics.METRICS:
        assert 0.3 < right[name][0] < right[name][1] == 1
        assert 0 == wrong[name][0] < wrong[name][1] < 0.4


def test_a_single_register_cannot_be_predicted_wrongly():
    assert intervals.intervals(np.array([[7]]))["macro_f1"] == pytest.approx((1, 1))


def test_one_text():
    assert intervals.intervals(np.array([[0, 1], [0, 0]]))["macro_f1"][0] == 0
    low, high = intervals.intervals(np.array([[1, 0], [0, 0]]))["macro_f1"]
    assert low < 0.5
    assert high == 1


@pytest.mark.parametrize("metric", metrics.METRICS)
def test_scores_of_many_matrices_are_those_of_each(metric):
    rng = np.random.default_rng(0)
    many = np.array([confusion_of(5, 30, rng) for _ in range(50)])
    found = intervals._scores(np.diagonal(many, axis1=1, axis2=2), many.sum(axis=2), many.sum(axis=1))
    assert found[metric] == pytest.approx([metrics.METRICS[metric](confusion) for confusion in many], abs=1e-12)


@pytest.mark.parametrize("label", simulate_coverage.RECALLS)
def test_intervals_cover_on_uneven_registers(label):
    shares = simulate_coverage.SHARES["uneven"]
    classifier = simulate_coverage.classifiers(shares, harder=False)[label]
    found = simulate_coverage.simulate(classifier, shares, n=300, simulations=300, seed=label)
    for metric in ("micro_f1", "macro_f1", "recall"):
        inside, _, _ = simulate_coverage.coverage(found[metric])
        assert 0.90 <= inside <= 0.995


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
    found = intervals.compare(gold, a, b, 4, metric)
    score = metrics.METRICS[metric]
    expected = score(metrics.count_confusions(gold, a, 4)) - score(metrics.count_confusions(gold, b, 4))
    assert found["difference"] == pytest.approx(expected, abs=1e-12)
    assert 0 < found["low"] < found["difference"] < found["high"] < 1
    assert found["p"] == pytest.approx(2 / 10_001)  # no resample with the other sign, and never 0


def test_compare_of_identical_predictions():
    gold, a, _ = two_models(200, 0.7, 0.7)
    assert intervals.compare(gold, a, a, 4) == {"difference": 0, "low": 0, "high": 0, "p": 1}


def test_compare_of_different_predictions_with_equal_scores():
    found = intervals.compare([0, 0, 1, 1], [0, 1, 1, 0], [1, 0, 0, 1], 2)
    assert found["difference"] == 0
    assert found["p"] > 0.5
    assert found["low"] < 0 < found["high"]


@pytest.mark.parametrize("seed", range(5))
def test_compare_swapped_changes_only_the_sign(seed):
    gold, a, b = two_models(150, 0.7, 0.65, seed)
    one, other = intervals.compare(gold, a, b, 4), intervals.compare(gold, b, a, 4)
    assert one["p"] == other["p"]
    assert (one["difference"], one["low"], one["high"]) == pytest.approx(
        (-other["difference"], -other["high"], -other["low"]), abs=1e-12
    )


def test_compare_depends_on_the_seed_and_not_on_the_order_of_texts():
    gold, a, b = two_models(150, 0.7, 0.6)
    one = intervals.compare(gold, a, b, 4, seed=1)
    assert intervals.compare(gold[::-1], a[::-1], b[::-1], 4, seed=1) == one
    other = intervals.compare(gold, a, b, 4, seed=2)
    assert other["difference"] == one["difference"]
    assert other["low"] != one["low"]
    assert other == pytest.approx(one, abs=0.03)


def test_compare_draws_what_going_through_the_texts_draws():
    gold, a, b = two_models(120, 0.75, 0.6)
    found = intervals.compare(gold, a, b, 4)
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(2000):
        texts = rng.integers(0, len(gold), len(gold))
        scores = [metrics.macro_f1(metrics.count_confusions(gold[texts], model[texts], 4)) for model in (a, b)]
        differences.append(scores[0] - scores[1])
    assert (found["low"], found["high"]) == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.02)


def test_compare_without_texts():
    empty = np.array([], dtype=int)
    assert np.isnan(list(intervals.compare(empty, empty, empty, 3).values())).all()


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
    assert intervals.holm(p_values) == pytest.approx(adjusted, abs=1e-15)
