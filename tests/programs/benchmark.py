"""Measure this project against plain transformers, in turn, on the same texts, model, seed and threads.

    python tests/programs/benchmark.py train    --checkpoint DIR --corpus DIR --langs sv --texts 160
    python tests/programs/benchmark.py evaluate --checkpoint DIR --corpus DIR --langs sv fi fr --texts 50

train     ours     an epoch of utils/training.py as finetune.py trains; validation and saving not counted
          trainer  of transformers.Trainer as its documentation shows it: random batches, padded to the longest text
evaluate  ours     evaluate.py, one process for all languages; start, loading and writing counted, in both
          trainer  Trainer.predict, language by language, in one process

Each measurement is a process of its own, and the ways take turns, so that neither memory nor a busy machine favours
one. Without --checkpoint and --corpus: the tiny model and the sample corpus; they show the start-up, not the sums.
--shape takes the layers of xlm-roberta-base with random weights, and the tokenizer of --checkpoint. Options after --
go to finetune.py's or evaluate.py's way of working; Trainer computes in float32.

Prints  per way median and range of seconds, texts per second, how many times ours it takes, and peak memory
"""

import argparse
import csv
import itertools
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from utils import corpus_load, download_model, runs

SUBFOLDER = "benchmark"  # of outputs/ and models/: the run that is evaluated; removed at the end


# ---- one measurement, in a process of its own ----


def train_once(args: argparse.Namespace) -> dict[str, Any]:
    """Train in one of the ways; return the seconds of an epoch and its number of texts."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

    import finetune
    from utils import model, training

    names = ["--model-name=x", "--train-langs=x", f"--checkpoint={args.checkpoint}", f"--batch-size={args.batch_size}"]
    settings, _ = finetune.parse_args([*names, f"--max-length={args.max_length}", "--num-epochs=1", *args.rest])
    registers = list(corpus_load.load_registers(args.corpus))
    texts = corpus_load.read_texts(args.corpus, "train", args.langs[0], registers)
    test = corpus_load.read_texts(args.corpus, "test", args.langs[0], registers)
    set_seed(1)
    model.use_device(args.threads)
    classifier, tokenizer = model.load_classifier(args.checkpoint, registers), model.load_tokenizer(args.checkpoint)
    dataset, validation = (
        corpus_load.to_dataset(part, tokenizer, args.max_length, registers) for part in (texts, test[:8])
    )
    with tempfile.TemporaryDirectory() as folder:
        if args.way == "ours":
            run = runs.Run("x", Path(folder) / "outputs", Path(folder) / "models")
            model.freeze(classifier, settings.frozen_layers)
            loaded = model.Classifier(classifier, tokenizer, model.choose_precision(settings.precision))
            training.train(run, loaded, dataset, validation, settings, resume_from=None)
            (epoch,) = json.loads((run.outputs / "train.json").read_text())
            return {"texts": len(texts), "seconds": epoch["seconds"]}
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=1, per_device_train_batch_size=args.batch_size, seed=1,
            save_strategy="no", disable_tqdm=True, report_to=[],
        )  # fmt: skip
        reference = Trainer(
            model=classifier, args=arguments, train_dataset=dataset.select_columns(["input_ids", "labels"]),
            data_collator=DataCollatorWithPadding(tokenizer),
        )  # fmt: skip
        began = time.monotonic()
        reference.train()
        return {"texts": len(texts), "seconds": time.monotonic() - began}


def predict_once(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate --langs one after the other with Trainer.predict; return the number of texts."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    from utils import model

    registers = list(corpus_load.load_registers(args.corpus))
    classifier, tokenizer = model.load_classifier(args.checkpoint, registers), model.load_tokenizer(args.checkpoint)
    n_texts = 0
    with tempfile.TemporaryDirectory() as folder:
        predictor = Trainer(
            model=classifier,
            args=TrainingArguments(output_dir=folder, per_device_eval_batch_size=32, disable_tqdm=True, report_to=[]),
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        for lang in args.langs:
            texts = corpus_load.read_texts(args.corpus, "test", lang, registers)
            dataset = corpus_load.to_dataset(texts, tokenizer, args.max_length, registers)
            predictor.predict(dataset.select_columns(["input_ids", "labels"]))
            n_texts += len(texts)
    return {"texts": n_texts}


# ---- all measurements ----


def timed(args: argparse.Namespace, *command: str) -> tuple[float, str, int]:
    """Run a command of Python; return its seconds, output, and peak memory."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"}
    environment["REGISTER_CORPUS"] = str(args.corpus)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.monotonic()
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        out.seek(0), err.seek(0)
        if status:
            sys.exit(err.read())
        return seconds, out.read(), usage.ru_maxrss * 1024


