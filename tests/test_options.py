"""Hostile names: refused in one line or taken literally, never run, never written elsewhere, escaped where shown."""

import io
import itertools
import logging
import os
import shlex
import shutil
import subprocess

import pytest
from conftest import FAST, SAMPLE_CORPUS
from hypothesis import given, settings
from hypothesis import strategies as st

import evaluate
import finetune
import post_eval
from utils import options, results, runs
from utils.cluster import grid

pytest_plugins = ["damage"]

HOSTILE = [
    "../x", "../../x", "x/../../y", "/tmp/x", "/", "//x", "./x", ".", "..", "...", "~", "~root", "~nobody-knows/x",
    "$(touch x)", "${HOME}", "`touch x`", ";touch x", "x;touch x", "x&touch x", "x|touch x", "x>y", "<x", "*", "?",
    "[a]", "{a,b}", "!x", "#x", "%n", "%j", "%x%", "a b", " a", "a ", "\ta", "a\n", "a\nb", "\r", "\0", "a\0b", "'",
    '"', "\\", "-x", "--", "--help", "a" * 300, "é" * 200, "е\u200bn", "ｅn", "еn", "\u202exlmr", "\x1b[31mred",
    "\x07", "\x9b1m", "\udcff", "=1+1", "@x", "+x", "a:b", "a,b", "con\u2028", "",
]  # fmt: skip
assert len(set(HOSTILE)) >= 50


@pytest.fixture
def said(copy, capsys, caplog, monkeypatch):
    """Return a function that runs a main as from a terminal, checks that it wrote nothing, and gives code and line."""
    monkeypatch.chdir(copy)

    def said(main, *argv, may_write=()):
        before = tree(copy, may_write)
        caplog.clear()
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            runs.run_script(lambda: main(list(argv)))
        out, err = capsys.readouterr()
        text = err + (end.value.code if isinstance(end.value.code, str) else "")
        assert "Traceback" not in text and tree(copy, may_write) == before, argv
        for line in [*text.splitlines(), *out.splitlines(), *(entry.getMessage() for entry in caplog.records)]:
            assert not runs.UNPRINTABLE.search(line), (argv, line)
        code = 1 if isinstance(end.value.code, str) else end.value.code
        return code, (text.strip().splitlines() or [""])[-1]

    return said


@pytest.fixture
def said_by(capsys, caplog, monkeypatch):
    """Return a function that runs a main as from a terminal, and gives its exit code and all that it said."""
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no job in Slurm's queue

    def said_by(main, *argv):
        caplog.clear()
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            runs.run_script(lambda: main(list(argv)))
        told = "\n".join(capsys.readouterr()) + caplog.text
        is_text = isinstance(end.value.code, str)
        return (1, told + end.value.code) if is_text else (end.value.code, told.strip())

    return said_by


def tree(folder, but=()):
    """Return every file above and in the folder with its size and time, but for these folders."""
    but = (*but, ".lock")  # models/pretrained/.lock: several downloads wait for each other
    paths = [path for path in folder.parent.rglob("*") if path.is_file() and not set(path.parts) & set(but)]
    return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths)


NAMES = ["--model-name=tiny", "--train-langs=en"]
MAINS = {"finetune": finetune.main, "evaluate": evaluate.main}


@pytest.mark.parametrize("script", MAINS)
@pytest.mark.parametrize("option", ["--model-name", "--train-langs", "--eval-lang", "--subfolder"])
def test_names_that_can_be_none_are_wrong_use(said, script, option):
    if (script, option) == ("finetune", "--eval-lang"):
        pytest.skip("has no such option")
    for value in HOSTILE:
        if (option, value) == ("--subfolder", ""):  # which is the default
            continue
        given = {"--model-name": "tiny", "--train-langs": "en", "--subfolder": "new"} | (
            {"--eval-lang": "en"} if script == "evaluate" else {}
        )
        words = [f"{name}={text}" for name, text in (given | {option: value}).items()]
        code, line = said(MAINS[script], *words)
        assert code == 2 and ": error: " in line, (value, line)
        apart = [word for name, text in (given | {option: value}).items() for word in (name, text)]
        assert said(MAINS[script], *apart)[0] == 2, value


