"""Measure this project against the usual ways of doing the same, in turn, on the same texts, model, seed and threads.

    python tests/programs/benchmark.py train    --checkpoint DIR --corpus DIR --langs sv --texts 160
    python tests/programs/benchmark.py evaluate --checkpoint DIR --corpus DIR --langs sv fi fr --texts 50
    python tests/programs/benchmark.py grid
    python tests/programs/benchmark.py start

train     ours      utils/training.py with all that finetune.py adds; validation and saving not counted
          random    transformers.Trainer as its documentation shows it: random batches, each padded to its longest text
          padded    the same, every text padded to --max-length
evaluate  ours      evaluate.py, one process for all languages; start, loading and writing counted, in all three
          predict   Trainer.predict, language by language, in one process
          process   one process per language, which loads Python, model and corpus, and pads to --max-length
grid      ours      submit_train_jobs.sh and submit_eval_jobs.sh, --local: a model per language, each evaluated on all
          process   a process per training (as random), and one per model and language (as process)
start     each script's --help, a finished run told, an evaluated language skipped, a training of one step

Each measurement is a process of its own, and the ways take turns, so that neither memory nor a busy machine favours
one; --ways leaves some out. Without --checkpoint and --corpus: the tiny model and the sample corpus; they show the
start-up, not the sums. --shape NAME takes the layers of one of SHAPES with random weights, and the tokenizer of
--checkpoint. Options after -- go to finetune.py's or evaluate.py's way of working; the others compute in float32.

Prints  per way median and range of seconds, texts per second, how many times the first way's seconds it takes, peak
        memory, and the share of the machine's matrix-product peak, in the precision of the way, that real tokens took
        (6 operations per weight of the encoder and token in training, as if all layers were trained, 2 in evaluation,
        and attention; padding not counted); --json FILE keeps all, with the losses of each epoch
"""

import argparse
import csv
import itertools
import json
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

import benchmark_ways

from utils import download_model, runs

WAYS = {
    "train": ["ours", "random", "padded"],
    "evaluate": ["ours", "predict", "process"],
    "grid": ["ours", "process"],
    "start": [],
}
SHAPES = {  # hidden size, layers, heads, size of the layers between
    "xlm-roberta-base": (768, 12, 12, 3072),
}
SUBFOLDER = "benchmark"  # of outputs/ and models/: the runs that are evaluated; removed at the end


def timed(args: argparse.Namespace, *command: str | Path) -> tuple[float, str, int]:
    """Run a command, Python's where it begins with a file of Python; return its seconds, output, and peak memory."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"}
    environment["REGISTER_CORPUS"] = str(args.corpus)
    interpreter = [sys.executable] if str(command[0]).endswith(".py") else ["bash"]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.monotonic()
        process = subprocess.Popen([*interpreter, *command], cwd=ROOT, env=environment, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        out.seek(0), err.seek(0)
        if status:
            sys.exit(err.read())
        return seconds, out.read(), usage.ru_maxrss * 1024


def measure(args: argparse.Namespace, way: str, langs: list[str]) -> dict[str, Any]:
    """Measure a way in a new process. seconds: of the whole process, if it does not say itself."""
    values = ("checkpoint", "corpus", "threads", "batch_size", "max_length", "num_epochs", "learning_rate")
    options = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in values]
    command = [__file__, args.what, f"--way={way}", *options, "--langs", *langs, "--", *args.rest]
    seconds, answer, memory = timed(args, *command)
    return {"seconds": seconds, "memory": memory, **json.loads(answer.splitlines()[-1])}


def measure_way(args: argparse.Namespace, way: str) -> dict[str, Any]:
    """Measure a way once, in as many processes as it takes."""
    if args.what == "grid":
        return measure_grid(args, way)
    if args.what == "evaluate" and way == "ours":
        options = ["--eval-lang", *args.langs, "--overwrite", f"--threads={args.threads}", *args.rest]
        seconds, _, memory = timed(args, "evaluate.py", *args.run, f"--max-length={args.max_length}", *options)
        scores = json.loads(runs.run_paths("x", args.langs[:1], SUBFOLDER).scores(args.langs[0]).read_text())
        return {"seconds": seconds, "memory": memory, "precision": scores["signature"]["precision_used"]}
    if way == "process":
        parts = [measure(args, way, [lang]) for lang in args.langs]
        return {"seconds": sum(part["seconds"] for part in parts), "memory": max(part["memory"] for part in parts)}
    return measure(args, way, args.langs)


def measure_grid(args: argparse.Namespace, way: str) -> dict[str, Any]:
    """Train a model per language and evaluate each on all languages."""
    if way == "process":
        began = time.monotonic()
        parts = []
        for lang in args.langs:
            parts.append(measure(args, "random", [lang]))
            parts += [measure(args, "process", [eval_lang]) for eval_lang in args.langs]
        return {"seconds": time.monotonic() - began, "memory": max(part["memory"] for part in parts)}
    remove_runs()
    grid = ["--local", "--models", "tiny", "--subfolder", SUBFOLDER, "--langs", *args.langs]
    training = [f"--num-epochs={args.num_epochs}", f"--batch-size={args.batch_size}", *args.rest]
    trained = timed(args, "submit_train_jobs.sh", *grid, "--", f"--max-length={args.max_length}", *training)
    evaluated = timed(args, "submit_eval_jobs.sh", *grid, "--", "--eval-lang", *args.langs)
    return {"seconds": trained[0] + evaluated[0], "texts": 0, "flops": 0}


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all ways in turn, --repetitions times; return a row per way."""
    if args.what == "evaluate":  # a run to evaluate, hardly trained: its scores do not matter here
        args.run = ["--model-name=x", f"--train-langs={args.langs[0]}", f"--subfolder={SUBFOLDER}"]
        options = [f"--checkpoint={args.checkpoint}", "--overwrite", "--num-epochs=1", "--max-length=8"]
        timed(args, "finetune.py", *args.run, *options)
        args.checkpoint = runs.run_paths("x", args.langs[:1], SUBFOLDER).models
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in args.ways}
    peaks = []
    for repetition in range(args.repetitions):
        peaks.append(measure(args, "peak", args.langs))
        for way in found:
            found[way].append(measure_way(args, way))
            print(f"{repetition + 1}/{args.repetitions} {way}: {found[way][-1]['seconds']:.1f} s", file=sys.stderr)
    work = next(one for several in found.values() for one in several if "texts" in one)
    rows = []
    for way, several in found.items():
        seconds = [one["seconds"] for one in several]
        precision = several[0].get("precision", "fp32")
        shares = [work["flops"] / one / peak[precision] for one, peak in zip(seconds, peaks, strict=True)]
        rows.append(
            {
                "way": way,
                "precision": precision,
                "seconds": seconds,
                "texts_per_second": work["texts"] / statistics.median(seconds),
                "ratio": statistics.median(seconds) / statistics.median(rows[0]["seconds"]) if rows else 1.0,
                "share_of_peak": statistics.median(shares),
                "memory": max((one["memory"] for one in several if "memory" in one), default=None),
                "measurements": several,
            }
        )
    middle = {precision: statistics.median(peak[precision] for peak in peaks) / 1e9 for precision in ("fp32", "bf16")}
    shown = ", ".join(f"{precision} {value:.0f}" for precision, value in middle.items())
    print(f"{work['texts']} texts, {args.threads} threads, peak in GFLOP/s: {shown}")
    print("way      seconds: median (range)  texts/s  x ours  of peak       memory")
    for row in rows:
        low, middle_one, high = min(row["seconds"]), statistics.median(row["seconds"]), max(row["seconds"])
        memory = f"{row['memory'] / 1e9:.2f} GB" if row["memory"] else "-"
        print(
            f"{row['way']:8} {middle_one:14.2f} ({low:.2f}-{high:.2f}) {row['texts_per_second']:8.2f} "
            f"{row['ratio']:7.2f} {row['share_of_peak']:8.0%} {row['precision']}  {memory}"
        )
    for one in found.get("ours", []):
        if "validation_share" in one:
            print(f"ours: validation took {one['validation_share']:.1%} of the training's time")
    return rows


