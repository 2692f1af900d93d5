"""Compare ways of fine-tuning by languages that the training never saw, and never by a test file.

    python tests/programs/recipe.py --checkpoint DIR|ID --corpus DIR --langs sv fi fr tr --seeds 1 2 3
    python tests/programs/recipe.py --checkpoint DIR|ID --corpus DIR --candidates default all-layers -- --max-length 128

Each candidate, options of finetune.py, is trained on each language with each seed. Its judges are the *training* texts
of the other languages of the corpus, --texts of each at most, which that training leaves alone: evaluate.py predicts
them. Options after -- go to every training.

The same command goes on where it was stopped: what is evaluated is not trained again; models are removed when they are.
Writes  outputs/recipe/seedN/CANDIDATE-LANG/, models/recipe/ meanwhile
Prints  per candidate the mean over judging languages, training languages and seeds of accuracy and macro-F1, each with
        its difference to the first candidate and a 95 % interval over pairs of the same language and seed (Student's
        t), the accuracy on the validation texts of the language trained on, seconds, and peak memory
"""

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import t

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from utils import corpus_load
from utils.runs import Run, run_paths

CANDIDATES = {
    "default": [],
    "all-layers": ["--frozen-layers=0"],
    "as-trainer": ["--frozen-layers=0", "--learning-rate=5e-5", "--head-rate=5e-5"],  # transformers' defaults
    "one-rate": ["--head-rate=1e-4"],
    "quarter-frozen": ["--frozen-layers=0.25"],
    "three-quarters-frozen": ["--frozen-layers=0.75"],
    "half-rate": ["--learning-rate=5e-5"],
    "double-rate": ["--learning-rate=2e-4"],
    "small-batch": ["--batch-size=8"],
    "large-batch": ["--batch-size=32"],
    "balanced": ["--balanced"],
}


def judges(corpus: Path, n_texts: int, folder: Path) -> Path:
    """Write a corpus whose test files are the corpus's training files, n_texts of each, drawn once for all."""
    shutil.copytree(corpus / "info", folder / "info")
    (folder / "corpus" / "test").mkdir(parents=True)
    registers = list(corpus_load.load_registers(corpus))
    for lang in corpus_load.list_languages(corpus, "train"):
        texts = corpus_load.read_texts(corpus, "train", lang, registers)
        drawn = np.sort(np.random.default_rng(0).permutation(len(texts))[:n_texts])
        if lang != corpus_load.DISTR:
            with open(folder / "corpus" / "test" / f"{lang}.tsv", "w", encoding="utf-8", newline="") as file:
                rows = texts[["register", "text"]].iloc[drawn].to_numpy().tolist()
                csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)
    return folder


def train_and_judge(args: argparse.Namespace, run: Run, lang: str, seed: int, options: list[str]) -> None:
    """Fine-tune, evaluate on the other languages' training texts, and remove the model."""
    names = [
        f"--model-name={run.name.removesuffix(f'-{lang}')}",
        "--train-langs",
        lang,
        f"--subfolder=recipe/seed{seed}",
    ]
    training = [f"--checkpoint={args.checkpoint}", f"--corpus-path={args.corpus}", f"--seed={seed}"]
    subprocess.run([sys.executable, "finetune.py", *names, *training, *options, *args.rest], cwd=ROOT, check=True)
    evaluation = [f"--corpus-path={args.judges}", "--eval-lang", *(other for other in args.others if other != lang)]
    subprocess.run([sys.executable, "evaluate.py", *names, *evaluation], cwd=ROOT, check=True)
    shutil.rmtree(run.models)


def found(run: Run, langs: list[str]) -> dict[str, float]:
    """Return what the table has of a run."""
    record = json.loads((run.outputs / "run.json").read_text(encoding="utf-8"))
    scores = [json.loads(run.scores(lang).read_text(encoding="utf-8"))["metrics"] for lang in langs]
    return {
        "accuracy": statistics.mean(score["micro_f1"] for score in scores),
        "macro_f1": statistics.mean(score["macro_f1"] for score in scores),
        "in_language": record["validation"]["micro_f1"],
        "seconds": record["seconds"],
        "memory": record["peak_memory_bytes"] / 1e9,
    }


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Return a line per candidate: means over training languages and seeds, and the differences to the first."""
    between = f"{' difference (95 %)':23}"
    lines = [f"{'candidate':22} accuracy {between} macro-F1 {between} in-language  seconds   GB"]
    first = next(iter(rows.values()))
    for name, trainings in rows.items():
        mean = {key: statistics.mean(training[key] for training in trainings) for key in trainings[0]}
        scores = (f"{mean[key]:8.3f}  {difference(trainings, first, key):22}" for key in ("accuracy", "macro_f1"))
        lines.append(
            f"{name:22} {' '.join(scores)} {mean['in_language']:11.3f} {mean['seconds']:8.0f} {mean['memory']:4.1f}"
        )
    return "\n".join(lines)


def difference(trainings: list[dict[str, float]], first: list[dict[str, float]], key: str) -> str:
    """Return the mean difference of a score over pairs of trainings, with its interval; "" of one pair, or of none."""
    if trainings is first or len(first) < 2:
        return ""
    differences = np.array([a[key] - b[key] for a, b in zip(trainings, first, strict=True)])
    half = t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / len(differences) ** 0.5
    return f"{differences.mean():+.3f} ({differences.mean() - half:+.3f} {differences.mean() + half:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways of fine-tuning by languages they never saw.")
    parser.add_argument("--checkpoint", required=True, help="a folder or Hub id")
    parser.add_argument("--corpus", type=lambda name: Path(name).absolute(), required=True)
    parser.add_argument("--langs", nargs="+", default=["sv", "fi", "fr", "tr"], help="trained on, one at a time")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES), metavar="NAME")
    parser.add_argument("--texts", type=int, default=200, help="of each judging language, at most (default: 200)")
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:end])
    args.rest = sys.argv[end + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        args.judges = judges(args.corpus, args.texts, Path(folder) / "judges")
        args.others = corpus_load.list_languages(args.judges, "test")
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in args.candidates}
        for seed in args.seeds:
            for lang in args.langs:
                others = [other for other in args.others if other != lang]
                for name in args.candidates:
                    run = run_paths(name, [lang], f"recipe/seed{seed}")
                    if not all(run.scores(other).is_file() for other in others):
                        train_and_judge(args, run, lang, seed, CANDIDATES[name])
                    rows[name].append(found(run, others))
                print(f"seed {seed}, {lang}\n{table(rows)}", flush=True)


if __name__ == "__main__":
    main()
