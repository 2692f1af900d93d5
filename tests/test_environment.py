"""The options decide what is computed, and nothing in the environment."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version

import make_grid
import numpy as np
import pytest
from conftest import FAST, finish, record, run_of, start, weights
from utils.encoder import environment

from utils import runs

# each would change the weights or end the training, if it were read
VARIABLES = {
    "PMI_SIZE": "2",
    "OMPI_COMM_WORLD_SIZE": "2",
    "MV2_COMM_WORLD_SIZE": "2",
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

# each may change where something is written, how fast or how it looks, and no number
SURROUNDINGS = {
    "HOME": "/proc",  # where nothing can be written
    "TMPDIR": "/proc/nowhere",
    "XDG_CACHE_HOME": "/proc",
    "HF_HOME": "/proc/nowhere",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONHASHSEED": "7",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONSTARTUP": "/proc/nowhere",
    "TZ": "Asia/Kathmandu",
    "TERM": "dumb",
    "COLUMNS": "20",
    "NO_COLOR": "1",
    "GIT_DIR": "/proc/nowhere",
    "MPLBACKEND": "module://nowhere",
    "TOKENIZERS_PARALLELISM": "true",
    "RAYON_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "CUDA_VISIBLE_DEVICES": "0",
    "RANK": "1",
}


@pytest.fixture
def without(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_no_variable_changes_the_weights(project, corpus, without):
    command = ["finetune.py", "--model-name=tiny", "--train-langs=en", "--num-epochs=1", *FAST]
    finish(start(project, *command, "--subfolder=without", corpus=corpus))
    told = finish(start(project, *command, "--subfolder=with", corpus=corpus, variables=VARIABLES | SURROUNDINGS))
    plain, run = (run_of(project, name) for name in ("without", "with"))
    assert weights(run) == weights(plain)
    assert (record(run)["precision"], record(run)["device"]) == ("fp32", "CPU, 1 thread")
    assert "ACCELERATE_MIXED_PRECISION" in told and "KMP_AFFINITY" in told
    scores = []
    for name, variables in (("without", {}), ("with", VARIABLES | SURROUNDINGS)):
        evaluation = ["evaluate.py", *command[1:3], f"--subfolder={name}", "--eval-lang=fr", "--precision=fp32"]
        finish(start(project, *evaluation, corpus=corpus, variables=variables))
        scores.append(run_of(project, name).predictions("fr").read_text())
    assert scores[0] == scores[1]


def test_every_kind_of_variable_is_tried():
    for name in environment.DECIDING:
        assert any(variable.startswith(name) for variable in VARIABLES), name


# ---- other packages, another Python ----


@pytest.fixture
def foreign(tmp_path):
    """Return a folder as `module load` puts into PYTHONPATH: an older numpy, and whatever a site begins Python with."""
    for name in ("numpy", "utils"):
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / "__init__.py").write_text("raise ImportError('numpy of another Python')\n")
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys\nsys.path.insert(0, sys.path[1])\n")
    return tmp_path / "site"


def test_the_packages_are_those_of_requirements_txt(foreign, project):
    variables = {
        "PYTHONPATH": str(foreign),
        "PYTHONOPTIMIZE": "2",
        "PYTHONWARNINGS": "error",
        "PYTHONHOME": sys.base_prefix,
    }
    for script in (
        ["finetune.py"],
        ["evaluate.py"],
        ["post_eval.py"],
        ["utils/download_model.py"],
        ["utils/audit.py"],
    ):
        out = finish(start(project, *script, "--help", variables=variables))
        assert out.startswith("usage: ") and "Error" not in out, out
    code = (
        "from utils.files import stop; stop.end_on_signals(); import os, sys; "
        "print(sys.flags.optimize, sys.path, os.environ)"
    )
    out = finish(start(project, "-c", code, variables=variables))
    assert out.startswith("0 ") and str(foreign) not in out and "PYTHONWARNINGS" not in out


def test_the_versions_are_those_of_the_modules_that_ran(train, monkeypatch):
    monkeypatch.setattr("datasets.__version__", "99.1")
    run = train("--num-epochs=1")
    found = record(run)["versions"]
    assert found.pop("datasets") == "99.1" and set(found) >= {"python", "torch", "transformers"}
    assert found == {name: version(name) if name != "python" else platform.python_version() for name in found}


def test_only_torchrun_says_that_there_are_several_processes(shared_project):
    code = "from utils.files import stop; stop.end_on_signals(); import os; print(os.environ.get('RANK'))"
    for variables, rank in (({}, "None"), ({"TORCHELASTIC_RUN_ID": "none"}, "1")):
        assert finish(start(shared_project, "-c", code, variables={"RANK": "1", **variables})) == f"{rank}\n"
    out = finish(start(shared_project, "finetune.py", "--help", variables={"RANK": "captain"}))
    assert out.startswith("usage: finetune.py"), out


def test_the_commit_is_not_that_of_git_of_another_folder(monkeypatch, tmp_path):
    here = runs.code_version()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    assert runs.code_version() == here


TERMINALS = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "C", "PYTHONUTF8": "0"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LANG": ""},
]


@pytest.mark.parametrize("variables", TERMINALS)
def test_a_terminal_that_is_not_utf_8_gets_what_it_can_show(project, write_corpus, variables):
    corpus = write_corpus(
        {"train/en": [("新闻", "a"), ("é", "b")], "test/en": [("新闻", "c")]}, {"新闻": "x", "é": "y"}
    )
    environment = {**os.environ, **variables}
    command = [sys.executable, "utils/audit.py", str(corpus)]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True)
    assert done.returncode == 0 and b"\\u65b0\\u95fb" in done.stdout and done.stderr == b"", done.stderr
    assert (b"\xe9" if "latin-1" in variables.values() else b"\\xe9") in done.stdout
    make_grid.make_run(project / "outputs" / "tiny-en", "tiny", "en", ["en", "fr"], 60, np.random.default_rng(0))
    done = subprocess.run(
        [sys.executable, "post_eval.py", "--ignore-cfm"], cwd=project, env=environment, capture_output=True
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert "×" in (project / "outputs" / "tve.md").read_text(encoding="utf-8")


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


# ---- where the scripts lie, and who starts them ----


def test_scripts_run_where_python_leaves_their_folder_out(project):
    for script in ("finetune.py", "evaluate.py", "post_eval.py", "utils/download_model.py"):
        out = finish(start(project, script, "--help", variables={"PYTHONSAFEPATH": "1"}))
        assert out.startswith("usage: "), out


@pytest.mark.parametrize("script", ["finetune.py", "evaluate.py", "post_eval.py", "utils/download_model.py"])
def test_without_the_environment_one_line_says_what_to_type(project, tmp_path, script):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    command = [tmp_path / "bare" / "bin" / "python", script, "--help"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert f"type in {project}: source .venv/bin/activate" in done.stderr


def test_a_parent_that_is_hidden_or_outside_is_no_fault(monkeypatch):
    monkeypatch.setattr(os, "getppid", lambda: 0)  # the first process of a container
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    assert runs.slurm_tasks() == 1
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")  # Slurm's own process is another user's, and may be hidden
    assert runs.slurm_tasks() == 2


def git(folder, *words):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def code_version_of(project):
    code = "import sys; sys.path.insert(0, '.'); from utils import runs; print(runs.code_version())"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_commit_of_a_repository_around_this_one_is_not_recorded(project):
    alone = code_version_of(project)
    git(project.parent, "init", "-q")
    git(project.parent, "commit", "-q", "--allow-empty", "-m", "x")
    assert code_version_of(project) == alone and alone.startswith("sources-") and len(alone) == 20
    with open(project / "finetune.py", "a") as file:
        file.write("# changed\n")
    assert code_version_of(project) != alone


def test_the_commit_is_known_in_another_users_checkout(project):
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "x")
    commit = git(project, "rev-parse", "--short=12", "HEAD")
    assert code_version_of(project).removesuffix("-dirty") == commit
    if os.geteuid() == 0:
        for path in [project, project / ".git", *project.rglob("*")]:
            os.chown(path, 65534, 65534, follow_symlinks=False)
        assert code_version_of(project).removesuffix("-dirty") == commit


def test_threads_that_wait_do_not_spin(project):
    code = (
        "from utils.encoder import environment; environment.leave_out(); import os; "
        "print(os.environ['OMP_WAIT_POLICY'], 'OMP_NUM_THREADS' in os.environ); environment.leave_out()"
    )
    out = finish(start(project, "-c", code, variables={"OMP_WAIT_POLICY": "active", "OMP_NUM_THREADS": "1"}))
    assert out == "passive False\n"