@pytest.mark.parametrize("script", MAINS)
@pytest.mark.parametrize("option", ["--corpus-path", "--checkpoint"])
def test_paths_that_lead_nowhere_are_told_and_nothing_is_written(said, script, option, copy):
    if (script, option) == ("evaluate", "--checkpoint"):
        pytest.skip("has no such option")
    others = ["--eval-lang=en"] if script == "evaluate" else ["--subfolder=new", "--num-epochs=1"]
    for value in HOSTILE:
        code, line = said(MAINS[script], *NAMES, *others, f"{option}={value}", may_write=["new"])
        assert code in (1, 2) and ": " in line, (value, line)
    assert (copy / "outputs" / "tiny-en" / "run.json").is_file()


def test_a_corpus_in_the_environment_is_no_other_way(said, monkeypatch):
    for value in HOSTILE:
        if "\0" in value or not value:
            continue
        monkeypatch.setenv("REGISTER_CORPUS", value)
        code, line = said(evaluate.main, *NAMES, "--eval-lang=en")
        assert code == 1 and ": " in line, (value, line)


def test_base_dirs_that_lead_nowhere_are_told(said, copy):
    for value in HOSTILE:
        if value in (".", "./x", "/", "..", "...", "//x", "../x", "../../x"):  # folders that are there, or may be
            continue
        code, line = said(post_eval.main, f"--base-dir={value}", "--ignore-cfm", "--ignore-tve")
        assert code == 2 or (code == 1 and line.endswith("name one that holds evaluated runs")), (value, line)
    for value in HOSTILE[::4]:
        for option in ("--tve-models", "--cfm-train-langs", "--tve-eval-langs", "--tve-metrics"):
            code, line = said(
                post_eval.main, "--base-dir=outputs", f"{option}={value}", "--jobs=1", may_write=["outputs"]
            )
            assert code == 2 and ": error: " in line, (value, line)
        code, line = said(post_eval.main, "--base-dir=outputs", "--compare", "tiny-en", value)
        assert code == 2, (value, line)


@pytest.mark.parametrize("base_dirs", [["/a", "/b"], ["a", "/proc/x"]])
def test_base_dirs_that_would_write_to_the_root_are_wrong_use(said, base_dirs):
    code, line = said(post_eval.main, "--base-dir", *base_dirs)
    assert code == 2 and "no folder in common; say with --output-dir" in line


@pytest.mark.parametrize("others", [["outputs"], ["./outputs"], ["outputs/tiny-en"], ["link"]])
def test_a_run_in_two_base_dirs_is_no_second_seed(copy, said_by, others):
    (copy / "link").symlink_to("outputs")
    drawn = []
    for base_dirs in (["outputs"], ["outputs", *others], [*others, "outputs"]):
        words = ["--base-dir", *base_dirs, "--output-dir=drawn", "--ignore-cfm", "--ignore-report"]
        assert said_by(post_eval.main, *words)[0] == 0
        lines = (copy / "drawn" / "tve_cells.csv").read_text().splitlines()
        drawn.append([line for line in lines if ",tiny,micro_f1,en," in line])
    assert drawn[0] == drawn[1] == drawn[2] and len(drawn[0]) >= 2


@pytest.mark.parametrize("asked", ["--dry-run", "--status"])
@pytest.mark.parametrize("option", ["--models", "--langs", "--subfolder"])
def test_a_grid_with_names_that_can_be_none_is_wrong_use(said, asked, option):
    for value in HOSTILE:
        if (option, value) == ("--subfolder", ""):
            continue
        given = {"--models": "tiny", "--langs": "en", "--subfolder": "new"} | {option: value}
        words = [f"{name}={text}" for name, text in given.items()]
        code, line = said(grid.main, "train", *words, "--then-evaluate", "--local", asked)
        assert code == 2, (value, line)


def test_runs_within_a_runs_folder_are_no_part_of_it(copy, said):
    for part in options.RUNS_OWN:
        code, line = said(finetune.main, *NAMES, f"--subfolder=tiny-en/{part}")
        assert code == 2 and "run's own folder" in line
    inner = ["--model-name=tiny", "--train-langs=fr", "--subfolder=tiny-en", "--num-epochs=1", "--max-length=16"]
    assert finetune.main(inner) == 0
    assert finetune.main([*NAMES, "--num-epochs=1", "--max-length=16", "--overwrite"]) == 0
    assert finetune.main(inner) == 0  # finished, and its model is there
    assert (copy / "models" / "tiny-en" / "tiny-fr" / "model.safetensors").is_file()


