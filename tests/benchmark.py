"""Measure this project against the usual ways of doing the same, in turn, on the same texts, model, seed and threads.

    python tests/benchmark.py train    --checkpoint DIR --corpus DIR --langs sv --texts 160
    python tests/benchmark.py evaluate --checkpoint DIR --corpus DIR --langs sv fi fr --texts 50
    python tests/benchmark.py start

train     ours      utils/trainer.py with all that finetune.py adds; validation and saving not counted
          random    transformers.Trainer as its documentation shows it: random batches, each padded to its longest text
          padded    the same, every text padded to --max-length
evaluate  ours      evaluate.py, one process for all languages; start, loading and writing counted, in all three
          predict   Trainer.predict, language by language, in one process
          process   one process per language, which loads Python, model and corpus, and pads to --max-length
start     each script's --help, a finished run told, an evaluated language skipped, a training of one step

Each measurement is a process of its own, and the ways take turns, so that neither memory nor a busy machine favours
one. Without --checkpoint and --corpus: the tiny model and the sample corpus; they show the start-up, not the sums.
Options after -- go to finetune.py's way of training.

Prints  per way median and range of seconds, texts per second, how many times the first way's seconds it takes, peak
        memory, and the share of the machine's matrix-product peak that real tokens took (6 operations per weight of the
        encoder and token in training, 2 in evaluation, and attention; padding not counted); --json FILE keeps it all
"""

import argparse
import json
import logging
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from utils import corpus_load, download_model, runs  # noqa: E402

WAYS = {"train": ("ours", "random", "padded"), "evaluate": ("ours", "predict", "process")}
SUBFOLDER = "benchmark"  # of outputs/ and models/: the run that is evaluated; removed at the end


# ---- one measurement, in a process of its own ----


def encoder_flops(model: Any, lengths: list[int], training: bool) -> float:
    """Return the operations that real tokens need in the encoder: products with its weights, and attention."""
    config = model.config
    n_weights = sum(parameter.numel() for parameter in model.base_model.encoder.parameters())
    per_weight, per_pair = (6, 12) if training else (2, 4)
    attention = per_pair * config.num_hidden_layers * config.hidden_size * sum(length**2 for length in lengths)
    return per_weight * n_weights * sum(lengths) + attention


def train_once(args: argparse.Namespace) -> dict[str, float]:
    """Train one epoch in one of the ways; return its seconds and what it processed."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

    import finetune
    from utils import classifier, tokens, trainer

    names = ["--model-name=x", "--train-langs=x", f"--checkpoint={args.checkpoint}"]
    settings, _ = finetune.parse_args([*names, f"--batch-size={args.batch_size}", *args.rest])
    registers = list(corpus_load.load_registers(args.corpus))
    texts = corpus_load.read_file(args.corpus, "train", args.langs[0], registers).texts
    tokenizer = classifier.load_tokenizer(args.checkpoint)
    set_seed(1)
    if args.way == "ours":
        classifier.keep_freed_memory()
        model = classifier.load_classifier(args.checkpoint, registers, settings.attention_dropout)
    else:
        model = classifier.load_classifier(args.checkpoint, registers)
    dataset = tokens.tokenize(texts, tokenizer, args.max_length, registers)
    with tempfile.TemporaryDirectory() as folder:
        if args.way == "ours":
            run = runs.Run("x", Path(folder) / "outputs", Path(folder) / "models")
            trainer.train(
                run, model, tokenizer, dataset, dataset.select(range(2)), settings,
                num_epochs=1, precision="fp32", resume_from=None,
            )  # fmt: skip
            seconds = json.loads((run.outputs / "train.json").read_text())[0]["seconds"]
        else:
            padding = "max_length" if args.way == "padded" else True
            arguments = TrainingArguments(
                output_dir=folder, num_train_epochs=1, per_device_train_batch_size=args.batch_size, seed=1,
                save_strategy="no", logging_strategy="no", disable_tqdm=True, report_to=[],
            )  # fmt: skip
            reference = Trainer(
                model=model, args=arguments, train_dataset=dataset.select_columns(["input_ids", "labels"]),
                data_collator=DataCollatorWithPadding(tokenizer, padding=padding, max_length=args.max_length),
            )  # fmt: skip
            began = time.monotonic()
            reference.train()
            seconds = time.monotonic() - began
    lengths = dataset["length"][:].tolist()
    return {"seconds": seconds, "texts": len(texts), "flops": encoder_flops(model, lengths, training=True)}


def predict_once(args: argparse.Namespace) -> dict[str, float]:
    """Evaluate --langs one after the other with Trainer.predict; return what was processed."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    from utils import classifier, tokens

    registers = list(corpus_load.load_registers(args.corpus))
    tokenizer = classifier.load_tokenizer(args.checkpoint)
    model = classifier.load_classifier(args.checkpoint, registers)
    padding = "max_length" if args.way == "process" else True
    lengths = []
    with tempfile.TemporaryDirectory() as folder:
        predictor = Trainer(
            model=model,
            args=TrainingArguments(output_dir=folder, per_device_eval_batch_size=32, disable_tqdm=True, report_to=[]),
            data_collator=DataCollatorWithPadding(tokenizer, padding=padding, max_length=args.max_length),
        )
        for lang in args.langs:
            texts = corpus_load.read_file(args.corpus, "test", lang, registers).texts
            dataset = tokens.tokenize(texts, tokenizer, args.max_length, registers)
            predictor.predict(dataset.select_columns(["input_ids", "labels"]))
            lengths += dataset["length"][:].tolist()
    return {"texts": len(lengths), "flops": encoder_flops(model, lengths, training=False)}


