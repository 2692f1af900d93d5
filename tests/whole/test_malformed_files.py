"""A corpus whose registers are malformed, or in which something else lies where a file should be."""

import json
import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from utils import corpus_load
from utils.corpus_load import CorpusError, load_registers, read_texts

REFUSED = {  # what reg_abbv.json holds; what the message names
    "empty": (b"", "JSON"),
    "cut": (b'{"IN": "i",\n "O', "JSON.*2"),
    "Latin-1": ('{"IN": "i",\n "OP": "é"}'.encode("latin-1"), ":2: .*UTF-8.*0xe9"),
    "a list of pairs": (b'[["IN", "i"], ["OP", "o"]]', ""),
    "one register": (b'{"IN": "i"}', ""),
    "brackets 100,000 deep": (b"[" * 100_000, "JSON"),
    "a key twice": (b'{"IN": "i",\n "OP": "o",\n "IN": "x"}', ""),
    **{f"{name} for a name": (b'{"IN": "i", "OP": %s}' % name.encode(), "'OP'") for name in ("1", '" "')},
    **{f"{name!r} for an abbreviation": (json.dumps({"IN": "i", name: "o"}).encode(), "")
       for name in ("", " OP", "OP ", "O\tP", "=1+1", "O$P$", "O\u200bP", "O\ud800P", "O" * 33, "unused", "row")},
}  # fmt: skip


def registers_file(write_corpus, content):
    path = write_corpus({"train/en": [("IN", "a")]}) / "info" / "reg_abbv.json"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("content", "found"), REFUSED.values(), ids=REFUSED)
def test_registers_load_in_their_order_or_are_refused_in_one_line(write_corpus, content, found):
    path = registers_file(write_corpus, '\ufeff{"Новости": "n",\r\n "A 2": "a", "IN": "i"}\r\n'.encode())
    assert list(load_registers(path.parent.parent)) == ["Новости", "A 2", "IN"]
    path = registers_file(write_corpus, content)
    with pytest.raises(CorpusError) as error:
        load_registers(path.parent.parent)
    message = str(error.value)
    assert message.startswith(f"{path}:") and re.search(found, message), message
    assert len(message.splitlines()) == 1 and len(message) - len(str(path)) < 300


JSON = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_registers_or_refused_in_one_line(write_corpus, content):
    path = registers_file(write_corpus, content)
    try:
        registers = load_registers(path.parent.parent)
    except CorpusError as error:
        assert re.match(rf"{re.escape(str(path))}(:[1-9]\d*)?: .+", str(error))
        assert len(str(error).splitlines()) == 1
    else:
        assert len(registers) > 1 and all(register.isprintable() for register in registers)


# ---- no file ----


NO_FILES = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a broken link": lambda path: path.symlink_to("nowhere.tsv"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("name", ["info/reg_abbv.json", "corpus/test/en.tsv"])
def test_what_is_no_file_is_named_and_does_not_hang(write_corpus, make, name):
    corpus = write_corpus({"test/en": [("IN", "a")]})
    (corpus / name).unlink()
    make(corpus / name)
    with pytest.raises(CorpusError, match=f"{name}: "):
        read_texts(corpus_load.find_corpus(str(corpus)), "test", "en", load_registers(corpus))


# ---- what is read back ----
