"""Read a register-labelled corpus, split it, and turn its texts into tokens.

The layout is register-corpus's:

    info/reg_abbv.json        register abbreviation -> name; the order defines the label ids
    info/lang2name.json       language -> name in English
    corpus/train/LANG.tsv     register<TAB>text, one text per row, no header, UTF-8; a text with a quote, tab
    corpus/test/LANG.tsv      or line end is quoted, quotes inside it doubled (csv's QUOTE_MINIMAL)
    corpus/train/distr.tsv    a training mix of many languages, used like a language

Texts are kept as they are, blanks at their ends and control characters included; they are compared by normalise. Rows
with an empty text and rows labelled `unused` are skipped and counted; anything else that does not fit is a CorpusError
that names file and line. So is a text with a line in it that looks like a row (REGISTER<tab>…): a quote left open by
mistake looks the same, and would take rows away unseen.

    python utils/audit.py CORPUS        tells what is in a corpus, without a model
"""

import csv
import difflib
import errno
import hashlib
import io
import json
import logging
import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.runs import LFS_POINTER, ROOT, UNPRINTABLE, RunError

if TYPE_CHECKING:  # they take most of a second to load, which --help and a wrong option do without
    import pandas as pd
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

CORPUS_PATH = "../register-corpus"  # where the corpus lies, relative to this repository

DISTR = "distr"  # the training mix that is no language
UNUSED = "unused"  # the label of rows that the corpus's author set aside

ABBREVIATION = re.compile(r'[^\W_][^"$\\]{0,31}(?<! )')
ABBREVIATION_IS = '1 to 32 printable characters, the first a letter or digit, no blank at the end, none of " $ \\'
NO_REGISTERS = {UNUSED, "row", "gold", "predicted"}  # the label of rows set aside; columns of the predictions
HEADERS = {"register", "registre", "label", "labels", "genre", "category", "class", "text", "texts", "texte", "content"}

LONE_CR = "\ud800"  # stands for it while csv reads: half a character, which no UTF-8 file holds
SKIPPED_SHOWN = 1000  # a spreadsheet's blank rows can be a million
CHARS_PER_TOKEN = 8  # a first guess at how much of a long text max_length tokens need

log = logging.getLogger(__name__)


class CorpusError(RunError):
    """A corpus that cannot be used."""


# ---- files ----


def find_corpus(option: str | None) -> Path:
    """Return the corpus folder: the option, else the variable REGISTER_CORPUS, else CORPUS_PATH.

    A relative option or variable counts from the current folder. Whether a corpus is there, load_registers tells.
    """
    chosen = option or os.environ.get("REGISTER_CORPUS")
    corpus = Path(os.path.expanduser(chosen)).absolute() if chosen else (ROOT / CORPUS_PATH).resolve()
    if UNPRINTABLE.search(str(corpus)):  # it could not be written in run.json
        raise CorpusError(f"{str(corpus)!a}: the name of this folder has control characters; rename it")
    return corpus


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; CorpusError if it can't be read, or is a pipe or a device, which could hang."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "a pipe or a device")
            return file.read()
    except OSError as error:
        broken_link = isinstance(error, FileNotFoundError) and path.is_symlink()
        reason = f"a link to {os.readlink(path)!r}, which is not there" if broken_link else error.strerror
        raise CorpusError(f"{path}: can't be read: {reason}") from error


def decode(path: Path, content: bytes) -> str:
    """Return UTF-8 as text, without a byte order mark; CorpusError if it is none, or if Git LFS left a pointer."""
    if content.startswith(LFS_POINTER):
        raise CorpusError(f"{path}:1: a pointer of Git LFS, not the file itself; type in its folder: git lfs pull")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        encoding = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:1000] else "WINDOWS-1252"
        raise CorpusError(
            f"{path}:{line}: not UTF-8, found the byte 0x{content[error.start]:02x}; save the file as text in UTF-8 "
            f"(perhaps: iconv -f {encoding} -t UTF-8 FILE > NEW)"
        ) from None


