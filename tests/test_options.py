"""Hostile names: refused in one line or taken literally, never run, never written elsewhere, escaped where shown."""

import os
import subprocess

import pytest
from conftest import SAMPLE_CORPUS

import evaluate
import finetune
import post_eval
from utils import options, runs
from utils.cluster import plan, status

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
        assert code in (1, 2) and ("expected" in line), (value, line)
    assert (copy / "outputs" / "tiny-en" / "run.json").is_file()


def test_a_corpus_in_the_environment_is_no_other_way(said, monkeypatch):
    for value in HOSTILE:
        if "\0" in value or not value:
            continue
        monkeypatch.setenv("REGISTER_CORPUS", value)
        code, line = said(evaluate.main, *NAMES, "--eval-lang=en")
        assert code == 1 and "expected a " in line, (value, line)


def test_base_dirs_that_lead_nowhere_are_told(said, copy):
    for value in HOSTILE:
        if value in (".", "./x", "/", "..", "...", "//x", "../x", "../../x"):  # folders that are there, or may be
            continue
        code, line = said(post_eval.main, f"--base-dir={value}", "--ignore-cfm", "--ignore-tve")
        assert code in (1, 2) and "expected" in line, (value, line)
    for value in HOSTILE[::4]:
        for option in ("--tve-models", "--cfm-train-langs", "--tve-eval-langs", "--tve-metrics"):
            code, line = said(
                post_eval.main, "--base-dir=outputs", f"{option}={value}", "--jobs=1", may_write=["outputs"]
            )
            assert code == 2 and ": error: " in line, (value, line)
        code, line = said(post_eval.main, "--base-dir=outputs", "--compare", "tiny-en", value)
        assert code == 2, (value, line)


@pytest.mark.parametrize(
    "base_dirs", [["a", "a"], ["a", "a/b"], ["a/b", "a"], ["a", "./a"], ["/a", "/b"], ["a", "/proc/x"]]
)
def test_base_dirs_that_would_count_a_run_twice_or_write_to_the_root_are_wrong_use(said, base_dirs):
    code, line = said(post_eval.main, "--base-dir", *base_dirs)
    assert code == 2 and "argument --base-dir: expected folders" in line


@pytest.mark.parametrize("main", [plan.main, status.main])
@pytest.mark.parametrize("option", ["--models", "--langs", "--subfolder"])
def test_a_grid_with_names_that_can_be_none_is_wrong_use(said, main, option):
    for value in HOSTILE:
        if (option, value) == ("--subfolder", ""):
            continue
        given = {"--models": "tiny", "--langs": "en", "--subfolder": "new"} | {option: value}
        words = [f"{name}={text}" for name, text in given.items()]
        code, line = said(main, *words, "--kinds", "train", "eval", "--local")
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
        assert len(said) > 40 and all("expected" in line for line in said[:-1]), said
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
