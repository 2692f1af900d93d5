"""Read a register-labelled corpus, split it, and turn its texts into tokens.

The layout is that of register-corpus:

    info/reg_abbv.json        register abbreviation -> name; the order defines the label ids
    info/lang2name.json       language -> name in English
    corpus/train/LANG.tsv     register<TAB>text, one text per row, no header, UTF-8; a text with a quote, tab
    corpus/test/LANG.tsv      or line end is quoted, quotes inside it doubled (csv's QUOTE_MINIMAL)
    corpus/train/distr.tsv    training texts in many languages, used like one language

Texts are not changed. Rows with an empty text and rows labelled `unused` are skipped and counted; any other row that
does not fit is a CorpusError with file and line.
"""

import csv
import difflib
import glob
import hashlib
import io
import json
import logging
import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.runs import LFS_POINTER, ROOT, UNPRINTABLE, RunError, first_line

if TYPE_CHECKING:  # loading them takes most of a second, too long for --help and a wrong option
    import pandas as pd
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

CORPUS_PATH = "../register-corpus"  # where the corpus is, relative to this repository

DISTR = "distr"  # the training file with texts in many languages
UNUSED = "unused"  # the label of rows that the author of the corpus has set aside

# unused is a label of its own, and row, gold and predicted are columns of the predictions
ABBREVIATION = re.compile(r'(?!(?:unused|row|gold|predicted)$)[^\W_][^"$\\]{0,31}(?<! )')
ABBREVIATION_IS = '1 to 32 characters, a letter or digit first, none of " $ \\, not unused, row, gold or predicted'
QUOTED_TWICE = re.compile('"(?=[^"\t\n\r]*(?:""|[\t\n\r]))(?:[^"]++|"")++"')
LONE_CR = "\ud800"  # stands for a lone CR while csv reads: a surrogate, which no UTF-8 file contains
CHARS_PER_TOKEN = 8  # a first guess at how many characters of a long text are needed

csv.field_size_limit(2**31 - 1)  # some texts exceed the 131,072 characters that csv allows

log = logging.getLogger(__name__)


class CorpusError(RunError):
    """A corpus that cannot be used."""


# ---- files ----


def find_corpus(option: str | None) -> Path:
    """Return the corpus folder: the option, else the variable REGISTER_CORPUS, else CORPUS_PATH.

    A relative path is relative to the current folder. load_registers checks whether a corpus is there.
    """
    chosen = option or os.environ.get("REGISTER_CORPUS")
    corpus = Path(os.path.expanduser(chosen)).absolute() if chosen else (ROOT / CORPUS_PATH).resolve()
    if UNPRINTABLE.search(str(corpus)):  # it could not be written into run.json
        raise CorpusError(f"{str(corpus)!a}: the name of this folder contains control characters; rename it")
    return corpus


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file; FileNotFoundError if it does not exist, CorpusError if it can't be read."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device could hang
            raise CorpusError(f"{path}: is not a file but a folder, a pipe or a device; put the file in its place")
        return path.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise
        raise CorpusError(f"{path}: can't be read: {error.strerror}; check the file and its permissions") from error


def decode(path: Path, content: bytes) -> str:
    """Decode UTF-8, without a byte order mark; CorpusError if it is not UTF-8, or only a pointer of Git LFS."""
    if content.startswith(LFS_POINTER):
        raise CorpusError(f"{path}:1: is only a pointer of Git LFS; in its folder, type: git lfs pull")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        how = "save it as text in UTF-8, or try: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW (or -f UTF-16)"
        raise CorpusError(f"{path}:{line}: is not UTF-8 (byte 0x{content[error.start]:02x}); {how}") from None


