"""Matrices and tables: what they show is what the files hold, whatever is filtered, missing or damaged."""

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from make_grid import REGISTERS, make_evaluation, make_run
from matplotlib.figure import Figure

import post_eval
from utils import cfm, metrics, runs, tve
from utils.scores import panels, results, tables

LANGS = ["en", "fi", "fr", "sv"]
FILES = ["per_register.csv", "report.html", "tve.csv", "tve.md", "tve.png", "tve.tex"]


@pytest.fixture
def grid(tmp_path):
    """Two models on en, en-fr and distr, evaluated on four languages with random predictions."""
    base_dir = tmp_path / "outputs"
    rng = np.random.default_rng(0)
    for model in ("xlmr", "mbert"):
        for mix in ("en", "en-fr", "distr"):
            make_run(base_dir / f"{model}-{mix}", model, mix, LANGS, 40, rng)
    return base_dir


def run(base_dir, *options, expect=0):
    assert post_eval.main(["--base-dir", str(base_dir), "--jobs=1", *options]) == expect


def load(folder, lang):
    return results.load_evaluation(folder, lang, json.loads((folder / "run.json").read_text()))


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def panels_of(base_dirs, metric="macro_f1", langs=LANGS):
    found, _ = results.find_runs(base_dirs)
    return panels.make_panels(results.all_scores(found, langs), [metric], len(base_dirs))


def test_by_default_everything_is_drawn(grid):
    run(grid)
    assert sorted(path.name for path in grid.iterdir() if path.is_file()) == FILES
    for folder in (path for path in grid.iterdir() if path.is_dir()):
        assert (folder / "cfm.png").stat().st_size > 10_000
        assert sorted(path.stem for path in (folder / "errors").iterdir()) == LANGS


@pytest.mark.parametrize(
    "options",
    [
        ["--tve-models", "xlmr", "--cfm-models", "xlmr"],
        ["--tve-metrics", "recall"],
        ["--tve-eval-langs", "fi", "--cfm-eval-langs", "fi"],
        ["--tve-models", "xlmr", "--tve-train-langs", "en-fr", "--tve-eval-langs", "sv", "--tve-metrics", "precision",
         "--cfm-models", "mbert", "--cfm-train-langs", "distr", "--cfm-eval-langs", "fr", "--cfm-ignore-summary"],
        ["--labels", "fr", "--format", "svg", "pdf"],
    ],
)  # fmt: skip
def test_one_of_anything_works(grid, options):
    run(grid, *options)


def test_filters_filter_and_the_layout_follows(grid):
    run(grid, "--tve-models", "xlmr", "--tve-train-langs", "en", "en-fr", "--tve-eval-langs", "fi", "sv",
        "--cfm-models", "mbert", "--cfm-train-langs", "en")  # fmt: skip
    rows = read_csv(grid / "tve.csv")
    assert {(r["model"], r["train_langs"], r["eval_lang"]) for r in rows} == {
        ("xlmr", mix, lang) for mix in ("en", "en-fr") for lang in ("fi", "sv")
    }
    assert [path.parent.name for path in grid.rglob("cfm.png")] == ["mbert-en"]
    found, _ = results.find_runs([grid])
    chosen = found[0]
    for langs, with_summary, n_axes in ((["fi"], False, 1), (LANGS, True, 5)):
        (figure,) = cfm.draw_run(chosen, langs, "en", with_summary)
        assert len(figure.axes) == n_axes


@pytest.mark.parametrize("kind", ["cfm", "tve"])
@pytest.mark.parametrize("option", ["models", "train-langs", "eval-langs"])
def test_a_name_that_no_run_has_is_wrong_use_and_lists_those_that_exist(grid, kind, option, capsys):
    with pytest.raises(SystemExit) as end:
        run(grid, f"--{kind}-{option}", "nobody", *(["--ignore-cfm"] if kind == "tve" else []))
    assert end.value.code == 2
    exists = {"models": "mbert, xlmr", "train-langs": "en, en-fr, distr", "eval-langs": "en, fi, fr, sv"}[option]
    assert f"expected one of {exists}; found 'nobody'" in capsys.readouterr().err


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
        assert len(list(grid.rglob("cfm.png"))) == len(list(grid.glob("*-*"))) == 6  # also for `| head -n1`
        assert all((grid / name).is_file() for name in FILES)
        process.communicate()
    assert process.returncode == 0