def load_registers(corpus: Path) -> dict[str, str]:
    """Return abbreviation -> name of each register, in the order that defines the label ids."""
    path = corpus / "info" / "reg_abbv.json"
    try:
        # as pairs: a dict would hide a key that comes twice
        pairs = json.loads(decode(path, read_bytes(path)), object_pairs_hook=tuple)
    except CorpusError as error:
        if not isinstance(error.__cause__, FileNotFoundError) or path.is_symlink():
            raise
        raise CorpusError(
            f"{corpus}: no corpus here, which has info/reg_abbv.json; give its place with --corpus-path, in the "
            "variable REGISTER_CORPUS, or as CORPUS_PATH in utils/corpus_load.py"
        ) from None
    except json.JSONDecodeError as error:
        raise CorpusError(f"{path}:{error.lineno}: not JSON: {error.msg}; correct this line") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets thousands deep
        pairs = None
    if not isinstance(pairs, tuple) or len(pairs) < 2:
        raise CorpusError(f'{path}: needs two or more registers, as {{"IN": "information", "OP": "opinion"}}')
    registers: dict[str, str] = {}
    for abbreviation, name in pairs:
        if not ABBREVIATION.fullmatch(abbreviation) or not abbreviation.isprintable():
            fault = f"can't be an abbreviation; take {ABBREVIATION_IS}"
        elif abbreviation in NO_REGISTERS:
            fault = "means something else here; take another abbreviation"
        elif abbreviation in registers:
            fault = "comes twice; keep one"
        elif not isinstance(name, str) or not is_visible(name):
            fault = "has no name; write one in quotes"
        else:
            registers[abbreviation] = name
            continue
        raise CorpusError(f"{path}: {abbreviation[:50]!r} {fault}")
    return registers


def language_names(corpus: Path) -> dict[str, str]:
    """Return language -> name in English, as info/lang2name.json has them; {} if there is no such file."""
    path = corpus / "info" / "lang2name.json"
    try:
        names = json.loads(decode(path, read_bytes(path)))
    except (CorpusError, ValueError, RecursionError):  # nothing but what a reader sees depends on it
        return {}
    found = names if isinstance(names, dict) else {}
    return {lang: name for lang, name in found.items() if isinstance(name, str) and UNPRINTABLE.search(name) is None}


def list_languages(corpus: Path, split: str) -> list[str]:
    """Return the names of the split's files (train or test), in alphabetical order."""
    return sorted(path.stem for path in (corpus / "corpus" / split).glob("[!.]*.tsv"))


def training_languages(option: str | None) -> list[str]:
    """Return the languages that can be trained on, option: as for find_corpus; [] without a corpus."""
    try:
        return list_languages(find_corpus(option), "train")
    except (CorpusError, OSError):  # told when it is needed
        return []


def read_language(corpus: Path, split: str, lang: str) -> bytes:
    """Return the bytes of corpus/SPLIT/LANG.tsv; CorpusError that says which language may be meant if there is none."""
    path = corpus / "corpus" / split / f"{lang}.tsv"
    try:
        return read_bytes(path)
    except CorpusError as error:
        if not isinstance(error.__cause__, FileNotFoundError) or path.is_symlink():
            raise
    there = list_languages(corpus, split)
    # by the name in info/lang2name.json too: turkish is tr
    names = {name.casefold(): lang for lang, name in language_names(corpus).items() if lang in there}
    names |= {lang.casefold(): lang for lang in there}
    near = difflib.get_close_matches(lang.casefold(), names, n=1)
    meant = f"did you mean {names[near[0]]}? " if near else ""
    raise CorpusError(f"{path}: no such file; {meant}there are {' '.join(there) or 'none'}")


def hash_file(corpus: Path, split: str, lang: str) -> str:
    """Return the SHA-256 of corpus/SPLIT/LANG.tsv; CorpusError if it can't be read."""
    return hashlib.sha256(read_language(corpus, split, lang)).hexdigest()


# ---- rows ----


