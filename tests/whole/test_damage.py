"""Damaged models and checkpoints, corpora that do not fit: one line, or gone round; nothing unsafe is loaded."""

import errno
import json
import os
import pickle
import shutil

import pytest
import torch
import transformers
from conftest import FAST, result, run_of
from damage import NOT_JSON, named, names
from safetensors.torch import load_file, save_file

import finetune
from utils import runs
from utils.runs import RunError, run_paths
from utils.training import checkpoints

pytest_plugins = ["damage"]

ANEW = "finetune.py --overwrite trains it anew"
FETCH = "to fetch it anew, type: python utils/download_model.py tiny"


def alter(path):
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def remove(path):
    path.unlink()


DAMAGES = [alter, cut, remove]
MODEL = ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", MODEL)
def test_a_finished_model_is_the_one_that_was_trained(copy, told, file, damage):
    damage(copy / "models" / "tiny-en" / file)
    named(told, "anew", f"models/tiny-en/{file}", ANEW)
    if damage is alter:  # by its size it is the same, and nothing is read of it
        assert told("finetune") == (0, [])
    else:
        for script in ("finetune", "plan"):
            named(told, script, f"models/tiny-en/{file}", ANEW)
    assert {path.stem for path in (copy / "outputs" / "tiny-en" / "eval").iterdir()} == {"en", "fr"}


def test_a_model_of_an_earlier_version_is_known_by_its_weights_alone(copy, told):
    path = copy / "outputs" / "tiny-en" / "run.json"
    record = json.loads(path.read_text())
    files = record.pop("model_files")
    path.write_text(json.dumps(record))
    for script in ("finetune", "anew"):
        assert told(script) == (0, [])
    alter(copy / "models" / "tiny-en" / "model.safetensors")
    named(told, "anew", "models/tiny-en/model.safetensors", ANEW)
    for other in ([], None, {"config.json": 1}, {**files, "model.safetensors": {"bytes": 1, "sha256": "another"}}):
        path.write_text(json.dumps({**record, "model_files": other}))
        for script in ("finetune", "anew"):
            named(told, script, "outputs/tiny-en/run.json", "finetune.py --overwrite")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", MODEL)
def test_a_damaged_pretrained_model_is_never_trained_from_and_is_fetched_anew(copy, told, file, damage):
    folder = copy / "models" / "pretrained" / "tests--sample-corpus"
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    damage(folder / file)
    named(told, "new", f"models/pretrained/tests--sample-corpus/{file}", FETCH)
    assert not (copy / "outputs" / "new" / "tiny-en" / "run.json").exists()
    if (file, damage) == ("model.safetensors", alter):
        code, lines = told("download")
        assert code == 0 and len(lines) == 1 and "fetching it anew" in lines[0]
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


# ---- folders of the user's own ----


@pytest.fixture
def own(copy, tiny):
    return shutil.copytree(tiny, copy / "own", ignore=shutil.ignore_patterns("complete.json"))


def refused(own, *expected):
    with pytest.raises(RunError) as error:
        finetune.main(["--num-epochs=1", *FAST, *names(own, "own"), f"--checkpoint={own}"])
    message = str(error.value)
    assert not runs.UNPRINTABLE.search(message) and all(word in message for word in expected), message


@pytest.mark.parametrize("damage", NOT_JSON)
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_folder_that_does_not_load_is_one_line(own, file, damage):
    (own / file).write_bytes(NOT_JSON[damage]((own / file).read_bytes()))
    refused(own, "own", ": expected ", "; fetch or copy it anew")


@pytest.mark.parametrize("content", ["[]", "null", "7", '"x"', "{}", '{"model_type": []}', '{"model_type": "x"}'])
def test_a_config_of_another_type_is_one_line(own, content):
    (own / "config.json").write_text(content)
    refused(own, "own", ": expected ", "; fetch or copy it anew")