def test_the_same_input_gives_the_same_bytes(grid, tmp_path):
    run(grid, "--format", "png", "pdf", "svg")
    made = {path: path.read_bytes() for path in grid.rglob("*") if path.is_file()}
    assert len([path for path in made if path.name.startswith(("cfm.", "tve."))]) == 6 * 3 + 3 + 3
    for path in made:
        if path.name.startswith(("cfm.", "tve.")):
            path.unlink()
    run(grid, "--format", "png", "pdf", "svg")
    for path, content in made.items():
        assert path.read_bytes() == content, path.name


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


def test_a_missing_evaluation_stays_blank_and_is_named_with_its_command(grid, caplog):
    for path in (grid / "xlmr-en").rglob("sv.*"):
        path.unlink()
    run(grid, "--ignore-cfm")
    assert "python evaluate.py --model-name xlmr --train-langs en --eval-lang sv" in caplog.text
    assert len(read_csv(grid / "tve.csv")) == 6 * 4 - 1
    (panel,) = (panel for panel in panels_of([grid]) if panel.model_name == "xlmr")
    assert panel.zero_shot == ["fi"]  # sv is not there for every row, en and fr are trained on
    assert "sv" not in panel.rows[0].cells
    (other,) = (panel for panel in panels_of([grid]) if panel.model_name == "mbert")
    assert other.zero_shot == ["fi", "sv"]


def test_the_zero_shot_mean_is_over_the_same_languages_for_every_row_and_not_for_distr(grid):
    panel = panels_of([grid])[0]
    for row in panel.rows:
        mean = panel.means.get(row.label)
        if row.label == "distr":
            assert mean is None
        else:
            assert mean.score == pytest.approx((row.cells["fi"].score + row.cells["sv"].score) / 2)
            widths = [row.cells[lang].high - row.cells[lang].low for lang in ("fi", "sv")]
            assert mean.low < mean.score < mean.high and mean.high - mean.low < min(widths)
    assert panels.zero_shot_languages(panel.rows, ["en", "fr"]) == []


def test_damaged_files_are_named_the_rest_is_drawn_and_the_exit_code_is_1(grid, caplog):
    (grid / "xlmr-en" / "cfm" / "fi.json").write_text('{"counts": [[1')
    counts = json.loads((grid / "xlmr-en-fr" / "cfm" / "fi.json").read_text())
    counts["counts"][0][0] += 1
    (grid / "xlmr-en-fr" / "cfm" / "fi.json").write_text(json.dumps(counts))
    (grid / "mbert-en" / "run.json").write_text("{")
    run(grid, "--ignore-cfm", expect=1)
    assert "xlmr-en/cfm/fi.json" in caplog.text and "mbert-en/run.json" in caplog.text
    assert "scores that follow from the counts" in caplog.text
    assert len(read_csv(grid / "tve.csv")) == 5 * 4 - 2


def test_runs_in_subfolders_are_found_and_runs_not_evaluated_are_passed_over(grid, caplog):
    shutil.move(grid / "xlmr-en", grid / "seeds" / "one" / "xlmr-en")
    shutil.rmtree(grid / "mbert-en" / "eval")
    run(grid, "--ignore-cfm")
    assert "mbert-en: not evaluated yet" in caplog.text
    assert {row["subfolder"] for row in read_csv(grid / "tve.csv")} == {"", "seeds/one"}


def test_a_new_evaluation_is_drawn(grid):
    run(grid, "--cfm-models", "xlmr", "--ignore-tve")
    before = (grid / "xlmr-en" / "cfm.png").read_bytes()
    make_evaluation(grid / "xlmr-en", "xlmr", "en", "ru", 40, np.random.default_rng(5))
    run(grid, "--cfm-models", "xlmr", "--ignore-tve")
    assert (grid / "xlmr-en" / "cfm.png").read_bytes() != before


def test_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(post_eval.RunError, match="expected evaluated runs, found none"):
        run(tmp_path)


# ---- several seeds ----


