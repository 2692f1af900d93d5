"""Damaged records, results, models and checkpoints: one line with what mends it; nothing unsafe is ever loaded."""

import json
import pickle
import shutil

import pytest
import torch
from conftest import FAST, result, run_of
from damage import NOT_JSON, named, names, stand_in
from safetensors.torch import load_file, save_file

import finetune
from utils import runs, training
from utils.runs import RunError, run_paths

pytest_plugins = ["damage"]

pytestmark = pytest.mark.slow
OVERWRITE = "finetune.py --overwrite"
EVALUATE = "python evaluate.py --model-name tiny --train-langs en --eval-lang"
FETCHED = "models/pretrained/tests--sample-corpus"

# ---- records: file -> the scripts that read it, and the remedy that each must name ----

FILES = {
    "outputs/tiny-en/run.json": dict.fromkeys(
        ("finetune", "evaluate", "post_eval", "plan", "plan eval", "status"), OVERWRITE
    ),
    "outputs/tiny-en/eval/en.json": {"post_eval": f"{EVALUATE} en"},
    "outputs/tiny-en/train.json": {"status": OVERWRITE},
    "model2chckpt.json": dict.fromkeys(
        ("finetune", "evaluate", "plan", "plan eval", "download"), "git checkout utils/model2chckpt.json"
    ),
    f"{FETCHED}/complete.json": {"new": "python utils/download_model.py tiny"},
}


@pytest.mark.parametrize("file", FILES)
def test_what_is_no_json_is_named_by_every_script_that_reads_it(copy, told, file):
    path = copy / file
    whole = path.read_bytes()
    for damage in NOT_JSON.values():
        path.write_bytes(damage(whole))
        for script, remedy in FILES[file].items():
            named(told, script, file, remedy)


# ---- results ----


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


MODEL = ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]
each_damage = pytest.mark.parametrize("damage", [alter, cut, remove])


@each_damage
@pytest.mark.parametrize("file", MODEL)
def test_a_finished_model_is_the_one_that_was_trained(copy, told, file, damage):
    damage(copy / "models" / "tiny-en" / file)
    named(told, "anew", f"models/tiny-en/{file}", OVERWRITE)
    for script in ("finetune", "plan"):
        if damage is alter:  # by its size it is the same, and nothing is read of it
            assert told("finetune") == (0, [])
        else:
            named(told, script, f"models/tiny-en/{file}", OVERWRITE)
    assert {path.stem for path in (copy / "outputs" / "tiny-en" / "eval").iterdir()} == {"en", "fr"}


@each_damage
@pytest.mark.parametrize("file", MODEL)
def test_a_damaged_pretrained_model_is_never_trained_from_and_is_fetched_again(copy, told, file, damage):
    whole = {path.name: path.read_bytes() for path in (copy / FETCHED).iterdir()}
    damage(copy / FETCHED / file)
    named(told, "new", f"{FETCHED}/{file}", "python utils/download_model.py tiny")
    assert not (copy / "outputs" / "new" / "tiny-en" / "run.json").exists()
    if (file, damage) == ("model.safetensors", alter):
        assert told("download")[0] == 0
        assert {path.name: path.read_bytes() for path in (copy / FETCHED).iterdir()} == whole


@pytest.fixture
def own(copy, tiny):
    """Return a folder of the user's own."""
    return shutil.copytree(tiny, copy / "own", ignore=shutil.ignore_patterns("complete.json"))


def refused(own, *expected):
    with pytest.raises(RunError) as error:
        finetune.main(["--num-epochs=1", *FAST, *names(own, "own"), f"--checkpoint={own}"])
    message = str(error.value)
    assert not runs.UNPRINTABLE.search(message) and all(word in message for word in expected), message


OTHER_CONFIGS = ["[]", "null", "7", '"x"', "{}", '{"model_type": []}', '{"model_type": "x"}']


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_folder_that_does_not_load_is_one_line(own, file):
    whole = (own / file).read_bytes()
    for content in [damage(whole) for damage in NOT_JSON.values()] + [other.encode() for other in OTHER_CONFIGS]:
        if file == "config.json" or content not in map(str.encode, OTHER_CONFIGS):
            (own / file).write_bytes(content)
            refused(own, "own", "fetch or copy it")