def read_texts(corpus: Path, split: str, lang: str, registers: Iterable[str]) -> "pd.DataFrame":
    """Read corpus/SPLIT/LANG.tsv as a DataFrame with the columns lang, row, line, register and text.

    row: the place in the file counted in rows from 1, as a spreadsheet shows it. line: the line on which the row
    begins; a quoted text may span many. attrs has the file's sha256, the number of rows_skipped, and in skipped
    `file:line: reason` of the first thousand of them. CorpusError where a row is not REGISTER<tab>TEXT.
    """
    import pandas as pd

    path = corpus / "corpus" / split / f"{lang}.tsv"
    content = read_language(corpus, split, lang)
    known = set(registers)
    other_row = re.compile(rf'[\r\n]"?({"|".join(map(re.escape, [*known, UNUSED]))})"?\t')
    # csv leaves a lone CR unquoted where it writes, and ends the row there where it reads
    as_read = re.sub("\r(?!\n)", LONE_CR, decode(path, content))
    csv.field_size_limit(2**31 - 1)  # some texts exceed csv's 131,072 characters
    reader = csv.reader(io.StringIO(as_read, newline=""), delimiter="\t", strict=True)
    rows: list[tuple[str, int, int, str, str]] = []
    skipped: list[str] = []
    n_skipped, line, fault = 0, 1, ""
    try:
        for number, fields in enumerate(reader, start=1):
            register, *columns = [field.replace(LONE_CR, "\r") for field in fields] or [""]
            if register == UNUSED or _is_empty(register, columns, known):
                n_skipped += 1
                if n_skipped <= SKIPPED_SHOWN:
                    skipped.append(f"{path}:{line}: {f'labelled {UNUSED}' if register == UNUSED else 'empty'}")
            elif len(columns) != 1 or register not in known:
                fault = _what_is_wrong([register, *columns], known, is_first=line == 1)
                break
            elif "\t" in columns[0] and (found := other_row.search(columns[0])):
                fault = _open_quote(f"before line {line + columns[0].count(chr(10), 0, found.start() + 1)}")
                break
            else:
                rows.append((lang, number, line, register, _unquote_again(columns[0]) if lang == DISTR else columns[0]))
            line = reader.line_num + 1
    except csv.Error:
        first_line = as_read.split("\n")[line - 1].replace(LONE_CR, "\r")
        no_tab = "\t" not in first_line
        fault = _what_is_wrong([first_line], known, is_first=line == 1) if no_tab else _open_quote("where it should be")
    if fault:
        one_of = f"a register of {' '.join(sorted(known))}" if len(known) <= 20 else "a register of info/reg_abbv.json"
        raise CorpusError(f"{path}:{line}: expected REGISTER<tab>TEXT with {one_of}, found {fault}")
    if not rows:
        raise CorpusError(f"{path}:1: no text ({n_skipped} rows skipped); put one text per row, REGISTER<tab>TEXT")
    texts = pd.DataFrame(rows, columns=["lang", "row", "line", "register", "text"])
    texts.attrs = {"sha256": hashlib.sha256(content).hexdigest(), "rows_skipped": n_skipped, "skipped": skipped}
    return texts


def is_visible(text: str) -> bool:
    """Tell whether there is anything to be seen: not only blanks, control and zero-width characters."""
    return any(char != " " and char.isprintable() for char in text)


def _is_empty(register: str, columns: list[str], registers: Collection[str]) -> bool:
    """Tell whether a row holds no text: nothing at all, or nothing after its first column."""
    if "\0" in register or any(map(is_visible, columns)):  # NULs: a file that was damaged there
        return False
    return bool(columns) or register in registers or not is_visible(register)


def _unquote_again(text: str) -> str:
    """Undo the second quoting of the corpus's own distr.tsv, where texts with quotes arrive in literal quotes."""
    inner = text[1:-1]
    quoted = len(text) > 2 and text[0] == text[-1] == '"'
    needed_quotes = any(mark in inner for mark in ('""', "\t", "\n", "\r"))
    return inner.replace('""', '"') if quoted and needed_quotes and '"' not in inner.replace('""', "") else text


