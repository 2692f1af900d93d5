"""Checkpoints of an unfinished training: proven whole by their hashes, and what their state tells.

A checkpoint counts once its files are flushed to disk and their hashes are written beside them. The newest
one that is whole is gone on from.
"""

import argparse
import contextlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel, TrainerState

from utils import runs
from utils.encoder import device
from utils.files import records, shapes
from utils.runs import Run, RunError

NAME = re.compile(r"checkpoint-(0|[1-9]\d{0,15})")
PARTS = {"config.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"}

log = logging.getLogger(__name__)


def steps_per_epoch(state: TrainerState) -> int:
    """Return the number of optimiser steps in one epoch."""
    return state.max_steps // int(state.num_train_epochs)


def is_over(state: TrainerState, args: argparse.Namespace, n_texts: int) -> bool:
    """Tell whether all epochs are trained, or patience has ended.

    args: finetune.py's arguments; its patience is how many texts may be learnt from since the best epoch, or since the
    end of the warm-up where that is later, and 0 any number. n_texts: those of an epoch.
    """
    warmed_up = math.ceil(args.warmup * state.max_steps)
    waited = (state.global_step - max(state.best_global_step or 0, warmed_up)) * n_texts / steps_per_epoch(state)
    return state.global_step >= state.max_steps or 0 < args.patience <= waited


def history(state: TrainerState) -> list[Any]:
    """Return what travels in the state from checkpoint to checkpoint: anything that JSON can hold."""
    return state.log_history


def epoch_records(state: TrainerState) -> list[dict]:
    """Return the record of each epoch, first to last."""
    return [entry["record"] for entry in history(state) if "record" in entry]


def seal_checkpoint(folder: Path) -> None:
    """Flush a checkpoint to disk and write its files' hashes beside them: from now on it counts."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    runs.write_json(folder / "hashes.json", {path.name: runs.sha256_of(path) for path in sorted(folder.iterdir())})


def is_whole(folder: Path) -> bool:
    """Tell whether a checkpoint was sealed and is unchanged since; RunError if it can't be read just now."""
    try:
        hashes = json.loads((folder / "hashes.json").read_bytes())
        if shapes.misfit(hashes, {str: str}) or not set(hashes) >= PARTS:
            return False
        return all(runs.sha256_of(folder / name) == sha256 for name, sha256 in hashes.items())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return False
    except OSError as error:  # as from a file server that is away: what can't be read may be whole
        raise RunError(
            f"{runs.shown(folder)}: can't be read just now: {error.strerror}; nothing was removed, type the same "
            "command again later"
        ) from error


def last_checkpoint(run: Run) -> Path | None:
    """Return the newest checkpoint that is whole and whose best checkpoint so far is whole too.

    Removes what is newer: pieces that an interruption or a fault left.
    """
    steps = sorted(int(found[1]) for path in run.checkpoints.glob("*") if (found := NAME.fullmatch(path.name)))
    for folder in (run.checkpoints / f"checkpoint-{step}" for step in reversed(steps)):
        if is_whole(folder):
            best = best_checkpoint(run, load_state(folder))
            if best is None or best == folder or is_whole(best):
                return folder
        log.warning("%s is not whole: removed", runs.shown(folder))
        if folder.is_dir():
            shutil.rmtree(folder)
        else:
            folder.unlink()
    return None


def to_resume(run: Run, texts_sha256: str, precision: str) -> Path | None:
    """Return the checkpoint to go on from, if any; precision: --precision.

    RunError if what there is was trained on other texts, or in a precision that this device has no instructions for.
    """
    if not any(run.checkpoints.glob("checkpoint-*")):
        return None
    started, here = records.read_started(run), device.describe_device()
    records.check_same(run, {"training texts": started["texts_sha256"]}, {"training texts": texts_sha256})
    checkpoint = last_checkpoint(run)
    if checkpoint and precision == "auto":
        device.check_resumed(started["precision"])
    if checkpoint and here not in started["devices"] and int(os.environ.get("RANK", 0)) == 0:
        log.warning("begun on %s, goes on on %s: sums are rounded otherwise", started["devices"][-1], here)
        runs.write_json(run.checkpoints / "started.json", started | {"devices": [*started["devices"], here]})
    return checkpoint


def begin(run: Run, settings: dict[str, Any], texts_sha256: str, precision: str, start: dict[str, Any]) -> None:
    """Make the run's folders anew, and write down what the training is that begins; one of several processes does.

    start: of download_model.start_of.
    """
    if int(os.environ.get("RANK", 0)) == 0:
        records.start_anew(run)
        started = {
            "settings": settings | {"start_weights": start["start_weights"]},
            "start_revision": start["start_revision"],
            "start_langs": start["start_langs"],
            "texts_sha256": texts_sha256,
            "precision": precision,
            "devices": [device.describe_device()],
            "slurm_job": runs.slurm_job(),
        }
        runs.write_json(run.checkpoints / "started.json", started)


def newest_checkpoint(run: Run) -> Path:
    """Return the newest checkpoint that was sealed. last_checkpoint, or the training itself, has proven it."""
    sealed = (path.parent for path in run.checkpoints.glob("checkpoint-*/hashes.json"))
    return max(sealed, key=lambda folder: int(folder.name.partition("-")[2]))


def load_state(checkpoint: Path) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))


def best_checkpoint(run: Run, state: TrainerState) -> Path | None:
    """Return the checkpoint of the epoch with the lowest validation loss; None before the first validation."""
    return run.checkpoints / f"checkpoint-{state.best_global_step}" if state.best_global_step else None


# ---- disk ----


def _checkpoint_bytes(model: PreTrainedModel) -> int:
    """Return the size of a checkpoint: the weights in float32, and AdamW's two means of those that are trained."""
    return 4 * model.num_parameters() + 8 * model.num_parameters(only_trainable=True)


def check_room(run: Run, model: PreTrainedModel, num_epochs: int) -> None:
    """RunError if the disk has no room for this training, whose checkpoints would not fit, hours from now.

    The best checkpoint, the last and the one that is being written are there at once; then the model. A user's quota
    can't be seen: that ends at the write that does not fit.
    """
    needed = min(num_epochs, 3) * _checkpoint_bytes(model) + 4 * model.num_parameters()
    # what is there is removed first, or counts among these checkpoints
    old = [*run.checkpoints.rglob("*"), *run.models.glob("*")]
    there = sum(path.stat().st_size for path in old if path.is_file())
    folder = next(folder for folder in (run.checkpoints, *run.checkpoints.parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if there + free < needed:
        raise RunError(
            f"{runs.shown(run.models)}: expected room for {runs.in_bytes(needed - there)}, the checkpoints and the "
            f"model, found {runs.in_bytes(free)} free on the disk; make room, then type the same command again"
        )


@contextlib.contextmanager
def disk_faults_named(run: Run, model: PreTrainedModel) -> Iterator[None]:
    """Turn what torch, safetensors and transformers raise where a checkpoint can't be written into a RunError.

    The piece of it is removed, so that it does not fill the disk further.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        fault = runs.disk_fault(run.checkpoints / "checkpoint", error, _checkpoint_bytes(model))
        if fault is None:
            raise
        for folder in run.checkpoints.glob("checkpoint-*"):
            if not (folder / "hashes.json").is_file():
                shutil.rmtree(folder, ignore_errors=True)
        raise fault from error
