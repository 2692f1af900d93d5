"""Damaged records, models and checkpoints: one line with what mends it; nothing unsafe is ever loaded."""

import io
import json
import pickle
import shutil

import pytest
import torch
from conftest import FAST, run_of
from safetensors.torch import load_file, save_file

import evaluate
import finetune
import post_eval
from utils import download_model, runs, training
from utils.cluster import grid
from utils.runs import RunError, run_paths

pytestmark = pytest.mark.slow
OVERWRITE = "finetune.py --overwrite"
FETCHED = "models/pretrained/tests--sample-corpus"
NAMES = ["--model-name=tiny", "--train-langs=en"]
TRAINING = [*NAMES, "--num-epochs=2", *FAST]
GRID = ["--models=tiny", "--langs=en", "--local", "--eval-langs=all"]
SCRIPTS = {
    "finetune": (finetune.main, TRAINING),
    "new": (finetune.main, [*TRAINING, "--subfolder=new"]),
    "evaluate": (evaluate.main, [*NAMES, "--eval-lang", "en", "--overwrite"]),
    "post_eval": (post_eval.main, ["--base-dir=outputs", "--ignore-cfm", "--ignore-tve", "--ignore-report"]),
    "plan": (grid.main, ["train", *GRID, "--then-evaluate", "--dry-run", "--", "--num-epochs=2", *FAST]),
    "download": (download_model.main, ["tiny"]),
}
NOT_JSON = {  # what makes any JSON file unreadable
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "not UTF-8": lambda content: b"\xff" + content,
    "nested too deep": lambda content: b"[" * 100_000,
    "not a number": lambda content: b'{"a": NaN}',
}


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


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny):
    """Return a folder with a trained run, evaluated on English, its corpus, and the fetched model."""
    folder = tmp_path_factory.mktemp("finished")
    for split, n in (("train", 20), ("test", 5)):
        texts = [f"{r}\t{r.lower()} {split} {i}\n" for i in range(n) for r in ("IN", "OP")]
        runs.write_text(folder / "corpus" / "corpus" / split / "en.tsv", "".join(texts))
    runs.write_text(folder / "corpus" / "info" / "reg_abbv.json", '{"IN": "information", "OP": "opinion"}')
    shutil.copytree(tiny, folder / "models" / "pretrained" / tiny.name)
    shutil.copy(download_model.MODEL2CHCKPT, folder / "model2chckpt.json")
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, folder)
        assert finetune.main(TRAINING) == evaluate.main([*NAMES, "--eval-lang=en"]) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path, monkeypatch):
    """Return a copy of that folder, to damage."""
    folder = shutil.copytree(finished, tmp_path / "copy", symlinks=True)
    stand_in(monkeypatch, folder)
    return folder


@pytest.fixture
def named(copy, capsys, caplog):
    """Return a function that checks that a script ends with 1 and a line that names a file and what mends it."""

    def named(script, file, remedy):
        main, options = SCRIPTS[script]
        caplog.clear()
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:  # anything else is a traceback
            runs.run_script(lambda: main(options))
        code, err = end.value.code, capsys.readouterr().err
        lines = [entry.getMessage() for entry in caplog.records] + err.splitlines() + str(code).splitlines()
        assert code == 1 or isinstance(code, str)
        (line,) = (line for line in lines if file in line and remedy in line)
        assert line.isprintable()

    return named


# ---- records: file -> the scripts that read it, and what mends it ----

FILES = {
    "outputs/tiny-en/run.json": (("finetune", "evaluate", "post_eval", "plan"), OVERWRITE),
    "outputs/tiny-en/eval/en.json": (("post_eval",), "evaluate.py --model-name tiny --train-langs en --eval-lang en"),
    "model2chckpt.json": (("finetune", "plan", "download"), "git checkout utils/model2chckpt.json"),
    f"{FETCHED}/complete.json": (("new",), "python utils/download_model.py tiny"),
}


@pytest.mark.parametrize("file", FILES)
def test_what_is_no_json_is_named_by_every_script_that_reads_it(copy, named, file):
    whole, (scripts, remedy) = (copy / file).read_bytes(), FILES[file]
    for damage in NOT_JSON.values():
        (copy / file).write_bytes(damage(whole))
        for script in scripts:
            named(script, file, remedy)


# ---- models ----


def alter(path):
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def remove(path):
    path.unlink()


@pytest.mark.parametrize("damage", [alter, cut, remove])
@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_damaged_model_is_neither_evaluated_nor_trained_from(copy, named, file, damage):
    damage(copy / "models" / "tiny-en" / file)
    named("evaluate", f"models/tiny-en/{file}", OVERWRITE)
    assert (copy / "outputs" / "tiny-en" / "eval" / "en.json").is_file()
    damage(copy / FETCHED / file)
    named("new", f"{FETCHED}/{file}", "python utils/download_model.py tiny")
    assert not (copy / "outputs" / "new" / "tiny-en" / "run.json").exists()
    assert download_model.main(["tiny"]) == 0 and finetune.main([*TRAINING, "--subfolder=new"]) == 0


