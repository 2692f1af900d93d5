"""Suspected labels: the score is that of the docstring, and only trainings that never saw the language are asked."""

import csv

import numpy as np
import pytest
from make_grid import write_evaluation, write_record

import post_eval
from utils import results, suspects

R = ["IN", "OP", "LY"]
GOLD = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])


def probabilities(changed):
    """0.8 for the gold register of each text, but for those changed: text -> its probabilities."""
    found = np.where(np.eye(3)[GOLD] == 1, 0.8, 0.1)
    for text, values in changed.items():
        found[text] = values
    return found


def write_run(base_dir, train_langs, changed, lang="fi", **signature):
    folder = base_dir / f"tiny-{train_langs}"
    settings = {"seed": 1, "max_length": 64}
    write_record(folder, "tiny", train_langs, {one: {"IN": 5} for one in train_langs.split("-")}, settings=settings)
    write_evaluation(folder, lang, GOLD, probabilities(changed), R, **{"max_length": 64} | signature)


def find(*base_dirs):
    return suspects.find(results.evaluations(results.read_results(list(base_dirs))[0]))


def test_scores_agree_with_the_hand_and_the_most_suspect_text_comes_first(tmp_path):
    write_run(tmp_path, "en", {1: [0.1, 0.7, 0.2], 8: [0.05, 0.9, 0.05], 9: [0.3, 0.3, 0.4]})
    write_run(tmp_path, "fr", {1: [0.2, 0.2, 0.6], 8: [0.1, 0.85, 0.05], 9: [0.5, 0.1, 0.4]})
    table = find(tmp_path)["fi"]
    # the last text is contradicted by one training, but not on average
    assert list(table["row"]) == [2, 9] and list(table["gold"]) == ["IN", "LY"]
    assert list(table["predicted"]) == ["OP", "OP"] and list(table["agreement"]) == [1, 2]
    assert set(table["trainings"]) == {2}
    # right are 8 and 7 texts, 4 more and 3 more than the most frequent register has
    log_odds = [(4 * np.log(0.7 / 0.1) + 3 * np.log(0.2 / 0.2)) / 7, (4 * np.log(18) + 3 * np.log(17)) / 7]
    assert list(table["log_odds"]) == pytest.approx(log_odds)
    # most texts of IN are right with 0.8 against 0.1; the text in the middle of LY is the last
    usual = [np.log(0.1 / 0.8), (4 * np.log(0.3 / 0.4) + 3 * np.log(0.5 / 0.4)) / 7]
    assert list(table["score"]) == pytest.approx(np.subtract(log_odds, usual))


def test_a_probability_of_0_counts_as_the_smallest_that_is_written():
    table = suspects.judge(np.array([0]), np.array([[[0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]]))
    assert table["log_odds"].tolist() == pytest.approx([np.log(1e6)])


def test_only_trainings_that_can_judge_are_asked(tmp_path, caplog):
    wrong, right = {1: [0.1, 0.8, 0.1]}, {}
    write_run(tmp_path, "en", wrong)
    assert find(tmp_path) == {}  # one opinion alone
    write_run(tmp_path, "sv", wrong)
    expected = find(tmp_path)["fi"]
    assert list(expected["row"]) == [2]
    write_run(tmp_path, "fi", right)  # the language itself
    write_run(tmp_path, "en-fi", right)
    write_run(tmp_path, "distr", right)  # may hold it
    write_run(tmp_path, "de", {text: [0.8, 0.1, 0.1] for text in range(10)})  # says IN of all
    write_run(tmp_path, "fr", right, test_sha256="another")  # its rows are other texts
    assert find(tmp_path)["fi"].equals(expected)
    assert [one.getMessage() for one in caplog.records if "suspected" in one.getMessage()] != []


def test_the_files_and_the_page_hold_them(tmp_path):
    for lang in ("en", "sv"):
        write_run(tmp_path, lang, {1: [0.1, 0.8, 0.1]})
    post_eval.main([f"--base-dir={tmp_path}", "--ignore-cfm"])
    with open(tmp_path / "suspects" / "fi.tsv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file, delimiter="\t")
    assert row == {
        "row": "2", "gold": "IN", "predicted": "OP", "agreement": "2", "trainings": "2", "log_odds": "2.079",
        "score": "4.159", "text": "",
    }  # fmt: skip
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    section = page.split('<section id="suspects"')[1].split("</section>")[0]
    assert '<th scope="row">2<' in section and "2 of 2" in section and "4.16" in section