# ---- the wrappers ----


def bash(project, *command, **variables):
    environment = {**os.environ, "REGISTER_CORPUS": str(SAMPLE_CORPUS), "HF_HUB_OFFLINE": "1", **variables}
    return subprocess.run(["bash", *command], cwd=project, env=environment, capture_output=True, timeout=300)


def test_wrappers_take_hostile_names_as_words(project):
    words = [value for value in HOSTILE if not runs.UNPRINTABLE.search(value) and not value.startswith("-")]
    before = tree(project, ["__pycache__"])
    for option in ("--models", "--langs"):
        given = {"--models": ["tiny"], "--langs": ["en"]} | {option: words}
        command = [word for name, values in given.items() for word in (name, *values)]
        done = bash(project, "submit_train_jobs.sh", "--local", *map(os.fsencode, command))
        said = done.stderr.decode().split("\n")[:-1]
        assert done.returncode == 2 and done.stdout == b"" and said[-1] == "nothing was submitted"
        assert len(said) > 40 and all(line.startswith(("argument --", "--")) for line in said[:-1]), said
    for value in ("$(touch x)", "`touch x`", "*", "a\nb", "\x1b[31m", "-x", "../x"):
        for command in (["run_train.sh", value, "en"], ["run_train.sh", "tiny", value], ["run_eval.sh", value, "en"]):
            done = bash(project, *command)
            assert done.returncode == 2 and done.stderr.decode().splitlines()[-1].isprintable(), (command, done.stderr)
        done = bash(project, "submit_train_jobs.sh", "--local", value)
        assert done.returncode == 2 and done.stderr.decode().count("\n") == 1
        assert done.stderr.decode().strip().isprintable()
        corpus = bash(project, "submit_train_jobs.sh", "--local", "--models=tiny", REGISTER_CORPUS=value)
        assert corpus.returncode in (1, 2) and corpus.stderr.decode().strip().splitlines()[-1].isprintable()
    assert tree(project, ["__pycache__"]) == before


# ---- languages with a hyphen ----

READINGS = {  # a word: the names there are; the reading; another one where it is not clear
    "en-fr": ("en fr", "en fr", ""),
    "pt-br": ("pt br pt-br", "pt-br", ""),
    "pt-br-en": ("en pt br pt-br", "pt-br en", ""),
    "en-pt-br": ("en pt br", "en pt br", ""),
    "zh-CN": ("zh zh-CN", "zh-CN", ""),
    "zho-Hans-CN": ("zho-Hans CN zho", "zho-Hans CN", ""),
    "a-b-c": ("a a-b b-c c", "a-b c", "a b-c"),
    "a-b-c-d": ("a a-b b-c c-d d", "a-b c-d", "a b-c d"),
    "a-a-a": ("a a-a", "a-a a", "a a-a"),
    "x-y-z": ("x y z x-y x-y-z y-z", "x-y-z", ""),
    "en-xx": ("en fr", "en xx", ""),  # xx will be told to be missing
    "xx-YY": ("en fr", "xx-YY", ""),
    "en": ("", "en", ""),
}


@pytest.mark.parametrize("word", READINGS)
def test_a_mix_is_read_by_the_names_of_the_corpus(word):
    known, reading, other = (text.split() for text in READINGS[word])
    assert options.read_mix(word, known) == (reading, other)


def divisions(word, names):
    """All ways to divide a word into names."""
    rests = {name: word.removeprefix(name) for name in names if f"{word}-".startswith(f"{name}-")}
    return [
        (name, *others) for name, rest in rests.items() for others in (divisions(rest[1:], names) if rest else [()])
    ]


