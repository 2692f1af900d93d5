"""Command-line options that the scripts share: names of runs and languages, numbers, and their checks.

A name is letters, digits and a few marks: names become folders, and nothing in them may lead elsewhere.
What does not fit ends with exit code 2 and one line.
"""

import argparse
import math
import re
import sys
from collections.abc import Callable
from typing import Any

from utils.runs import PRETRAINED, UNPRINTABLE, Run, run_paths

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LANGUAGE = re.compile(r"[A-Za-z0-9_]{1,32}")
SUBFOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}){0,3}")
REGISTER = re.compile(rf"(?![=+@\s-])(?:(?!{UNPRINTABLE.pattern}).)+(?<!\s)")  # no formula of a spreadsheet
RUNS_OWN = {"checkpoints", "cfm", "errors", "eval", "predictions"}  # folders of a run: no subfolder's, below another


def new_parser(description: str, example: str) -> argparse.ArgumentParser:
    """Return a parser whose help begins with what the script does and ends with a command to type."""
    kept_lines = argparse.RawDescriptionHelpFormatter  # an example that is broken in two can't be copied
    return argparse.ArgumentParser(description=description, epilog=f"example:\n  {example}", formatter_class=kept_lines)


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Parse a command line; end with exit code 2 if a word of it could not be shown or written as it is."""
    for word in sys.argv[1:] if argv is None else argv:
        if word == "--" or word.endswith("=--"):
            parser.error("expected options and their values, found '--'")  # argparse would drop it: no value is left
        if UNPRINTABLE.search(word):
            parser.error(f"expected no control characters, found {word[:80]!a}")
    return parser.parse_args(argv)


def add_rows(parser: argparse.ArgumentParser | argparse._ArgumentGroup, rows: list[tuple]) -> None:
    """Add options: for each its name, type (None: a switch), default, metavar and help, which ends with the default."""
    for name, kind, default, metavar, text in rows:
        if kind is None:
            parser.add_argument(name, action="store_true", help=text)
        else:
            text += "" if default is None else " (default: %(default)s)"
            parser.add_argument(name, type=kind, default=default, metavar=metavar, help=text)


def add_run_arguments(parser: argparse.ArgumentParser, model_names: list[str]) -> None:
    """Add the options that name a run; check_run_arguments reads them."""
    group = parser.add_argument_group("run")
    group.add_argument(
        "--model-name",
        required=True,
        metavar="NAME",
        help=f"short name of the model: {', '.join(model_names)}, or any name given to a --checkpoint when fine-tuning",
    )
    group.add_argument(
        "--train-langs",
        required=True,
        nargs="+",
        metavar="LANG",
        help="training language(s), in order: 'en fr' and 'en-fr' mean the same; 'distr' is the corpus's own mix",
    )
    group.add_argument(
        "--subfolder",
        default="",
        metavar="DIR",
        help="keep the run in outputs/DIR/ and models/DIR/ (default: directly in outputs/ and models/)",
    )


def add_corpus_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup, corpus_path: str) -> None:
    parser.add_argument(
        "--corpus-path",
        type=filled,
        metavar="DIR",
        help="the corpus (default: the variable REGISTER_CORPUS, else CORPUS_PATH in "
        f"utils/corpus_load.py: {corpus_path})",
    )


def add_precision_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="of the matrix products; auto: bf16 or fp16 where the GPU or CPU has instructions for it, else fp32 "
        "(default: %(default)s)",
    )


def add_cpu_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument("--cpu", action="store_true", help="compute on the CPU, though there is a GPU")


def add_threads_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        help="of a CPU that compute together; another number rounds sums otherwise (default: one per core)",
    )


def check_run_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Run:
    """Check the names of a run, split `en-fr` into its languages, and return the run's folders.

    Ends with exit code 2 through the parser where a name cannot be one.
    """
    check_names(parser, "--model-name", [args.model_name], MODEL_NAME, "letters, digits, '_', '.' and '-'")
    args.train_langs = [lang for value in args.train_langs for lang in value.split("-")]
    check_names(parser, "--train-langs", args.train_langs, LANGUAGE, "letters, digits and '_'")
    if len(set(args.train_langs)) < len(args.train_langs):
        parser.error(f"argument --train-langs: expected each language once, found {' '.join(args.train_langs)}")
    if args.subfolder != "/":
        args.subfolder = args.subfolder.removesuffix("/")
    if args.subfolder:
        check_names(parser, "--subfolder", [args.subfolder], SUBFOLDER, "folder names joined by '/'")
    first, *others = args.subfolder.split("/")
    if RUNS_OWN & set(others):
        parser.error(f"argument --subfolder: {args.subfolder!r} may lie in a run's own folder; choose another")
    if first == PRETRAINED.name:
        parser.error(f"argument --subfolder: {PRETRAINED.name!r} is where the pretrained models lie; choose another")
    return run_paths(args.model_name, args.train_langs, args.subfolder)


def check_names(
    parser: argparse.ArgumentParser, option: str, names: list[str], pattern: re.Pattern[str], expected: str
) -> None:
    """End with exit code 2 if one of the option's names does not match the pattern as a whole."""
    for name in names:
        if not pattern.fullmatch(name):
            parser.error(f"argument {option}: expected {expected}, found {name!r}")


def filled(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected a name, found ''")
    return text


def positive_int(text: str) -> int:
    return _number(int, text, lambda n: n > 0, "a whole number above 0")


def natural(text: str) -> int:
    return _number(int, text, lambda n: 0 <= n < 2**32, "a whole number, 0 or above")


def positive_float(text: str) -> float:
    return _number(float, text, lambda x: 0 < x < math.inf, "a number above 0")


def share(text: str) -> float:
    return _number(float, text, lambda x: 0 < x < 1, "a number between 0 and 1")


def share_or_none(text: str) -> float:
    return _number(float, text, lambda x: 0 <= x < 1, "a number from 0 to below 1")


def _number(kind: type, text: str, is_right: Callable[[Any], bool], expected: str) -> Any:
    try:
        number = kind(text)
    except ValueError:
        number = None
    if number is None or not is_right(number):
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
    return number
