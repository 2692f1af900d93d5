"""Reading a corpus: every trap of the format, the audit, the split."""

import json
import logging
import os
import subprocess
import sys

import pytest
from conftest import ROOT, SAMPLE_CORPUS

from utils import audit, corpus_load, options, runs
from utils.corpus_load import CorpusError, load_training_texts, read_file
from utils.encoder import classifier, tokens

REGISTERS = ["IN", "OP", "LY"]


def read(corpus, name="train/en"):
    split, lang = name.split("/")
    return read_file(corpus, split, lang, REGISTERS)


def raw_corpus(write_corpus, content: bytes, name="train/en"):
    corpus = write_corpus({name: []})
    (corpus / "corpus" / f"{name}.tsv").write_bytes(content)
    return corpus


def split(corpus, langs, **options):
    return load_training_texts(
        corpus, langs, REGISTERS, **{"validation_size": 0.2, "seed": 42, "all_texts": False, **options}
    )


TRAPS = {
    "first row is no header": "a first text",
    "NA": "NA",
    "null": "null",
    "None": "None",
    "nan": "nan",
    "blanks at both ends": "  a text ",
    "line end": "two\nlines",
    "carriage return": "a\r\nb\rc",
    "carriage return alone, which csv leaves unquoted": "a\rb",
    "tab": "a\tb",
    "quotes": 'she said "no" and left',
    "begins with a quote": '"no" she said',
    "unicode line ends": "a\u2028b\u2029c\u0085d\x1ce\x0bf\x0cg",
    "replacement and control characters": "a\ufffdb\x00c\x07",
    "backslash n": r"a\nb",
    "131,073 characters": "x" * 131_073,
    "1.1 M characters": "mot " * 275_000 + "fin",
    "right to left, zero width": "שלום\u200b\u200fעולם",
}


@pytest.mark.parametrize("text", TRAPS.values(), ids=TRAPS)
def test_a_text_comes_back_as_it_was_written(write_corpus, text):
    corpus = write_corpus({"train/en": [("IN", text), ("OP", "another")]})
    texts = read(corpus).texts
    assert [(t.register, t.text) for t in texts] == [("IN", text), ("OP", "another")]


def test_rows_and_lines_are_those_of_the_file(write_corpus):
    corpus = write_corpus({"train/en": [("IN", "two\nlines"), ("OP", "b"), ("unused", "c"), ("LY", "d")]})
    file = read(corpus)
    assert [(t.row, t.line) for t in file.texts] == [(1, 1), (2, 3), (4, 5)]
    assert file.skipped == [f"{corpus}/corpus/train/en.tsv:4: labelled unused"]


def test_empty_rows_are_skipped_and_counted(write_corpus):
    corpus = raw_corpus(write_corpus, "IN\ta\n\nOP\t \t\nOP\t \nLY\tb\n".replace(" \t", " ").encode())
    file = read(corpus)
    assert [t.text for t in file.texts] == ["a", "b"]
    assert [row.rsplit(":", 2)[1:] for row in file.skipped] == [["2", " empty"], ["3", " empty"], ["4", " empty"]]


def test_a_byte_order_mark_is_no_part_of_the_first_register(write_corpus):
    assert read(raw_corpus(write_corpus, b"\xef\xbb\xbfIN\ta\n")).texts[0].register == "IN"


def test_a_missing_language_names_those_that_exist(write_corpus):
    corpus = write_corpus({"train/en": [("IN", "a")], "train/fr": [("IN", "b")]})
    with pytest.raises(CorpusError, match=r"train/xx\.tsv: expected a train file, found none; those there: en, fr"):
        read(corpus, "train/xx")


def test_distr_is_unquoted_a_second_time_and_nothing_else_is(write_corpus):
    twice = '"he said ""no"" twice"'
    corpus = write_corpus(
        {name: [("IN", twice), ("IN", '"plain"'), ("IN", "x")] for name in ("train/distr", "train/en")}
    )
    assert [t.text for t in read(corpus, "train/distr").texts] == ['he said "no" twice', '"plain"', "x"]
    assert [t.text for t in read(corpus, "train/en").texts] == [twice, '"plain"', "x"]


# ---- where the corpus is ----


