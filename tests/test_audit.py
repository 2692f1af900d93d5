"""The audit of a corpus: what it tells, and that it ends as the other scripts do."""

import subprocess
import sys

import pytest
from conftest import ROOT, SAMPLE_CORPUS
from test_corpus_load import labelled, split

from utils import audit, options, runs


def audit_of(capsys, *words):
    """The exit code, and what is printed: paragraphs, by their first line."""
    with pytest.raises(SystemExit) as end:
        runs.run_script(lambda: audit.main(list(map(str, words))))
    out, err = capsys.readouterr()
    paragraphs = [paragraph.split("\n") for paragraph in out.strip("\n").split("\n\n")]
    assert err == "" or end.value.code == 2
    return end.value.code, {first: [line.strip() for line in lines] for first, *lines in paragraphs}


def test_the_audit_tells_all_that_is_odd(write_corpus, capsys):
    corpus = write_corpus(
        {
            "train/en": [("IN", "a"), ("OP", "a "), ("IN", ""), ("OP", "b"), ("OP", "c"), ("OP", "c")],
            "train/pt-br": [("IN", "d")],
            "test/en": [("IN", "b"), *[("OP", f"t{i}") for i in range(10)]],
            "test/fr": [("IN", f"u{i}") for i in range(12)],
            "test/broken": [("XX", "x")],
        }
    )
    (corpus / "corpus" / "test" / "en.csv").write_text("IN,a")
    (corpus / "corpus" / "train" / "pt br.tsv").write_text("IN\ta\nOP\te\n")
    code, told = audit_of(capsys, corpus)
    assert code == 1  # for the broken file
    table = [line.split() for line in told.pop("texts:")]
    assert ["train/en", "1", "4", "0", "5"] in table and ["test/fr", "12", "0", "0", "12"] in table
    lengths = [line.split() for line in told.pop("characters of a text, medians:")]
    assert lengths[0] == ["IN", "OP", "LY"] and ["test/fr", "2"] in lengths
    assert list(told) == [
        f"{corpus}: 3 registers, 31 texts",
        "1 files that can't be used:",
        "1 rows skipped:",
        "1 texts in training and test files: a training leaves them out:",
        "2 texts several times within the training or the test files: a training takes one of each file:",
        "2 texts under several registers: no classifier gets all of them right:",
        "registers without training texts, in no language: none can be predicted:",
        "registers without test texts, in no language: none can be measured:",
        "training files of one register: nothing to learn from it alone:",
        "registers with fewer than 10 test texts, left out of macro_f1_10:",
        "languages without a test file: nothing to evaluate on:",
        "languages without a training file: only to evaluate on:",
        f"files that can't be named, which takes {options.LANGUAGE_IS}, and .tsv:",
    ]
    places = list(told.values())
    assert places[1][0].startswith(f"{corpus}/corpus/test/broken.tsv:1: expected REGISTER<tab>TEXT")
    assert places[2] == [f"{corpus}/corpus/train/en.tsv:3: empty"]
    assert places[3] == ["train/en.tsv:4 OP, test/en.tsv:1 IN"]
    assert places[4] == [
        "train/en.tsv:1 IN, train/en.tsv:2 OP, train/pt br.tsv:1 IN",
        "train/en.tsv:5 OP, train/en.tsv:6 OP",
    ]
    assert places[5][0].startswith("train/en.tsv:1 IN, train/en.tsv:2 OP")
    assert places[6:9] == [["LY"], ["LY"], ["train/pt-br.tsv: IN"]]
    assert places[9] == ["test/en.tsv: IN 1; too few texts for macro_f1_10"]
    assert places[10:] == [["pt br pt-br"], ["broken fr"], ["train/pt br.tsv", "test/en.csv"]]


def test_the_audit_tells_near_duplicates_of_test_texts_in_training(write_corpus, capsys):
    long = " ".join(f"word{i}" for i in range(100))
    japanese = "".join(chr(0x4E00 + 7 * i) for i in range(200))
    corpus = write_corpus(
        {
            "train/en": [
                ("IN", long.replace("word50", "another")),
                ("OP", long.replace("word5", "x")),
                ("LY", "a b c"),
            ],
            "train/jp": [("IN", "序文" + japanese), ("OP", "あ" * 50)],
            "train/fr": [("IN", long)],
            "test/en": [("IN", "quite another text than those"), ("OP", long), ("LY", "a b c")],
            "test/jp": [("OP", "い" * 50), ("IN", japanese)],
        }
    )
    _, told = audit_of(capsys, corpus)
    assert told["2 test texts with a near-duplicate in training, which a training does not leave out:"] == [
        "test/en.tsv:2 OP, train/en.tsv:1 IN: 90 % in common",
        "test/jp.tsv:2 IN, train/jp.tsv:1 IN: 99 % in common",
    ]


