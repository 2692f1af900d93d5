"""Variables of the environment that would change what a training or an evaluation computes: none of them is left.

What the options say is what runs. Some of these variables are set by a site's profile or by another tool, for other
programs than this one; the libraries would take each of them without a word.
"""

import argparse
import logging
import os

from utils.runs import slurm_job

# beginnings of names, and what reads them
DECIDING = {
    "ACCELERATE_": "accelerate: precision, accumulation, compilation, sharding, device, clipping",
    "FSDP_": "accelerate, transformers: sharding",
    "PARALLELISM_CONFIG_": "accelerate: texts and weights over several devices",
    "XLA_USE_": "torch: float32 computed as bf16 or fp16",
    "XLA_DOWNCAST_": "the same",
    "USE_TORCH_XLA": "transformers: another device",
    "USE_HUB_KERNELS": "transformers: layers replaced by others from the Hub",
    "TRANSFORMERS_SDPA_": "transformers: attention",
    "TRANSFORMERS_DISABLE_DEEPGEMM": "transformers: matrix products",
    "FLASH_ATTENTION_": "transformers: attention",
    "SM_HP_MP_PARAMETERS": "transformers: texts and weights over several devices",
    "SM_FRAMEWORK_PARAMS": "the same",
    "PMI_": "accelerate: an MPI launcher's number of processes",
    "OMPI_COMM_WORLD_": "the same",
    "MV2_COMM_WORLD_": "the same",
    "TORCH_ALLOW_TF32": "torch: float32 products with ten bits on a GPU",
    "NVIDIA_TF32_OVERRIDE": "the same, in NVIDIA's libraries",
    "CUBLAS_": "NVIDIA's matrix products: order of sums",
    "CUBLASLT_": "the same",
    "TORCH_BLAS_PREFER": "torch: which library's matrix products",
    "TORCH_LINALG_PREFER": "torch: which library's linear algebra",
    "TORCH_CUDNN": "torch: which of cuDNN's kernels",
    "TORCH_MKLDNN": "torch: which matrix products are oneDNN's",
    "TORCH_LINEAR_FLATTEN": "torch: matrix products",
    "TORCH_COMPILE": "torch: compilation",
    "TORCHDYNAMO_": "the same",
    "TORCHINDUCTOR_": "the same",
    "PYTORCH_JIT": "the same",
    "PYTORCH_TENSOREXPR": "the same",
    "ATEN_CPU_CAPABILITY": "torch: which of a CPU's instructions, and so the order of sums",
    "ONEDNN_": "oneDNN: the same, and float32 computed as bf16",
    "DNNL_": "the same",
    "MKL_": "MKL: instructions, threads",
    "OMP_": "OpenMP: threads, and so the order of sums; --threads decides. How they wait: see WAIT",
    "GOMP_": "the same",
    "KMP_": "the same",
}

# A thread that has nothing to do sleeps. By default it spins, which on a machine where other programs run takes the
# cores from the threads that are waited for; on a free machine it makes no difference that could be measured.
WAIT = {"OMP_WAIT_POLICY": "passive"}

log = logging.getLogger(__name__)


def leave_out() -> None:
    """Remove these variables, and say so. To be called before torch is imported: some are read just then."""
    deciding = [name for name in sorted(os.environ) if name.startswith(tuple(DECIDING))]
    found = [name for name in deciding if os.environ[name] != WAIT.get(name)]
    for name in found:
        del os.environ[name]
    os.environ.update(WAIT)
    if found:
        log.info("the options decide, and not these variables of the environment: %s", ", ".join(found))


def use_threads(args: argparse.Namespace) -> None:
    """Let torch compute with args.threads threads, or with one per core that this process may use."""
    import torch

    torch.set_num_threads(args.threads or cores())


def cores() -> int:
    """Return how many cores this process may use: those that system and job leave it, shared with torchrun's."""
    allowed = len(os.sched_getaffinity(0))
    if slurm_job():  # not every site binds a job to its cores
        allowed = min(allowed, int(os.environ.get("SLURM_CPUS_PER_TASK", allowed)))
    return max(allowed // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)
