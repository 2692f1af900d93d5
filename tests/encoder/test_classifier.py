"""Loading a classifier: what is refused; and the batches that it predicts."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from utils.encoder import classifier
from utils.runs import RunError


def test_a_checkpoint_with_pickled_weights_only_is_refused(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(RunError, match="pickled weights are never loaded"):
        classifier.load_classifier(folder, ["A", "B"])


def test_a_half_precision_checkpoint_is_trained_in_float32(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "half")
    model = classifier.load_classifier(folder, ["A", "B"]).half()
    model.save_pretrained(folder)
    assert classifier.load_classifier(folder, ["A", "B"]).dtype == torch.float32


def test_batches_of_similar_length_hold_every_text_once_and_need_the_same_memory():
    lengths = np.random.default_rng(0).integers(1, 513, size=1003)
    batches = classifier.batches_of_similar_length(lengths, 4 * 512)
    assert sorted(np.concatenate(batches)) == list(range(1003))
    for batch in batches:
        assert lengths[batch].max() * len(batch) <= 4 * 512
    padded = sum(lengths[batch].max() * len(batch) for batch in batches)
    assert padded < 1.03 * lengths.sum()
    assert len(batches[0]) == 4 and len(batches[-2]) > 16  # of the shortest texts many at once
    assert classifier.batches_of_similar_length(np.zeros(0, dtype=int), 4 * 512) == []