@settings(deadline=None, max_examples=200)
@given(names=st.sets(st.sampled_from(["a", "b", "a-a", "a-b", "b-a", "b-b-a", "a-b-a"]), min_size=1), data=st.data())
def test_what_is_read_is_what_was_joined_or_another_reading_is_named(names, data):
    langs = data.draw(st.lists(st.sampled_from(sorted(names)), min_size=1, max_size=4))
    word = "-".join(langs)
    readings = divisions(word, names)
    cuts = {found: set(itertools.accumulate(len(name) + 1 for name in found)) for found in readings}
    divide_no_further = [found for found in readings if all(cuts[found] <= cuts[other] for other in readings)]
    reading, other = options.read_mix(word, names)
    assert tuple(reading) in readings
    if divide_no_further:
        assert ([tuple(reading)], other) == (divide_no_further, [])
    else:
        assert tuple(other) in readings and not cuts[tuple(reading)] <= cuts[tuple(other)]


@pytest.fixture
def hyphens(root, tiny, monkeypatch):
    """Return a corpus with hyphens in its languages' names, that an environment variable names."""
    monkeypatch.setenv("REGISTER_CORPUS", str(root / "hyphens"))
    for split, n in (("train", 8), ("test", 3)):
        folder = root / "hyphens" / "corpus" / split
        folder.mkdir(parents=True)
        for lang in ("pt", "br", "pt-br", "zh-CN", "a-b", "c", "a", "b-c"):
            (folder / f"{lang}.tsv").write_text(
                "".join(f"{r}\t{r} {split} {lang} {i}\n" for i in range(n) for r in ("IN", "OP"))
            )
    (root / "hyphens" / "info").mkdir()
    (root / "hyphens" / "info" / "reg_abbv.json").write_text('{"IN": "information", "OP": "opinion"}')
    return root / "hyphens"


def tiny_args(tiny, *langs):
    return ["--model-name=tiny", f"--checkpoint={tiny}", "--train-langs", *langs, "--num-epochs=1", *FAST]


def test_a_name_with_a_hyphen_is_trained_evaluated_and_drawn(hyphens, tiny, caplog, capsys, said_by):
    caplog.set_level(logging.INFO)
    for langs in (["pt-br"], ["zh-CN-pt-br"], ["a-b", "c"]):
        assert finetune.main(tiny_args(tiny, *langs)) == 0
        command = next(m for m in map(str, caplog.messages[::-1]) if m.startswith("next: ")).removeprefix("next: ")
        assert evaluate.main(shlex.split(command)[2:]) == 0, command  # as it is typed, in a shell
        assert evaluate.main(["--model-name=tiny", "--train-langs", *langs, "--eval-lang", "zh-CN"]) == 0
    frame, _ = results.read_results([runs.ROOT / "outputs"])
    found = {folder.name: langs for folder, langs in zip(frame["folder"], frame["train_langs"], strict=True)}
    assert found == {"tiny-pt-br": ("pt-br",), "tiny-zh-CN-pt-br": ("zh-CN", "pt-br"), "tiny-a-b-c": ("a-b", "c")}
    (runs.ROOT / "outputs" / "tiny-zh-CN-pt-br" / "eval" / "pt.json").unlink()
    caplog.clear()
    assert post_eval.main(["--base-dir", str(runs.ROOT / "outputs"), "--ignore-cfm"]) == 0
    command = next(m for m in caplog.messages if m.startswith("missing: ")).removeprefix("missing: ")
    assert evaluate.main(shlex.split(command)[2:]) == 0
    assert "zh-CN-pt-br" in capsys.readouterr().out


def test_two_readings_are_refused_by_all_that_read_a_mix(hyphens, tiny, said_by, monkeypatch):
    expected = "expected one reading of 'a-b-c', found two: a-b c, or a b-c"
    for main, words in (
        (finetune.main, tiny_args(tiny, "a-b-c")),
        (evaluate.main, ["--model-name=tiny", "--train-langs=a-b-c", "--eval-lang=a"]),
        (grid.main, ["train", "--models=tiny", "--langs=a-b-c", "--eval-langs=a", "--local", "--dry-run"]),
        (grid.main, ["train", "--models=tiny", "--langs=a-b-c", "--eval-langs=a", "--local", "--status"]),
    ):
        code, text = said_by(main, *words)
        assert code == 2 and expected in text, text
    assert not (runs.ROOT / "outputs").exists()


