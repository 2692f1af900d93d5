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

if __name__ == "__main__":  # first: a signal during the imports below is answered too
    from utils.files import stop

    stop.end_on_signals()

import argparse
import datetime
import logging
import math
import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from utils import corpus_load, download_model, metrics, options, runs
from utils.encoder import environment, memory
from utils.files import lock, records
from utils.runs import Run
from utils.scores import results

TEXTS_SHOWN, FEWEST_EPOCHS, MOST_EPOCHS = 7_800, 3, 40  # of the default number of epochs
HEAD_RATE = 5e-4  # the most that the classifier's head learns at, unless the learning rate itself is higher
PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "numpy")

log = logging.getLogger("finetune")


def parse_args(argv: list[str] | None) -> tuple[argparse.Namespace, Run]:
    checkpoints = download_model.known_checkpoints()
    parser = options.new_parser(
        "Fine-tune a multilingual encoder as a register classifier.",
        "python finetune.py --model-name xlmr --train-langs en fr",
    )
    options.add_run_arguments(parser, list(checkpoints))
    parser.add_argument(
        "--checkpoint",
        type=options.filled,
        metavar="DIR|ID",
        help="a folder or Hub id to start from, instead of the "
        "one that utils/model2chckpt.json has for the model's name",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="start anew: remove what this run has, evaluations included"
    )

    data = parser.add_argument_group("data")
    options.add_corpus_argument(data, corpus_load.CORPUS_PATH)
    data.add_argument(
        "--all-texts",
        action="store_true",
        help="with several languages, take all texts of each (default: as many of each as the smallest has)",
    )
    data.add_argument(
        "--validation-size",
        type=options.share,
        default=0.2,
        metavar="SHARE",
        help="share of the training texts held out to choose the best epoch (default: %(default)s)",
    )
    data.add_argument(
        "--max-length",
        type=options.positive_int,
        default=512,
        metavar="N",
        help="tokens of a text that are used, from its beginning (default: %(default)s)",
    )

    optimisation = parser.add_argument_group("optimisation")
    optimisation.add_argument(
        "--num-epochs",
        type=options.positive_int,
        metavar="N",
        help=f"passes over the training texts (default: as many as show the model {TEXTS_SHOWN:,} texts, from "
        f"{FEWEST_EPOCHS} to {MOST_EPOCHS})",
    )
    optimisation.add_argument(
        "--patience",
        type=options.natural,
        default=0,
        metavar="TEXTS",
        help="stop when the validation loss has not fallen while the model learnt from this many texts, counted from "
        "the end of the warm-up at the earliest; 0: never (default: %(default)s)",
    )
    optimisation.add_argument(
        "--batch-size",
        type=options.positive_int,
        default=16,
        metavar="N",
        help="texts per GPU and step (default: %(default)s)",
    )
    optimisation.add_argument(
        "--gradient-accumulation",
        type=options.positive_int,
        default=1,
        metavar="N",
        help="steps whose texts make one update: the effective batch is N times larger (default: %(default)s)",
    )
    optimisation.add_argument(
        "--learning-rate",
        type=options.positive_float,
        default=1e-4,
        metavar="RATE",
        help="peak rate of AdamW, after warm-up (default: %(default)s)",
    )
    optimisation.add_argument(
        "--head-rate",
        type=options.positive_float,
        metavar="RATE",
        help="peak rate of the classifier's head, which is drawn at random (default: ten times the learning rate, but "
        f"at most {HEAD_RATE}, or the learning rate where that is higher)",
    )
    optimisation.add_argument(
        "--frozen-layers",
        type=options.share_or_none,
        default=0.5,
        metavar="SHARE",
        help="share of the encoder's layers, the lowest ones, that stay as pretrained, the embeddings with them; "
        "0 trains everything (default: %(default)s)",
    )
    optimisation.add_argument(
        "--warmup",
        type=options.share_or_none,
        default=0.1,
        metavar="SHARE",
        help="share of all updates over which "
        "the rate rises; then it falls to 0 in a straight line (default: %(default)s)",
    )
    optimisation.add_argument(
        "--balanced", action="store_true", help="weigh registers inversely to their number of texts"
    )
    optimisation.add_argument(
        "--seed",
        type=options.natural,
        default=42,
        metavar="N",
        help="decides split, first weights, order and dropout (default: %(default)s)",
    )
    options.add_precision_argument(optimisation)
    options.add_cpu_argument(optimisation)
    options.add_threads_argument(optimisation)

    args = options.parse(parser, argv)
    run = options.check_run_arguments(parser, args)
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


# ---- the work ----


