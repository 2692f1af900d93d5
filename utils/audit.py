"""Audit a corpus, without a model: what is there, what is odd, and what a training would take.

    python -m utils.corpus_load CORPUS
    python -m utils.corpus_load CORPUS --train-langs en fr

Reads   CORPUS/info/reg_abbv.json and every file of CORPUS/corpus/train/ and test/; nothing is written
Prints  the texts of each file and register; rows skipped, texts that occur twice or under several registers, registers
        and languages that can't be trained on or evaluated; with --train-langs, the texts that finetune.py would
        train on and hold out, with the same options
Exit    0 all files can be used, whatever is odd; 1 the corpus, or one of its files, can't be used; 2 wrong use
"""

import argparse
import hashlib
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from utils import corpus_load, metrics, options, runs
from utils.files.tsv import CorpusError

SPLITS = ("train", "test")
SHOWN = 20  # places of a kind that are listed
WIDEST = 120  # characters of a table

Counts = dict[str, Counter[str]]  # SPLIT/LANG -> register -> number of texts
Places = dict[bytes, list[tuple[str, int, str]]]  # hash of a text -> SPLIT/LANG, line and register of each that has it


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = options.new_parser(
        "Tell what is in a corpus, what is odd in it, and what a training would take of it.",
        "python -m utils.corpus_load ../register-corpus --train-langs en fr",
    )
    parser.add_argument(
        "corpus",
        nargs="?",
        type=options.filled,
        metavar="CORPUS",
        help=f"its folder (default: the variable REGISTER_CORPUS, else {corpus_load.CORPUS_PATH})",
    )
    training = parser.add_argument_group("training, as for finetune.py")
    training.add_argument("--train-langs", nargs="+", default=[], metavar="LANG", help="tell what it would take")
    training.add_argument("--all-texts", action="store_true")
    training.add_argument("--validation-size", type=options.share, default=0.2, metavar="SHARE")
    training.add_argument("--seed", type=options.natural, default=42, metavar="N")
    args = options.parse(parser, argv)
    options.check_names(parser, "--train-langs", args.train_langs, options.LANGUAGE, options.LANGUAGE_IS)
    options.read_languages(parser, args, corpus_load.training_languages(args.corpus))
    return args


def read_all(corpus: Path, registers: Iterable[str]) -> tuple[Counts, Places, list[str], list[str]]:
    """Read every file; return its counts, where each text occurs, the rows skipped, and what can't be used."""
    counts: Counts = {}
    places: Places = {}
    skipped: list[str] = []
    unusable: list[str] = []
    for split in SPLITS:
        for lang in corpus_load.list_languages(corpus, split):
            name = f"{split}/{lang}"
            try:
                file = corpus_load.read_file(corpus, split, lang, registers)
            except CorpusError as error:
                unusable.append(str(error))
                continue
            counts[name] = Counter(text.register for text in file.texts)
            skipped += file.skipped
            for text in file.texts:
                key = hashlib.sha256(corpus_load.normalise(text.text).encode()).digest()
                places.setdefault(key, []).append((name, text.line, text.register))
    return counts, places, skipped, unusable


# ---- what is there ----


def count_lines(counts: Counts, registers: Iterable[str]) -> Iterator[str]:
    """Yield a table of texts, files x registers; where that is too wide, a line per file with the registers it has."""
    names = max([len(name) for name in counts], default=0)
    widths = {register: max(len(register), 6) for register in registers}
    if names + sum(widths.values()) + 2 * len(widths) + 8 > WIDEST:
        for name, found in counts.items():
            yield f"{name:{names}}  {found.total():6d}  " + ", ".join(f"{r} {found[r]}" for r in registers if found[r])
        return
    yield f"{'':{names}}  " + "  ".join(f"{r:>{width}}" for r, width in widths.items()) + f"  {'all':>6}"
    for name, found in counts.items():
        yield f"{name:{names}}  " + "  ".join(f"{found[r]:{w}d}" for r, w in widths.items()) + f"  {found.total():6d}"


# ---- what is odd ----