def load_registers(corpus: Path) -> dict[str, str]:
    """Return abbreviation -> name of each register, in the order that defines the label ids."""
    path = corpus / "info" / "reg_abbv.json"
    try:
        # as pairs, since a dict would hide a repeated key
        pairs = json.loads(decode(path, read_bytes(path)), object_pairs_hook=tuple)
    except FileNotFoundError:
        raise CorpusError(
            f"{corpus}: there is no corpus here (no info/reg_abbv.json); say where it is by --corpus-path, the "
            "variable REGISTER_CORPUS, or CORPUS_PATH in utils/corpus_load.py"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path}: is not valid JSON: {first_line(error)}; correct it") from None
    if not isinstance(pairs, tuple) or len(pairs) < 2:
        raise CorpusError(f'{path}: has fewer than two registers; write {{"IN": "information", "OP": "opinion"}}')
    for abbreviation, name in pairs:
        if not ABBREVIATION.fullmatch(abbreviation) or not abbreviation.isprintable():
            raise CorpusError(f"{path}: {abbreviation[:50]!r} is not allowed as an abbreviation; use {ABBREVIATION_IS}")
        if not isinstance(name, str) or not is_visible(name):
            raise CorpusError(f"{path}: {abbreviation!r} has no name; write one in quotes")
    if len(dict(pairs)) < len(pairs):
        raise CorpusError(f"{path}: an abbreviation is repeated; keep one")
    return dict(pairs)


def language_names(corpus: Path) -> dict[str, str]:
    """Return language -> English name, from info/lang2name.json; {} if it is missing or can't be used."""
    path = corpus / "info" / "lang2name.json"
    try:
        names = json.loads(decode(path, read_bytes(path)))
    except (CorpusError, OSError, ValueError, RecursionError):  # only what is displayed depends on it
        return {}
    pairs = names.items() if isinstance(names, dict) else ()
    return {lang: name for lang, name in pairs if isinstance(name, str) and not UNPRINTABLE.search(name)}


def list_languages(corpus: Path, split: str) -> list[str]:
    """Return the names of the split's files (train or test), in alphabetical order."""
    return sorted(name.removesuffix(".tsv") for name in glob.glob("*.tsv", root_dir=corpus / "corpus" / split))


def training_languages(option: str | None) -> list[str]:
    """Return the languages with a training file; option: as for find_corpus. [] if there is no corpus."""
    return list_languages(find_corpus(option), "train")


def read_language(corpus: Path, split: str, lang: str) -> bytes:
    """Return the bytes of corpus/SPLIT/LANG.tsv; CorpusError, with a suggestion, if there is no such file."""
    path = corpus / "corpus" / split / f"{lang}.tsv"
    try:
        return read_bytes(path)
    except FileNotFoundError:
        there = list_languages(corpus, split)
        # names of languages are suggested too: turkish is tr
        names = {name: known for known, name in language_names(corpus).items() if known in there}
        meant = did_you_mean(lang, names | {known: known for known in there})
        raise CorpusError(f"{path}: there is no such file; {meant}there are {' '.join(there) or 'none'}") from None


def hash_file(corpus: Path, split: str, lang: str) -> str:
    """Return the SHA-256 of corpus/SPLIT/LANG.tsv; CorpusError if it can't be read."""
    return hashlib.sha256(read_language(corpus, split, lang)).hexdigest()


def did_you_mean(word: str, names: dict[str, str]) -> str:
    """Return `did you mean …? ` with the value of the most similar name; "" if none is similar."""
    seen = {normalise(name).casefold(): meant for name, meant in names.items()}
    near = difflib.get_close_matches(normalise(word[:100]).casefold(), seen, n=1)
    return f"did you mean {seen[near[0]]}? " if near else ""


# ---- rows ----


