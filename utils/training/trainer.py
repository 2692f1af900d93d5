"""The pieces that transformers.Trainer lacks for a training that may be interrupted at any moment.

loss          summed over the texts, divided by the number of texts of the whole effective batch: the same
              however the batch is cut by accumulation or over GPUs; class weights belong to it
step          a batch of any texts, computed in parts of similar length (utils/training/batches.py): the same update
              with less padding
callback      a checkpoint (utils/training/checkpoints.py) and an orderly end on SIGTERM, SIGUSR2 or Ctrl-C; one record
              per epoch; progress
"""

import argparse
import contextlib
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from datasets import Dataset
from tqdm import tqdm
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from utils import runs
from utils.encoder import cpu, tokens
from utils.encoder.classifier import evaluation_batch_size
from utils.encoder.layers import parameter_groups
from utils.files.stop import SIGNALS
from utils.metrics import METRICS, all_metrics, count_confusions
from utils.runs import Run, RunError
from utils.training.batches import IGNORED, ShuffledSampler, parts_of_similar_length, with_filling
from utils.training.checkpoints import epoch_records, history, is_over, is_validated, seal_checkpoint, steps_per_epoch

OPTIMISER: dict[str, Any] = {  # what no option changes; run.json has it
    "optim": "adamw_torch_fused",
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "lr_scheduler_type": "linear",
}
CHECKED = 50  # steps after which the loss is looked at, which a GPU is waited for
LOG_SECONDS = 60  # between two progress lines in a log file

log = logging.getLogger(__name__)