def odd_texts(places: Places) -> Iterator[tuple[str, list[str]]]:
    """Yield each kind of text that occurs in several places: what it means, and the places."""
    several = [found for found in places.values() if len(found) > 1]
    in_both = [len({name.partition("/")[0] for name, _, _ in found}) > 1 for found in several]
    also_in_test = [found for found, both in zip(several, in_both, strict=True) if both]
    repeated = [  # of distr, which is made of the others, that is no wonder
        found
        for found, both in zip(several, in_both, strict=True)
        if not both and sum(name != f"train/{corpus_load.DISTR}" for name, _, _ in found) > 1
    ]
    registers = [found for found in several if len({register for _, _, register in found}) > 1]
    for what, kind in (
        ("texts in training and test files: a training leaves them out", also_in_test),
        ("texts several times within the training or the test files", repeated),
        ("texts under several registers: no classifier gets all of them right", registers),
    ):
        yield f"{len(kind)} {what}", [", ".join(f"{n}.tsv:{line} {reg}" for n, line, reg in found) for found in kind]


def odd_registers(counts: Counts, registers: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the registers that can't be learnt or measured."""
    have = {
        split: {register for name, found in counts.items() if name.startswith(f"{split}/") for register in found}
        for split in SPLITS
    }
    untrained = [register for register in registers if register not in have["train"]]
    untested = [register for register in registers if register not in have["test"]]
    if have["train"] and untrained:
        yield "registers without training texts, in no language: none can be predicted", [" ".join(untrained)]
    if have["test"] and untested:
        yield "registers without test texts, in no language: none can be measured", [" ".join(untested)]
    train = {name: list(found) for name, found in counts.items() if name.startswith("train/")}
    single = [f"{name}.tsv: {found[0]}" for name, found in train.items() if len(found) < 2]
    if single:
        yield "training files of one register: nothing to learn from it alone", single
    few = []
    for name, found in counts.items():
        rare = [f"{r} {found[r]}" for r in registers if 0 < found[r] < metrics.MIN_TEXTS]
        if name.startswith("test/") and rare:
            none_left = "; too few texts for macro_f1_10" * (len(found) - len(rare) < metrics.MIN_REGISTERS)
            few.append(f"{name}.tsv: {', '.join(rare)}{none_left}")
    if few:
        yield f"registers with fewer than {metrics.MIN_TEXTS} test texts, left out of macro_f1_10", few


def odd_files(corpus: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the languages that have one part alone, and the files that can't be asked for."""
    train, test = (corpus_load.list_languages(corpus, split) for split in SPLITS)
    only_train = [lang for lang in train if lang not in test and lang != corpus_load.DISTR]
    only_test = [lang for lang in test if lang not in train]
    if only_train:
        yield "languages without a test file: nothing to evaluate on", [" ".join(only_train)]
    if only_test:
        yield "languages without a training file: only to evaluate on", [" ".join(only_test)]
    unread = [
        f"{split}/{path.name}"
        for split in SPLITS
        for path in sorted((corpus / "corpus" / split).glob("*"))
        if path.suffix != ".tsv" or not options.LANGUAGE.fullmatch(path.stem)
    ]
    if unread:
        yield f"files that can't be named, which takes {options.LANGUAGE_IS}, and .tsv", unread


def print_odd(kinds: Iterable[tuple[str, list[str]]]) -> None:
    for what, places in kinds:
        if places:
            print(f"\n{what}:")
            for place in places[:SHOWN]:
                print(f"  {runs.one_line(place)}")
            if len(places) > SHOWN:
                print(f"  … and {len(places) - SHOWN} more")


# ---- what a training would take ----


def print_training(corpus: Path, registers: list[str], args: argparse.Namespace) -> None:
    """Print what finetune.py would log of the texts; CorpusError where it would end with one."""
    print(f"\nA training on {' '.join(args.train_langs)}:")
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(runs.to_one_line)
    corpus_load.log.addHandler(handler)
    corpus_load.log.setLevel(logging.INFO)
    corpus_load.log.propagate = False
    try:
        corpus_load.take_training_texts(corpus, registers, args)
    finally:
        corpus_load.log.removeHandler(handler)
        corpus_load.log.propagate = True


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    corpus = corpus_load.find_corpus(args.corpus)
    registers = list(corpus_load.load_registers(corpus))
    counts, places, skipped, unusable = read_all(corpus, registers)
    print(f"{corpus}: {len(registers)} registers, {sum(found.total() for found in counts.values())} texts\n")
    print(*map(runs.one_line, count_lines(counts, registers)), sep="\n")
    print_odd(
        [
            (f"{len(unusable)} files that can't be used", unusable),
            (f"{len(skipped)} rows skipped", skipped),
            *odd_texts(places),
            *odd_registers(counts, registers),
            *odd_files(corpus),
        ]
    )
    if args.train_langs:
        print_training(corpus, registers, args)
    return 1 if unusable or not counts else 0
