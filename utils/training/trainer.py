"""The pieces that transformers.Trainer lacks for a training that may be interrupted at any moment.

loss          summed over the texts, divided by the number of texts of the whole effective batch: the same
              however the batch is cut by accumulation or over GPUs; class weights belong to it
step          a batch of any texts, computed in parts of similar length (utils/training/batches.py): the same update
              with less padding
callbacks     an orderly end on SIGTERM, SIGUSR2 or Ctrl-C, with a checkpoint (utils/training/checkpoints.py); progress;
              one record per epoch
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
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from utils import runs
from utils.encoder import classifier, cpu
from utils.encoder.classifier import Classifier, evaluation_batch_size
from utils.encoder.layers import parameter_groups
from utils.files.stop import SIGNALS
from utils.metrics import METRICS, all_metrics, count_confusions
from utils.runs import Run, RunError
from utils.training.batches import IGNORED, ShuffledSampler, parts_of_similar_length, with_filling
from utils.training.checkpoints import epoch_records, history, is_over, seal_checkpoint, steps_per_epoch

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
BUSY_SECONDS, BUSY_SHARE = 60, 0.7  # of its steps: CPU time over wall time of the thread that leads

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
    from sklearn.utils.class_weight import compute_class_weight  # a second that a training without weights does without

    present = np.unique(labels)
    weights = torch.zeros(n_registers)
    weights[present] = torch.from_numpy(compute_class_weight("balanced", classes=present, y=labels)).float()
    return weights


def check_finite(what: str, number: float) -> None:
    """RunError if a loss is no finite number: nothing more will be learnt, and it must not be written or counted."""
    if not math.isfinite(number):
        raise RunError(
            f"{what} loss: expected a finite number, found {number}; train anew (--overwrite) with a lower "
            "--learning-rate, or with --precision fp32"
        )


class Interruption(TrainerCallback):
    """Take the signals that ask for an end, for as long as the training goes on; received: the last one's number."""

    received: int | None = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.earlier = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def on_train_end(self, *_: Any, **__: Any) -> None:
        for number, handler in self.earlier.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: Any) -> None:
        self.received = number
        os.write(2, f"{signal.Signals(number).name}: stopping after this step, with a checkpoint\n".encode())

    def is_asked_for(self, args: TrainingArguments) -> bool:
        """Tell whether this process, or another one of the training, was told to end."""
        if args.world_size > 1:  # torchrun may tell one process only
            received = torch.tensor(self.received or 0, device=args.device)
            torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX)
            self.received = int(received) or None
        return self.received is not None


class Progress(TrainerCallback):
    """Show how many texts the model has been shown: as a bar in a terminal, else in a line now and then."""

    def __init__(self, sampler: ShuffledSampler, num_epochs: int) -> None:
        self.sampler, self.n_texts = sampler, num_epochs * len(sampler)

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self.first, self.began = self._seen(state), time.monotonic()
        self.next_line = self.began + LOG_SECONDS
        self.computed, self.passed = 0.0, 0.0
        no_bar = not (sys.stderr.isatty() and state.is_world_process_zero)
        self.bar = tqdm(total=self.n_texts, initial=self.first, unit="text", desc="training", disable=no_bar)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.step_began = time.thread_time(), time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        seen, now = self._seen(state), time.monotonic()
        self.bar.set_postfix_str(f"epoch {math.ceil(state.epoch or 0)}/{state.num_train_epochs}", refresh=False)
        self.bar.update(seen - self.bar.n)
        if self.bar.disable and now > self.next_line:
            self.next_line = now + LOG_SECONDS
            minutes = (self.n_texts - seen) * (now - self.began) / (seen - self.first) / 60
            log.info("%d of at most %d texts shown to the model, %.0f min to go at most", seen, self.n_texts, minutes)
        self.computed += time.thread_time() - self.step_began[0]
        self.passed += now - self.step_began[1]
        if args.use_cpu and self.passed > BUSY_SECONDS:
            if self.computed < BUSY_SHARE * self.passed:
                share = 100 * self.computed / self.passed
                log.warning("this machine is busy: of %.0f s, the training computed in %.0f %%", self.passed, share)
                self.passed = -math.inf  # told once
            self.computed, self.passed = 0.0, min(self.passed, 0.0)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.bar.close()

    def _seen(self, state: TrainerState) -> int:
        n_epochs, n_steps = divmod(state.global_step, steps_per_epoch(state))
        return n_epochs * len(self.sampler) + n_steps * self.sampler.batch_size


