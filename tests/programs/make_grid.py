"""Write the results of a full grid with random predictions, to try and time post_eval.py on.

    python tests/programs/make_grid.py FOLDER                                     42 runs x 19 languages
    python tests/programs/make_grid.py FOLDER --trainings 200 --languages 20      600 runs x 20 languages

Writes the files of each model, list of training languages and evaluation language, as finetune.py and evaluate.py
write them, to FOLDER/MODEL-LANGS/. No model is trained; a file says so: made.txt.
"""

import argparse
import csv
import hashlib
import io
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[above]) for above in (1, 2)]

from utils import metrics, runs

REGISTERS = ["IN", "OP", "RN", "JN", "HI", "LY", "ND", "AD"]
MODELS = ["mbert", "xlmr", "glot500"]
MIXES = ["en", "fi", "fr", "sv", "en-fi", "en-fr", "en-sv", "fi-fr", "fi-sv", "fr-sv", "id", "ru", "tr", "de"]
LANGS = [
    *("al", "ar", "ca", "de", "en", "es", "fa", "fi", "fr", "hi"),
    *("id", "jp", "no", "pt", "ru", "sv", "tr", "ur", "zh"),
]
MORE_LANGS = ["it", "pl", "cs", "vi", "el"]


def make_run(folder: Path, model: str, mix: str, langs: list[str], n_texts: int, rng: np.random.Generator) -> None:
    """Write one run with random predictions, right with a probability of 0.5 to 0.9 by language."""
    train = {lang: dict.fromkeys(REGISTERS, 0) for lang in mix.split("-")}
    for counts in train.values():
        counts.update(zip(REGISTERS, rng.integers(20, 400, len(REGISTERS)).tolist(), strict=True))
    for lang in langs:
        make_evaluation(folder, model, mix, lang, n_texts, rng)
    write_record(folder, model, mix, train)


def make_evaluation(folder: Path, model: str, mix: str, lang: str, n_texts: int, rng: np.random.Generator) -> None:
    shares = np.random.default_rng(LANGS.index(lang) if lang in LANGS else 99).dirichlet(np.ones(len(REGISTERS)))
    gold = np.random.default_rng(1).choice(len(REGISTERS), n_texts, p=shares)  # the same texts for every run
    logits = rng.normal(size=(n_texts, len(REGISTERS)))
    logits[np.arange(n_texts), gold] += rng.uniform(1.5, 3)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = {"model_name": model, "train_langs": mix.split("-"), "eval_lang": lang}
    write_evaluation(folder, lang, gold, probabilities, REGISTERS, **names)


def write_record(folder: Path, model: str, mix: str, train: dict[str, dict[str, int]], **values: Any) -> None:
    """Write run.json; train: language -> register -> number of training texts; values: what is otherwise."""
    corpus = {"path": "", "train": train, "files": {}, "languages": {}, "several_registers": []}
    record = {"model_name": model, "train_langs": mix.split("-"), "start_langs": [], "subfolder": "", "epochs": 5}
    record |= {"settings": {"seed": 1, "max_length": 512}, "best_epoch": 3, "weights_sha256": weights_of(folder)}
    record |= {"corpus": corpus | values.pop("corpus", {})}
    runs.write_json(folder / "run.json", record | values)


def write_evaluation(
    folder: Path, lang: str, gold: np.ndarray, probabilities: np.ndarray, registers: list[str], **signature: Any
) -> None:
    """Write eval/LANG.json and predictions/LANG.tsv of a model with these answers; gold: label ids."""
    predicted = probabilities.argmax(axis=1)
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t", lineterminator="\n")
    writer.writerow(["row", "gold", "predicted", *registers])
    for row, (g, p, values) in enumerate(zip(gold, predicted, probabilities, strict=True), start=1):
        writer.writerow([row, registers[g], registers[p], *(f"{value:.6f}" for value in values)])
    run = runs.Run(folder.name, folder, folder)
    runs.write_text(run.predictions(lang), table.getvalue())
    counts = metrics.count_confusions(gold, predicted, len(registers))
    scores = {
        "eval_lang": lang, "language": "", "n": len(gold), "metrics": metrics.all_metrics(counts),
        "registers": registers, "counts": counts.tolist(), "several_registers": [], "over_max_length": 0.0,
        "predictions_sha256": runs.sha256_of(run.predictions(lang)),
        "signature": {"weights_sha256": weights_of(folder), "test_sha256": f"made-{lang}", "max_length": 512}
        | signature,
    }  # fmt: skip
    runs.write_json(run.scores(lang), scores)


def weights_of(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--texts", type=int, default=400, help="of each evaluation language (default: 400)")
    parser.add_argument("--trainings", type=int, default=len(MIXES), help="of each model, at most 1159 (default: 14)")
    parser.add_argument("--languages", type=int, default=len(LANGS), help="to evaluate on, at most 24 (default: 19)")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    langs = [*LANGS, *MORE_LANGS][: args.languages]
    # the usual ones first, then one language, two or three of all
    several = ("-".join(names) for size in (1, 2, 3) for names in itertools.combinations(LANGS, size))
    mixes = list(dict.fromkeys([*MIXES, *several]))[: args.trainings]
    for model in MODELS[: args.models]:
        for mix in mixes:
            make_run(args.folder / f"{model}-{mix}", model, mix, langs, args.texts, rng)
    runs.write_text(args.folder / "made.txt", "Made by tests/programs/make_grid.py: random predictions, no model.\n")


if __name__ == "__main__":
    main()