def train_run(args: argparse.Namespace, run: Run, corpus: Path, names: dict[str, str], settings: dict) -> int:
    """Train the run, or what is left of it; return the exit code. names: those of the registers, by abbreviation."""
    from utils.encoder import classifier, layers, tokens
    from utils.training import checkpoints, trainer

    registers, precision = list(names), args.precision
    environment.use_threads(args)
    classifier.check_device()
    classifier.keep_freed_memory()
    begun = any(run.checkpoints.glob("checkpoint-*"))
    if not begun:  # a model of no use is told before the first text is read
        model, tokenizer, precision = load_proven(args, registers, precision)
    texts = corpus_load.load_training_texts(
        corpus,
        args.train_langs,
        registers,
        validation_size=args.validation_size,
        seed=args.seed,
        all_texts=args.all_texts,
    )
    corpus_load.log_audit(texts.report, registers)

    with classifier.main_process_first():
        checkpoint, precision = resume(run, settings, texts.report["texts_sha256"], precision)
    if checkpoint is None or not checkpoints.is_over(checkpoints.load_state(checkpoint), args, len(texts.train)):
        if checkpoint:
            model, tokenizer = classifier.load_classifier(checkpoint, registers), classifier.load_tokenizer(checkpoint)
        elif begun:  # and nothing that is whole is left of it
            model, tokenizer, precision = load_proven(args, registers, precision)
        num_epochs = args.num_epochs or default_epochs(len(texts.train))
        n_frozen = layers.freeze(model, args.frozen_layers)
        checkpoints.check_room(run, model, num_epochs)
        train_set, validation_set = (
            tokens.tokenize(part, tokenizer, args.max_length, registers) for part in (texts.train, texts.validation)
        )
        log.info(
            "%.1f %% of the training texts have more than %d tokens; the rest of them is not used",
            100 * float(train_set["over"][:].float().mean()),
            args.max_length,
        )
        log.info(
            "training on %s in %s, at most %d epochs; %.0f %% of the weights are trained, %d layers are frozen%s",
            classifier.describe_device(),
            precision,
            num_epochs,
            100 * model.num_parameters(only_trainable=True) / model.num_parameters(),
            n_frozen,
            f", going on from {checkpoint.name}" if checkpoint else "",
        )
        at_once = classifier.evaluation_batch_size(args.max_length)
        with (
            memory.explained(*memory.training(args, at_once)),
            checkpoints.disk_faults_named(run, model),
        ):
            received = trainer.train(
                run,
                model,
                tokenizer,
                train_set,
                validation_set,
                args,
                num_epochs=num_epochs,
                precision=precision,
                resume_from=checkpoint,
            )
        if received is not None:
            log.warning(
                "interrupted: the same command%s goes on from the checkpoint in %s",
                ", without --overwrite," if args.overwrite and not records.slurm_job() else "",
                runs.shown(run.checkpoints),
            )
            return 128 + received
    if int(os.environ.get("RANK", 0)) == 0:
        finish(args, run, corpus, names, settings, texts.report, precision)
    return 0


def default_epochs(n_texts: int) -> int:
    """Return how many passes over so many training texts are usual."""
    return min(max(math.ceil(TEXTS_SHOWN / n_texts), FEWEST_EPOCHS), MOST_EPOCHS)


def load_proven(args: argparse.Namespace, registers: list[str], precision: str) -> tuple[Any, Any, str]:
    """Return model and tokenizer to train, proven, with their first weights, and the precision they are proven in."""
    from transformers import set_seed

    from utils.encoder import proof

    set_seed(args.seed)  # the classifier's first weights are drawn as the model is loaded
    source = download_model.find_checkpoint(args.checkpoint)
    return proof.load_proven(source, registers, args.max_length, precision)


def resume(run: Run, settings: dict[str, Any], texts_sha256: str, precision: str) -> tuple[Path | None, str]:
    """Return the checkpoint to go on from, if any, and the precision in which the run was started.

    Makes the run's folders anew if there is nothing to go on from. RunError if what there is was trained on
    other texts.
    """
    from utils.encoder import classifier
    from utils.training import checkpoints

    started_file, device = run.checkpoints / "started.json", classifier.describe_device()
    is_first = int(os.environ.get("RANK", 0)) == 0  # of several processes, which alone writes
    if any(run.checkpoints.glob("checkpoint-*")):
        started = records.read_started(run)
        records.check_same(run, {"training texts": started["texts_sha256"]}, {"training texts": texts_sha256})
        checkpoint = checkpoints.last_checkpoint(run)
        if checkpoint:
            if precision == "auto":
                classifier.check_resumed(started["precision"])
            if device not in started["devices"] and is_first:
                log.warning("begun on %s, goes on on %s: sums are rounded otherwise", started["devices"][-1], device)
                runs.write_json(started_file, started | {"devices": [*started["devices"], device]})
            return checkpoint, started["precision"]
    precision = classifier.choose_precision(precision)
    if is_first:
        records.start_anew(run)
        started = {
            "settings": settings,
            "texts_sha256": texts_sha256,
            "precision": precision,
            "devices": [device],
            "slurm_job": records.slurm_job(),
        }
        runs.write_json(started_file, started)
    return None, precision


