"""What computes: a GPU or the CPU, and the precision that it computes in."""

import ctypes
import glob
import logging
import os
import resource
from contextlib import AbstractContextManager

import torch

from utils.runs import RunError, first_line, slurm_job

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/kfd")  # what the drivers of NVIDIA and of AMD make

log = logging.getLogger(__name__)


def check_device() -> None:
    """Tell of a GPU that is there, or was given to this process, and that torch can't use: it would be slow unseen.

    RunError in a Slurm job that was given a GPU, and whose machine has one: nobody sees it compute on the CPU for days.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen == "" or torch.cuda.is_available():
        return
    devices = [path for pattern in GPU_DEVICES for path in sorted(glob.glob(pattern))]
    given = os.environ.get("SLURM_JOB_GPUS") if slurm_job() else None
    if not devices and not given:
        return
    try:
        torch.cuda.init()
        reason = "none that is visible"
    except (AssertionError, RuntimeError) as error:
        reason = first_line(error)
    which = devices[0] if devices else f"the GPU {given} of this job"
    found = f"expected {which} to be one that torch can use, found: {reason}"
    if devices and given:
        raise RunError(
            f"{found}; install the wheel of torch that its driver needs (README.md, Slurm cluster), or compute on the "
            "CPU with --cpu"
        )
    log.warning("%s; computing on the CPU, which --cpu does without this line", found)


def check_resumed(precision: str) -> None:
    """RunError if this device has no instructions for the precision in which a training was begun."""
    if precision == "bf16" and "bf16" not in _native_precisions():
        raise RunError(
            f"{describe_device()}: expected a device with instructions for bf16, in which this training was begun, "
            "found none; SBATCH_CONSTRAINT chooses the kind of node, finetune.py --overwrite starts anew"
        )


def _native_precisions() -> set[str]:
    """Return the precisions that this device has instructions for."""
    if torch.cuda.is_available():
        major, _ = torch.cuda.get_device_capability()
        return {"fp32"} | ({"fp16"} if major >= 7 else set()) | ({"bf16"} if major >= 8 else set())
    instructions = torch.cpu.get_capabilities()
    return {"fp32"} | ({"bf16"} if instructions.get("avx512_bf16") or instructions.get("amx_bf16") else set())


def choose_precision(requested: str) -> str:
    """Return fp32, bf16 or fp16: what was asked for, or for "auto" the fastest that this device does natively.

    On a GPU by its compute capability: 8.0 and later bf16, 7.x fp16, else fp32. On a CPU bf16 if it has instructions
    for it, else fp32. RunError where the request, or the installed torch, does not fit the device.
    """
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        _check_kernels(major, minor)
        if requested == "bf16" and major < 8:
            raise RunError(
                f"--precision bf16: expected a GPU of capability 8.0 or later, found {major}.{minor}; use fp16"
            )
    elif requested == "fp16":
        raise RunError("--precision fp16: expected a GPU, found none; fp32 and bf16 run on the CPU")
    native = _native_precisions()
    return requested if requested != "auto" else next(name for name in ("bf16", "fp16", "fp32") if name in native)


def _check_kernels(major: int, minor: int) -> None:
    """RunError if this torch holds no kernels for a GPU of this capability: it would fail at the first product."""
    architectures = torch.cuda.get_arch_list()
    for architecture in architectures:
        kind, _, digits = architecture.partition("_")
        number = int("".join(filter(str.isdigit, digits)))
        same_family = number // 10 == major and number % 10 <= minor
        if same_family if kind == "sm" else number <= 10 * major + minor:
            return
    raise RunError(
        f"{torch.cuda.get_device_name()}: expected a torch with kernels for sm_{major}{minor}, found one for "
        f"{' '.join(architectures)}; install the wheel of an older CUDA: see README.md, Slurm cluster"
    )


def keep_freed_memory() -> None:
    """Let glibc keep the memory it has, instead of giving it back after each step, to be fetched and zeroed again."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def main_process_first() -> AbstractContextManager:
    """Let process 0 of several go first through a block, the others after it; one process just goes."""
    from accelerate import PartialState  # half a second that evaluation does without

    return PartialState(cpu=not torch.cuda.is_available()).main_process_first()


def peak_memory() -> int:
    """Return the most memory this process has held, in bytes: the GPU's if it has one, else the machine's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def describe_device() -> str:
    """Return what computes: the GPU's name, or the CPU with its number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    n_threads = torch.get_num_threads()
    return f"CPU, {n_threads} thread{'s' * (n_threads > 1)}"
