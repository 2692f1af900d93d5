"""The intervals: worked out by hand, held against published values, and simulated."""

import itertools

import numpy as np
import pytest
import simulate_coverage
from scipy import stats

from utils import metrics
from utils.scores import intervals

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


def test_delta_method_by_hand():
    # two gold registers of 100 texts, 80 and 60 of them right: recall .7, its variance (.8 x .2 + .6 x .4) / 100 / 4;
    # on the logit scale half = t x error / (.7 x .3), with t of about 199 degrees of freedom
    low, high = intervals.intervals(np.array([[80, 20], [40, 60]]))["recall"]
    half = 1.972 * np.sqrt(0.4 / 400) / 0.21
    expected = [1 / (1 + np.exp(-(np.log(0.7 / 0.3) + sign * half))) for sign in (-1, 1)]
    assert (low, high) == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("metric", metrics.METRICS)
def test_slopes_are_those_of_small_steps(metric):
    counts = np.array([[40, 8, 2], [5, 30, 5], [1, 3, 16]], dtype=float)[None]
    chosen = intervals.averaged(counts.sum(axis=2), metric)
    score, slopes = intervals.scores_and_slopes(counts, chosen, metric)
    for g, p, other in itertools.product(range(3), repeat=3):  # a text moves within its gold row
        moved = counts.copy()
        moved[0, g, p] += 1e-6
        moved[0, g, other] -= 1e-6
        step = (intervals.scores_and_slopes(moved, chosen, metric)[0] - score) / 1e-6
        assert step[0] == pytest.approx(slopes[0, g, p] - slopes[0, g, other], abs=1e-7)


def test_students_quantiles_are_scipys():
    degrees = np.concatenate([np.linspace(1, 40, 200), [100, 1000, 1e6]])
    assert intervals.student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=0.003)


def test_bounds_hold_the_score_and_lie_between_0_and_1_on_300_random_matrices():
    rng = np.random.default_rng(0)
    for _ in range(300):
        confusion = confusion_of(int(rng.integers(1, 9)), int(rng.integers(1, 60)), rng)
        found = intervals.intervals(confusion)
        assert list(found) == list(metrics.METRICS)
        for name, score in metrics.all_metrics(confusion).items():
            low, high = found[name]
            assert type(low) is type(high) is float
            if score is None:
                assert np.isnan([low, high]).all()
            elif not (name == "precision" and np.isnan(low)):
                assert 0 <= low <= score + 1e-12 and score - 1e-12 <= high <= 1


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
    right = intervals.intervals(np.diag([30, 20, 12]))
    wrong = intervals.intervals(np.array([[0, 30], [20, 0]]))
    for name in metrics.METRICS:
        assert 0.8 < right[name][0] < right[name][1] == 1
        assert 0 == wrong[name][0] < wrong[name][1] < 0.4


def test_ten_texts_of_ten_found_do_not_say_that_all_will_be():
    low, high = intervals.intervals(np.diag([10, 10]))["macro_f1_10"]
    assert low < 0.85 and high == 1


def test_a_register_never_predicted_gets_no_credit():
    found = np.array([[180, 0, 20], [0, 0, 20], [20, 0, 180]])
    score = metrics.macro_f1_10(found)
    low, high = intervals.intervals(found)["macro_f1_10"]
    assert high - low < 0.06 and low < score < high
    once = np.array([[180, 0, 20], [0, 1, 19], [20, 0, 180]])
    assert np.diff(intervals.intervals(once)["macro_f1_10"]) > 1.3 * (high - low)


def test_a_model_that_always_answers_one_register_has_no_other_score():
    confusion = np.array([[30, 0, 0], [20, 0, 0], [15, 0, 0]])
    assert intervals.intervals(confusion)["macro_f1_10"] == pytest.approx((2 * 30 / 95 / 3,) * 2, abs=1e-12)