def test_the_audit_tells_what_is_odd_in_one_file(write_corpus, capsys):
    files = {
        f"{split}/{lang}": [(r, f"{text} {lang} {split}") for r, text in labelled("the text", 30)]
        for split in ("train", "test")
        for lang in ("en", "fr", "sv")
    }
    written = {"test/fr": r"one\n{}", "train/en": "<p>{}</p> &amp;", "train/sv": "{}\ufffd"}
    for name, form in written.items():
        files[name] = [(register, form.format(text)) for register, text in files[name]]
    files["test/sv"][4] = ("OP", "Всё это написано по-русски")
    files["train/sv"] = [(register, text) for register, text in files["train/sv"] if register != "LY"]
    _, told = audit_of(capsys, write_corpus(files))
    assert told[r"files with a written \n, where a line end was, unlike the others:"] == ["test/fr.tsv: 30 of 30 texts"]
    assert told["files with mark-up, unlike the others:"] == ["train/en.tsv: 30 of 30 texts"]
    assert told["files with characters that could not be read (U+FFFD), unlike the others:"] == [
        "train/sv.tsv: 20 of 20 texts"
    ]
    assert told["1 texts in another script than most of their language:"] == ["test/sv.tsv:5 OP: cyrillic"]
    untrained = "registers with test texts, and without training texts in the same language:"
    assert told[untrained] == ["test/sv.tsv: LY"]


def test_the_audit_tells_what_a_training_takes(write_corpus, capsys):
    corpus = write_corpus(
        {"train/en": labelled("en", 60), "train/pt-br": labelled("pt-br", 30), "test/en": labelled("en", 3)}
    )
    code, told = audit_of(capsys, corpus, "--train-langs", "en-pt-br")
    lines = [line.split() for line in told["A training on en pt-br:"]]
    report = split(corpus, ["en", "pt-br"])[2]
    assert code == 0 and ["train", "en", *map(str, report["train"]["en"].values()), "24"] in lines
    assert "taken: 30 of 57, as many as the smallest language has (--all-texts takes all)" in map(" ".join, lines)
    assert "taken" not in str(audit_of(capsys, corpus, "--train-langs", "en-pt-br", "--all-texts"))


def test_the_audit_ends_as_the_other_scripts_do(write_corpus, capsys, tmp_path):
    assert audit_of(capsys, SAMPLE_CORPUS)[0] == 0
    code, _ = audit_of(capsys, tmp_path)
    assert "no corpus here" in code  # which Python prints, to exit with 1
    code, _ = audit_of(capsys, SAMPLE_CORPUS, "--train-langs", "xx")
    assert "xx.tsv: no such file; there are distr en fr ru sv" in code
    assert audit_of(capsys, SAMPLE_CORPUS, "--train-langs", "en", "en-fr")[0] == 2
    assert audit_of(capsys, write_corpus({}))[0] == 1  # no file at all


def test_many_registers_of_long_names_are_listed_not_tabled(write_corpus, capsys):
    typology = {f"Register of a long name {i}": "x" for i in range(60)}
    corpus = write_corpus({"train/en": [(register, f"text {register}") for register in typology]}, typology)
    code, told = audit_of(capsys, corpus)
    [line] = told["texts:"]
    assert code == 0 and line.startswith("train/en  Register of a long name 0 1, Register of a long name 1 1")


def test_the_audit_is_a_command_that_loads_no_torch_and_may_be_read_in_part():
    command = f"{sys.executable} -X importtime utils/audit.py tests/sample-corpus --train-langs en 2>/dev/stderr"
    done = subprocess.run(command.split(" 2>")[0].split(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "A training on en:" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "numpy" in loaded and not loaded & {"torch", "transformers", "datasets"}
    head = f"set -o pipefail; {sys.executable} -u utils/audit.py tests/sample-corpus | true"
    done = subprocess.run(["bash", "-c", head], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")
