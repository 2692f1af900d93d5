"""Loading a classifier and choosing its precision: what is refused, what follows from the GPU."""

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


def test_precision_and_kernels_follow_the_gpus_capability(monkeypatch):
    """Facts of GPUs that no test machine has: which precision each capability gets, which torch lacks its kernels."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    chosen = {}
    for capability in [(6, 1), (7, 0), (7, 5), (8, 0), (9, 0)]:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda capability=capability: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_61", "sm_70", "sm_75", "sm_80", "sm_90"])
        chosen[capability] = classifier.choose_precision("auto")
    assert list(chosen.values()) == ["fp32", "fp16", "fp16", "bf16", "bf16"]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    with pytest.raises(RunError, match="--precision bf16"):
        classifier.choose_precision("bf16")
    for built_for, fits in ((["sm_75", "sm_80", "sm_90"], False), (["sm_70", "sm_80"], True), (["compute_60"], True)):
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda built_for=built_for: built_for)
        if fits:
            assert classifier.choose_precision("auto") == "fp16"
        else:
            with pytest.raises(RunError, match="expected a torch with kernels for sm_70"):
                classifier.choose_precision("auto")


@pytest.mark.parametrize(
    ("instructions", "chosen"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True}, "fp32"), ({}, "fp32")],
)
def test_precision_follows_the_cpus_instructions(monkeypatch, instructions, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert classifier.choose_precision("auto") == chosen
    assert classifier.choose_precision("fp32") == "fp32" and classifier.choose_precision("bf16") == "bf16"


def test_batches_of_similar_length_hold_every_text_once_and_need_the_same_memory():
    lengths = np.random.default_rng(0).integers(1, 513, size=1003)
    batches = classifier.batches_of_similar_length(lengths, batch_size=4, max_length=512)
    assert sorted(np.concatenate(batches)) == list(range(1003))
    for batch in batches:
        assert lengths[batch].max() * len(batch) <= 4 * 512
    padded = sum(lengths[batch].max() * len(batch) for batch in batches)
    assert padded < 1.03 * lengths.sum()
    assert len(batches[0]) == 4 and len(batches[-2]) > 16  # of the shortest texts many at once
    assert classifier.batches_of_similar_length(np.zeros(0, dtype=int), 4, 512) == []


def test_a_gpu_that_torch_cannot_use_is_told_and_refused_in_a_job(monkeypatch, tmp_path, caplog):
    """An older driver, another make: a job would compute on the CPU for a day without a word."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_GPUS", raising=False)
    monkeypatch.setattr(classifier, "GPU_DEVICES", (str(tmp_path / "nvidia[0-9]*"),))
    classifier.check_device()
    assert not caplog.text  # no GPU: nothing to tell
    (tmp_path / "nvidia0").touch()
    classifier.check_device()
    assert f"expected {tmp_path}/nvidia0 to be one that torch can use" in caplog.text and "--cpu" in caplog.text
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    classifier.check_device()  # in a terminal within a job there is somebody to read it
    monkeypatch.setenv("REGISTER_JOB", "17")
    with pytest.raises(RunError, match="--cpu"):
        classifier.check_device()
    (tmp_path / "nvidia0").unlink()
    caplog.clear()
    classifier.check_device()  # Slurm calls something a GPU that is none
    assert "the GPU 0 of this job" in caplog.text
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as --cpu sets it
    caplog.clear()
    classifier.check_device()
    assert not caplog.text


def test_a_training_begun_in_bf16_does_not_go_on_where_it_would_be_imitated(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    classifier.check_resumed("fp32")
    with pytest.raises(RunError, match="begun, found none; SBATCH_CONSTRAINT"):
        classifier.check_resumed("bf16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    classifier.check_resumed("fp16")
    with pytest.raises(RunError, match="a card: expected a device with instructions for bf16"):
        classifier.check_resumed("bf16")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    classifier.check_resumed("bf16")
