"""A corpus: every trap of the format, what is trained on, the split, its tokens."""

import unicodedata

import pytest
from conftest import SAMPLE_CORPUS
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import corpus_load, model
from utils.corpus_load import CorpusError, load_training_texts, normalise, read_texts

REGISTERS = ["IN", "OP", "LY"]


def split(corpus, langs, **options):
    return load_training_texts(
        corpus, langs, REGISTERS, **{"validation_size": 0.2, "seed": 42, "all_texts": False, **options}
    )


TRAPS = [
    "a first text, no header", "NA", "null", "None", "nan", "  blanks at both ends ", "two\nlines", "a\r\nb\rc", "a\rb",
    "a\tb", 'she said "no" and left', '"no" she said', "a\u2028b\u2029c\u0085d\x1ce\x0bf\x0cg", "a\ufffdb\x00c\x07",
    r"a\nb", "שלום\u200b\u200fעולם", "x" * 131_073, "mot " * 275_000 + "fin",
]  # fmt: skip


def test_texts_come_back_as_they_were_written_with_row_and_line(write_corpus):
    rows = [*(("IN", text) for text in TRAPS), ("unused", "set aside"), ("OP", "two\nlines"), ("LY", "last")]
    corpus = write_corpus({"train/en": rows})
    texts = read_texts(corpus, "train", "en", REGISTERS)
    assert texts[["register", "text"]].to_numpy().tolist() == [list(row) for row in rows if row[0] != "unused"]
    first = 1 + sum(text.count("\n") + 1 for text in TRAPS)  # the line after them
    n = len(TRAPS)
    assert texts[["row", "line"]].to_numpy().tolist()[-2:] == [[n + 2, first + 1], [n + 3, first + 3]]
    assert [row.rpartition(":")[0] for row in texts.attrs["skipped"]] == [f"{corpus}/corpus/train/en.tsv:{first}"]


# ---- where the corpus is ----


def test_option_then_variable_then_constant(write_corpus, tmp_path, monkeypatch):
    corpus = write_corpus({"train/en": [("IN", "a")]})
    monkeypatch.setenv("REGISTER_CORPUS", str(corpus))
    assert corpus_load.find_corpus(None) == corpus
    assert corpus_load.find_corpus(str(SAMPLE_CORPUS)) == SAMPLE_CORPUS
    monkeypatch.delenv("REGISTER_CORPUS")
    monkeypatch.setattr(corpus_load, "CORPUS_PATH", "tests/sample-corpus")
    with pytest.raises(CorpusError):
        corpus_load.find_corpus("a\nb")  # which run.json could not hold
    monkeypatch.chdir(tmp_path)  # the constant counts from the repository, whatever the current folder
    assert corpus_load.find_corpus(None) == SAMPLE_CORPUS


def test_what_is_not_there_is_told_with_what_may_be_meant(write_corpus, tmp_path):
    with pytest.raises(CorpusError, match="--corpus-path.*REGISTER_CORPUS.*CORPUS_PATH"):
        corpus_load.load_registers(corpus_load.find_corpus(str(tmp_path)))
    corpus = write_corpus({"train/en": [("IN", "a")], "train/tr": [("IN", "b")]})
    (corpus / "info" / "lang2name.json").write_text('{"tr": "turkish", "de": "german"}')
    for lang, meant in (("TR", "tr[?]"), ("turkisch", "tr[?]"), ("german", "")):
        with pytest.raises(CorpusError, match=rf"{lang}\.tsv: .*{meant}.*en tr"):
            corpus_load.hash_file(corpus, "train", lang)


# ---- what is trained on ----


def labelled(lang, n, register=None):
    """Texts that name their own language and register, so that a text that lost its register shows."""
    rows = [(register or REGISTERS[i % 3], i) for i in range(n)]
    return [(r, f"{lang} {r} number {i}") for r, i in rows]


def test_text_register_and_language_never_part(write_corpus, tiny):
    corpus = write_corpus({f"train/{lang}": labelled(lang, n) for lang, n in (("en", 50), ("fr", 31), ("sv", 77))})
    train, validation, _ = split(corpus, ["en", "fr", "sv"])
    tokenizer = model.load_tokenizer(tiny)
    for part in (train, validation):
        dataset = corpus_load.to_dataset(part, tokenizer, 64, REGISTERS)
        for text, row in zip(part.itertuples(), dataset, strict=True):
            assert text.text.startswith(f"{text.lang} {text.register} ")
            assert row["input_ids"].tolist() == tokenizer(text.text)["input_ids"]
            assert REGISTERS[row["labels"]] == text.register