def start(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure what a user waits for before anything is computed."""
    run = ["--model-name=x", f"--train-langs={args.langs[0]}", f"--subfolder={SUBFOLDER}"]
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
    """Copy the corpus with n texts of each file, its own again and again where it has fewer."""
    shutil.copytree(corpus / "info", folder / "info")
    csv.field_size_limit(2**31 - 1)
    for source in corpus.glob("corpus/*/*.tsv"):
        target = folder / source.relative_to(corpus)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(source, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t"))
        if target.parent.name == "train":
            rows = itertools.cycle(rows)
        with open(target, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows(itertools.islice(rows, n_texts))
    return folder


def random_model(shape: str, checkpoint: Path, folder: Path) -> Path:
    """Make a checkpoint of this shape with random weights and the other checkpoint's tokenizer."""
    import torch
    from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaModel

    hidden, layers, heads, between = SHAPES[shape]
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=between, max_position_embeddings=514, type_vocab_size=1, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    XLMRobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def remove_runs() -> None:
    for kind in ("outputs", "models"):
        shutil.rmtree(ROOT / kind / SUBFOLDER, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure this project against the usual ways of doing the same.")
    parser.add_argument("what", choices=list(WAYS))
    parser.add_argument("--ways", nargs="+", help="only these (default: all)")
    parser.add_argument("--checkpoint", type=Path, help="a pretrained encoder (default: the tiny model)")
    parser.add_argument("--shape", choices=list(SHAPES), help="a model of this shape with random weights instead")
    parser.add_argument("--corpus", type=Path, default=ROOT / "tests" / "sample-corpus", help="(default: the sample)")
    parser.add_argument("--langs", nargs="+", default=["sv"], help="the first one is trained on (default: sv)")
    parser.add_argument("--texts", type=int, help="so many of each file")
    parser.add_argument("--max-length", type=int, default=512, help="(default: 512)")
    parser.add_argument("--batch-size", type=int, default=16, help="in training (default: 16)")
    parser.add_argument("--num-epochs", type=int, default=1, help="in training (default: 1)")
    parser.add_argument("--learning-rate", type=float, default=5e-5, help="in training (default: 5e-5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(default: all cores)")
    parser.add_argument("--repetitions", type=int, default=5, help="(default: 5)")
    parser.add_argument("--json", type=Path, help="keep all measurements in this file")
    parser.add_argument("--way", help=argparse.SUPPRESS)  # one measurement, in this process
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:end])
    args.rest = sys.argv[end + 1 :]
    if args.way:
        return benchmark_ways.measure_here(args)
    args.ways = args.ways or WAYS[args.what]
    args.checkpoint = (args.checkpoint or download_model.find_checkpoint("./tests/sample-corpus")).absolute()
    with tempfile.TemporaryDirectory() as folder:
        args.corpus = args.corpus.absolute()
        if args.texts:
            args.corpus = first_texts(args.corpus, args.texts, Path(folder) / "corpus")
        if args.shape:
            args.checkpoint = random_model(args.shape, args.checkpoint, Path(folder) / args.shape)
        try:
            rows = start(args) if args.what == "start" else compare(args)
        finally:
            remove_runs()
    if args.json:
        runs.write_json(args.json.absolute(), rows)


if __name__ == "__main__":
    main()
