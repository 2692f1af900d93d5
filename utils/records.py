"""The record of a training: what decides its weights, and whether there is anything left to do.

A finished run has it in run.json, an unfinished one in checkpoints/started.json.
"""

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

from utils import corpus_load, runs
from utils.runs import Run, RunError


def run_settings(args: argparse.Namespace, corpus: Path, registers: list[str]) -> dict[str, Any]:
    """Return everything that decides the trained weights: arguments, corpus files, number of processes."""
    chosen = {key: value for key, value in vars(args).items() if key not in ("subfolder", "overwrite", "corpus_path")}
    files = {f"train/{lang}.tsv": corpus_load.hash_file(corpus, "train", lang) for lang in args.train_langs}
    return {**chosen, "registers": registers, **files, "processes": int(os.environ.get("WORLD_SIZE", 1))}


def earlier_record(run: Run) -> dict[str, Any] | None:
    """Return the record of the run's training, or of its beginning if there is something to go on from; else None."""
    if (run.outputs / "run.json").is_file():
        return runs.read_json(run.outputs / "run.json", "--overwrite trains anew")
    if any(run.checkpoints.glob("checkpoint-*")):
        return runs.read_json(run.checkpoints / "started.json", "--overwrite starts anew")
    return None


def is_finished(run: Run, settings: dict[str, Any]) -> bool:
    """Tell whether the run is trained; RunError if it was begun with other settings, or if its model is gone."""
    record_file, weights = run.outputs / "run.json", run.models / "model.safetensors"
    earlier = earlier_record(run)
    if earlier:
        check_same(run, earlier["settings"], settings)
    if not record_file.is_file():
        if weights.is_file() and not run.checkpoints.is_dir():
            raise RunError(
                f"{runs.shown(record_file)}: expected the record of the model in {runs.shown(run.models)}, "
                "found none; --overwrite trains it anew"
            )
        return False
    if not weights.is_file():
        raise RunError(
            f"{runs.shown(weights)}: expected the model that {runs.shown(record_file)} tells of, found "
            "none; --overwrite trains it anew"
        )
    return True


def check_same(run: Run, old: dict[str, Any], new: dict[str, Any]) -> None:
    """RunError that says which settings differ."""
    found = runs.differences(old, new)
    if found:
        raise RunError(
            f"{runs.shown(run.outputs)}: expected the settings it was started with, found others: "
            f"{'; '.join(found)}. --overwrite starts anew, --subfolder NAME keeps both"
        )


def slurm_job() -> str | None:
    return os.environ.get("SLURM_JOB_ID")


def begun_by_this_job(run: Run) -> bool:
    """Tell whether this is a Slurm job started again, and the run was begun by its earlier start."""
    if int(os.environ.get("SLURM_RESTART_COUNT", 0)) == 0:
        return False
    earlier = earlier_record(run)
    return earlier is not None and earlier.get("slurm_job") == slurm_job()


def start_anew(run: Run) -> None:
    """Remove all that an earlier training of this run left; what says "finished" goes first."""
    (run.outputs / "run.json").unlink(missing_ok=True)
    runs.remove_evaluations(run)
    (run.outputs / "train.json").unlink(missing_ok=True)
    shutil.rmtree(run.models, ignore_errors=True)
