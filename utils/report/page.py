"""Write report.html: one page from the transfer matrices to the evaluations and texts behind them.

The matrices and the view of the registers are HTML; an evaluation is made of data in the page, by page.js, when a
link leads to it. Nothing is loaded from elsewhere, and a policy in the page forbids it: the one script and the one
style run by their hashes. Names and texts are escaped, by Jinja and as JSON. The same input gives the same bytes.

So that the page stays below 10 MB, the evaluations of a large grid list fewer errors and texts each; the page says so.
"""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from utils import runs
from utils.report.cautions import listed_cautions, read_cautions
from utils.report.colours import shades
from utils.report.evaluations import make_data
from utils.report.matrices import matrix_view
from utils.report.registers import register_view
from utils.report.texts import errors_and_texts
from utils.report.words import WORDS
from utils.scores.labels import METRICS, label
from utils.scores.panels import Panel
from utils.scores.results import EvaluatedRun

if TYPE_CHECKING:
    import pandas as pd

MOST_F1 = 40_000  # in the tables of the registers


def write_report(path: Path, scores: "pd.DataFrame", matrices: list[Panel], lang: str, n_texts: int) -> None:
    """Write the page, in English or French, on the scores of results.all_scores and their panels.

    n_texts: how many texts of each pair of registers in an evaluation are shown.
    """
    runs.write_text(path, _make_page(scores, matrices, lang, n_texts))


def _make_page(scores: "pd.DataFrame", matrices: list[Panel], lang: str, n_texts: int) -> str:
    words = {key: pair[lang == "fr"] for key, pair in WORDS.items()}
    grids = _grids(matrices)
    found = list({run.folder: run for run in scores["run"]}.values())
    eval_langs = sorted(set(scores["eval_lang"]))
    odd = {(row.run.folder, row.eval_lang): row.not_comparable for row in scores.itertuples() if row.not_comparable}
    cautions = read_cautions(found, eval_langs, odd, words)
    keys = run_keys(found)
    listed, texts, told = errors_and_texts(found, eval_langs, n_texts, words)
    data = make_data(found, eval_langs, scores, grids, lang, words, keys, cautions, listed, texts)
    place = Path(__file__).parent
    css, js = ((place / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    css += shades()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(place), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    n_registers = max(len(registers) for registers in data["sets"])
    has_tables = len(listed) * n_registers <= MOST_F1
    page = environment.get_template("page.html.jinja").render(
        lang=lang,
        w=words,
        css=Markup(css),
        js=Markup(js),
        css_hash=_hash(css),
        js_hash=_hash(js),
        data=Markup(_json(data)),
        intro=words["intro"].format(runs=len(found), evaluations=len(listed), languages=len(eval_langs)),
        panels=[matrix_view(panel, lang, words, keys, cautions) for panel in matrices],
        models=[(name, name) for name in dict.fromkeys(panel.model_name for panel in matrices)],
        subfolders=[(name, name or "–") for name in dict.fromkeys(panel.subfolder for panel in matrices)],
        metric_names=[(name, label(METRICS, name, lang)) for name in dict.fromkeys(p.metric for p in matrices)],
        registers=[register_view(grid[0], lang, words, keys, odd, has_tables) for grid in grids],
        to_mind=listed_cautions(cautions, found, eval_langs, lang, words, keys),
        told=told,
    )
    return page if page.endswith("\n") else page + "\n"


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _json(data: Any) -> str:
    """Return JSON that can stand in a script element: no character that HTML would read."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _grids(matrices: list[Panel]) -> list[list[Panel]]:
    """Return the panels of each subfolder and model, a list of its metrics."""
    grids: dict[tuple[str, str], list[Panel]] = {}
    for panel in matrices:
        grids.setdefault((panel.subfolder, panel.model_name), []).append(panel)
    return list(grids.values())


def run_keys(found: list[EvaluatedRun]) -> dict[Path, str]:
    """Return folder -> the run in links: the folder as seen from the base dir, or from what holds the base dirs."""
    place = os.path.commonpath([run.base_dir for run in found])
    return {
        run.folder: "/".join(quote(runs.one_line(part), safe="") for part in run.folder.relative_to(place).parts)
        for run in found
    }
