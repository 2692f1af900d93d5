"""The environment of a script: the Python that runs it, and variables that would change its results.

Options alone decide what is computed. A site's profile or another tool may have set variables that the libraries would
silently obey, so they are removed before any library is imported.
"""

import logging
import os
import sys

PACKAGES = ("torch", "transformers", "datasets", "numpy", "pandas", "sklearn", "matplotlib")

# with these, Python would import other packages than those of requirements.txt, or run them differently
FOREIGN = (
    "PYTHONPATH", "PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONINSPECT",
    "PYTHONDEVMODE",
)  # fmt: skip
# torchrun sets TORCHELASTIC_RUN_ID with them; those of another launcher must not be taken for torchrun's
TORCHRUNS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")

# The beginnings of their names. accelerate and transformers read precision, accumulation, sharding, device, attention
# and number of processes from them; torch, NVIDIA's libraries, oneDNN and MKL read whether float32 may have fewer bits,
# which kernels to use (and so the order of sums) and what to compile; OpenMP reads the number of threads, which is for
# --threads to decide.
DECIDING = (
    "ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_", "XLA_USE_", "XLA_DOWNCAST_", "USE_TORCH_XLA", "USE_HUB_KERNELS",
    "TRANSFORMERS_SDPA_", "TRANSFORMERS_DISABLE_DEEPGEMM", "FLASH_ATTENTION_", "SM_HP_MP_PARAMETERS",
    "SM_FRAMEWORK_PARAMS", "PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_", "TORCH_ALLOW_TF32", "NVIDIA_TF32_OVERRIDE",
    "CUBLAS_", "CUBLASLT_", "TORCH_BLAS_PREFER", "TORCH_LINALG_PREFER", "TORCH_CUDNN", "TORCH_MKLDNN",
    "TORCH_LINEAR_FLATTEN", "TORCH_COMPILE", "TORCHDYNAMO_", "TORCHINDUCTOR_", "PYTORCH_JIT", "PYTORCH_TENSOREXPR",
    "ATEN_CPU_CAPABILITY", "ONEDNN_", "DNNL_", "MKL_", "OMP_", "GOMP_", "KMP_",
)  # fmt: skip

# Waiting threads sleep. By default they spin, and on a machine where other programs run, that takes the cores away from
# the threads they are waiting for.
WAIT = {"OMP_WAIT_POLICY": "passive"}

log = logging.getLogger(__name__)


def prepare() -> None:
    """Make sure that the right Python runs the script; call it before anything but the standard library is imported.

    If a variable of FOREIGN is set, the process is started again without it. Exits with one line if packages are
    missing.
    """
    # the next file opened would take the place of a standard stream that is closed, and receive what is printed
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if any(os.environ.get(name) for name in FOREIGN) and not sys.flags.ignore_environment:
        kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], kept)

    from importlib.util import find_spec

    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing or sys.version_info < (3, 11):
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        what = f"without {', '.join(missing)}" if missing else "older than 3.11"
        how = "source .venv/bin/activate"
        if not os.path.exists(os.path.join(root, ".venv", "bin", "activate")):
            how = "bash -c 'source utils/load_env.sh'  makes .venv; then activate it"
        sys.exit(f"{os.path.basename(sys.argv[0])}: {sys.executable} is a Python {what}; in {root}, type: {how}")
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        for name in TORCHRUNS:
            os.environ.pop(name, None)


def let_options_decide(cpu: bool) -> None:
    """Remove the variables that would change results, and say so in the log; to be called before torch is imported.

    The process sees a single GPU unless torchrun started it, since Trainer would split batches over several; with cpu,
    it sees none.
    """
    removed = [name for name in sorted(os.environ) if name.startswith(DECIDING) and os.environ[name] != WAIT.get(name)]
    for name in removed:
        del os.environ[name]
    os.environ.update(WAIT)
    if removed:
        log.info("ignoring variables of the environment that would change results: %s", ", ".join(removed))
    if cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif "LOCAL_RANK" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