def measure(args: argparse.Namespace, way: str) -> dict[str, Any]:
    """Measure a way in a new process; seconds: of the whole process, if it does not say itself."""
    if (args.what, way) == ("evaluate", "ours"):
        options = [f"--max-length={args.max_length}", "--overwrite", f"--threads={args.threads}", *args.rest]
        seconds, _, memory = timed(args, "evaluate.py", *args.run, "--eval-lang", *args.langs, *options)
        return {"seconds": seconds, "memory": memory}
    values = ("checkpoint", "corpus", "threads", "batch_size", "max_length")
    options = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in values]
    words = [__file__, args.what, f"--way={way}", *options, "--langs", *args.langs, "--", *args.rest]
    seconds, answer, memory = timed(args, *words)
    return {"seconds": seconds, "memory": memory, **json.loads(answer.splitlines()[-1])}


def compare(args: argparse.Namespace) -> None:
    """Measure both ways in turn, --repetitions times, and print a row each."""
    if args.what == "evaluate":  # a run to evaluate, hardly trained: its scores do not matter here
        args.run = ["--model-name=x", f"--train-langs={args.langs[0]}", f"--subfolder={SUBFOLDER}"]
        options = [f"--checkpoint={args.checkpoint}", "--overwrite", "--num-epochs=1", "--max-length=8"]
        timed(args, "finetune.py", *args.run, *options)
        args.checkpoint = runs.run_paths("x", args.langs[:1], SUBFOLDER).models
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "trainer": []}
    for _ in range(args.repetitions):
        for way in found:
            found[way].append(measure(args, way))
    n_texts = found["trainer"][0]["texts"]
    ours = statistics.median(one["seconds"] for one in found["ours"])
    print(f"{n_texts} texts, {args.threads} threads\nway      seconds: median (range)  texts/s  x ours   memory")
    for way, several in found.items():
        seconds = [one["seconds"] for one in several]
        middle, memory = statistics.median(seconds), max(one["memory"] for one in several)
        print(
            f"{way:8} {middle:14.2f} ({min(seconds):.2f}-{max(seconds):.2f}) {n_texts / middle:8.2f} "
            f"{middle / ours:7.2f}  {memory / 1e9:.2f} GB"
        )


def first_texts(corpus: Path, n_texts: int, folder: Path) -> Path:
    """Copy the corpus with n texts of each file, its own again and again where it has fewer."""
    shutil.copytree(corpus / "info", folder / "info")
    csv.field_size_limit(2**31 - 1)
    for source in corpus.glob("corpus/*/*.tsv"):
        target = folder / source.relative_to(corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(source, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t"))
        again = itertools.cycle(rows) if target.parent.name == "train" else rows
        with open(target, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows(itertools.islice(again, n_texts))
    return folder


def random_model(checkpoint: Path, folder: Path) -> Path:
    """Make a checkpoint with the layers of xlm-roberta-base, random weights and the other checkpoint's tokenizer."""
    import torch
    from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaModel

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=514, type_vocab_size=1, pad_token_id=tokenizer.pad_token_id
    )
    torch.manual_seed(0)
    XLMRobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure this project against plain transformers.")
    parser.add_argument("what", choices=["train", "evaluate"])
    parser.add_argument("--checkpoint", type=Path, help="a pretrained encoder (default: the tiny model)")
    parser.add_argument("--shape", action="store_true", help="of xlm-roberta-base, with random weights, instead")
    parser.add_argument("--corpus", type=Path, default=ROOT / "tests" / "sample-corpus", help="(default: the sample)")
    parser.add_argument("--langs", nargs="+", default=["sv"], help="the first one is trained on (default: sv)")
    parser.add_argument("--texts", type=int, help="so many of each file")
    parser.add_argument("--max-length", type=int, default=512, help="(default: 512)")
    parser.add_argument("--batch-size", type=int, default=16, help="in training (default: 16)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(default: all cores)")
    parser.add_argument("--repetitions", type=int, default=5, help="(default: 5)")
    parser.add_argument("--way", help=argparse.SUPPRESS)  # one measurement, in this process
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:end])
    args.rest = sys.argv[end + 1 :]
    if args.way:
        logging.disable()
        print(json.dumps(train_once(args) if args.what == "train" else predict_once(args)))
        return
    args.checkpoint = (args.checkpoint or download_model.find_checkpoint("./tests/sample-corpus")).absolute()
    args.corpus = args.corpus.absolute()
    with tempfile.TemporaryDirectory() as folder:
        if args.texts:
            args.corpus = first_texts(args.corpus, args.texts, Path(folder) / "corpus")
        if args.shape:
            args.checkpoint = random_model(args.checkpoint, Path(folder) / "shape")
        try:
            compare(args)
        finally:
            for kind in ("outputs", "models"):
                shutil.rmtree(ROOT / kind / SUBFOLDER, ignore_errors=True)


if __name__ == "__main__":
    main()