def test_seeds_give_mean_and_standard_deviation_and_say_how_many(tmp_path):
    scores = []
    for seed in (1, 2, 3):
        make_run(tmp_path / f"s{seed}" / "xlmr-en", "xlmr", "en", ["fi", "sv"], 40, np.random.default_rng(seed))
        evaluation = load(tmp_path / f"s{seed}" / "xlmr-en", "fi")
        scores.append(evaluation.scores["macro_f1"])
    for path in (tmp_path / "s3" / "xlmr-en").rglob("sv.*"):
        path.unlink()
    base_dirs = [tmp_path / f"s{seed}" for seed in (1, 2, 3)]
    (panel,) = panels_of(base_dirs, langs=["fi", "sv"])
    cell = panel.rows[0].cells["fi"]
    assert cell.score == pytest.approx(np.mean(scores)) and cell.sd == pytest.approx(np.std(scores, ddof=1))
    assert cell.low < cell.score < cell.high
    assert panels.cell_text(cell, "en", 3)[1] == "3 seeds" and "–" in panels.cell_text(cell, "en", 3)[2]
    assert panels.cell_text(cell, "en", 3)[1] in tables.markdown_table([panel], "en")
    assert panels.cell_text(panel.rows[0].cells["sv"], "en", 3)[1] == "2 of 3 seeds"
    assert post_eval.main(["--base-dir", *map(str, base_dirs), "--jobs=1"]) == 0
    assert (tmp_path / "tve.png").is_file() and len(read_csv(tmp_path / "tve.csv")) == 5


# ---- digits and marks ----


def test_tables_and_figures_show_the_same_digits(grid):
    run(grid, "--ignore-cfm", "--tve-metrics", "macro_f1")
    markdown = (grid / "tve.md").read_text()
    for row in read_csv(grid / "tve.csv"):
        score, low, high = (100 * float(row[f"macro_f1{end}"]) for end in ("", "_low", "_high"))
        assert f"{score:.1f} ({low:.1f}–{high:.1f})" in markdown
        confusion = load(grid / f"{row['model']}-{row['train_langs']}", row["eval_lang"]).confusion
        assert float(row["macro_f1"]) == metrics.macro_f1(confusion)
        assert row["zero_shot"] == str(
            int(row["train_langs"] != "distr" and row["eval_lang"] not in row["train_langs"])
        )
    (figure,) = tve.draw_panels(panels_of([grid]), 1, "en")
    shown = {text.get_text() for ax in figure.axes for text in ax.texts}
    for cell in (cell for panel in panels_of([grid]) for row in panel.rows for cell in row.cells.values()):
        assert set(panels.cell_text(cell, "en", 1)) <= shown


def test_the_baseline_always_answers_the_largest_gold_register():
    confusion = np.array([[1, 1, 0], [2, 3, 0], [0, 0, 0]])
    assert results.majority_baseline(confusion).tolist() == [[0, 2, 0], [0, 5, 0], [0, 0, 0]]
    assert metrics.micro_f1(results.majority_baseline(confusion)) == 5 / 7


def test_languages_trained_on_are_outlined(grid):
    (panel,) = (panel for panel in panels_of([grid]) if panel.model_name == "xlmr")
    (figure,) = tve.draw_panels([panel], 1, "en")
    (ax,) = figure.axes
    outlined = [patch.get_xy() for patch in ax.patches if not patch.get_fill()]
    places = {(panel.columns[int(x)], panel.rows[int(y)].label) for x, y in outlined}
    assert places == {("en", "en"), ("en", "en-fr"), ("fr", "en-fr")}


def test_a_register_without_gold_texts_is_a_blank_row(grid):
    found, _ = results.find_runs([grid])
    confusion = np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]])
    evaluation = results.Evaluation("fi", ["IN", "OP", "RN"], confusion, metrics.all_metrics(confusion), {})
    chosen = found[0]._replace(evaluations={"fi": evaluation})
    (figure,) = cfm.draw_run(chosen, ["fi"], "en", with_summary=False)
    (ax,) = figure.axes
    texts = {(int(text.get_position()[0]), int(text.get_position()[1])): text.get_text() for text in ax.texts[:4]}
    assert texts == {(0, 0): "75\n(3)", (1, 0): "25\n(1)", (1, 2): "50\n(2)", (2, 2): "50\n(2)"}
    assert ax.collections[0].get_array().mask.tolist() == [[False] * 3, [True] * 3, [False] * 3]


def test_latex_marks_the_best_and_what_cannot_be_told_from_it(grid):
    run(grid, "--ignore-cfm", "--tve-metrics", "macro_f1", "micro_f1")
    latex = (grid / "tve.tex").read_text()
    for table in latex.split(r"\begin{table}")[1:]:
        assert table.count(r"\textbf{") == len(LANGS)
        assert r"\underline{" in table
        assert table.count(r"\toprule") == table.count(r"\bottomrule") == 1
    assert "%" not in latex.replace("% needs", "").replace(r"\%", "")
    assert tables._tex("a_b & 50 % {x} ~ ×") == r"a\_b \& 50 \% \{x\} \textasciitilde{} $\times$"


