"""Names of registers, folders and models are what they are in tables and figures, whatever marks they hold."""

import csv
import io
import json
import re
import shutil
import xml.etree.ElementTree

import make_grid
import numpy as np
import pytest
from make_grid import make_run

import post_eval
from utils import cfm, corpus_load, runs, tve
from utils.scores import errors, labels, panels, results, tables

REGISTERS = ["$x$", "a_b", "50 %", "<b>", "R&D", "x\\y", "{z}", "#|`*"]


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """Two runs, with registers and folders that LaTeX, Markdown, mathtext and spreadsheets could misread."""
    monkeypatch.setattr(make_grid, "REGISTERS", REGISTERS)
    base_dir = tmp_path / "=cmd()"
    folder = base_dir / "-1_$a$ [x] & 50% \x1b[31m"
    for model in ("m_1", "m_2"):
        make_run(folder / f"{model}-en", model, "en", ["en", "fi"], 60, np.random.default_rng(1))
    return base_dir


def test_tables_and_figures_show_hostile_names_as_they_are(hostile, recwarn):
    assert post_eval.main(["--base-dir", str(hostile), "--jobs=1", "--format", "png", "svg", "pdf"]) == 0
    assert not [str(warning.message) for warning in recwarn]
    subfolder = r"-1_$a$ [x] & 50% \x1b[31m"
    for svg in hostile.rglob("*.svg"):
        xml.etree.ElementTree.parse(svg)
    with open(hostile / "tve.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for row in rows:
        assert row["base_dir"] == "'=cmd()" and row["subfolder"] == f"'{subfolder}"
    for path in hostile.glob("*.csv"):
        for cells in csv.reader(io.StringIO(path.read_text(encoding="utf-8"))):
            assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells), cells
    with open(hostile / "per_register.csv", encoding="utf-8", newline="") as file:
        assert {row["register"] for row in csv.DictReader(file)} == set(REGISTERS)

    markdown = (hostile / "tve.md").read_text(encoding="utf-8")
    assert "### -1\\_\\$a\\$ \\[x\\] \\& 50% \\\\x1b\\[31m/m\\_1" in markdown
    latex = (hostile / "tve.tex").read_text(encoding="utf-8")
    assert r"\caption{-1\_\$a\$ [x] \& 50\% \textbackslash{}x1b[31m/m\_1" in latex
    assert all(text.isprintable() for name in ("tve.md", "tve.tex", "tve.csv") for text in
               (hostile / name).read_text(encoding="utf-8").splitlines())  # fmt: skip


def test_a_dollar_is_no_formula_in_a_figure(hostile):
    found, damaged = results.find_runs([hostile])
    assert len(found) == 2 and not damaged
    matrices = panels.make_panels(results.all_scores(found, ["en"]), ["macro_f1"], 1)
    pages = [*cfm.draw_run(found[0], ["en"], "en", with_summary=True), *tve.draw_panels(matrices, 1, "en")]
    assert len(pages) == 2
    for figure in pages:
        texts = [
            text for ax in figure.axes for text in [*ax.texts, ax.title, *ax.get_xticklabels(), *ax.get_yticklabels()]
        ]
        texts += figure.texts
        assert texts and not any(text.get_parse_math() for text in texts)


@pytest.mark.parametrize(
    "register",
    [
        "=1+1",
        "+x",
        "-x",
        "@x",
        " x",
        "x ",
        "",
        "a\nb",
        "a\tb",
        "\x1b[31m",
        "a\0",
        "\u202ex",
        "\udcff",
        "$x$",
        '"',
        "x" * 300,
    ],
)
def test_registers_that_are_formulas_or_move_the_cursor_are_refused(write_corpus, register):
    corpus = write_corpus({}, {"IN": "information", register: "another"})
    with pytest.raises(corpus_load.CorpusError, match=r"reg_abbv.json: .* can't be an abbreviation") as error:
        corpus_load.load_registers(corpus)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("register", ["a_b", "50 %", "R&D", "é", "新闻", "أخبار", "a b", "x'", "N/A", "None", "0"])
def test_other_registers_are_taken_as_they_are(write_corpus, register):
    corpus = write_corpus({"test/en": [(register, "a text")]}, {"IN": "information", register: "another"})
    assert list(corpus_load.load_registers(corpus)) == ["IN", register]
    assert corpus_load.read_texts(corpus, "test", "en", ["IN", register])["register"][0] == register


