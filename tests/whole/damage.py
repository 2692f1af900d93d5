"""A finished run with all that belongs to it, to damage, and what the scripts say of the damage."""

import io
import shutil
from collections.abc import Callable

import pytest
from conftest import FAST

import evaluate
import finetune
import post_eval
from utils import download_model, runs
from utils.cluster import grid

# what makes any JSON file unreadable
NOT_JSON: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "not UTF-8": lambda content: b"\xff" + content,
    "nested too deep": lambda content: b"[" * 100_000,
    "a huge number": lambda content: b"1" * 5000,
    "half a character": lambda content: b'{"a": "\\ud800"}',
    "not a number": lambda content: b'{"a": NaN}',
    "an infinite number": lambda content: b'{"a": 1e999}',
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny):
    """Return a folder with a trained run, evaluated on two languages, its corpus, and the fetched model."""
    folder = tmp_path_factory.mktemp("finished")
    corpus = folder / "corpus"
    for split, n in (("train", 20), ("test", 5)):
        for lang in ("en", "fr"):
            texts = [f"{r}\t{r.lower()} {split} {lang} {i}\n" for i in range(n) for r in ("IN", "OP")]
            (corpus / "corpus" / split).mkdir(parents=True, exist_ok=True)
            (corpus / "corpus" / split / f"{lang}.tsv").write_text("".join(texts))
    (corpus / "info").mkdir()
    (corpus / "info" / "reg_abbv.json").write_text('{"IN": "information", "OP": "opinion"}')
    shutil.copytree(tiny, folder / "models" / "pretrained" / tiny.name)
    shutil.copy(download_model.MODEL2CHCKPT, folder / "model2chckpt.json")
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, folder)
        assert finetune.main(["--num-epochs=2", *FAST, *names(folder)]) == 0
        assert evaluate.main([*names(folder), "--eval-lang", "en", "fr"]) == 0
    return folder


def stand_in(patch, folder):
    """Let this folder stand in for the repository's outputs/, models/ and model2chckpt.json."""
    patch.setattr(runs, "ROOT", folder)
    patch.setattr("sys.stdin", io.StringIO())  # Slurm's queue
    patch.setattr(download_model, "PRETRAINED", folder / "models" / "pretrained")
    patch.setattr(download_model, "MODEL2CHCKPT", folder / "model2chckpt.json")
    patch.setenv("REGISTER_CORPUS", str(folder / "corpus"))
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.chdir(folder)
    grid.hash_file.cache_clear()


def names(folder, subfolder=""):
    return ["--model-name=tiny", "--train-langs=en", f"--subfolder={subfolder}"]


@pytest.fixture
def copy(finished, tmp_path, monkeypatch):
    """Return a copy of that folder, to damage."""
    folder = shutil.copytree(finished, tmp_path / "copy", symlinks=True)
    stand_in(monkeypatch, folder)
    return folder


@pytest.fixture
def told(copy, capsys, caplog):
    """Return a function that runs a script as from a terminal; gives exit code and the lines that tell of faults."""

    def told(script: str) -> tuple[int, list[str]]:
        common = ["--models=tiny", "--langs=en", "--local", "--eval-langs=all"]
        evaluation = [*names(copy), "--eval-lang"]
        main, options = {
            "finetune": (finetune.main, ["--num-epochs=2", *FAST, *names(copy)]),
            "new": (finetune.main, ["--num-epochs=1", *FAST, *names(copy, "new")]),
            "unfinished": (finetune.main, ["--num-epochs=2", *FAST, *names(copy, "unfinished")]),
            "evaluate": (evaluate.main, [*evaluation, "en"]),
            "other": (evaluate.main, [*evaluation, "fr"]),
            "anew": (evaluate.main, [*evaluation, "en", "--overwrite"]),
            "post_eval": (
                post_eval.main,
                ["--base-dir", str(copy / "outputs"), "--ignore-cfm", "--ignore-tve", "--ignore-report"],
            ),
            "plan": (grid.main, ["train", *common, "--then-evaluate", "--dry-run", "--", "--num-epochs=2", *FAST]),
            "plan eval": (grid.main, ["eval", *common, "--dry-run"]),
            "status": (grid.main, ["train", *common, "--then-evaluate", "--status", "--", "--num-epochs=2", *FAST]),
            "download": (download_model.main, ["tiny"]),
        }[script]
        caplog.clear()
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:  # anything else is a traceback
            runs.run_script(lambda: main(options))
        lines = [entry.getMessage() for entry in caplog.records if entry.levelname in ("WARNING", "ERROR")]
        out, err = capsys.readouterr()
        lines += err.splitlines()
        if script == "status":
            lines += out.partition("\n\n")[2].splitlines()
        if isinstance(end.value.code, str):
            lines += end.value.code.splitlines()
        return (1 if isinstance(end.value.code, str) else end.value.code), lines

    return told


def named(told, script, file, remedy):
    """Check that the script ends with 1 and one line that names file and remedy."""
    code, lines = told(script)
    lines = [line for line in lines if line != "nothing was submitted" and "damaged files were passed over" not in line]
    assert code == 1 and len(lines) == 1, (script, lines)
    assert file in lines[0] and remedy in lines[0], (script, lines)
    assert lines[0].isprintable()
