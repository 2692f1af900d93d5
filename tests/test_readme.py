"""The READMEs say what is so: the same in both languages; options, files, commands and messages that there are."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT, SAMPLE_CORPUS

import evaluate
import finetune
import post_eval
from utils import audit, download_model

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
    cells = {lang: re.findall(r"^\| ([^|]*`)(?: \([^|]*)? \|", text, re.MULTILINE) for lang, text in README.items()}
    cells = {lang: [re.findall(r"`[^`]*`", cell) for cell in found] for lang, found in cells.items()}
    assert cells["en"] == cells["fr"]


def test_french_typography():
    prose = re.sub(r"`[^`\n]*`", "", BLOCK.sub("", README["fr"]))
    assert not re.findall(r"[^\s|-] [:;?!»%]", prose), "a plain blank before : ; ? ! » or %"
    assert "'" not in prose and "« " not in prose


def test_every_file_is_on_the_map_and_every_entry_exists():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    section = README["en"].split("## File map")[1].split("\n## ")[0]
    entries = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)))
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


def test_the_defaults_told_are_the_parsers(monkeypatch):
    section = README["en"].split("## Fine-tune")[1].split("\n## ")[0]
    told = dict(re.findall(r"^\| `(--[a-z-]+)` \| (.*?) \|", section, re.MULTILINE))
    options = options_of(finetune, monkeypatch)
    for name, default in told.items():
        match options[name]:
            case bool():
                assert default == "off", name
            case None:
                assert not re.fullmatch(r"[\d.e-]+", default), name
            case value:
                assert type(value)(default) == value, name


def test_the_options_named_exist(monkeypatch):
    exist = set().union(*(options_of(script, monkeypatch) for script in (finetune, evaluate, post_eval)))
    for script in ("submit_train_jobs.sh", "submit_eval_jobs.sh"):
        shown = subprocess.run(["bash", script, "--help"], cwd=ROOT, capture_output=True, text=True).stdout
        exist.update(re.findall(r"--[a-z-]+", shown))
    exist.update(re.findall(r"--[a-z-]+", (ROOT / "tests" / "run.sh").read_text()))
    code = re.findall(r"`[^`\n]*`", BLOCK.sub("", README["en"]))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", "".join(span for span in code if "tests/programs" not in span)))
    assert named - exist - {"--help", "--mail-type", "--mail-user"} == set()  # of argparse and of Slurm


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("python ")])
def test_python_commands_parse(command):
    _, script, *arguments = shlex.split(command)
    parser = {
        "utils/audit.py": audit.parse_args,
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


def test_the_example_on_new_text_runs(root, tiny, tmp_path):
    from utils import model

    folder = tmp_path / "models" / "demo" / "tiny-en-fr"
    model.load_classifier(tiny, ["HI", "JN"]).save_pretrained(folder)
    model.load_tokenizer(tiny).save_pretrained(folder)
    texts = ["Preheat the oven to 180 degrees.", "The minister resigned,\u2028a spokesman said.\x85", "A song."]
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    code = next(block for kind, block in BLOCK.findall(README["en"]) if kind == "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    answers = [line.split("\t") for line in done.stdout.rstrip("\n").split("\n")]
    assert [text for *_, text in answers] == [text.strip() for text in texts], done.stderr
    assert all(register in {"HI", "JN"} and 0 <= float(share) <= 1 for register, share, _ in answers)


def test_the_messages_in_the_tables_are_in_the_code():
    """Word for word, but for what changes in them: … in the READMEs, {…}, %s and $… in the code."""
    paths = [*ROOT.glob("*.py"), *ROOT.glob("utils/**/*.py"), *ROOT.glob("*.sh"), *ROOT.glob("utils/**/*.sh")]
    code = "".join(re.sub(r'"\n\s*f?"', "", path.read_text(encoding="utf-8")) for path in paths)
    tables = re.findall(r"^\| message \|.*\n\|---\|---\|\n((?:\|.*\n)+)", README["en"], re.MULTILINE)
    messages = [message for table in tables for message in re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)]
    assert len(messages) >= 10
    assert [one for one in messages if not re.search(".*".join(map(re.escape, one.split("…"))), code)] == []