def test_texts_that_are_formulas_are_no_formulas_in_the_list_of_errors(tmp_path, write_corpus):
    texts = ["=HYPERLINK(1)", "+1", "-1", "@a", "plain"]
    registers = make_grid.REGISTERS
    corpus = write_corpus({"test/fi": [(registers[0], texts[i % 5]) for i in range(60)]}, dict.fromkeys(registers, "x"))
    folder = tmp_path / "outputs" / "m-en"
    make_run(folder, "m", "en", ["fi"], 60, np.random.default_rng(1))
    record, scores = (json.loads((folder / name).read_text()) for name in ("run.json", "eval/fi.json"))
    record["corpus"]["path"] = str(corpus)
    scores["signature"]["test_sha256"] = runs.sha256_of(corpus / "corpus" / "test" / "fi.tsv")
    runs.write_json(folder / "run.json", record)
    runs.write_json(folder / "eval" / "fi.json", scores)
    (run,), _ = results.find_runs([tmp_path / "outputs"])
    errors.write_errors(run, "fi")
    with open(folder / "errors" / "fi.tsv", encoding="utf-8", newline="") as file:
        shown = {row["text"] for row in csv.DictReader(file, delimiter="\t")}
    assert shown <= {labels.no_formula(text) for text in texts} and len(shown) > 3
    assert not any(text.startswith(("=", "+", "-", "@")) for text in shown)


@pytest.mark.parametrize(
    "text", ['a_b & 50 % {x} # $y$ ~ ^ \\ < > | "q" × ± –', "\\input{/etc/passwd}", "%", "\\\\[2cm]"]
)
def test_every_mark_of_latex_and_markdown_is_escaped(text):
    latex = tables._tex(text)
    commands = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|textquotedbl)\{\}"
    rest = re.sub(commands + r"|\\[&%$#_{}]|\$\\(times|pm)\$", "", latex)
    assert not re.search(r"[\\&%$#_{}~^<>|\"]", rest), latex
    markdown = labels.markdown_text(text)
    assert re.sub(r"\\(.)", r"\1", markdown) == text
    assert not re.search(r"[`*_<>|$#~&\[\]]", re.sub(r"\\.", "", markdown)), markdown


@pytest.mark.parametrize("name", ["model_name", "train_langs", "eval_lang"])
def test_names_in_results_that_could_not_be_given_are_passed_over(tmp_path, name, caplog):
    for number, value in enumerate(["../x", "$x$", "=1", "a b", "\x1b[31m", "a\nb", "", "-x"]):
        folder = tmp_path / str(number) / "m-en"
        make_run(folder, "m", "en", ["fi"], 20, np.random.default_rng(1))
        path = folder / ("eval/fi.json" if name == "eval_lang" else "run.json")
        content = json.loads(path.read_text())
        content[name] = [value] if name == "train_langs" else value
        runs.write_json(path, content)
        _, damaged = results.find_runs([tmp_path / str(number)])
        assert damaged == 1, value
    shutil.copy(folder / "eval" / "fi.json", folder / "eval" / "$(touch x).json")
    assert results.find_runs([tmp_path / str(number)])[1] == (1 if name != "eval_lang" else 2)
    assert "--eval-lang '$(touch x)'" in caplog.text or name != "eval_lang"


def test_names_that_pandas_takes_for_missing_values_are_names(tmp_path, monkeypatch):
    monkeypatch.setattr(make_grid, "REGISTERS", ["NA", "nan", "None", "1.0", "null", "N/A", "NaN", "0"])
    for mix in ("NA", "nan"):
        make_run(tmp_path / "null" / "None" / f"nan-{mix}", "nan", mix, ["NA", "null"], 60, np.random.default_rng(1))
    found, _ = results.find_runs([tmp_path / "null"])
    scores = results.all_scores(found, ["NA", "null"])
    (panel,) = panels.make_panels(scores, ["macro_f1"], 1)
    assert (panel.subfolder, panel.model_name, panel.columns) == ("None", "nan", ["NA", "null"])
    assert [row.label for row in panel.rows] == ["NA", "nan"]
    rows = list(csv.DictReader(io.StringIO(tables.register_table(scores))))
    assert [row["register"] for row in rows] == make_grid.REGISTERS * 4
    rows = list(csv.DictReader(io.StringIO(tables.long_table(scores))))
    keys = [(row["base_dir"], row["subfolder"], row["train_langs"], row["eval_lang"]) for row in rows]
    assert keys == [("null", "None", mix, lang) for mix in ("NA", "nan") for lang in ("NA", "null")]