def test_the_smallest_language_decides_unless_all_texts(write_corpus):
    corpus = write_corpus({"train/en": labelled("en", 100), "train/fr": labelled("fr", 30)})
    *_, report = split(corpus, ["en", "fr"])
    assert [report["texts"][lang]["taken"] for lang in ("en", "fr")] == [30, 30]
    assert "--all-texts" in "\n".join(corpus_load.report_lines(report, REGISTERS))
    train, validation, report = split(corpus, ["en", "fr"], all_texts=True)
    assert len(train) + len(validation) == 130
    lines = [line.split() for line in corpus_load.report_lines(report, REGISTERS)]
    assert "--all-texts" not in str(lines) and ["en", "100", "0", "0", "0", "100"] in lines
    assert ["train", "en", *map(str, report["train"]["en"].values()), "80"] in lines


def test_the_split_is_stratified_and_a_function_of_the_seed(write_corpus):
    rows = [*labelled("en", 100, "IN"), *labelled("en", 25, "OP"), *labelled("en", 1, "LY")]
    corpus = write_corpus({"train/en": rows, "train/fr": labelled("fr", 60)})
    first, again, other = (split(corpus, ["en", "fr"], seed=seed, all_texts=True) for seed in (1, 1, 2))
    assert first[2] == again[2] and first[0].equals(again[0]) and first[1].equals(again[1])
    train, validation, report = first
    assert not validation.equals(other[1]) and report["texts_sha256"] != other[2]["texts_sha256"]
    assert not set(train["text"]) & set(validation["text"])
    assert report["validation"]["en"] == {"IN": 20, "OP": 5, "LY": 0}  # the only LY text stays in training
    assert report["validation"]["fr"] == {"IN": 4, "OP": 4, "LY": 4}
    assert split(corpus, ["en"], validation_size=0.4)[2]["validation"]["en"] == {"IN": 40, "OP": 10, "LY": 0}


