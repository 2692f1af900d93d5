"""The dropout and the attention that a CPU trains with: the same as torch's, dropout in distribution."""

import functools
import importlib

import pytest
import torch
from test_finetune import copy_without_dropout

from utils.encoder import classifier, cpu
from utils.encoder.cpu import dropout, used_in


@pytest.fixture
def texts():
    """Four texts of 30 tokens, one of them shorter and padded, as a model takes them."""
    mask = torch.ones(4, 30, dtype=torch.long)
    mask[1, 12:] = 0
    return {"input_ids": torch.randint(5, 1000, (4, 30)), "attention_mask": mask}


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


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize(("texts_at_once", "is_long"), [(1, False), (3, False), (1, True)])
def test_attention_and_its_gradient_are_those_of_its_definition(p, texts_at_once, is_long, monkeypatch):
    """Step by step in torch, with the same weights dropped: float64, so that nothing but a fault differs."""
    monkeypatch.setattr(cpu, "CACHED", 7 * 7 if is_long else texts_at_once * 2 * 7 * 7)
    monkeypatch.setattr(cpu, "LONG", 7 * 7 if is_long else 10**9)
    torch.manual_seed(0)
    query, key, value = (torch.randn(5, 2, 7, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    mask = torch.zeros(5, 1, 7, 7, dtype=torch.float64)
    mask[1, :, :, 4:] = mask[3, :, :, 2:] = torch.finfo(torch.float32).min
    grad = torch.randn(5, 7, 2, 4, dtype=torch.float64)

    torch.manual_seed(1)
    found = cpu.attention(torch.nn.Module(), query, key, value, mask, scaling=0.5, dropout=p)[0]
    found_gradients = torch.autograd.grad(found, (query, key, value), grad)

    torch.manual_seed(1)
    weights = (query @ key.mT * 0.5 + mask).softmax(dim=-1)
    if p:
        parts = [
            torch.cat(
                [cpu.signs(head.shape, p, cpu.drawn_seed()) for head in part.split(1 if is_long else 2, dim=1)], 1
            )
            for part in weights.split(texts_at_once)
        ]
        dropped = torch.cat(parts) < 0
        assert 0.2 < dropped.double().mean() < 0.4
        weights = weights.masked_fill(dropped, 0) / (1 - p)
    expected = (weights @ value).transpose(1, 2)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found_gradients, torch.autograd.grad(expected, (query, key, value), grad))
    not_training = torch.nn.Module().eval()
    undropped = [cpu.attention(not_training, query, key, value, mask, dropout=share)[0] for share in (p, 0.0)]
    assert torch.equal(*undropped)


def rows(dtype):
    return torch.randn(2, 4, 9, 8, dtype=dtype)


def test_a_token_that_sees_none_has_finite_attention_in_bf16():
    """A window of attention leaves padding nothing to see; float32's lowest number is -inf in bf16."""
    query, key, value = (rows(torch.bfloat16) for _ in range(3))
    mask = torch.zeros(2, 1, 9, 9)
    mask[1, :, 5:] = torch.finfo(torch.float32).min
    assert cpu.attention(torch.nn.Module(), query, key, value, mask)[0].isfinite().all()


def test_one_precision_for_queries_keys_and_values():
    """Rotary positions leave queries and keys in float32 where autocast gives values in bf16."""
    query, key, value = rows(torch.float32), rows(torch.float32), rows(torch.bfloat16)
    for dtypes in ((query, key, value), (query.bfloat16(), key, value), (query, key.bfloat16(), value.float())):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = cpu.attention(torch.nn.Module(), *dtypes, None)[0]
        assert found.dtype == torch.bfloat16
        expected = torch.nn.functional.scaled_dot_product_attention(query, key, value.float()).transpose(1, 2)
        torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


def test_fewer_key_heads_serve_several_query_heads():
    query, key, value = rows(torch.float32), rows(torch.float32)[:, :2], rows(torch.float32)[:, :2]
    found = cpu.attention(torch.nn.Module(), query, key, value, None)[0].transpose(1, 2)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("module", "brought"),
    [("t5.modeling_t5.T5Attention", "position_bias"), ("gemma2.modeling_gemma2.Gemma2Attention", "softcap")],
)
def test_what_the_models_own_attention_takes_and_this_one_does_not_know_is_refused(module, brought):
    path, _, name = module.rpartition(".")
    kind = getattr(importlib.import_module(f"transformers.models.{path}"), name)
    values = [rows(torch.float32) for _ in range(3)]
    attention = kind.__new__(kind)  # of this class, which is all that matters here
    torch.nn.Module.__init__(attention)
    call = functools.partial(cpu.attention, attention, *values, None, sliding_window=3, is_causal=True)
    with pytest.raises(cpu.Refused, match=brought):
        call(**{brought: torch.ones(1)})
    assert call(**{brought: None})[0].shape == (2, 9, 4, 8)


def test_a_model_in_training_uses_them_and_answers_as_before(tiny, texts):
    model = classifier.load_classifier(tiny, ["A", "B"])
    before = model.config._attn_implementation
    with torch.no_grad():
        expected = model.eval()(**texts).logits
        with used_in(model, texts):
            assert model.config._attn_implementation == cpu.NAME
            torch.testing.assert_close(model(**texts).logits, expected)
            assert not torch.allclose(model.train()(**texts).logits, expected)
    assert model.config._attn_implementation == before


def test_dropout_of_another_model_stays_torchs(tiny, texts):
    """And the model's own again after the block, also if that fails."""
    torchs, other = torch.nn.functional.dropout, torch.nn.Dropout(0.5)
    model = classifier.load_classifier(tiny, ["A", "B"])

    def first(module):
        torch.manual_seed(0)
        return module.train()(torch.ones(1000))

    expected = first(other)
    own = next(module for module in model.modules() if type(module) is torch.nn.Dropout)
    own.p = 0.5
    with pytest.raises(ZeroDivisionError), used_in(model, texts):
        assert torch.equal(first(other), expected) and not torch.equal(first(own), expected)
        assert torch.nn.functional.dropout is torchs
        raise ZeroDivisionError
    assert torch.equal(first(own), expected)


def test_gradients_are_those_of_torchs_attention(tiny, tmp_path, texts):
    model = classifier.load_classifier(copy_without_dropout(tiny, tmp_path), ["A", "B"])

    def gradients():
        loss = model.train()(**texts).logits.square().sum()
        return torch.autograd.grad(loss, [weight for weight in model.parameters() if weight.ndim == 2])

    expected = gradients()
    with used_in(model, texts):
        torch.testing.assert_close(gradients(), expected)