def peak_once() -> dict[str, float]:
    """Return the operations per second of large float32 matrix products, the best of ten."""
    import torch

    a, b = torch.rand(2, 2048, 2048)
    seconds = []
    for _ in range(10):
        began = time.monotonic()
        a @ b
        seconds.append(time.monotonic() - began)
    return {"peak": 2 * 2048**3 / min(seconds)}


def measure_here(args: argparse.Namespace) -> None:
    """Do what --way says in this process, and print what was measured as JSON."""
    logging.disable()
    ways = {"train": train_once, "evaluate": predict_once}
    found = peak_once() if args.way == "peak" else ways[args.what](args)
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found))


# ---- all of them, in turn ----


def timed(args: argparse.Namespace, *command: str | Path) -> tuple[float, str]:
    """Run Python with this command; return its seconds and what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return time.monotonic() - began, done.stdout


def measure(args: argparse.Namespace, way: str, langs: list[str]) -> dict[str, float]:
    """Measure a way in a new process. seconds: of the whole process, if it does not say itself."""
    values = ("checkpoint", "corpus", "threads", "batch_size", "max_length")
    options = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in values]
    seconds, answer = timed(args, __file__, args.what, f"--way={way}", *options, "--langs", *langs, "--", *args.rest)
    return {"seconds": seconds, **json.loads(answer.splitlines()[-1])}


def measure_way(args: argparse.Namespace, way: str) -> dict[str, float]:
    if args.what == "evaluate" and way == "ours":
        options = ["--eval-lang", *args.langs, f"--corpus-path={args.corpus}", "--overwrite"]
        seconds, _ = timed(args, "evaluate.py", *args.run, f"--max-length={args.max_length}", *options)
        return {"seconds": seconds}
    if way == "process":
        parts = [measure(args, way, [lang]) for lang in args.langs]
        return {"seconds": sum(part["seconds"] for part in parts), "memory": max(part["memory"] for part in parts)}
    return measure(args, way, args.langs)


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all ways in turn, --repetitions times; return a row per way."""
    if args.what == "evaluate":  # a run to evaluate, hardly trained: its scores do not matter here
        args.run = ["--model-name=x", f"--train-langs={args.langs[0]}", f"--subfolder={SUBFOLDER}"]
        options = [f"--checkpoint={args.checkpoint}", f"--corpus-path={args.corpus}", "--overwrite"]
        timed(args, "finetune.py", *args.run, *options, "--num-epochs=1", "--max-length=8")
        args.checkpoint = runs.run_paths("x", args.langs[:1], SUBFOLDER).models
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS[args.what]}
    peaks = []
    for repetition in range(args.repetitions):
        peaks.append(measure(args, "peak", args.langs)["peak"])
        for way in found:
            found[way].append(measure_way(args, way))
            print(f"{repetition + 1}/{args.repetitions} {way}: {found[way][-1]['seconds']:.1f} s", file=sys.stderr)
    work = next(one for several in found.values() for one in several if "texts" in one)
    rows = []
    for way, several in found.items():
        seconds = [one["seconds"] for one in several]
        shares = [work["flops"] / one / peak for one, peak in zip(seconds, peaks, strict=True)]
        rows.append(
            {
                "way": way,
                "seconds": seconds,
                "texts_per_second": work["texts"] / statistics.median(seconds),
                "ratio": statistics.median(seconds) / statistics.median(rows[0]["seconds"]) if rows else 1.0,
                "share_of_peak": statistics.median(shares),
                "memory": max((one["memory"] for one in several if "memory" in one), default=None),
            }
        )
    print(f"{work['texts']} texts, peak {statistics.median(peaks) / 1e9:.0f} GFLOP/s, {args.threads} threads")
    print("way      seconds: median (range)  texts/s  x ours  of peak  memory")
    for row in rows:
        low, middle, high = min(row["seconds"]), statistics.median(row["seconds"]), max(row["seconds"])
        memory = f"{row['memory'] / 1e9:.2f} GB" if row["memory"] else "-"
        print(
            f"{row['way']:8} {middle:14.2f} ({low:.2f}-{high:.2f}) {row['texts_per_second']:8.2f} {row['ratio']:7.2f} "
            f"{row['share_of_peak']:8.0%}  {memory}"
        )
    return rows


