"""Words behind a confusion: what a word is, how it is counted, and the log-odds ratio against the hand."""

import csv
import math

import numpy as np
import pytest
from make_grid import write_evaluation, write_record

import post_eval
from utils import keywords, runs

R = ("IN", "OP", "LY")


def test_log_odds_agree_with_the_hand():
    # 4 of 10 words against 1 of 10, and a prior of 5 of 20
    log_odds, z = keywords.log_odds_ratio(*map(np.array, ([4, 6], [1, 9], [5, 15])), np.array([0]))
    by_hand = math.log((4 + 5) / (30 - 9)) - math.log((1 + 5) / (30 - 6))
    assert log_odds.tolist() == pytest.approx([by_hand])
    assert z.tolist() == pytest.approx([by_hand / math.sqrt(1 / 9 + 1 / 6)])


@pytest.mark.parametrize(
    "text, words",
    [
        ("L'Été, 2024: l’été", ["2024", "l", "été"]),
        ("e\u0301te\u0301 été", ["été"]),
        (r"bir\niki \n", [r"\n", "bir", "iki"]),  # written as two characters
        ("one\ntwo", ["one", "two"]),  # a line end
        ("日本語abc かな", ["abc", "か", "な", "日", "本", "語"]),
        ("ไทย", ["ท", "ย", "ไ"]),
        ("हिन्दी", ["हिन्दी"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("?!", []),
    ],
)
def test_words_of_many_scripts(text, words):
    counts, found = keywords.count_words([text])
    assert found.tolist() == words and counts.shape == (1, len(words))


def test_no_text_has_no_words():
    assert keywords.count_words([])[0].shape == (0, 0)


def words_of(texts, gold, predicted, **options):
    return keywords.compare(np.array(gold), np.array(predicted), R, *keywords.count_words(texts), **options)


def test_words_of_a_pair_are_those_of_its_wrong_texts_against_the_right_ones_of_its_register():
    # IN: 6 texts predicted as OP that say shop twice, 6 right ones of which one says it; one LY text is wrong too
    texts = ["the shop shop"] * 6 + ["the river"] * 5 + ["the river shop"] + ["the song shop"]
    gold, predicted = [0] * 12 + [2], [1] * 6 + [0] * 6 + [1]
    (found,) = words_of(texts, gold, predicted)
    assert found[:3] == ("IN", "OP", "shop") and found[5:] == (12, 1, 6)
    counts = {"the": 13, "shop": 14, "river": 6}  # song is in too few texts
    expected = keywords.log_odds_ratio(
        *(np.array(one) for one in ([6, 12, 0], [6, 1, 6], [*counts.values()])), np.array([1])
    )
    assert found[3:5] == pytest.approx((expected[1][0], expected[0][0]))


def test_words_of_a_register_are_those_of_its_texts_against_the_others_whatever_is_predicted():
    found = words_of(["la la la"] * 20 + ["how to"] * 20, [2] * 20 + [0] * 20, [0] * 40, pairs=False)
    assert {one[:3] for one in found} == {("LY", "", "la"), ("IN", "", "how"), ("IN", "", "to")}
    assert [one[5:] for one in found if one[2] == "la"] == [(60, 0, 20)]


def test_a_word_that_two_texts_repeat_is_none_of_them():
    texts = ["berlin " * 50, "berlin " * 50] + ["how to"] * 5 + ["so"] * 5
    assert "berlin" not in {one[2] for one in words_of(texts, [0] * 7 + [1] * 5, [0] * 12, pairs=False)}


@pytest.fixture
def base_dir(tmp_path, write_corpus):
    texts = [("IN", rf"river\nriver <b>{i}</b>") for i in range(20)] + [("OP", "shop " * 4) for _ in range(20)]
    corpus = write_corpus({"test/fi": texts})
    base_dir = tmp_path / "outputs"
    sha256 = runs.sha256_of(corpus / "corpus" / "test" / "fi.tsv")
    for name, signature in (("tiny-en", sha256), ("tiny-sv", "of another test file")):
        write_record(base_dir / name, "tiny", name[-2:], {name[-2:]: {"IN": 5}}, corpus={"path": str(corpus)})
        gold = np.repeat([0, 1], 20)
        write_evaluation(base_dir / name, "fi", gold, np.eye(3)[gold], list(R), test_sha256=signature)
    return base_dir


def test_files_and_page_hold_the_words_of_the_very_test_file_only(base_dir):
    post_eval.main([f"--base-dir={base_dir}", "--ignore-cfm"])
    with open(base_dir / "tiny-en" / "keywords" / "fi.tsv", encoding="utf-8", newline="") as file:
        rows = {row["word"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert rows[r"\n"]["gold"] == "IN" and rows[r"\n"]["predicted"] == "" and rows[r"\n"]["texts"] == "20"
    assert rows["shop"]["gold"] == "OP" and rows["shop"]["count"] == "80"
    assert not (base_dir / "tiny-sv" / "keywords").exists()
    page = (base_dir / "report.html").read_text(encoding="utf-8")
    assert r"<bdi>\n</bdi> 20/0" in page and "<bdi>shop</bdi> 80/0" in page


def test_no_words_if_they_are_not_wanted(base_dir):
    post_eval.main([f"--base-dir={base_dir}", "--ignore-cfm", "--ignore-keywords"])
    assert not (base_dir / "tiny-en" / "keywords").exists()
    assert "shop" not in (base_dir / "report.html").read_text(encoding="utf-8")