def test_weights_that_do_not_load_or_are_not_all_there_are_one_line(own):
    path = own / "model.safetensors"
    whole, tensors = path.read_bytes(), load_file(path)
    for damage in ("empty", "cut short", "zeros", "not UTF-8"):
        path.write_bytes(NOT_JSON[damage](whole))
        refused(own, "own: ", "; fetch or copy it again")
    others = {  # not drawn at random
        "encoder.layer.1.": {name: tensor for name, tensor in tensors.items() if "layer.1." not in name},
        "weights of the model": {f"another.{name}": tensor for name, tensor in tensors.items()},
        "another shape": {name: tensor[:1].clone() for name, tensor in tensors.items()},
    }
    for told, other in others.items():
        save_file(other, path, {"format": "pt"})
        refused(own, told, "; fetch or copy it again")


class Bomb:
    def __reduce__(self):
        return exec, ("open('pickle-was-loaded', 'w')",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl"])
def test_pickled_weights_are_refused_by_name(own, name, monkeypatch):
    monkeypatch.chdir(own)
    (own / "model.safetensors").unlink()
    (own / name).write_bytes(pickle.dumps(Bomb()))
    torch.save(Bomb(), own / "other.bin")
    refused(own, name, "pickled weights are never loaded")
    assert not (own / "pickle-was-loaded").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "modeling_own.py"])
def test_code_of_a_checkpoint_is_refused_by_name_and_never_run(own, file, monkeypatch):
    monkeypatch.chdir(own)
    (own / "own.py").write_text("open('code-was-run', 'w')\n")
    if file == "modeling_own.py":
        (own / "own.py").rename(own / file)
        refused(own, file, "never run")
    else:
        auto_map = {"AutoModelForSequenceClassification": "own.M", "AutoTokenizer": ["own.T", None]}
        (own / file).write_text(json.dumps({**json.loads((own / file).read_text()), "auto_map": auto_map}))
        refused(own, f"auto_map in {file}", "own.py", "never run")
        (own / "own.py").unlink()
        refused(own, f"auto_map in {file}")
    assert not (own / "code-was-run").exists()


# ---- checkpoints ----


@pytest.fixture(scope="module")
def unfinished(finished):
    """Return what the end of a training gives whose epochs are over, and leave its checkpoints, from before its end."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, finished)
        patch.setattr(finetune, "finish", lambda *_: None)  # as if it were killed just then
        assert finetune.main(["--num-epochs=2", *FAST, *names(finished, "unfinished")]) == 0
        run = run_paths("tiny", ["en"], "unfinished")
    assert len(list(run.checkpoints.glob("checkpoint-*"))) == 2
    return result(run_of(finished))


def two_checkpoints(run):
    return sorted(run.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def test_a_damaged_checkpoint_of_any_kind_gives_way_to_the_one_before(unfinished, finished, tmp_path):
    checkpoints = run_of(finished, "unfinished").checkpoints
    first, newest = two_checkpoints(run_of(finished, "unfinished"))
    files = sorted(path.name for path in newest.iterdir())
    assert {"hashes.json", "optimizer.pt", "model.safetensors", "trainer_state.json"} < set(files)
    hashes = ["{}", "[]", "null", "7", '{"config.json": 1}', '{"config.json": "x"}', "[" * 100_000]
    others = {"hashes.json": [lambda path, content=content: path.write_text(content) for content in hashes]}
    for file in files:
        for damage in [alter, remove, *others.get(file, [cut])]:  # hashes.json without its line end is whole
            run = run_of(tmp_path)
            shutil.copytree(checkpoints, run.checkpoints)
            (run.checkpoints / "checkpoint-x").mkdir()
            (run.checkpoints / "checkpoint-99999").write_text("a file, and not a folder")
            damage(run.checkpoints / newest.name / file)
            assert training.last_checkpoint(run) == run.checkpoints / first.name, file
            assert not (run.checkpoints / newest.name).exists()
            shutil.rmtree(run.models)


# ---- corpora, lists of models ----
