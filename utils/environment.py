"""What surrounds a script: the Python it runs in, and variables that would change what is computed.

What the options say is what runs. A site's profile or another tool may have set variables for other programs, and the
libraries would take each of them without a word; so they are removed, before any library is imported.
"""

import logging
import os
import sys

PACKAGES = ("torch", "transformers", "datasets", "numpy", "pandas", "sklearn", "matplotlib")

# with these, Python would take other packages than those of requirements.txt, or run them in another way
FOREIGN = (
    "PYTHONPATH", "PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONINSPECT",
    "PYTHONDEVMODE",
)  # fmt: skip
# torchrun sets TORCHELASTIC_RUN_ID with them; another launcher's would be taken for torchrun's
TORCHRUNS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")

# beginnings of names. accelerate and transformers: precision, accumulation, sharding, device, attention, number of
# processes. torch, NVIDIA's, oneDNN's and MKL's libraries: float32 in fewer bits, the choice of kernels and so the
# order of sums, compilation. OpenMP: the number of threads, which --threads decides.
DECIDING = (
    "ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_", "XLA_USE_", "XLA_DOWNCAST_", "USE_TORCH_XLA", "USE_HUB_KERNELS",
    "TRANSFORMERS_SDPA_", "TRANSFORMERS_DISABLE_DEEPGEMM", "FLASH_ATTENTION_", "SM_HP_MP_PARAMETERS",
    "SM_FRAMEWORK_PARAMS", "PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_", "TORCH_ALLOW_TF32", "NVIDIA_TF32_OVERRIDE",
    "CUBLAS_", "CUBLASLT_", "TORCH_BLAS_PREFER", "TORCH_LINALG_PREFER", "TORCH_CUDNN", "TORCH_MKLDNN",
    "TORCH_LINEAR_FLATTEN", "TORCH_COMPILE", "TORCHDYNAMO_", "TORCHINDUCTOR_", "PYTORCH_JIT", "PYTORCH_TENSOREXPR",
    "ATEN_CPU_CAPABILITY", "ONEDNN_", "DNNL_", "MKL_", "OMP_", "GOMP_", "KMP_",
)  # fmt: skip

# A thread that waits sleeps. By default it spins, and on a machine where other programs run that takes the cores from
# the threads that are waited for.
WAIT = {"OMP_WAIT_POLICY": "passive"}

log = logging.getLogger(__name__)


def prepare() -> None:
    """Make sure of the Python that a script runs in; to be called first, before anything but Python's own is imported.

    Begins the process again without FOREIGN if one of them is set; exits with one line if packages are missing.
    """
    # a standard stream that is closed: the next file opened would get its number, and what is printed
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
        sys.exit(f"{os.path.basename(sys.argv[0])}: {sys.executable} is a Python {what}; type in {root}: {how}")
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        for name in TORCHRUNS:
            os.environ.pop(name, None)


def let_options_decide(cpu: bool) -> None:
    """Remove the variables that would decide in the options' place, and say so; to be called before torch is imported.

    Of several GPUs, this process sees one, unless torchrun started it: with two, Trainer splits batches unasked. cpu:
    it sees none.
    """
    removed = [name for name in sorted(os.environ) if name.startswith(DECIDING) and os.environ[name] != WAIT.get(name)]
    for name in removed:
        del os.environ[name]
    os.environ.update(WAIT)
    if removed:
        log.info("the options decide, and not these variables of the environment: %s", ", ".join(removed))
    if cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif "LOCAL_RANK" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
