"""post_eval.py from its command line: what it draws, where, what it says, and what it compares."""

import csv
import itertools
import json
import re
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest
from conftest import ROOT
from make_grid import REGISTERS, make_run
from matplotlib.figure import Figure
from test_results import change
from test_tables import answer, make_answers

import post_eval
from utils import results, runs, uncertainty

LANGS = ["en", "fi", "fr", "sv"]
FILES = [  # registers.png has a page per model
    "methods.md", "per_register.csv", "registers-2.png", "registers.png", "report.html", "suspects", "tve.csv",
    "tve.md", "tve.png", "tve.tex", "tve_cells.csv",
]  # fmt: skip


@pytest.fixture
def grid(tmp_path):
    """Two models on en, en-fr and distr, evaluated on four languages with random predictions."""
    base_dir = tmp_path / "outputs"
    rng = np.random.default_rng(0)
    for model in ("xlmr", "mbert"):
        for training in ("en", "en-fr", "distr"):
            make_run(base_dir / f"{model}-{training}", model, training, LANGS, 40, rng)
    return base_dir


def run(base_dir, *options, expect=0):
    assert post_eval.main(["--base-dir", str(base_dir), "--jobs=1", *options]) == expect


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---- what is drawn ----


def test_by_default_everything_is_drawn(grid):
    run(grid)
    folders = {path for path in grid.iterdir() if (path / "run.json").is_file()}
    assert sorted(path.name for path in {*grid.iterdir()} - folders) == FILES
    for folder in folders:
        assert (folder / "cfm.png").stat().st_size > 10_000
        assert sorted(path.stem for path in (folder / "errors").iterdir()) == LANGS


def test_one_evaluation_is_enough_and_the_same_input_gives_the_same_bytes(grid):
    options = ["--tve-models", "xlmr", "--tve-train-langs", "en-fr", "--tve-eval-langs", "sv", "--tve-metrics",
               "precision", "--cfm-models", "mbert", "--cfm-train-langs", "distr", "--cfm-eval-langs", "fr",
               "--cfm-ignore-summary", "--labels", "fr", "--format", "png", "svg", "pdf"]  # fmt: skip
    run(grid, *options)
    made = {path: path.read_bytes() for path in grid.rglob("*") if path.is_file()}
    figures = [path for path in made if path.suffix in (".png", ".pdf", ".svg")]
    assert len(figures) == 3 * 3
    for path in figures:
        path.unlink()
    run(grid, *options)
    assert {path: path.read_bytes() for path in made} == made
    for svg in grid.rglob("*.svg"):
        xml.etree.ElementTree.parse(svg)


def test_a_name_that_no_run_has_is_wrong_use_and_lists_those_that_exist(grid, capsys):
    exists = {"models": "mbert, xlmr", "train-langs": "en, en-fr, distr", "eval-langs": "en, fi, fr, sv"}
    for kind, option in itertools.product(("cfm", "tve"), exists):
        with pytest.raises(SystemExit) as end:
            run(grid, f"--{kind}-{option}", "nobody", *(["--ignore-cfm"] if kind == "tve" else []))
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert f"--{kind}-{option}" in said and "nobody" in said and exists[option] in said
    make_run(grid / "other-ru", "other", "ru", ["ru"], 40, np.random.default_rng(1))
    with pytest.raises(SystemExit) as end:
        run(grid, "--ignore-cfm", "--tve-models", "xlmr", "--tve-eval-langs", "ru")
    assert end.value.code == 2


def test_torch_is_never_imported(grid):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import post_eval\n"
        f"assert post_eval.main(['--base-dir', {str(grid)!r}, '--jobs', '1']) == 0\n"
        "heavy = {'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_pages_of_an_earlier_larger_drawing_are_removed(tmp_path):
    pages = [Figure((1, 1)) for _ in range(4)]
    assert post_eval.save_figures(iter(pages), tmp_path / "tve", ["png", "pdf"]) == 4
    (tmp_path / "tve-9.png").touch()  # not one of its pages: there is a gap before it
    assert post_eval.save_figures(iter(pages[:2]), tmp_path / "tve", ["png"]) == 2
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["tve-2.png", "tve-9.png", "tve.png"]
    assert len(list(tmp_path.glob("*.pdf"))) == 4


# ---- what is missing, damaged or not comparable ----


def test_a_missing_evaluation_stays_blank_and_is_named_with_its_command(grid, caplog):
    for path in (grid / "xlmr-en").rglob("sv.*"):
        path.unlink()
    run(grid, "--ignore-cfm")
    assert "evaluate.py --model-name xlmr --train-langs en --eval-lang sv" in caplog.text
    assert len(read_csv(grid / "tve.csv")) == 6 * 4 - 1
    of_xlmr = (grid / "tve.md").read_text().split("### xlmr")[1]
    (row,) = (line for line in of_xlmr.splitlines() if line.startswith("| en |"))
    assert row.split("|")[-3].strip() == ""


def test_damaged_files_are_named_the_rest_is_drawn_and_the_exit_code_is_1(grid, caplog):
    (grid / "xlmr-en" / "eval" / "fi.json").write_text('{"counts": [[1')
    (grid / "mbert-en" / "run.json").write_text("{")
    run(grid, "--ignore-cfm", expect=1)
    assert "xlmr-en/eval/fi.json" in caplog.text and "mbert-en/run.json" in caplog.text
    assert len(read_csv(grid / "tve.csv")) == 5 * 4 - 1


