"""A corpus whose registers are malformed, or in which something else lies where a file should be."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import FAST, REGISTERS, SAMPLE_CORPUS, finish, start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import evaluate
from utils import corpus_load, results
from utils.corpus_load import CorpusError, load_registers, read_texts

LOADS = {  # what reg_abbv.json holds; the registers it defines, in order
    "plain": (b'{"OP": "opinion", "IN": "information"}', ["OP", "IN"]),
    "byte order mark, CRLF": (b'\xef\xbb\xbf{"OP": "o",\r\n "IN": "i"}\r\n', ["OP", "IN"]),
    "digits, blanks, marks within": (b'{"A1": "a", "A 2": "b", "b-3/c_(d)=&%": "c"}', ["A1", "A 2", "b-3/c_(d)=&%"]),
    "other scripts": ('{"Новости": "n", "समाचार": "n", "新闻": "n"}'.encode(), ["Новости", "समाचार", "新闻"]),
    "escapes": (rb'{"\u00e9": "e", "\u0049N": "i"}', ["é", "IN"]),
    "200": (json.dumps({f"R{i}": f"register {i}" for i in range(200)}).encode(), [f"R{i}" for i in range(200)]),
}
REFUSED = {  # what it holds; the line that is to blame, "" where there is none; what the message says
    "empty": (b"", ":1", "not JSON"),
    "no JSON": (b"IN, OP", ":1", "not JSON"),
    "comma missing": (b'{"IN": "i"\n "OP": "o"}', ":2", "not JSON: Expecting ',' delimiter; correct this line"),
    "comma too many": (b'{"IN": "i",\n "OP": "o",\n}', ":3", "not JSON"),
    "typographic quotes": ("{\n“IN”: “i”}".encode(), ":2", "not JSON"),
    "cut": (b'{"IN": "i",\n "O', ":2", "not JSON"),
    "twice": (b'{"IN": "i", "OP": "o"}\n{"LY": "l"}', ":2", "not JSON"),
    "UTF-16": ('{"IN": "i"}'.encode("utf-16"), ":1", "not UTF-8, .* UTF-16"),
    "Latin-1": ('{"IN": "i",\n "OP": "é"}'.encode("latin-1"), ":2", "not UTF-8, found the byte 0xe9"),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", ":1", "git lfs pull"),
    "a list": (b'["IN", "OP"]', "", "needs two or more registers, as"),
    "a list of pairs": (b'[["IN", "i"], ["OP", "o"]]', "", "needs two or more registers"),
    "a string": (b'"IN"', "", "needs two or more registers"),
    "null": (b"null", "", "needs two or more registers"),
    "no register": (b"{}", "", "needs two or more registers"),
    "one register": (b'{"IN": "i"}', "", "needs two or more registers"),
    "brackets 100,000 deep": (b"[" * 100_000, "", "needs two or more registers"),
    "objects 900 deep": (b'{"IN": ' + b'{"a": ' * 900 + b"1" + b"}" * 900 + b', "OP": "o"}', "", "'IN' has no name"),
    "a number of 5,000 digits": (b'{"IN": ' + b"1" * 5000 + b', "OP": "o"}', "", "needs two or more registers"),
    "a key twice": (b'{"IN": "i",\n "OP": "o",\n "IN": "x"}', "", "'IN' comes twice; keep one"),
    "a number for a name": (b'{"IN": "i",\n "OP": 1}', "", "'OP' has no name; write one in quotes"),
    "null for a name": (b'{"IN": null,\n "OP": "o"}', "", "'IN' has no name"),
    "a list for a name": (b'{"IN": "i",\n "OP": ["o"]}', "", "'OP' has no name"),
    "an empty name": (b'{"IN": "i",\n "OP": ""}', "", "'OP' has no name"),
    "a blank name": (b'{"IN": "i",\n "OP": " "}', "", "'OP' has no name"),
    "no abbreviation": (b'{"IN": "i",\n "": "o"}', "", "'' can't be an abbreviation; take 1 to 32 printable"),
    "only a blank": (b'{" ": "i",\n "OP": "o"}', "", "' ' can't be"),
    "a blank before": (b'{"IN": "i",\n " OP": "o"}', "", "' OP' can't be"),
    "a blank behind": (b'{"IN": "i",\n "OP ": "o"}', "", "'OP ' can't be .* no blank at the end"),
    "a tab": (rb'{"IN": "i", "O\tP": "o"}', "", r"'O\\tP' can't be"),
    "a line end": (rb'{"IN": "i", "O\nP": "o"}', "", r"'O\\nP' can't be"),
    "a quote": (rb'{"IN": "i", "O\"P": "o"}', "", "'O\"P' can't be"),
    "a formula": (b'{"IN": "i",\n "=1+1": "o"}', "", "'=1[+]1' can't be"),
    "a hyphen first": (b'{"IN": "i",\n "-OP": "o"}', "", "'-OP' can't be"),
    "mathematics": (b'{"IN": "i",\n "O$P$": "o"}', "", "'O[$]P[$]' can't be"),
    "a zero-width blank": ('{"IN": "i",\n "O\u200bP": "o"}'.encode(), "", r"'O\\u200bP' can't be"),
    "a no-break space": ('{"IN": "i",\n "O\u00a0P": "o"}'.encode(), "", r"'O\\xa0P' can't be"),
    "a surrogate": (rb'{"IN": "i", "O\ud800P": "o"}', "", r"'O\\ud800P' can't be"),
    "NUL": (rb'{"IN": "i", "O\u0000P": "o"}', "", r"'O\\x00P' can't be"),
    "33 characters": (b'{"IN": "i",\n "' + b"O" * 33 + b'": "o"}', "", "'OOO"),
    "unused": (b'{"IN": "i",\n "unused": "o"}', "", "'unused' means something else here"),
    "a column of the predictions": (b'{"IN": "i",\n "gold": "o"}', "", "'gold' means something else here"),
}


def registers_file(write_corpus, content):
    path = write_corpus({"train/en": [("IN", "a")]}) / "info" / "reg_abbv.json"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("content", "registers"), LOADS.values(), ids=LOADS)
def test_registers_load_in_their_order(write_corpus, content, registers):
    assert list(load_registers(registers_file(write_corpus, content).parent.parent)) == registers


@pytest.mark.parametrize(("content", "line", "found"), REFUSED.values(), ids=REFUSED)
def test_registers_are_refused_with_the_line(write_corpus, content, line, found):
    path = registers_file(write_corpus, content)
    with pytest.raises(CorpusError) as error:
        load_registers(path.parent.parent)
    message = str(error.value)
    assert message.startswith(f"{path}{line}: ") and re.search(found, message), message
    assert len(message.splitlines()) == 1 and len(message) - len(str(path)) < 300


def test_200_registers_are_not_all_listed(write_corpus):
    registers = {f"R{i}": f"register {i}" for i in range(200)}
    corpus = write_corpus({"train/en": [("R199", "a"), ("r3", "b")]}, registers)
    with pytest.raises(CorpusError, match=r"with a register of info/reg_abbv.json, found 'r3': did you mean 'R3'"):
        read_texts(corpus, "train", "en", load_registers(corpus))


JSON = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_registers_or_refused_in_one_line(write_corpus, content):
    path = registers_file(write_corpus, content)
    try:
        registers = load_registers(path.parent.parent)
    except CorpusError as error:
        assert re.match(rf"{re.escape(str(path))}(:[1-9]\d*)?: .+", str(error))
        assert len(str(error).splitlines()) == 1
    else:
        assert len(registers) > 1 and all(register.isprintable() for register in registers)


# ---- no file ----


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    os.mkfifo(path)


def a_broken_link(path):
    path.symlink_to("nowhere.tsv")


def a_link_to_itself(path):
    path.symlink_to(path.name)


def a_device(path):
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [a_folder, a_pipe, a_broken_link, a_link_to_itself, a_device])
@pytest.mark.parametrize("name", ["info/reg_abbv.json", "corpus/train/en.tsv", "corpus/test/en.tsv"])
def test_what_is_no_file_is_named_and_does_not_hang(write_corpus, make, name):
    corpus = write_corpus({f"{split}/en": [("IN", "a")] for split in ("train", "test")})
    (corpus / name).unlink()
    make(corpus / name)
    with pytest.raises(CorpusError, match=rf"{name}: can't be read: .*"):
        read_texts(corpus_load.find_corpus(str(corpus)), name.split("/")[1], "en", load_registers(corpus))


def test_hidden_files_are_no_languages(write_corpus):
    corpus = write_corpus({"test/en": [("IN", "a")], "test/._en": [("IN", "a")]})  # as macOS leaves them on a stick
    assert corpus_load.list_languages(corpus, "test") == ["en"]


def test_a_path_too_long_is_no_corpus(tmp_path):
    with pytest.raises(CorpusError, match="File name too long"):
        load_registers(corpus_load.find_corpus(str(tmp_path / ("x" * 300))))


LOCKED = {  # what the user may not read, and the file that the message names
    "info/reg_abbv.json": "info/reg_abbv.json",
    ".": "info/reg_abbv.json",
    "corpus/train/en.tsv": "corpus/train/en.tsv",
    "corpus/train": "corpus/train/en.tsv",
    "corpus/test/en.tsv": "corpus/test/en.tsv",
}


@pytest.mark.parametrize(("locked", "named"), LOCKED.items(), ids=LOCKED)
def test_what_may_not_be_read_is_named(shared_project, tmp_path, locked, named):
    unprivileged = []
    if os.geteuid() == 0:  # root reads all: without these two capabilities it does not
        unprivileged = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        if not shutil.which("setpriv"):
            pytest.skip("root without setpriv can read any file")
    corpus = tmp_path / "corpus"
    shutil.copytree(SAMPLE_CORPUS, corpus)
    (corpus / locked).chmod(0o000)
    before = sorted(shared_project.rglob("models/*"))
    command = [sys.executable, "finetune.py", "--model-name=tiny", "--train-langs=en", f"--corpus-path={corpus}"]
    done = subprocess.run(
        [*unprivileged, *command],
        cwd=shared_project, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    (corpus / locked).chmod(0o755)
    message = f"finetune.py: {corpus}/{named}: can't be read: Permission denied"
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == message, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(shared_project.rglob("models/*")) == before and not list((shared_project / "outputs").rglob("*"))


def test_as_processes_they_exit_with_1_and_one_line_each(project, write_corpus):
    corpus = write_corpus({"train/bad": []})
    names = ["--model-name=tiny", "--train-langs"]
    (corpus / "corpus" / "train" / "bad.tsv").write_bytes(b"register\ttext\nIN\ta\n")
    out = finish(start(project, "finetune.py", *names, "bad", corpus=corpus), expect=1)
    assert len(out.splitlines()) == 1 and "bad.tsv:1: " in out and not list((project / "outputs").rglob("*"))

    finish(start(project, "finetune.py", *names, "en", "--num-epochs=1", *FAST))
    (corpus / "info" / "reg_abbv.json").write_bytes((SAMPLE_CORPUS / "info" / "reg_abbv.json").read_bytes())
    bad = {"utf16": "IN\té\n".encode("utf-16"), "comma": b"IN,a\n", "quote": b'IN\t"a\n', "pipe": None}
    for lang, content in bad.items():
        path = corpus / "corpus" / "test" / f"{lang}.tsv"
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path) if content is None else path.write_bytes(content)
    out = finish(start(project, "evaluate.py", *names, "en", "--eval-lang", *bad, corpus=corpus), expect=1)
    assert len(out.splitlines()) == len(bad) + 1 and "4 of 4 languages not evaluated: utf16 comma quote pipe" in out
    assert all(f"{lang} not evaluated: {corpus}/corpus/test/{lang}.tsv" in out for lang in bad)
    assert not list((project / "outputs").rglob("eval*"))


# ---- what is read back ----


def test_a_corpus_that_cannot_be_read_any_more_leaves_the_errors_without_texts(train, root, corpus, tiny):
    run = train("--num-epochs=1")
    names = ["--model-name=tiny", "--train-langs", "en", f"--corpus-path={corpus}"]
    assert evaluate.main([*names, "--eval-lang", "en"]) == 0
    frame, _ = results.read_results([root / "outputs"])
    [evaluated] = results.evaluations(frame).itertuples()
    test_file = corpus / "corpus" / "test" / "en.tsv"
    for make in (a_folder, a_pipe, a_broken_link, lambda path: path.write_text("register\ttext\n")):
        test_file.unlink()
        make(test_file)
        results._test_texts.cache_clear()
        results.write_errors(evaluated)
        rows = (run.outputs / "errors" / "en.tsv").read_text().splitlines()
        assert len(rows) > 1 and all(row.endswith("\t") for row in rows[1:])
        shutil.rmtree(test_file) if test_file.is_dir() else None
        test_file.touch() if not os.path.lexists(test_file) else None


def test_an_evaluation_counts_texts_under_several_registers(train, root, corpus):
    run = train("--num-epochs=1")
    with open(corpus / "corpus" / "test" / "fr.tsv", "a") as file:
        file.write("IN\ttwo ways\nOP\ttwo  ways\n")
    assert evaluate.main(["--model-name=tiny", "--train-langs=en", f"--corpus-path={corpus}", "--eval-lang=fr"]) == 0
    scores = json.loads(run.scores("fr").read_text())
    assert scores["several_registers"] == ["test/fr.tsv:31 IN, test/fr.tsv:32 OP"] and scores["n"] == 32
    assert list(REGISTERS) == scores["signature"]["registers"]