def read_texts(corpus: Path, split: str, lang: str, registers: Collection[str]) -> "pd.DataFrame":
    """Read corpus/SPLIT/LANG.tsv as a DataFrame with the columns lang, row, line, register and text.

    row: number of the row in the file, from 1, as a spreadsheet shows it. line: the line on which the row begins, since
    a quoted text may span several. attrs: sha256 of the file, rows_skipped (their number) and skipped (`file:line:
    reason` of the first thousand). CorpusError at the first row that is not REGISTER<tab>TEXT.
    """
    import pandas as pd

    path = corpus / "corpus" / split / f"{lang}.tsv"
    content = read_language(corpus, split, lang)
    # with a quote that was left open by mistake, the rows after it become part of the text
    other_row = re.compile(rf'[\r\n]"?({"|".join(map(re.escape, [*registers, UNUSED]))})"?\t')
    # csv writes a lone CR without quotes, but ends the row there when it reads
    as_read = re.sub("\r(?!\n)", LONE_CR, decode(path, content))
    reader = csv.reader(io.StringIO(as_read, newline=""), delimiter="\t", strict=True)
    rows: list[tuple[str, int, int, str, str]] = []
    skipped: list[str] = []
    line = 1
    try:
        for number, fields in enumerate(reader, start=1):
            register, *columns = fields = [field.replace(LONE_CR, "\r") for field in fields] or [""]
            text = columns[0] if columns else ""
            # a register alone has lost its text; NULs are traces of damage to the file
            may_be_empty = "\0" not in register and (columns or register in registers or not is_visible(register))
            if register == UNUSED or (may_be_empty and not any(map(is_visible, columns))):
                skipped.append(f"{path}:{line}: {f'labelled {UNUSED}' if register == UNUSED else 'empty'}")
            elif len(columns) != 1 or register not in registers or ("\t" in text and other_row.search(text)):
                raise not_a_row(path, line, fields, registers)
            else:
                # the texts of distr.tsv were quoted twice
                twice = lang == DISTR and QUOTED_TWICE.fullmatch(text)
                rows.append((lang, number, line, register, text[1:-1].replace('""', '"') if twice else text))
            line = reader.line_num + 1
    except csv.Error:  # a quote that is not closed, or text after a closing quote
        fields = as_read.split("\n")[line - 1].replace(LONE_CR, "\r").split("\t", maxsplit=1)
        raise not_a_row(path, line, fields, registers) from None
    if not rows:
        raise CorpusError(f"{path}:1: has no text ({len(skipped)} rows skipped); write one per row, REGISTER<tab>TEXT")
    texts = pd.DataFrame(rows, columns=["lang", "row", "line", "register", "text"])
    sha256 = hashlib.sha256(content).hexdigest()
    # a spreadsheet may leave a million blank rows
    texts.attrs = {"sha256": sha256, "rows_skipped": len(skipped), "skipped": skipped[:1000]}
    return texts


def is_visible(text: str) -> bool:
    """Tell whether a text has visible characters, and not only blanks, control and zero-width characters."""
    return any(char != " " and char.isprintable() for char in text)


def not_a_row(path: Path, line: int, fields: list[str], registers: Collection[str]) -> CorpusError:
    """Return the error for a row that is not REGISTER<tab>TEXT: what is wrong and what to do."""
    beginning = repr("\t".join(fields)[:30])
    is_register = fields[0].strip('"') in registers
    if len(fields) == 1:
        found = f"no tab, {beginning}; put a tab between register and text, and a text of several lines in quotes"
    elif len(fields) > 2:
        found = f"{len(fields)} columns, {beginning}; put a text that holds a tab in quotes, and remove other columns"
    elif is_register:
        found = "a quote that is not closed before the next row; close it, and double the quotes inside a text"
    else:
        meant = did_you_mean(fields[0], {register: repr(register) for register in [*registers, UNUSED]})
        found = f"{fields[0][:30]!r}; {meant.strip() or 'correct the register'}"
    if line == 1 and not is_register:
        found += "; if this line is a header, remove it"
    where = f"{path}:{line}"
    return CorpusError(f"{where}: expected REGISTER<tab>TEXT with a register of info/reg_abbv.json, found {found}")


# ---- training texts ----


