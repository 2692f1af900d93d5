"""report.html: what it shows is what the files hold; it is escaped, complete by itself, and no larger than it says."""

import base64
import hashlib
import html
import json
import re
import string
from pathlib import Path

import numpy as np
import pytest
from conftest import REGISTERS
from make_grid import make_run

import post_eval
from utils import metrics, runs
from utils.report import cautions, comparisons
from utils.report.page import run_keys
from utils.report.registers import register_view
from utils.report.texts import _most_each
from utils.report.words import WORDS
from utils.scores import panels, results, tables

LANGS = ["en", "fi", "fr", "sv"]
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """One model on en, fi and both, evaluated on four languages with random predictions."""
    base_dir = tmp_path_factory.mktemp("grid") / "outputs"
    rng = np.random.default_rng(0)
    for mix in ("en", "fi", "en-fi"):
        make_run(base_dir / f"xlmr-{mix}", "xlmr", mix, LANGS, 200, rng)
    return base_dir


def page_of(base_dir, *options):
    assert post_eval.main(["--base-dir", str(base_dir), "--ignore-cfm", "--ignore-tve", *options]) == 0
    return (base_dir / "report.html").read_text(encoding="utf-8")


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def found_in(base_dir):
    return results.find_runs([base_dir])[0]


def test_the_policy_allows_the_style_and_the_script_in_the_page_and_nothing_else(grid):
    page = page_of(grid)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1])
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    for kind in ("style", "script"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert allowed.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert set(allowed.values()) == {"'none'"} and "default-src" in allowed
    markup = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"""\s(style|on\w+|src|srcset)\s*=|<(link|iframe|img|object|base|form)\b|https?:""", markup)


def test_the_same_input_gives_the_same_bytes_and_another_language_other_words(grid):
    first = page_of(grid)
    assert page_of(grid) == first
    french = page_of(grid, "--labels", "fr")
    assert 'lang="fr"' in french and WORDS["title"][1] in html.unescape(french)
    decimals = re.findall(r"<td class=\"b\d+[^>]*>(?:<a [^>]*>)?<b>([^<]+)</b>", french)
    assert decimals and all(re.fullmatch(r"\d+,\d", score) for score in decimals)


def test_it_can_be_left_out(grid, tmp_path):
    (grid / "report.html").unlink(missing_ok=True)
    assert post_eval.main(["--base-dir", str(grid), "--ignore-cfm", "--ignore-tve", "--ignore-report"]) == 0
    assert not (grid / "report.html").exists()


def test_every_cell_is_in_it_digit_for_digit_and_leads_to_its_evaluation(grid):
    page, found = page_of(grid), found_in(grid)
    data = data_of(page)
    for panel in panels.make_panels(results.all_scores(found, LANGS), ["macro_f1_10", "micro_f1"], 1):
        section = page.split(f'data-metric="{panel.metric}">')[1].split("</section>")[0]
        for row in panel.rows:
            line = re.search(rf'<th scope="row"[^>]*>{row.label}<.*?</tr>', section, re.DOTALL)[0]
            for column in panel.columns:
                shown = re.search(rf'href="#{row.runs[0].folder.name}/{column}">(.*?)</a>', line, re.DOTALL)[1]
                lines = panels.cell_text(row.cells[column], "en", 1)
                assert re.sub("<[^>]+>", "", shown).split() == " ".join(lines).split()
    keys = {f"#{run['key']}/{lang}" for run in data["runs"] for lang in run["evaluations"]}
    assert set(re.findall(r'href="(#[^"]*/[^"]*)"', page)) == keys


