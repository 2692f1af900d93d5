"""Audit a corpus, without a model: what is there, what is odd, and what a training would take.

    python utils/audit.py CORPUS
    python utils/audit.py CORPUS --train-langs en fr

Reads   CORPUS/info/reg_abbv.json and every file of CORPUS/corpus/train/ and test/; nothing is written
Prints  the texts of each file and register, and how long they are; what is odd in them, and what in one file and in no
        other; near-duplicates of test texts in training; with --train-langs, the texts that finetune.py would train on
        and hold out, with the same options
Exit    0 all files can be used, whatever is odd; 1 the corpus, or one of its files, can't be used; 2 wrong use
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":  # before any package is imported
    from utils import environment

    environment.prepare()

import argparse
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from utils import corpus_load, metrics, options, runs
from utils.corpus_load import DISTR, CorpusError

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "test")
SHOWN = 20  # places of a kind that are listed
WIDEST = 120  # characters of a table
NEAR, SHINGLE, CHARACTERS = 0.5, 5, 12  # Jaccard similarity of near-duplicates; words, or characters, of a shingle
READ = 400  # words of a text that are compared, about as many as a model reads

MARKS = {  # what an export leaves in texts, and how it looks
    r"a written \n, where a line end was": r"\\n",
    "mark-up": r"</?[A-Za-z][^<>]{0,200}>|&(?:[a-z]{2,8}|#\d+);",
    "characters that could not be read (U+FFFD)": "\ufffd",
}
WRITTEN_TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "HANGUL": "CJK"}

Odd = Iterator[tuple[str, list[str]]]  # each kind of what is odd, in words, and the places


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = options.new_parser(
        "Tell what is in a corpus, what is odd in it, and what a training would take of it.",
        "python utils/audit.py ../register-corpus --train-langs en fr",
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


def read_all(corpus: Path, registers: list[str]) -> "tuple[pd.DataFrame, list[str], list[str]]":
    """Return all texts, with the columns split, file (train/LANG) and key; what can't be used; the rows skipped."""
    import pandas as pd

    frames, unusable, skipped = [], [], []
    for split in SPLITS:
        for lang in corpus_load.list_languages(corpus, split):
            try:
                texts = corpus_load.read_texts(corpus, split, lang, registers)
            except CorpusError as error:
                unusable.append(str(error))
                continue
            skipped += texts.attrs["skipped"]
            frames.append(texts.assign(split=split, file=f"{split}/{lang}"))
    columns = ["lang", "row", "line", "register", "text", "split", "file"]
    texts = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns, dtype=str)
    return texts.assign(key=texts["text"].map(corpus_load.normalise)), unusable, skipped


def print_table(title: str, table: "pd.DataFrame") -> None:
    """Print numbers, files x registers; where that is too wide, a line per file with the registers it has."""
    print(f"\n{title}:")
    names = table.index.str.len().max()
    widths = {column: max(len(column), 6) for column in table}
    if names + sum(widths.values()) + 2 * len(widths) <= WIDEST:
        print(f"{'':{names}}", *(f"{runs.one_line(column):>{width}}" for column, width in widths.items()), sep="  ")
        for row in table.itertuples():
            cells = [f"{n:{w}.0f}" if n == n else " " * w for n, w in zip(row[1:], widths.values(), strict=True)]
            print(f"{row.Index:{names}}", *cells, sep="  ")
        return
    for row in table.itertuples():
        cells = [f"{runs.one_line(column)} {n:.0f}" for column, n in zip(table, row[1:], strict=True) if n > 0]
        print(f"{row.Index:{names}}  {', '.join(cells)}")


# ---- what is odd ----


def odd_texts(texts: "pd.DataFrame") -> Odd:
    """Yield texts that occur in several places."""
    groups = texts[texts.duplicated("key", keep=False)].groupby("key", sort=False)
    several = [found for _, found in groups]
    in_both = [found for found in several if found["split"].nunique() > 1]
    # in distr, which is made of the others, that is no wonder
    repeated = [f for f in several if f["split"].nunique() == 1 and (f["file"] != f"train/{DISTR}").sum() > 1]
    under_several = [found for found in several if found["register"].nunique() > 1]
    for what, kind in (
        ("texts in training and test files: a training leaves them out", in_both),
        ("texts several times within the training or the test files: a training takes one of each file", repeated),
        ("texts under several registers: no classifier gets all of them right", under_several),
    ):
        yield f"{len(kind)} {what}", [", ".join(map(place, found.itertuples())) for found in kind]