def test_errors_are_the_wrong_predictions_most_confident_first(grid):
    run(grid, "--ignore-tve", "--cfm-models", "xlmr", "--cfm-train-langs", "en")
    with open(grid / "xlmr-en" / "errors" / "fi.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    predictions = {row["row"]: row for row in results.load_predictions(grid / "xlmr-en", "fi")}
    wrong = {row for row, found in predictions.items() if found["gold"] != found["predicted"]}
    assert {row["row"] for row in rows} == wrong
    probabilities = [float(row["probability"]) for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    for row in rows:
        assert float(row["probability"]) == pytest.approx(float(predictions[row["row"]][row["predicted"]]), abs=1e-4)


def test_errors_show_the_texts_of_the_very_test_file_only(grid, write_corpus):
    corpus = write_corpus({"test/fi": [("IN", f"text number {i}") for i in range(1, 41)]}, dict.fromkeys(REGISTERS, ""))
    for sha256, shown in ((runs.sha256_of(corpus / "corpus" / "test" / "fi.tsv"), True), ("another file", False)):
        folder = grid / "xlmr-en"
        record, scores = (json.loads((folder / name).read_text()) for name in ("run.json", "eval/fi.json"))
        record["corpus"]["path"] = str(corpus)
        scores["signature"]["test_sha256"] = sha256
        runs.write_json(folder / "run.json", record)
        runs.write_json(folder / "eval" / "fi.json", scores)
        run(grid, "--ignore-tve", "--cfm-models", "xlmr", "--cfm-train-langs", "en", "--cfm-eval-langs", "fi")
        with open(folder / "errors" / "fi.tsv", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                assert row["text"] == (f"text number {row['row']}" if shown else "")


def test_compare_tells_two_runs_apart_per_language(grid, capsys):
    run(grid, "--compare", "xlmr-en", "xlmr-en", "--tve-metrics", "micro_f1")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [line[0] for line in lines] == LANGS
    assert all(float(line[4]) == 0 and float(line[-1]) == 1 for line in lines)
    run(grid, "--compare", "xlmr-en", "mbert-en", "--tve-metrics", "macro_f1")
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_compare_with_several_base_dirs_compares_trainings(tmp_path, capsys):
    for seed in (1, 2, 3):
        rng = np.random.default_rng(seed)
        for mix in ("en", "fr"):
            make_run(tmp_path / f"s{seed}" / f"xlmr-{mix}", "xlmr", mix, ["fi"], 200, rng)
    base_dirs = [str(tmp_path / f"s{seed}") for seed in (1, 2, 3)]
    options = ["--compare", "xlmr-en", "xlmr-fr", "--tve-metrics", "micro_f1"]
    assert post_eval.main(["--base-dir", *base_dirs, *options]) == 0
    title, _, line = capsys.readouterr().out.splitlines()
    assert "trainings compared" in title
    scores = [
        [100 * load(tmp_path / f"s{seed}" / f"xlmr-{mix}", "fi").scores["micro_f1"] for seed in (1, 2, 3)]
        for mix in ("en", "fr")
    ]
    assert [float(x) for x in line.split()[2:5]] == pytest.approx(
        [np.mean(scores[0]), np.mean(scores[1]), np.mean(scores[0]) - np.mean(scores[1])], abs=0.06
    )


def test_compare_names_languages_with_too_few_texts(grid, capsys, caplog):
    make_evaluation(grid / "xlmr-en", "xlmr", "en", "ru", 8, np.random.default_rng(0))
    make_evaluation(grid / "mbert-en", "mbert", "en", "ru", 8, np.random.default_rng(1))
    run(grid, "--compare", "xlmr-en", "mbert-en", "--tve-metrics", "macro_f1_10")
    assert "ru: too few texts for macro_f1_10: left out" in caplog.text
    assert not any(line.startswith("ru") for line in capsys.readouterr().out.splitlines())


# ---- what can't be compared, and what can't be measured ----


def change(folder, lang, **signature):
    path = folder / "eval" / f"{lang}.json"
    scores = json.loads(path.read_text())
    scores["signature"].update(signature)
    runs.write_json(path, scores)


@pytest.mark.parametrize(
    "difference",
    [{"max_length": 20}, {"precision_used": "bf16"}, {"torch": "1.0"}, {"transformers": "1"}, {"test_sha256": "other"}],
)
def test_what_cannot_be_compared_is_named_marked_and_left_out(grid, caplog, difference):
    for path in grid.glob("*-*/eval/*.json"):
        change(path.parent.parent, path.stem, max_length=512, precision_used="fp32", torch="2", transformers="5")
    change(grid / "xlmr-en", "fi", **difference)
    run(grid, "--ignore-cfm")
    (key,) = difference
    assert f"xlmr-en on fi: not comparable, left out of means and bests: {key} {difference[key]}" in caplog.text
    panel = next(panel for panel in panels_of([grid]) if panel.model_name == "xlmr")
    assert panel.rows[0].cells["fi"].odd and not panel.rows[1].cells["fi"].odd
    assert panel.zero_shot == ["sv"] and "†" in panels.cell_text(panel.rows[0].cells["fi"], "en", 1)[0]
    row = next(
        r for r in read_csv(grid / "tve.csv") if (r["model"], r["train_langs"], r["eval_lang"]) == ("xlmr", "en", "fi")
    )
    assert row["not_comparable"].startswith(key)
    assert (0, panel.columns.index("fi")) not in tables.best_marks(panel)
    for name in ("tve.md", "tve.tex"):
        assert "†" in (grid / name).read_text()


def test_a_row_that_was_evaluated_otherwise_throughout_takes_no_mean_from_the_others(grid):
    for lang in LANGS:
        change(grid / "xlmr-en", lang, max_length=20)
    panel = next(panel for panel in panels_of([grid]) if panel.model_name == "xlmr")
    assert panel.zero_shot == ["fi", "sv"] and list(panel.means) == ["en-fr"]


def test_results_of_an_earlier_version_get_the_new_score_from_their_counts(grid):
    for path in grid.glob("*-*/eval/*.json"):
        scores = json.loads(path.read_text())
        del scores["metrics"]["macro_f1_10"]
        runs.write_json(path, scores)
    run(grid, "--ignore-cfm")
    for row in read_csv(grid / "tve.csv"):
        confusion = load(grid / f"{row['model']}-{row['train_langs']}", row["eval_lang"]).confusion
        expected = metrics.macro_f1_10(confusion)
        assert row["macro_f1_10"] == ("" if expected is None else str(expected))


def test_too_few_texts_are_shown_as_such(tmp_path, capsys):
    make_run(tmp_path / "xlmr-en", "xlmr", "en", ["fi", "sv"], 12, np.random.default_rng(0))
    assert metrics.macro_f1_10(load(tmp_path / "xlmr-en", "fi").confusion) is None
    run(tmp_path, "--labels", "fr")
    assert "trop peu de textes" in (tmp_path / "tve.md").read_text()
    assert all(row["macro_f1_10"] == row["macro_f1_10_low"] == "" for row in read_csv(tmp_path / "tve.csv"))
    assert "nan" not in (tmp_path / "tve.csv").read_text() + capsys.readouterr().out
    (panel,) = panels_of([tmp_path], "macro_f1_10", ["fi", "sv"])
    assert panel.zero_shot == []


def test_registers_left_out_are_named(tmp_path):
    make_run(tmp_path / "xlmr-en", "xlmr", "en", ["fi"], 60, np.random.default_rng(0))
    run(tmp_path, "--ignore-cfm", "--tve-metrics", "macro_f1_10", "macro_f1")
    evaluation = load(tmp_path / "xlmr-en", "fi")
    few = [
        f"{r} ({n})" for r, n in zip(evaluation.registers, evaluation.confusion.sum(axis=1), strict=True) if 0 < n < 10
    ]
    assert few
    markdown = (tmp_path / "tve.md").read_text().replace("\\", "")
    assert (
        f"not measured, with fewer than 10 texts or as the only register with so many: fi {' '.join(few)}" in markdown
    )
    assert f"the interval rests on an assumption about them: fi {' '.join(few)}" in markdown


def test_every_word_is_there_in_both_languages(grid):
    assert len(REGISTERS) == 8
    for lang, word in (("en", "predicted register"), ("fr", "registre prédit")):
        found, _ = results.find_runs([grid])
        (figure,) = cfm.draw_run(found[0], ["fi"], lang, with_summary=False)
        assert word in {text.get_text() for text in figure.axes[0].texts}
