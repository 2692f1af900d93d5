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


RUN, SCORES = "outputs/tiny-en/run.json", "outputs/tiny-en/eval/en.json"
READ = {  # the keys that a script reads
    (RUN, "post_eval"): "model_name train_langs weights_sha256 corpus corpus.path corpus.train subfolder",
    (RUN, "evaluate"): "model_name train_langs settings settings.registers settings.max_length weights_sha256",
    (RUN, "finetune"): "settings settings.processes weights_sha256 model_files",
    (RUN, "status"): "epochs validation validation.macro_f1 model_name train_langs",
    (SCORES, "post_eval"): "eval_lang registers counts metrics metrics.macro_f1 predictions_sha256 signature "
    "signature.test_sha256 signature.weights_sha256",
    (f"{FETCHED}/complete.json", "new"): "files",
}


@pytest.mark.parametrize(("file", "script"), READ)
def test_another_type_and_a_key_that_is_gone_are_named(copy, told, file, script):
    whole = (copy / file).read_text()
    for key in READ[file, script].split():
        for value in (..., None, {"x": 1}, [[]], "\x1b[31m", -1):
            content = json.loads(whole)
            *above, last = key.split(".")
            place = content
            for name in above:
                place = place[name]
            if value is ...:
                del place[last]
            elif type(place[last]) is type(value) or (type(place[last]), type(value)) == (float, int):
                continue
            else:
                place[last] = value
            (copy / file).write_text(json.dumps(content))
            code, lines = told(script)
            assert code == 1 and any(file in line for line in lines), (key, value, lines)
            assert all(line.isprintable() for line in lines)


# ---- results ----


@pytest.mark.parametrize("file", ["eval/en.json", "predictions/en.tsv"])
@pytest.mark.parametrize("damage", ["empty", "cut short", "zeros", "gone", "a digit"])
def test_a_damaged_result_is_named_and_evaluating_again_mends_it(copy, told, file, damage):
    path = copy / "outputs" / "tiny-en" / file
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "a digit":
        digit = max(position for position, byte in enumerate(whole) if byte in b"123456")
        path.write_bytes(whole[:digit] + bytes([whole[digit] + 1]) + whole[digit + 1 :])
    else:
        path.write_bytes(NOT_JSON[damage](whole))
    # a result that is not there is no fault, and the last digit of eval/en.json is a version's
    if damage != "gone" and (damage, file) != ("a digit", "eval/en.json"):
        named(told, "post_eval", file, f"{EVALUATE} en")
        assert told("other") == (0, [])  # of another language
    assert told("evaluate")[0] == 0
    if file != "eval/en.json":
        assert path.read_bytes() == whole
    assert told("post_eval") == (0, [])


def test_results_that_belong_elsewhere_are_named(copy, told):
    folder = copy / "outputs" / "tiny-en" / "eval"
    shutil.copy(folder / "fr.json", folder / "en.json")
    named(told, "post_eval", "eval/en.json: the scores are not those of en", f"{EVALUATE} en")
    assert told("evaluate")[0] == 0
    scores = json.loads((folder / "en.json").read_text())
    scores["signature"]["weights_sha256"] = "0" * 64
    (folder / "en.json").write_text(json.dumps(scores))
    named(told, "post_eval", "eval/en.json: the scores are not those of the model in run.json", f"{EVALUATE} en")


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


def test_the_training_goes_on_from_the_one_before_and_ends_the_same(unfinished, copy, caplog):
    run = run_of(copy, "unfinished")
    newest = two_checkpoints(run)[-1]
    alter(newest / "optimizer.pt")
    assert finetune.main(["--num-epochs=2", *FAST, *names(copy, "unfinished")]) == 0
    assert f"{newest.name} is incomplete" in caplog.text
    assert result(run) == unfinished


def test_a_damaged_record_of_the_start_is_named(unfinished, copy, told):
    path = run_of(copy, "unfinished").checkpoints / "started.json"
    whole = path.read_bytes()
    for damage in NOT_JSON.values():
        path.write_bytes(damage(whole))
        named(told, "unfinished", "tiny-en/checkpoints/started.json", OVERWRITE)
    for key in runs.STARTED:
        for value in (..., 7, None, "fp64" if key == "precision" else None):
            content = json.loads(whole) | {key: value}
            path.write_text(json.dumps({name: content[name] for name in content if content[name] is not ...}))
            named(told, "unfinished", f"started.json: expected {key}", OVERWRITE)


# ---- corpora, lists of models ----


def test_a_corpus_with_other_registers_or_changed_texts_is_named(copy, told):
    registers = copy / "corpus" / "info" / "reg_abbv.json"
    registers.write_text('{"OP": "opinion", "IN": "information"}')
    named(told, "evaluate", "reg_abbv.json: ", "--corpus-path")
    named(told, "finetune", "registers was IN OP, is now OP IN", "--overwrite")
    named(told, "plan", "registers was IN OP, is now OP IN", "--overwrite")
    registers.write_text('{"IN": "information", "OP": "opinion"}')
    for split in ("train", "test"):
        with open(copy / "corpus" / "corpus" / split / "en.tsv", "a") as file:
            file.write("IN\tone more\n")
    named(told, "finetune", "train/en.tsv was ", "--overwrite")
    code, lines = told("evaluate")
    assert code == 0 and len(lines) == 1 and "test/en.tsv has changed since the model was trained" in lines[0]


def test_a_list_of_models_with_hostile_names_is_refused(copy, told):
    for content in ('{"../x": "y"}', '{"a b": "y"}', '{"\\u001b[31m": "y"}', '{"": "y"}', '{"a": 1}', '{"a": null}'):
        (copy / "model2chckpt.json").write_text(content)
        named(told, "finetune", "model2chckpt.json", "git checkout utils/model2chckpt.json")
    for checkpoint in ("..", ".", "/", "../x", "a/../b", "./", "./..", "a/b/c", "", "x" * 300, "a\\b", "\x1b[31m"):
        (copy / "model2chckpt.json").write_text(json.dumps({"tiny": checkpoint}))
        before = [path for path in sorted(copy.rglob("*")) if "new" not in path.parts]
        named(told, "new", ascii(checkpoint[:80]), "config.json")
        assert [path for path in sorted(copy.rglob("*")) if "new" not in path.parts] == before
