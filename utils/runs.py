"""Where the files of a run lie, how they are written, and how a run is known again.

A run is one model fine-tuned on one mix of training languages. Its name is MODEL-LANGS, the languages
joined by "-" in the order given, and everything about it lies in two folders of that name:

    outputs/[SUBFOLDER/]MODEL-LANGS/
        train.json                one record per epoch
        run.json                  options, corpus, versions, weights' hash; written last: the run is finished
        predictions/LANG.tsv      one row per test text
        cfm/LANG.json             confusion counts
        eval/LANG.json            scores with their signature; written last: LANG is evaluated
        eval.json                 all of eval/, put together; can always be rebuilt
        cfm.png, errors/LANG.tsv  drawn and listed by post_eval.py
        train.txt, eval.txt       logs of the submit scripts' jobs
    models/[SUBFOLDER/]MODEL-LANGS/
        model.safetensors, config.json, tokenizer…, README.md
        checkpoints/              of an unfinished training, with the settings it was started with

Every file is written under a temporary name, flushed to disk and renamed, so that under its own name
it is always whole.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parent.parent
PRETRAINED = ROOT / "models" / "pretrained"  # what download_model.py writes: no run's subfolder

log = logging.getLogger(__name__)


class RunError(Exception):
    """A corpus, checkpoint or run that cannot be used: one line with place, fact and remedy."""


class Run(NamedTuple):
    """The two folders of one run."""

    name: str
    outputs: Path
    models: Path

    @property
    def checkpoints(self) -> Path:
        return self.models / "checkpoints"

    def predictions(self, eval_lang: str) -> Path:
        return self.outputs / "predictions" / f"{eval_lang}.tsv"

    def confusions(self, eval_lang: str) -> Path:
        return self.outputs / "cfm" / f"{eval_lang}.json"

    def scores(self, eval_lang: str) -> Path:
        return self.outputs / "eval" / f"{eval_lang}.json"


def run_paths(model_name: str, train_langs: list[str], subfolder: str = "") -> Run:
    """Return the folders of a run: a pure function of these names, nothing is looked up or made."""
    name = "-".join([model_name, *train_langs])
    return Run(name, ROOT / "outputs" / subfolder / name, ROOT / "models" / subfolder / name)


# ---- files ----


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; after the block it is flushed to disk and renamed to path, or removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file so that under its own name it is always whole; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people: indented, keys in the order given, nan refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str) -> Any:
    """Read a JSON file of a run; RunError with the remedy if it is missing or not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{shown(path)}: expected a file, found none; {remedy}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{shown(path)}: expected JSON, found {error}; {remedy}") from error


def copy_file(source: Path, target: Path) -> None:
    """Copy a file so that under its own name it is always whole, readable as the umask says."""
    with whole_file(target) as temporary:
        shutil.copyfile(source, temporary)


def follow_umask(folder: Path) -> None:
    """Give a folder's files the permissions that new files have: safetensors writes them for the owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(0o666 & ~umask)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_line(error: Exception) -> str:
    """Return what a library's error says, in one line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def shown(path: Path) -> str:
    """Return a path as messages show it: relative to the repository where it lies in it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def remove_evaluations(run: Run) -> None:
    """Remove every evaluation and figure of a run: those of an earlier training must not mix with a new one's."""
    for folder in ("eval", "cfm", "predictions", "errors"):  # scores first: they say "done"
        shutil.rmtree(run.outputs / folder, ignore_errors=True)
    for file in [run.outputs / "eval.json", *run.outputs.glob("cfm.*")]:
        file.unlink(missing_ok=True)


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return one phrase per setting that is not the same, as `learning_rate was 1e-05, is now 2e-05`."""
    keys = [*old, *(key for key in new if key not in old)]
    return [
        f"{key} was {_phrase(old.get(key))}, is now {_phrase(new.get(key))}"
        for key in keys
        if old.get(key) != new.get(key)
    ]


def _phrase(value: Any) -> str:
    text = "not set" if value is None else " ".join(value) if isinstance(value, list) else str(value)
    return f"{text[:12]}…" if re.fullmatch("[0-9a-f]{64}", text) else text


# ---- scripts ----


def code_version() -> str:
    """Return the commit of this code, ending in -dirty if files were changed since; '' outside git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def keep_one_gpu() -> None:
    """Let this process see one GPU only, unless torchrun started it: with two, Trainer splits batches unasked."""
    if "LOCAL_RANK" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def run_script(main: Callable[[], int]) -> NoReturn:
    """Run a script's main and leave with its exit code; the only place where errors of use are caught.

    A RunError becomes one line and exit code 1, Ctrl-C exit code 130. A bug keeps its traceback.
    """
    rank = int(os.environ.get("RANK", 0))
    logging.basicConfig(
        format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO if rank == 0 else logging.ERROR
    )
    try:
        sys.exit(main())
    except RunError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).name}: interrupted", file=sys.stderr)
        sys.exit(130)