def load_training_texts(
    corpus: Path,
    train_langs: list[str],
    registers: list[str],
    *,
    validation_size: float,
    seed: int,
    all_texts: bool,
    n_texts: int | None = None,
) -> "tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]":
    """Read and split the training texts of these languages: training part, validation part, report.

    The result depends on corpus and seed only. Texts that also occur in any test file are left out. A text that is
    repeated in a file is used once; if it has several registers, or is in several languages, its rows stay
    together in the split. Unless all_texts, the same number of texts is taken from each language: n_texts, with those
    for validation among them, or that of the smallest. Both parts for a smaller n_texts are within those for a larger
    one. The report is for the log and run.json: names of languages, hashes, rows and skipped rows per file, and counts.
    """
    import pandas as pd

    files = {f"train/{lang}.tsv": read_texts(corpus, "train", lang, registers) for lang in train_langs}
    texts = pd.concat(files.values(), ignore_index=True)
    for lang in list_languages(corpus, "test"):
        try:
            files[f"test/{lang}.tsv"] = read_texts(corpus, "test", lang, registers)
        except CorpusError as error:
            if lang in train_langs:
                raise
            # a damaged test file of another language must not stop this training
            log.warning("%s (its texts were not compared with the training texts)", error)

    # leave out test texts and repetitions, then take the same number of texts from each language
    test_texts = {normalise(text) for name, file in files.items() if name.startswith("test/") for text in file["text"]}
    texts["key"] = texts["text"].map(normalise)
    texts["also_in_test"] = texts["key"].isin(test_texts)
    texts["repeated"] = texts.duplicated(["lang", "key", "register"]) & ~texts["also_in_test"]
    usable = texts[~texts["also_in_test"] & ~texts["repeated"]]
    by_lang = {lang: usable[usable["lang"] == lang] for lang in train_langs}
    smallest = min(train_langs, key=lambda lang: len(by_lang[lang]))
    size = len(by_lang[smallest])
    if size == 0:
        raise CorpusError(
            f"{corpus}/corpus/train/{smallest}.tsv: all its texts are also in test files; add other texts"
        )
    rng = np.random.default_rng(seed)
    pool = usable if all_texts else pd.concat([found.loc[draw(found, size, rng)] for found in by_lang.values()])

    # either all copies of a text are held out, or none
    once = pool.drop_duplicates("key")
    held_out = once.loc[draw(once, round(validation_size * len(once)), rng, leave_one=True), "key"]
    in_validation = pool["key"].isin(held_out)
    if n_texts:
        taken = first_texts(pool, in_validation, n_texts, validation_size, rng, corpus)
        pool, in_validation = pool.loc[taken], in_validation.loc[taken]
    columns = ["lang", "row", "line", "register", "text"]
    train, validation = pool.loc[~in_validation, columns], pool.loc[in_validation, columns]
    if validation.empty or train["register"].nunique() < 2:
        langs, n_registers = " ".join(train_langs), pool["register"].nunique()
        raise CorpusError(
            f"{corpus}: {langs}: {len(pool)} texts in {n_registers} registers are too few; training needs two "
            "registers, and some texts for validation"
        )

    names = language_names(corpus)
    texts["taken"] = texts.index.isin(pool.index)
    counts = texts.groupby("lang")[["also_in_test", "repeated", "taken"]].sum()
    facts = {}
    for lang in train_langs:
        file = files[f"train/{lang}.tsv"]
        skipped = {key: file.attrs[key] for key in ("rows_skipped", "skipped")}
        facts[lang] = {"texts": len(file), **skipped, **counts.loc[lang].to_dict()}
    digest = hashlib.sha256()
    for row in [*train.itertuples(), *validation.itertuples()]:
        digest.update(json.dumps([row.lang, row.register, row.text]).encode())
    report = {
        "files": {name: file.attrs["sha256"] for name, file in files.items()},
        "languages": {lang: names.get(lang, "") for lang in train_langs},
        "texts": facts,
        "several_registers": several_registers(texts, "train"),
        "train": count_registers(train, registers),
        "validation": count_registers(validation, registers),
        "texts_sha256": digest.hexdigest(),
    }
    return train, validation, report


