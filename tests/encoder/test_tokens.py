"""Tokens: those of the whole text, whatever part of it was tokenised, and held compactly."""

import numpy as np
from conftest import SAMPLE_CORPUS
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import corpus_load
from utils.corpus_load import read_file
from utils.encoder import classifier, tokens

REGISTERS = ["IN", "OP", "LY"]


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), st.data())
def test_the_first_tokens_are_those_of_the_whole_text(tiny, glue, data):
    words = data.draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1))
    text = glue.join([" ".join(words), *words] * 6)
    tokenizer = classifier.load_tokenizer(tiny)
    whole = tokenizer(text)["input_ids"]
    for max_length in (8, 32):
        (ids,), (over,) = tokens._first_tokens([text], tokenizer, max_length)
        assert over == (len(whole) > max_length)
        assert ids == (whole[: max_length - 1] + whole[-1:] if over else whole)


def test_the_first_tokens_are_those_of_the_whole_text_in_the_sample_corpus(tiny):
    tokenizer = classifier.load_tokenizer(tiny)
    registers = corpus_load.load_registers(SAMPLE_CORPUS)
    longest = 0
    for lang in corpus_load.list_languages(SAMPLE_CORPUS, "test"):
        texts = read_file(SAMPLE_CORPUS, "test", lang, registers).texts
        dataset = tokens.tokenize(texts, tokenizer, 64, list(registers))
        for text, row in zip(texts, dataset, strict=True):
            whole = tokenizer(text.text)["input_ids"]
            longest = max(longest, len(whole))
            assert row["input_ids"].tolist() == (whole if len(whole) <= 64 else whole[:63] + whole[-1:])
            assert bool(row["over"]) == (len(whole) > 64)
            assert row["length"] == len(row["input_ids"])
    assert longest > 512  # the sample corpus holds texts longer than a model can read


def test_tokens_are_held_compactly(tiny):
    tokenizer = classifier.load_tokenizer(tiny)
    texts = [corpus_load.Text("en", i, i, "IN", "word " * 600) for i in range(1500)]
    dataset = tokens.tokenize(texts, tokenizer, 512, REGISTERS)
    assert np.asarray(dataset["length"]).tolist() == [512] * 1500
    assert dataset.data.nbytes < 1500 * (512 * 4 + 50)  # four bytes a token
