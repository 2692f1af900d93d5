"""report.html: what it prints is what the files hold; it is escaped, complete by itself, and no larger than it says."""

import base64
import hashlib
import html
import json
import os
import re
import shlex
import string
from pathlib import Path

import numpy as np
import pytest
from conftest import REGISTERS
from make_grid import make_run, write_evaluation, write_record
from test_results import change

import evaluate
import post_eval
from utils import labels, metrics, report, results, runs, suspects, tables

LANGS = ["en", "fi", "fr", "sv"]
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
DRAWN = ["macro_f1_10", "micro_f1"]
R = ["IN", "OP", "LY"]


def write_page(path, *base_dirs, lang="en", n_texts=0):
    """Write the page on all runs of the base dirs; return it, the frame and the matrices."""
    frame, _ = results.read_results(list(base_dirs))
    matrices = tables.make_matrices(frame, DRAWN, len(base_dirs), lang)
    names, rows = results.language_names(frame), results.evaluations(frame)
    report.write_report(path, frame, matrices, names, lang, n_texts, suspects.find(rows), {})
    return path.read_text(encoding="utf-8"), frame, matrices


def article_of(page, anchor):
    return re.search(rf"<article id={re.escape(anchor)} .*?</article>", page, re.DOTALL)[0]


def text_of(markup):
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", markup)).split())


def write_run(folder, train_langs, answers, signature=None, facts=None, **record):
    """Write a run whose answers are given: answers: language -> gold and predicted registers, of R."""
    settings, train = {"seed": 1, "max_length": 64}, {lang: {"IN": 5} for lang in train_langs}
    write_record(folder, "tiny", "-".join(train_langs), train, settings=settings, **record)
    for lang, (gold, predicted) in answers.items():
        gold, predicted = (np.array([R.index(name) for name in names]) for names in (gold, predicted))
        probabilities = np.full((len(gold), len(R)), 0.1)
        probabilities[np.arange(len(gold)), predicted] = 0.5 + np.arange(len(gold)) / 1000
        write_evaluation(folder, lang, gold, probabilities, R, **{"max_length": 64} | (signature or {}))
        change(folder / "eval" / f"{lang}.json", **facts or {})


def answers(*correct, n=40):
    """n texts of each register, of which so many of each are predicted right, and the rest as the next register."""
    gold = [r for r in R for _ in range(n)]
    return gold, [R[(k + (i >= right)) % 3] for k, right in enumerate(correct) for i in range(n)]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """One model on en, fi and both, evaluated on four languages with random predictions: page, frame, matrices."""
    base_dir = tmp_path_factory.mktemp("grid") / "outputs"
    rng = np.random.default_rng(0)
    for mix in ("en", "fi", "en-fi"):
        make_run(base_dir / f"xlmr-{mix}", "xlmr", mix, LANGS, 200, rng)
    return write_page(base_dir / "report.html", base_dir)


def test_the_policy_allows_the_style_and_the_script_in_the_page_and_nothing_else(grid):
    page = grid[0]
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1])
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    for kind in ("style", "script"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert allowed.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert set(allowed.values()) == {"'none'"} and "default-src" in allowed
    markup = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"""\s(style|on\w+|src|srcset)\s*=|<(link|iframe|img|object|base|form)\b|https?:""", markup)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script.count("\n") <= 80


def test_every_cell_is_in_it_digit_for_digit_and_leads_to_its_evaluation(grid):
    page, _, matrices = grid
    for matrix in matrices:
        section = page.split(f'data-metric="{matrix.metric}">')[1].split("</section>")[0]
        cells = re.findall(r"<td class=\"[^\"]*\">(.*?)</td>", section, re.DOTALL)
        printed = {(text_of(one), (re.search(r'href="#([^"]*)"', one) or [None, None])[1]) for one in cells}
        for cell in matrix.cells.itertuples():
            href = f"xlmr-{cell.row}/{cell.column}" if cell.kind == "cell" else None
            assert (" ".join(cell.text), href) in printed
            if cell.best:
                score = cell.text[0].split()[0]
                assert f"<{'b' if cell.best == 'best' else 'u'}>{score}</" in section