def test_weights_that_do_not_load_or_are_not_all_there_are_one_line(own):
    weights = own / "model.safetensors"
    tensors = load_file(weights)
    for damage in ("empty", "cut short", "zeros", "not UTF-8"):
        content = weights.read_bytes()
        weights.write_bytes(NOT_JSON[damage](content))
        refused(own, "own: expected ", "; fetch or copy it anew")
        weights.write_bytes(content)
    lacking = {name: tensor for name, tensor in tensors.items() if "layer.1." not in name}
    save_file(lacking, weights, {"format": "pt"})
    n_lacking = len(tensors) - len(lacking)
    refused(own, f"found none that fit for {n_lacking} of them", "encoder.layer.1.")  # not drawn at random
    other = {f"another.{name}": tensor for name, tensor in tensors.items()}
    save_file(other, weights, {"format": "pt"})
    refused(own, "expected all weights of the model that config.json describes")
    save_file({name: tensor[:1] for name, tensor in tensors.items()}, weights, {"format": "pt"})
    refused(own, f"found none that fit for {len(tensors)} of them")


class Bomb:
    def __reduce__(self):
        return exec, ("open('pickle-was-loaded', 'w')",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl"])
def test_pickled_weights_are_refused_by_name(own, name, monkeypatch):
    monkeypatch.chdir(own)
    (own / "model.safetensors").unlink()
    (own / name).write_bytes(pickle.dumps(Bomb()))
    torch.save(Bomb(), own / "other.bin")
    refused(own, "expected model.safetensors, found ", name, "pickled weights are never loaded")
    assert not (own / "pickle-was-loaded").exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "modeling_own.py"])
def test_code_of_a_checkpoint_is_refused_by_name_and_never_run(own, file, monkeypatch):
    monkeypatch.chdir(own)
    code = "open('code-was-run', 'w')\n"
    if file == "modeling_own.py":
        (own / file).write_text(code)
        refused(own, file)
    else:
        auto_map = {"AutoModelForSequenceClassification": "own.M", "AutoTokenizer": ["own.T", None]}
        (own / file).write_text(json.dumps({**json.loads((own / file).read_text()), "auto_map": auto_map}))
        refused(own, f"auto_map in {file}", "never run")
        (own / "own.py").write_text(code)
        refused(own, f"auto_map in {file}", "own.py")
    assert not (own / "code-was-run").exists()


# ---- checkpoints ----


@pytest.fixture(scope="module")
def unfinished(finished):
    """Return the checkpoints of a training whose epochs are over, before its end, and what its end gives."""
    with pytest.MonkeyPatch.context() as patch:
        from damage import stand_in

        stand_in(patch, finished)
        patch.setattr(finetune, "finish", lambda *_: None)  # as if it were killed just then
        assert finetune.main(["--num-epochs=2", *FAST, *names(finished, "unfinished")]) == 0
        run = run_paths("tiny", ["en"], "unfinished")
    assert len(list(run.checkpoints.glob("checkpoint-*"))) == 2
    return result(run_of(finished))


