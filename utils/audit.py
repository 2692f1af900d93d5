"""Audit a corpus without a model: what it contains, what is unusual, and which texts a training would use.

    python utils/audit.py CORPUS
    python utils/audit.py CORPUS --train-langs en fr

Reads   CORPUS/info/reg_abbv.json and every file of CORPUS/corpus/train/ and test/; nothing is written
Exit    0 all files can be used, however unusual; 1 the corpus or one of its files can't be used; 2 wrong use
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
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from utils import corpus_load, metrics, options, runs
from utils.corpus_load import DISTR, CorpusError

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "test")
NEAR = 0.5  # Jaccard similarity of near-duplicates
MARKS = {  # traces that an export leaves in texts, and their patterns
    r"a literal \n in place of line ends": r"\\n",
    "mark-up": r"</?[A-Za-z][^<>]{0,200}>|&(?:[a-z]{2,8}|#\d+);",
    "characters that could not be read (U+FFFD)": "\ufffd",
}
WRITTEN_TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "HANGUL": "CJK"}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = options.new_parser(
        "Report what a corpus contains, what is unusual in it, and which texts a training would use.",
        "python utils/audit.py ../register-corpus --train-langs en fr",
    )
    where = f"its folder (default: the variable REGISTER_CORPUS, else {corpus_load.CORPUS_PATH})"
    parser.add_argument("corpus", nargs="?", type=options.filled, metavar="CORPUS", help=where)
    training = parser.add_argument_group("training, as for finetune.py")
    training.add_argument(
        "--train-langs", nargs="+", default=[], metavar="LANG", help="report which texts it would use"
    )
    training.add_argument("--all-texts", action="store_true")
    training.add_argument("--validation-size", type=options.share, default=0.2, metavar="SHARE")
    training.add_argument("--seed", type=options.natural, default=42, metavar="N")
    args = options.parse(parser, argv)
    options.check_names(parser, "--train-langs", args.train_langs, options.LANGUAGE, options.LANGUAGE_IS)
    options.read_languages(parser, args, corpus_load.training_languages(args.corpus))
    return args


def show(what: str, places: Iterable[str]) -> None:
    """Print something unusual, in words, and the first places where it occurs; nothing if there are none."""
    lines = [f"  {runs.one_line(place)}" for place in places]
    if lines:
        print(f"\n{what} ({len(lines)}):", *lines[:20], *["  …"] * (len(lines) > 20), sep="\n")


def show_unusual_texts(texts: "pd.DataFrame") -> None:
    """Show texts that occur in several places, and test texts with a near-duplicate in training.

    Two texts are near-duplicates if at least half of all their runs of five words (of twelve characters, in scripts
    without blanks) are in both. A test text is compared with the training texts of its language and of distr.
    """
    import pandas as pd
    from sklearn.feature_extraction.text import HashingVectorizer

    # the same text in several places
    several = texts[texts.duplicated("key", keep=False)]
    groups = several.groupby("key", sort=False)
    places, in_both = groups["place"].agg(", ".join), groups["split"].nunique() > 1
    # distr is made of the other files, so a text may well be in it too
    in_others = (several["file"] != f"train/{DISTR}").groupby(several["key"], sort=False).sum() > 1
    show("texts in both training and test files: left out of training", places[in_both])
    show("texts that are repeated in training or test files: used once per file", places[~in_both & in_others])
    show("texts under several registers: no classifier can get all right", places[groups["register"].nunique() > 1])

    # the number of common runs of every test and training text, from two sparse matrices
    vectorizer = HashingVectorizer(analyzer=shingles, n_features=2**24, norm=None, alternate_sign=False, binary=True)
    matrix = vectorizer.transform(texts["key"])
    train, test = (np.flatnonzero(texts["split"] == split) for split in SPLITS)
    common = (matrix[test] @ matrix[train].T).tocoo()
    i, j, sizes = test[common.row], train[common.col], matrix.getnnz(axis=1)
    pairs = pd.DataFrame({"test": i, "train": j, "similar": common.data / (sizes[i] + sizes[j] - common.data)})
    # for each test text, its nearest training text
    lang, key, place = (texts[column].to_numpy() for column in ("lang", "key", "place"))
    near = pairs[(pairs["similar"] >= NEAR) & (key[i] != key[j]) & ((lang[i] == lang[j]) | (lang[j] == DISTR))]
    nearest = near.sort_values(["test", "similar", "train"]).drop_duplicates("test", keep="last")
    places = [f"{place[a]}, {place[b]}: {100 * share:.0f} % in common" for _, a, b, share in nearest.itertuples()]
    show("test texts with a near-duplicate in training, which is not left out", places)


def shingles(text: str) -> list[str]:
    """Return the runs of words or characters in as much of a text as a model reads."""
    text = text.casefold()
    words = text.split()
    spaced = len(text) < 12 * len(words)
    units, n = (words[:400], 5) if spaced else (list(text[:1600]), 12)
    return [" ".join(run) for run in zip(*(units[i:] for i in range(n)), strict=False)] or [" ".join(units)]


def show_unusual_files(texts: "pd.DataFrame") -> None:
    """Show what is frequent in one file and rare in the others: probably its export differs, not its texts."""
    for what, pattern in MARKS.items():
        by_file = texts["text"].str.contains(pattern, regex=True).groupby(texts["file"], sort=False)
        counts = by_file.agg(["sum", "size", "mean"])
        unusual = counts[(counts["mean"] > 0.1) & (counts["mean"] > 5 * counts["mean"].median())]
        files = [f"{file}.tsv: {n} of {size} texts" for file, n, size, _ in unusual.itertuples()]
        show(f"files that, unlike the others, have {what}", files)
    # most texts of a language are in one script
    scripts = texts["text"].map(script)
    usual = scripts.groupby(texts["lang"]).transform(lambda found: found.mode()[0])
    other = (scripts != usual) & (scripts != "") & (texts["lang"] != DISTR)
    places = texts["place"][other] + ": " + scripts[other].str.lower()
    show("texts in another script than most texts of their language", places)


def script(text: str) -> str:
    """Return the script of most of the first letters of a text, by its Unicode name, as LATIN; "" without letters."""
    scripts = Counter[str]()
    for char, n in Counter(text[:500]).items():
        if char.isalpha():
            name = re.split("[ -]", unicodedata.name(char, ""))[0]
            scripts[WRITTEN_TOGETHER.get(name, name)] += n
    return max(scripts, key=scripts.__getitem__, default="")


def show_unusual_registers(counts: "pd.DataFrame") -> None:
    """Show the registers that can't be learnt or measured. counts: of texts, files x registers."""
    train, test = (counts[counts.index.str.startswith(f"{split}/")] for split in SPLITS)
    for files, what in ((train, "training texts: can't be learnt"), (test, "test texts: can't be measured")):
        show(f"registers without {what}", files.columns[files.sum() == 0] if len(files) else [])
    # registers that a test file has and the training file of its language has not
    trained = train.rename(index=lambda file: file.replace("train/", "test/")).reindex(test.index)
    absent = (test > 0) & (trained == 0)
    untrained = [f"{file}.tsv: {' '.join(row.index[row])}" for file, row in absent.iterrows() if row.any()]
    show("test files with registers that have no training texts in the same language", untrained)
    single = [f"{file}.tsv: {row.idxmax()}" for file, row in train.iterrows() if (row > 0).sum() == 1]
    show("training files with a single register: nothing can be learnt from them alone", single)
    few = []
    for file, row in test.iterrows():
        rare = ", ".join(f"{register} {n}" for register, n in row.items() if 0 < n < metrics.MIN_TEXTS)
        none_left = "; too few texts for macro_f1_10" * (not metrics.measurable(row).any())
        few += [f"{file}.tsv: {rare}{none_left}"] if rare else []
    show(f"test files with registers that have fewer than {metrics.MIN_TEXTS} texts: left out of macro_f1_10", few)