def start(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure what a user waits for before anything is computed."""
    run = [
        "--model-name=x",
        f"--train-langs={args.langs[0]}",
        f"--subfolder={SUBFOLDER}",
        f"--corpus-path={args.corpus}",
    ]
    one_step = ["finetune.py", *run, f"--checkpoint={args.checkpoint}", "--num-epochs=1", "--max-length=8"]
    one_step += ["--batch-size=10000"]
    evaluated = ["evaluate.py", *run, f"--eval-lang={args.langs[0]}"]
    commands = {
        **{f"{name} --help": [name, "--help"] for name in ("finetune.py", "evaluate.py", "post_eval.py")},
        "a training of one step": [*one_step, "--overwrite"],
        "a finished run": one_step,
        "an evaluation": [*evaluated, "--overwrite"],
        "an evaluated language": evaluated,
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(args.repetitions):
        for name, command in commands.items():
            found[name].append(timed(args, *command)[0])
    for name, seconds in found.items():
        print(f"{name:24} {statistics.median(seconds):6.2f} s ({min(seconds):.2f}-{max(seconds):.2f})")
    return [{"what": name, "seconds": seconds} for name, seconds in found.items()]


def first_texts(corpus: Path, n_texts: int, folder: Path) -> Path:
    """Copy the corpus with the first n texts of each file only."""
    import csv

    shutil.copytree(corpus / "info", folder / "info")
    for source in corpus.glob("corpus/*/*.tsv"):
        target = folder / source.relative_to(corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(source, encoding="utf-8", newline="") as file:
            rows = [row for row, _ in zip(csv.reader(file, delimiter="\t"), range(n_texts), strict=False)]
        with open(target, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure this project against the usual ways of doing the same.")
    parser.add_argument("what", choices=("train", "evaluate", "start"))
    parser.add_argument("--checkpoint", type=Path, help="a pretrained encoder (default: the tiny model)")
    parser.add_argument("--corpus", type=Path, default=ROOT / "tests" / "sample-corpus", help="(default: the sample)")
    parser.add_argument("--langs", nargs="+", default=["sv"], help="the first one is trained on (default: sv)")
    parser.add_argument("--texts", type=int, help="only so many of each file")
    parser.add_argument("--max-length", type=int, default=512, help="(default: 512)")
    parser.add_argument("--batch-size", type=int, default=16, help="in training (default: 16)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(default: all cores)")
    parser.add_argument("--repetitions", type=int, default=5, help="(default: 5)")
    parser.add_argument("--json", type=Path, help="keep all measurements in this file")
    parser.add_argument("--way", help=argparse.SUPPRESS)  # one measurement, in this process
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:end])
    args.rest = sys.argv[end + 1 :]
    if args.way:
        return measure_here(args)
    args.checkpoint = (args.checkpoint or download_model.find_checkpoint("./tests/sample-corpus")).absolute()
    with tempfile.TemporaryDirectory() as folder:
        args.corpus = args.corpus.absolute()
        if args.texts:
            args.corpus = first_texts(args.corpus, args.texts, Path(folder))
        try:
            rows = start(args) if args.what == "start" else compare(args)
        finally:
            for kind in ("models", "outputs"):
                shutil.rmtree(ROOT / kind / SUBFOLDER, ignore_errors=True)
    if args.json:
        runs.write_json(args.json, {"arguments": {key: str(value) for key, value in vars(args).items()}, "rows": rows})


if __name__ == "__main__":
    main()