class Recorder(TrainerCallback):
    """Record each validated epoch, and make its checkpoint one that counts; or one in between, for an interruption.

    Written in train.json, one record per validated epoch:
        epoch          from 1
        loss           mean over the training texts since the record before, each at the moment it was learnt from
        learning_rate  at the epoch's end
        validation     loss, micro_f1, macro_f1, precision, recall; confusion: counts, rows gold, columns predicted
        seconds, texts_per_second, tokens_per_second   of training since the record before, validation not counted
        validation_seconds

    What has been gathered for a record travels in the checkpoint's log_history, so that an epoch in two pieces
    is recorded like one in one piece. is_over: tells by a state whether the training is over.
    """

    def __init__(
        self, run: Run, sampler: ShuffledSampler, interruption: Interruption, is_over: Callable[[TrainerState], bool]
    ) -> None:
        self.run, self.sampler, self.interruption, self.is_over = run, sampler, interruption, is_over
        self.interrupted = False
        self.learnt = torch.zeros(2, dtype=torch.float64)  # since the last record: sum of losses, number of texts

    def loss(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return cross-entropy, summed, over the number of texts in the effective batch. weights: per register."""
        weight = None if weights is None else weights.to(labels.device)
        total = torch.nn.functional.cross_entropy(outputs.logits.float(), labels, weight=weight, reduction="sum")
        if torch.is_grad_enabled():
            self.learnt += torch.stack([total.detach(), (labels != IGNORED).sum()])
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        state.eval_steps, state.save_steps = int(args.eval_steps or 0), int(args.save_steps)  # not the checkpoint's
        self.learnt, self.began = self.learnt.to(args.device), time.monotonic()
        if history(state) and "interrupted" in history(state)[-1]:
            gathered = history(state).pop()["interrupted"]
            self.began -= gathered["seconds"]
            if state.is_world_process_zero:
                self.learnt += torch.tensor(gathered["learnt"], dtype=torch.float64, device=args.device)

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.sampler.epoch = state.global_step // steps_per_epoch(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % CHECKED == 0:
            check_finite("training", float(self.learnt[0]))
        if control.should_evaluate:  # and saved: if an end is asked for, on_save sees to it
            loss_sum, n_texts = self._learnt_by_all(args)
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
        elif self.interruption.is_asked_for(args):
            gathered = {"learnt": self._learnt_by_all(args), "seconds": time.monotonic() - self.began}
            history(state).append({"interrupted": gathered, "step": state.global_step})
            control.should_save = control.should_training_stop = True

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
        self.interrupted = self.interruption.is_asked_for(args)
        control.should_training_stop |= self.interrupted or self.is_over(state)
        self.learnt.zero_()
        self.began = time.monotonic()

    def _learnt_by_all(self, args: TrainingArguments) -> list[float]:
        if args.world_size > 1:
            torch.distributed.all_reduce(self.learnt)
        check_finite("training", float(self.learnt[0]))
        return self.learnt.tolist()


def logits_alone(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """Return the logits of what a model answers with; what some give besides them, as hidden states, is large."""
    return logits[0] if isinstance(logits, tuple) else logits


def validation_metrics(prediction: Any, weights: torch.Tensor | None = None) -> dict[str, Any]:
    """Score Trainer's predictions (logits and label ids of the validation texts); confusion: the counts.

    mean_loss is the mean over the texts, weighted as in the training; Trainer's own is a mean over batches. weights:
    per register, or None.
    """
    logits, gold = (torch.from_numpy(array) for array in prediction)
    check_finite("validation", logits.double().sum().item())
    confusion = count_confusions(gold.numpy(), logits.argmax(dim=1).numpy(), logits.shape[1])
    weight = None if weights is None else weights.double()
    mean_loss = torch.nn.functional.cross_entropy(logits.double(), gold, weight=weight).item()
    return {"mean_loss": mean_loss, "confusion": confusion.tolist(), **all_metrics(confusion)}


def train(
    run: Run,
    loaded: Classifier,
    train_set: Dataset,
    validation_set: Dataset,
    args: argparse.Namespace,
    resume_from: Path | None,
) -> int | None:
    """Train until all epochs are done, patience ends, or a signal comes; checkpoints lie in run.checkpoints.

    args: finetune.py's arguments. Goes on from resume_from if given. Returns the number of the
    signal that ended it, or None if the training is over.
    """
    model, tokenizer, precision = loaded
    on_gpu, n_texts = torch.cuda.is_available(), len(train_set)
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    sampler = ShuffledSampler(
        np.asarray(train_set["length"]),
        args.batch_size * args.gradient_accumulation * world_size,
        args.seed,
        multiple=args.batch_size * world_size if world_size > 1 else 1,  # one process may have a last, smaller batch
    )
    # each epoch is validated and saved, and the last; where they have fewer than 75 texts, the first that completes
    # so many, or one in ten: else saving takes most of the time
    epochs = min(math.ceil(args.num_epochs / 10), math.ceil(75 / n_texts))
    steps = epochs * math.ceil(len(sampler) / sampler.batch_size)
    arguments = TrainingArguments(
        output_dir=str(run.checkpoints),
        num_train_epochs=args.num_epochs,
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
        eval_strategy="steps",
        eval_steps=steps,
        save_strategy="steps",
        save_steps=steps,
        save_total_limit=2,  # the best and the last; with 1, the one just written for a signal would go
        metric_for_best_model="mean_loss",
        greater_is_better=False,
        logging_strategy="no",  # the Recorder records each epoch exactly
        logging_nan_inf_filter=False,  # it would wait for the GPU at every step
        dataloader_num_workers=0,  # workers would be killed by the signal before a checkpoint is written
        dataloader_pin_memory=on_gpu,
        ddp_backend="gloo" if torch.distributed.is_initialized() and not on_gpu else None,
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        report_to=[],
    )
    interruption = Interruption()
    recorder = Recorder(run, sampler, interruption, partial(is_over, args=args, n_texts=n_texts))
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
        compute_metrics=partial(validation_metrics, weights=weights),
        preprocess_logits_for_metrics=logits_alone,
        compute_loss_func=partial(recorder.loss, weights=weights),
        callbacks=[interruption, Progress(sampler, args.num_epochs), recorder],
        train_sampler=sampler,
        tokens_at_once=evaluation_batch_size(1),
    )
    trainer.remove_callback(PrinterCallback)
    assert trainer.accelerator.mixed_precision == {"fp32": "no"}.get(precision, precision)  # what run.json will say
    with contextlib.nullcontext() if on_gpu else cpu.used_in(model, classifier.trial_texts(model, tokenizer)):
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    return interruption.received if recorder.interrupted else None