class RegisterTrainer(Trainer):
    """Trainer that draws its training batches from the sampler given, and computes each in parts of similar length.

    tokens_at_once: how many tokens, padding included, a part has at most if it has several texts.
    """

    def __init__(self, *args: Any, train_sampler: ShuffledSampler, tokens_at_once: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.train_sampler, self.tokens_at_once = train_sampler, tokens_at_once

    def _get_train_sampler(self, train_dataset: Any = None) -> ShuffledSampler:
        return self.train_sampler

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        *others, last = parts_of_similar_length(inputs, self.tokens_at_once)
        loss = torch.zeros((), device=self.args.device)
        for part in others:
            with self.accelerator.no_sync(model):  # processes exchange gradients once, however many parts they have
                loss += super().training_step(model, part, num_items_in_batch)
        return loss + super().training_step(model, last, num_items_in_batch)


def class_weights(labels: np.ndarray, n_registers: int) -> torch.Tensor:
    """Return a weight per register, inverse to its share of the texts; their mean over the texts is 1.

    A register without texts weighs 0.
    """
    from sklearn.utils.class_weight import compute_class_weight

    present = np.unique(labels)
    weights = np.zeros(n_registers, dtype=np.float32)
    weights[present] = compute_class_weight("balanced", classes=present, y=labels)
    return torch.from_numpy(weights)


def check_finite(what: str, number: float) -> None:
    """RunError if a loss is no finite number: nothing more will be learnt, and it must not be written or counted."""
    if not math.isfinite(number):
        raise RunError(
            f"{what} loss: expected a finite number, found {number}; train anew (--overwrite) with a lower "
            "--learning-rate, or with --precision fp32"
        )


class RunCallback(TrainerCallback):
    """Record each epoch, show progress, and end in an orderly way on a signal.

    Written in train.json, one record per validated epoch (see checkpoints.is_validated):
        epoch          from 1
        loss           mean over the training texts since the record before, each at the moment it was learnt from
        learning_rate  at the epoch's end
        validation     loss, micro_f1, macro_f1, precision, recall; confusion: counts, rows gold, columns predicted
        seconds, texts_per_second, tokens_per_second   of training since the record before, validation not counted
        validation_seconds

    What has been gathered for a record travels in the checkpoint's log_history, so that an epoch in two pieces
    is recorded like one in one piece. is_over: tells by a state whether the training is over.
    """

    def __init__(self, run: Run, sampler: ShuffledSampler, is_over: Callable[[TrainerState], bool]) -> None:
        self.run, self.sampler, self.is_over = run, sampler, is_over
        self.received: int | None = None  # the signal that asks for an end
        self.stopped = False
        self.learnt = torch.zeros(2, dtype=torch.float64)  # since the last record: sum of losses, number of texts
        self.seconds = 0.0  # spent since the last record, before the current epoch of this process
        self.bar: tqdm | None = None

    def loss(self, weights: torch.Tensor | None) -> Callable[..., torch.Tensor]:
        """Return the loss function: cross-entropy, summed, over the number of texts in the effective batch."""

        def summed_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            weight = None if weights is None else weights.to(labels.device)
            total = torch.nn.functional.cross_entropy(outputs.logits.float(), labels, weight=weight, reduction="sum")
            if torch.is_grad_enabled():
                self.learnt += torch.stack([total.detach(), (labels != IGNORED).sum()])
            return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

        return summed_loss

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.learnt = self.learnt.to(args.device)
        entries = history(state)
        if entries and "interrupted" in entries[-1]:
            gathered = entries.pop()["interrupted"]
            self.seconds = gathered["seconds"]
            if state.is_world_process_zero:
                self.learnt += torch.tensor(gathered["learnt"], dtype=torch.float64, device=args.device)
        self.earlier = {number: signal.signal(number, self._receive) for number in SIGNALS}
        self.next_line = time.monotonic() + LOG_SECONDS
        self.first_step, self.began = state.global_step, time.monotonic()
        if sys.stderr.isatty() and state.is_world_process_zero:
            n_texts = len(self.sampler) * int(state.num_train_epochs)
            self.bar = tqdm(total=n_texts, initial=self._texts_seen(state), unit="text", desc="training")

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.sampler.epoch = state.global_step // steps_per_epoch(state)
        self.epoch_began = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._show_progress(state)
        if state.global_step % CHECKED == 0:
            check_finite("training", float(self.learnt[0]))
        if self._asked_to_stop(args) and not self._is_validated(state):
            # at the last step of an epoch that is validated, let it be validated and saved first: see on_save
            gathered = {"learnt": self._learnt_by_all(args), "seconds": self._epoch_seconds()}
            history(state).append({"interrupted": gathered, "step": state.global_step})
            control.should_save = control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        seconds = self._epoch_seconds()
        if not self._is_validated(state):  # cut short, or not yet: no validation, which could become "best"
            control.should_evaluate = control.should_save = False
            self.seconds, self.epoch_began = seconds, time.monotonic()
            return
        loss_sum, n_texts = self._learnt_by_all(args)
        self.record = {
            "epoch": state.global_step // steps_per_epoch(state),
            "loss": loss_sum / n_texts,
            "learning_rate": kwargs["lr_scheduler"].get_last_lr()[0],
            "seconds": round(seconds, 3),
            "texts_per_second": round(n_texts / seconds, 3),
            "tokens_per_second": round(n_texts * float(self.sampler.lengths.mean()) / seconds, 1),
        }
        self.learnt.zero_()
        self.seconds = 0.0
        self.validation_began = time.monotonic()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        metrics = kwargs["metrics"]
        scores = {"loss": metrics["eval_mean_loss"], **{name: metrics[f"eval_{name}"] for name in METRICS}}
        self.record["validation"] = {**scores, "confusion": metrics["eval_confusion"]}
        self.record["validation_seconds"] = round(time.monotonic() - self.validation_began, 3)
        history(state).append({"record": self.record, "step": state.global_step})
        shown = "  ".join(f"{name} {scores[name]:.3f}" for name in ("loss", "micro_f1", "macro_f1"))
        with tqdm.external_write_mode():  # the bar goes on below the line
            log.info("epoch %d: training loss %.3f; validation %s", self.record["epoch"], self.record["loss"], shown)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if args.world_size > 1:
            torch.distributed.barrier()  # the other processes' random states lie in the checkpoint too
        if state.is_world_process_zero:
            seal_checkpoint(self.run.checkpoints / f"checkpoint-{state.global_step}")
            runs.write_json(self.run.outputs / "train.json", epoch_records(state))
        self.stopped = self._asked_to_stop(args)
        control.should_training_stop |= self.stopped or self.is_over(state)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        for number, handler in self.earlier.items():
            signal.signal(number, handler)
        if self.bar is not None:
            self.bar.close()

    def _receive(self, number: int, frame: Any) -> None:
        self.received = number
        os.write(2, f"{signal.Signals(number).name}: stopping after this step, with a checkpoint\n".encode())

    def _asked_to_stop(self, args: TrainingArguments) -> bool:
        if args.world_size == 1:
            return self.received is not None
        received = torch.tensor(self.received or 0, device=args.device)  # torchrun may tell one process only
        torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX)
        self.received = int(received) or None
        return self.received is not None

    def _learnt_by_all(self, args: TrainingArguments) -> list[float]:
        if args.world_size > 1:
            torch.distributed.all_reduce(self.learnt)
        check_finite("training", float(self.learnt[0]))
        return self.learnt.tolist()

    def _is_validated(self, state: TrainerState) -> bool:
        return is_validated(state, len(self.sampler.lengths))

    def _epoch_seconds(self) -> float:
        return self.seconds + time.monotonic() - self.epoch_began

    def _show_progress(self, state: TrainerState) -> None:
        if self.bar is not None:
            self.bar.set_postfix_str(f"epoch {math.ceil(state.epoch or 0)}/{state.num_train_epochs}", refresh=False)
            self.bar.update(self._texts_seen(state) - self.bar.n)
        elif time.monotonic() > self.next_line:
            self.next_line = time.monotonic() + LOG_SECONDS
            rate = (state.global_step - self.first_step) / (time.monotonic() - self.began)
            minutes = (state.max_steps - state.global_step) / rate / 60
            seen, n_texts = self._texts_seen(state), len(self.sampler) * int(state.num_train_epochs)
            log.info("%d of at most %d texts shown to the model, %.0f min to go at most", seen, n_texts, minutes)

    def _texts_seen(self, state: TrainerState) -> int:
        n_epochs, n_steps = divmod(state.global_step, steps_per_epoch(state))
        return n_epochs * len(self.sampler) + n_steps * self.sampler.batch_size


