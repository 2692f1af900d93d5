"""Command-line options that the scripts share: names of runs and languages, numbers, and their checks.

A name is letters, digits and a few marks: names become folders, and nothing in them may lead elsewhere.
What does not fit ends with exit code 2 and one line.

Languages are named as the corpus names its files, as en, zho_Hans, pt-br. Since a mix is joined by "-" too, its words
are read by the names that there are (read_mix): a word that is a name is that language, and en-fr is en and fr.
"""

import argparse
import difflib
import functools
import math
import os
import re
import sys
from collections.abc import Callable, Collection
from typing import Any

from utils.runs import PRETRAINED, UNPRINTABLE, Run, run_paths

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LANGUAGE = re.compile(r"[A-Za-z0-9_]{1,32}(-[A-Za-z0-9_]{1,32})*")
LONGEST_NAME = 200  # of a run: file systems take 255 bytes, Slurm adds to it
LANGUAGE_IS = "letters, digits, '_', and '-' between them"
SUBFOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}){0,3}")
REGISTER = re.compile(rf"(?![=+@\s-])(?:(?!{UNPRINTABLE.pattern}).)+(?<!\s)")  # no formula of a spreadsheet
EXAMPLES = {  # values of options that have no default
    "--model-name": "xlmr",
    "--train-langs": "en fr",
    "--eval-lang": "fi sv",
    "--subfolder": "seed1",
    "--corpus-path": "../register-corpus",
    "--checkpoint": "FacebookAI/xlm-roberta-base",
    "--num-epochs": "5",
    "--head-rate": "5e-4",
    "--threads": "4",
    "--max-length": "512",
    "--batch-size": "16",
}
RUNS_OWN = {"checkpoints", "cfm", "errors", "eval", "predictions"}  # folders of a run: no subfolder's, below another


def new_parser(description: str, example: str) -> argparse.ArgumentParser:
    """Return a parser whose help begins with what the script does and ends with a command to type."""
    kept_lines = argparse.RawDescriptionHelpFormatter  # an example that is broken in two can't be copied
    return argparse.ArgumentParser(
        description=description, epilog=f"example:\n  {example}", formatter_class=kept_lines, exit_on_error=False
    )


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Parse a command line, its words checked; a misspelt option and one without its value are told with a remedy."""
    words = sys.argv[1:] if argv is None else argv
    check_words(parser, words)
    known = [option for action in parser._actions for option in action.option_strings]
    for name in (word.partition("=")[0] for word in words):
        if name.startswith("--") and not any(option.startswith(name) for option in known):
            near = difflib.get_close_matches(name, known, n=1)
            parser.error(f"no option {name}; {f'did you mean {near[0]}?' if near else '--help lists them'}")
    try:
        return parser.parse_args(words)
    except argparse.ArgumentError as error:
        option = next((a for a in parser._actions if error.argument_name == "/".join(a.option_strings)), None)
        if option is not None and error.message in ("expected one argument", "expected at least one argument"):
            example = EXAMPLES.get(option.option_strings[-1]) or option.default or option.metavar
            parser.error(f"argument {error.argument_name}: needs a value, as in {error.argument_name} {example}")
        parser.error(str(error))


def check_words(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """End with exit code 2 if a word of a command line could not be shown or written as it is."""
    for word in words:
        if word == "--" or word.endswith("=--"):
            parser.error("expected options and their values, found '--'")  # argparse would drop it: no value is left
        if UNPRINTABLE.search(word):
            parser.error(f"expected no control characters, found {word[:80]!a}")


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
        help="training language(s), in order, as the corpus names its files: 'en fr' and 'en-fr' mean the same, unless "
        "there is a file en-fr.tsv; 'distr' is the corpus's own mix",
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


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("device")
    add_precision_argument(group)
    add_cpu_argument(group)
    add_threads_argument(group)


def check_run_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Run:
    """Check the names of a run and return its folders; which languages are meant is for read_languages to say.

    Ends with exit code 2 through the parser where a name cannot be one.
    """
    check_names(parser, "--model-name", [args.model_name], MODEL_NAME, "letters, digits, '_', '.' and '-'")
    check_names(parser, "--train-langs", args.train_langs, LANGUAGE, LANGUAGE_IS)
    if len(os.fsencode("-".join([args.model_name, *args.train_langs]))) > LONGEST_NAME:
        parser.error(f"argument --train-langs: expected at most {LONGEST_NAME} characters with the model's name")
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


def read_languages(parser: argparse.ArgumentParser, args: argparse.Namespace, known: Collection[str]) -> None:
    """Turn args.train_langs, as typed, into the list of the languages that are meant. known: the names there are.

    Ends with exit code 2 through the parser where a word has two readings, or a language comes twice.
    """
    langs: list[str] = []
    for word in args.train_langs:
        reading, other = read_mix(word, frozenset(known))
        if other:
            parser.error(
                f"argument --train-langs: expected one reading of {word!r}, found two: {' '.join(reading)}, or "
                f"{' '.join(other)}; put a blank between the languages"
            )
        langs += reading
    if len(set(langs)) < len(langs):
        parser.error(f"argument --train-langs: expected each language once, found {' '.join(langs)}")
    args.train_langs = langs


def read_mix(word: str, known: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the languages that a word joins by "-", the longest names first, and another reading if that is not clear.

    It is clear where every other reading only divides these names further: with pt, br and pt-br, pt-br is the one
    language. With a, a-b, b-c and c, a-b-c is not. A word that can't be read by known names is divided at each "-" if
    one of its parts is known, so that the others can be told to be missing; else it is one name.
    """
    parts = word.split("-")
    n = len(parts)
    names = {(i, j): name for i in range(n) for j in range(n, i, -1) if (name := "-".join(parts[i:j])) in known}

    @functools.cache
    def before(end: int) -> list[tuple[int, int]] | None:
        """Return a reading of the first parts, as places in parts; None if there is none."""
        return next(
            (
                [*found, (i, end)]
                for i in range(end)
                if (i, end) in names and (found := before(i) if i else []) is not None
            ),
            None,
        )

    @functools.cache
    def after(start: int) -> list[tuple[int, int]] | None:
        """Return the reading of the other parts."""
        return next(
            (
                [(start, j), *found]
                for j in range(n, start, -1)
                if (start, j) in names and (found := after(j) if j < n else []) is not None
            ),
            None,
        )

    reading = after(0)
    if reading is None:
        return (parts if set(parts) & set(known) else [word]), []
    for start, end in names:
        head, tail = before(start) if start else [], after(end) if end < n else []
        divided = any(start < cut < end for _, cut in reading)
        if divided and head is not None and tail is not None:
            return [names[place] for place in reading], [names[place] for place in [*head, (start, end), *tail]]
    return [names[place] for place in reading], []


def check_names(
    parser: argparse.ArgumentParser, option: str, names: list[str], pattern: re.Pattern[str], expected: str
) -> None:
    """End with exit code 2 if one of the option's names does not match the pattern as a whole."""
    for name in names:
        if pattern is LANGUAGE and re.fullmatch(r"[\w-]+([,;]+[\w-]*)+", name):
            words = " ".join(re.split("[ ,;]+", " ".join(names))).strip()
            parser.error(f"argument {option}: separate languages by spaces: {words}")
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