def test_option_then_variable_then_constant(write_corpus, tmp_path, monkeypatch):
    corpus = write_corpus({"train/en": [("IN", "a")]})
    monkeypatch.setenv("REGISTER_CORPUS", str(corpus))
    assert corpus_load.find_corpus(None) == corpus
    assert corpus_load.find_corpus(str(SAMPLE_CORPUS)) == SAMPLE_CORPUS
    monkeypatch.delenv("REGISTER_CORPUS")
    monkeypatch.setattr(corpus_load, "CORPUS_PATH", "tests/sample-corpus")
    monkeypatch.chdir(tmp_path)  # the constant counts from the repository, whatever the current folder
    assert corpus_load.find_corpus(None) == SAMPLE_CORPUS


def test_no_corpus_names_the_three_ways_to_give_one(tmp_path):
    with pytest.raises(CorpusError, match="--corpus-path.*REGISTER_CORPUS.*CORPUS_PATH"):
        corpus_load.find_corpus(str(tmp_path))


@pytest.mark.parametrize(
    "script", ["finetune.py", "evaluate.py", "post_eval.py", "utils/download_model.py", "utils/corpus_load.py"]
)
def test_help_needs_no_corpus_and_no_torch_from_any_folder(script, tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"sys.argv = [{script!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "REGISTER_CORPUS": str(tmp_path / "nowhere")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "example:\n  python" in done.stdout


def test_another_typology_of_another_size_works(write_corpus):
    typology = {"B": "blog", "A": "article", "C": "chat", "Z": "zine", "E": "essay"}
    rows = [(register, f"text {i} of {register}") for register in typology for i in range(10)]
    corpus = write_corpus({"train/en": rows, "test/en": [("Z", "t")]}, typology)
    registers = list(corpus_load.load_registers(corpus))
    assert registers == ["B", "A", "C", "Z", "E"]
    texts = load_training_texts(corpus, ["en"], registers, validation_size=0.2, seed=1, all_texts=False)
    assert texts.report["train"]["en"] == dict.fromkeys(registers, 8)


def test_languages_have_the_names_of_the_corpus_or_none(write_corpus):
    corpus = write_corpus({"train/en": labelled("en", 30), "train/distr": labelled("distr", 30)})
    path = corpus / "info" / "lang2name.json"
    assert corpus_load.language_names(corpus) == {}
    for content in ("[]", "{", '{"en": 1}', '"en"', '{"en": "a\\nb"}', "\xe9", "[" * 100_000):
        path.write_text(content, encoding="latin-1")
        assert corpus_load.language_names(corpus) == {}, content[:20]
    path.write_text('{"en": "english", "fr": "french"}')
    assert corpus_load.language_names(corpus) == {"en": "english", "fr": "french"}
    assert split(corpus, ["en", "distr"]).report["languages"] == {"en": "english", "distr": ""}


# ---- what is trained on ----


def labelled(lang, n, register=None):
    """Texts that name their own language and register, so that a text that lost its register shows."""
    rows = [(register or REGISTERS[i % 3], i) for i in range(n)]
    return [(r, f"{lang} {r} number {i}") for r, i in rows]


def test_text_register_and_language_never_part(write_corpus, tiny):
    corpus = write_corpus({f"train/{lang}": labelled(lang, n) for lang, n in (("en", 50), ("fr", 31), ("sv", 77))})
    texts = split(corpus, ["en", "fr", "sv"])
    tokenizer = classifier.load_tokenizer(tiny)
    for part in (texts.train, texts.validation):
        dataset = tokens.tokenize(part, tokenizer, 64, REGISTERS)
        for text, row in zip(part, dataset, strict=True):
            assert text.text.startswith(f"{text.lang} {text.register} ")
            assert row["input_ids"].tolist() == tokenizer(text.text)["input_ids"]
            assert REGISTERS[row["labels"]] == text.register


def test_the_smallest_language_decides_unless_all_texts(write_corpus, caplog):
    corpus = write_corpus({"train/en": labelled("en", 100), "train/fr": labelled("fr", 30)})
    caplog.set_level(logging.INFO)
    texts = split(corpus, ["en", "fr"])
    corpus_load.log_audit(texts.report, REGISTERS)
    assert [texts.report["texts"][lang]["taken"] for lang in ("en", "fr")] == [30, 30]
    assert "taken: 30 of 100" in caplog.text
    everything = split(corpus, ["en", "fr"], all_texts=True)
    assert len(everything.train) + len(everything.validation) == 130


def test_the_split_is_stratified_and_a_function_of_the_seed(write_corpus):
    rows = [*labelled("en", 100, "IN"), *labelled("en", 25, "OP"), *labelled("en", 1, "LY")]
    corpus = write_corpus({"train/en": rows, "train/fr": labelled("fr", 60)})
    first, again, other = (split(corpus, ["en", "fr"], seed=seed, all_texts=True) for seed in (1, 1, 2))
    assert first == again
    assert first.validation != other.validation
    assert not set(first.train) & set(first.validation)
    assert first.report["validation"]["en"] == {"IN": 20, "OP": 5, "LY": 0}  # the only LY text stays in training
    assert first.report["validation"]["fr"] == {"IN": 4, "OP": 4, "LY": 4}
    assert split(corpus, ["en"], validation_size=0.4).report["validation"]["en"] == {"IN": 40, "OP": 10, "LY": 0}


def test_test_texts_are_kept_out_of_training_in_any_language(write_corpus):
    corpus = write_corpus(
        {
            "train/en": [*labelled("en", 30), ("IN", "leaked  from\nEnglish"), ("OP", "leaked from French")],
            "test/en": [("IN", "leaked from English"), ("LY", "t")],
            "test/fr": [("OP", " leaked from French ")],
        }
    )
    texts = split(corpus, ["en"])
    assert not [t for t in (*texts.train, *texts.validation) if "leaked" in t.text]
    assert texts.report["texts"]["en"] == {
        "texts": 32, "rows_skipped": 0, "skipped": [], "also_in_test": 2, "taken": 30,
    }  # fmt: skip


def test_validation_texts_are_kept_out_of_training(write_corpus):
    corpus = write_corpus({"train/en": [(r, text) for r, text in labelled("en", 60) for text in (text, f" {text}")]})
    texts = split(corpus, ["en"])
    held_out = {corpus_load.normalise(t.text) for t in texts.validation}
    assert not held_out & {corpus_load.normalise(t.text) for t in texts.train}
    assert texts.report["also_in_validation"] == 120 - len(texts.train) - len(texts.validation) > 0


def test_texts_under_several_registers_are_named_and_kept(write_corpus, caplog):
    rows = [*labelled("en", 30), ("IN", "two  ways"), ("OP", "two ways\n"), ("LY", "two ways"), ("LY", "two ways")]
    corpus = write_corpus({"train/en": rows, "train/fr": [*labelled("fr", 33), ("OP", "en IN number 0")]})
    texts = split(corpus, ["en", "fr"])
    corpus_load.log_audit(texts.report, REGISTERS)
    assert texts.report["several_registers"] == [
        "train/en.tsv:1 IN, train/fr.tsv:34 OP",
        "train/en.tsv:31 IN, train/en.tsv:32 OP, train/en.tsv:34 LY, train/en.tsv:35 LY",
    ]
    assert "2 texts occur under several registers" in caplog.text and "train/fr.tsv:34 OP" in caplog.text
    assert texts.report["texts"]["en"]["texts"] == 34


def test_a_million_blank_rows_do_not_fill_the_record(write_corpus):
    corpus = write_corpus({"train/en": labelled("en", 30)})
    with open(corpus / "corpus" / "train" / "en.tsv", "a") as file:
        file.write("\t\n" * 1_000_000)
    facts = split(corpus, ["en"]).report["texts"]["en"]
    assert facts["rows_skipped"] == 1_000_000 and len(facts["skipped"]) == 1000


def test_training_on_one_register_only_is_refused(write_corpus):
    with pytest.raises(CorpusError, match="expected training texts of two or more registers, found OP only for en"):
        split(write_corpus({"train/en": labelled("en", 30, "OP")}), ["en"])


def test_a_broken_test_file_of_another_language_is_named_and_passed_over(write_corpus, caplog):
    files = {"train/en": labelled("en", 30), "test/en": [("IN", "t")], "test/fr": [("XX", "t")]}
    corpus = write_corpus(files)
    split(corpus, ["en"])
    assert "fr.tsv:1: expected" in caplog.text
    with pytest.raises(CorpusError, match=r"en\.tsv:1"):
        split(write_corpus({**files, "test/en": [("XX", "t")]}), ["en"])


def test_too_few_texts_to_split_are_an_error(write_corpus):
    with pytest.raises(CorpusError, match="expected enough texts"):
        split(write_corpus({"train/en": [("IN", "a"), ("OP", "b")]}), ["en"])


# ---- the audit alone ----


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
    table = [line.split() for line in told.pop(list(told)[1]) if line]
    assert ["train/en", "1", "4", "0", "5"] in table and ["test/fr", "12", "0", "0", "12"] in table
    assert list(told) == [
        f"{corpus}: 3 registers, 31 texts",
        "1 files that can't be used:",
        "1 rows skipped:",
        "1 texts in training and test files: a training leaves them out:",
        "2 texts several times within the training or the test files:",
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


def test_the_audit_tells_what_a_training_takes(write_corpus, capsys):
    corpus = write_corpus(
        {"train/en": labelled("en", 60), "train/pt-br": labelled("pt-br", 30), "test/en": labelled("en", 3)}
    )
    code, told = audit_of(capsys, corpus, "--train-langs", "en-pt-br")
    lines = [line.split() for line in told["A training on en pt-br:"]]
    report = split(corpus, ["en", "pt-br"]).report
    assert code == 0 and ["train", "en", *map(str, report["train"]["en"].values()), "24"] in lines
    assert "taken: 30 of 57, as many as the smallest language has (--all-texts takes all)" in map(" ".join, lines)
    assert "taken" not in str(audit_of(capsys, corpus, "--train-langs", "en-pt-br", "--all-texts"))


def test_the_audit_ends_as_the_other_scripts_do(write_corpus, capsys, tmp_path):
    assert audit_of(capsys, SAMPLE_CORPUS)[0] == 0
    code, _ = audit_of(capsys, tmp_path)
    assert "expected a corpus folder" in code  # which Python prints, to exit with 1
    code, _ = audit_of(capsys, SAMPLE_CORPUS, "--train-langs", "xx")
    assert "xx.tsv: expected a train file, found none; those there: distr, en, fr, ru, sv" in code
    assert audit_of(capsys, SAMPLE_CORPUS, "--train-langs", "en", "en-fr")[0] == 2
    assert audit_of(capsys, write_corpus({}))[0] == 1  # no file at all


def test_many_registers_of_long_names_are_listed_not_tabled(write_corpus, capsys):
    typology = {f"Register of a long name {i}": "x" for i in range(60)}
    corpus = write_corpus({"train/en": [(register, f"text {register}") for register in typology]}, typology)
    code, told = audit_of(capsys, corpus)
    line = list(told)[1]
    assert code == 0 and line.startswith("train/en      60  Register of a long name 0 1, Register of a long name 1 1")


def test_the_audit_is_a_command_that_loads_no_torch_and_may_be_read_in_part():
    command = f"{sys.executable} -X importtime -m utils.corpus_load tests/sample-corpus --train-langs en 2>/dev/stderr"
    done = subprocess.run(command.split(" 2>")[0].split(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "A training on en:" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "numpy" in loaded and not loaded & {"torch", "transformers", "datasets"}
    head = f"set -o pipefail; {sys.executable} -u -m utils.corpus_load tests/sample-corpus | true"
    done = subprocess.run(["bash", "-c", head], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")


# ---- the sample corpus itself ----


def test_the_sample_corpus_is_what_its_readme_says():
    registers = corpus_load.load_registers(SAMPLE_CORPUS)
    names = json.loads((SAMPLE_CORPUS / "info" / "lang2name.json").read_text(encoding="utf-8"))
    assert len(registers) == 8 and len(names) >= 4
    assert corpus_load.list_languages(SAMPLE_CORPUS, "test") == sorted(names)
    assert corpus_load.list_languages(SAMPLE_CORPUS, "train") == sorted([*names, "distr"])
    for lang in names:
        train = read_file(SAMPLE_CORPUS, "train", lang, registers).texts
        test = read_file(SAMPLE_CORPUS, "test", lang, registers).texts
        assert len(train) >= 90 and len(test) >= 35
        assert {t.register for t in train} == {t.register for t in test} == set(registers)
        assert not {corpus_load.normalise(t.text) for t in train} & {corpus_load.normalise(t.text) for t in test}
