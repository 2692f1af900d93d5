"""Corpora that people really have: each loads with the right counts, or is refused with the right line and a remedy."""

import csv
import re

import pytest
from conftest import REGISTERS, SAMPLE_CORPUS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from utils import corpus_load
from utils.corpus_load import CorpusError, is_visible, read_texts

LOADS = {  # what the file holds; the registers of the texts it loads with; the lines of the rows skipped
    "CRLF, no line end at the end": (b"IN\ta\r\nOP\tb\nLY\tc", "IN OP LY", []),
    "lone CR in texts": (b"IN\ta\rb\nOP\tc\rd\r\n", "IN OP", []),
    "byte order mark": (b"\xef\xbb\xbfIN\ta\n", "IN", []),
    "blank lines": (b"\nIN\ta\n\n \nOP\tb\n\n\n", "IN OP", [1, 3, 4, 6, 7]),
    "rows of tabs only": (b"IN\ta\n\t\n\t\t\t\n", "IN", [2, 3]),
    "a text of invisible characters": ("IN\ta\nOP\t \u200b\u00a0\u00ad\nLY\t\ufeff\n".encode(), "IN", [2, 3]),
    "a register whose tab an editor removed": (b"IN\ta\nOP\nLY\tc\n", "IN LY", [2]),
    "an unknown register without a text": (b"IN\ta\nXX\t\n", "IN", [2]),
    "unused, with more or fewer columns too": (b"unused\ta\nIN\tb\nunused\nunused\ta\tb\n", "IN", [1, 3, 4]),
    "quotes within a text that nobody doubled": (b'IN\tshe said "no"\nOP\t5" nails\n', "IN OP", []),
    "line ends and tabs in a quoted text": (b'IN\t"a\n\nb\tc\r\nd"\nOP\tb\n', "IN OP", []),
}  # fmt: skip
OP = "'OP'[?]"
REFUSED = {  # what the file holds; the line that is to blame; what the message must name
    "only rows without a text": (b"\xef\xbb\xbfIN\t\nOP\t \n\nunused\ta\nOP\n", 1, "5"),
    "header": (b"Label\tText\nIN\ta\n", 1, "'Label'.* header"),
    "one row swapped": (b"IN\ta\nb\tOP\n", 2, "'b'"),
    "comma and quotes": (b'"IN","a text"\n"OP","b"\n', 1, "tab"),
    "a text of several lines, then no tab": (b'IN\t"a\nb\r\nc"\n\nOP b\n', 5, "tab"),
    "three columns": (b"IN\ta\nOP\tb\tc\n", 2, "3 columns"),
    "empty columns at the end": (b"IN\ta\t\t\nOP\tb\t\t\n", 1, "4 columns"),
    "unknown register": (b"IN\ta\nXX\tb\n", 2, "info/reg_abbv.json.*'XX'"),
    "lower case": (b"IN\ta\nop\tb\n", 2, OP),
    "Unused": (b"IN\ta\nUnused\tb\n", 2, "'unused'"),
    "no-break space": ("IN\ta\nOP\u00a0\ta\n".encode(), 2, OP),
    "old Macintosh": (b"IN\ta\rOP\tb\rLY\tc\r", 1, "4 columns"),
    "a quote left open, to the end": (b'IN\ta\nOP\t"b\n\nc d\n', 2, "quote"),
    "a quote left open, closed by a later one": (b'OP\t"b\nLY\tc\nIN\t5"\nIN\te\n', 1, "quote"),
    "quotes not doubled": (b'IN\ta\nOP\t"b\nc" she said\td\n', 2, "quote"),
    "UTF-16": ("IN\té\n".encode("utf-16"), 1, "UTF-8"),
    "Latin-1, the last byte": ("\nIN\ta\nOP\té".encode("latin-1"), 3, "UTF-8.*0xe9"),
    "zeros after a power cut": (b"IN\ta\nOP\tb\n" + b"\0" * 4096, 3, "tab"),
    "NUL in the register": (b"IN\ta\nO\0P\t\n", 2, "O.x00P"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid x\nsize 1\n", 1, "git lfs pull"),
}


def place(write_corpus, content, name="train/en"):
    corpus = write_corpus({name: []})
    path = corpus / "corpus" / f"{name}.tsv"
    path.write_bytes(content)
    return corpus, path


@pytest.mark.parametrize(("content", "registers", "skipped"), LOADS.values(), ids=LOADS)
def test_it_loads_with_the_right_counts(write_corpus, content, registers, skipped):
    corpus, path = place(write_corpus, content)
    file = read_texts(corpus, "train", "en", REGISTERS)
    assert file["register"].tolist() == registers.split()
    assert [row.rsplit(":", 1)[0] for row in file.attrs["skipped"]] == [f"{path}:{line}" for line in skipped]
    assert file.attrs["rows_skipped"] == len(skipped)


@pytest.mark.parametrize(("content", "line", "found"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_with_its_line_and_what_to_do(write_corpus, content, line, found):
    corpus, path = place(write_corpus, content)
    with pytest.raises(CorpusError) as error:
        read_texts(corpus, "train", "en", REGISTERS)
    message = str(error.value)
    assert message.startswith(f"{path}:{line}: ") and re.search(found, message), message
    assert len(message.splitlines()) == 1 and len(message) - len(str(path)) < 300


# ---- any bytes, any text ----

LETTERS = [b"IN", b"OP", b"unused", b"XX", b"two words", b"\xe9", b"\xc3\xa9", b"\xed\xa0\x80", b"\xe2\x80\xa8"]
MARKS = [b"\t", b"\n", b"\r", b"\r\n", b'"', b'""', b" ", b",", b";", b"\0", b"\xff\xfe", b"\xef\xbb\xbf"]
BYTES = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(LETTERS + MARKS), max_size=40).map(b"".join))
IN_ONE_FOLDER = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=100, **IN_ONE_FOLDER)
@given(content=BYTES)
def test_any_bytes_load_or_are_refused_in_one_line(write_corpus, content):
    corpus, path = place(write_corpus, content)
    try:
        file = read_texts(corpus, "train", "en", REGISTERS)
    except CorpusError as error:
        line = re.fullmatch(rf"{re.escape(str(path))}:([1-9]\d*): .+", str(error))
        assert line and int(line[1]) <= content.count(b"\n") + 1
    else:
        assert len(file) and set(file["register"]) <= set(REGISTERS)
        assert all(map(is_visible, file["text"]))