def draw(texts: "pd.DataFrame", size: int, rng: np.random.Generator, *, leave_one: bool = False) -> "pd.Index":
    """Draw `size` texts, in proportion from each language and register; return their index, in the order of the texts.

    leave_one: leave at least one text of each language and register, so that fewer than `size` may be drawn.
    """
    strata = [group.index.to_numpy() for _, group in texts.groupby(["lang", "register"], sort=False)]
    quotas = np.array([size * len(stratum) / len(texts) for stratum in strata])
    sizes = np.floor(quotas).astype(int)
    largest_remainders = np.argsort(sizes - quotas, kind="stable")
    sizes[largest_remainders[: size - sizes.sum()]] += 1
    ends = [min(n, len(stratum) - leave_one) for stratum, n in zip(strata, sizes, strict=True)]
    drawn = [rng.permutation(stratum)[:end] for stratum, end in zip(strata, ends, strict=True)]
    return texts.index[texts.index.isin(np.concatenate(drawn))]


def first_texts(
    pool: "pd.DataFrame", in_validation: "pd.Series", n_texts: int, share: float, rng: np.random.Generator, corpus: Path
) -> "pd.Series":
    """Tell of each text whether it is among the first n_texts of its language, a share of them for validation.

    The order is drawn once for all numbers of texts, each register spread evenly over it.
    """
    strata = [in_validation, pool["lang"], pool["register"]]
    place = pool.groupby(strata)["text"].transform(
        lambda of: (rng.permutation(len(of)) + rng.random(len(of))) / len(of)
    )
    rank = place.groupby([in_validation, pool["lang"]]).rank(method="first")
    n_first = rank.copy()
    for lang, held_out in in_validation.groupby(pool["lang"]):
        n_held_out = int(held_out.sum())
        n_train = len(held_out) - n_held_out
        if n_texts > len(held_out):
            path = f"{corpus}/corpus/train/{lang}.tsv"
            raise CorpusError(f"{path}: {len(held_out)} texts can be used, fewer than --texts {n_texts}; take fewer")
        n_validation = min(max(round(share * n_texts), n_texts - n_train), n_held_out)
        n_first[held_out.index] = np.where(held_out, n_validation, n_texts - n_validation)
    return rank <= n_first


def normalise(text: str) -> str:
    """Return a text in the form in which texts are compared: NFKC, single blanks, no format characters.

    Texts that look the same to a reader are then equal, whatever program has written them. Format characters are
    zero-width characters and soft hyphens, for example.
    """
    hidden = {ord(char): None for char in set(text) if unicodedata.category(char) == "Cf"}
    return " ".join(unicodedata.normalize("NFKC", text.translate(hidden) if hidden else text).split())


def several_registers(texts: "pd.DataFrame", split: str) -> list[str]:
    """Return where each text with several registers occurs, as `train/en.tsv:3 IN, train/fr.tsv:9 OP`."""
    keys = texts["text"].map(normalise)
    several = texts[texts.groupby(keys)["register"].transform("nunique") > 1]
    places = split + "/" + several["lang"] + ".tsv:" + several["line"].astype(str) + " " + several["register"]
    return places.groupby(keys, sort=False).agg(", ".join).tolist()


