"""Corpora that people really have: each loads with the right counts, or is refused with the right line and a remedy."""

import csv
import logging
import re
import tracemalloc

import pytest
from conftest import REGISTERS, SAMPLE_CORPUS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import evaluate
import finetune
from utils import corpus_load, runs
from utils.corpus_load import CorpusError, is_visible, read_texts

TAB_QUOTES = "\t“quoted” «so» 'too'"
LOADS = {  # what the file holds; the registers of the texts it loads with; the lines of the rows skipped
    "plain": (b"IN\ta\nOP\tb\n", "IN OP", []),
    "no line end at the end": (b"IN\ta\nOP\tb", "IN OP", []),
    "CRLF": (b"IN\ta\r\nOP\tb\r\n", "IN OP", []),
    "mixed line ends": (b"IN\ta\r\nOP\tb\nLY\tc\r\n", "IN OP LY", []),
    "lone CR in texts": (b"IN\ta\rb\nOP\tc\rd\r\n", "IN OP", []),
    "byte order mark": (b"\xef\xbb\xbfIN\ta\n", "IN", []),
    "blank lines": (b"\nIN\ta\n\n \nOP\tb\n\n\n", "IN OP", [1, 3, 4, 6, 7]),
    "rows of tabs only": (b"IN\ta\n\t\n\t\t\t\n", "IN", [2, 3]),
    "blank texts": (b"IN\ta\nOP\t \nOP\t\n", "IN", [2, 3]),
    "a text of invisible characters": ("IN\ta\nOP\t\u200b\u00a0\u00ad\nLY\t\ufeff\n".encode(), "IN", [2, 3]),
    "a register whose tab an editor removed": (b"IN\ta\nOP\nLY\tc\n", "IN LY", [2]),
    "an unknown register without a text": (b"IN\ta\nXX\t\n", "IN", [2]),
    "empty columns without a text": (b"IN\ta\nOP\t\t\t\n", "IN", [2]),
    "unused": (b"unused\ta\nIN\tb\nunused\t\n", "IN", [1, 3]),
    "unused with more or fewer columns": (b"unused\nunused\ta\tb\nIN\tc\n", "IN", [1, 2]),
    "one register only": (b"OP\ta\nOP\tb\n", "OP OP", []),
    "one text per register": (b"IN\ta\nOP\tb\nLY\tc\n", "IN OP LY", []),
    "fewer texts than registers": (b"LY\tc\n", "LY", []),
    "NA, null, nan, None": (b"IN\tNA\nIN\tnull\nOP\tnan\nLY\tNone\n", "IN IN OP LY", []),
    "all quoted": (b'"IN"\t"a"\n"OP"\t"b ""c"""\n', "IN OP", []),
    "typographic quotes in texts": (f"IN{TAB_QUOTES}\n".encode(), "IN", []),
    "quotes within a text that nobody doubled": (b'IN\tshe said "no"\nOP\t5" nails\n', "IN OP", []),
    "line ends and tabs in a quoted text": (b'IN\t"a\n\nb\tc\r\nd"\nOP\tb\n', "IN OP", []),
    "a register as the text": (b"IN\tOP\nOP\tIN\n", "IN OP", []),
    "one text, two registers": (b"IN\ta\nOP\ta\n", "IN OP", []),
    "NUL within a text": (b"IN\ta\0b\nOP\tb\n", "IN OP", []),
    "right-to-left and zero-width": ("IN\tשלום\u200b\u200f\nOP\t\u202eabc\u202c\n".encode(), "IN OP", []),
    "a formula": (b"IN\t=1+1\nOP\t-a\n", "IN OP", []),
    "10 MB in one text": (b"IN\t" + b"word " * 2_000_000 + b"\nOP\tb\n", "IN OP", []),
    "a quoted 10 MB": (b'IN\t"' + b'a ""b""\n' * 1_250_000 + b'"\nOP\tb\n', "IN OP", []),
    "every private character": (
        b"IN\ta\rb" + "".join(map(chr, range(0xE000, 0xF900))).encode() + b"\nOP\tb\n", "IN OP", [],
    ),
}  # fmt: skip
REFUSED = {  # what the file holds; the line that is to blame; what the message says of it
    "empty file": (b"", 1, r"no text \(0 rows skipped\)"),
    "only a byte order mark": (b"\xef\xbb\xbf", 1, "no text"),
    "only blank texts": (b"IN\t\nOP\t \n\n", 1, r"no text \(3 rows skipped\)"),
    "only unused": (b"unused\ta\n", 1, r"no text \(1 rows skipped\)"),
    "only registers": (b"IN\nOP\n", 1, r"no text \(2 rows skipped\)"),
    "header": (b"register\ttext\nIN\ta\n", 1, r"'register\\ttext', which looks like a header: remove this line"),
    "header with capitals": (b"\xef\xbb\xbfLabel\tText\nIN\ta\n", 1, "looks like a header"),
    "header, columns swapped": (b"text\tregister\na\tIN\n", 1, "looks like a header"),
    "header of a data frame": (b"\tregister\ttext\n0\tIN\ta\n", 1, "looks like a header"),
    "header and commas": (b"genre,texte\nIN,a\n", 1, "looks like a header"),
    "another header": (b"Textsorte\tInhalt\nIN\ta\n", 1, "'Textsorte': if this is a header, remove the line"),
    "columns swapped": (b"a text\tIN\nanother\tOP\n", 1, "found 'a text': "),
    "one row swapped": (b"IN\ta\nb\tOP\n", 2, "found 'b': correct the register"),
    "no tab": (b"IN\ta\nOP b\n", 2, "found no tab, 'OP b': put a tab between register and text"),
    "text only": (b"IN\ta\nsome text\n", 2, "found no tab, 'some text': .* a text of several lines in quotes"),
    "line end within an unquoted text": (b"IN\ta\nb\nOP\tc\n", 2, "found no tab, 'b'"),
    "three columns": (b"IN\ta\nOP\tb\tc\n", 2, "found 3 columns, .*put a text that holds a tab in quotes"),
    "empty columns at the end": (b"IN\ta\t\t\nOP\tb\t\t\n", 1, "found 4 columns, "),
    "a column of numbers before": (b"0\tIN\ta\n", 1, "found 3 columns, "),
    "two columns of registers": (b"IN\tOP\ta\n", 1, "found 3 columns, "),
    "several registers": (b"IN\ta\nIN OP\tb\n", 2, "found 'IN OP': "),
    "comma": (b"IN,a text\nOP,b\n", 1, "found no tab, 'IN,a text'"),
    "comma, tab in the text": (b"IN\ta\nOP,b\tc\n", 2, "found 'OP,b': "),
    "comma and quotes": (b'"IN","a text"\n"OP","b"\n', 1, "found no tab"),
    "semicolon": (b"IN;a text\n", 1, "found no tab"),
    "semicolon and quotes": (b'"IN";"a ""b"""\n', 1, "found no tab"),
    "bar": (b"IN|a\n", 1, "found no tab"),
    "written-out tab": (b"IN\\ta text\n", 1, "found no tab"),
    "blanks for a tab": (b"IN    a text\n", 1, "found no tab"),
    "unknown register": (b"IN\ta\nXX\tb\n", 2, "with a register of IN LY OP, found 'XX': correct the register$"),
    "name of a register": (b"IN\ta\nopinion\tb\n", 2, "with a register of IN LY OP, found 'opinion': "),
    "lower case": (b"IN\ta\nop\tb\n", 2, "found 'op': did you mean 'OP'[?]$"),
    "a letter too many": (b"IN\ta\nOPP\tb\n", 2, "found 'OPP': did you mean 'OP'[?]$"),
    "Unused": (b"IN\ta\nUnused\tb\n", 2, "found 'Unused': did you mean 'unused'[?]$"),
    "blank before": (b" IN\ta\n", 1, "found ' IN': did you mean 'IN'[?]$"),
    "blank behind": (b"IN\ta\nOP \tb\n", 2, "found 'OP ': did you mean 'OP'[?]$"),
    "no-break space": ("IN\u00a0\ta\n".encode(), 1, r"found 'IN\\xa0': did you mean 'IN'"),
    "zero-width character": ("IN\ta\nO\u200bP\tb\n".encode(), 2, r"found 'O\\u200bP': did you mean 'OP'"),
    "two files joined": (b"\xef\xbb\xbfIN\ta\n\xef\xbb\xbfOP\tb\n", 2, r"found '\\ufeffOP': did you mean 'OP'"),
    "full-width letters": ("ＩＮ\ta\n".encode(), 1, "did you mean 'IN'"),
    "typographic quotes": ("“IN”\t“a”\n".encode(), 1, "found '“IN”': did you mean 'IN'"),
    "full stop": (b"IN.\ta\n", 1, "did you mean 'IN'"),
    "no register": (b"IN\ta\n\tb\n", 2, "found '': correct the register$"),
    "a line end in the register": (b'"I\nN"\ta\n', 1, r"found 'I\\nN': did you mean 'IN'"),
    "old Macintosh": (b"IN\ta\rOP\tb\rLY\tc\r", 1, "found 4 columns"),
    "one line of an old Macintosh": (b"IN\ta\nOP\tb\rLY\tc\nIN\td\n", 2, "found 3 columns"),
    "a quote left open, to the end": (b'IN\ta\nOP\t"b\n\nc d\n', 2, "not closed where it should be: close it"),
    "a quote left open, rows after it": (b'IN\ta\nOP\t"b\n\nLY\tc\nIN\td\n', 2, "a quote .* not closed "),
    "a quote left open, closed by a later one": (b'OP\t"b\nLY\tc\nIN\t5"\nIN\te\n', 1, "not closed before line 2"),
    "a quote left open, met by a quoted text": (b'IN\ta\nOP\t"b\nLY\t"c"\n', 2, "a quote .* not closed "),
    "quotes not doubled": (b'IN\ta\nOP\t"b" she said\n', 2, "not closed .*; double the quotes inside a text"),
    "quotes not doubled, further down": (b'IN\ta\nOP\t"b\nc" d\n', 2, "not closed .*; double the quotes"),
    "UTF-16": ("IN\té\n".encode("utf-16"), 1, "not UTF-8, found the byte 0xff; save .* iconv -f UTF-16 -t UTF-8"),
    "UTF-16, big end first": ("\ufeffIN\té\n".encode("utf-16-be"), 1, "iconv -f UTF-16 "),
    "UTF-16 without a mark": ("IN\t日本語\n".encode("utf-16-le"), 1, "iconv -f UTF-16 "),
    "UTF-16 without a mark, big end first": ("IN\t日本語\n".encode("utf-16-be"), 1, "iconv -f UTF-16 "),
    "UTF-16 without a mark, ASCII": ("IN\ta\n".encode("utf-16-le"), 1, "found 'I.x00N"),
    "UTF-32": ("IN\ta\n".encode("utf-32"), 1, "not UTF-8"),
    "Latin-1": ("IN\ta\nOP\tété\n".encode("latin-1"), 2, "found the byte 0xe9; .*iconv -f WINDOWS-1252"),
    "Latin-1, the last byte": ("IN\ta\nOP\té".encode("latin-1"), 2, "the byte 0xe9"),
    "Windows quotes": ("IN\t“a”\n".encode("cp1252"), 1, "the byte 0x93"),
    "one row in Latin-1": ("IN\té\nOP\t".encode() + b"\xe9t\xe9\n", 2, "the byte 0xe9"),
    "a byte that is nothing": (b"IN\ta\nOP\t\x81\n", 2, "the byte 0x81"),
    "cut within a character": ("IN\té\nOP\tà".encode()[:-1], 2, "the byte 0xc3"),
    "lone surrogate": (b"IN\ta\n\nOP\tb\xed\xa0\x80\n", 3, "the byte 0xed"),
    "zeros after a power cut": (b"IN\ta\nOP\tb\n" + b"\0" * 4096, 3, "found no tab"),
    "NUL in the register": (b"IN\ta\nO\0P\tb\n", 2, r"found 'O.x00P': did you mean 'OP'"),
    "Excel": (b"PK\x03\x04\x14\0\x06\0\xff\xfe", 1, "not UTF-8, .* save the file as text"),
    "old Excel": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 1, "not UTF-8"),
    "gzip": (b"\x1f\x8b\x08\0\0\xff", 1, "not UTF-8"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid x\nsize 1\n", 1, "pointer of Git LFS.* git lfs pull"),
    "a conflict of git": (b"IN\ta\n<<<<<<< HEAD\nOP\tb\n=======\n", 2, "found no tab, '<<<<<<< HEAD'"),
    "a row after a text of several lines": (b'IN\t"a\nb\r\nc"\n\nxx\tb\n', 5, "found 'xx': "),
    "after a lone CR": (b"IN\ta\rb\rc\nxx\tb\n", 2, "found 'xx': "),
}  # fmt: skip


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