@settings(max_examples=100, **IN_ONE_FOLDER)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
@example(texts=["a\r", "\r\nb\r\n", "\0", "a\0b", '"', '""a"', "\ufeffa"], line_end="\r\n")
def test_what_csv_wrote_is_read_back(write_corpus, texts, line_end):
    corpus, path = place(write_corpus, b"")
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator=line_end).writerows([("OP", text) for text in [*texts, "end"]])
    if line_end == "\n":  # csv leaves a CR unquoted, and before LF it is a part of the line end
        texts = [text[:-1] if text.endswith("\r") and not set(text) & set('\t\n"') else text for text in texts]
    expected = [text for text in texts if is_visible(text)]
    assert read_texts(corpus, "train", "en", REGISTERS)["text"].tolist() == [*expected, "end"]


@settings(max_examples=100, **IN_ONE_FOLDER)
@given(st.lists(st.sampled_from(['"', '""', "a", "\t", "\n"]), max_size=8).map("".join).filter(is_visible))
def test_distr_is_unquoted_a_second_time_as_csv_would(write_corpus, text):
    """A text in quotes that csv had to quote: one with a quote, tab or line end in it."""
    corpus = write_corpus({"train/distr": [("IN", text)]})
    inner = text[1:-1]
    try:
        [(once,)] = csv.reader([text], delimiter="\0", strict=True)
    except (csv.Error, ValueError):
        once = inner
    was_quoted = f'"{once.replace(chr(34), chr(34) * 2)}"' == text and bool(set(once) & set('"\t\n'))
    assert read_texts(corpus, "train", "distr", REGISTERS)["text"].tolist() == [once if was_quoted else text]


def test_the_sample_corpus_reads_as_csv_does():
    for path in (SAMPLE_CORPUS / "corpus").glob("*/*.tsv"):
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t"))
        read = read_texts(SAMPLE_CORPUS, path.parent.name, path.stem, corpus_load.load_registers(SAMPLE_CORPUS))
        if path.stem != corpus_load.DISTR:
            assert read[["register", "text"]].to_numpy().tolist() == rows
