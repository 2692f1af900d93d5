"""Evaluate a fine-tuned register classifier on the test texts of one or several languages.

    python evaluate.py --model-name xlmr --train-langs en fr --eval-lang fi sv ru

Reads   models/[SUBFOLDER/]MODEL-LANGS/, outputs/[SUBFOLDER/]MODEL-LANGS/run.json    written by finetune.py
        CORPUS/info/reg_abbv.json, CORPUS/corpus/test/LANG.tsv
Writes  in outputs/[SUBFOLDER/]MODEL-LANGS/, for each language:
        predictions/LANG.tsv   row in the test file, gold and predicted register, a probability per register
        eval/LANG.json         confusion counts, scores, and what they depend on (their signature); written last
Prints  a line per language: its scores and their signature
Exit    0 all languages evaluated, or evaluated before; 1 unusable run or corpus, or a language that failed
        (the others are still evaluated); 2 wrong use; 128 + N ended by signal N

A language is skipped if this very model, by the hash of its weights, has been evaluated on this very test file in the
same way. Scores with another length or precision are not replaced without --overwrite. utils/metrics.py defines the
scores.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # Python does not if PYTHONSAFEPATH is set

if __name__ == "__main__":  # before any package is imported
    from utils import environment

    environment.prepare()

import argparse
import contextlib
import logging
import math
import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from utils import corpus_load, download_model, environment, metrics, ngrams, options, runs
from utils.runs import Run, RunError

if TYPE_CHECKING:  # it takes long to load
    import pandas as pd

log = logging.getLogger("evaluate")


def parse_args(argv: list[str] | None) -> tuple[argparse.Namespace, Run]:
    parser = options.new_parser(
        "Evaluate a fine-tuned register classifier on one or several languages.",
        "python evaluate.py --model-name xlmr --train-langs en fr --eval-lang fi sv ru",
    )
    options.add_run_arguments(parser, download_model.known_models())
    # fmt: off
    parser.add_argument("--overwrite", action="store_true", help="also evaluate languages that are evaluated already")
    data = parser.add_argument_group("data")
    data.add_argument("--eval-lang", required=True, nargs="+", metavar="LANG",
        help="evaluation languages, by the names of the test files; all: every test file there is")
    options.add_corpus_argument(data, corpus_load.CORPUS_PATH)
    data.add_argument("--max-length", type=options.positive_int, metavar="N",
        help="tokens read of each text, from its beginning (default: as in training)")
    parser.add_argument("--batch-size", type=options.positive_int, metavar="N",
        help="texts of the maximum length that go through the model together; short texts make larger batches "
        "(default: 16384 tokens on a GPU, 2048 on a CPU, where more are slower)")
    # fmt: on
    options.add_device_arguments(parser)
    args = options.parse(parser, argv)
    run = options.check_run_arguments(parser, args)
    known = corpus_load.training_languages(args.corpus_path)
    with contextlib.suppress(RunError):  # a corpus may have test files only; load_record reports errors
        known += runs.read_record(run.outputs / "run.json", {"train_langs": [str]}, "")["train_langs"]
    options.read_languages(parser, args, known)
    options.check_names(parser, "--eval-lang", args.eval_lang, options.LANGUAGE, options.LANGUAGE_IS)
    if "all" in args.eval_lang:  # without a corpus, it stays a word, and load_registers reports the error
        tested = corpus_load.list_languages(corpus_load.find_corpus(args.corpus_path), "test")
        everything = [lang for lang in tested if options.LANGUAGE.fullmatch(lang)] or ["all"]
        args.eval_lang = [*everything, *(lang for lang in args.eval_lang if lang != "all")]
    args.eval_lang = list(dict.fromkeys(args.eval_lang))
    args.without_effect = options.given(parser, args, ("max_length", "batch_size", "precision"))
    return args, run


def load_record(args: argparse.Namespace, run: Run) -> dict[str, Any]:
    """Return run.json; RunError if there is no finished run of this model on these languages."""
    from utils import results  # loads pandas

    if not (run.outputs / "run.json").is_file():
        subfolder = f" --subfolder {args.subfolder}" if args.subfolder else ""
        names = f"--model-name {args.model_name} --train-langs {' '.join(args.train_langs)}{subfolder}"
        is_known = args.model_name in download_model.known_models()
        how = f": python finetune.py {names}" if is_known else ", with the --checkpoint that this name stands for"
        raise RunError(f"{runs.shown(run.outputs)}: is not trained yet (there is no run.json); train it first{how}")
    shape = runs.FINISHED | results.RECORD | {"settings": {"registers": [str], "max_length": int}}
    record = runs.read_record(run.outputs / "run.json", shape, runs.RETRAIN)
    runs.check_names(args, run, record)
    return record


def signature(
    args: argparse.Namespace, record: dict[str, Any], eval_lang: str, test_sha256: str | None
) -> dict[str, Any]:
    """Return everything that the scores depend on and that is known before texts are read, in a fixed order.

    N-grams read whole texts, which is max_length 0, and have only one precision.
    """
    is_ngrams = args.model_name == ngrams.NAME
    return {
        "model_name": args.model_name,
        "train_langs": args.train_langs,
        "weights_sha256": record["weights_sha256"],
        "eval_lang": eval_lang,
        "test_sha256": test_sha256,
        "registers": record["settings"]["registers"],
        "max_length": ngrams.MAX_LENGTH if is_ngrams else args.max_length or record["settings"]["max_length"],
        "precision": ngrams.PRECISION if is_ngrams else args.precision,
    }


def is_done(run: Run, record: dict[str, Any], expected: dict[str, Any], on_this_device: bool = True) -> bool:
    """Tell whether this very model has been evaluated on this very test file with this signature.

    RunError if it has, but with another length or precision: such scores are only replaced on request. The precision
    that was really used counts; which one "auto" means is only known on the device.
    """
    from utils import results  # loads pandas

    eval_lang, precision = expected["eval_lang"], expected["precision"]
    try:
        earlier = results.load_evaluation(run.outputs, eval_lang, record)["signature"]
    except RunError:
        return False
    if not run.predictions(eval_lang).is_file():
        return False
    if any(earlier.get(key) != expected[key] for key in ("test_sha256", "registers", "train_langs", "model_name")):
        log.info("%s: the test file has changed since it was evaluated", eval_lang)
        return False
    if precision == "auto":
        precision = earlier.get("precision_used")
        if on_this_device:
            from utils import model  # loads torch, which is slow: only if everything else is the same

            automatic = model.choose_precision("auto")
            if automatic != earlier.get("precision_unfit"):  # in which the model does not work
                precision = automatic
    changes = {
        "--max-length": (earlier.get("max_length"), expected["max_length"]),
        "--precision": (earlier.get("precision_used"), precision),
    }
    changes = {option: (was, now) for option, (was, now) in changes.items() if was != now}
    if changes:
        were = ", ".join(f"{option} {was}, now {now}" for option, (was, now) in changes.items())
        kept = shlex.join(word for option, (was, _) in changes.items() for word in (option, str(was)))
        raise RunError(
            f"{runs.shown(run.scores(eval_lang))}: evaluated with {were}; {kept} keeps these scores, --overwrite "
            f"replaces them (to have both, first copy {runs.shown(run.outputs)} to another folder, where post_eval.py "
            "--base-dir can read it)"
        )
    return True


def load_model(args: argparse.Namespace, run: Run, registers: list[str], max_length: int) -> tuple[Callable, dict]:
    """Return a function that predicts with the model of a run, and the part of the signature about how it computes.

    The function takes texts and the name of their language; it returns probabilities, shape (texts, registers), and the
    share of the texts with more than max_length tokens.
    """
    if args.model_name == ngrams.NAME:
        import sklearn

        if args.without_effect:
            log.info("%s: options without effect: %s", ngrams.NAME, " ".join(args.without_effect))
        fitted = ngrams.load(run.models)
        used = {"precision_used": ngrams.PRECISION, "device": ngrams.DEVICE, "scikit-learn": sklearn.__version__}
        return lambda texts, _: (ngrams.predict(fitted, texts["text"], registers), 0.0), used

    import torch
    import transformers

    from utils import model

    model.use_device(args.threads)
    batch_size = args.batch_size or max(model.tokens_at_once() // max_length, 1)
    with model.shortage_explained("a smaller model needs less"):
        loaded = model.load(run.models, registers, max_length, args.precision)
    tried = model.choose_precision(args.precision)
    used = {
        "precision_used": loaded.precision,
        # the fastest precision, in which the model does not work
        **({} if tried == loaded.precision else {"precision_unfit": tried}),
        "batch_size": batch_size,
        "device": model.describe_device(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }

    def predict(texts: "pd.DataFrame", eval_lang: str) -> tuple[Any, float]:
        with model.shortage_explained("a smaller --batch-size needs less, for the same scores"):
            dataset = corpus_load.to_dataset(texts, loaded.tokenizer, max_length, registers)
            probabilities = model.predict(loaded, dataset, batch_size * max_length, eval_lang)
        return probabilities, float(dataset["over"][:].float().mean())

    return predict, used


def evaluate_language(
    args: argparse.Namespace,
    run: Run,
    record: dict[str, Any],
    texts: "pd.DataFrame",
    expected: dict[str, Any],
    predict: Callable,
    used: dict[str, Any],
) -> dict[str, Any]:
    """Predict the test texts of a language, write its two files, and return its scores; predict, used: load_model's."""
    # predict, and count
    began = time.monotonic()
    eval_lang, registers = expected["eval_lang"], expected["registers"]
    probabilities, over_max_length = predict(texts, eval_lang)
    predicted = probabilities.argmax(axis=1)
    gold = texts["register"].map(registers.index).to_numpy()
    confusion = metrics.count_confusions(gold, predicted, len(registers))
    several_registers = corpus_load.several_registers(texts, "test")
    for line in corpus_load.several_lines(several_registers):
        log.warning("%s", line)

    # while the scores are missing, the language is not done
    run.scores(eval_lang).unlink(missing_ok=True)
    runs.write_text(run.predictions(eval_lang), predictions_table(texts, registers, predicted, probabilities))
    per_register = metrics.register_scores(confusion)
    scores = {
        "eval_lang": eval_lang,
        "language": corpus_load.language_names(args.corpus_path).get(eval_lang, ""),
        "zero_shot": not {eval_lang, corpus_load.DISTR} & {*args.train_langs, *record["start_langs"]},
        "n": len(texts),
        "metrics": metrics.all_metrics(confusion),
        "registers": registers,
        "counts": confusion.tolist(),  # rows gold, columns predicted
        "per_register": {
            register: {name: _defined(values[index]) for name, values in per_register.items()}
            for index, register in enumerate(registers)
        },
        "too_few_texts": [
            register
            for register, enough in zip(registers, metrics.measurable(confusion.sum(axis=1)), strict=True)
            if not enough
        ],
        "rows_skipped": texts.attrs["rows_skipped"],
        "several_registers": several_registers,
        "over_max_length": over_max_length,
        "seconds": round(time.monotonic() - began, 3),
        "predictions_sha256": runs.sha256_of(run.predictions(eval_lang)),
        "signature": expected | used | {"commit": runs.code_version()},
    }
    runs.write_json(run.scores(eval_lang), scores)
    return scores


