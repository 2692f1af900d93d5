"""What a training on a CPU spends most of its time on, at a fraction of torch's price: dropout, and attention with it.

torch draws one random number per value of a dropout, serially; here one 64-bit number decides on four. torch's fused
attention has no dropout on a CPU, and its steps one by one take the whole batch through memory several times; here a
few texts at a time stay in the processor's cache, and little is kept for the gradient.
"""

import contextlib
import functools
import inspect
import math
import sys
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from utils.encoder.memory import is_shortage

NAME = "texts_in_cache"  # of the attention below, for transformers
CACHED = 3 * 2**20  # attention weights that go through it at a time: those of one text of 512 tokens and 12 heads
LONG = 2**24  # of one text, above which its heads go one after the other, and nothing is kept for the gradient
SAME = 1e-4  # share of the largest logit by which two ways of attention may differ in float32


def drawn_seed() -> int:
    return int(torch.randint(2**62, ()))


def signs(shape: torch.Size, p: float, seed: int) -> torch.Tensor:
    """Return -1 with probability p, to the nearest of 32,768 shares, and else 1: bfloat16."""
    n_values = math.prod(shape)
    drawn = torch.from_numpy(np.random.SFC64(seed).random_raw(-(-n_values // 4)).view(np.int16))
    drawn.bitwise_right_shift_(1).sub_(round(p * 2**15) - 2**14)  # below 0 with probability p
    drawn.bitwise_and_(-(2**15)).bitwise_or_(0x3F80)  # of its bits the sign, and those of 1.0
    return drawn.view(torch.bfloat16)[:n_values].view(shape)


def dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Return input with a share p of its values 0 and the others divided by 1 - p; input itself if not training.

    The same as torch.nn.functional.dropout, never in place.
    """
    if not training or p == 0:
        return input
    kept = signs(input.shape, p, drawn_seed()).relu_().to(input.dtype)
    return input * kept.mul_(1 / (1 - p))


class _Attention(torch.autograd.Function):
    """softmax(query · keyᵀ + mask), with a share p of it dropped, · value.

    keeps: whether the weights are kept for the gradient; they are computed again otherwise.
    """

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any, p: float, keeps: bool) -> torch.Tensor:
        ctx.p, ctx.seed = p, drawn_seed() if p else 0
        weights = _weights(query, key, mask, p, ctx.seed)
        out = (weights.relu() if p else weights) @ value / (1 - p)
        ctx.save_for_backward(query, key, value, mask, out, weights if keeps else None)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, mask, out, weights = ctx.saved_tensors
        if weights is None:
            weights = _weights(query, key, mask, ctx.p, ctx.seed)
        mean = (grad * out).sum(dim=-1, keepdim=True)  # of the weights' gradients, weighted by the weights
        grad = grad / (1 - ctx.p)
        kept = weights.relu()
        grad_value = kept.mT @ grad
        grad_scores = kept.mul_(grad @ value.mT).sub_(weights.abs().mul_(mean))
        return grad_scores @ key, grad_scores.mT @ query, grad_value, None, None, None


def _weights(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, p: float, seed: int) -> torch.Tensor:
    """Return the attention weights; one that is dropped is kept for the gradient, as a negative one."""
    scores = query @ key.mT
    if mask is not None:
        scores += mask
    weights = scores.softmax(dim=-1)
    if p:
        weights *= signs(weights.shape, p, seed).to(weights.dtype)
    return weights


_same: weakref.WeakKeyDictionary[PreTrainedModel, bool] = weakref.WeakKeyDictionary()  # by model, once it was tried


class Refused(RuntimeError):
    """A call of the attention below that brings what it does not understand."""


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return what transformers' eager attention does, without the weights: shape (texts, tokens, heads, size).

    query, key, value: shape (texts, heads, tokens, size); of keys and values there may be fewer heads, each for as many
    of the queries. attention_mask: added to the scores, shape (texts or 1, 1, tokens, tokens), or None. dropout: share
    of the weights dropped, if module is training. others: what the model's own eager attention passes over too.
    Refused if that one takes any of them by name.
    """
    taken = _taken_by_eager(type(module).__module__) & {name for name, brought in others.items() if brought is not None}
    if taken or (attention_mask is not None and not attention_mask.is_floating_point()):
        raise Refused(f"{type(module).__name__}: {', '.join(taken) or 'a mask of another kind'}")
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else value.dtype
    query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    if key.shape[1] < query.shape[1]:
        key, value = (tensor.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for tensor in (key, value))
    query = query * (scaling or query.shape[-1] ** -0.5)
    mask = None
    if attention_mask is not None:
        # float32's lowest number is no finite one in bf16, and a row of nothing else would be nan
        mask = attention_mask.to(dtype).clamp(min=torch.finfo(dtype).min).expand(len(query), -1, -1, -1)
    n_weights = query.shape[2] * key.shape[2]  # of a head
    n_texts = max(CACHED // (query.shape[1] * n_weights), 1)
    is_long = query.shape[1] * n_weights > LONG
    n_heads = max(CACHED // n_weights, 1) if is_long else query.shape[1]
    p = dropout if module.training else 0.0
    outs = []
    with torch.autocast("cpu", enabled=False):
        for start in range(0, len(query), n_texts):
            texts = slice(start, start + n_texts)
            heads = zip(*(tensor[texts].split(n_heads, dim=1) for tensor in (query, key, value)), strict=True)
            part = None if mask is None else mask[texts]
            outs.append(torch.cat([_Attention.apply(*head, part, p, not is_long) for head in heads], dim=1))
    return torch.cat(outs).transpose(1, 2), None


@functools.cache
def _taken_by_eager(module: str) -> set[str]:
    """Return the arguments that a Python module's eager attention takes by name and the one above does not know."""
    eager = getattr(sys.modules[module], "eager_attention_forward", None)
    return set(inspect.signature(eager).parameters) - set(inspect.signature(attention).parameters) if eager else set()


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, eager_mask)


@contextlib.contextmanager
def used_in(model: PreTrainedModel, texts: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Let the model's dropout and attention be these within the block.

    The attention only where it gives what the model's own gives, which is tried on two texts, as a model takes them.
    Dropout that a model does not have as a torch.nn.Dropout stays torch's own.
    """
    own, training = model.config._attn_implementation, model.training
    dropouts = [module for module in model.modules() if type(module) is torch.nn.Dropout]
    try:
        if model not in _same:
            _same[model] = _is_same(model.eval(), texts)
            model.train(training)
        model.set_attn_implementation(NAME if _same[model] else own)
        for module in dropouts:
            module.forward = functools.partial(_drop, module)  # type: ignore[method-assign]
        yield
    finally:
        for module in dropouts:
            module.__dict__.pop("forward", None)
        model.set_attn_implementation(own)


def _drop(module: torch.nn.Dropout, values: torch.Tensor) -> torch.Tensor:
    return dropout(values, module.p, module.training)


@torch.no_grad()
def _is_same(model: PreTrainedModel, texts: Mapping[str, torch.Tensor]) -> bool:
    """Give the model the attention above; tell whether it answers in float32 as with its own."""
    with torch.autocast("cpu", enabled=False):
        expected = model(**texts).logits
        model.set_attn_implementation(NAME)
        try:
            found = model(**texts).logits
        except RuntimeError as error:  # Refused, or shapes that are no attention's as defined above
            if is_shortage(error):
                raise
            return False
    return torch.allclose(found, expected, rtol=0, atol=SAME * float(expected.abs().max()))
