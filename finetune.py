"""Fine-tune a multilingual encoder as a register classifier, on the registers of one or several languages.

    python finetune.py --model-name xlmr --train-langs en fr
    torchrun --standalone --nproc_per_node=2 finetune.py --model-name xlmr --train-langs en fr

Reads   CORPUS/info/reg_abbv.json, CORPUS/corpus/train/LANG.tsv of the training languages, and all of
        CORPUS/corpus/test/, to keep texts of the test files out of training
        models/pretrained/…           the pretrained model; downloaded first if it is not there
Writes  models/[SUBFOLDER/]MODEL-LANGS/   the model of the best epoch: weights, tokenizer, register names, card
        outputs/[SUBFOLDER/]MODEL-LANGS/  train.json, one record per epoch, and, when all is done, run.json
Exit    0 trained, or trained before; 1 unusable corpus, checkpoint or run; 2 wrong use; 128 + N ended by signal N
        (SIGINT 130, SIGUSR2 140, SIGTERM 143): the same command resumes from the last checkpoint, and ends with the
        same weights as without the interruption
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # Python does not if PYTHONSAFEPATH is set

if __name__ == "__main__":  # before any package is imported
    from utils import environment

    environment.prepare()

import argparse
import datetime
import importlib
import logging
import math
import os
import platform
import resource
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from utils import corpus_load, download_model, environment, metrics, ngrams, options, runs
from utils.runs import Run

if TYPE_CHECKING:
    import pandas as pd

TEXTS_SHOWN, FEWEST_EPOCHS, MOST_EPOCHS = 7_800, 3, 40  # of the default number of epochs
HEAD_RATE = 5e-4  # the highest default rate of the head, unless the learning rate itself is higher
# arguments that do not decide the weights; run.json has the number of threads as part of the device
NOT_SETTINGS = ("subfolder", "overwrite", "corpus_path", "cpu", "threads")
PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "numpy", "scikit-learn")
PACKAGES_OF_NGRAMS = ("numpy", "scipy", "scikit-learn")

log = logging.getLogger("finetune")


def parse_args(argv: list[str] | None) -> tuple[argparse.Namespace, Run]:
    checkpoints, models = download_model.known_checkpoints(), download_model.known_models()
    parser = options.new_parser(
        "Fine-tune a multilingual encoder as a register classifier.",
        "python finetune.py --model-name xlmr --train-langs en fr",
    )
    options.add_run_arguments(parser, models)
    # fmt: off
    parser.add_argument("--checkpoint", type=options.filled, metavar="DIR|ID",
        help="a folder or Hub id to start from, instead of the one in utils/model2chckpt.json")
    parser.add_argument("--overwrite", action="store_true",
        help="train again, and remove the earlier model and its evaluations")
    data = parser.add_argument_group("data")
    options.add_corpus_argument(data, corpus_load.CORPUS_PATH)
    amount = data.add_mutually_exclusive_group()
    amount.add_argument("--texts", type=options.positive_int, metavar="N",
        help="take N texts of each language, validation included; with the same seed, the texts of a small N are "
        "among those of a larger N")
    amount.add_argument("--all-texts", action="store_true",
        help="with several languages, take all texts of each (default: the same number, that of the smallest)")
    data.add_argument("--validation-size", type=options.share, default=0.2, metavar="SHARE",
        help="share of the training texts held out to choose the best epoch (default: %(default)s)")
    data.add_argument("--max-length", type=options.positive_int, default=512, metavar="N",
        help="tokens read of each text, from its beginning (default: %(default)s)")
    optimisation = parser.add_argument_group("optimisation")
    optimisation.add_argument("--num-epochs", type=options.positive_int, metavar="N",
        help=f"passes over the training texts (default: enough to show the model {TEXTS_SHOWN:,} texts, from "
        f"{FEWEST_EPOCHS} to {MOST_EPOCHS})")
    optimisation.add_argument("--patience", type=options.natural, default=0, metavar="TEXTS",
        help="stop if the validation loss has not fallen while the model learnt from so many texts, counted from the "
        "end of the warm-up at the earliest; 0: never stop (default: %(default)s)")
    optimisation.add_argument("--batch-size", type=options.positive_int, default=16, metavar="N",
        help="texts per GPU and step (default: %(default)s)")
    optimisation.add_argument("--gradient-accumulation", type=options.positive_int, default=1, metavar="N",
        help="steps per update: the effective batch is N times larger (default: %(default)s)")
    optimisation.add_argument("--learning-rate", type=options.positive_float, default=1e-4, metavar="RATE",
        help="peak rate of AdamW, after warm-up (default: %(default)s)")
    optimisation.add_argument("--head-rate", type=options.positive_float, metavar="RATE",
        help="peak rate of the classifier's head, which starts from random weights (default: ten times the learning "
        f"rate, but at most {HEAD_RATE}, or the learning rate if that is higher)")
    optimisation.add_argument("--frozen-layers", type=options.share_or_none, default=0.5, metavar="SHARE",
        help="share of the encoder's layers, from the lowest up, that stay as pretrained, together with the "
        "embeddings; 0 trains everything (default: %(default)s)")
    optimisation.add_argument("--warmup", type=options.share_or_none, default=0.1, metavar="SHARE",
        help="share of all updates during which the rate rises; afterwards it falls linearly to 0 (default: "
        "%(default)s)")
    optimisation.add_argument("--balanced", action="store_true",
        help="weigh registers inversely to their number of texts")
    optimisation.add_argument("--seed", type=options.natural, default=42, metavar="N",
        help="decides the split, the first weights, the order of the texts and dropout (default: %(default)s)")
    # fmt: on
    options.add_device_arguments(parser)
    args = options.parse(parser, argv)
    run = options.check_run_arguments(parser, args)
    options.read_languages(parser, args, corpus_load.training_languages(args.corpus_path))
    if not args.checkpoint and args.model_name not in models:
        parser.error(
            f"argument --model-name: there is no model {args.model_name!r}; choose one of "
            f"{', '.join(models)}, or give the --checkpoint that this name stands for"
        )
    if runs.slurm_tasks() > 1 and "LOCAL_RANK" not in os.environ:
        parser.error(
            "Slurm starts several tasks, and each of them would train the whole run; use one task, and "
            "srun torchrun --standalone --nproc_per_node=N finetune.py … for N GPUs"
        )
    if args.model_name == ngrams.NAME:
        args.without_effect = options.given(parser, args, vars(args).keys() - {*ngrams.SETTINGS, *NOT_SETTINGS})
        args.checkpoint = None
        return args, run
    args.checkpoint = args.checkpoint or checkpoints[args.model_name]
    args.head_rate = args.head_rate or max(min(10 * args.learning_rate, HEAD_RATE), args.learning_rate)
    return args, run


def settings_of(args: argparse.Namespace, registers: list[str]) -> dict[str, Any]:
    """Return everything that the trained weights depend on: arguments, start model, corpus files, processes."""
    is_ngrams = args.model_name == ngrams.NAME
    of_ngrams = {name: getattr(args, name) for name in ngrams.SETTINGS} | {"max_length": ngrams.MAX_LENGTH}
    of_encoder = {key: value for key, value in vars(args).items() if key not in NOT_SETTINGS}
    return {
        **(of_ngrams if is_ngrams else of_encoder),
        "start_weights": None if is_ngrams else download_model.start_weights(args.checkpoint),
        "registers": registers,
        **{f"train/{lang}.tsv": corpus_load.hash_file(args.corpus_path, "train", lang) for lang in args.train_langs},
        "processes": 1 if is_ngrams else int(os.environ.get("WORLD_SIZE", 1)),
    }


def load_texts(args: argparse.Namespace, registers: list[str]) -> "tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]":
    """Return training texts, validation texts and the report on them, which is also logged."""
    train, validation, report = corpus_load.load_training_texts(
        args.corpus_path, args.train_langs, registers,
        validation_size=args.validation_size, seed=args.seed, all_texts=args.all_texts, n_texts=args.texts,
    )  # fmt: skip
    for line in corpus_load.report_lines(report, registers):
        log.info("%s", line)
    return train, validation, report


def train_ngrams(args: argparse.Namespace, run: Run, names: dict[str, str], settings: dict[str, Any]) -> int:
    """Train the n-gram baseline, which takes seconds; return the exit code."""
    if int(os.environ.get("RANK", 0)):  # one process does everything
        return 0
    if args.without_effect:
        log.info("%s: options without effect: %s", ngrams.NAME, " ".join(sorted(args.without_effect)))
    began = time.monotonic()
    train, validation, report = load_texts(args, list(names))
    fitted, tried = ngrams.fit(train, validation, list(names), args.balanced)
    runs.start_again(run)
    runs.write_json(run.checkpoints / "started.json", settings)  # while it exists, the model may be incomplete
    ngrams.save(fitted, run.models)
    ngrams.load(run.models)
    facts = {
        **{"start_langs": [], "start_revision": "", "precision": ngrams.PRECISION, "device": ngrams.DEVICE},
        **{"ngrams": {"C": tried[0]["C"], "n_ngrams": len(fitted["ngrams"])}, "epochs": 0, "best_epoch": 0},
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "seconds": round(time.monotonic() - began, 3),
    }
    conclude(args, run, names, settings, report, tried, tried[0], facts, PACKAGES_OF_NGRAMS)
    return 0


def train_run(args: argparse.Namespace, run: Run, names: dict[str, str], settings: dict[str, Any], again: bool) -> int:
    """Train the run, or resume it; return the exit code.

    names: abbreviation -> name of each register. again: an earlier training is removed, but only after everything has
    been checked.
    """
    from accelerate import PartialState  # loads torch, which takes seconds: not for wrong use
    from transformers import set_seed

    from utils import model, training

    registers = list(names)
    model.use_device(args.threads)
    one_after_the_other = PartialState(cpu=args.cpu or not model.torch.cuda.is_available()).main_process_first

    # the texts are read before the model, which may have to be downloaded
    train, validation, report = load_texts(args, registers)
    args.num_epochs = args.num_epochs or min(max(math.ceil(TEXTS_SHOWN / len(train)), FEWEST_EPOCHS), MOST_EPOCHS)

    # load the last checkpoint, or the pretrained model, before anything of an earlier training is removed
    checkpoint = None
    if not again:
        with one_after_the_other():
            checkpoint = training.to_resume(run, report["texts_sha256"], args.precision)
    if checkpoint:
        precision = runs.read_started(run)["precision"]
        if training.is_over(training.load_state(checkpoint), args, len(train)):
            loaded = None
        else:
            loaded = model.load(checkpoint, registers, args.max_length, precision, learns=True)
    else:
        folder = download_model.find_checkpoint(args.checkpoint)
        set_seed(args.seed)  # loading draws the first weights of the head
        loaded = model.load(folder, registers, args.max_length, args.precision, learns=True)
        start = download_model.start_of(folder)
        # if the start model was itself fine-tuned, it has learnt from other languages before
        loaded.model.config.train_langs = list(dict.fromkeys([*start["start_langs"], *args.train_langs]))

    # train, unless only the end of an interrupted training is missing
    if loaded:
        frozen = model.freeze(loaded.model, args.frozen_layers)
        training.check_room(run, loaded.model, args.num_epochs)
        if not checkpoint:
            with one_after_the_other():
                training.begin(run, settings, report["texts_sha256"], loaded.precision, start)
        train_set, validation_set = (
            corpus_load.to_dataset(texts, loaded.tokenizer, args.max_length, registers) for texts in (train, validation)
        )
        longer = 100 * float(train_set["over"][:].float().mean())
        log.info(f"{longer:.1f} % of the training texts have more than {args.max_length} tokens; the rest is not read")
        share = 100 * loaded.model.num_parameters(only_trainable=True) / loaded.model.num_parameters()
        log.info(
            f"training on {model.describe_device()} in {loaded.precision}, at most {args.num_epochs} epochs; "
            f"{frozen}, {share:.0f} % of the weights are trained"
            + (f", resuming from {checkpoint.name}" if checkpoint else "")
        )
        received = training.train(run, loaded, train_set, validation_set, args, checkpoint)
        del loaded  # its memory is needed to check the finished model
        if received is not None:
            log.warning(
                "interrupted: the same command%s resumes from the checkpoint in %s",
                ", without --overwrite," if args.overwrite and not runs.slurm_job() else "",
                runs.shown(run.checkpoints),
            )
            return 128 + received
    if int(os.environ.get("RANK", 0)) == 0:
        finish(args, run, names, settings, report)
    return 0


def finish(
    args: argparse.Namespace, run: Run, names: dict[str, str], settings: dict[str, Any], report: dict[str, Any]
) -> None:
    """Copy the model of the best epoch to its place, and conclude the run.

    Needs only the checkpoints, so it can be repeated after an interruption.
    """
    from utils import model, training

    state = training.load_state(training.newest_checkpoint(run))
    folder = training.best_checkpoint(run, state)
    assert folder and state.best_global_step  # an epoch has been validated
    epochs = training.epoch_records(state)
    best_epoch = state.best_global_step // training.steps_per_epoch(state)
    best = next(entry for entry in epochs if entry["epoch"] == best_epoch)

    for left in run.models.glob(".*.tmp"):  # an interrupted copy; nobody else writes here, since the run is locked
        left.unlink()
    # all files except those of the training itself; a vocabulary may have any name, such as bpe.codes
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".pt", ".pth", ".bin") and path.name not in ("trainer_state.json", "hashes.json"):
            runs.copy_file(path, run.models / path.name)
    # check that the copy can be loaded, before the checkpoints are removed
    model.check_copy(run.models, folder, list(names))
    started = runs.read_started(run)
    facts = {
        "start_langs": started["start_langs"],  # the languages that the start model was fine-tuned on
        "start_revision": started["start_revision"],  # its commit on the Hub
        "precision": started["precision"],
        "optimiser": training.OPTIMISER,
        "pretrained": not runs.read_record(run.models / "config.json", {}, "").get("random_weights"),
        "epochs": epochs[-1]["epoch"],
        "best_epoch": best_epoch,
        "device": started["devices"][-1],
        "devices": started["devices"],  # several if it was interrupted
        "peak_memory_bytes": model.peak_memory(),
        "seconds": round(sum(r["seconds"] + r["validation_seconds"] for r in epochs), 3),
    }
    settings = settings | {"start_weights": started["settings"]["start_weights"]}
    conclude(args, run, names, settings, report, epochs, best, facts, PACKAGES)


def conclude(
    args: argparse.Namespace, run: Run, names: dict[str, str], settings: dict[str, Any], report: dict[str, Any],
    tried: list[dict[str, Any]], best: dict[str, Any], facts: dict[str, Any], packages: tuple[str, ...],
) -> None:  # fmt: skip
    """Write card, train.json and, last, run.json, for a model that is in its place.

    tried: the records of train.json; best: the record of the model that was kept. facts: the part of run.json that
    depends on the kind of model. packages: those whose versions are recorded.
    """
    from utils import results
    from utils.model_card import model_card

    runs.write_text(run.models / "README.md", model_card(args, run, names, report, best, facts))
    runs.write_json(run.outputs / "train.json", tried)
    model_files = runs.describe_model(run.models)
    versions = {
        package: str(importlib.import_module(package.replace("scikit-learn", "sklearn")).__version__)
        for package in packages  # the versions that really run
    }
    record = {
        "model_name": args.model_name,
        "train_langs": args.train_langs,
        "subfolder": args.subfolder,
        "settings": settings,
        **facts,
        "corpus": {"path": str(args.corpus_path), **report},
        "validation": best["validation"],
        "beats_largest_register": metrics.beats_largest_register(np.array(best["validation"]["confusion"])),
        "weights_sha256": model_files["model.safetensors"]["sha256"],
        "model_files": model_files,
        "commit": runs.code_version(),
        "versions": {"python": platform.python_version()} | versions,
        "slurm_job": runs.slurm_job(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    runs.write_json(run.outputs / "run.json", record)
    runs.remove_folder(run.checkpoints)
    scores = "  ".join(f"{name} {best['validation'][name]:.3f}" for name in ("loss", "micro_f1", "macro_f1"))
    kept = f"best epoch {facts['best_epoch']} of {facts['epochs']}" if facts["epochs"] else f"best C {best['C']:g}"
    log.info(f"{kept}, validation {scores}; model in {runs.shown(run.models)}, record in {runs.shown(run.outputs)}")
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
        log.info("next: write texts for evaluation into %s/corpus/test/LANG.tsv", args.corpus_path)


def main(argv: list[str] | None = None) -> int:
    args, run = parse_args(argv)
    environment.let_options_decide(args.cpu)
    args.corpus_path = corpus_load.find_corpus(args.corpus_path)
    names = corpus_load.load_registers(args.corpus_path)
    settings = settings_of(args, list(names))
    again = args.overwrite and not runs.started_by_this_job(run)
    if args.model_name == ngrams.NAME and (again or not runs.is_finished(run, settings)):
        with runs.lock(run):
            if again or not runs.is_finished(run, settings):
                return train_ngrams(args, run, names, settings)
    elif again or not runs.is_finished(run, settings):
        from utils.model import shortage_explained, tokens_at_once

        half, twice = args.batch_size // 2, 2 * args.gradient_accumulation
        while half % 2 == 0 and half * args.max_length >= tokens_at_once():  # larger batches are computed in parts
            half, twice = half // 2, 2 * twice
        remedy = f"--max-length {args.max_length // 2} --overwrite needs less, but is another training"
        if args.batch_size % 2 == 0:
            remedy = f"--batch-size {half} --gradient-accumulation {twice} needs less, for the same training"
        with runs.lock(run), shortage_explained(remedy):
            if again or not runs.is_finished(run, settings):
                return train_run(args, run, names, settings, again)
    runs.remove_folder(run.checkpoints)  # left by an interruption at the very end
    log.info("%s: is already trained, nothing to do (--overwrite trains it again)", runs.shown(run.outputs))
    return 0


if __name__ == "__main__":
    runs.run_script(main)