def test_every_link_leads_to_one_place(grid):
    page = grid[0]
    ids = re.findall(r'\sid="?([^\s">]+)', page)
    links = re.findall(r'\shref="?#([^\s">]+)', page)
    assert len(ids) == len(set(ids)) and set(links) <= set(ids)
    assert len([link for link in set(links) if re.search(r"\?\w+/\w+$", link)]) > 100


def test_an_evaluation_is_that_of_its_files(grid):
    page, frame, _ = grid
    for row in results.evaluations(frame).itertuples():
        article = article_of(page, f"{row.path}/{row.eval_lang}")
        errors = results.read_errors(row)
        pairs = re.findall(r"<dt id=\S+\?(\w+)/(\w+)>[^(]+\((\d+)\)<dd>(.*)", article)
        assert sum(int(n) for _, _, n, _ in pairs) == len(errors) == row.n - np.trace(row.counts)
        for gold, predicted, n, listed in pairs:
            of_pair = errors[(errors["gold"] == gold) & (errors["predicted"] == predicted)]
            expected = [f"{e.row} ({e.probability:.2f})" for e in of_pair.itertuples()]
            assert listed.split(", ") == expected and len(expected) == int(n)
            assert row.counts[row.registers.index(gold), row.registers.index(predicted)] == int(n)
            assert f"#{row.path}/{row.eval_lang}?{gold}/{predicted}>" in article.split("<dl class=errors>")[0]
        baseline = metrics.all_metrics(tables.majority_baseline(row.counts))
        for metric, score in metrics.all_metrics(row.counts).items():
            line = re.search(rf"<th scope=row>{re.escape(labels.METRICS[metric][0])}<td>(.*)", article)[1]
            assert line.split("<td>")[0] == f"{100 * score:.1f}" and line.endswith(f"{100 * baseline[metric]:.1f}")


def test_comparisons_are_those_of_the_tables_in_both_directions(grid):
    page, frame, matrices = grid
    assert page.count("<tr class=this>") == 12
    for k, matrix in enumerate(matrices):
        cells = {(cell.row, cell.column): cell for cell in matrix.cells.itertuples()}
        for a in matrix.rows:
            for lang in LANGS:
                table = article_of(page, f"xlmr-{a}/{lang}").split("<table class=compared")[1].split("</table>")[0]
                for b in (row for row in matrix.rows if row != a):
                    found = re.search(rf">{b}</a><td>(.*)", table)[1].split("<td>")[4 * k : 4 * k + 4]
                    one = results.compare(cells[a, lang].rows, cells[b, lang].rows, matrix.metric)
                    low, high = (labels.signed(100 * one[end], 1, "en") for end in ("low", "high"))
                    assert found[1].startswith(f"{labels.signed(100 * one['difference'], 1, 'en')} ({low} ")
                    assert found[1].endswith(f" {high})")
                    assert html.unescape(found[2]) == labels.p_value(one["p"], "en")
                    assert (labels.word("more", "en") == found[3]) == (one["p"] * 2 < 0.05)
                    if cells[a, lang].best == "best":
                        assert (cells[b, lang].best == "tied") == found[3].startswith(labels.word("chance", "en"))


# ---- warnings ----


def warnings_of(page, anchor):
    found = re.search(r"<ul class=warnings>(.*?)</ul>", article_of(page, anchor), re.DOTALL)
    entries = re.findall(r"<li(?: class=(\w+))?>([^<]*)", found[1] if found else "")
    return [(kind, text_of(text)) for kind, text in entries]


def test_what_makes_a_score_void_is_the_first_warning(tmp_path):
    write_run(tmp_path / "tiny-en", ["en"], {"en": answers(40, 40, 40), "fr": (["IN"] * 30 + ["OP"] * 20, ["IN"] * 50)})
    write_run(tmp_path / "tiny-fr", ["fr"], {"en": answers(40, 40, 0), "fr": (["IN"] * 30 + ["OP"] * 20, ["OP"] * 50)})
    write_run(tmp_path / "tiny-sv", ["sv"], {"en": answers(10, 10, 10)})
    page, _, (matrix, _) = write_page(tmp_path / "r.html", tmp_path)
    assert warnings_of(page, "tiny-en/en") == []
    (one_register, of_one), (no_better, of_baseline) = warnings_of(page, "tiny-en/fr")[:2]
    assert one_register == no_better == "grave" and "IN" in of_one and of_baseline.count("60.0") == 2
    ((kind, text),) = warnings_of(page, "tiny-sv/en")
    assert kind == "grave" and "25.0" in text and "33.3" in text
    ((kind, text),) = warnings_of(page, "tiny-fr/en")
    assert kind == "grave" and "LY (40)" in text
    marks = {(cell.row, cell.column): cell.mark for cell in matrix.cells.itertuples() if cell.kind == "cell"}
    assert "<i>↓</i>" in page and marks["sv", "en"] == marks["en", "fr"][:1] == "↓"


