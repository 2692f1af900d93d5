"""Arguments that the scripts share: names of runs and languages, numbers, and their checks.

Names become folders, so only letters, digits and a few marks are allowed, and nothing that leads out of the folder. A
wrong value ends the script with exit code 2 and one line that says what to type instead.
"""

import argparse
import difflib
import math
import re
import sys
from collections.abc import Callable, Collection
from typing import Any

from utils.runs import PRETRAINED, UNPRINTABLE, Run, run_paths

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LANGUAGE = re.compile(r"[A-Za-z0-9_]{1,32}(-[A-Za-z0-9_]{1,32})*")
LANGUAGE_IS = "letters, digits, '_', and '-' between them"
SUBFOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}){0,3}/?")
# nothing that a spreadsheet would take for a formula
REGISTER = re.compile(rf"(?![=+@\s-])(?:(?!{UNPRINTABLE.pattern}).)+(?<!\s)")

# what to suggest if there is neither a default nor a choice
EXAMPLES = {"NAME": "xlmr", "LANG": "en fr", "DIR": "my-folder", "DIR|ID": "my-folder", "N": "16", "RATE": "5e-4"}


def new_parser(description: str, example: str) -> argparse.ArgumentParser:
    """Return a parser whose help begins with what the script does and ends with a command to type."""
    return argparse.ArgumentParser(
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,  # it would print ten lines before each error
        exit_on_error=False,
    )


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Parse a command line; for a misspelt option or one without its value, exit with code 2 and a suggestion."""
    words = sys.argv[1:] if argv is None else argv
    check_words(parser, words)
    # argparse itself would first report which other options are missing
    known = parser._option_string_actions
    for name in (word.partition("=")[0] for word in words):
        if name.startswith("--") and not any(option.startswith(name) for option in known):
            near = difflib.get_close_matches(name, known, n=1)
            parser.error(f"no option {name}; {f'did you mean {near[0]}?' if near else '--help lists them'}")
    try:
        return parser.parse_args(words)
    except argparse.ArgumentError as error:
        option = known.get(error.argument_name or "")
        if option is None or not error.message.startswith(("expected one argument", "expected at least one")):
            parser.error(str(error))
        usual = [option.default] if isinstance(option.default, int | float) else option.choices
        example = next(iter(usual or [EXAMPLES.get(str(option.metavar), option.metavar)]))
        parser.error(f"argument {error.argument_name}: needs a value, as in {error.argument_name} {example}")


def check_words(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """Exit with code 2 if a word of a command line can't be shown or written as it is."""
    for word in words:
        if UNPRINTABLE.search(word):
            parser.error(f"{word[:80]!a} contains control characters; type it without them")
        # argparse would drop it, and leave its option without a value
        if word == "--" or word.endswith("=--"):
            parser.error("'--' is neither an option nor a value; leave it out")


# fmt: off
def add_run_arguments(parser: argparse.ArgumentParser, model_names: list[str]) -> None:
    """Add the options that name a run, which check_run_arguments and read_languages then check."""
    group = parser.add_argument_group("run")
    group.add_argument("--model-name", required=True, metavar="NAME",
        help=f"short name of the model: {', '.join(model_names)}, or any name, given with --checkpoint")
    group.add_argument("--train-langs", required=True, nargs="+", metavar="LANG",
        help="training languages, by the names of the corpus files; 'en fr' and 'en-fr' mean the same, unless a file "
        "en-fr.tsv exists; 'distr' is a file with texts in many languages")
    group.add_argument("--subfolder", default="", metavar="DIR",
        help="keep the run in outputs/DIR/ and models/DIR/ (default: directly in outputs/ and models/)")


def add_corpus_argument(group: argparse.ArgumentParser | argparse._ArgumentGroup, corpus_path: str) -> None:
    default = f"the variable REGISTER_CORPUS, else CORPUS_PATH in utils/corpus_load.py: {corpus_path}"
    group.add_argument("--corpus-path", type=filled, metavar="DIR", help=f"the corpus (default: {default})")