@pytest.mark.parametrize(("first", "second"), [(["pt", "br"], ["pt-br"]), (["pt-br"], ["pt", "br"])])
def test_two_lists_of_one_name_are_never_one_run(hyphens, tiny, said_by, monkeypatch, first, second):
    assert finetune.main(tiny_args(tiny, *first)) == 0
    code, text = said_by(finetune.main, *tiny_args(tiny, *second))
    assert code == 1 and f"train_langs was {' '.join(first)}, is now {' '.join(second)}" in text
    named = f"expected the run of tiny on {' '.join(second)}, found that of tiny on {' '.join(first)}"
    names = ["--model-name=tiny", "--train-langs"]
    code, text = said_by(evaluate.main, *names, *second, "--eval-lang=pt")
    assert code == 1 and named in text
    shutil.rmtree(hyphens / "corpus" / "train")  # run.json says what the run was trained on
    assert evaluate.main([*names, *first, "--eval-lang=pt"]) == 0
    code, text = said_by(evaluate.main, *names, *second, "--eval-lang=pt")
    assert (code, named in text) == ((0, False) if second == ["pt-br"] else (1, True)), text


def test_status_and_plan_know_two_lists_of_one_name_apart(hyphens, tiny, said_by, monkeypatch):
    assert finetune.main(tiny_args(tiny, "pt", "br")) == 0
    words = ["--models=tiny", "--langs", "pt-br", "zh-CN", "--local", "--eval-langs", "pt", "zh-CN"]
    code, text = said_by(grid.main, "train", *words, "--status")
    assert code == 1 and "holds the run of tiny on pt br, not that of tiny on pt-br" in text, text
    for kind in ("train", "eval"):
        code, text = said_by(grid.main, kind, *words, "--dry-run")
        assert code == 1 and "pt br" in text and text.endswith("nothing was submitted"), text
    code, text = said_by(
        grid.main, "train", "--models=tiny", "--langs=zh-CN-pt", "--local", "--eval-langs=pt", "--dry-run"
    )
    assert code == 0 and "to_do=([train-tiny-zh-CN-pt]=yes)" in text, text


def test_two_lists_of_one_name_are_never_one_row(hyphens, tiny, said_by):
    for seed, langs in (("a", ["pt", "br"]), ("b", ["pt-br"])):
        assert finetune.main([*tiny_args(tiny, *langs), f"--subfolder={seed}"]) == 0
        names = ["--model-name=tiny", f"--subfolder={seed}", "--train-langs", *langs]
        assert evaluate.main([*names, "--eval-lang=pt"]) == 0
    code, text = said_by(post_eval.main, "--base-dir", *(str(runs.ROOT / "outputs" / seed) for seed in "ab"))
    assert code == 1 and "tiny-pt-br: trained on pt-br, but " in text and "tiny-pt-br on pt br; " in text, text
    assert post_eval.main(["--base-dir", str(runs.ROOT / "outputs"), "--ignore-cfm"]) == 0


def test_a_name_of_a_run_that_no_folder_can_have_is_wrong_use(said_by):
    for langs in (["a" * 30] * 10, ["-".join(["a"] * 50_000)]):
        code, text = said_by(finetune.main, "--model-name=tiny", "--train-langs", *langs)
        assert code == 2 and "expected at most 200 characters with the model's name" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train-langs", "tr,id"], "argument --train-langs: separate languages by spaces: tr id"),
        (["--train-langs", "tr;", "id"], "argument --train-langs: separate languages by spaces: tr id"),
        (["--train-langs", "en", "--max-lenght", "5"], "no option --max-lenght; did you mean --max-length?"),
        (["--train-langs", "en", "--max-lenght=5"], "no option --max-lenght; did you mean --max-length?"),
        (["--train-langs", "en", "--nothing-like-it"], "no option --nothing-like-it; --help lists them"),
        (["--train-langs", "en", "--max-length"], "argument --max-length: needs a value, as in --max-length 512"),
        (["--train-langs", "en", "--seed", "--overwrite"], "argument --seed: needs a value, as in --seed 42"),
        (["--train-langs"], "argument --train-langs: needs a value, as in --train-langs en fr"),
        (
            ["--train-langs", "en", "--max-length", "x"],
            "argument --max-length: expected a whole number above 0, found 'x'",
        ),
    ],
)
def test_wrong_options_are_told_with_what_to_type(said_by, words, message):
    code, text = said_by(finetune.main, "--model-name", "tiny", *words)
    assert code == 2 and text.strip().splitlines()[-1].endswith(message), text
