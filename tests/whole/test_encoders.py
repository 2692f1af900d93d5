"""Each architecture of the READMEs' table goes through the whole chain, as the table says."""

import itertools
import re

import encoders
import pytest
from conftest import ROOT

from utils import model, runs, training
from utils.runs import RunError

pytestmark = pytest.mark.slow
ROW = re.compile(r"^\| ([^|]+) \| ([^|]+ `[^|`]+/[^|`]+`[^|]*) \|$", re.MULTILINE)
TABLE = {  # language -> what is told -> the architectures of which it is told
    lang: {told: names.split(encoders.BETWEEN) for told, names in ROW.findall((ROOT / name).read_text())}
    for lang, name in (("en", "README.md"), ("fr", "README.fr.md"))
}


@pytest.fixture(scope="module")
def few_texts(tmp_path_factory):
    return encoders.write_corpus(tmp_path_factory.mktemp("few") / "corpus")


@pytest.mark.parametrize("name", encoders.ENCODERS)
def test_it_trains_resumes_evaluates_and_answers(name, few_texts, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    for module in (model, training):  # the table is the same on every machine
        monkeypatch.setattr(module, "native_precisions", lambda: {"fp32", "bf16"})
    found = {}
    try:
        precision = encoders.go_through(name, tmp_path, few_texts)
        found = {lang: works[precision] for lang, works in encoders.WORKS.items()}
    except RunError as error:
        assert encoders.told(error), error
        found = {lang: f"{refused} `{encoders.told(error)}`" for lang, refused in encoders.REFUSED.items()}
    for lang, works in found.items():
        assert encoders.shown(name) in TABLE[lang][works]


def test_the_table_has_each_encoder_once():
    for rows in TABLE.values():
        assert sorted(itertools.chain.from_iterable(rows.values())) == sorted(map(encoders.shown, encoders.ENCODERS))
