"""The options decide what is computed, and nothing in the environment."""

import os

import pytest
from conftest import FAST, finish, record, run_of, start, weights

from utils.encoder import environment

# each would change the weights or end the training, if it were read
VARIABLES = {
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_GRADIENT_CLIPPING": "0.001",
    "ACCELERATE_DOWNCAST_BF16": "true",
    "ACCELERATE_DYNAMO_BACKEND": "inductor",
    "ACCELERATE_DYNAMO_MODE": "max-autotune",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_MEGATRON_LM": "true",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "ACCELERATE_TORCH_DEVICE": "meta",
    "ACCELERATE_CPU_AFFINITY": "1",
    "ACCELERATE_FP8_BACKEND": "TE",
    "PARALLELISM_CONFIG_TP_SIZE": "2",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    "XLA_USE_BF16": "1",
    "XLA_DOWNCAST_BF16": "1",
    "USE_TORCH_XLA": "1",
    "USE_HUB_KERNELS": "1",
    "SM_HP_MP_PARAMETERS": '{"partitions": 2}',
    "SM_FRAMEWORK_PARAMS": '{"sagemaker_mpi_enabled": true}',
    "TRANSFORMERS_SDPA_FORCE_GQA": "1",
    "TRANSFORMERS_DISABLE_DEEPGEMM_LINEAR": "1",
    "FLASH_ATTENTION_DETERMINISTIC": "1",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "NVIDIA_TF32_OVERRIDE": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",
    "CUBLASLT_WORKSPACE_SIZE": "1",
    "TORCH_BLAS_PREFER_CUBLASLT": "1",
    "TORCH_LINALG_PREFER_CUSOLVER": "1",
    "TORCH_CUDNN_V8_API_DISABLED": "1",
    "TORCH_MKLDNN_MATMUL_MIN_DIM": "1",
    "TORCH_LINEAR_FLATTEN_3D": "1",
    "TORCH_COMPILE_DISABLE": "1",
    "TORCHDYNAMO_VERBOSE": "1",
    "TORCHINDUCTOR_FREEZING": "1",
    "PYTORCH_JIT": "0",
    "PYTORCH_TENSOREXPR": "0",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "DNNL_DEFAULT_FPMATH_MODE": "BF16",
    "MKL_CBWR": "COMPATIBLE",
    "MKL_NUM_THREADS": "2",
    "OMP_NUM_THREADS": "2",
    "GOMP_CPU_AFFINITY": "0",
    "KMP_AFFINITY": "compact",
}


@pytest.fixture
def without(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_no_variable_changes_the_weights(project, corpus, without):
    command = ["finetune.py", "--model-name=tiny", "--train-langs=en", "--num-epochs=1", *FAST]
    finish(start(project, *command, "--subfolder=without", corpus=corpus))
    told = finish(start(project, *command, "--subfolder=with", corpus=corpus, variables=VARIABLES))
    plain, run = (run_of(project, name) for name in ("without", "with"))
    assert weights(run) == weights(plain)
    assert (record(run)["precision"], record(run)["device"]) == ("fp32", "CPU, 1 thread")
    assert "ACCELERATE_MIXED_PRECISION" in told and "KMP_AFFINITY" in told
    scores = []
    for name, variables in (("without", {}), ("with", VARIABLES)):
        evaluation = ["evaluate.py", *command[1:3], f"--subfolder={name}", "--eval-lang=fr", "--precision=fp32"]
        finish(start(project, *evaluation, corpus=corpus, variables=variables))
        scores.append(run_of(project, name).predictions("fr").read_text())
    assert scores[0] == scores[1]


def test_every_kind_of_variable_is_tried():
    for name in environment.DECIDING:
        assert any(variable.startswith(name) for variable in VARIABLES), name


def test_threads_are_the_cores_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    for name in ("SLURM_CPUS_PER_TASK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert environment.cores() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert environment.cores() == 2
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert environment.cores() == 2  # a terminal within a job
    monkeypatch.setenv("REGISTER_JOB", "17")
    assert environment.cores() == 1