def _what_is_wrong(fields: list[str], registers: Collection[str], *, is_first: bool) -> str:
    """Say what is wrong with a row that is not REGISTER<tab>TEXT, and what to do."""
    label, labels = _as_seen(fields[0]), {_as_seen(known): known for known in [*registers, UNUSED]}
    found = "\t".join(fields)
    shown = repr(found if len(found) <= 30 else f"{found[:30]}…")
    if is_first and fields[0] not in registers and HEADERS & set(re.split("[,;|\t]", found[:200].casefold())):
        return f"{shown}, which looks like a header: remove this line"
    if len(fields) == 1:
        return f"no tab, {shown}: put a tab between register and text, and a text of several lines in quotes"
    if len(fields) > 2:
        return f"{len(fields)} columns, {shown}: keep register and text, and put a text that holds a tab in quotes"
    register = repr(fields[0] if len(fields[0]) <= 30 else f"{fields[0][:30]}…")
    if near := [label] if label in labels else difflib.get_close_matches(label, labels, n=1):
        return f"{register}: did you mean {labels[near[0]]!r}?"
    return f"{register}: if this is a header, remove the line" if is_first else f"{register}: correct the register"


def _open_quote(where: str) -> str:
    return f"a quote at the beginning of the text that is not closed {where}: close it; double the quotes inside a text"


def _as_seen(label: str) -> str:
    """Return a label to compare with others as the eye does: no case, no marks around it, no invisible characters."""
    label = unicodedata.normalize("NFKC", label[:100]).casefold()
    return "".join(char for char in label if char.isprintable()).strip(" .:,;\"'“”„‟‘’‚‛«»‹›`")


# ---- training texts ----


def load_training_texts(
    corpus: Path,
    train_langs: Sequence[str],
    registers: Sequence[str],
    *,
    validation_size: float,
    seed: int,
    all_texts: bool,
) -> "tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]":
    """Read and split the training texts of these languages: training part, validation part, report.

    A function of corpus and seed alone. Left out: texts that also occur in any of the corpus's test files. A text that
    occurs several times in a file is one text; under several registers, or in several languages, its rows stay together
    in the split. Unless all_texts, as many texts are taken of each language as the smallest has. The report holds, for
    the log and run.json: names of languages, hashes, rows and skipped rows per file, and counts.
    """
    import pandas as pd

    files = {lang: read_texts(corpus, "train", lang, registers) for lang in train_langs}
    test_texts: set[str] = set()
    hashes = {f"train/{lang}.tsv": file.attrs["sha256"] for lang, file in files.items()}
    for lang in list_languages(corpus, "test"):
        try:
            test = read_texts(corpus, "test", lang, registers)
        except CorpusError as error:
            if lang in train_langs:
                raise
            # a broken test file of a language that is not trained on must not stop this training
            log.warning("%s (not compared with the training texts)", error)
            continue
        test_texts.update(map(normalise, test["text"]))
        hashes[f"test/{lang}.tsv"] = test.attrs["sha256"]

    texts = pd.concat([file.assign(key=file["text"].map(normalise)) for file in files.values()], ignore_index=True)
    also_in_test = texts["key"].isin(test_texts)
    repeated = texts.duplicated(["lang", "key", "register"]) & ~also_in_test
    usable = {lang: texts[(texts["lang"] == lang) & ~also_in_test & ~repeated] for lang in train_langs}
    for lang, found in usable.items():
        if found.empty:
            raise CorpusError(f"{corpus}/corpus/train/{lang}.tsv: all its texts are test texts, too")
    rng = np.random.default_rng(seed)
    smallest = min(map(len, usable.values()))
    taken = usable if all_texts else {lang: found.loc[_draw(found, smallest, rng)] for lang, found in usable.items()}
    pool = pd.concat(list(taken.values()))
    once = pool.drop_duplicates("key")
    held_out = once.loc[_draw(once, round(validation_size * len(once)), rng, leave_one=True), "key"]
    in_validation = pool["key"].isin(held_out)
    train, validation = pool[~in_validation].drop(columns="key"), pool[in_validation].drop(columns="key")
    if train.empty or validation.empty:
        raise CorpusError(
            f"{corpus}: {len(pool)} texts of {' '.join(train_langs)} are too few to split into training and validation"
        )
    if train["register"].nunique() == 1:
        raise CorpusError(
            f"{corpus}: the training texts of {' '.join(train_langs)} are all of one register, "
            f"{train['register'].iloc[0]}; a training needs two or more"
        )
    names = language_names(corpus)
    report = {
        "files": hashes,
        "languages": {lang: names.get(lang, "") for lang in train_langs},
        "texts": {
            lang: {
                "texts": len(file),
                "rows_skipped": file.attrs["rows_skipped"],
                "skipped": file.attrs["skipped"],
                "also_in_test": int(also_in_test[texts["lang"] == lang].sum()),
                "repeated": int(repeated[texts["lang"] == lang].sum()),
                "taken": len(taken[lang]),
            }
            for lang, file in files.items()
        },
        "several_registers": several_registers(texts, "train"),
        "train": count_registers(train, registers),
        "validation": count_registers(validation, registers),
        "texts_sha256": _hash_texts(pd.concat([train, validation])),
    }
    return train, validation, report


