"""Fine-tune with transformers.Trainer, and what it lacks for a training that may be interrupted at any time.

order         the order of the texts depends on seed and epoch only
step          a batch is computed in parts of similar length: the same update with less padding
loss          a sum over the texts, divided by the number of texts in the whole effective batch: it stays the same
              however the batch is divided by accumulation or over GPUs
interruption  on SIGTERM, SIGUSR2, SIGHUP or Ctrl-C, the current step is finished and a checkpoint saved
checkpoints   are complete once they are flushed to disk and their hashes are written beside them; training resumes
              from the newest complete one
"""

import argparse
import json
import logging
import math
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from datasets import Dataset, concatenate_datasets
from safetensors import SafetensorError
from transformers import DataCollatorWithPadding, PreTrainedModel, Trainer, TrainerCallback, TrainerState
from transformers import TrainingArguments as Arguments
from transformers.trainer_callback import PrinterCallback

from utils import runs
from utils.metrics import METRICS, all_metrics, count_confusions
from utils.model import Classifier, batches_of_similar_length, describe_device, native_precisions, parameter_groups
from utils.model import tokens_at_once as most_tokens
from utils.runs import Run, RunError

OPTIMISER: dict[str, Any] = {  # settings that no option changes; run.json records them
    "optim": "adamw_torch_fused",
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "lr_scheduler_type": "linear",
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)
IGNORED = -100  # the label of a text that does not count, for cross_entropy and Trainer
CHECKED = 50  # steps between two checks of the loss, since each waits for the GPU
LOG_SECONDS = 60  # between two progress lines
BUSY = 0.7  # if the main thread computes for less than this share of the time, other programs keep the CPU busy
FEWEST_TEXTS = 75  # trained on between two validations: with fewer, saving would take most of the time
CHECKPOINT = re.compile(r"checkpoint-(0|[1-9]\d{0,15})")
PARTS = {"config.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"}

log = logging.getLogger(__name__)


# ---- batches ----


class ShuffledSampler(torch.utils.data.Sampler):
    """Yield the indices of the texts in a new order each epoch, which depends on seed and epoch only.

    Every text comes once per epoch. The order ignores length, since texts of similar length often share a register.
    batch_size is the effective one, over all processes and accumulation steps, so that the texts of an update do not
    depend on how it is divided. The number of indices is a multiple of multiple; it is filled up with the index
    len(lengths), which stands for a text that does not count.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, multiple: int = 1) -> None:
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.n_filling = -len(self.lengths) % multiple
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths) + self.n_filling

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.lengths))
        # the longest text is in the first batch: if memory is too small for it, that shows at once, not hours later
        size = self.batch_size
        longest = int(np.argmax(self.lengths[order])) // size * size
        order = np.concatenate([order[longest : longest + size], order[:longest], order[longest + size :]])
        return iter([*order.tolist(), *[len(self.lengths)] * self.n_filling])


def with_filling(texts: Dataset) -> Dataset:
    """Return the texts, then one that does not count: accelerate would fill the last batch with real ones."""
    ids = texts[0]["input_ids"].tolist()[:16]  # a process may get no other text, and CANINE needs four tokens
    filling = {"input_ids": [ids], "labels": [IGNORED], "length": [len(ids)], "over": [False]}
    last = Dataset.from_dict(filling, features=texts.features).with_format("torch")
    return concatenate_datasets([texts, last])


class RegisterTrainer(Trainer):
    """A Trainer that takes its training batches from train_sampler and computes each in parts of similar length."""

    def __init__(self, *args: Any, train_sampler: ShuffledSampler, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.train_sampler = train_sampler

    def _get_train_sampler(self, train_dataset: Any = None) -> ShuffledSampler:
        return self.train_sampler

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        *others, last = parts_of_similar_length(inputs, most_tokens())
        loss = torch.zeros((), device=self.args.device)
        for part in others:
            with self.accelerator.no_sync(
                model
            ):  # processes exchange gradients once per batch, whatever their number of parts
                loss += super().training_step(model, part, num_items_in_batch)
        return loss + super().training_step(model, last, num_items_in_batch)


def parts_of_similar_length(batch: dict[str, torch.Tensor], n_tokens: int) -> list[dict[str, torch.Tensor]]:
    """Divide a batch into parts, longest texts first, each without the columns that are padding in all its texts.

    batch: tensors of shape (texts, tokens), attention_mask among them, or (texts,). With its padding, a part has at
    most n_tokens tokens, or is a single text.
    """
    mask = batch["attention_mask"]
    if mask.numel() <= n_tokens:
        return [dict(batch)]
    parts = []
    for indices in batches_of_similar_length(mask.sum(dim=1).cpu().numpy(), n_tokens):
        columns = mask[indices].any(dim=0)
        parts.append({name: t[indices][:, columns] if t.dim() > 1 else t[indices] for name, t in batch.items()})
    return parts


# ---- loss and records ----


def class_weights(labels: np.ndarray, n_registers: int) -> torch.Tensor:
    """Return a weight per register, inverse to its share of the texts, with a mean of 1 over the texts.

    A register without texts has weight 0.
    """
    from sklearn.utils.class_weight import compute_class_weight  # takes a second, and only --balanced needs it

    present = np.unique(labels)
    weights = torch.zeros(n_registers)
    weights[present] = torch.from_numpy(compute_class_weight("balanced", classes=present, y=labels)).float()
    return weights


def check_finite(what: str, number: float) -> None:
    """RunError if a loss is not a finite number: the model can't learn any more, and it must not be recorded."""
    if not math.isfinite(number):
        raise RunError(
            f"the {what} loss is {number}; train again (--overwrite) with a lower --learning-rate, or with --precision "
            "fp32"
        )