TEXT = "Où va l’été ? Nous l’avons déjà oublié, et les (ﬁlles) ²"
FORMS = {  # of one text, as programs write it
    "NFD": unicodedata.normalize("NFD", TEXT),
    "NFKC": unicodedata.normalize("NFKC", TEXT),
    "zero-width blanks": TEXT.replace(" ", " \u200b"),
    "soft hyphens": TEXT.replace("oub", "ou\u00adb"),
    "a mark within a letter": unicodedata.normalize("NFD", TEXT).replace("e\u0301", "e\u200d\u0301"),
    "direction": f"\u202a{TEXT}\u202c",
    "byte order marks": TEXT.replace(",", ",\ufeff"),
    "no-break spaces": TEXT.replace(" ", "\u00a0"),
    "line ends": f" {TEXT}\r\n".replace(" ", "\n"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_test_text_of_any_language_in_another_form_is_kept_out_of_training(write_corpus, form):
    corpus = write_corpus(
        {"train/en": [*labelled("en", 30), ("IN", form), ("OP", TEXT.upper())], "test/fr": [("IN", TEXT)]}
    )
    train, validation, report = split(corpus, ["en"])
    assert report["texts"]["en"] == {
        "texts": 32, "rows_skipped": 0, "skipped": [], "also_in_test": 1, "repeated": 0, "taken": 31,
    }  # fmt: skip
    texts = {*train["text"], *validation["text"]}
    assert form not in texts and TEXT.upper() in texts  # and what is left is left as it is
    assert set(report["files"]) == {"train/en.tsv", "test/fr.tsv"}


def test_a_text_that_occurs_several_times_is_one_text(write_corpus):
    """Else most of the copies are held out, and so no copy is learnt from."""
    rows = labelled("en", 60)
    once = split(write_corpus({"train/en": rows}), ["en"])
    many = [(register, form) for register, text in rows for form in (text, f" {text}", text, f"{text}\u200b")]
    train, validation, report = split(write_corpus({"train/en": many}), ["en"])
    assert report["texts"]["en"]["repeated"] == 180
    assert (train["text"].tolist(), validation["text"].tolist()) == (once[0]["text"].tolist(), once[1]["text"].tolist())
    assert len(train) == 48 and len(validation) == 12


def test_texts_under_several_registers_are_named_kept_and_stay_together(write_corpus):
    rows = [*labelled("en", 30), ("IN", "two  ways"), ("OP", "two ways\n"), ("LY", "two ways"), ("LY", "two ways")]
    corpus = write_corpus({"train/en": rows, "train/fr": [*labelled("fr", 33), ("OP", "en IN number 0")]})
    for seed in range(10):
        train, validation, report = split(corpus, ["en", "fr"], all_texts=True, seed=seed)
        assert not set(map(normalise, train["text"])) & set(map(normalise, validation["text"]))
    places = [
        "train/en.tsv:1 IN, train/fr.tsv:34 OP",
        "train/en.tsv:31 IN, train/en.tsv:32 OP, train/en.tsv:34 LY, train/en.tsv:35 LY",
    ]
    assert report["several_registers"] == places
    assert set(corpus_load.several_lines(places)) <= set(corpus_load.report_lines(report, REGISTERS))
    assert [len(corpus_load.several_lines(["x"] * n)) for n in (0, 10, 11)] == [0, 11, 12]  # ten are enough
    assert (report["texts"]["en"]["texts"], report["texts"]["en"]["repeated"]) == (34, 1)
    assert len(train) + len(validation) == 67


def test_many_blank_rows_do_not_fill_the_record(write_corpus):
    corpus = write_corpus({"train/en": labelled("en", 30)})
    with open(corpus / "corpus" / "train" / "en.tsv", "a") as file:
        file.write("\t\n" * 1500)
    facts = split(corpus, ["en"])[2]["texts"]["en"]
    assert facts["rows_skipped"] == 1500 and len(facts["skipped"]) == 1000


def test_what_no_training_can_use_is_refused(write_corpus):
    for files in (
        {"train/en": labelled("en", 30, "OP")},
        {"train/en": [("IN", "a"), ("OP", "b")]},
        {"train/en": labelled("en", 30), "test/en": labelled("en", 30)},
    ):
        with pytest.raises(CorpusError, match="corpus"):
            split(write_corpus(files), ["en"])


def test_a_broken_test_file_of_another_language_is_named_and_passed_over(write_corpus, caplog):
    files = {"train/en": labelled("en", 30), "test/en": [("IN", "t")], "test/fr": [("XX", "t")]}
    corpus = write_corpus(files)
    split(corpus, ["en"])
    assert "fr.tsv:1: " in caplog.text
    with pytest.raises(CorpusError, match=r"en\.tsv:1"):
        split(write_corpus({**files, "test/en": [("XX", "t")]}), ["en"])


# ---- tokens ----


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), st.data())
def test_the_first_tokens_are_those_of_the_whole_text(tiny, glue, data):
    words = data.draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1))
    text = glue.join([" ".join(words), *words] * 6)
    tokenizer = model.load_tokenizer(tiny)
    whole = tokenizer(text)["input_ids"]
    for max_length in (8, 32):
        (_, ids, _), (_, over, _) = corpus_load.first_tokens(["a", text, "word " * 99], tokenizer, max_length)
        assert over == (len(whole) > max_length)
        assert ids == (whole[: max_length - 1] + whole[-1:] if over else whole)


def test_the_first_tokens_are_those_of_the_whole_text_in_the_sample_corpus(tiny):
    tokenizer = model.load_tokenizer(tiny)
    registers = corpus_load.load_registers(SAMPLE_CORPUS)
    texts = read_texts(SAMPLE_CORPUS, "test", "fr", registers)
    assert texts["text"].str.len().max() > 2000  # longer than a model can read
    dataset = corpus_load.to_dataset(texts, tokenizer, 64, list(registers))
    for text, row in zip(texts["text"], dataset, strict=True):
        whole = tokenizer(text)["input_ids"]
        assert row["input_ids"].tolist() == (whole if len(whole) <= 64 else whole[:63] + whole[-1:])
        assert bool(row["over"]) == (len(whole) > 64) and row["length"] == len(row["input_ids"])
    tabs_first = "\t" * 2000 + " word" * 99  # of which the beginning has no token
    (ids,), (over,) = corpus_load.first_tokens([tabs_first], tokenizer, 32)
    assert tokenizer.backend_tokenizer.truncation is None  # it would be saved with the model
    assert over and ids == tokenizer(tabs_first)["input_ids"][:31] + ids[-1:]


# ---- the sample corpus itself ----
