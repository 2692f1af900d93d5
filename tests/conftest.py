"""What the tests share: small corpora written to a temporary folder, the tiny model, a copy of the project."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import finetune  # noqa: E402
from utils import download_model, runs  # noqa: E402

torch.set_num_threads(1)  # two that wait for each other on a busy machine are far slower than one

SAMPLE_CORPUS = ROOT / "tests" / "sample-corpus"
REGISTERS = {"IN": "information", "OP": "opinion", "LY": "lyrics"}
SCRIPTS = (
    "finetune.py", "evaluate.py", "post_eval.py", "utils", "requirements.txt",
    "submit_train_jobs.sh", "submit_eval_jobs.sh", "run_train.sh", "run_eval.sh",
)  # fmt: skip

FAST = ["--max-length=64", "--learning-rate=1e-3", "--patience=0", "--precision=fp32", "--threads=1"]

WriteCorpus = Callable[..., Path]


@pytest.fixture
def write_corpus(tmp_path: Path) -> WriteCorpus:
    """Return a function that writes {"train/en": [(register, text), …]} as a corpus, and returns its folder."""

    def write(files: dict[str, list[tuple[str, str]]], registers: dict[str, str] = REGISTERS) -> Path:
        corpus = tmp_path / "corpus-of-this-test"
        (corpus / "info").mkdir(parents=True, exist_ok=True)
        (corpus / "info" / "reg_abbv.json").write_text(json.dumps(registers), encoding="utf-8")
        for name, rows in files.items():
            path = corpus / "corpus" / f"{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "w", encoding="utf-8", newline="") as file:
                csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)
        return corpus

    return write


@pytest.fixture(scope="session")
def tiny() -> Path:
    """Return the folder of the tiny model, made by download_model.py."""
    return download_model.find_checkpoint("./tests/sample-corpus")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let runs of this process lie under a temporary folder instead of the repository."""
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    return tmp_path


def words(register, i):
    """A text whose register shows in its words only, and differs from the others of the register."""
    marks = {"IN": "is a kind of", "OP": "we should never", "LY": "oh la la"}
    return f"{marks[register]} {['bread', 'river', 'bicycle', 'library', 'garden', 'winter'][i % 6]} {i}"


@pytest.fixture
def corpus(write_corpus):
    train = [(register, words(register, i)) for i in range(34) for register in REGISTERS][:100]
    test = [(register, words(register, i)) for i in range(100, 110) for register in REGISTERS]
    return write_corpus({"train/en": train, "train/fr": train[:60], "test/en": test, "test/fr": test})


@pytest.fixture
def train(root, corpus, tiny):
    """Return a function that fine-tunes in this process, and gives the run's folders back."""

    def train(*options, model_name="tiny", langs=("en",), subfolder="", expect=0):
        names = [f"--model-name={model_name}", "--train-langs", *langs, f"--subfolder={subfolder}"]
        code = finetune.main([*names, f"--corpus-path={corpus}", f"--checkpoint={tiny}", *FAST, *options])
        assert code == expect
        return runs.run_paths(model_name, list(langs), subfolder)

    return train


@pytest.fixture
def pretrained(tiny, tmp_path):
    """Return a copy of the tiny model that does not say that its weights are random: as a pretrained one."""
    folder = shutil.copytree(tiny, tmp_path / "pretrained")
    change_config(folder, random_weights=None)
    return folder


@pytest.fixture
def no_dropout(tiny, tmp_path):
    """Return a copy of the tiny model that leaves nothing out at random."""
    folder = shutil.copytree(tiny, tmp_path / "no-dropout")
    change_config(folder, hidden_dropout_prob=0.0)
    return folder


def change_config(folder: Path, **changes: float | None) -> None:
    """Change values of a checkpoint's config.json; None removes."""
    config = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not None or key not in changes}
    (folder / "config.json").write_text(json.dumps(kept))


@pytest.fixture
def project(tmp_path: Path, tiny: Path) -> Path:
    """Return a copy of the scripts, with the tiny model, to run as processes of their own."""
    return copy_project(tmp_path / "project", tiny)


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """Return such a copy for all tests of a file: each keeps to a subfolder of its own."""
    return copy_project(tmp_path_factory.mktemp("shared") / "project", tiny)


def copy_project(copy: Path, tiny: Path) -> Path:
    copy.mkdir()
    no_cache = shutil.ignore_patterns("__pycache__")
    for name in SCRIPTS:
        source = ROOT / name
        shutil.copytree(source, copy / name, ignore=no_cache) if source.is_dir() else shutil.copy(source, copy / name)
    shutil.copytree(tiny, copy / tiny.relative_to(ROOT))
    (copy / "tests").mkdir()
    (copy / "tests" / "sample-corpus").symlink_to(SAMPLE_CORPUS)
    activate = copy / ".venv" / "bin" / "activate"  # the wrappers use the environment of the tests
    activate.parent.mkdir(parents=True)
    activate.write_text(f"PATH={shlex.quote(sys.prefix)}/bin:$PATH\n")
    shutil.copy(ROOT / "requirements.txt", copy / ".venv" / "made-from.txt")
    return copy


def start(
    project: Path, *command: str, corpus: Path = SAMPLE_CORPUS, variables: dict[str, str] | None = None
) -> subprocess.Popen:
    """Start one of the project's scripts with this Python, the corpus in REGISTER_CORPUS, output captured."""
    environment = {**os.environ, "REGISTER_CORPUS": str(corpus), "HF_HUB_OFFLINE": "1", **(variables or {})}
    computes = {"finetune.py", "evaluate.py"} & set(command)
    return subprocess.Popen(
        [sys.executable, *command, *(["--threads=1"] if computes else [])],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def result(run: runs.Run) -> tuple[str, list[tuple]]:
    """Return the hash of a run's weights, and all metrics of all its epochs."""
    records = json.loads((run.outputs / "train.json").read_text())
    epochs = [(r["epoch"], r["loss"], r["learning_rate"], r["validation"]) for r in records]
    return runs.sha256_of(run.models / "model.safetensors"), epochs


def assert_same_training(first: runs.Run, second: runs.Run) -> None:
    """The same up to the order in which floats are added."""
    for a, b in zip(epochs(first), epochs(second), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["validation"]["loss"] == pytest.approx(b["validation"]["loss"], rel=1e-3)
    ours, others = (load_file(run.models / "model.safetensors") for run in (first, second))
    for name in ours:
        torch.testing.assert_close(ours[name], others[name], rtol=0, atol=5e-4)


def finish(process: subprocess.Popen, expect: int = 0) -> str:
    """Wait for a process, check its exit code, and return what it printed on both streams."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == expect, err
    return out + err


def weights(run):
    return runs.sha256_of(run.models / "model.safetensors")


def record(run):
    return json.loads((run.outputs / "run.json").read_text())


def epochs(run):
    return json.loads((run.outputs / "train.json").read_text())


def run_of(project: Path, subfolder: str = "", name: str = "tiny-en") -> runs.Run:
    """Return the folders of a run in a copy of the project."""
    return runs.Run(name, *(project / kind / subfolder / name for kind in ("outputs", "models")))