def validation_metrics(prediction: Any, weights: torch.Tensor | None = None) -> dict[str, Any]:
    """Return the scores of Trainer's predictions for the validation texts (logits and label ids), and the confusion.

    mean_loss is the mean over the texts, weighted as in training; Trainer's own loss is a mean over batches. weights:
    one per register, or None.
    """
    logits, gold = (torch.from_numpy(array) for array in prediction)
    check_finite("validation", logits.double().sum().item())
    confusion = count_confusions(gold.numpy(), logits.argmax(dim=1).numpy(), logits.shape[1])
    weight = None if weights is None else weights.double()
    mean_loss = torch.nn.functional.cross_entropy(logits.double(), gold, weight=weight).item()
    return {"mean_loss": mean_loss, "confusion": confusion.tolist(), **all_metrics(confusion)}


class Recorder(TrainerCallback):
    """Record each validated epoch, complete its checkpoint, and stop when a signal asks for it.

    Writes train.json, one record per validated epoch:
        epoch          from 1
        loss           mean over the training texts since the last record, each when the model learnt from it
        learning_rate  at the end of the epoch
        validation     loss, micro_f1, macro_f1, precision, recall; confusion: counts, rows gold, columns predicted
        seconds, texts_per_second, tokens_per_second   of training since the last record, without validation
        validation_seconds

    Sums for a record that is not complete are kept in the checkpoint's log_history, so that an interrupted epoch is
    recorded like any other.
    """

    def __init__(self, run: Run, sampler: ShuffledSampler, args: argparse.Namespace) -> None:
        self.run, self.sampler, self.args = run, sampler, args
        self.received: int | None = None  # the signal that asked to stop
        self.interrupted = False
        self.learnt = torch.zeros(2, dtype=torch.float64)  # since the last record: sum of losses, number of texts

    def receive(self, number: int, frame: Any) -> None:
        self.received = number
        os.write(2, f"{signal.Signals(number).name}: saving a checkpoint after this step, then stopping\n".encode())

    def end_is_asked_for(self, args: Arguments) -> bool:
        """Tell whether this process, or another one of the same training, was asked to stop."""
        if args.world_size > 1:  # the signal may reach only one of them
            received = torch.tensor(self.received or 0, device=args.device)
            torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX)
            self.received = int(received) or None
        return self.received is not None

    def loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the sum of cross-entropies over the number of texts in the effective batch. weights: per register."""
        weight = None if weights is None else weights.to(labels.device)
        total = torch.nn.functional.cross_entropy(outputs.logits.float(), labels, weight=weight, reduction="sum")
        if torch.is_grad_enabled():
            self.learnt += torch.stack([total.detach(), (labels != IGNORED).sum()])
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def on_train_begin(self, args: Arguments, state: TrainerState, control: Any, **_: Any) -> None:
        state.eval_steps, state.save_steps = (
            int(args.eval_steps or 0),
            int(args.save_steps),
        )  # not those of the checkpoint
        self.learnt, self.began = self.learnt.to(args.device), time.monotonic()
        self.first = self.texts_seen(state)
        self.started = self.reported = time.monotonic()
        self.computed, self.passed = 0.0, 0.0  # seconds of the steps since the last progress line
        if history(state) and "interrupted" in history(state)[-1]:
            gathered = history(state).pop()["interrupted"]
            self.began -= gathered["seconds"]
            if state.is_world_process_zero:
                self.learnt += torch.tensor(gathered["learnt"], dtype=torch.float64, device=args.device)

    def on_epoch_begin(self, args: Arguments, state: TrainerState, control: Any, **_: Any) -> None:
        self.sampler.epoch = state.global_step // steps_per_epoch(state)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.step_began = time.thread_time(), time.monotonic()

    def on_step_end(self, args: Arguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        if state.global_step % CHECKED == 0:
            check_finite("training", float(self.learnt[0]))
        self.report_progress(args, state)
        if control.should_evaluate:  # and save: on_save then stops if a signal has asked for it
            loss_sum, n_texts = self.learnt_by_all(args)
            self.validation_began = time.monotonic()
            seconds = self.validation_began - self.began
            self.record = {
                "epoch": state.global_step // steps_per_epoch(state),
                "loss": loss_sum / n_texts,
                "learning_rate": kwargs["lr_scheduler"].get_last_lr()[0],
                "seconds": round(seconds, 3),
                "texts_per_second": round(n_texts / seconds, 3),
                "tokens_per_second": round(n_texts * float(self.sampler.lengths.mean()) / seconds, 1),
            }
        elif self.end_is_asked_for(args):
            gathered = {"learnt": self.learnt_by_all(args), "seconds": time.monotonic() - self.began}
            history(state).append({"interrupted": gathered, "step": state.global_step})
            control.should_save = control.should_training_stop = True

    def report_progress(self, args: Arguments, state: TrainerState) -> None:
        """Log once in a while how many texts the model has seen, and whether other programs slow it down."""
        now = time.monotonic()
        self.computed += time.thread_time() - self.step_began[0]
        self.passed += now - self.step_began[1]
        if now - self.reported < LOG_SECONDS:
            return
        seen, n_texts = self.texts_seen(state), self.args.num_epochs * len(self.sampler)
        minutes = (n_texts - seen) * (now - self.started) / (seen - self.first) / 60
        share = self.computed / self.passed
        busy = f"; other programs keep the CPU busy: training runs {share:.0%} of the time" if share < BUSY else ""
        log.info(
            f"{seen} of at most {n_texts} texts seen by the model, at most {minutes:.0f} min left"
            f"{busy if args.use_cpu else ''}"
        )
        self.reported, self.computed, self.passed = now, 0.0, 0.0

    def on_evaluate(self, args: Arguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        metrics = kwargs["metrics"]
        scores = {"loss": metrics["eval_mean_loss"], **{name: metrics[f"eval_{name}"] for name in METRICS}}
        self.record["validation"] = {**scores, "confusion": metrics["eval_confusion"]}
        self.record["validation_seconds"] = round(time.monotonic() - self.validation_began, 3)
        history(state).append({"record": self.record, "step": state.global_step})
        shown = "  ".join(f"{name} {scores[name]:.3f}" for name in ("loss", "micro_f1", "macro_f1"))
        log.info("epoch %d: training loss %.3f; validation %s", self.record["epoch"], self.record["loss"], shown)

    def on_save(self, args: Arguments, state: TrainerState, control: Any, **_: Any) -> None:
        if args.world_size > 1:
            torch.distributed.barrier()  # the checkpoint also holds the random states of the other processes
        if state.is_world_process_zero:
            complete(self.run.checkpoints / f"checkpoint-{state.global_step}")
            runs.write_json(self.run.outputs / "train.json", epoch_records(state))
        self.interrupted = self.end_is_asked_for(args)
        control.should_training_stop |= self.interrupted or is_over(state, self.args, len(self.sampler.lengths))
        self.learnt.zero_()
        self.began = time.monotonic()

    def learnt_by_all(self, args: Arguments) -> list[float]:
        if args.world_size > 1:
            torch.distributed.all_reduce(self.learnt)
        check_finite("training", float(self.learnt[0]))
        return self.learnt.tolist()

    def texts_seen(self, state: TrainerState) -> int:
        n_epochs, n_steps = divmod(state.global_step, steps_per_epoch(state))
        return n_epochs * len(self.sampler) + n_steps * self.sampler.batch_size


# ---- training ----


def train(
    run: Run,
    loaded: Classifier,
    train_set: Dataset,
    validation_set: Dataset,
    args: argparse.Namespace,
    resume_from: Path | None,
) -> int | None:
    """Train until all epochs are done, patience is exhausted, or a signal asks to stop; checkpoints: run.checkpoints.

    args: the arguments of finetune.py. resume_from: the checkpoint to resume from, or None. Returns the number of the
    signal that stopped it; None: the training is over.
    """
    model, tokenizer, precision = loaded
    on_gpu, world_size = torch.cuda.is_available(), int(os.environ.get("WORLD_SIZE", 1))
    sampler = ShuffledSampler(
        np.asarray(train_set["length"]),
        args.batch_size * args.gradient_accumulation * world_size,
        args.seed,
        multiple=args.batch_size * world_size
        if world_size > 1
        else 1,  # a single process may have a smaller last batch
    )
    # every epoch is validated and saved; with very few texts, only each time FEWEST_TEXTS are reached, or one in ten
    epochs = min(math.ceil(args.num_epochs / 10), math.ceil(FEWEST_TEXTS / len(train_set)))
    steps = epochs * math.ceil(len(sampler) / sampler.batch_size)
    arguments = Arguments(
        output_dir=str(run.checkpoints),
        num_train_epochs=args.num_epochs,
        per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=args.batch_size if on_gpu else max(most_tokens() // args.max_length, 1),
        gradient_accumulation_steps=args.gradient_accumulation,
        learning_rate=args.learning_rate,
        warmup_steps=args.warmup,  # below 1: a share of all steps
        **OPTIMISER,
        seed=args.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=not on_gpu,
        eval_strategy="steps",
        eval_steps=steps,
        save_strategy="steps",
        save_steps=steps,
        save_total_limit=2,  # the best and the last; with 1, the one just saved for a signal would be removed
        metric_for_best_model="mean_loss",
        greater_is_better=False,
        logging_strategy="no",  # the Recorder keeps exact records
        logging_nan_inf_filter=False,  # would wait for the GPU at every step
        dataloader_num_workers=0,  # the signal would kill workers before a checkpoint is saved
        dataloader_pin_memory=on_gpu,
        ddp_backend="gloo" if torch.distributed.is_initialized() and not on_gpu else None,
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        report_to=[],
    )
    # what transformers' Trainer has no option for: two rates, class weights, our order and loss
    recorder = Recorder(run, sampler, args)
    labels = np.asarray(train_set["labels"])
    weights = class_weights(labels, len(model.config.id2label or ())) if args.balanced else None
    optimiser, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    trainer = RegisterTrainer(
        model=model,
        optimizers=(optimiser(parameter_groups(model, args.learning_rate, args.head_rate), **options), None),
        args=arguments,
        train_dataset=with_filling(train_set) if sampler.n_filling else train_set,
        eval_dataset=validation_set.select(np.argsort(-np.asarray(validation_set["length"]))),  # for little padding
        data_collator=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8 if on_gpu else None),
        processing_class=tokenizer,
        compute_metrics=partial(validation_metrics, weights=weights),
        # some models also return hidden states, which are large
        preprocess_logits_for_metrics=lambda logits, labels: logits[0] if isinstance(logits, tuple) else logits,
        compute_loss_func=partial(recorder.loss, weights=weights),
        callbacks=[recorder],
        train_sampler=sampler,
    )
    trainer.remove_callback(PrinterCallback)
    assert trainer.accelerator.mixed_precision == {"fp32": "no"}.get(precision, precision)  # as run.json will say

    # a signal asks to stop after the current step; one that is ignored stays ignored, as SIGHUP under nohup
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    earlier = {number: signal.signal(number, recorder.receive) for number in handled}
    try:
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    except (OSError, RuntimeError, SafetensorError) as error:
        fault = runs.disk_fault(run.checkpoints / "checkpoint", error)
        if fault is None:
            raise
        for folder in run.checkpoints.glob("checkpoint-*"):  # incomplete ones would keep the disk full
            if not (folder / "hashes.json").is_file():
                shutil.rmtree(folder, ignore_errors=True)
        raise fault from error
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    return recorder.received if recorder.interrupted else None


def check_room(run: Run, model: PreTrainedModel, num_epochs: int) -> None:
    """RunError if the disk has no room for the checkpoints and the model of this training.

    The best checkpoint, the last one and the one being written exist at the same time. A user's quota can't be seen:
    training then ends with the first file that does not fit.
    """
    weights, of_adamw = 4 * model.num_parameters(), 8 * model.num_parameters(only_trainable=True)
    needed = min(num_epochs, 3) * (weights + of_adamw) + weights
    # existing files are removed first, or are among these checkpoints
    there = sum(p.stat().st_size for p in [*run.checkpoints.rglob("*"), *run.models.glob("*")] if p.is_file())
    folder = next(folder for folder in (run.checkpoints, *run.checkpoints.parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if there + free < needed:
        raise RunError(
            f"{runs.shown(run.models)}: checkpoints and model need {runs.in_bytes(needed - there)}, but only "
            f"{runs.in_bytes(free)} are free on the disk; make room, then type the same command again"
        )


# ---- checkpoints ----


def steps_per_epoch(state: TrainerState) -> int:
    """Return the number of optimiser steps in one epoch."""
    return state.max_steps // int(state.num_train_epochs)


def is_over(state: TrainerState, args: argparse.Namespace, n_texts: int) -> bool:
    """Tell whether all epochs are done, or patience is exhausted.

    args: the arguments of finetune.py; patience is the number of texts that the model may learn from since its best
    epoch, or since the end of the warm-up if that is later, without getting better; 0: any number. n_texts: per epoch.
    """
    warmed_up = math.ceil(args.warmup * state.max_steps)
    waited = (state.global_step - max(state.best_global_step or 0, warmed_up)) * n_texts / steps_per_epoch(state)
    return state.global_step >= state.max_steps or 0 < args.patience <= waited


def history(state: TrainerState) -> list[Any]:
    """Return the list that is kept in the state from checkpoint to checkpoint, of anything that JSON can hold."""
    return state.log_history


def epoch_records(state: TrainerState) -> list[dict[str, Any]]:
    """Return the record of each epoch, first to last."""
    return [entry["record"] for entry in history(state) if "record" in entry]


def load_state(checkpoint: Path) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))


def best_checkpoint(run: Run, state: TrainerState) -> Path | None:
    """Return the checkpoint of the epoch with the lowest validation loss; None before the first validation."""
    return run.checkpoints / f"checkpoint-{state.best_global_step}" if state.best_global_step else None


def complete(folder: Path) -> None:
    """Flush a checkpoint to disk and write the hashes of its files, which makes it complete."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    runs.write_json(folder / "hashes.json", {path.name: runs.sha256_of(path) for path in sorted(folder.iterdir())})