def _draw(texts: "pd.DataFrame", size: int, rng: np.random.Generator, *, leave_one: bool = False) -> "pd.Index":
    """Draw `size` texts, from each language and register in proportion; return their index, in the texts' order.

    leave_one: leave at least one text of each language and register, so that fewer than `size` may be drawn.
    """
    strata = [group.index.to_numpy() for _, group in texts.groupby(["lang", "register"], sort=False)]
    quotas = np.array([size * len(stratum) / len(texts) for stratum in strata])
    sizes = np.floor(quotas).astype(int)
    largest_remainders = np.argsort(sizes - quotas, kind="stable")
    sizes[largest_remainders[: size - sizes.sum()]] += 1
    drawn = [
        rng.permutation(stratum)[: min(n, len(stratum) - 1) if leave_one else n]
        for stratum, n in zip(strata, sizes, strict=True)
    ]
    return texts.index[texts.index.isin(np.concatenate(drawn))]


def normalise(text: str) -> str:
    """Return what of a text is compared: as NFKC, without format characters (zero-width, soft hyphens), blanks as one.

    Seen by a reader, two texts that are equal so are the same, however a program has written them.
    """
    hidden = {ord(char): None for char in set(text) if unicodedata.category(char) == "Cf"}
    return " ".join(unicodedata.normalize("NFKC", text.translate(hidden) if hidden else text).split())


def several_registers(texts: "pd.DataFrame", split: str) -> list[str]:
    """Return, for each text that occurs under several registers, where: `train/en.tsv:3 IN, train/fr.tsv:9 OP`."""
    keys = texts["text"].map(normalise)
    several = texts[keys.groupby(keys).transform("size") > 1]
    return [
        ", ".join(f"{split}/{row.lang}.tsv:{row.line} {row.register}" for row in found.itertuples())
        for _, found in several.groupby(keys, sort=False)
        if found["register"].nunique() > 1
    ]