def count_registers(texts: "pd.DataFrame", registers: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return language -> register -> number of texts, for every register."""
    counts = texts.groupby(["lang", "register"], sort=False).size().unstack(fill_value=0)
    return counts.reindex(columns=registers, fill_value=0).to_dict("index")


def report_lines(report: dict[str, Any], registers: Sequence[str]) -> Iterator[str]:
    """Yield the report of load_training_texts in lines: texts of each language and register, rows that were skipped."""
    import pandas as pd

    facts = pd.DataFrame(report["texts"]).T.rename(columns=lambda name: name.replace("_", " "))
    yield from facts.drop(columns="skipped").to_string().split("\n")
    if (facts["taken"] < facts["texts"] - facts["also in test"] - facts["repeated"]).any():
        yield "taken: the same number from each language, that of the smallest or of --texts (--all-texts takes all)"
    for skipped in facts["skipped"]:
        yield from [f"skipped {row}" for row in skipped[:10]]
    yield from several_lines(report["several_registers"])
    parts = {f"{part} {lang}": counts for part in ("train", "validation") for lang, counts in report[part].items()}
    table = pd.DataFrame.from_dict(parts, orient="index", columns=registers)
    yield from table.assign(all=table.sum(axis=1)).to_string().split("\n")


def several_lines(places: list[str]) -> list[str]:
    """Return the warning about texts with several registers, of which no classifier can get all right; names ten."""
    heading = f"{len(places)} texts occur under several registers (all rows are kept):"
    more = ["  …"] if len(places) > 10 else []
    return [heading, *(f"  {place}" for place in places[:10]), *more] if places else []


# ---- tokens ----


def to_dataset(
    texts: "pd.DataFrame", tokenizer: "PreTrainedTokenizerBase", max_length: int, registers: Sequence[str]
) -> "Dataset":
    """Return the texts as a torch-formatted datasets.Dataset, in memory, in the order given.

    Columns: input_ids (the first max_length tokens, with special tokens), labels (label ids in the order of registers),
    length (number of input_ids), over (whether the text has more than max_length tokens). In memory, because a cache
    on disk would be shared by several jobs.
    """
    from datasets import Dataset, Features, List, Value, concatenate_datasets
    from tqdm import tqdm

    int32 = Value("int32")
    features = Features(input_ids=List(int32), labels=Value("int64"), length=int32, over=Value("bool"))
    parts = []
    starts = range(0, len(texts), 1000)  # Python lists with the tokens of all texts would take ten times the memory
    for start in tqdm(starts, desc="tokenising", unit="000 texts", delay=2, leave=False, disable=None):
        part = texts.iloc[start : start + 1000]
        input_ids, over = first_tokens(part["text"].tolist(), tokenizer, max_length)
        labels = [registers.index(register) for register in part["register"]]
        columns = {"input_ids": input_ids, "labels": labels, "length": list(map(len, input_ids)), "over": over}
        parts.append(Dataset.from_dict(columns, features=features))
    return concatenate_datasets(parts).with_format("torch")


def first_tokens(
    texts: list[str], tokenizer: "PreTrainedTokenizerBase", max_length: int, *, whole: bool = False
) -> tuple[list[list[int]], list[bool]]:
    """Return the first max_length tokens of each text, and whether it has more.

    Only the beginning of a long text is tokenised, up to a blank: since no token crosses it, the tokens are the same as
    those of the whole text. If they are fewer than max_length, the whole text is tokenised.
    """
    ends = [-1 if whole else text.find(" ", CHARS_PER_TOKEN * max_length) for text in texts]
    beginnings = [text if end < 0 else text[:end] for text, end in zip(texts, ends, strict=True)]
    options: Any = {"truncation": True, "max_length": max_length}
    if tokenizer.is_fast:
        encoded = tokenizer(beginnings, **options)
        tokenizer.backend_tokenizer.no_truncation()  # otherwise truncation is saved with the tokenizer
        input_ids, over = encoded["input_ids"], [bool(encoding.overflowing) for encoding in encoded.encodings or ()]
    else:
        each = [tokenizer(text, return_overflowing_tokens=True, **options) for text in beginnings]
        input_ids, over = [one["input_ids"] for one in each], ["overflowing_tokens" in one for one in each]
    if too_short := [i for i, end in enumerate(ends) if end >= 0 and not over[i]]:
        again = first_tokens([texts[i] for i in too_short], tokenizer, max_length, whole=True)
        for i, ids, is_over in zip(too_short, *again, strict=True):
            input_ids[i], over[i] = ids, is_over
    return input_ids, over
