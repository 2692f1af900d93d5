"""What a training on a CPU spends most of its time on, at a fraction of torch's price: dropout, and attention with it.

torch draws one random number per value of a dropout, serially; here one 64-bit number decides on four. torch's fused
attention has no dropout on a CPU, and its steps one by one take the whole batch through memory several times; here a
few texts at a time stay in the processor's cache, and little is kept for the gradient.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

NAME = "texts_in_cache"  # of the attention below, for transformers
CACHED = 3 * 2**20  # attention weights that go through it at a time: those of one text of 512 tokens and 12 heads


def signs(shape: torch.Size, p: float) -> torch.Tensor:
    """Return -1 with probability p, to the nearest of 32,768 shares, and else 1: bfloat16, from torch's seed."""
    n_values = math.prod(shape)
    seed = int(torch.randint(2**62, ()))
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
    kept = signs(input.shape, p).relu_().to(input.dtype)
    return input * kept.mul_(1 / (1 - p))


class _Attention(torch.autograd.Function):
    """softmax(query · keyᵀ + mask), with a share p of it dropped, · value."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any, p: float) -> torch.Tensor:
        scores = query @ key.mT
        if mask is not None:
            scores += mask
        weights = scores.softmax(dim=-1)
        if p:  # a weight that is dropped is kept for the gradient, as a negative one
            weights *= signs(weights.shape, p).to(weights.dtype)
        out = (weights.relu() if p else weights) @ value / (1 - p)
        ctx.save_for_backward(query, key, value, weights, out)
        ctx.p = p
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, weights, out = ctx.saved_tensors
        mean = (grad * out).sum(dim=-1, keepdim=True)  # of the weights' gradients, weighted by the weights
        grad = grad / (1 - ctx.p)
        kept = weights.relu()
        grad_value = kept.mT @ grad
        grad_scores = kept.mul_(grad @ value.mT).sub_(weights.abs().mul_(mean))
        return grad_scores @ key, grad_scores.mT @ query, grad_value, None, None


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return what transformers' eager attention does, without the weights: shape (texts, tokens, heads, size).

    query, key, value: shape (texts, heads, tokens, size). attention_mask: added to the scores, shape (texts, 1,
    tokens, tokens), or None. dropout: share of the weights dropped, if module is training.
    """
    n_texts = max(CACHED // (query.shape[1] * query.shape[2] * key.shape[2]), 1)
    parts = [tensor.split(n_texts) for tensor in (query * (scaling or query.shape[-1] ** -0.5), key, value)]
    masks = [None] * len(parts[0]) if attention_mask is None else attention_mask.to(query.dtype).split(n_texts)
    p = dropout if module.training else 0.0
    with torch.autocast("cpu", enabled=False):
        outs = [_Attention.apply(*part, mask, p) for *part, mask in zip(*parts, masks, strict=True)]
    return torch.cat(outs).transpose(1, 2), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, eager_mask)


@contextlib.contextmanager
def used_in(model: PreTrainedModel) -> Iterator[None]:
    """Let the model's dropout and attention be these within the block; a model with its own attention keeps that."""
    torchs, before = torch.nn.functional.dropout, model.config._attn_implementation
    torch.nn.functional.dropout = dropout  # what torch's modules call, and transformers' eager attention
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        torch.nn.functional.dropout = torchs
        model.set_attn_implementation(before)