def count_registers(texts: "pd.DataFrame", registers: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return language -> register -> number of texts, every register named."""
    counts = texts.groupby(["lang", "register"]).size().to_dict()
    return {
        lang: {register: counts.get((lang, register), 0) for register in registers} for lang in texts["lang"].unique()
    }


def _hash_texts(texts: "pd.DataFrame") -> str:
    digest = hashlib.sha256()
    for text in texts.itertuples():
        digest.update(json.dumps([text.lang, text.register, text.text]).encode())
    return digest.hexdigest()


def report_lines(report: dict[str, Any], registers: Sequence[str]) -> Iterator[str]:
    """Yield what load_training_texts found, a line per fact, skipped rows by file:line."""
    for lang, facts in report["texts"].items():
        yield f"train/{lang}.tsv: {facts['texts']} texts, {facts['rows_skipped']} rows skipped"
        yield from first_ten([f"skipped {row}" for row in facts["skipped"]], facts["rows_skipped"])
        if facts["also_in_test"]:
            yield f"  {facts['also_in_test']} texts also occur in test files: left out of training"
        if facts["repeated"]:
            yield f"  {facts['repeated']} texts occur again: each is taken once"
        usable = facts["texts"] - facts["also_in_test"] - facts["repeated"]
        if facts["taken"] < usable:
            only = "as many as the smallest language has (--all-texts takes all)"
            yield f"  taken: {facts['taken']} of {usable}, {only}"
    yield from several_lines(report["several_registers"])
    widths = {register: max(len(register), 5) for register in registers}
    yield f"{'texts':16} {' '.join(f'{register:>{width}}' for register, width in widths.items())} {'all':>6}"
    for part in ("train", "validation"):
        for lang, counts in report[part].items():
            cells = " ".join(f"{counts[register]:{width}d}" for register, width in widths.items())
            yield f"{f'{part} {lang}':16} {cells} {sum(counts.values()):6d}"


def several_lines(places: list[str]) -> list[str]:
    """Return what to say of several_registers' places: no classifier can get all these rows right."""
    found = f"{len(places)} texts occur under several registers (all rows are kept):"
    return [found, *first_ten(places, len(places))] if places else []


def first_ten(lines: list[str], n: int) -> list[str]:
    """Return the first of n lines, and how many more there are."""
    return [*(f"  {line}" for line in lines[:10]), *([f"  … and {n - 10} more"] if n > 10 else [])]


# ---- tokens ----


def to_dataset(
    texts: "pd.DataFrame", tokenizer: "PreTrainedTokenizerBase", max_length: int, registers: Sequence[str]
) -> "Dataset":
    """Return the texts as a torch-formatted datasets.Dataset, in memory, in the order given.

    Columns: input_ids (the first max_length tokens, special ones included), labels (label ids in the
    registers' order), length (tokens kept), over (whether the text has more than max_length tokens).
    In memory, because a cache would be shared by several jobs.
    """
    from datasets import Dataset, Features, List, Value, concatenate_datasets
    from tqdm import tqdm

    features = Features(
        {"input_ids": List(Value("int32")), "labels": Value("int64"), "length": Value("int32"), "over": Value("bool")}
    )
    label_ids = {register: index for index, register in enumerate(registers)}
    parts = []
    starts = range(0, len(texts), 1000)  # as Python lists, the tokens of all texts would take ten times the memory
    for start in tqdm(starts, desc="texts into tokens", unit="000 texts", delay=2, leave=False, disable=None):
        part = texts.iloc[start : start + 1000]
        input_ids, over = first_tokens(part["text"].tolist(), tokenizer, max_length)
        columns = {
            "input_ids": input_ids,
            "labels": part["register"].map(label_ids).tolist(),
            "length": list(map(len, input_ids)),
            "over": over,
        }
        parts.append(Dataset.from_dict(columns, features=features))
    return concatenate_datasets(parts).with_format("torch")


def first_tokens(
    texts: list[str], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> tuple[list[list[int]], list[bool]]:
    """Return each text's first max_length tokens, and whether it has more.

    Only the beginning of a long text is tokenised, up to a blank, where no tokenizer's word goes on:
    its tokens are those of the whole text. If they don't fill max_length, the whole text is taken.
    """
    options: Any = {
        "truncation": True, "max_length": max_length, "return_attention_mask": False, "return_token_type_ids": False,
    }  # fmt: skip

    def encode(texts: list[str]) -> tuple[list[list[int]], list[bool]]:
        if tokenizer.is_fast:
            encoded = tokenizer(texts, **options)
            tokenizer.backend_tokenizer.no_truncation()  # else it is saved with it, and read as settings of its own
            return encoded["input_ids"], [bool(encoding.overflowing) for encoding in encoded.encodings or ()]
        each = [tokenizer(text, return_overflowing_tokens=True, **options) for text in texts]
        return [encoded["input_ids"] for encoded in each], ["overflowing_tokens" in encoded for encoded in each]

    ends = [text.find(" ", CHARS_PER_TOKEN * max_length) for text in texts]
    input_ids, over = encode([text if end < 0 else text[:end] for text, end in zip(texts, ends, strict=True)])
    if too_short := [i for i, end in enumerate(ends) if end >= 0 and not over[i]]:
        for i, ids, is_over in zip(too_short, *encode([texts[i] for i in too_short]), strict=True):
            input_ids[i], over[i] = ids, is_over
    return input_ids, over
