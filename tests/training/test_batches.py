"""Batches: random, the same for a seed and an epoch, and computed in parts without loss."""

import itertools
from collections import Counter

import numpy as np
import torch

from utils.training import batches


def test_batches_are_random_and_every_text_comes_once_an_epoch():
    """Batches of similar length are batches of like registers; small corpora had the same ones every epoch."""
    lengths = np.random.default_rng(0).integers(5, 512, size=100)
    sampler = batches.ShuffledSampler(lengths, 16, seed=7)
    mates = []
    for sampler.epoch in range(200):
        order = list(sampler)
        assert sorted(order) == list(range(100))
        assert lengths.argmax() in order[:16]  # so that too little memory is told at once
        mates += [
            frozenset(pair)
            for start in range(0, 100, 16)
            for pair in itertools.combinations(order[start : start + 16], 2)
        ]
    counts = Counter(mates)
    assert len(counts) == 100 * 99 / 2  # each text meets each other
    expected = len(mates) / len(counts)
    assert max(counts.values()) < 2 * expected and min(counts.values()) > expected / 2


def test_the_last_batch_of_several_processes_is_filled_with_a_text_that_does_not_count():
    lengths = np.arange(1, 22)
    sampler = batches.ShuffledSampler(lengths, 8, seed=7, multiple=8)
    order = list(sampler)
    assert len(order) == len(sampler) == 24 and order[21:] == [21] * 3
    assert sorted(order[:21]) == list(range(21))


def test_parts_of_similar_length_hold_every_text_and_token_once():
    rng = np.random.default_rng(0)
    for side in ("right", "left"):
        lengths = rng.integers(1, 60, size=16)
        mask = torch.zeros(16, 64, dtype=torch.long)
        for row, length in enumerate(lengths):
            mask[row, :length] = 1
        mask = mask.flip(1) if side == "left" else mask
        batch = {
            "input_ids": torch.arange(16 * 64).view(16, 64) * mask,
            "attention_mask": mask,
            "labels": torch.arange(16),
        }
        parts = batches.parts_of_similar_length(batch, 256)
        assert all(part["attention_mask"].numel() <= 256 or len(part["labels"]) == 1 for part in parts)
        assert sum(part["attention_mask"].numel() for part in parts) < 0.75 * mask.numel()
        assert torch.cat([part["labels"] for part in parts]).sort().values.tolist() == list(range(16))
        for part in parts:
            for label, ids, kept in zip(part["labels"], part["input_ids"], part["attention_mask"], strict=True):
                assert torch.equal(ids[kept.bool()], batch["input_ids"][label][mask[label].bool()])


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        sampler = batches.ShuffledSampler(np.arange(100), 8, seed)
        sampler.epoch = epoch
        return list(sampler)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