def test_a_damaged_checkpoint_of_any_kind_gives_way_to_the_one_before(unfinished, finished, tmp_path):
    checkpoints_of = run_of(finished, "unfinished").checkpoints
    first, newest = sorted(checkpoints_of.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    files = sorted(path.name for path in newest.iterdir())
    assert {"hashes.json", "optimizer.pt", "model.safetensors", "trainer_state.json"} < set(files)
    others = {
        "hashes.json": [lambda path, content=content: path.write_text(content) for content in
                        ("{}", "[]", "null", "7", '{"config.json": 1}', '{"config.json": "x"}', "[" * 100_000)],
    }  # fmt: skip
    for file in files:
        for damage in [alter, remove, *others.get(file, [cut])]:  # hashes.json without its line end is whole
            run = run_of(tmp_path)
            shutil.copytree(checkpoints_of, run.checkpoints)
            (run.checkpoints / "checkpoint-x").mkdir()
            (run.checkpoints / "checkpoint-99999").write_text("a file, and not a folder")
            damage(run.checkpoints / newest.name / file)
            assert checkpoints.last_checkpoint(run) == run.checkpoints / first.name, file
            assert not (run.checkpoints / newest.name).exists()
            shutil.rmtree(run.models)


def test_the_training_goes_on_from_the_one_before_and_ends_the_same(unfinished, copy, caplog):
    run = run_of(copy, "unfinished")
    newest = max(run.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    alter(newest / "optimizer.pt")
    assert finetune.main(["--num-epochs=2", *FAST, *names(copy, "unfinished")]) == 0
    assert f"{newest.name} is not whole" in caplog.text
    assert result(run) == unfinished


@pytest.mark.parametrize("damage", NOT_JSON)
def test_a_damaged_record_of_the_beginning_is_named(unfinished, copy, told, damage):
    path = run_of(copy, "unfinished").checkpoints / "started.json"
    path.write_bytes(NOT_JSON[damage](path.read_bytes()))
    named(told, "unfinished", "tiny-en/checkpoints/started.json", "finetune.py --overwrite starts anew")


@pytest.mark.parametrize("key", ["settings", "texts_sha256", "precision"])
def test_the_record_of_the_beginning_by_another_version_is_named(unfinished, copy, told, key):
    path = run_of(copy, "unfinished").checkpoints / "started.json"
    started = json.loads(path.read_text())
    for value in (None, 7, [], "fp64" if key == "precision" else None):
        path.write_text(json.dumps({**started, key: value}))
        named(told, "unfinished", "started.json: expected " + key, "finetune.py --overwrite starts anew")
    del started[key]
    path.write_text(json.dumps(started))
    named(told, "unfinished", "written by another version", "finetune.py --overwrite starts anew")


# ---- corpora ----


def test_a_corpus_with_other_registers_or_changed_texts_is_named(copy, told):
    registers = copy / "corpus" / "info" / "reg_abbv.json"
    registers.write_text('{"OP": "opinion", "IN": "information"}')
    named(told, "evaluate", "reg_abbv.json: expected the registers of the model, IN OP, found OP IN", "--corpus-path")
    named(told, "finetune", "registers was IN OP, is now OP IN", "--overwrite")
    named(told, "plan", "registers was IN OP, is now OP IN", "--overwrite")
    registers.write_text('{"IN": "information", "OP": "opinion"}')
    with open(copy / "corpus" / "corpus" / "train" / "en.tsv", "a") as file:
        file.write("IN\tone more\n")
    named(told, "finetune", "train/en.tsv was ", "--overwrite")
    with open(copy / "corpus" / "corpus" / "test" / "en.tsv", "a") as file:
        file.write("IN\tone more\n")
    code, lines = told("evaluate")
    assert code == 0 and len(lines) == 1
    assert "test/en.tsv has changed since the model was trained" in lines[0]


def test_a_list_of_models_with_hostile_names_is_refused(copy, told):
    for content in ('{"../x": "y"}', '{"a b": "y"}', '{"\\u001b[31m": "y"}', '{"": "y"}', '{"a": 1}', '{"a": null}'):
        (copy / "model2chckpt.json").write_text(content)
        named(told, "finetune", "model2chckpt.json", "git checkout utils/model2chckpt.json")
    for checkpoint in ("..", ".", "/", "../x", "a/../b", "./", "./..", "a/b/c", "", "x" * 300, "a\\b", "\x1b[31m"):
        (copy / "model2chckpt.json").write_text(json.dumps({"tiny": checkpoint}))
        before = [path for path in sorted(copy.rglob("*")) if "new" not in path.parts]
        named(told, "new", ascii(checkpoint[:80]), "expected a folder with config.json, or a model of the")
        assert [path for path in sorted(copy.rglob("*")) if "new" not in path.parts] == before


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_a_checkpoint_that_cannot_be_read_just_now_is_not_removed(tmp_path, monkeypatch, number):
    run = runs.Run("tiny-en", tmp_path / "outputs", tmp_path / "models")
    for step in (10, 20):
        folder = run.checkpoints / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in checkpoints.PARTS:
            (folder / name).write_text("x")
        state = transformers.TrainerState(global_step=step, best_global_step=10, max_steps=40, num_train_epochs=4)
        state.save_to_json(str(folder / "trainer_state.json"))
        checkpoints.seal_checkpoint(folder)

    def fails(path):
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(runs, "sha256_of", fails)
        with pytest.raises(RunError, match=r"checkpoint-20: can't be read just now: .*; nothing was removed"):
            checkpoints.last_checkpoint(run)
    assert checkpoints.last_checkpoint(run) == run.checkpoints / "checkpoint-20"
