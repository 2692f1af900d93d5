"""The dropout that a CPU trains with: the same as torch's, in distribution."""

import pytest
import torch

from utils import classifier
from utils.dropout import dropout, used_in


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_drops_the_share_asked_for_and_keeps_the_mean(p, dtype):
    torch.manual_seed(0)
    values = torch.ones(1001, 1000, dtype=dtype, requires_grad=True)
    dropped = dropout(values, p)
    share = (dropped == 0).double().mean().item()
    assert abs(share - p) < 4 * (p * (1 - p) / 1_001_000) ** 0.5 + 1e-5
    assert torch.equal(dropped[dropped != 0].unique(), torch.tensor([1 / (1 - p)], dtype=dtype))
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped)  # what was dropped gets no gradient, the rest its factor
    along = (dropped == 0).double()
    assert (along.mean(dim=0) - p).abs().max() < 0.09 and (along.mean(dim=1) - p).abs().max() < 0.09


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    zero = (dropout(torch.ones(1_000_000), 0.1) == 0).double()
    for distance in (1, 2, 3, 4, 8):  # four values share a random number
        both = (zero[distance:] * zero[:-distance]).mean().item()
        assert abs(both - 0.01) < 0.0005


def test_the_seed_decides_and_nothing_is_dropped_outside_training():
    values = torch.rand(7, 13)
    torch.manual_seed(1)
    first = dropout(values, 0.5)
    torch.manual_seed(1)
    assert torch.equal(dropout(values, 0.5), first)
    assert not torch.equal(dropout(values, 0.5), first)
    assert dropout(values, 0.5, training=False) is values and dropout(values, 0.0) is values


def test_a_model_in_training_uses_it_and_answers_as_before(tiny):
    model = classifier.load_classifier(tiny, ["A", "B"])
    texts = {"input_ids": torch.randint(5, 1000, (4, 30)), "attention_mask": torch.ones(4, 30, dtype=torch.long)}
    texts["attention_mask"][1, 12:] = 0
    with torch.no_grad():
        before = model.eval()(**texts).logits
        with used_in(model):
            torch.testing.assert_close(model(**texts).logits, before)
            assert not torch.allclose(model.train()(**texts).logits, before)
    assert torch.nn.functional.dropout is not dropout