@pytest.mark.parametrize(("content", "line", "found"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_with_its_line_and_what_to_do(write_corpus, content, line, found):
    corpus, path = place(write_corpus, content)
    with pytest.raises(CorpusError) as error:
        read_texts(corpus, "train", "en", REGISTERS)
    message = str(error.value)
    assert message.startswith(f"{path}:{line}: ") and re.search(found, message), message
    assert len(message.splitlines()) == 1 and len(message) - len(str(path)) < 300


def files_of(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


EACH_KIND = (  # found in the bytes, in a line, in its columns, in quotes, in the register, and at the end of the file
    "Latin-1", "no tab", "three columns", "a quote left open, rows after it", "unknown register", "only blank texts",
)  # fmt: skip


def test_the_scripts_refuse_them_in_one_line_and_leave_nothing(root, train, write_corpus, caplog, capsys):
    run = train("--num-epochs=1")
    trained = files_of(root / "outputs") | files_of(root / "models")
    names = ["--model-name=tiny", f"--corpus-path={root / 'corpus-of-this-test'}", "--train-langs"]
    caplog.set_level(logging.INFO)
    for name in EACH_KIND:
        content, line, found = REFUSED[name]
        _, path = place(write_corpus, content, "train/bad")
        with pytest.raises(SystemExit) as end:
            runs.run_script(lambda: finetune.main([*names, "bad"]))
        assert isinstance(end.value.code, str), name  # which Python prints, to exit with 1
        assert f"{path}:{line}: " in end.value.code and len(end.value.code.splitlines()) == 1, name

        _, path = place(write_corpus, content, "test/bad")
        caplog.clear()
        with pytest.raises(SystemExit) as end:
            runs.run_script(lambda: evaluate.main([*names, "en", "--eval-lang", "bad"]))
        first, last = (entry.getMessage() for entry in caplog.records)
        assert end.value.code == 1 and first.startswith(f"bad not evaluated: {path}:{line}: "), name
        assert re.search(found, first) and last == "1 of 1 languages not evaluated: bad", name
    assert files_of(root / "outputs") | files_of(root / "models") == trained
    assert run.outputs.is_dir() and "Traceback" not in caplog.text + "".join(capsys.readouterr())


# ---- any bytes, any text ----

LETTERS = [b"IN", b"OP", b"unused", b"XX", b"two words", b"\xe9", b"\xc3\xa9", b"\xed\xa0\x80", b"\xe2\x80\xa8"]
MARKS = [b"\t", b"\n", b"\r", b"\r\n", b'"', b'""', b" ", b",", b";", b"\0", b"\xff\xfe", b"\xef\xbb\xbf"]
BYTES = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(LETTERS + MARKS), max_size=40).map(b"".join))
IN_ONE_FOLDER = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=400, **IN_ONE_FOLDER)
@given(content=BYTES, lang=st.sampled_from(["en", corpus_load.DISTR]))
def test_any_bytes_load_or_are_refused_in_one_line(write_corpus, content, lang):
    corpus, path = place(write_corpus, content, f"train/{lang}")
    try:
        file = read_texts(corpus, "train", lang, REGISTERS)
    except CorpusError as error:
        assert re.match(rf"{re.escape(str(path))}:[1-9]\d*: .+", str(error))
        assert len(str(error).splitlines()) == 1
        assert int(str(error)[len(str(path)) + 1 :].split(":")[0]) <= content.count(b"\n") + 1
    else:
        assert len(file) and set(file["register"]) <= set(REGISTERS)
        assert all(map(is_visible, file["text"]))


BULK = [b"\n", b'"', b"\t", b"\r", b"\0", b"IN\ta\n", b"IN\ta\r", b'IN\t"a""', b"IN,", b"\xe9"]


@pytest.mark.parametrize("piece", BULK)
def test_memory_grows_with_the_file_only(write_corpus, piece):
    corpus, _ = place(write_corpus, piece * (200_000 // len(piece)))
    tracemalloc.start()
    try:
        read_texts(corpus, "train", "en", REGISTERS)
    except CorpusError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 300 * 200_000  # for a blank line, one byte, a line of the report


@settings(max_examples=400, **IN_ONE_FOLDER)
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


def test_the_sample_corpus_reads_as_csv_does():
    for path in (SAMPLE_CORPUS / "corpus").glob("*/*.tsv"):
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t"))
        read = read_texts(SAMPLE_CORPUS, path.parent.name, path.stem, corpus_load.load_registers(SAMPLE_CORPUS))
        if path.stem != corpus_load.DISTR:
            assert read[["register", "text"]].to_numpy().tolist() == rows