@pytest.fixture
def own(copy, tiny):
    """Return a folder of the user's own."""
    return shutil.copytree(tiny, copy / "own", ignore=shutil.ignore_patterns("complete.json"))


def refused(own, *expected):
    with pytest.raises(RunError) as error:
        finetune.main([*TRAINING, "--subfolder=own", f"--checkpoint={own}"])
    message = str(error.value)
    assert not runs.UNPRINTABLE.search(message) and all(word in message for word in expected), message


OTHER_CONFIGS = ["[]", "{}", '{"model_type": "x"}']


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_folder_that_does_not_load_is_one_line(own, file):
    whole = (own / file).read_bytes()
    for content in [damage(whole) for damage in NOT_JSON.values()] + [other.encode() for other in OTHER_CONFIGS]:
        if file == "config.json" or content not in map(str.encode, OTHER_CONFIGS):
            (own / file).write_bytes(content)
            refused(own, "own")


def test_weights_that_do_not_load_or_are_not_all_there_are_one_line(own):
    path = own / "model.safetensors"
    whole, tensors = path.read_bytes(), load_file(path)
    for damage in ("empty", "cut short", "zeros", "not UTF-8"):
        path.write_bytes(NOT_JSON[damage](whole))
        refused(own, "own: ")
    others = {  # not drawn at random
        "encoder.layer.1": {name: tensor for name, tensor in tensors.items() if "layer.1." not in name},
        "own: ": {f"another.{name}": tensor for name, tensor in tensors.items()},
        "own": {name: tensor[:1].clone() for name, tensor in tensors.items()},
    }
    for told, other in others.items():
        save_file(other, path, {"format": "pt"})
        refused(own, told)


class Bomb:
    def __reduce__(self):
        return exec, ("open('pickle-was-loaded', 'w')",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pkl"])
def test_pickled_weights_are_refused_by_name(own, name, monkeypatch):
    monkeypatch.chdir(own)
    (own / "model.safetensors").unlink()
    (own / name).write_bytes(pickle.dumps(Bomb()))
    torch.save(Bomb(), own / "other.bin")
    refused(own, name)
    assert not (own / "pickle-was-loaded").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "modeling_own.py"])
def test_code_of_a_checkpoint_is_refused_by_name_and_never_run(own, file, monkeypatch):
    monkeypatch.chdir(own)
    (own / "own.py").write_text("open('code-was-run', 'w')\n")
    if file == "modeling_own.py":
        (own / "own.py").rename(own / file)
        refused(own, file)
    else:
        auto_map = {"AutoModelForSequenceClassification": "own.M", "AutoTokenizer": ["own.T", None]}
        (own / file).write_text(json.dumps({**json.loads((own / file).read_text()), "auto_map": auto_map}))
        refused(own, "auto_map", file)
    assert not (own / "code-was-run").exists()


# ---- checkpoints ----


@pytest.fixture(scope="module")
def unfinished(finished):
    """Return the two checkpoints of a training from just before its end."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, finished)
        patch.setattr(finetune, "finish", lambda *_: None)  # as if it were killed just then
        assert finetune.main([*TRAINING, "--subfolder=unfinished"]) == 0
        run = run_paths("tiny", ["en"], "unfinished")
    return run.checkpoints


def test_a_damaged_checkpoint_of_any_kind_gives_way_to_the_one_before(unfinished, tmp_path):
    first, newest = sorted(unfinished.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    files = sorted(path.name for path in newest.iterdir())
    assert {"hashes.json", "optimizer.pt", "model.safetensors", "trainer_state.json"} < set(files)
    hashes = ["{}", "[]", "null", "7", '{"config.json": 1}', '{"config.json": "x"}', "[" * 100_000]
    others = {"hashes.json": [lambda path, content=content: path.write_text(content) for content in hashes]}
    for file in files:
        for damage in [alter, remove, *others.get(file, [cut])]:  # hashes.json without its line end is whole
            run = run_of(tmp_path)
            shutil.copytree(unfinished, run.checkpoints)
            (run.checkpoints / "checkpoint-x").mkdir()
            (run.checkpoints / "checkpoint-99999").write_text("a file, and not a folder")
            damage(run.checkpoints / newest.name / file)
            assert training.last_checkpoint(run) == run.checkpoints / first.name, file
            assert not (run.checkpoints / newest.name).exists()
            shutil.rmtree(run.models)
