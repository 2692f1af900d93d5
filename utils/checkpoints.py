"""Checkpoints of an unfinished training: proven whole by their hashes, and what their state tells.

A checkpoint counts once its files are flushed to disk and their hashes are written beside them. The newest
one that is whole is gone on from.
"""

import json
import logging
import os
import shutil
from pathlib import Path

from transformers import TrainerState

from utils import runs
from utils.runs import Run

log = logging.getLogger(__name__)


def steps_per_epoch(state: TrainerState) -> int:
    """Return the number of optimiser steps in one epoch."""
    return state.max_steps // int(state.num_train_epochs)


def is_over(state: TrainerState, patience: int) -> bool:
    """Tell whether all epochs are trained, or `patience` of them since the best one (0: never mind)."""
    since_best = state.global_step - (state.best_global_step or 0)
    return state.global_step >= state.max_steps or 0 < patience * steps_per_epoch(state) <= since_best


def epoch_records(state: TrainerState) -> list[dict]:
    """Return the record of each epoch, first to last."""
    return [entry["record"] for entry in state.log_history if "record" in entry]


def seal_checkpoint(folder: Path) -> None:
    """Flush a checkpoint to disk and write its files' hashes beside them: from now on it counts."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    runs.write_json(folder / "hashes.json", {path.name: runs.sha256_of(path) for path in sorted(folder.iterdir())})


def is_whole(folder: Path) -> bool:
    """Tell whether a checkpoint was sealed and is unchanged since."""
    try:
        hashes = json.loads((folder / "hashes.json").read_text(encoding="utf-8"))
        return all(runs.sha256_of(folder / name) == sha256 for name, sha256 in hashes.items())
    except (OSError, ValueError):
        return False


def last_checkpoint(run: Run) -> Path | None:
    """Return the newest checkpoint that is whole and whose best checkpoint so far is whole too.

    Removes what is newer: pieces that an interruption or a fault left.
    """
    by_step = sorted(run.checkpoints.glob("checkpoint-*"), key=lambda folder: -int(folder.name.partition("-")[2]))
    for folder in by_step:
        if is_whole(folder):
            best = best_checkpoint(run, load_state(folder))
            if best is None or best == folder or is_whole(best):
                return folder
        log.warning("%s is not whole: removed", runs.shown(folder))
        shutil.rmtree(folder)
    return None


def load_state(checkpoint: Path) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))


def best_checkpoint(run: Run, state: TrainerState) -> Path | None:
    """Return the checkpoint of the epoch with the best validation macro-F1; None before the first validation."""
    return run.checkpoints / f"checkpoint-{state.best_global_step}" if state.best_global_step else None
