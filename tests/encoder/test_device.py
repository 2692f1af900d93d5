"""Which precision follows from a GPU or a CPU, and what is told of a GPU that torch can't use."""

import pytest
import torch

from utils.encoder import device
from utils.runs import RunError


def test_precision_and_kernels_follow_the_gpus_capability(monkeypatch):
    """Facts of GPUs that no test machine has: which precision each capability gets, which torch lacks its kernels."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    chosen = {}
    for capability in [(6, 1), (7, 0), (7, 5), (8, 0), (9, 0)]:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda capability=capability: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_61", "sm_70", "sm_75", "sm_80", "sm_90"])
        chosen[capability] = device.choose_precision("auto")
    assert list(chosen.values()) == ["fp32", "fp16", "fp16", "bf16", "bf16"]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    with pytest.raises(RunError, match="--precision bf16"):
        device.choose_precision("bf16")
    for built_for, fits in ((["sm_75", "sm_80", "sm_90"], False), (["sm_70", "sm_80"], True), (["compute_60"], True)):
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda built_for=built_for: built_for)
        if fits:
            assert device.choose_precision("auto") == "fp16"
        else:
            with pytest.raises(RunError, match="expected a torch with kernels for sm_70"):
                device.choose_precision("auto")


@pytest.mark.parametrize(
    ("instructions", "chosen"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True}, "fp32"), ({}, "fp32")],
)
def test_precision_follows_the_cpus_instructions(monkeypatch, instructions, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert device.choose_precision("auto") == chosen
    assert device.choose_precision("fp32") == "fp32" and device.choose_precision("bf16") == "bf16"


def test_a_gpu_that_torch_cannot_use_is_told_and_refused_in_a_job(monkeypatch, tmp_path, caplog):
    """An older driver, another make: a job would compute on the CPU for a day without a word."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_GPUS", raising=False)
    monkeypatch.setattr(device, "GPU_DEVICES", (str(tmp_path / "nvidia[0-9]*"),))
    device.check_device()
    assert not caplog.text  # no GPU: nothing to tell
    (tmp_path / "nvidia0").touch()
    device.check_device()
    assert f"expected {tmp_path}/nvidia0 to be one that torch can use" in caplog.text and "--cpu" in caplog.text
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    device.check_device()  # in a terminal within a job there is somebody to read it
    monkeypatch.setenv("REGISTER_JOB", "17")
    with pytest.raises(RunError, match="--cpu"):
        device.check_device()
    (tmp_path / "nvidia0").unlink()
    caplog.clear()
    device.check_device()  # Slurm calls something a GPU that is none
    assert "the GPU 0 of this job" in caplog.text
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as --cpu sets it
    caplog.clear()
    device.check_device()
    assert not caplog.text


def test_a_training_begun_in_bf16_does_not_go_on_where_it_would_be_imitated(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    device.check_resumed("fp32")
    with pytest.raises(RunError, match="begun, found none; SBATCH_CONSTRAINT"):
        device.check_resumed("bf16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    device.check_resumed("fp16")
    with pytest.raises(RunError, match="a card: expected a device with instructions for bf16"):
        device.check_resumed("bf16")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    device.check_resumed("bf16")
