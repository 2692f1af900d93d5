"""Fine-tune a multilingual encoder as a register classifier, on the registers of one or several languages.

    python finetune.py --model-name xlmr --train-langs en fr
    torchrun --standalone --nproc_per_node=2 finetune.py --model-name xlmr --train-langs en fr

Reads   CORPUS/info/reg_abbv.json, CORPUS/corpus/train/LANG.tsv of the training languages, and all of
        CORPUS/corpus/test/, to keep texts of the test files out of training
        models/pretrained/…           the pretrained model; fetched first if it is not there
Writes  models/[SUBFOLDER/]MODEL-LANGS/   the model of the best epoch: weights, tokenizer, register names, card
        outputs/[SUBFOLDER/]MODEL-LANGS/  train.json, one record per epoch, and, when all is done, run.json
Exit    0 trained, or trained before; 1 unusable corpus, checkpoint or run; 2 wrong use;
        128 + N interrupted by signal N (SIGINT 130, SIGUSR2 140, SIGTERM 143), with a checkpoint:
        the same command goes on from there and ends with the same weights as if it had not been interrupted
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # Python leaves it out where PYTHONSAFEPATH is set

if __name__ == "__main__":  # first: a signal during the imports below is answered too
    from utils.files import stop

    stop.end_on_signals()

import argparse
import datetime
import importlib
import logging
import math
import os
import platform
from typing import TYPE_CHECKING, Any

import numpy as np

from utils import corpus_load, download_model, metrics, options, runs
from utils.encoder import environment, memory
from utils.files import lock, records
from utils.runs import Run

if TYPE_CHECKING:  # they take long to load
    from datasets import Dataset

    from utils.encoder.classifier import Classifier

TEXTS_SHOWN, FEWEST_EPOCHS, MOST_EPOCHS = 7_800, 3, 40  # of the default number of epochs
HEAD_RATE = 5e-4  # the most that the classifier's head learns at, unless the learning rate itself is higher
PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "numpy", "scikit-learn")

log = logging.getLogger("finetune")


# fmt: off
START = [  # option, type, default, metavar, help: see options.add_rows
    ("--checkpoint", options.filled, None, "DIR|ID",
     "a folder or Hub id to start from, instead of the one that utils/model2chckpt.json has for the model's name"),
    ("--overwrite", None, None, None, "start anew: remove what this run has, evaluations included"),
]
DATA = [
    ("--all-texts", None, None, None,
     "with several languages, take all texts of each (default: as many of each as the smallest has)"),
    ("--validation-size", options.share, 0.2, "SHARE",
     "share of the training texts held out to choose the best epoch"),
    ("--max-length", options.positive_int, 512, "N", "tokens of a text that are used, from its beginning"),
]
OPTIMISATION = [
    ("--num-epochs", options.positive_int, None, "N",
     f"passes over the training texts (default: as many as show the model {TEXTS_SHOWN:,} texts, from {FEWEST_EPOCHS} "
     f"to {MOST_EPOCHS})"),
    ("--patience", options.natural, 0, "TEXTS",
     "stop when the validation loss has not fallen while the model learnt from this many texts, counted from the end "
     "of the warm-up at the earliest; 0: never"),
    ("--batch-size", options.positive_int, 16, "N", "texts per GPU and step"),
    ("--gradient-accumulation", options.positive_int, 1, "N",
     "steps whose texts make one update: the effective batch is N times larger"),
    ("--learning-rate", options.positive_float, 1e-4, "RATE", "peak rate of AdamW, after warm-up"),
    ("--head-rate", options.positive_float, None, "RATE",
     "peak rate of the classifier's head, which is drawn at random (default: ten times the learning rate, but at most "
     f"{HEAD_RATE}, or the learning rate where that is higher)"),
    ("--frozen-layers", options.share_or_none, 0.5, "SHARE",
     "share of the encoder's layers, the lowest ones, that stay as pretrained, the embeddings with them; 0 trains "
     "everything"),
    ("--warmup", options.share_or_none, 0.1, "SHARE",
     "share of all updates over which the rate rises; then it falls to 0 in a straight line"),
    ("--balanced", None, None, None, "weigh registers inversely to their number of texts"),
    ("--seed", options.natural, 42, "N", "decides split, first weights, order and dropout"),
]
# fmt: on


def parse_args(argv: list[str] | None) -> tuple[argparse.Namespace, Run]:
    checkpoints = download_model.known_checkpoints()
    parser = options.new_parser(
        "Fine-tune a multilingual encoder as a register classifier.",
        "python finetune.py --model-name xlmr --train-langs en fr",
    )
    options.add_run_arguments(parser, list(checkpoints))
    options.add_rows(parser, START)
    data, optimisation = parser.add_argument_group("data"), parser.add_argument_group("optimisation")
    options.add_corpus_argument(data, corpus_load.CORPUS_PATH)
    options.add_rows(data, DATA)
    options.add_rows(optimisation, OPTIMISATION)
    options.add_precision_argument(optimisation)
    options.add_cpu_argument(optimisation)
    options.add_threads_argument(optimisation)
    args = options.parse(parser, argv)
    run = options.check_run_arguments(parser, args)
    options.read_languages(parser, args, corpus_load.training_languages(args.corpus_path))
    if not args.checkpoint and args.model_name not in checkpoints:
        parser.error(
            f"argument --model-name: expected one of {', '.join(checkpoints)}, or a --checkpoint for "
            f"this new name; found {args.model_name!r}"
        )
    if runs.slurm_tasks() > 1 and "LOCAL_RANK" not in os.environ:
        parser.error(
            "Slurm starts several tasks, and each would train the whole run: use one task, and "
            "srun torchrun --standalone --nproc_per_node=N finetune.py … for N GPUs"
        )
    args.checkpoint = args.checkpoint or checkpoints[args.model_name]
    args.head_rate = args.head_rate or max(min(10 * args.learning_rate, HEAD_RATE), args.learning_rate)
    return args, run


def train_run(args: argparse.Namespace, run: Run, names: dict[str, str], settings: dict[str, Any], anew: bool) -> int:
    """Train the run, or what is left of it; return the exit code.

    names: those of the registers, by abbreviation. anew: what the run has is removed, once nothing can be refused any
    more.
    """
    from utils.encoder import classifier, device, layers
    from utils.training import checkpoints

    registers = list(names)
    environment.use_threads(args)
    device.check_device()
    device.keep_freed_memory()
    # the texts come before the model, which may have to be fetched
    train, validation, report = corpus_load.load_training_texts(
        args.corpus_path, args.train_langs, registers,
        validation_size=args.validation_size, seed=args.seed, all_texts=args.all_texts,
    )  # fmt: skip
    for line in corpus_load.report_lines(report, registers):
        log.info("%s", line)
    args.num_epochs = args.num_epochs or default_epochs(len(train))

    checkpoint, loaded, received = None, None, None
    if not anew:
        with device.main_process_first():
            checkpoint = checkpoints.to_resume(run, report["texts_sha256"], args.precision)
    if checkpoint is None:
        loaded, start = load_start(args, registers)
        checkpoints.check_room(run, loaded.model, args.num_epochs)
        with device.main_process_first():
            checkpoints.begin(run, settings, report["texts_sha256"], loaded.precision, start)
    elif not checkpoints.is_over(checkpoints.load_state(checkpoint), args, len(train)):
        model, tokenizer = classifier.load_classifier(checkpoint, registers), classifier.load_tokenizer(checkpoint)
        loaded = classifier.Classifier(model, tokenizer, records.read_started(run)["precision"])
        layers.freeze(model, args.frozen_layers)
        checkpoints.check_room(run, model, args.num_epochs)
    if loaded:
        tokens = [corpus_load.to_dataset(p, loaded.tokenizer, args.max_length, registers) for p in (train, validation)]
        received = learn(args, run, loaded, tokens, checkpoint)
        loaded = None  # its memory is needed again, to try the finished model
    if received is not None:
        log.warning(
            "interrupted: the same command%s goes on from the checkpoint in %s",
            ", without --overwrite," if args.overwrite and not runs.slurm_job() else "",
            runs.shown(run.checkpoints),
        )
        return 128 + received
    if int(os.environ.get("RANK", 0)) == 0:
        finish(args, run, names, settings, report)
    return 0


def learn(
    args: argparse.Namespace,
    run: Run,
    loaded: "Classifier",
    tokens: "list[Dataset]",
    checkpoint: Path | None,
) -> int | None:
    """Train the loaded model on the tokens of training and validation texts.

    Returns the signal that ended it, or None if the training is over.
    """
    from utils.encoder import classifier, device, layers
    from utils.training import checkpoints, trainer

    model = loaded.model
    n_frozen = layers.freeze(model, args.frozen_layers)
    train_set, validation_set = tokens
    over = 100 * float(train_set["over"][:].float().mean())
    log.info(
        f"{over:.1f} % of the training texts have more than {args.max_length} tokens; the rest of them is not used"
    )
    trained = 100 * model.num_parameters(only_trainable=True) / model.num_parameters()
    log.info(
        f"training on {device.describe_device()} in {loaded.precision}, at most {args.num_epochs} epochs; "
        f"{trained:.0f} % of the weights are trained, {n_frozen} layers are frozen"
        + (f", going on from {checkpoint.name}" if checkpoint else "")
    )
    at_once = classifier.evaluation_batch_size(args.max_length)
    with memory.explained(*memory.training(args, at_once)), checkpoints.disk_faults_named(run, model):
        return trainer.train(run, loaded, train_set, validation_set, args, checkpoint)


def default_epochs(n_texts: int) -> int:
    """Return how many passes over so many training texts are usual."""
    return min(max(math.ceil(TEXTS_SHOWN / n_texts), FEWEST_EPOCHS), MOST_EPOCHS)


def load_start(args: argparse.Namespace, registers: list[str]) -> "tuple[Classifier, dict[str, Any]]":
    """Return the classifier to train, proven, with its first weights, and what run.json tells of its start."""
    from transformers import set_seed

    from utils.encoder import layers, proof

    folder = download_model.find_checkpoint(args.checkpoint)
    set_seed(args.seed)  # the classifier's first weights are drawn as the model is loaded
    loaded = proof.load_proven(folder, registers, args.max_length, args.precision)
    layers.freeze(loaded.model, args.frozen_layers)
    start = download_model.start_of(folder)
    # a model that is trained further has learnt from the languages of both trainings
    loaded.model.config.train_langs = list(dict.fromkeys([*start["start_langs"], *args.train_langs]))
    return loaded, start


def finish(
    args: argparse.Namespace, run: Run, names: dict[str, str], settings: dict[str, Any], report: dict[str, Any]
) -> None:
    """Put the best epoch's model into place and write run.json, which says that the run is finished.

    Needs nothing but the checkpoints, so that it can be done again after an interruption.
    """
    from utils import results
    from utils.encoder import classifier, device, layers
    from utils.training import checkpoints, model_card, trainer

    state = checkpoints.load_state(checkpoints.newest_checkpoint(run))
    folder = checkpoints.best_checkpoint(run, state)
    assert folder and state.best_global_step  # an epoch has been validated
    epochs = checkpoints.epoch_records(state)
    best_epoch = state.best_global_step // checkpoints.steps_per_epoch(state)
    best = next(entry for entry in epochs if entry["epoch"] == best_epoch)
    # all but the training's own files, which are pickled mostly: a vocabulary may have any name, as bpe.codes
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".pt", ".pth", ".bin") and path.name not in ("trainer_state.json", "hashes.json"):
            runs.copy_file(path, run.models / path.name)
    started = records.read_started(run)
    start = {key: started.get(key, empty) for key, empty in (("start_langs", []), ("start_revision", ""))}
    card = model_card.model_card(args, run, names, report, best, epochs[-1]["epoch"], start["start_langs"])
    runs.write_text(run.models / "README.md", card)
    runs.write_json(run.outputs / "train.json", epochs)
    model_files = records.describe_model(run.models)
    record = {
        "model_name": args.model_name,
        "train_langs": args.train_langs,
        "subfolder": args.subfolder,
        "settings": settings | {"start_weights": started["settings"].get("start_weights")},
        **start,  # the languages that the start model was trained on, and its commit on the Hub
        "precision": started["precision"],
        "optimiser": trainer.OPTIMISER,
        "pretrained": layers.is_pretrained(run.models),  # else no layer was frozen
        "corpus": {"path": str(args.corpus_path), **report},
        "epochs": epochs[-1]["epoch"],
        "best_epoch": best["epoch"],
        "validation": best["validation"],
        "beats_largest_register": metrics.beats_largest_register(np.array(best["validation"]["confusion"])),
        "weights_sha256": model_files["model.safetensors"]["sha256"],
        "model_files": model_files,
        "commit": runs.code_version(),
        "versions": {"python": platform.python_version()} | {package: version_of(package) for package in PACKAGES},
        "device": started["devices"][-1],
        "devices": started["devices"],  # more than one where it was interrupted
        "slurm_job": runs.slurm_job(),
        "peak_memory_bytes": device.peak_memory(),
        "seconds": round(sum(r["seconds"] + r["validation_seconds"] for r in epochs), 3),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    # the model must load from its own folder, before what it was made from is removed
    classifier.check_copy(run.models, folder, list(names))
    runs.write_json(run.outputs / "run.json", record)
    runs.remove_folder(run.checkpoints)
    scores = "  ".join(f"{name} {best['validation'][name]:.3f}" for name in ("loss", "micro_f1", "macro_f1"))
    log.info(
        f"best epoch {best_epoch} of {record['epochs']}, validation {scores}; "
        f"model in {runs.shown(run.models)}, record in {runs.shown(run.outputs)}"
    )
    if not record["beats_largest_register"]:
        log.warning("%s", metrics.NOTHING_LEARNT)
    test_langs = [
        lang
        for lang in corpus_load.list_languages(args.corpus_path, "test")
        if f"test/{lang}.tsv" in report["files"] and options.LANGUAGE.fullmatch(lang)
    ]
    if test_langs:
        log.info("next: %s", results.evaluate_command(record, test_langs))
    else:
        log.info("next: put texts to evaluate on into %s/corpus/test/LANG.tsv", args.corpus_path)


def version_of(package: str) -> str:
    """Return the version of a package as it runs here, which may not be the one that was installed."""
    return str(importlib.import_module(package.replace("scikit-learn", "sklearn")).__version__)


def main(argv: list[str] | None = None) -> int:
    args, run = parse_args(argv)
    runs.choose_gpu(args.cpu)
    environment.leave_out()
    args.corpus_path = corpus_load.find_corpus(args.corpus_path)
    registers = corpus_load.load_registers(args.corpus_path)
    settings = records.run_settings(args, args.corpus_path, list(registers))
    anew = args.overwrite and not records.begun_by_this_job(run)
    if not anew and (run.outputs / "run.json").is_file():
        with lock.hold(run, "looked at", shared=True):  # it may be evaluated meanwhile
            if records.is_finished(run, settings):
                return nothing_to_do(run)
    with lock.hold(run, "trained"), memory.explained(*memory.LOADING):
        if not anew and records.is_finished(run, settings):
            return nothing_to_do(run)
        return train_run(args, run, registers, settings, anew)


def nothing_to_do(run: Run) -> int:
    runs.remove_folder(run.checkpoints)  # left if the run was interrupted just then
    log.info("%s: trained already, nothing to do (--overwrite trains anew)", runs.shown(run.outputs))
    return 0


if __name__ == "__main__":
    runs.run_script(main)