def place(row: "pd.Series") -> str:
    return f"{row.file}.tsv:{row.line} {row.register}"


def near_duplicates(texts: "pd.DataFrame") -> Odd:
    """Yield test texts that are nearly in a training file of their language, or in distr.

    Nearly: of all runs of five words (of twelve characters, where words have no blanks between them) in the two texts,
    at least half are in both.
    """
    from scipy import sparse

    grams = [shingles(key) for key in texts["key"]]
    _, columns = np.unique(np.concatenate([[0], *grams]), return_inverse=True)
    starts = np.cumsum([0, *map(len, grams)])
    matrix = sparse.csr_matrix((np.ones(starts[-1], np.int32), columns[1:], starts))
    sizes = np.diff(starts)
    found = []
    for lang in texts["lang"].unique():
        is_train = (texts["split"] == "train") & texts["lang"].isin([lang, DISTR])
        test, train = (np.flatnonzero(part) for part in ((texts["file"] == f"test/{lang}"), is_train))
        if not len(test) or not len(train):
            continue
        common = (matrix[test] @ matrix[train].T).tocoo()
        i, j = test[common.row], train[common.col]
        similar = common.data / (sizes[i] + sizes[j] - common.data)
        best: dict[int, tuple[float, int]] = {}
        for k in np.flatnonzero(similar >= NEAR):
            if texts["key"].iloc[i[k]] != texts["key"].iloc[j[k]] and similar[k] > best.get(i[k], (0,))[0]:
                best[i[k]] = (similar[k], j[k])
        rows = texts[["file", "line", "register"]]
        found += [
            f"{place(rows.iloc[a])}, {place(rows.iloc[b])}: {100 * s:.0f} % in common" for a, (s, b) in best.items()
        ]
    yield f"{len(found)} test texts with a near-duplicate in training, which a training does not leave out", found


def shingles(text: str) -> np.ndarray:
    """Return numbers of the runs of words or characters that a text begins with, each once."""
    words = text.casefold().split()
    spaced = len(text) < 12 * len(words)
    units, n = (words[:READ], SHINGLE) if spaced else (list(text.casefold()[: 4 * READ]), CHARACTERS)
    numbers = np.fromiter(map(hash, units), np.int64, len(units)).astype(np.uint64)
    n = min(n, len(numbers))
    runs_of_units = np.lib.stride_tricks.sliding_window_view(numbers, n)
    factors = np.uint64(6364136223846793005) ** np.arange(n, dtype=np.uint64)
    return np.unique((runs_of_units * factors).sum(axis=1, dtype=np.uint64))


def odd_files(texts: "pd.DataFrame") -> Odd:
    """Yield what many texts of one file have and nearly none of the other files: its export differs, not its texts."""
    for what, pattern in MARKS.items():
        shares = texts["text"].str.contains(pattern, regex=True).groupby(texts["file"], sort=False).agg(["sum", "mean"])
        usual = shares["mean"].median()
        odd = shares[(shares["mean"] > 0.1) & (shares["mean"] > 5 * usual)]
        sizes = texts.groupby("file").size()
        yield (
            f"files with {what}, unlike the others",
            [f"{f}.tsv: {n:.0f} of {sizes[f]} texts" for f, n, _ in odd.itertuples()],
        )
    scripts = texts["text"].map(script)
    usual = scripts.groupby(texts["lang"]).agg(lambda found: found.mode()[0])
    other = texts[(scripts != texts["lang"].map(usual)) & (scripts != "") & (texts["lang"] != DISTR)]
    named = [f"{place(row)}: {scripts[row.Index].lower()}" for row in other.itertuples()]
    yield f"{len(named)} texts in another script than most of their language", named


def script(text: str) -> str:
    """Return the script of most of a text's first letters, as Unicode names it: LATIN; "" without letters."""
    scripts = Counter[str]()
    for char, n in Counter(text[:500]).items():
        if char.isalpha():
            name = re.split("[ -]", unicodedata.name(char, ""))[0]
            scripts[WRITTEN_TOGETHER.get(name, name)] += n
    return scripts.most_common(1)[0][0] if scripts else ""


