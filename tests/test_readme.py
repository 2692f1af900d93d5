"""The READMEs say what is so: the same in both languages, every option, every file, every command."""

import argparse
import json
import os
import re
import shlex
import subprocess

import pytest
from conftest import ROOT, SAMPLE_CORPUS

import evaluate
import finetune
import post_eval
from utils import download_model

README = {
    lang: (ROOT / name).read_text(encoding="utf-8") for lang, name in (("en", "README.md"), ("fr", "README.fr.md"))
}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands():
    for kind, block in BLOCK.findall(README["en"]):
        if kind == "bash":
            yield from block.splitlines()


def test_both_have_the_same_headings_code_and_tables():
    code = {lang: BLOCK.findall(text) for lang, text in README.items()}
    assert code["en"] == code["fr"]
    levels = {lang: re.findall(r"^#+", BLOCK.sub("", text), re.MULTILINE) for lang, text in README.items()}
    assert levels["en"] == levels["fr"]
    cells = {lang: re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE) for lang, text in README.items()}
    assert cells["en"] == cells["fr"]


def test_french_typography():
    prose = re.sub(r"`[^`\n]*`", "", BLOCK.sub("", README["fr"]))
    assert not re.findall(r"[^\s|-] [:;?!»%]", prose), "a plain blank before : ; ? ! » or %"
    assert "'" not in prose and "« " not in prose


def test_every_file_is_on_the_map_and_every_entry_exists():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    section = README["en"].split("## File map")[1].split("\n## ")[0]
    entries = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    assert [
        name for name in tracked if not any(name == e or name.startswith(e) and e.endswith("/") for e in entries)
    ] == []
    assert [entry for entry in entries if not any(name.startswith(entry) for name in tracked)] == []


def options_of(script, monkeypatch):
    """The options of a script's own parser, with their defaults."""
    parsers = []
    parse = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda self, *a: parsers.append(self) or parse(self, *a))
    with pytest.raises(SystemExit):
        script.parse_args(["--help"])
    monkeypatch.undo()
    return {a.option_strings[-1]: a.default for a in parsers[0]._actions if a.option_strings and a.dest != "help"}


@pytest.mark.parametrize(
    ("script", "heading"), [(finetune, "## Fine-tune"), (evaluate, "## Evaluate"), (post_eval, "## Compare")]
)
def test_the_table_of_options_is_the_parsers(script, heading, monkeypatch, capsys):
    options = options_of(script, monkeypatch)
    section = README["en"].split(heading)[1].split("\n## ")[0]
    table = dict(re.findall(r"^\| `(--[a-z-]+)` \| (.*?) \|", section, re.MULTILINE))
    assert set(table) == set(options) - {"--model-name", "--train-langs"}
    for name, default in options.items():
        if isinstance(default, (int, float)) and not isinstance(default, bool):
            assert float(table[name]) == default, name


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("python ")])
def test_python_commands_parse(command):
    _, script, *arguments = shlex.split(command)
    parser = {
        "finetune.py": finetune.parse_args,
        "evaluate.py": evaluate.parse_args,
        "post_eval.py": post_eval.parse_args,
        "utils/download_model.py": download_model.parse_args,
    }[script]
    parser(arguments)


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("./submit")])
def test_submit_commands_run(project, command):
    names = json.dumps(dict.fromkeys(("xlmr", "mbert"), "./tests/sample-corpus"))
    (project / "utils" / "model2chckpt.json").write_text(names)
    run_eval = (project / "run_eval.sh").read_text()
    (project / "run_eval.sh").write_text(re.sub("eval_langs=.*", "eval_langs=(en fr)", run_eval))
    script, *arguments = shlex.split(command)
    done = subprocess.run(
        ["bash", script, "--dry-run", "--local", *arguments], cwd=project, capture_output=True, text=True,
        env={**os.environ, "REGISTER_CORPUS": str(SAMPLE_CORPUS)},
    )  # fmt: skip
    if "--status" in arguments:
        assert done.stdout.count("not submitted") == 12, done.stderr
    elif script == "./submit_eval_jobs.sh":
        assert done.stderr.splitlines()[-1].count(" eval-seed1/") == 6, done.stderr  # none is trained
    else:
        assert done.returncode == 0 and len(done.stdout.splitlines()) == 12, done.stderr


@pytest.mark.parametrize("script", ["submit_train_jobs.sh", "submit_eval_jobs.sh"])
def test_the_table_of_submit_options_is_the_help(script):
    section = README["en"].split("## Many models")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(--[a-z-]+)` \| (.*?) \|$", section, re.MULTILINE)
    table = {option for option, meaning in rows if "(`submit_train_jobs.sh`)" not in meaning or "train" in script}
    shown = subprocess.run(["bash", script, "--help"], cwd=ROOT, capture_output=True, text=True).stdout
    assert set(re.findall(r"--[a-z-]+", shown)) - {"--seed", "--eval-lang"} == table


def test_the_row_shown_is_in_the_sample_corpus():
    row = next(block for kind, block in BLOCK.findall(README["en"]) if kind == "text")
    assert row in (SAMPLE_CORPUS / "corpus" / "train" / "en.tsv").read_text(encoding="utf-8")