def test_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(post_eval.RunError, match="evaluate.py"):
        run(tmp_path)
    with pytest.raises(post_eval.RunError, match="none"):
        run(tmp_path / "none")


def test_what_cannot_be_compared_is_named_and_marked(grid, caplog):
    path = grid / "xlmr-en" / "eval" / "fi.json"
    change(path, signature=json.loads(path.read_text())["signature"] | {"max_length": 20})
    run(grid, "--ignore-cfm")
    assert "max_length 20" in caplog.text
    rows = {(r["model"], r["row"], r["column"]): r for r in read_csv(grid / "tve_cells.csv")}
    assert (rows["xlmr", "en", "fi"]["mark"][0], rows["xlmr", "en", "fi"]["best"]) == ("†", "")
    for name in ("tve.md", "tve.tex", "report.html"):
        assert ("†" if name != "tve.tex" else "dagger") in (grid / name).read_text()


# ---- where the files go ----


def test_where_the_files_go_is_said_and_output_dir_chooses_it(grid, tmp_path, caplog):
    caplog.set_level("INFO")
    make_run(grid / "seed2" / "xlmr-en", "xlmr", "en", LANGS, 40, np.random.default_rng(9))
    run(grid, "--ignore-cfm")
    before = (grid / "report.html").read_bytes()
    other = tmp_path / "new" / "seeds"
    options = ["--ignore-cfm", "--jobs=1", "--output-dir", str(other)]
    assert post_eval.main(["--base-dir", str(grid), str(grid / "seed2"), *options]) == 0
    assert sorted(path.name for path in other.iterdir()) == FILES and (grid / "report.html").read_bytes() == before
    assert str(other) in caplog.text
    cells = {(r["model"], r["row"], r["column"]): r for r in read_csv(other / "tve_cells.csv")}
    assert cells["xlmr", "en", "fi"]["n"] == "2" and cells["xlmr", "en-fr", "fi"]["n"] == "1"


# ---- errors ----


@pytest.mark.parametrize("is_the_file", [True, False])
def test_errors_show_the_texts_of_the_very_test_file_only_and_no_formula(grid, write_corpus, is_the_file):
    texts = ["=HYPERLINK(1)", "+1", "-1", "@a", "plain"]
    corpus = write_corpus({"test/fi": [("IN", texts[i % 5]) for i in range(40)]}, dict.fromkeys(REGISTERS, "x"))
    folder = grid / "xlmr-en"
    record, scores = (json.loads((folder / name).read_text()) for name in ("run.json", "eval/fi.json"))
    change(folder / "run.json", corpus=record["corpus"] | {"path": str(corpus)})
    sha256 = runs.sha256_of(corpus / "corpus" / "test" / "fi.tsv") if is_the_file else "another"
    change(folder / "eval" / "fi.json", signature=scores["signature"] | {"test_sha256": sha256})
    run(grid, "--ignore-tve", "--ignore-report", "--cfm-models", "xlmr", "--cfm-train-langs", "en")
    with open(folder / "errors" / "fi.tsv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            text = texts[(int(row["row"]) - 1) % 5]
            assert row["text"] == ("" if not is_the_file else text if text == "plain" else f"'{text}")


# ---- comparison ----


def compared(capsys):
    """Return the lines of a comparison as language -> columns, by where the columns begin."""
    lines = capsys.readouterr().out.splitlines()
    return lines, {line.split()[0]: line.split() for line in lines if re.match(r"[a-z]{2} +\d+ ", line)}


def test_the_comparison_is_that_of_one_function_corrected_over_languages(tmp_path, capsys):
    rng, gold = np.random.default_rng(1), np.repeat(np.arange(8), 30)
    for training, accuracy in (("en", 0.8), ("fr", 0.65)):
        answered = {lang: (gold, answer(gold, accuracy, rng)) for lang in ("fi", "sv")}
        make_answers(tmp_path / f"m-{training}", training, answered)
    frame, _ = results.read_results([tmp_path])
    for metric in ("macro_f1_10", "micro_f1"):
        run(tmp_path, "--compare", "m-en", "m-fr", "--tve-metrics", metric)
        _, rows = compared(capsys)
        found = []
        for lang in ("fi", "sv"):
            of_lang = frame[(frame["metric"] == metric) & (frame["eval_lang"] == lang)]
            sides = [of_lang[of_lang["training"] == training] for training in ("en", "fr")]
            found.append(results.compare(*(list(side.itertuples()) for side in sides), metric))
            scores = [100 * side["score"].iloc[0] for side in sides]
            assert [float(x) for x in rows[lang][2:4]] == pytest.approx(scores, abs=0.05)
            assert float(rows[lang][4]) == pytest.approx(100 * found[-1]["difference"], abs=0.051)
        adjusted = uncertainty.holm([one["p"] for one in found])
        for lang, one, p in zip(("fi", "sv"), found, adjusted, strict=True):
            assert rows[lang].count("<") == (one["p"] < 0.0001) + (p < 0.0001)
            if p >= 0.0001:
                assert float(rows[lang][-1]) == pytest.approx(p, abs=5e-5)


def test_the_same_answers_are_said_and_have_an_interval(grid, capsys):
    run(grid, "--compare", "xlmr-en", "xlmr-en", "--tve-metrics", "micro_f1")
    lines, rows = compared(capsys)
    assert list(rows) == LANGS and any(line.startswith("fi:") for line in lines)
    for row in rows.values():
        assert row[4] == "0.0" and float(row[-1]) == 1 and row[5].startswith("−") and row[7].startswith("+")