def add_device_arguments(group: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    group.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto",
        help="of matrix products; auto: bf16 or fp16 if the GPU or CPU has instructions for it, else fp32 (default: "
        "%(default)s)")
    group.add_argument("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    group.add_argument("--threads", type=positive_int, metavar="N",
        help="threads on a CPU; another number rounds sums differently (default: one per core)")


# fmt: on
def check_run_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Run:
    """Return the run with its folders; exit code 2 if a name is not allowed. See also read_languages."""
    check_names(parser, "--model-name", [args.model_name], MODEL_NAME, "letters, digits, '_', '.' and '-'")
    check_names(parser, "--train-langs", args.train_langs, LANGUAGE, LANGUAGE_IS)
    if args.subfolder:
        check_names(parser, "--subfolder", [args.subfolder], SUBFOLDER, "folder names joined by '/'")
    # the slash that shells add when they complete the name
    args.subfolder = args.subfolder.removesuffix("/")
    first, *others = args.subfolder.split("/")
    # folders within a run, which --overwrite removes
    if {"checkpoints", "errors", "eval", "keywords", "predictions"} & set(others):
        parser.error(f"argument --subfolder: {args.subfolder!r} may be inside the folder of a run; choose another")
    if first == PRETRAINED.name:
        parser.error(f"argument --subfolder: {PRETRAINED.name!r} is for the pretrained models; choose another")
    run = run_paths(args.model_name, args.train_langs, args.subfolder)
    # file systems allow 255 bytes, and the names of jobs are longer
    if len(run.name) > 200:
        parser.error("argument --train-langs: more than 200 characters with the model name; choose fewer languages")
    return run


def given(parser: argparse.ArgumentParser, args: argparse.Namespace, names: Collection[str]) -> list[str]:
    """Return those of these options that have another value than their default, as they are typed."""
    return [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) != parser.get_default(name)]


def read_languages(parser: argparse.ArgumentParser, args: argparse.Namespace, known: Collection[str]) -> None:
    """Turn args.train_langs, as typed, into the list of languages; exit code 2 if one comes twice.

    known: the languages of the corpus. A word that is one of them is that language, as pt-br may be; any other is split
    at "-", so that en-fr is en and fr.
    """
    args.train_langs = [lang for word in args.train_langs for lang in ([word] if word in known else word.split("-"))]
    if len(set(args.train_langs)) < len(args.train_langs):
        parser.error(f"argument --train-langs: a language comes twice in {' '.join(args.train_langs)}; name each once")


def check_names(
    parser: argparse.ArgumentParser, option: str, names: list[str], pattern: re.Pattern[str], allowed: str
) -> None:
    """Exit with code 2 if one of the names given to an option does not match the pattern."""
    for name in names:
        if pattern is LANGUAGE and re.search(r"\w[,;]", name):
            apart = " ".join(re.split("[ ,;]+", " ".join(names))).strip()
            parser.error(f"argument {option}: separate languages by spaces: {apart}")
        if not pattern.fullmatch(name):
            parser.error(f"argument {option}: {name!r} is not allowed; use {allowed}")


def filled(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def number_type(kind: type, is_right: Callable[[Any], bool], what: str) -> Callable[[str], Any]:
    """Return a type for add_argument that accepts only such numbers."""

    def read(text: str) -> Any:
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if not is_right(number):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return number

    return read


positive_int = number_type(int, lambda n: n > 0, "a whole number above 0")
natural = number_type(int, lambda n: 0 <= n < 2**32, "a whole number, 0 or above")
positive_float = number_type(float, lambda x: 0 < x < math.inf, "a number above 0")
share = number_type(float, lambda x: 0 < x < 1, "a number between 0 and 1")
share_or_none = number_type(float, lambda x: 0 <= x < 1, "a number from 0 to below 1")
