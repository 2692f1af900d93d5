"""Fine-tuning as it is typed: what is written, refused, done again and gone on with."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import transformers
from conftest import FAST, REGISTERS, assert_same_training, epochs, finish, record, run_of, start, weights

import evaluate
import finetune
from utils import metrics, model, runs
from utils.runs import RunError, run_paths

# ---- what it writes ----


def test_the_model_answers_with_registers_in_a_pipeline(train):
    run = train("--num-epochs=3")
    answer = transformers.pipeline("text-classification", model=str(run.models))("oh la la winter")
    assert answer[0]["label"] in REGISTERS
    config = json.loads((run.models / "config.json").read_text())
    assert config["id2label"] == {"0": "IN", "1": "OP", "2": "LY"}
    assert not run.checkpoints.exists()
    card = (run.models / "README.md").read_text()
    validated = epochs(run)[record(run)["best_epoch"] - 1]["validation"]
    assert np.sum(validated["confusion"]) == sum(record(run)["corpus"]["validation"]["en"].values())
    assert f"| accuracy (micro-F1) | {validated['micro_f1']:.3f} | " in card and "| IN | information |" in card
    umask = os.umask(0)
    os.umask(umask)
    for path in run.models.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask, path
        assert path.suffix not in (".bin", ".pt", ".pth"), "no pickled file in a finished model"


FAST_SETTINGS = {"learning_rate": 1e-3, "patience": 0, "max_length": 64, "seed": 42, "batch_size": 16, "processes": 1}


def test_run_json_tells_everything_that_decided_the_weights(train, corpus):
    run = train("--num-epochs=1")
    found = record(run)
    assert found["settings"] | FAST_SETTINGS | {"frozen_layers": 0.5} == found["settings"]
    assert found["weights_sha256"] == weights(run) == found["model_files"]["model.safetensors"]["sha256"]
    assert found["corpus"]["files"]["train/en.tsv"] == runs.sha256_of(corpus / "corpus" / "train" / "en.tsv")
    assert found["settings"]["train/en.tsv"] == found["corpus"]["files"]["train/en.tsv"]
    assert set(found["corpus"]["files"]) == {"train/en.tsv", "test/en.tsv", "test/fr.tsv"}
    assert sum(found["corpus"]["train"]["en"].values()) == 80
    assert list(found["corpus"]["validation"]["en"].values()) in ([7, 7, 6], [7, 6, 7], [6, 7, 7])
    assert found["versions"]["torch"] == torch.__version__
    assert found["peak_memory_bytes"] > 1e8 and found["seconds"] > 0 and found["devices"] == [model.describe_device()]
    assert found["optimiser"]["weight_decay"] == 0.0 and found["optimiser"]["max_grad_norm"] == 1.0


def test_the_defaults_follow_the_texts_and_the_rate(train, monkeypatch):
    def rate(*rates):
        return finetune.parse_args(["--model-name=tiny", "--train-langs=en", *rates])[0].head_rate

    assert rate() == 5e-4 and rate("--learning-rate=1e-5") == pytest.approx(1e-4)
    assert rate("--learning-rate=2e-3") == 2e-3 and rate("--head-rate=1e-5") == 1e-5
    for shown, expected in ((330, 5), (100, 3)):  # 80 training texts; 3 at least
        monkeypatch.setattr(finetune, "TEXTS_SHOWN", shown)
        assert record(train("--overwrite"))["epochs"] == expected
    monkeypatch.setattr(finetune, "TEXTS_SHOWN", 10**6)
    monkeypatch.setattr(finetune, "MOST_EPOCHS", 4)
    assert record(train("--overwrite"))["epochs"] == 4


def test_a_model_that_has_learnt_nothing_says_so(train, caplog):
    for options, learnt in ((["--num-epochs=1", "--learning-rate=1e-9"], False), (["--num-epochs=6"], True)):
        caplog.clear()
        run = train(*options, subfolder=f"learnt-{learnt}")
        assert record(run)["beats_largest_register"] == learnt
        assert (metrics.NOTHING_LEARNT in caplog.text) != learnt
        assert (metrics.NOTHING_LEARNT in (run.models / "README.md").read_text()) != learnt


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_log_says_what_computes_and_what_is_trained(train, pretrained, caplog):
    caplog.set_level("INFO")
    train("--num-epochs=1", f"--checkpoint={pretrained}", "--max-length=6")
    assert re.search(
        r"training on CPU, 1 thread in fp32, at most 1 epochs; the embeddings and 1 of 2 layers are", caplog.text
    )
    shares = [float(share) for share in re.findall(r"([\d.]+) % of the", caplog.text)]
    assert 50 < shares[0] <= 100 and 0 < shares[-1] < 60  # longer texts; weights that are trained


# ---- run again ----


def test_a_finished_run_is_not_trained_again(project, corpus):
    command = ["finetune.py", "--model-name=tiny", "--num-epochs=1", *FAST, "--train-langs"]
    finish(start(project, *command, "en", "fr", corpus=corpus))
    began = time.monotonic()
    out = finish(start(project, *command, "en-fr", corpus=corpus, variables={"CUDA_VISIBLE_DEVICES": ""}))
    assert "trained already" in out and time.monotonic() - began < 20  # it loads no model


def test_other_options_or_another_corpus_are_refused_by_name(train, corpus):
    run = train("--num-epochs=1")
    before = weights(run)
    train("--num-epochs=1", "--batch-size=4", "--gradient-accumulation=4", "--threads=1", "--cpu")  # nothing to do
    with pytest.raises(RunError, match="num_epochs was 1, is now 2"):
        train("--num-epochs=2")
    with open(corpus / "corpus" / "train" / "en.tsv", "a", encoding="utf-8") as file:
        file.write("IN	one more text\n")
    with pytest.raises(RunError, match=r"train/en\.tsv was [0-9a-f]{12}…, is now"):
        train("--num-epochs=1")
    assert weights(run) == before
    train("--num-epochs=2", "--overwrite")
    assert len(epochs(run)) == 2


def test_a_model_whose_record_is_gone_is_not_overwritten_unasked(train):
    run = train("--num-epochs=1")
    (run.outputs / "run.json").unlink()
    with pytest.raises(RunError, match="run.json is missing"):
        train("--num-epochs=1")
    assert (run.models / "model.safetensors").is_file()


def all_files(run):
    files = [path for folder in (run.outputs, run.models) for path in folder.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files}


def test_nothing_is_removed_before_everything_is_checked(train, monkeypatch):
    run = train("--num-epochs=1")
    runs.write_json(run.scores("xx"), {})
    before = all_files(run)
    refused = ["--max-length=5120", "--precision=fp16", "--checkpoint=/nowhere/at-all", "--validation-size=0.001"]
    for option in refused[torch.cuda.is_available() :]:
        with pytest.raises(RunError) as error:
            train("--overwrite", "--num-epochs=1", option)
        assert "\n" not in str(error.value) and all_files(run) == before, option
    with monkeypatch.context() as patch, pytest.raises(RunError, match="free on the disk"):
        patch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0})())
        train("--overwrite", "--num-epochs=1")
    assert all_files(run) == before
    train("--overwrite", "--num-epochs=1", "--seed=1")
    assert {path.name for path in run.outputs.rglob("*")} == {"run.json", "train.json", ".lock"}


def test_checkpoints_may_be_a_link_to_another_disk(train, tmp_path):
    (tmp_path / "scratch").mkdir()
    run = run_paths("tiny", ["en"])
    run.models.mkdir(parents=True)
    run.checkpoints.symlink_to(tmp_path / "scratch")
    for left in ("file", "checkpoint-7/file"):
        train("--num-epochs=1")
        assert record(run) and not list((tmp_path / "scratch").iterdir()) and run.checkpoints.is_symlink()
        runs.write_text(run.checkpoints / left, "")
    train("--num-epochs=1")  # what a finished training has left is removed
    assert not list((tmp_path / "scratch").iterdir())


def test_another_start_model_under_the_same_name_is_another_training(train, pretrained):
    options = ["--num-epochs=1", f"--checkpoint={pretrained}"]
    run = train(*options)
    train(*options)
    start = runs.sha256_of(pretrained / "model.safetensors")
    assert record(run)["settings"]["start_weights"] == start and record(run)["start_revision"] == ""
    other = transformers.BertModel.from_pretrained(pretrained)
    other.embeddings.word_embeddings.weight.data += 1
    other.save_pretrained(pretrained)
    with pytest.raises(RunError, match=f"start_weights was {start[:12]}…, is now"):
        train(*options)
    shutil.rmtree(pretrained)  # a finished training needs its start no more
    train(*options)
    with pytest.raises(RunError, match="neither a folder"):
        train(*options, subfolder="other")


def test_the_languages_of_the_start_model_are_trained_on(train, corpus):
    first = train("--num-epochs=1")
    second = train("--num-epochs=1", f"--checkpoint={first.models}", model_name="second", langs=("fr",))
    third = train("--num-epochs=1", f"--checkpoint={second.models}", model_name="third", langs=("fr",))
    assert [record(run)["start_langs"] for run in (first, second, third)] == [[], ["en"], ["en", "fr"]]
    names = ["--model-name=second", "--train-langs=fr", f"--corpus-path={corpus}", "--threads=1"]
    assert evaluate.main([*names, "--eval-lang", "en"]) == 0
    assert json.loads(second.scores("en").read_text())["zero_shot"] is False
    assert "its start model was fine-tuned on texts in en" in (second.models / "README.md").read_text()
    assert "start model" not in (first.models / "README.md").read_text()


def test_a_copy_that_was_ended_halfway_is_neither_recorded_nor_kept(train, monkeypatch):
    finish = finetune.finish

    def again(args, run, *others):
        runs.write_text(run.models / ".model.safetensors.12345678.tmp", "half")
        finish(args, run, *others)

    monkeypatch.setattr(finetune, "finish", again)
    run = train("--num-epochs=1")
    assert set(record(run)["model_files"]) == {path.name for path in run.models.iterdir()} - {"README.md"}
    assert not any(name.endswith(".tmp") for name in record(run)["model_files"])


def test_a_model_that_does_not_load_from_its_folder_keeps_its_checkpoints(train, monkeypatch):
    copy = runs.copy_file
    with monkeypatch.context() as patch, pytest.raises(RunError, match="a file of its tokenizer is missing"):
        patch.setattr(runs, "copy_file", lambda source, target: "tokenizer" in source.name or copy(source, target))
        train("--num-epochs=1")
    run = run_paths("tiny", ["en"])
    assert list(run.checkpoints.glob("checkpoint-*")) and not (run.outputs / "run.json").exists()
    train("--num-epochs=1")
    assert record(run) and not run.checkpoints.exists()


# ---- refused ----


@pytest.mark.parametrize(
    "changes",
    [
        {"model-name": "nobody-knows"}, {"model-name": "../tiny", "checkpoint": "x"}, {"train-langs": "../en"},
        {"train-langs": "en-en"}, {"subfolder": "../x"}, {"subfolder": "/tmp/x"}, {"subfolder": "pretrained"},
        {"batch-size": "0"}, {"validation-size": "1"}, {"learning-rate": "nan"}, {"warmup": "1"}, {"seed": "-1"},
        {"model-name": None}, {"train-langs": None},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_use_ends_with_2(changes, write_corpus, capsys):
    corpus = write_corpus({"train/en": [("IN", "a")]})
    words = {"model-name": "tiny", "train-langs": "en", "corpus-path": str(corpus)} | changes
    with pytest.raises(SystemExit) as end:
        finetune.main([f"--{name}={value}" for name, value in words.items() if value is not None])
    assert end.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_several_slurm_tasks_without_torchrun_are_refused(shared_project, tmp_path):
    slurmstepd = shutil.copy("/bin/bash", tmp_path / "slurmstepd")  # what starts the tasks of a step
    variables = {**os.environ, "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "REGISTER_CORPUS": str(tmp_path)}
    command = f"{sys.executable} finetune.py --model-name=tiny --train-langs=en; exit $?"
    for starter, code in ((slurmstepd, 2), ("bash", 1)):  # by hand, in a terminal of such a step: as ever
        done = subprocess.run(
            [starter, "-c", command], cwd=shared_project, env=variables, capture_output=True, text=True
        )
        assert done.returncode == code and ("torchrun" in done.stderr) == (code == 2), done.stderr


@pytest.mark.parametrize(
    ("langs", "rows", "told"),
    [
        *((lang, [("IN", "a")], rf"train/{lang}\.tsv: .*did you mean tr\?") for lang in ("TR", "turkish", "trk")),
        ("tr", [("IN", "a"), ("XX", "b")], r"tr\.tsv:2: expected REGISTER<tab>TEXT"),
    ],
)
def test_what_does_not_fit_in_the_corpus_is_told_before_the_model_is_looked_for(
    root, write_corpus, monkeypatch, langs, rows, told
):
    corpus = write_corpus({"train/tr": rows, "train/en": [("IN", "a")], "test/tr": [("IN", "b")]})
    (corpus / "info" / "lang2name.json").write_text('{"tr": "turkish", "en": "english", "id": "indonesian"}')
    monkeypatch.setattr("utils.download_model.find_checkpoint", lambda checkpoint: pytest.fail("the model comes last"))
    with pytest.raises(RunError, match=told):
        finetune.main(["--model-name=xlmr", f"--corpus-path={corpus}", "--train-langs", langs])


# ---- memory that runs out ----

LIMITED = """
import importlib, resource, sys
megabytes, script, *sys.argv[1:] = sys.argv[1:]
main = importlib.import_module(script).main
from utils import model, runs, training  # with their libraries, which the limit leaves alone
model.tokens_at_once = training.most_tokens = lambda: 16384  # as on a GPU
size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (size * 1024 + int(megabytes) * 2**20, -1))
sys.argv[0] = f"{script}.py"
runs.run_script(main)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: the limit is the machine's memory")
def test_the_advice_is_right_and_finished_epochs_are_kept(project, write_corpus, no_dropout):
    """A batch of 64 texts of more than 256 tokens takes the tiny model some 900 MB."""
    rows = [(register, f"{'a b c d e f g h ' * 40} {register} {i}") for i in range(28) for register in REGISTERS]
    corpus = write_corpus({"train/en": [(r, f"{text} train") for r, text in rows], "test/en": rows * 6})
    names = ["--model-name=t", "--train-langs=en", "--precision=fp32"]
    common = [*names, f"--checkpoint={no_dropout}", "--num-epochs=8", "--max-length=256", "--learning-rate=1e-3"]
    whole, small = (run_of(project, subfolder, "t-en") for subfolder in "ws")
    finish(start(project, "finetune.py", *common, "--batch-size=64", "--subfolder=w", corpus=corpus))

    training = [*common, "--subfolder=s"]
    process = start(project, "finetune.py", *training, "--batch-size=64", corpus=corpus)
    while not list(small.checkpoints.glob("checkpoint-*/hashes.json")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()

    options, tries, told = ["--batch-size=64"], 0, ""
    while True:
        process = start(project, "-c", LIMITED, "500", "finetune", *training, *options, corpus=corpus)
        _, err = process.communicate(timeout=300)
        told += err
        if process.returncode == 0:
            break
        tries += 1
        assert process.returncode == 1 and "Traceback" not in err, err
        assert err.splitlines()[-1].startswith("finetune.py: out of memory; ")
        assert list(small.checkpoints.glob("checkpoint-*/hashes.json")), "a finished epoch was lost"
        options = [word for option in re.findall(r"--[a-z-]+ \d+", err.splitlines()[-1]) for word in option.split()]
    assert 0 < tries < 7 and "going on from checkpoint-" in told
    assert record(small)["settings"]["batch_size"] * record(small)["settings"]["gradient_accumulation"] == 64
    assert_same_training(whole, small)

    evaluation = ["-c", LIMITED, "500", "evaluate", *names, "--subfolder=w", "--eval-lang=en"]
    out = finish(start(project, *evaluation, "--batch-size=504", corpus=corpus), expect=1)
    assert "en not evaluated: out of memory; a smaller --batch-size" in out and "Traceback" not in out
    finish(start(project, *evaluation, "--batch-size=8", corpus=corpus))


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (["--batch-size=6", "--gradient-accumulation=4"], "--batch-size 3 --gradient-accumulation 8 needs less"),
        (["--max-length=512"], "--batch-size 2 --gradient-accumulation 8"),  # a CPU computes 4 of 512 tokens at once
        (["--batch-size=1"], "--max-length 32 --overwrite needs less, and is another training"),
    ],
)
def test_the_advice_keeps_the_effective_batch_where_it_can(train, monkeypatch, options, advice):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(finetune, "train_run", no_memory)
    with pytest.raises(RunError, match=f"out of memory; {advice}"):
        train(*options)
