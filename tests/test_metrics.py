"""The scores: worked out by hand, and held against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support, precision_score, recall_score

from utils import metrics

# gold, predicted, and macro-F1 worked out by hand: F1 = 2 correct / (gold + predicted)
BY_HAND = [
    pytest.param([0, 1], [0, 1], 1.0, id="all right"),
    pytest.param([0, 0, 1], [0, 1, 1], (2 / 3 + 2 / 3) / 2, id="one of three wrong"),
    pytest.param([0, 0], [1, 1], 0.0, id="all wrong"),
    pytest.param([0, 0, 1, 1], [0, 2, 1, 1], (2 / 3 + 1) / 2, id="a stray prediction of a register without gold texts"),
]


@pytest.mark.parametrize(("gold", "predicted", "expected"), BY_HAND)
def test_macro_f1_by_hand(gold, predicted, expected):
    assert metrics.all_metrics(metrics.count_confusions(gold, predicted, 3))["macro_f1"] == pytest.approx(
        expected, abs=1e-15
    )


def test_rows_are_gold_and_columns_predicted():
    assert metrics.count_confusions([0, 0, 1], [1, 1, 0], 2).tolist() == [[0, 2], [1, 0]]


def test_all_scores_equal_scikit_learns_on_random_draws():
    rng = np.random.default_rng(0)
    absent = measured = 0
    for _ in range(60):
        n_registers = int(rng.integers(2, 12))
        n_texts = int(rng.integers(1, 60))
        gold_share, predicted_share = rng.dirichlet(np.full(n_registers, 0.5), size=2)
        gold = rng.choice(n_registers, n_texts, p=gold_share)
        predicted = np.where(rng.random(n_texts) < 0.5, gold, rng.choice(n_registers, n_texts, p=predicted_share))
        confusion = metrics.count_confusions(gold, predicted, n_registers)
        with_gold = np.unique(gold)
        absent += n_registers - len(with_gold)
        over_gold = {"labels": with_gold, "average": "macro", "zero_division": 0}
        frequent = np.flatnonzero(np.bincount(gold, minlength=n_registers) >= 10)
        over_frequent = over_gold | {"labels": frequent}
        expected = {
            "macro_f1_10": f1_score(gold, predicted, **over_frequent) if len(frequent) > 1 else None,
            "micro_f1": accuracy_score(gold, predicted),
            "macro_f1": f1_score(gold, predicted, **over_gold),
            "precision": precision_score(gold, predicted, **over_gold),
            "recall": recall_score(gold, predicted, **over_gold),
        }
        assert metrics.all_metrics(confusion) == pytest.approx(expected, abs=1e-12)
        measured += len(frequent) > 1

        ours = metrics.register_scores(confusion)
        theirs = precision_recall_fscore_support(
            gold, predicted, labels=range(n_registers), zero_division=np.nan, average=None
        )
        np.testing.assert_array_equal(ours["support"], theirs[3])
        np.testing.assert_array_equal(ours["precision"], theirs[0])  # to the last bit
        np.testing.assert_array_equal(ours["recall"], theirs[1])
        np.testing.assert_array_equal(ours["f1"][with_gold], theirs[2][with_gold])
        assert np.isnan(np.delete(ours["f1"], with_gold)).all()
    assert 5 < measured < 55
    assert absent > 60  # the draws do hold registers without gold texts


def test_macro_f1_10_by_hand():
    # of registers with 10, 12 and 9 texts the last is left out, but its text predicted as the first still costs: F1 of
    # the first 2 x 10 / (10 + 11), of the second 2 x 12 / (12 + 12)
    confusion = np.array([[10, 0, 0], [0, 12, 0], [1, 0, 8]])
    assert metrics.all_metrics(confusion)["macro_f1_10"] == pytest.approx((20 / 21 + 1) / 2, abs=1e-15)
    assert metrics.measurable(confusion.sum(axis=1)).tolist() == [True, True, False]


@pytest.mark.parametrize("gold", [[9, 9, 9], [500, 9, 9], [0, 0, 0]])
def test_with_fewer_than_two_registers_of_ten_texts_there_is_no_macro_f1_10(gold):
    assert metrics.all_metrics(np.diag(gold))["macro_f1_10"] is None
