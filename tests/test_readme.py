"""The READMEs say what is so: the same in both languages, every option, every file, every command."""

import argparse
import ast
import itertools
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


@pytest.mark.parametrize("command", [line for line in commands() if " run_" in line])
def test_commands_of_the_wrappers_parse(command):
    script, model, langs, *arguments = shlex.split(command)[1:]
    parser = {"run_train.sh": finetune.parse_args, "run_eval.sh": evaluate.parse_args}[script]
    parser([f"--model-name={model}", f"--train-langs={langs}", *arguments])


def test_every_command_is_run_or_parsed_by_a_test():
    others = {
        "bash submit_train_jobs.sh --demo",  # test_wrappers.py
        "bash tests/run.sh",  # these tests
        "source .venv/bin/activate",  # by load_env.sh, in every wrapper
        "export SBATCH_ACCOUNT=my_project SBATCH_PARTITION=publicgpu SBATCH_TIMELIMIT=24:00:00",
    }
    tested = ("python ", "./submit", "bash run_", "sbatch run_", "printf ")
    assert [line for line in commands() if not line.startswith(tested) and line not in others] == []


def test_the_example_on_new_text_runs(root, tiny, tmp_path):
    from utils.encoder import classifier

    folder = tmp_path / "models" / "demo" / "tiny-en-fr"
    classifier.load_classifier(tiny, ["HI", "JN"]).save_pretrained(folder)
    classifier.load_tokenizer(tiny).save_pretrained(folder)
    make_texts = next(line for line in commands() if line.startswith("printf "))
    subprocess.run(["bash", "-c", make_texts], cwd=tmp_path, check=True)
    code = next(block for kind, block in BLOCK.findall(README["en"]) if kind == "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert re.fullmatch(r"((HI|JN)\t0\.\d\d\t[A-Z].+\.\n){2}", done.stdout), done.stderr


# ---- messages ----

RAISED = {"RunError", "CorpusError", "ArgumentTypeError"}
TOLD = {"log.warning", "log.error", "log.exception", "parser.error"}


def template(node):
    """A message as the READMEs have it: … for what changes."""
    match node:
        case ast.Constant():
            return re.sub(r"%[-\d.]*[sd]", "…", str(node.value)).replace("%%", "%")
        case ast.JoinedStr():
            return "".join(map(template, node.values))
        case ast.BinOp():
            return template(node.left) + template(node.right)
        case ast.BoolOp():
            return template(node.values[-1])
    return "…"


def tidy(message):
    """Without the place at the beginning, and one … for several."""
    message = re.sub(r"…(?:[:. ]*…)+", "…", message.strip())
    return re.sub(r"^…(?:/[^ ]*)?(?::\d+)?: ", "", message)


def python_messages():
    for path in itertools.chain(ROOT.glob("*.py"), ROOT.glob("utils/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = ast.unparse(node.func)
                if name.rpartition(".")[2] in RAISED or name in TOLD:
                    yield template(node.args[0])
            elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "problems":
                yield template(node.slice)


def bash_messages():
    for path in itertools.chain(ROOT.glob("*.sh"), ROOT.glob("utils/**/*.sh")):
        for line in path.read_text(encoding="utf-8").splitlines():
            found = re.search(r'usage_error "([^"]*)"|echo "([^"]*)" >&2|echo "([^"]*turns[^"]*)"', line)
            if found:
                message = next(filter(None, found.groups())).removeprefix("load_env.sh: ")
                yield re.sub(r"\$\{[^}]*\}|\$\w+", "…", message)


@pytest.mark.parametrize("lang", README)
def test_every_message_of_a_fault_is_listed_and_none_is_stale(lang):
    in_code = set(map(tidy, [*python_messages(), *bash_messages()])) - {"…"}
    in_code -= {"making .venv with requirements.txt: some minutes, this once"}  # no fault
    heading = {"en": "## When something goes wrong", "fr": "## Quand quelque chose ne va pas"}[lang]
    section = README[lang].split(heading)[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE))
    assert in_code - listed == set()
    assert listed - in_code == set()


def test_the_row_shown_is_in_the_sample_corpus():
    row = next(block for kind, block in BLOCK.findall(README["en"]) if kind == "text")
    assert row in (SAMPLE_CORPUS / "corpus" / "train" / "en.tsv").read_text(encoding="utf-8")
