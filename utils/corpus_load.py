"""Read a register-labelled corpus, audit it, and split it.

The layout is register-corpus's:

    info/reg_abbv.json        register abbreviation -> name; the order defines the label ids
    info/lang2name.json       language -> name in English
    corpus/train/LANG.tsv     register<TAB>text, one text per row, no header, UTF-8; a text with a quote, tab
    corpus/test/LANG.tsv      or line end is quoted, quotes inside it doubled (csv's QUOTE_MINIMAL)
    corpus/train/distr.tsv    a training mix of many languages, used like a language

Rows with an empty text and rows labelled `unused` are skipped and counted; anything else that does not
fit is a CorpusError that names file and line. Texts are kept as they are, blanks at their ends and
control characters included. Of one text under several registers every row is kept, and named.

    python -m utils.corpus_load CORPUS        audits a corpus, without a model (utils/audit.py)
"""

if __name__ == "__main__":  # first: a signal during the imports below is answered too
    from utils.files import stop

    stop.end_on_signals()

import argparse
import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.files import tsv
from utils.files.tsv import UNUSED, CorpusError
from utils.runs import ROOT, UNPRINTABLE

CORPUS_PATH = "../register-corpus"  # where the corpus lies, relative to this repository

DISTR = "distr"  # the training mix that is no language

ABBREVIATION = re.compile(r'[^\W_][^"$\\]{0,31}(?<! )')
ABBREVIATION_IS = '1 to 32 printable characters, the first a letter or digit, no blank at the end, none of " $ \\'
NO_REGISTERS = {UNUSED, "row", "gold", "predicted"}  # the label of rows set aside; columns of the predictions

log = logging.getLogger(__name__)


class Text(NamedTuple):
    """One text of the corpus; its register never leaves it.

    lang: the name of its file. row: its place in the file counted in rows from 1, as a spreadsheet
    shows it. line: the line on which the row begins (a quoted text may span many).
    """

    lang: str
    row: int
    line: int
    register: str
    text: str


class CorpusFile(NamedTuple):
    """What one file of the corpus holds. skipped: `file:line: reason` of each row left out."""

    sha256: str
    texts: list[Text]
    skipped: list[str]


class TrainingTexts(NamedTuple):
    """The texts of a training, split, with what the audit found (see load_training_texts)."""

    train: list[Text]
    validation: list[Text]
    report: dict


def find_corpus(option: str | None) -> Path:
    """Return the corpus folder: the option, else the variable REGISTER_CORPUS, else CORPUS_PATH.

    CorpusError if there is no corpus. A relative option or variable counts from the current folder.
    """
    chosen = option or os.environ.get("REGISTER_CORPUS")
    corpus = Path(os.path.expanduser(chosen)).absolute() if chosen else (ROOT / CORPUS_PATH).resolve()
    if UNPRINTABLE.search(str(corpus)):  # it could not be written in run.json
        raise CorpusError(f"{str(corpus)!a}: expected a folder's name without control characters")
    if not tsv.exists(corpus / "info" / "reg_abbv.json"):
        raise CorpusError(
            f"{corpus}: expected a corpus folder with info/reg_abbv.json, found none; give its place with "
            "--corpus-path, in the variable REGISTER_CORPUS, or as CORPUS_PATH in utils/corpus_load.py"
        )
    return corpus