def logits_alone(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """Return the logits of what a model answers with; what some give besides them, as hidden states, is large."""
    return logits[0] if isinstance(logits, tuple) else logits


def validation_metrics(prediction: Any) -> dict[str, Any]:
    """Score Trainer's predictions (logits and label ids of the validation texts); confusion: the counts.

    mean_loss is the mean over the texts, unweighted; Trainer's own is a mean over batches.
    """
    logits, gold = (torch.from_numpy(array) for array in prediction)
    check_finite("validation", logits.double().sum().item())
    confusion = count_confusions(gold.numpy(), logits.argmax(dim=1).numpy(), logits.shape[1])
    mean_loss = torch.nn.functional.cross_entropy(logits.double(), gold).item()
    return {"mean_loss": mean_loss, "confusion": confusion.tolist(), **all_metrics(confusion)}


def train(
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train_set: Dataset,
    validation_set: Dataset,
    args: argparse.Namespace,
    *,
    num_epochs: int,
    precision: str,
    resume_from: Path | None,
) -> int | None:
    """Train until all epochs are done, patience ends, or a signal comes; checkpoints lie in run.checkpoints.

    args: finetune.py's arguments. Goes on from resume_from if given. Returns the number of the
    signal that ended it, or None if the training is over.
    """
    on_gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(run.checkpoints),
        num_train_epochs=num_epochs,
        per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=args.batch_size if on_gpu else evaluation_batch_size(args.max_length),
        gradient_accumulation_steps=args.gradient_accumulation,
        learning_rate=args.learning_rate,
        warmup_steps=args.warmup,  # below 1: a share of all steps
        **OPTIMISER,
        seed=args.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=not on_gpu,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,  # the best and the last; with 1, the one just written for a signal would go
        metric_for_best_model="mean_loss",
        greater_is_better=False,
        logging_strategy="no",  # the callback records each epoch exactly
        logging_nan_inf_filter=False,  # it would wait for the GPU at every step
        dataloader_num_workers=0,  # workers would be killed by the signal before a checkpoint is written
        dataloader_pin_memory=on_gpu,
        ddp_backend="gloo" if torch.distributed.is_initialized() and not on_gpu else None,
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        report_to=[],
    )
    n_texts, world_size = len(train_set), arguments.world_size
    sampler = ShuffledSampler(
        np.asarray(train_set["length"]),
        args.batch_size * args.gradient_accumulation * world_size,
        args.seed,
        multiple=args.batch_size * world_size if world_size > 1 else 1,  # one process may have a last, smaller batch
    )
    callback = RunCallback(run, sampler, partial(is_over, args=args, n_texts=n_texts))
    labels = np.asarray(train_set["labels"])
    weights = class_weights(labels, len(model.config.id2label or ())) if args.balanced else None
    optimiser, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    trainer = RegisterTrainer(
        model=model,
        optimizers=(optimiser(parameter_groups(model, args.learning_rate, args.head_rate), **options), None),
        args=arguments,
        train_dataset=with_filling(train_set) if sampler.n_filling else train_set,
        eval_dataset=validation_set.select(np.argsort(-np.asarray(validation_set["length"]))),  # little padding
        data_collator=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8 if on_gpu else None),
        processing_class=tokenizer,
        compute_metrics=validation_metrics,
        preprocess_logits_for_metrics=logits_alone,
        compute_loss_func=callback.loss(weights),
        callbacks=[callback],
        train_sampler=sampler,
        tokens_at_once=evaluation_batch_size(1),
    )
    trainer.remove_callback(PrinterCallback)
    assert trainer.accelerator.mixed_precision == {"fp32": "no"}.get(precision, precision)  # what run.json will say
    pair = tokens.two_texts(tokenizer, args.max_length)
    with contextlib.nullcontext() if on_gpu else cpu.used_in(model, pair):
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    return callback.received if callback.stopped else None