def test_the_data_of_an_evaluation_are_those_of_its_files(grid):
    data, found = data_of(page_of(grid)), found_in(grid)
    for run, shown in zip(found, data["runs"], strict=True):
        for lang, evaluation in run.evaluations.items():
            registers, counts, scores, _, of_registers, keys, values, _, _, flat = shown["evaluations"][lang]
            assert data["sets"][registers] == evaluation.registers
            assert counts == evaluation.confusion.ravel().tolist()
            expected = metrics.register_scores(evaluation.confusion)
            assert of_registers[2] == [round(1000 * f1) if f1 == f1 else None for f1 in expected["f1"].tolist()]
            assert scores[1] == round(1000 * evaluation.scores["micro_f1"])
            told = dict(zip(data["keys"][keys], (data["strings"][value] for value in values), strict=True))
            assert told["test_sha256"] == evaluation.signature["test_sha256"]
            rows = {row["row"]: row for row in results.load_predictions(run.folder, lang)}
            names = evaluation.registers
            listed = [flat[k : k + 3] for k in range(0, len(flat), 3)]
            assert len(listed) == evaluation.n - np.trace(evaluation.confusion)
            assert [entry[2] for entry in listed] == sorted((entry[2] for entry in listed), reverse=True)
            for row, pair, probability in listed:
                told = rows[str(row)]
                assert [told["gold"], told["predicted"]] == [names[pair // len(names)], names[pair % len(names)]]
                assert probability == round(10000 * float(told[told["predicted"]]))


def test_comparisons_are_those_of_compare_runs_and_hold_the_best_and_the_parts(grid):
    data, found = data_of(page_of(grid)), found_in(grid)
    (shown,) = data["grids"]
    for metric in ("macro_f1_10", "micro_f1"):
        for lang in LANGS:
            assert len(shown["compared"][metric][lang]) == 3  # all pairs of three rows
            for i, j, difference, low, high, p in shown["compared"][metric][lang]:
                n = 1000 if p <= 1000 else 100
                compared = results.compare_runs([found[i]], [found[j]], lang, metric, n_exchanges=n)
                assert [difference, low, high] == [round(1000 * compared[k]) for k in ("difference", "low", "high")]
                assert p == round(10000 * compared["p"])


def test_a_large_grid_is_compared_with_the_best_alone_and_says_so(grid, monkeypatch):
    monkeypatch.setattr(comparisons, "MOST_COMPARISONS", -24)
    (shown,) = data_of(page_of(grid))["grids"]
    assert not shown["parts"]
    for metric, columns in shown["compared"].items():
        for lang, pairs in columns.items():
            assert [i for i, *_ in pairs] == [shown["best"][metric][lang]] * 2


def test_a_mix_is_compared_with_its_parts_in_a_matrix_of_many_rows(tmp_path):
    rng = np.random.default_rng(3)
    for mix in ("en", "fi", "fr", "sv", "de", "ru", "en-fi"):
        make_run(tmp_path / f"xlmr-{mix}", "xlmr", mix, ["en"], 60, rng)
    found = found_in(tmp_path)
    (panel,) = panels.make_panels(results.all_scores(found, ["en"]), ["micro_f1"], 1)
    labels = [row.label for row in panel.rows]
    best = tables.best_row(panel, "en")
    pairs = {frozenset(pair) for pair in comparisons._pairs(panel, "en", with_parts=True)}
    parts = {frozenset((labels.index("en-fi"), labels.index(part))) for part in ("en", "fi")}
    assert pairs == {frozenset((best, i)) for i in range(7) if i != best} | parts


# ---- texts of the corpus ----


@pytest.fixture
def with_corpus(tmp_path, write_corpus):
    """Return the folder of one run on a corpus of 20 texts, all of gold IN and predicted as OP or LY."""
    texts = [("IN", f"text number {row} {HOSTILE if row == 3 else ''} end") for row in range(1, 21)]
    corpus = write_corpus({"test/en": texts})
    folder = tmp_path / "outputs" / "tiny-fr"
    registers = list(REGISTERS)
    answers = ["OP" if row <= 12 else "LY" for row in range(1, 21)]
    lines = ["\t".join(["row", "gold", "predicted", *registers])]
    for row, answer in enumerate(answers, start=1):
        sure = 0.5 + row / 100
        lines.append("\t".join([str(row), "IN", answer, *(f"{sure if r == answer else 0.1:.6f}" for r in registers)]))
    run = runs.Run(folder.name, folder, folder)
    runs.write_text(run.predictions("en"), "\n".join(lines) + "\n")
    counts = [[0, 12, 8], [0, 0, 0], [0, 0, 0]]
    runs.write_json(run.confusions("en"), {"eval_lang": "en", "registers": registers, "counts": counts})
    sha256 = runs.sha256_of(corpus / "corpus" / "test" / "en.tsv")
    scores = {
        "eval_lang": "en",
        "n": 20,
        "metrics": metrics.all_metrics(np.array(counts)),
        "sha256": {"predictions": runs.sha256_of(run.predictions("en")), "cfm": runs.sha256_of(run.confusions("en"))},
        "several_registers": ["test/en.tsv:3 IN, test/en.tsv:9 OP"],
        "over_max_length": 0.75,
        "signature": {"weights_sha256": "made", "test_sha256": sha256, "max_length": 64},
    }
    runs.write_json(run.scores("en"), scores)
    record = {
        "model_name": "tiny",
        "train_langs": ["fr"],
        "subfolder": "",
        "weights_sha256": "made",
        "corpus": {"path": str(corpus), "train": {"fr": {"IN": 5}}, "files": {"test/en.tsv": "another"}},
        "beats_largest_register": False,
    }
    runs.write_json(folder / "run.json", record)
    runs.write_json(folder / "train.json", [{"learning_rate": 1e-4}, {"learning_rate": 5e-5}])
    return folder


def test_by_default_no_text_of_the_corpus_is_in_it(with_corpus):
    page = page_of(with_corpus.parent)
    assert "text number" not in page
    assert data_of(page)["texts"] == [{}]
    assert "No text of the corpus is in this page" in page


def test_of_each_pair_so_many_texts_are_in_it_as_asked_for(with_corpus):
    page = page_of(with_corpus.parent, "--report-texts", "2")
    (texts,) = data_of(page)["texts"]
    assert {row: text.strip() for row, text in texts.items()} == {
        str(row): f"text number {row} end" for row in (11, 12, 19, 20)
    }
    assert "beginnings of 4 texts" in page


def test_a_hostile_text_is_data_and_nothing_more(with_corpus):
    page = page_of(with_corpus.parent, "--report-texts", "100")
    (texts,) = data_of(page)["texts"]
    assert len(texts) == 20 and HOSTILE in texts["3"]
    assert page.count("<script") == page.count("</script") == 2 and "<img" not in page


def test_a_corpus_that_is_gone_or_changed_is_told(with_corpus):
    record = json.loads((with_corpus / "run.json").read_text())
    with open(f"{record['corpus']['path']}/corpus/test/en.tsv", "a", encoding="utf-8") as file:
        file.write("IN\tone more\n")
    page = page_of(with_corpus.parent, "--report-texts", "2")
    assert data_of(page)["texts"] == [{}] and "the corpus is not at hand" in page


def test_what_does_not_fit_is_left_out_evenly_and_told(with_corpus, monkeypatch):
    monkeypatch.setattr("utils.report.texts.MOST_BYTES", 700 + 20 * 12 + 150)
    page = page_of(with_corpus.parent, "--report-texts", "9")
    shown = int(re.search(r"beginnings of (\d+) texts", page)[1])
    assert 0 < shown == len(data_of(page)["texts"][0]) < 20 and "Fewer than the 9 asked for" in page
    monkeypatch.setattr("utils.report.texts.MOST_ERRORS", 7)
    page = page_of(with_corpus.parent)
    assert len(data_of(page)["runs"][0]["evaluations"]["en"][9]) == 3 * 7
    assert "the 7 most confident errors are listed" in page
    assert "F1 of IN" in page
    monkeypatch.setattr("utils.report.page.MOST_F1", 2)
    page = page_of(with_corpus.parent)
    assert "F1 of IN" not in page and "per_register.csv" in page


@pytest.mark.parametrize(
    ("sizes", "total", "expected"), [([], 5, 1), ([3, 3], 6, 3), ([1, 9, 9], 9, 4), ([9, 9, 9], 2, 1)]
)
def test_so_many_of_each_that_all_are_not_too_many(sizes, total, expected):
    assert _most_each(sizes, total) == expected


def test_predictions_that_are_gone_are_told(with_corpus):
    (with_corpus / "predictions" / "en.tsv").unlink()
    assert data_of(page_of(with_corpus.parent))["runs"][0]["evaluations"]["en"][9] is None


# ---- warnings, registers, names ----


def test_it_warns_of_what_the_files_tell(with_corpus):
    data = data_of(page_of(with_corpus.parent))
    (run,) = data["runs"]
    kinds = [data["strings"][kind] for kind, _ in run["evaluations"]["en"][7]]
    assert kinds == ["changed", "few texts", "several", "long"]
    assert any("cut after 2 epochs" in sentence for sentence in run["warnings"])
    assert any("largest register" in sentence for sentence in run["warnings"])


def test_a_whole_training_on_the_same_file_with_many_texts_gives_no_warning(grid):
    run = found_in(grid)[0]
    words = {key: pair[0] for key, pair in WORDS.items()}
    counts = np.full((8, 8), 10)
    evaluation = run.evaluations["en"]._replace(confusion=counts)
    assert cautions._of_run(run, words) == []
    assert cautions._of_evaluation(run, evaluation, None, words) == []


def view_of(tmp_path, counts_of):
    """The view of the registers of one run on fr, with these confusion counts per language."""
    rng = np.random.default_rng(0)
    make_run(tmp_path / "xlmr-fr", "xlmr", "fr", list(counts_of), 20, rng)
    (run,) = found_in(tmp_path)
    for lang, counts in counts_of.items():
        found = run.evaluations[lang]
        confusion = np.array(counts)
        run.evaluations[lang] = found._replace(
            registers=["IN", "OP", "JN"], confusion=confusion, scores=metrics.all_metrics(confusion)
        )
    (panel,) = panels.make_panels(results.all_scores([run], list(counts_of)), ["micro_f1"], 1)
    words = {key: pair[0] for key, pair in WORDS.items()}
    return register_view(panel, "en", words, run_keys([run]), {}, True)


def test_pairs_confused_everywhere_and_in_one_language(tmp_path):
    view = view_of(
        tmp_path,
        {
            "en": [[80, 20, 0], [0, 100, 0], [0, 3, 7]],  # IN as OP; JN as OP
            "fi": [[90, 10, 0], [1, 99, 0], [0, 0, 30]],  # IN as OP
            "fr": [[50, 50, 0], [9, 91, 0], [0, 2, 7]],  # IN as OP; JN has too few texts, OP as IN is below a tenth
        },
    )
    shown = {
        group["title"]: [(p["gold"], p["predicted"], p["count"], p["where"]) for p in group["pairs"]]
        for group in view["pairs"]
    }
    assert shown == {
        "in every language": [("IN", "OP", "3 of 3", "fr 50, en 20, fi 10")],
        "in one language only": [("JN", "OP", "1 of 2", "en 30")],
    }


def test_registers_that_suffer_from_zero_shot(tmp_path):
    view = view_of(
        tmp_path,
        {
            "fr": [[100, 0, 0], [0, 100, 0], [0, 0, 9]],
            "en": [[50, 50, 0], [0, 100, 0], [0, 0, 10]],  # F1 of IN 100 / 150, of OP 200 / 250
            "fi": [[100, 0, 0], [0, 100, 0], [0, 0, 10]],
        },
    )
    rows = {row["register"]: row for row in view["suffers"]}
    assert list(rows) == ["IN", "OP"]  # JN has nine texts in the language of the training
    assert [rows["IN"][key] for key in ("trained", "every", "loss", "lower", "same")] == [
        "100.0", "83.3", "−16.7", "1 of 2", "",
    ]  # fmt: skip
    assert rows["OP"]["every"] == "90.0"


def test_the_same_language_with_and_without_training_on_it(grid):
    found = found_in(grid)
    (panel,) = panels.make_panels(results.all_scores(found, LANGS), ["micro_f1"], 1)
    words = {key: pair[0] for key, pair in WORDS.items()}
    for row in register_view(panel, "en", words, run_keys(found), {}, True)["suffers"]:
        index = found[0].evaluations["en"].registers.index(row["register"])
        f1 = {
            (run.mix, lang): metrics.register_scores(run.evaluations[lang].confusion)["f1"][index]
            for run in found
            for lang in ("en", "fi")
            if run.evaluations[lang].confusion[index].sum() >= 10
        }
        zero = [f1[key] for key in (("fi", "en"), ("en", "fi")) if key in f1]
        if zero:
            assert row["same"] == f"{100 * np.mean(zero):.1f}"


def test_hostile_names_are_text(tmp_path):
    name = "<img src=x onerror=alert(1)> & 'é' ?#%"
    make_run(tmp_path / name / "xlmr-en", "xlmr", "en", ["en"], 30, np.random.default_rng(0))
    page = page_of(tmp_path)
    assert "<img" not in page
    assert (
        f'<option value="={html.escape(name, quote=False)}'.replace("'", "&#39;") not in page
    )  # one folder: no choice
    key = data_of(page)["runs"][0]["key"]
    assert re.fullmatch(r"[\w%./~-]+", key) and f'href="#{key}/en"' in page


def test_seeds_are_the_trainings_of_one_row(tmp_path):
    for seed in range(3):
        folder = tmp_path / f"seed{seed}" / "xlmr-en"
        make_run(folder, "xlmr", "en", ["en", "fi"], 60, np.random.default_rng(seed))
    base_dirs = [str(tmp_path / f"seed{seed}") for seed in range(3)]
    assert post_eval.main(["--base-dir", *base_dirs, "--ignore-cfm", "--ignore-tve"]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    data = data_of(page)
    assert [run["key"] for run in data["runs"]] == [f"seed{seed}/xlmr-en" for seed in range(3)]
    assert data["grids"][0]["rows"] == [{"label": "en", "runs": [0, 1, 2]}]
    assert "3 seeds" in page and 'href="#seed0/xlmr-en/fi"' in page


def test_both_languages_say_the_same_things():
    for key, (english, french) in WORDS.items():
        fields = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (english, french)]
        assert english and french and fields[0] == fields[1], key
        assert not re.search(r"[^\s|-] [:;?!»%]|'", french.replace("’", "")), key


def test_every_word_is_said_and_every_word_said_is_known():
    place = Path(post_eval.__file__).parent / "utils" / "report"
    files = [path for path in place.iterdir() if path.suffix in {".py", ".js", ".jinja"} and path.name != "words.py"]
    code = "".join(path.read_text() for path in sorted(files))
    said = set(re.findall(r'\b(?:words|w)\["([^"]+)"', code)) | set(re.findall(r'\bsay\("([^"]+)"', code))
    said |= set(re.findall(r"\b(?:words|w)\.([a-z]+)\b(?!\()", code))
    assert said <= set(WORDS)
    assert [key for key in WORDS if key not in said and f'"{key}"' not in code and not key.startswith("kind ")] == []