def _defined(score: Any) -> float | int | None:
    """Return a score for JSON: None if it is not defined, counts as integers."""
    return None if math.isnan(score) else score.item()


def predictions_table(texts: "pd.DataFrame", registers: list[str], predicted: Any, probabilities: Any) -> str:
    """Return predictions as TSV with a header: row, gold, predicted, one probability per register."""
    import pandas as pd

    table = pd.DataFrame(probabilities, columns=registers)
    table.insert(0, "row", texts["row"].to_numpy())
    table.insert(1, "gold", texts["register"].to_numpy())
    table.insert(2, "predicted", [registers[label] for label in predicted])
    return table.to_csv(sep="\t", index=False, float_format="%.6f", lineterminator="\n")


def summary(scores: dict[str, Any]) -> str:
    """Return the scores of a language in one line, with everything they depend on."""
    values = "  ".join(
        f"{name} {'too few texts' if value is None else f'{value:.4f}'}" for name, value in scores["metrics"].items()
    )
    sign = scores["signature"]
    fields = {
        "model": sign["model_name"],
        "train": "-".join(sign["train_langs"]),
        "weights": sign["weights_sha256"][:9],
        "test": sign["test_sha256"][:9],
        "max_length": sign["max_length"],
        "precision": sign["precision_used"],
        "code": sign["commit"],
        **{name: sign[name] for name in ("torch", "transformers", "scikit-learn") if name in sign},
    }
    return f"{scores['eval_lang']}  {values}  n {scores['n']}  " + "|".join(f"{k}:{v}" for k, v in fields.items())