def test_precision_of_a_register_hardly_ever_predicted_has_no_interval():
    assert np.isnan(intervals.intervals(np.array([[30, 2], [15, 5]]))["precision"]).all()
    assert np.isfinite(intervals.intervals(np.array([[30, 2], [10, 10]]))["precision"]).all()


def test_a_single_register_cannot_be_predicted_wrongly():
    assert intervals.intervals(np.array([[7]]))["macro_f1"] == pytest.approx((1, 1))


def test_one_text():
    assert intervals.intervals(np.array([[0, 1], [0, 0]]))["macro_f1"] == pytest.approx((0, 1), abs=1e-3)
    assert np.isnan(intervals.intervals(np.array([[0, 1], [0, 0]]))["macro_f1_10"]).all()


@pytest.mark.parametrize(
    ("shares", "label"),
    [
        ("7 uneven", "usual, any"),
        ("7 uneven", "rare badly, neighbours"),
        ("8 uneven", "near-perfect, largest"),
        ("7 even", "rare never, neighbours"),
        ("8 even", "rare well, largest"),
    ],
)
@pytest.mark.parametrize("n", [60, 300, 8000])
def test_intervals_cover_and_miss_on_both_sides(shares, label, n):
    classifier = simulate_coverage.classifiers(simulate_coverage.SHARES[shares])[label]
    rng = np.random.default_rng(n)
    counts, expected = simulate_coverage.simulate(classifier, simulate_coverage.SHARES[shares], n, 1500, rng)
    found = simulate_coverage.judge(counts, expected, "macro_f1_10", intervals.bounds)
    assert 0.915 <= found["coverage"] <= 0.99
    assert max(found["below"], found["above"]) <= 0.08
    if n >= 300:
        assert found["outside"] < 0.02


def test_interval_of_mean_of_one_training_on_one_file_is_its_own():
    own = intervals.intervals(CONFUSION)["macro_f1_10"]
    assert intervals.interval_of_mean([intervals.spread(CONFUSION[None], "macro_f1_10")], [1.0]) == pytest.approx(own)


def test_interval_of_mean_over_trainings_holds_both_sources():
    alike = np.array([CONFUSION * 10] * 4)
    apart = alike + np.array([[[k, -k, 0], [0, 0, 0], [0, 0, 0]] for k in (-60, -20, 20, 60)])
    widths = [
        np.diff(intervals.interval_of_mean([intervals.spread(counts, "macro_f1_10")], [shared]))[0]
        for counts, shared in ((alike, 1.0), (alike, 0.3), (apart, 1.0))
    ]
    assert widths[1] < widths[0] < widths[2]
    two = intervals.interval_of_mean([intervals.spread(apart[:2], "macro_f1_10")], [1.0])
    assert np.isnan(two).all()  # too few trainings


def test_interval_of_mean_over_languages_is_narrower():
    one = intervals.spread(CONFUSION[None], "macro_f1_10")
    widths = [np.diff(intervals.interval_of_mean([one] * n, [1.0] * n))[0] for n in (1, 4)]
    assert widths[1] == pytest.approx(widths[0] / 2, rel=0.05)


def test_correlation_of_trainings():
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 3, 2000)
    noise = rng.random((4, 2000)) < 0.7
    alone = np.where(noise, gold, (gold + 1) % 3)
    assert intervals.correlation(gold, alone, 3, "macro_f1_10") == pytest.approx(0, abs=0.05)
    assert intervals.correlation(gold, alone[[0, 0, 0]], 3, "macro_f1_10") == pytest.approx(1)


def test_a_population_is_read_from_predictions(tmp_path):
    path = tmp_path / "fi.tsv"
    path.write_text(
        "row\tgold\tpredicted\tIN\tOP\n1\tIN\tIN\t1\t0\n2\tIN\tOP\t0\t1\n3\tOP\tOP\t0\t1\n4\tOP\tOP\t0\t1\n"
    )
    shares, probabilities = simulate_coverage.of_predictions([path, path])
    assert shares.tolist() == [0.5, 0.5] and probabilities.tolist() == [[0.5, 0.5], [0, 1]]
