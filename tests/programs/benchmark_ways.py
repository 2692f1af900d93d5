"""One measurement of benchmark.py, which starts a process for each: the ways of training and of predicting."""

import argparse
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from utils import corpus_load, runs


def encoder_flops(classifier: Any, lengths: list[int], per_weight: int) -> float:
    """Return the operations that real tokens need in the encoder: products with its weights, and attention."""
    config = classifier.config
    n_weights = sum(parameter.numel() for parameter in classifier.base_model.encoder.parameters())
    attention = 2 * per_weight * config.num_hidden_layers * config.hidden_size * sum(length**2 for length in lengths)
    return per_weight * n_weights * sum(lengths) + attention


def train_once(args: argparse.Namespace) -> dict[str, Any]:
    """Train in one of the ways; return the seconds of an epoch, what it processed, and its losses."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

    import finetune
    from utils import model, training

    names = ["--model-name=x", "--train-langs=x", f"--checkpoint={args.checkpoint}", f"--batch-size={args.batch_size}"]
    settings, _ = finetune.parse_args([*names, f"--learning-rate={args.learning_rate}", *args.rest])
    registers = list(corpus_load.load_registers(args.corpus))
    texts = corpus_load.read_texts(args.corpus, "train", args.langs[0], registers)
    tokenizer = model.load_tokenizer(args.checkpoint)
    set_seed(1)
    if args.way == "ours":
        model.use_device(args.threads)
    classifier = model.load_classifier(args.checkpoint, registers)
    dataset = corpus_load.to_dataset(texts, tokenizer, args.max_length, registers)
    n_validation = max(round(settings.validation_size / (1 - settings.validation_size) * len(texts)), 2)
    test = corpus_load.read_texts(args.corpus, "test", args.langs[0], registers)
    validation = corpus_load.to_dataset(test[:n_validation], tokenizer, args.max_length, registers)
    lengths = dataset["length"][:].tolist()
    found = {"texts": len(texts), "flops": encoder_flops(classifier, lengths, per_weight=6), "precision": "fp32"}
    with tempfile.TemporaryDirectory() as folder:
        if args.way == "ours":
            run = runs.Run("x", Path(folder) / "outputs", Path(folder) / "models")
            model.freeze(classifier, settings.frozen_layers)
            precision = model.choose_precision(settings.precision)
            settings.num_epochs, settings.max_length = args.num_epochs, args.max_length
            loaded = model.Classifier(classifier, tokenizer, precision)
            training.train(run, loaded, dataset, validation, settings, resume_from=None)
            epochs = json.loads((run.outputs / "train.json").read_text())
            share = sum(e["validation_seconds"] for e in epochs) / sum(e["seconds"] for e in epochs)
            share *= n_validation / len(validation)
            losses = [(e["loss"], e["validation"]["loss"]) for e in epochs]
            seconds = statistics.median(e["seconds"] for e in epochs)
            return {**found, "seconds": seconds, "precision": precision, "losses": losses, "validation_share": share}
        padding = "max_length" if args.way == "padded" else True
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=args.num_epochs, per_device_train_batch_size=args.batch_size, seed=1,
            learning_rate=args.learning_rate, eval_strategy="epoch" if args.num_epochs > 1 else "no",
            save_strategy="no", logging_strategy="epoch", disable_tqdm=True, report_to=[],
        )  # fmt: skip
        reference = Trainer(
            model=classifier, args=arguments, train_dataset=dataset.select_columns(["input_ids", "labels"]),
            eval_dataset=validation.select_columns(["input_ids", "labels"]),
            data_collator=DataCollatorWithPadding(tokenizer, padding=padding, max_length=args.max_length),
        )  # fmt: skip
        began = time.monotonic()
        reference.train()
        seconds = time.monotonic() - began
        log = reference.state.log_history
        validated = [entry for entry in log if "eval_loss" in entry]
        losses = list(zip([e["loss"] for e in log if "loss" in e], [e["eval_loss"] for e in validated], strict=False))
        seconds -= sum(entry["eval_runtime"] for entry in validated)
        return {**found, "seconds": seconds / args.num_epochs, "losses": losses}


def predict_once(args: argparse.Namespace) -> dict[str, float]:
    """Evaluate --langs one after the other with Trainer.predict; return what was processed."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    from utils import model

    registers = list(corpus_load.load_registers(args.corpus))
    tokenizer = model.load_tokenizer(args.checkpoint)
    classifier = model.load_classifier(args.checkpoint, registers)
    padding = "max_length" if args.way == "process" else True
    lengths = []
    with tempfile.TemporaryDirectory() as folder:
        predictor = Trainer(
            model=classifier,
            args=TrainingArguments(output_dir=folder, per_device_eval_batch_size=32, disable_tqdm=True, report_to=[]),
            data_collator=DataCollatorWithPadding(tokenizer, padding=padding, max_length=args.max_length),
        )
        for lang in args.langs:
            texts = corpus_load.read_texts(args.corpus, "test", lang, registers)
            dataset = corpus_load.to_dataset(texts, tokenizer, args.max_length, registers)
            predictor.predict(dataset.select_columns(["input_ids", "labels"]))
            lengths += dataset["length"][:].tolist()
    return {"texts": len(lengths), "flops": encoder_flops(classifier, lengths, per_weight=2)}


def peak_once(_: argparse.Namespace) -> dict[str, float]:
    """Return the operations per second of large matrix products, the best of ten, per precision."""
    import torch

    found = {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.rand(2, 2048, 2048).to(dtype)
        seconds = []
        for _ in range(10):
            began = time.monotonic()
            a @ b
            seconds.append(time.monotonic() - began)
        found[precision] = 2 * 2048**3 / min(seconds)
    return found


def measure_here(args: argparse.Namespace) -> None:
    """Do what --way says in this process, and print what was measured as JSON."""
    logging.disable()
    measure_once = {"peak": peak_once, "predict": predict_once, "process": predict_once}.get(args.way, train_once)
    print(json.dumps(measure_once(args)))