def is_complete(folder: Path) -> bool:
    """Tell whether a checkpoint is complete and unchanged; RunError if it can't be read at the moment."""
    try:
        hashes = json.loads((folder / "hashes.json").read_bytes())
        if runs.misfit(hashes, {str: str}) or not set(hashes) >= PARTS:
            return False
        return all(runs.sha256_of(folder / name) == sha256 for name, sha256 in hashes.items())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return False
    except OSError as error:  # from a file server that is down, for example: the checkpoint may well be complete
        raise RunError(
            f"{runs.shown(folder)}: can't be read at the moment ({error.strerror}); nothing was removed, type the same "
            "command again later"
        ) from error


def last_checkpoint(run: Run) -> Path | None:
    """Return the newest checkpoint that is complete together with the best one so far; None if there is none.

    Removes newer ones, which an interruption or an error has left incomplete.
    """
    steps = sorted(int(match[1]) for path in run.checkpoints.glob("*") if (match := CHECKPOINT.fullmatch(path.name)))
    for folder in (run.checkpoints / f"checkpoint-{step}" for step in reversed(steps)):
        if is_complete(folder):
            best = best_checkpoint(run, load_state(folder))
            if best is None or best == folder or is_complete(best):
                return folder
        log.warning("%s: is incomplete, and removed", runs.shown(folder))
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    return None


