"""Which texts a training learns from together, and how a batch of them is computed."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets

from utils.encoder.classifier import batches_of_similar_length

IGNORED = -100  # the label of a text that is not counted: cross_entropy's ignore_index, and Trainer's


class ShuffledSampler(torch.utils.data.Sampler):
    """Yield the texts' indices in a new order each epoch, a function of seed and epoch alone.

    Every text comes once per epoch. Batches are drawn at random: of texts of similar length many are of one register,
    and in a small corpus the same ones would meet each time. batch_size is the effective one, over all processes
    and accumulation steps, so that the texts of one update do not depend on how it is cut. multiple: what the number
    of indices must be a multiple of; index len(lengths), that of a text which does not count, fills it up.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, multiple: int = 1) -> None:
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.n_filling = -len(self.lengths) % multiple
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths) + self.n_filling

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.lengths))
        # the longest text within the first batch: memory that is too small for it is told at once, not hours later
        longest = int(np.argmax(self.lengths[order])) // self.batch_size * self.batch_size
        order = np.concatenate(
            [order[longest : longest + self.batch_size], order[:longest], order[longest + self.batch_size :]]
        )
        return iter([*order.tolist(), *[len(self.lengths)] * self.n_filling])


def parts_of_similar_length(batch: Mapping[str, torch.Tensor], n_tokens: int) -> list[dict[str, torch.Tensor]]:
    """Cut a batch into parts, longest texts first, without the columns that are padding in the whole part.

    batch: tensors of shape (texts, tokens), attention_mask among them, or (texts,). A part is padded to n_tokens in
    all at most, or has a single text.
    """
    mask = batch["attention_mask"]
    if mask.numel() <= n_tokens:
        return [dict(batch)]
    parts = []
    for indices in batches_of_similar_length(mask.sum(dim=1).cpu().numpy(), n_tokens):
        columns = mask[indices].any(dim=0)
        parts.append({name: t[indices][:, columns] if t.dim() > 1 else t[indices] for name, t in batch.items()})
    return parts


def with_filling(texts: Dataset) -> Dataset:
    """Return the texts and, last, one that does not count: accelerate would fill the last batch with real ones."""
    filling = {"input_ids": [texts[0]["input_ids"].tolist()[:1]], "labels": [IGNORED], "length": [1], "over": [False]}
    last = Dataset.from_dict(filling, features=texts.features).with_format("torch")
    return concatenate_datasets([texts, last])
