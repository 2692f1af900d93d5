"""The options decide what is computed, and nothing in the environment."""

import os
import subprocess
import sys

import pytest
from conftest import FAST, ROOT, finish, record, run_of, start, weights

# each would change the weights or end the training, if it were read
VARIABLES = {
    "PMI_SIZE": "2", "OMPI_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_SIZE": "2", "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "ACCELERATE_GRADIENT_CLIPPING": "0.001",
    "ACCELERATE_DYNAMO_BACKEND": "inductor", "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_MEGATRON_LM": "true", "ACCELERATE_TORCH_DEVICE": "meta", "ACCELERATE_CPU_AFFINITY": "1",
    "PARALLELISM_CONFIG_TP_SIZE": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true", "XLA_USE_BF16": "1",
    "XLA_DOWNCAST_BF16": "1", "USE_TORCH_XLA": "1", "USE_HUB_KERNELS": "1",
    "SM_HP_MP_PARAMETERS": '{"partitions": 2}', "SM_FRAMEWORK_PARAMS": '{"sagemaker_mpi_enabled": true}',
    "TRANSFORMERS_SDPA_FORCE_GQA": "1", "TRANSFORMERS_DISABLE_DEEPGEMM_LINEAR": "1",
    "FLASH_ATTENTION_DETERMINISTIC": "1", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "NVIDIA_TF32_OVERRIDE": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":16:8", "CUBLASLT_WORKSPACE_SIZE": "1", "TORCH_BLAS_PREFER_CUBLASLT": "1",
    "TORCH_LINALG_PREFER_CUSOLVER": "1", "TORCH_CUDNN_V8_API_DISABLED": "1", "TORCH_MKLDNN_MATMUL_MIN_DIM": "1",
    "TORCH_LINEAR_FLATTEN_3D": "1", "TORCH_COMPILE_DISABLE": "1", "TORCHDYNAMO_VERBOSE": "1",
    "TORCHINDUCTOR_FREEZING": "1", "PYTORCH_JIT": "0", "PYTORCH_TENSOREXPR": "0", "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41", "DNNL_DEFAULT_FPMATH_MODE": "BF16", "MKL_CBWR": "COMPATIBLE",
    "MKL_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "GOMP_CPU_AFFINITY": "0", "KMP_AFFINITY": "compact",
}  # fmt: skip

# each may change where something is written, how fast or how it looks, and no number
SURROUNDINGS = {
    "HOME": "/proc", "TMPDIR": "/proc/nowhere", "XDG_CACHE_HOME": "/proc", "HF_HOME": "/proc/nowhere",
    "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONHASHSEED": "7", "PYTHONUNBUFFERED": "1",
    "PYTHONSTARTUP": "/proc/nowhere", "TZ": "Asia/Kathmandu", "TERM": "dumb", "COLUMNS": "20", "GIT_DIR": "/proc",
    "MPLBACKEND": "module://nowhere", "TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1", "CUDA_VISIBLE_DEVICES": "0", "RANK": "1",
}  # fmt: skip


def test_no_variable_changes_the_weights_or_the_scores(project, corpus, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    found = []
    for subfolder, variables in (("without", {}), ("with", VARIABLES | SURROUNDINGS)):
        names = ["--model-name=tiny", "--train-langs=en", f"--subfolder={subfolder}"]
        for command in (
            ["finetune.py", "--num-epochs=1", *FAST],
            ["evaluate.py", "--eval-lang=fr", "--precision=fp32"],
        ):
            out = finish(start(project, *command, *names, corpus=corpus, variables=variables))
        run = run_of(project, subfolder)
        found.append((weights(run), run.predictions("fr").read_text(), record(run)["precision"], record(run)["device"]))
    assert found[0] == found[1] and found[0][2:] == ("fp32", "CPU, 1 thread")
    assert "ACCELERATE_MIXED_PRECISION" in out and "KMP_AFFINITY" in out  # they are told


# ---- other packages, another Python ----

SCRIPTS = ["finetune.py", "evaluate.py", "post_eval.py", "utils/download_model.py", "utils/audit.py"]
PREPARED = "from utils import environment; environment.prepare(); import os, sys; "


def test_the_packages_are_those_of_requirements_txt(shared_project, tmp_path):
    """`module load` puts an older numpy into PYTHONPATH, and a site may begin Python with whatever it likes."""
    foreign = tmp_path / "site"
    for name in ("numpy", "utils"):
        (foreign / name).mkdir(parents=True)
        (foreign / name / "__init__.py").write_text("raise ImportError('numpy of another Python')\n")
    (foreign / "sitecustomize.py").write_text("import sys\nsys.path.insert(0, sys.path[1])\n")
    variables = {"PYTHONPATH": str(foreign), "PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error"}
    variables |= {"PYTHONHOME": sys.base_prefix}
    for script in SCRIPTS:
        out = finish(start(shared_project, script, "--help", variables=variables))
        assert "\noptions:\n" in out and "Error" not in out, out
        out = finish(start(shared_project, script, "--help", variables={"PYTHONSAFEPATH": "1"}))
        assert "\noptions:\n" in out, out  # Python leaves the scripts' folder out
    code = f"{PREPARED} print(sys.flags.optimize, sys.path, os.environ)"
    out = finish(start(shared_project, "-c", code, variables=variables))
    assert out.startswith("0 ") and str(foreign) not in out and "PYTHONWARNINGS" not in out


@pytest.mark.parametrize("script", SCRIPTS[:2])
def test_without_the_environment_one_line_says_what_to_type(shared_project, tmp_path, script):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    command = [tmp_path / "bare" / "bin" / "python", script, "--help"]
    done = subprocess.run(command, cwd=shared_project, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "source .venv/bin/activate" in done.stderr


@pytest.mark.parametrize(
    "script", ["finetune.py", "evaluate.py", "post_eval.py", "utils/download_model.py", "utils/audit.py"]
)
def test_help_needs_no_corpus_and_no_torch_from_any_folder(script, tmp_path):
    environment = {**os.environ, "REGISTER_CORPUS": str(tmp_path / "nowhere")}
    command = [sys.executable, "-X", "importtime", ROOT / script, "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "example:\n  python" in done.stdout, done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    heavy = {"torch", "transformers", "datasets", *([] if script == "post_eval.py" else ["pandas"])}
    assert "argparse" in loaded and not loaded & heavy