def to_resume(run: Run, texts_sha256: str, precision: str) -> Path | None:
    """Return the checkpoint to resume from, or None; precision: --precision.

    RunError if it was trained on other texts, or in a precision that this device does not support.
    """
    if not any(run.checkpoints.glob("checkpoint-*")):
        return None
    started, here = runs.read_started(run), describe_device()
    runs.check_same(run, {"training texts": started["texts_sha256"]}, {"training texts": texts_sha256})
    checkpoint = last_checkpoint(run)
    if checkpoint and precision == "auto" and started["precision"] == "bf16" and "bf16" not in native_precisions():
        raise RunError(
            f"{runs.shown(run.outputs)}: was started in bf16, which {here} does not support; choose other nodes "
            "(SBATCH_CONSTRAINT), or start again with --overwrite"
        )
    if checkpoint and here not in started["devices"] and int(os.environ.get("RANK", 0)) == 0:
        log.warning("started on %s, resumed on %s: sums are rounded differently", started["devices"][-1], here)
        runs.write_json(run.checkpoints / "started.json", started | {"devices": [*started["devices"], here]})
    return checkpoint


def newest_checkpoint(run: Run) -> Path:
    """Return the newest complete checkpoint; last_checkpoint, or the training itself, has checked it."""
    those = (path.parent for path in run.checkpoints.glob("checkpoint-*/hashes.json"))
    return max(those, key=lambda folder: int(folder.name.partition("-")[2]))


def begin(run: Run, settings: dict[str, Any], texts_sha256: str, precision: str, start: dict[str, Any]) -> None:
    """Remove an earlier training of the run, and record the settings of the new one; only the first process does.

    start: from download_model.start_of.
    """
    if int(os.environ.get("RANK", 0)) == 0:
        runs.start_again(run)
        started = {
            "settings": settings | {"start_weights": start["start_weights"]},
            "start_revision": start["start_revision"],
            "start_langs": start["start_langs"],
            "texts_sha256": texts_sha256,
            "precision": precision,
            "devices": [describe_device()],
            "slurm_job": runs.slurm_job(),
        }
        runs.write_json(run.checkpoints / "started.json", started)