# ---- registers ----


# ---- texts, names, size, commands ----


@pytest.fixture
def with_corpus(tmp_path, write_corpus):
    """Return the folder of one run on a corpus of 20 texts, all of gold IN and predicted as OP or LY."""
    texts = [("IN", f"text number {row} {HOSTILE if row == 3 else ''} end") for row in range(1, 21)]
    corpus = write_corpus({"test/en": texts}, {register: REGISTERS[register] for register in R})
    folder = tmp_path / "outputs" / "tiny-fr"
    sha256 = runs.sha256_of(corpus / "corpus" / "test" / "en.tsv")
    given = {"en": (["IN"] * 20, ["OP"] * 12 + ["LY"] * 8)}
    corpus_record = {"path": str(corpus)}
    write_run(folder, ["fr"], given, signature={"test_sha256": sha256}, corpus=corpus_record)
    return folder


def test_no_text_of_the_corpus_is_in_it_unless_asked_for(with_corpus, tmp_path):
    page = write_page(tmp_path / "r.html", with_corpus.parent)[0]
    assert "text number" not in page
    page = write_page(tmp_path / "r.html", with_corpus.parent, n_texts=2)[0]
    assert sorted(map(int, re.findall(r"text number (\d+)", page))) == [11, 12, 19, 20]
    page = write_page(tmp_path / "r.html", with_corpus.parent, n_texts=20)[0]
    assert page.count("text number") == 20 and html.escape(HOSTILE) in page
    assert page.count("<script") == page.count("</script") == 1 and "<img" not in page
    corpus = json.loads((with_corpus / "run.json").read_text())["corpus"]["path"]
    with open(f"{corpus}/corpus/test/en.tsv", "a", encoding="utf-8") as file:
        file.write("IN\tone more\n")
    results._test_texts.cache_clear()
    page = write_page(tmp_path / "r.html", with_corpus.parent, n_texts=2)[0]
    assert "text number" not in page


def test_hostile_names_are_text_and_commands_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "my runs;touch PWNED & <img src=x> 'é' ?#%"
    for mix, right in (("en", 30), ("fr", 35)):
        write_run(tmp_path / name / f"tiny-{mix}", [mix], {"en": answers(right, right, right)})
    page = write_page(tmp_path / "r.html", tmp_path / name)[0]
    assert "<img" not in page
    again, compare = map(html.unescape, re.findall(r"<code>(.*?)</code>", article_of(page, "tiny-en/en")))
    python, script, *words = shlex.split(compare)
    assert python == "python" and Path(script).resolve() == runs.ROOT / "post_eval.py"
    assert post_eval.main(words) == 0
    python, script, *words = shlex.split(again)
    assert python == "python" and Path(script).resolve() == runs.ROOT / "evaluate.py"
    args, run = evaluate.parse_args(words)
    assert (run.name, args.eval_lang, args.overwrite) == ("tiny-en", ["en"], True)
    page = write_page(tmp_path / "r.html", tmp_path)[0]
    (key,) = set(re.findall(r"<article id=(\S+)/tiny-en/en ", page))
    assert re.fullmatch(r"[\w%.~-]+", key) and f'href="#{key}/tiny-en/en"' in page and not os.path.exists("PWNED")


def test_both_languages_say_the_same_things_and_every_word_is_used():
    place = Path(report.__file__).parent
    code = "".join(path.read_text() for path in (*place.glob("*.py"), *place.glob("*.jinja")))
    for key, (english, french) in labels.WORDS.items():
        fields = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (english, french)]
        assert english and french and fields[0] == fields[1], key
        assert not re.search(r"'|\S[;?!»](?!\w)", french.replace(" ;", "").replace(" ?", "")), key
        assert len(re.findall(f"""["']{re.escape(key)}["']""", code)) > 1, key
