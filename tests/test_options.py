"""Options: hostile names are refused in one line or taken literally, and what is mistyped is told with what to type."""

import argparse
import logging
import shlex
import shutil

import pytest
from conftest import FAST, SAMPLE_CORPUS

import evaluate
import finetune
import post_eval
from utils import options, results, runs

HOSTILE = [
    "../x", "x/../../y", "/tmp/x", "//x", ".", "~root", "$(touch x)", "`touch x`", "x;touch x", "*", "{a,b}", "%n",
    "a b", " a", "a\n", "\0", "'", '"', "\\", "-x", "--help", "a" * 300, "е\u200bn", "ｅn", "\u202exlmr", "\x1b[31mred",
    "\udcff", "=1+1", "a,b", "",
]  # fmt: skip


@pytest.fixture
def said(capsys, caplog):
    """Return a function that runs a main as from a terminal, and gives its exit code and all that it said."""

    def said(main, *argv):
        caplog.clear()
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            runs.run_script(lambda: main(list(argv)))
        code, text = end.value.code, "\n".join(capsys.readouterr()) + caplog.text
        code, text = (1, text + code) if isinstance(code, str) else (code, text)
        assert "Traceback" not in text and not any(map(runs.UNPRINTABLE.search, text.splitlines())), argv
        return code, text.strip()

    return said


@pytest.fixture
def nothing_written(root, monkeypatch):
    """Check that a test writes nothing."""
    monkeypatch.setenv("REGISTER_CORPUS", str(SAMPLE_CORPUS))
    monkeypatch.chdir(root)
    before = tree(root)
    yield
    assert tree(root) == before


def tree(folder):
    paths = [path for path in folder.parent.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.name != ".lock")


NAMES = ["--model-name=tiny", "--train-langs=en"]


@pytest.mark.parametrize("main", [finetune.main, evaluate.main])
@pytest.mark.parametrize("option", ["--model-name", "--train-langs", "--eval-lang", "--subfolder"])
def test_names_that_can_be_none_are_wrong_use(said, nothing_written, main, option):
    given = {"--model-name": "tiny", "--train-langs": "en", "--subfolder": "new", "--eval-lang": "en"}
    if main is finetune.main:
        del given["--eval-lang"]
    for value in HOSTILE if option in given else []:
        if (option, value) != ("--subfolder", ""):  # which is its default
            code, text = said(main, *(f"{name}={text}" for name, text in (given | {option: value}).items()))
            assert code == 2 and ": error: " in text.splitlines()[-1], (value, text)


# ---- languages with a hyphen ----


@pytest.mark.parametrize(
    ("typed", "known", "meant"),
    [
        ("en-fr", "en fr", "en fr"),
        ("en fr", "en fr", "en fr"),
        ("pt-br", "pt br", "pt br"),
        ("pt-br", "pt br pt-br", "pt-br"),
        ("pt-br en-fr", "en fr pt-br", "pt-br en fr"),
        ("en-xx", "en fr", "en xx"),  # xx will be told to be missing
        ("en-fr fr", "en fr", ""),
        ("pt-br pt-br", "pt-br", ""),
    ],
)
def test_a_mix_is_read_by_the_names_of_the_corpus(capsys, typed, known, meant):
    args = argparse.Namespace(train_langs=typed.split())
    if meant:
        options.read_languages(argparse.ArgumentParser(), args, known.split())
        assert args.train_langs == meant.split()
    else:
        with pytest.raises(SystemExit):
            options.read_languages(argparse.ArgumentParser(), args, known.split())
        assert capsys.readouterr().err


@pytest.fixture
def hyphens(root, tiny, monkeypatch):
    """Return a corpus with hyphens in its languages' names, that an environment variable names."""
    monkeypatch.setenv("REGISTER_CORPUS", str(root / "hyphens"))
    for split, n in (("train", 8), ("test", 3)):
        folder = root / "hyphens" / "corpus" / split
        folder.mkdir(parents=True)
        for lang in ("pt", "br", "pt-br", "zh-CN"):
            rows = [f"{r}\t{r} {split} {lang} {i}\n" for i in range(n) for r in ("IN", "OP")]
            (folder / f"{lang}.tsv").write_text("".join(rows))
    (root / "hyphens" / "info").mkdir()
    (root / "hyphens" / "info" / "reg_abbv.json").write_text('{"IN": "information", "OP": "opinion"}')
    return root / "hyphens"


def tiny_args(tiny, *langs):
    return ["--model-name=tiny", f"--checkpoint={tiny}", "--train-langs", *langs, "--num-epochs=1", *FAST]


def test_a_name_with_a_hyphen_is_trained_evaluated_and_drawn(hyphens, tiny, caplog):
    caplog.set_level(logging.INFO)
    for langs in (["pt-br"], ["zh-CN", "pt-br"]):
        assert finetune.main(tiny_args(tiny, *langs)) == 0
        command = next(m for m in map(str, caplog.messages[::-1]) if m.startswith("next: ")).removeprefix("next: ")
        assert evaluate.main(shlex.split(command)[2:]) == 0, command  # as it is typed, in a shell
    frame, _ = results.read_results([runs.ROOT / "outputs"])
    found = {folder.name: langs for folder, langs in zip(frame["folder"], frame["train_langs"], strict=True)}
    assert found == {"tiny-pt-br": ("pt-br",), "tiny-zh-CN-pt-br": ("zh-CN", "pt-br")}
    (runs.ROOT / "outputs" / "tiny-zh-CN-pt-br" / "eval" / "pt.json").unlink()
    assert post_eval.main(["--base-dir", str(runs.ROOT / "outputs"), "--ignore-cfm"]) == 0
    command = next(m for m in caplog.messages if m.startswith("missing: ")).removeprefix("missing: ")
    assert evaluate.main(shlex.split(command)[2:]) == 0


@pytest.mark.parametrize(("first", "second"), [(["pt", "br"], ["pt-br"]), (["pt-br"], ["pt", "br"])])
def test_two_lists_of_one_name_are_never_one_run(hyphens, tiny, said, first, second):
    assert finetune.main(tiny_args(tiny, *first)) == 0
    names = ["--model-name=tiny", "--train-langs"]
    for main, words in (
        (finetune.main, tiny_args(tiny, *second)),
        (evaluate.main, [*names, *second, "--eval-lang=pt"]),
    ):
        code, text = said(main, *words)
        assert code == 1 and " ".join(first) in text and " ".join(second) in text, text
    shutil.rmtree(hyphens / "corpus" / "train")  # run.json says what the run was trained on
    assert evaluate.main([*names, *first, "--eval-lang=pt"]) == 0


# ---- what is mistyped ----


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train-langs", "tr,id"], "tr id"),
        (["--train-langs", "en", "fr-en"], "en fr en"),
        (["--train-langs", "-".join(["a"] * 50_000)], "200"),
        (["--train-langs", "en", "--subfolder", "pretrained"], "pretrained"),
        (["--train-langs", "en", "--max-lenght=5"], "--max-length"),
        (["--train-langs", "en", "--nothing-like-it"], "--nothing-like-it"),
        (["--train-langs", "en", "--seed", "--overwrite"], "--seed 42"),
        (["--train-langs"], "--train-langs en fr"),
        (["--train-langs", "en", "--max-length", "x"], "--max-length: 'x'"),
    ],
)
def test_wrong_options_are_told_with_what_to_type(said, words, message):
    code, text = said(finetune.main, "--model-name", "tiny", *words)
    assert code == 2 and message in text.splitlines()[-1], text