def show_unusual_names(corpus: Path) -> None:
    """Show languages that have only one of the two files, and files whose names can't be used."""
    train, test = (corpus_load.list_languages(corpus, split) for split in SPLITS)
    only_train = [lang for lang in train if lang not in [*test, DISTR]]
    show("languages without a test file: nothing to evaluate on", only_train)
    show("languages without a training file: only for evaluation", [lang for lang in test if lang not in train])
    paths = [path for split in SPLITS for path in sorted((corpus / "corpus" / split).glob("*"))]
    unread = [p for p in paths if p.suffix != ".tsv" or not options.LANGUAGE.fullmatch(p.stem)]
    names = [f"{path.parent.name}/{path.name}" for path in unread]
    show(f"files whose names are not allowed: a name is {options.LANGUAGE_IS}, then .tsv", names)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    import pandas as pd

    corpus = corpus_load.find_corpus(args.corpus)
    registers = list(corpus_load.load_registers(corpus))
    # read all files, however many of them can't be used
    files, unusable, skipped = [], [], []
    for split in SPLITS:
        for lang in corpus_load.list_languages(corpus, split):
            try:
                file = corpus_load.read_texts(corpus, split, lang, registers)
            except CorpusError as error:
                unusable.append(str(error))
                continue
            skipped += file.attrs["skipped"]
            name = runs.one_line(f"{split}/{lang}")
            place = f"{name}.tsv:" + file["line"].astype(str) + " " + file["register"]
            files.append(file.assign(split=split, file=name, place=place, key=file["text"].map(corpus_load.normalise)))
    print(f"{corpus}: {len(registers)} registers, {sum(map(len, files))} texts")
    show("files that can't be used", unusable)
    show("rows skipped", skipped)
    show_unusual_names(corpus)
    # what there is, then what is unusual
    if files:
        texts = pd.concat(files, ignore_index=True)
        by_file = texts["text"].str.len().groupby([texts["file"], texts["register"]], sort=False)
        counts = by_file.size().unstack(fill_value=0).reindex(columns=registers, fill_value=0)
        lengths = by_file.median().unstack().reindex(columns=registers)
        form = {"na_rep": "", "float_format": "{:.0f}".format, "index_names": False, "line_width": 120}
        print("\ntexts:", counts.assign(all=counts.sum(axis=1)).to_string(**form), sep="\n")
        print("\ncharacters of a text, medians:", lengths.to_string(**form), sep="\n")
        show_unusual_texts(texts)
        show_unusual_files(texts)
        show_unusual_registers(counts)
    if args.train_langs:
        *_, report = corpus_load.load_training_texts(
            corpus, args.train_langs, registers,
            validation_size=args.validation_size, seed=args.seed, all_texts=args.all_texts,
        )  # fmt: skip
        print(f"\nA training on {' '.join(args.train_langs)}:")
        print(*map(runs.one_line, corpus_load.report_lines(report, registers)), sep="\n")
    return 1 if unusable or not files else 0


if __name__ == "__main__":
    runs.run_script(main)
