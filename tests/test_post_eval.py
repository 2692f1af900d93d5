"""post_eval.py from its command line: what it draws, where, what it says, and what it compares."""

import csv
import itertools
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest
from conftest import ROOT
from make_grid import REGISTERS, make_evaluation, make_run
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


def test_filters_filter(grid):
    run(grid, "--tve-models", "xlmr", "--tve-train-langs", "en", "en-fr", "--tve-eval-langs", "fi", "sv",
        "--cfm-models", "mbert", "--cfm-train-langs", "en")  # fmt: skip
    rows = read_csv(grid / "tve.csv")
    assert {(r["model"], r["train_langs"], r["eval_lang"]) for r in rows} == {
        ("xlmr", training, lang) for training in ("en", "en-fr") for lang in ("fi", "sv")
    }
    assert [path.parent.name for path in grid.rglob("cfm.png")] == ["mbert-en"]


def test_a_name_that_no_run_has_is_wrong_use_and_lists_those_that_exist(grid, capsys):
    exists = {"models": "mbert, xlmr", "train-langs": "en, en-fr, distr", "eval-langs": "en, fi, fr, sv"}
    for kind, option in itertools.product(("cfm", "tve"), exists):
        with pytest.raises(SystemExit) as end:
            run(grid, f"--{kind}-{option}", "nobody", *(["--ignore-cfm"] if kind == "tve" else []))
        assert end.value.code == 2
        message = f"--{kind}-{option}: there is no 'nobody'; choose from {exists[option]}"
        assert message in capsys.readouterr().err
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


