"""The audit of a corpus: what it tells, and that it ends as the other scripts do."""

import re

import pytest
from conftest import SAMPLE_CORPUS

from utils import audit, runs


def audit_of(capsys, *words):
    """The exit code, and what is printed: paragraphs, by the beginning of their first line."""
    with pytest.raises(SystemExit) as end:
        runs.run_script(lambda: audit.main(list(map(str, words))))
    out, err = capsys.readouterr()
    paragraphs = [paragraph.split("\n") for paragraph in out.strip("\n").split("\n\n")]
    assert err == "" or end.value.code == 2
    return end.value.code, {re.split(" [(]|[:,]", first)[0]: [x.strip() for x in lines] for first, *lines in paragraphs}


def test_the_audit_reports_all_that_is_unusual(write_corpus, capsys):
    corpus = write_corpus(
        {
            "train/en": [("IN", "a"), ("OP", "a "), ("IN", ""), ("OP", "b"), ("OP", "c"), ("OP", "c")],
            "train/pt-br": [("IN", "d")],
            "train/distr": [("IN", "a"), ("IN", "d"), ("OP", "x"), ("OP", "x")],
            "test/en": [("IN", "b"), ("OP", "long"), *[("OP", f"t{i}") for i in range(9)]],
            "test/fr": [("IN", f"u{i}") for i in range(12)],
            "test/pt-br": [("OP", f"v{i}") for i in range(12)],
            "test/broken": [("XX", "x")],
        }
    )
    (corpus / "corpus" / "test" / "en.csv").write_text("IN,a")
    (corpus / "corpus" / "train" / "pt br.tsv").write_text("IN\ta\nOP\te\n")
    code, told = audit_of(capsys, corpus)
    assert code == 1  # for the broken file
    table = [line.split() for line in told.pop("texts")]
    assert ["train/en", "1", "4", "0", "5"] in table and ["test/fr", "12", "0", "0", "12"] in table
    lengths = [line.split() for line in told.pop("characters of a text")]
    assert lengths[0] == ["IN", "OP", "LY"] and ["test/fr", "2"] in lengths and ["test/en", "1", "2"] in lengths
    assert told.pop(str(corpus)) == []
    [unusable] = told.pop("files that can't be used")
    assert unusable.startswith(f"{corpus}/corpus/test/broken.tsv:1: expected REGISTER<tab>TEXT")
    a = "train/distr.tsv:1 IN, train/en.tsv:1 IN, train/en.tsv:2 OP, train/pt br.tsv:1 IN"
    assert told == {
        "rows skipped": [f"{corpus}/corpus/train/en.tsv:3: empty"],
        "languages without a test file": ["pt br"],
        "languages without a training file": ["broken", "fr"],
        "files whose names are not allowed": ["train/pt br.tsv", "test/en.csv"],
        "texts in both training and test files": ["train/en.tsv:4 OP, test/en.tsv:1 IN"],
        "texts that are repeated in training or test files": [a, "train/en.tsv:5 OP, train/en.tsv:6 OP"],
        "texts under several registers": [a, "train/en.tsv:4 OP, test/en.tsv:1 IN"],
        "registers without training texts": ["LY"],
        "registers without test texts": ["LY"],
        "test files with registers that have no training texts in the same language": ["test/pt-br.tsv: OP"],
        "training files with a single register": ["train/pt-br.tsv: IN"],
        "test files with registers that have fewer than 10 texts": ["test/en.tsv: IN 1; too few texts for macro_f1_10"],
    }


def test_the_audit_tells_near_duplicates_of_test_texts_in_training(write_corpus, capsys):
    long = " ".join(f"word{i}" for i in range(100))
    near, half = long.replace("word50", "another"), " ".join(f"{'word' if i < 60 else 'x'}{i}" for i in range(100))
    japanese = "".join(chr(0x4E00 + 7 * i) for i in range(200))
    corpus = write_corpus(
        {
            "train/en": [("IN", near), ("OP", long.replace("word5", "x")), ("IN", "a b c"), ("LY", half)],
            "train/jp": [("IN", "序文" + japanese), ("OP", "あ" * 50)],
            "train/fr": [("IN", long)],
            "train/distr": [("LY", "One two three four five, six.")],
            "test/en": [("IN", "quite another text than those"), ("OP", long), ("IN", "a b c")],
            "test/jp": [("OP", "い" * 50), ("IN", japanese)],
            "test/sv": [("LY", "one two three four five, six. Seven!")],
        }
    )
    _, told = audit_of(capsys, corpus)
    assert told["test texts with a near-duplicate in training"] == [
        "test/en.tsv:2 OP, train/en.tsv:1 IN: 90 % in common",
        "test/jp.tsv:2 IN, train/jp.tsv:1 IN: 99 % in common",
        "test/sv.tsv:1 LY, train/distr.tsv:1 LY: 67 % in common",
    ]


def test_the_audit_ends_as_the_other_scripts_do(write_corpus, capsys, tmp_path):
    assert audit_of(capsys, SAMPLE_CORPUS)[0] == 0
    assert "no corpus here" in audit_of(capsys, tmp_path)[0]  # which Python prints, to exit with 1
    assert "xx.tsv: " in audit_of(capsys, SAMPLE_CORPUS, "--train-langs", "xx")[0]
    assert audit_of(capsys, SAMPLE_CORPUS, "--train-langs", "en", "en-fr")[0] == 2
    assert audit_of(capsys, write_corpus({}))[0] == 1  # no file at all
    assert audit_of(capsys, write_corpus({"train/e\x1b[31mn": [("IN", "a"), ("OP", "b")]}))[0] == 0
    assert audit_of(capsys, write_corpus({"test/fr": [("IN", "a")]}))[0] == 0