def odd_registers(texts: "pd.DataFrame", registers: list[str]) -> Odd:
    """Yield the registers that can't be learnt or measured."""
    have = {split: set(found["register"]) for split, found in texts.groupby("split")}
    for split, what in (
        ("train", "training texts, in no language: none can be predicted"),
        ("test", "test texts, in no language: none can be measured"),
    ):
        absent = [register for register in registers if split in have and register not in have[split]]
        yield f"registers without {what}", [" ".join(absent)] if absent else []
    counts = texts.groupby(["file", "register"], sort=False).size()
    of_file = {file: found.droplevel(0).to_dict() for file, found in counts.groupby(level=0, sort=False)}
    untrained = [
        f"{file}.tsv: {' '.join(absent)}"
        for file, found in of_file.items()
        if (trained := of_file.get(f"train/{file.removeprefix('test/')}")) and file.startswith("test/")
        and (absent := [r for r in registers if r in found and r not in trained])
    ]  # fmt: skip
    yield "registers with test texts, and without training texts in the same language", untrained
    single = [f"{f}.tsv: {next(iter(n))}" for f, n in of_file.items() if f.startswith("train/") and len(n) < 2]
    yield "training files of one register: nothing to learn from it alone", single
    few = []
    for file, found in of_file.items():
        rare = [f"{r} {found[r]}" for r in registers if 0 < found.get(r, 0) < metrics.MIN_TEXTS]
        if file.startswith("test/") and rare:
            none_left = "; too few texts for macro_f1_10" * (len(found) - len(rare) < metrics.MIN_REGISTERS)
            few.append(f"{file}.tsv: {', '.join(rare)}{none_left}")
    yield f"registers with fewer than {metrics.MIN_TEXTS} test texts, left out of macro_f1_10", few


def odd_names(corpus: Path) -> Odd:
    """Yield the languages that have one part alone, and the files that can't be asked for."""
    train, test = (corpus_load.list_languages(corpus, split) for split in SPLITS)
    only_train = [lang for lang in train if lang not in test and lang != DISTR]
    only_test = [lang for lang in test if lang not in train]
    yield "languages without a test file: nothing to evaluate on", [" ".join(only_train)] * bool(only_train)
    yield "languages without a training file: only to evaluate on", [" ".join(only_test)] * bool(only_test)
    unread = [
        f"{split}/{path.name}"
        for split in SPLITS
        for path in sorted((corpus / "corpus" / split).glob("*"))
        if path.suffix != ".tsv" or not options.LANGUAGE.fullmatch(path.stem)
    ]
    yield f"files that can't be named, which takes {options.LANGUAGE_IS}, and .tsv", unread


def print_odd(kinds: Iterable[tuple[str, list[str]]]) -> None:
    for what, places in kinds:
        if places:
            print(f"\n{what}:")
            for line in places[:SHOWN]:
                print(f"  {runs.one_line(line)}")
            if len(places) > SHOWN:
                print(f"  … and {len(places) - SHOWN} more")


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    corpus = corpus_load.find_corpus(args.corpus)
    registers = list(corpus_load.load_registers(corpus))
    texts, unusable, skipped = read_all(corpus, registers)
    print(f"{corpus}: {len(registers)} registers, {len(texts)} texts")
    if len(texts):
        by_file = [texts["file"], texts["register"]]
        counts = texts.groupby(by_file, sort=False).size().unstack(fill_value=0)
        lengths = texts["text"].str.len().groupby(by_file, sort=False).median().unstack()
        print_table("texts", counts.reindex(columns=registers, fill_value=0).assign(all=counts.sum(axis=1)))
        print_table("characters of a text, medians", lengths.reindex(columns=registers))
    print_odd(
        [
            (f"{len(unusable)} files that can't be used", unusable),
            (f"{len(skipped)} rows skipped", skipped),
            *(odd_texts(texts) if len(texts) else ()),
            *(near_duplicates(texts) if len(texts) else ()),
            *(odd_files(texts) if len(texts) else ()),
            *odd_registers(texts, registers),
            *odd_names(corpus),
        ]
    )
    if args.train_langs:
        *_, report = corpus_load.load_training_texts(
            corpus, args.train_langs, registers,
            validation_size=args.validation_size, seed=args.seed, all_texts=args.all_texts,
        )  # fmt: skip
        print(f"\nA training on {' '.join(args.train_langs)}:")
        print(*map(runs.one_line, corpus_load.report_lines(report, registers)), sep="\n")
    return 1 if unusable or not len(texts) else 0


if __name__ == "__main__":
    runs.run_script(main)
