"""A corpus whose registers are malformed, or in which something else lies where a file should be."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import REGISTERS, SAMPLE_CORPUS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import evaluate
from utils import corpus_load, results
from utils.corpus_load import CorpusError, load_registers, read_texts

LOADS = {  # what reg_abbv.json holds; the registers it defines, in order
    "byte order mark, CRLF": (b'\xef\xbb\xbf{"OP": "o",\r\n "IN": "i"}\r\n', ["OP", "IN"]),
    "digits, blanks, marks within": (b'{"A1": "a", "A 2": "b", "b-3/c_(d)=&%": "c"}', ["A1", "A 2", "b-3/c_(d)=&%"]),
    "other scripts": ('{"Новости": "n", "समाचार": "n", "新闻": "n"}'.encode(), ["Новости", "समाचार", "新闻"]),
    "escapes": (rb'{"\u00e9": "e", "\u0049N": "i", "golden": "g"}', ["é", "IN", "golden"]),
    "200": (json.dumps({f"R{i}": f"register {i}" for i in range(200)}).encode(), [f"R{i}" for i in range(200)]),
    "32 characters": (b'{"IN": "i", "' + b"O" * 32 + b'": "o"}', ["IN", "O" * 32]),
}
REFUSED = {  # what it holds; what the message says
    "empty": (b"", "not JSON.* line 1"),
    "comma too many": (b'{"IN": "i",\n "OP": "o",\n}', "not JSON.* line 3"),
    "cut": (b'{"IN": "i",\n "O', "not JSON.* line 2"),
    "UTF-16": ('{"IN": "i"}'.encode("utf-16"), ":1: not UTF-8"),
    "Latin-1": ('{"IN": "i",\n "OP": "é"}'.encode("latin-1"), ":2: not UTF-8.* 0xe9"),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "a list of pairs": (b'[["IN", "i"], ["OP", "o"]]', "two or more registers"),
    "a string": (b'"IN"', "two or more registers"),
    "one register": (b'{"IN": "i"}', "two or more registers"),
    "brackets 100,000 deep": (b"[" * 100_000, "not JSON"),
    "objects 900 deep": (b'{"IN": ' + b'{"a": ' * 900 + b"1" + b"}" * 900 + b', "OP": "o"}', "'IN' has no name"),
    "a number of 5,000 digits": (b'{"IN": ' + b"1" * 5000 + b', "OP": "o"}', "not JSON"),
    "a key twice": (b'{"IN": "i",\n "OP": "o",\n "IN": "x"}', "comes twice"),
    **{f"{name} for a name": (b'{"IN": "i", "OP": %s}' % name.encode(), "'OP' has no name")
       for name in ("1", "null", '["o"]', '""', '" "')},
    **{f"{name!r} for an abbreviation": (json.dumps({"IN": "i", name: "o"}).encode(), "can't be an abbreviation")
       for name in ("", " ", " OP", "OP ", "O\tP", "O\nP", 'O"P', "O\\P", "=1+1", "-OP", "_OP", "O$P$", "O\u200bP",
                    "O\u00a0P", "O\ud800P", "O\0P", "O" * 33, "unused", "row", "gold", "predicted")},
}  # fmt: skip


def registers_file(write_corpus, content):
    path = write_corpus({"train/en": [("IN", "a")]}) / "info" / "reg_abbv.json"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("content", "registers"), LOADS.values(), ids=LOADS)
def test_registers_load_in_their_order(write_corpus, content, registers):
    assert list(load_registers(registers_file(write_corpus, content).parent.parent)) == registers


@pytest.mark.parametrize(("content", "found"), REFUSED.values(), ids=REFUSED)
def test_registers_are_refused_in_one_line(write_corpus, content, found):
    path = registers_file(write_corpus, content)
    with pytest.raises(CorpusError) as error:
        load_registers(path.parent.parent)
    message = str(error.value)
    assert message.startswith(f"{path}:") and re.search(found, message), message
    assert len(message.splitlines()) == 1 and len(message) - len(str(path)) < 300


JSON = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


NO_FILES = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a broken link": lambda path: path.symlink_to("nowhere.tsv"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("name", ["info/reg_abbv.json", "corpus/test/en.tsv"])
def test_what_is_no_file_is_named_and_does_not_hang(write_corpus, make, name):
    corpus = write_corpus({"test/en": [("IN", "a")]})
    (corpus / name).unlink()
    make(corpus / name)
    with pytest.raises(CorpusError, match=rf"{name}: can't be read: .*"):
        read_texts(corpus_load.find_corpus(str(corpus)), "test", "en", load_registers(corpus))


def test_hidden_files_are_no_languages(write_corpus):
    corpus = write_corpus({"test/en": [("IN", "a")], "test/._en": [("IN", "a")]})  # as macOS leaves them on a stick
    assert corpus_load.list_languages(corpus, "test") == ["en"]


def test_a_folder_that_cannot_be_a_corpus_is_named(tmp_path):
    with pytest.raises(CorpusError, match="File name too long"):
        load_registers(corpus_load.find_corpus(str(tmp_path / ("x" * 300))))
    assert corpus_load.training_languages(str(tmp_path / ("x" * 300))) == []
    with pytest.raises(CorpusError, match="control characters"):
        corpus_load.find_corpus(str(tmp_path / "a\nb"))


LOCKED = {  # what the user may not read, and the file that the message names
    ".": "info/reg_abbv.json",
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


# ---- what is read back ----


def test_a_corpus_that_cannot_be_read_any_more_leaves_the_errors_without_texts(train, root, corpus, tiny):
    run = train("--num-epochs=1")
    names = ["--model-name=tiny", "--train-langs", "en", f"--corpus-path={corpus}"]
    assert evaluate.main([*names, "--eval-lang", "en"]) == 0
    frame, _ = results.read_results([root / "outputs"])
    [evaluated] = results.evaluations(frame).itertuples()
    test_file = corpus / "corpus" / "test" / "en.tsv"
    for make in (*list(NO_FILES.values())[:3], lambda path: path.write_text("register\ttext\n")):
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