def main(argv: list[str] | None = None) -> int:
    args, run = parse_args(argv)
    environment.let_options_decide(args.cpu)
    args.corpus_path = corpus_load.find_corpus(args.corpus_path)
    record = load_record(args, run)
    registers = list(corpus_load.load_registers(args.corpus_path))
    if registers != record["settings"]["registers"]:
        raise RunError(
            f"{args.corpus_path}/info/reg_abbv.json: its registers, {' '.join(registers)}, are not those of the model, "
            f"{' '.join(record['settings']['registers'])}; give the corpus it was trained on with --corpus-path, or "
            "train it again with finetune.py --overwrite"
        )

    # find out what is left to do, before the model is loaded
    to_do, failed = [], []
    for lang in args.eval_lang:
        try:
            texts = corpus_load.read_texts(args.corpus_path, "test", lang, registers)
            trained = record["corpus"]["files"].get(f"test/{lang}.tsv")
            if trained != texts.attrs["sha256"]:
                when = "was not compared with the training texts when" if trained is None else "has changed since"
                raises = "texts that are in both would raise the scores"
                log.warning("test/%s.tsv: %s the model was trained; %s", lang, when, raises)
            expected = signature(args, record, lang, texts.attrs["sha256"])
            if not args.overwrite and is_done(run, record, expected):
                log.info("%s: skipped, is already evaluated (--overwrite evaluates it again)", lang)
            else:
                to_do.append((expected, texts))
        except RunError as error:
            log.error("%s not evaluated: %s", lang, error)
            failed.append(lang)

    # load once for all languages
    if to_do:
        runs.check_model(run, record, by_hash=True)
        predict, used = load_model(args, run, registers, to_do[0][0]["max_length"])
    for expected, texts in to_do:
        try:
            print(summary(evaluate_language(args, run, record, texts, expected, predict, used)), flush=True)
        except BrokenPipeError:
            raise
        except (RunError, OSError) as error:
            fault = runs.fault_of_file(error) if isinstance(error, OSError) else None
            log.error("%s not evaluated: %s", expected["eval_lang"], fault or error)
            failed.append(expected["eval_lang"])
        except Exception:  # a bug: show its traceback, but evaluate the other languages
            log.exception("%s not evaluated", expected["eval_lang"])
            failed.append(expected["eval_lang"])
    if failed:
        log.error("%d of %d languages not evaluated: %s", len(failed), len(args.eval_lang), " ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    runs.run_script(main)