def test_what_is_printed_comes_after_all_files(grid):
    command = [sys.executable, "-u", str(ROOT / "post_eval.py"), "--base-dir", str(grid), "--jobs", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline().startswith("mbert, macro-F1")
        assert len(list(grid.glob("*/cfm.png"))) == 6  # also for `| head -n1`
        assert all((grid / name).is_file() for name in FILES)
        process.communicate()
    assert process.returncode == 0


def test_the_surroundings_change_no_figure_and_add_no_word(grid, tmp_path):
    settings = tmp_path / "matplotlibrc"
    settings.write_text("backend: nonsense\nno.such.key: 1\nfont.size: 30\naxes.facecolor: red\nsavefig.dpi: 20\n")
    command = [sys.executable, str(ROOT / "post_eval.py"), "--base-dir", str(grid), "--jobs=1", "--cfm-models=xlmr"]
    notebook = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MATPLOTLIBRC": str(settings)}
    no_home = {"HOME": "/proc/none", "MPLCONFIGDIR": "/proc/none", "XDG_CACHE_HOME": "/proc/none"}
    seen = []
    for variables in ({}, notebook | no_home):
        environment = os.environ | variables
        done = subprocess.run(
            command, env=environment, cwd=tmp_path if variables else ROOT, capture_output=True, text=True, timeout=300
        )
        figures = {path: path.read_bytes() for path in sorted(grid.rglob("*.png"))}
        seen.append((done.returncode, [line[8:] for line in done.stderr.splitlines()], figures))  # without the time
    assert seen[0] == seen[1] and seen[0][0] == 0


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
    assert "2 damaged files were passed over" in caplog.text
    assert len(read_csv(grid / "tve.csv")) == 5 * 4 - 1


def test_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(post_eval.RunError, match="there is no evaluated run; evaluate.py makes them"):
        run(tmp_path)
    with pytest.raises(post_eval.RunError, match="there is no such folder"):
        run(tmp_path / "none")


def test_what_cannot_be_compared_is_named_and_marked(grid, caplog):
    path = grid / "xlmr-en" / "eval" / "fi.json"
    change(path, signature=json.loads(path.read_text())["signature"] | {"max_length": 20})
    run(grid, "--ignore-cfm")
    assert "xlmr-en on fi: not comparable, out of means and bests: max_length 20, not 512" in caplog.text
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
    assert f"{other}: report.html" in caplog.text and f"{other}: tve.png" in caplog.text
    cells = {(r["model"], r["row"], r["column"]): r for r in read_csv(other / "tve_cells.csv")}
    assert cells["xlmr", "en", "fi"]["n"] == "2" and cells["xlmr", "en-fr", "fi"]["n"] == "1"


def test_base_dirs_without_a_common_folder_need_output_dir(capsys):
    with pytest.raises(SystemExit) as end:
        post_eval.main(["--base-dir", "/a", "/b"])
    assert end.value.code == 2 and "--output-dir" in capsys.readouterr().err


def test_as_many_processes_draw_as_this_one_may_use(grid, monkeypatch):
    asked = []

    class Pool(post_eval.ProcessPoolExecutor):
        def __init__(self, n, *rest):
            asked.append(n)
            super().__init__(n, *rest)

    monkeypatch.setattr(post_eval, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert post_eval.main(["--base-dir", str(grid), "--ignore-tve", "--ignore-report", "--cfm-train-langs", "en"]) == 0
    assert asked == [1]


# ---- errors ----


def test_errors_are_the_wrong_predictions_most_confident_first(grid):
    run(grid, "--ignore-tve", "--ignore-report", "--cfm-models", "xlmr", "--cfm-train-langs", "en")
    with open(grid / "xlmr-en" / "errors" / "fi.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    with open(grid / "xlmr-en" / "predictions" / "fi.tsv", encoding="utf-8", newline="") as file:
        predictions = {row["row"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert {row["row"] for row in rows} == {n for n, row in predictions.items() if row["gold"] != row["predicted"]}
    probabilities = [float(row["probability"]) for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    for row in rows:
        assert float(row["probability"]) == pytest.approx(float(predictions[row["row"]][row["predicted"]]), abs=1e-4)


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
        lines, rows = compared(capsys)
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
        assert ("McNemar" in lines[0]) == (metric == "micro_f1")


def test_the_same_answers_are_said_and_have_an_interval(grid, capsys):
    run(grid, "--compare", "xlmr-en", "xlmr-en", "--tve-metrics", "micro_f1")
    lines, rows = compared(capsys)
    assert list(rows) == LANGS and "fi: the same answers to all texts" in lines
    for row in rows.values():
        assert row[4] == "0.0" and float(row[-1]) == 1 and row[5].startswith("−") and row[7].startswith("+")


def test_three_trainings_against_one_differ_as_their_scores_do_and_that_is_said(tmp_path, capsys):
    rng, gold = np.random.default_rng(2), np.repeat(np.arange(8), 25)
    for seed, accuracy in (("1", 0.75), ("2", 0.6), ("3", 0.6)):
        make_answers(tmp_path / seed / "m-fi", "fi", {"ru": (gold, answer(gold, accuracy, rng))})
    make_answers(tmp_path / "1" / "m-sv", "sv", {"ru": (gold, answer(gold, 0.68, rng))})
    base_dirs = [str(tmp_path / seed) for seed in "123"]
    assert post_eval.main(["--base-dir", *base_dirs, "--compare", "m-fi", "m-sv", "--tve-metrics", "micro_f1"]) == 0
    lines, rows = compared(capsys)
    first, second, difference = (float(x.replace("−", "-")) for x in rows["ru"][2:5])
    assert difference == pytest.approx(first - second, abs=0.11)
    assert "ru: 3 and 1 trainings: the interval is for other texts, not for other trainings" in lines
    assert "McNemar" not in lines[0] and "Welch" not in lines[0]


def test_compare_with_several_base_dirs_compares_trainings(tmp_path, capsys):
    for seed in (1, 2, 3):
        rng = np.random.default_rng(seed)
        for training in ("en", "fr"):
            make_run(tmp_path / f"s{seed}" / f"xlmr-{training}", "xlmr", training, ["fi"], 200, rng)
    base_dirs = [str(tmp_path / f"s{seed}") for seed in (1, 2, 3)]
    assert post_eval.main(["--base-dir", *base_dirs, "--compare", "xlmr-en", "xlmr-fr"]) == 0
    lines, _ = compared(capsys)
    assert "Welch" in lines[0] and not any("not for other trainings" in line for line in lines)


def test_compare_names_languages_with_too_few_texts(grid, caplog, capsys):
    for model in ("xlmr", "mbert"):
        make_evaluation(grid / f"{model}-en", model, "en", "ru", 8, np.random.default_rng(0))
    run(grid, "--compare", "xlmr-en", "mbert-en", "--tve-metrics", "macro_f1_10")
    assert "ru: too few texts to compare by macro_f1_10: left out" in caplog.text
    assert "ru" not in compared(capsys)[1]
