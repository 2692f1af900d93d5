"""Damaged records and results: each is named in one line with what mends it, by every script that reads it."""

import json
import shutil

import pytest
from damage import NOT_JSON, named

pytest_plugins = ["damage"]

OVERWRITE = "finetune.py --overwrite"
EVALUATE = "python evaluate.py --model-name tiny --train-langs en --eval-lang"
OTHER_TYPES = (None, [], {}, "x", 7, -1, 0.5, True, 10**30, [None], [[]], {"x": 1}, "\x1b[31m")


def changed(content, path):
    """Yield the JSON content, one key of which, along path, is gone or has another type."""
    *above, last = path
    for value in ("gone", *OTHER_TYPES):
        other = json.loads(json.dumps(content))
        place = other
        for key in above:
            place = place[key]
        if value == "gone":
            del place[last]
        elif type(place[last]) is type(value) or (type(place[last]), type(value)) == (float, int):
            continue
        else:
            place[last] = value
        yield other


FILES = {
    "outputs/tiny-en/run.json": {
        "finetune": OVERWRITE, "evaluate": "--overwrite", "post_eval": OVERWRITE, "plan": OVERWRITE,
        "plan eval": "--overwrite", "status": OVERWRITE,
    },
    "outputs/tiny-en/eval/en.json": {"post_eval": f"{EVALUATE} en"},
    "outputs/tiny-en/train.json": {"status": OVERWRITE},
    "model2chckpt.json": dict.fromkeys(
        ("finetune", "evaluate", "plan", "plan eval", "download"), "git checkout utils/model2chckpt.json"
    ),
    "models/pretrained/tests--sample-corpus/complete.json": {"new": "python utils/download_model.py tiny"},
}  # fmt: skip


@pytest.mark.parametrize("file", FILES)
def test_what_is_no_json_is_named_by_every_script_that_reads_it(copy, told, file):
    path = copy / file
    whole = path.read_bytes()
    for damage in NOT_JSON.values():
        path.write_bytes(damage(whole))
        for script, remedy in FILES[file].items():
            named(told, script, file, remedy)
    path.write_bytes(whole)


READ = {  # the keys that a script reads
    ("outputs/tiny-en/run.json", "post_eval"): ["model_name", "train_langs", "weights_sha256", "corpus", "corpus.path",
                                                "corpus.train", "subfolder"],
    ("outputs/tiny-en/run.json", "evaluate"): ["model_name", "train_langs", "settings", "settings.registers",
                                               "settings.max_length", "weights_sha256"],
    ("outputs/tiny-en/run.json", "finetune"): ["settings", "settings.processes", "weights_sha256"],
    ("outputs/tiny-en/run.json", "status"): ["epochs", "validation", "validation.macro_f1", "model_name",
                                             "train_langs"],
    ("outputs/tiny-en/eval/en.json", "post_eval"): ["eval_lang", "registers", "counts", "metrics", "metrics.macro_f1",
                                                    "predictions_sha256", "signature", "signature.test_sha256",
                                                    "signature.weights_sha256"],
    ("models/pretrained/tests--sample-corpus/complete.json", "new"): ["files"],
}  # fmt: skip


@pytest.mark.parametrize(("file", "script"), READ)
def test_another_type_and_a_key_that_another_version_lacks_are_named(copy, told, file, script):
    path = copy / file
    content = json.loads(path.read_text())
    tried = 0
    for key in READ[file, script]:
        for other in changed(content, key.split(".")):
            path.write_text(json.dumps(other))
            code, lines = told(script)
            assert code == 1 and any(file in line for line in lines), (key, other.get(key), lines)
            assert all(line.isprintable() for line in lines)
            tried += 1
    assert tried > 5
    del content[READ[file, script][0].split(".")[0]]
    path.write_text(json.dumps(content))
    if (file, script) != ("outputs/tiny-en/run.json", "evaluate"):
        assert any("written by another version of this tool; " in line for line in told(script)[1])


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
    assert told("evaluate")[0] == 0
    if file != "eval/en.json":
        assert path.read_bytes() == whole
    assert told("post_eval") == (0, [])


def test_results_that_belong_elsewhere_are_named(copy, told):
    folder = copy / "outputs" / "tiny-en"
    shutil.copy(folder / "eval" / "fr.json", folder / "eval" / "en.json")
    named(told, "post_eval", "eval/en.json: the scores are not those of en", f"{EVALUATE} en")
    assert told("evaluate")[0] == 0
    scores = json.loads((folder / "eval" / "en.json").read_text())
    scores["signature"]["weights_sha256"] = "0" * 64
    (folder / "eval" / "en.json").write_text(json.dumps(scores))
    named(told, "post_eval", "eval/en.json: the scores are not those of the model in run.json", f"{EVALUATE} en")


def test_a_damaged_result_of_one_language_does_not_stop_another(copy, told):
    folder = copy / "outputs" / "tiny-en"
    (folder / "eval" / "en.json").write_text("{")
    (folder / "eval" / "fr.json").unlink()
    assert told("other") == (0, [])
    named(told, "post_eval", "eval/en.json", f"{EVALUATE} en")
    assert told("evaluate") == told("post_eval") == (0, [])