def finish(
    args: argparse.Namespace,
    run: Run,
    corpus: Path,
    names: dict[str, str],
    settings: dict[str, Any],
    report: dict,
    precision: str,
) -> None:
    """Put the best epoch's model into place and write run.json, which says that the run is finished.

    Needs nothing but the checkpoints, so that it can be done again after an interruption.
    """
    from utils.encoder import classifier, layers
    from utils.training import checkpoints, model_card, trainer

    state = checkpoints.load_state(checkpoints.newest_checkpoint(run))
    folder = checkpoints.best_checkpoint(run, state)
    assert folder and state.best_global_step  # an epoch has been validated
    epochs = checkpoints.epoch_records(state)
    best_epoch = state.best_global_step // checkpoints.steps_per_epoch(state)
    best = next(entry for entry in epochs if entry["epoch"] == best_epoch)
    kinds = (".json", ".safetensors", ".txt", ".model", ".jinja")  # a vocabulary may have any name
    for path in sorted(folder.iterdir()):
        if path.suffix in kinds and path.name not in ("trainer_state.json", "hashes.json"):
            runs.copy_file(path, run.models / path.name)
    card = model_card.model_card(args, run, names, report, best, epochs[-1]["epoch"])
    runs.write_text(run.models / "README.md", card)
    runs.write_json(run.outputs / "train.json", epochs)
    model_files, devices = records.describe_model(run.models), records.read_started(run)["devices"]
    record = {
        "model_name": args.model_name,
        "train_langs": args.train_langs,
        "subfolder": args.subfolder,
        "settings": settings,
        "precision": precision,
        "optimiser": trainer.OPTIMISER,
        "pretrained": layers.is_pretrained(run.models),  # else no layer was frozen
        "corpus": {"path": str(corpus), **report},
        "epochs": epochs[-1]["epoch"],
        "best_epoch": best["epoch"],
        "validation": best["validation"],
        "beats_largest_register": metrics.beats_largest_register(np.array(best["validation"]["confusion"])),
        "weights_sha256": model_files["model.safetensors"]["sha256"],
        "model_files": model_files,
        "commit": runs.code_version(),
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        "device": devices[-1],
        "devices": devices,  # more than one where it was interrupted
        "slurm_job": records.slurm_job(),
        "peak_memory_bytes": classifier.peak_memory(),
        "seconds": round(sum(r["seconds"] + r["validation_seconds"] for r in epochs), 3),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    runs.write_json(run.outputs / "run.json", record)
    shutil.rmtree(run.checkpoints)
    log.info(
        "best epoch %d of %d, validation loss %.3f  micro_f1 %.3f  macro_f1 %.3f; model in %s, record in %s",
        best_epoch,
        record["epochs"],
        record["validation"]["loss"],
        record["validation"]["micro_f1"],
        record["validation"]["macro_f1"],
        runs.shown(run.models),
        runs.shown(run.outputs),
    )
    if not record["beats_largest_register"]:
        log.warning("%s", metrics.NOTHING_LEARNT)
    log.info("next: %s", results.evaluate_command(record, corpus_load.list_languages(corpus, "test")))


def main(argv: list[str] | None = None) -> int:
    args, run = parse_args(argv)
    runs.choose_gpu(args.cpu)
    environment.leave_out()
    corpus = corpus_load.find_corpus(args.corpus_path)
    registers = corpus_load.load_registers(corpus)
    settings = records.run_settings(args, corpus, list(registers))
    anew = args.overwrite and not records.begun_by_this_job(run)
    if not anew and (run.outputs / "run.json").is_file():
        with lock.hold(run, "looked at", shared=True):  # it may be evaluated meanwhile
            if records.is_finished(run, settings):
                return nothing_to_do(run)
    with lock.hold(run, "trained"), memory.explained(*memory.LOADING):
        if anew:
            if int(os.environ.get("RANK", 0)) == 0:
                records.start_anew(run)
        elif records.is_finished(run, settings):
            return nothing_to_do(run)
        return train_run(args, run, corpus, registers, settings)


def nothing_to_do(run: Run) -> int:
    shutil.rmtree(run.checkpoints, ignore_errors=True)  # left if the run was interrupted just then
    log.info("%s: trained already, nothing to do (--overwrite trains anew)", runs.shown(run.outputs))
    return 0


if __name__ == "__main__":
    runs.run_script(main)
