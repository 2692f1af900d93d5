"""The record of a training: what decides its weights, and whether there is anything left to do.

A finished run has it in run.json, an unfinished one in checkpoints/started.json.
"""

import argparse
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

from utils import corpus_load, download_model, runs
from utils.files import shapes
from utils.options import LANGUAGE
from utils.runs import Run, RunError, slurm_job

# what is read of run.json and started.json here
FINISHED = {"settings": {"processes": int}, "weights_sha256": str}
STARTED = {
    "settings": {"processes": int},
    "texts_sha256": str,
    "precision": re.compile("fp32|bf16|fp16"),
    "devices": [str],
}
# arguments that do not decide what is learnt; the device that run.json has tells the number of threads
NOT_SETTINGS = ("subfolder", "overwrite", "corpus_path", "cpu", "threads")
MODEL_FILES = {str: {"bytes": int, "sha256": str}}


def run_settings(args: argparse.Namespace, corpus: Path, registers: list[str]) -> dict[str, Any]:
    """Return everything that decides the trained weights: arguments, corpus files, number of processes."""
    chosen = {key: value for key, value in vars(args).items() if key not in NOT_SETTINGS}
    files = {f"train/{lang}.tsv": corpus_load.hash_file(corpus, "train", lang) for lang in args.train_langs}
    return {
        **chosen,
        "start_weights": download_model.start_weights(args.checkpoint),
        "registers": registers,
        **files,
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
    }


def earlier_record(run: Run) -> dict[str, Any] | None:
    """Return the record of the run's training, or of its beginning if there is something to go on from; else None."""
    if (run.outputs / "run.json").is_file():
        return shapes.read_record(run.outputs / "run.json", FINISHED, "finetune.py --overwrite trains anew")
    if any(run.checkpoints.glob("checkpoint-*")):
        return read_started(run)
    return None


def trained_languages(run: Run) -> list[str]:
    """Return the languages that the run was trained on, as run.json has them; [] if it can't be read."""
    try:
        return shapes.read_record(run.outputs / "run.json", {"train_langs": [LANGUAGE]}, "")["train_langs"]
    except RunError:
        return []


def check_names(args: argparse.Namespace, run: Run, record: dict[str, Any]) -> None:
    """RunError if a run's folder holds that of another model or of other languages, as run.json has them.

    The folder was renamed or copied, or two lists of languages have one name: pt and br, and pt-br.
    """
    if (record["model_name"], record["train_langs"]) != (args.model_name, args.train_langs):
        raise RunError(
            f"{runs.shown(run.outputs)}: expected the run of {args.model_name} on {' '.join(args.train_langs)}, "
            f"found that of {record['model_name']} on {' '.join(record['train_langs'])}"
        )


def read_started(run: Run) -> dict[str, Any]:
    """Return the record of a training's beginning."""
    return shapes.read_record(run.checkpoints / "started.json", STARTED, "finetune.py --overwrite starts anew")


def describe_model(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and hash of each file that decides what a model answers, by its name."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != "README.md")
    return {path.name: {"bytes": path.stat().st_size, "sha256": runs.sha256_of(path)} for path in paths}


def check_model(run: Run, record: dict[str, Any], *, by_hash: bool) -> None:
    """RunError if a file of a finished run's model is gone or is not the one that was trained, by size or by hash too.

    record: what is in run.json; an earlier version wrote the hash of the weights alone.
    """
    files = record.get("model_files", {"model.safetensors": {"sha256": record["weights_sha256"]}})
    record_file = runs.shown(run.outputs / "run.json")
    difference = shapes.misfit(files, MODEL_FILES if "model_files" in record else {}, "model_files")
    if not difference and files.get("model.safetensors", {}).get("sha256") != record["weights_sha256"]:
        difference = "one hash of model.safetensors, found two"
    if difference:
        raise RunError(f"{record_file}: expected {difference}; finetune.py --overwrite trains anew")
    for name, expected in files.items():
        path = run.models / name
        is_there = path.is_file()
        is_same = is_there and expected.get("bytes") in (None, path.stat().st_size)
        if not is_same or (by_hash and expected["sha256"] != runs.sha256_of(path)):
            raise RunError(
                f"{runs.shown(path)}: expected the file that was trained, by its {'hash' if by_hash else 'size'} in "
                f"{record_file}, found {'another one' if is_there else 'none'}; finetune.py --overwrite trains it anew"
            )


def is_finished(run: Run, settings: dict[str, Any]) -> bool:
    """Tell whether the run is trained; RunError if it was begun with other settings, or if its model is gone."""
    record_file, weights = run.outputs / "run.json", run.models / "model.safetensors"
    earlier = earlier_record(run)
    if earlier:
        known = {} if settings["start_weights"] else {"start_weights": earlier["settings"].get("start_weights")}
        check_same(run, earlier["settings"], settings | known)
    if earlier is None or not record_file.is_file():
        if weights.is_file() and not any(run.checkpoints.glob("*")):
            raise RunError(
                f"{runs.shown(record_file)}: expected the record of the model in {runs.shown(run.models)}, "
                "found none; finetune.py --overwrite trains it anew"
            )
        return False
    check_model(run, earlier, by_hash=False)
    return True


def check_same(run: Run, old: dict[str, Any], new: dict[str, Any]) -> None:
    """RunError that says which settings differ, as `learning_rate was 1e-05, is now 2e-05`."""
    if _effective_batch(old) == _effective_batch(new):  # the same texts make an update, however it is cut
        old, new = (
            {key: value for key, value in settings.items() if key not in ("batch_size", "gradient_accumulation")}
            for settings in (old, new)
        )
    found = [
        f"{key} was {_phrase(old.get(key))}, is now {_phrase(new.get(key))}"
        for key in old | new
        if old.get(key) != new.get(key)
    ]
    if found:
        raise RunError(
            f"{runs.shown(run.outputs)}: expected the settings it was started with, found others: "
            f"{'; '.join(found)}. --overwrite starts anew, --subfolder NAME keeps both"
        )


def _phrase(value: Any) -> str:
    text = "not set" if value is None else " ".join(value) if isinstance(value, list) else str(value)
    return f"{text[:12]}…" if re.fullmatch("[0-9a-f]{64}", text) else text


def _effective_batch(settings: dict[str, Any]) -> int | None:
    sizes: list[Any] = [settings.get(key) for key in ("batch_size", "gradient_accumulation", "processes")]
    return math.prod(sizes) if all(isinstance(size, int) for size in sizes) else None


def begun_by_this_job(run: Run) -> bool:
    """Tell whether this is a Slurm job started again, and the run was begun by its earlier start."""
    if slurm_job() is None or int(os.environ.get("SLURM_RESTART_COUNT", 0)) == 0:
        return False
    try:
        earlier = earlier_record(run)
    except RunError:
        return False  # it is damaged, and to be overwritten
    return earlier is not None and earlier.get("slurm_job") == slurm_job()


def start_anew(run: Run) -> None:
    """Remove all that an earlier training of this run left, its evaluations too; what says "finished" goes first."""
    (run.outputs / "run.json").unlink(missing_ok=True)
    for folder in ("eval", "predictions", "errors"):  # scores first: they say "done"
        shutil.rmtree(run.outputs / folder, ignore_errors=True)
    for file in [*run.outputs.glob("cfm*.*"), run.outputs / "train.json"]:
        file.unlink(missing_ok=True)
    runs.remove_folder(run.checkpoints)
    for path in run.models.glob("*"):  # folders in it are other runs', if it is a --subfolder too
        if not path.is_dir():
            path.unlink(missing_ok=True)