def load_registers(corpus: Path) -> dict[str, str]:
    """Return abbreviation -> name of each register, in the order that defines the label ids."""
    path = corpus / "info" / "reg_abbv.json"
    content = tsv.decode(path, tsv.read_bytes(path))
    try:
        pairs = json.loads(content, object_pairs_hook=tuple)  # a dict would hide a key that comes twice
    except json.JSONDecodeError as error:
        raise CorpusError(f"{path}:{error.lineno}: expected JSON, found a fault: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets thousands deep
        raise CorpusError(f"{path}: expected registers, abbreviation: name, found other JSON: {error}") from None
    if not isinstance(pairs, tuple) or len(pairs) < 2:
        found = f"{len(pairs)}" if isinstance(pairs, tuple) else "other JSON"
        raise CorpusError(f"{path}: expected an object of two or more registers, abbreviation: name, found {found}")
    registers: dict[str, str] = {}
    for abbreviation, name in pairs:
        if not ABBREVIATION.fullmatch(abbreviation) or not abbreviation.isprintable():
            expected, found = f"an abbreviation of {ABBREVIATION_IS}", repr(abbreviation[:50])
        elif abbreviation in NO_REGISTERS:
            expected, found = "an abbreviation that means nothing else here", repr(abbreviation)
        elif abbreviation in registers:
            expected, found = "each abbreviation once", f"{abbreviation!r} again"
        elif not isinstance(name, str) or not tsv.is_visible(name):
            found = "a list or object" if isinstance(name, (list, tuple)) else json.dumps(name)[:50]
            expected = f"a name for {abbreviation!r}, in quotes"
        else:
            registers[abbreviation] = name
            continue
        keys = list(re.finditer(re.escape(json.dumps(abbreviation, ensure_ascii=False)) + r"\s*:", content))
        line = f":{content.count(chr(10), 0, keys[-1].start()) + 1}" if keys else ""
        raise CorpusError(f"{path}{line}: expected {expected}, found {found}")
    return registers


def language_names(corpus: Path) -> dict[str, str]:
    """Return language -> name in English, as info/lang2name.json has them; {} if there is no such file."""
    path = corpus / "info" / "lang2name.json"
    try:
        names = json.loads(tsv.decode(path, tsv.read_bytes(path)))
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


def read_file(corpus: Path, split: str, lang: str, registers: Iterable[str]) -> CorpusFile:
    """Read all texts of corpus/SPLIT/LANG.tsv; CorpusError where a row is not REGISTER<tab>TEXT."""
    path = corpus / "corpus" / split / f"{lang}.tsv"
    if not tsv.exists(path):
        there = ", ".join(list_languages(corpus, split)) or "none"
        raise CorpusError(f"{path}: expected a {split} file, found none; those there: {there}")
    content = tsv.read_bytes(path)
    rows = tsv.read_rows(path, tsv.decode(path, content), set(registers))
    texts: list[Text] = []
    skipped: list[str] = []
    for row, (line, register, text) in enumerate(rows, start=1):
        text = _unquote_again(text) if lang == DISTR else text
        if register == UNUSED:
            skipped.append(f"{path}:{line}: labelled {UNUSED}")
        elif not tsv.is_visible(text):
            skipped.append(f"{path}:{line}: empty")
        else:
            texts.append(Text(lang, row, line, register, text))
    if not texts:
        found = f"none ({len(skipped)} rows skipped)" if content else "an empty file"
        raise CorpusError(f"{path}:1: expected texts, found {found}")
    return CorpusFile(hashlib.sha256(content).hexdigest(), texts, skipped)


def hash_file(corpus: Path, split: str, lang: str) -> str | None:
    """Return the SHA-256 of corpus/SPLIT/LANG.tsv, None if there is none; CorpusError if it can't be read."""
    path = corpus / "corpus" / split / f"{lang}.tsv"
    return hashlib.sha256(tsv.read_bytes(path)).hexdigest() if tsv.exists(path) else None


def _unquote_again(text: str) -> str:
    """Undo the second quoting of the corpus's own distr.tsv, where texts with quotes arrive in literal quotes."""
    inner = text[1:-1]
    quoted = len(text) > 2 and text[0] == text[-1] == '"'
    needed_quotes = '""' in inner or "\t" in inner or "\n" in inner or "\r" in inner
    if quoted and needed_quotes and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return text


# ---- training texts ----


def load_training_texts(
    corpus: Path,
    train_langs: Sequence[str],
    registers: Sequence[str],
    *,
    validation_size: float,
    seed: int,
    all_texts: bool,
) -> TrainingTexts:
    """Read, audit and split the training texts of these languages, a function of corpus and seed alone.

    Left out of training: texts that also occur in any of the corpus's test files, and texts of the
    training part that also occur in the validation part (equal after whitespace normalisation).
    Unless all_texts, as many texts are taken of each language as the smallest has.
    The report holds, for the log and run.json: names of languages, hashes, rows and skipped rows per file, and counts.
    """
    files = {lang: read_file(corpus, "train", lang, registers) for lang in train_langs}
    names = language_names(corpus)
    test, test_hashes = _test_texts(corpus, train_langs, registers)
    rng = np.random.default_rng(seed)

    same_texts = group_by_text(text for file in files.values() for text in file.texts)
    also_in_test = {text[:2] for key, texts in same_texts.items() if key in test for text in texts}  # lang and row
    usable = {lang: [text for text in file.texts if text[:2] not in also_in_test] for lang, file in files.items()}
    smallest = min(len(texts) for texts in usable.values())
    if not smallest:
        lang = next(lang for lang, texts in usable.items() if not texts)
        raise CorpusError(f"{corpus}/corpus/train/{lang}.tsv:1: expected texts that are not test texts too, found none")
    taken = {
        lang: texts if all_texts else _stratified_part(texts, smallest, rng, leave_one=False)[0]
        for lang, texts in usable.items()
    }
    pool = [text for texts in taken.values() for text in texts]
    validation, train = _stratified_part(pool, round(validation_size * len(pool)), rng, leave_one=True)
    held_out = {normalise(text.text) for text in validation}
    kept = [text for text in train if normalise(text.text) not in held_out]
    if not kept or not validation:
        raise CorpusError(
            f"{corpus}: expected enough texts to split into training and validation, found {len(pool)} "
            f"for {' '.join(train_langs)}"
        )
    if len(found := {text.register for text in kept}) == 1:
        raise CorpusError(
            f"{corpus}: expected training texts of two or more registers, found {found.pop()} only for "
            f"{' '.join(train_langs)}"
        )

    report = {
        "files": {f"train/{lang}.tsv": file.sha256 for lang, file in files.items()} | test_hashes,
        "languages": {lang: names.get(lang, "") for lang in train_langs},
        "texts": {
            lang: {
                "texts": len(file.texts),
                "rows_skipped": len(file.skipped),
                "skipped": file.skipped[:1000],  # a spreadsheet's blank rows can be a million
                "also_in_test": len(file.texts) - len(usable[lang]),
                "taken": len(taken[lang]),
            }
            for lang, file in files.items()
        },
        "also_in_validation": len(train) - len(kept),
        "several_registers": several_registers("train", same_texts),
        "train": count_registers(kept, registers),
        "validation": count_registers(validation, registers),
        "texts_sha256": _hash_texts([*kept, *validation]),
    }
    return TrainingTexts(kept, validation, report)


def take_training_texts(corpus: Path, registers: Sequence[str], args: argparse.Namespace) -> TrainingTexts:
    """Load the texts that a training with finetune.py's options args takes, and log what was found."""
    texts = load_training_texts(
        corpus,
        args.train_langs,
        registers,
        validation_size=args.validation_size,
        seed=args.seed,
        all_texts=args.all_texts,
    )
    log_audit(texts.report, registers)
    return texts


def log_audit(report: dict, registers: Sequence[str]) -> None:
    """Log what load_training_texts found: one line per fact, skipped rows by file:line."""
    for lang, facts in report["texts"].items():
        log.info("train/%s.tsv: %d texts, %d rows skipped", lang, facts["texts"], facts["rows_skipped"])
        for row in facts["skipped"][:10]:
            log.info("  skipped %s", row)
        if facts["rows_skipped"] > 10:
            log.info("  … and %d more; run.json has the first thousand", facts["rows_skipped"] - 10)
        if facts["also_in_test"]:
            log.info("  %d texts also occur in test files: left out of training", facts["also_in_test"])
        usable = facts["texts"] - facts["also_in_test"]
        if facts["taken"] < usable:
            log.info(
                "  taken: %d of %d, as many as the smallest language has (--all-texts takes all)",
                facts["taken"],
                usable,
            )
    if report["also_in_validation"]:
        log.info("%d training texts also occur in validation: left out of training", report["also_in_validation"])
    log_several_registers(report["several_registers"])
    widths = {register: max(len(register), 5) for register in registers}
    log.info("%-16s %s %6s", "texts", " ".join(f"{register:>{width}}" for register, width in widths.items()), "all")
    for part in ("train", "validation"):
        for lang, counts in report[part].items():
            cells = " ".join(f"{counts[register]:{width}d}" for register, width in widths.items())
            log.info("%-16s %s %6d", f"{part} {lang}", cells, sum(counts.values()))


def normalise(text: str) -> str:
    """Return the text with each run of whitespace as one blank and none at the ends, to compare texts by."""
    return " ".join(text.split())


def group_by_text(texts: Iterable[Text]) -> dict[str, list[Text]]:
    """Return the texts that are the same after whitespace normalisation, by their normalised text."""
    groups: dict[str, list[Text]] = {}
    for text in texts:
        groups.setdefault(normalise(text.text), []).append(text)
    return groups


def several_registers(split: str, same_texts: dict[str, list[Text]]) -> list[str]:
    """Return, for each text that occurs under several registers, where: `train/en.tsv:3 IN, train/fr.tsv:9 OP`."""
    return [
        ", ".join(f"{split}/{text.lang}.tsv:{text.line} {text.register}" for text in texts)
        for texts in same_texts.values()
        if len({text.register for text in texts}) > 1
    ]


def log_several_registers(places: list[str]) -> None:
    """Log what several_registers found: no classifier can get all these rows right."""
    if places:
        log.warning("%d texts occur under several registers (all rows are kept):", len(places))
    for place in places[:10]:
        log.warning("  %s", place)
    if len(places) > 10:
        log.warning("  … and %d more", len(places) - 10)


def count_registers(texts: Iterable[Text], registers: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return language -> register -> number of texts, every register named."""
    counts = Counter((text.lang, text.register) for text in texts)
    langs = dict.fromkeys(lang for lang, _ in counts)
    return {lang: {register: counts[lang, register] for register in registers} for lang in langs}


def _test_texts(corpus: Path, train_langs: Sequence[str], registers: Sequence[str]) -> tuple[set[str], dict[str, str]]:
    """Return the normalised texts of all test files, and the files' hashes.

    A broken test file of a language that is not trained on must not stop this training: it is named and passed over.
    """
    texts: set[str] = set()
    hashes = {}
    for lang in list_languages(corpus, "test"):
        try:
            file = read_file(corpus, "test", lang, registers)
        except CorpusError as error:
            if lang in train_langs:
                raise
            log.warning("%s (not compared with the training texts)", error)
            continue
        texts.update(normalise(text.text) for text in file.texts)
        hashes[f"test/{lang}.tsv"] = file.sha256
    return texts, hashes


def _stratified_part(
    texts: list[Text], size: int, rng: np.random.Generator, *, leave_one: bool
) -> tuple[list[Text], list[Text]]:
    """Draw `size` texts, from each language and register in proportion; return them and the rest, in corpus order.

    leave_one: leave at least one text of each language and register in the rest, so that fewer than
    `size` may be drawn.
    """
    strata: dict[tuple[str, str], list[int]] = {}
    for index, text in enumerate(texts):
        strata.setdefault((text.lang, text.register), []).append(index)
    quotas = np.array([size * len(indices) / len(texts) for indices in strata.values()])
    sizes = np.floor(quotas).astype(int)
    largest_remainders = np.argsort(sizes - quotas, kind="stable")
    sizes[largest_remainders[: size - sizes.sum()]] += 1
    drawn: set[int] = set()
    for indices, n in zip(strata.values(), sizes, strict=True):
        n = min(n, len(indices) - 1) if leave_one else n
        drawn.update(rng.permutation(indices)[:n].tolist())
    return [t for i, t in enumerate(texts) if i in drawn], [t for i, t in enumerate(texts) if i not in drawn]


def _hash_texts(texts: Iterable[Text]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(json.dumps([text.lang, text.register, text.text]).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    from utils import audit, runs

    runs.run_script(audit.main)
