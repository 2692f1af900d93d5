"""Fine-tuning: it learns, it learns the same however it is cut or interrupted, and it refuses what it must."""

import json
import os
import random
import shutil
import stat
import time

import numpy as np
import pytest
import torch
from conftest import REGISTERS, SAMPLE_CORPUS, finish, start
from safetensors.torch import load_file
from transformers import set_seed

import evaluate
import finetune
from utils import classifier, corpus_load, runs, trainer
from utils.runs import RunError, run_paths

FAST = ["--max-length=64", "--learning-rate=1e-3", "--patience=0"]


def words(register, i):
    """A text whose register shows in its words only, and differs from the others of the register."""
    marks = {"IN": "is a kind of", "OP": "we should never", "LY": "oh la la"}
    return f"{marks[register]} {['bread', 'river', 'bicycle', 'library', 'garden', 'winter'][i % 6]} {i}"


@pytest.fixture
def corpus(write_corpus):
    train = [(register, words(register, i)) for i in range(34) for register in REGISTERS][:100]
    test = [(register, words(register, i)) for i in range(100, 110) for register in REGISTERS]
    return write_corpus({"train/en": train, "train/fr": train[:60], "test/en": test, "test/fr": test})


@pytest.fixture
def train(root, corpus, tiny):
    """Return a function that fine-tunes in this process, and gives the run's folders back."""

    def train(*options, model_name="tiny", langs=("en",), subfolder="", expect=0):
        names = [f"--model-name={model_name}", "--train-langs", *langs, f"--subfolder={subfolder}"]
        code = finetune.main([*names, f"--corpus-path={corpus}", f"--checkpoint={tiny}", *FAST, *options])
        assert code == expect
        return run_paths(model_name, list(langs), subfolder)

    return train


def weights(run):
    return runs.sha256_of(run.models / "model.safetensors")


def record(run):
    return json.loads((run.outputs / "run.json").read_text())


def epochs(run):
    return json.loads((run.outputs / "train.json").read_text())


def without_times(records):
    timed = ("seconds", "validation_seconds", "texts_per_second", "tokens_per_second")
    return [{key: value for key, value in entry.items() if key not in timed} for entry in records]


# ---- it learns ----


def sample_rows(split):
    texts = corpus_load.read_file(SAMPLE_CORPUS, split, "en", corpus_load.load_registers(SAMPLE_CORPUS)).texts
    return [(text.register, text.text) for text in texts]


def test_it_memorises_50_texts(root, write_corpus, tiny):
    """The check that every text keeps its own label, from the file through the loss to the scores."""
    registers = corpus_load.load_registers(SAMPLE_CORPUS)
    corpus = write_corpus({"train/en": sample_rows("train")[:50]}, registers)
    tokenizer, model = classifier.load_tokenizer(tiny), classifier.load_classifier(tiny, list(registers))
    texts = corpus_load.read_file(corpus, "train", "en", registers).texts
    fifty = corpus_load.tokenize(texts, tokenizer, 128, list(registers))
    args, run = finetune.parse_args(["--model-name=tiny", "--train-langs=en", "--learning-rate=2e-3", "--batch-size=8"])
    trainer.train(run, model, tokenizer, fifty, fifty, args, num_epochs=40, precision="fp32", resume_from=None)
    assert len(fifty) == 50
    assert max(entry["validation"]["macro_f1"] for entry in epochs(run)) == 1.0


def test_shuffled_labels_give_chance(root, write_corpus, tiny):
    registers = corpus_load.load_registers(SAMPLE_CORPUS)
    rows, test = sample_rows("train"), sample_rows("test")
    labels = [register for register, _ in rows]
    random.Random(1).shuffle(labels)
    accuracy = {}
    for name, train_rows in (
        ("right", rows),
        ("shuffled", [(label, text) for label, (_, text) in zip(labels, rows, strict=True)]),
    ):
        corpus = write_corpus({"train/en": train_rows, "test/en": test}, registers)
        names = [f"--model-name={name}", "--train-langs=en", f"--corpus-path={corpus}"]
        learning = ["--num-epochs=20", "--learning-rate=2e-3", "--batch-size=8", "--max-length=128"]
        assert finetune.main([*names, f"--checkpoint={tiny}", *learning]) == 0
        assert evaluate.main([*names, "--eval-lang=en"]) == 0
        scores = json.loads(run_paths(name, ["en"]).scores("en").read_text())
        accuracy[name] = scores["metrics"]["micro_f1"]
    assert accuracy["right"] > 0.5
    assert accuracy["shuffled"] < 0.35  # the largest register has 0.15 of the test texts


def test_the_best_epoch_by_validation_is_kept(train):
    run = train("--num-epochs=6", "--learning-rate=3e-3")
    scores = [entry["validation"]["macro_f1"] for entry in epochs(run)]
    assert [entry["epoch"] for entry in epochs(run)] == [1, 2, 3, 4, 5, 6]
    assert record(run)["best_epoch"] == scores.index(max(scores)) + 1
    assert record(run)["validation"] == epochs(run)[record(run)["best_epoch"] - 1]["validation"]
    shorter = train("--num-epochs=6", "--learning-rate=3e-3", "--patience=1", subfolder="patience")
    since_best = len(epochs(shorter)) - record(shorter)["best_epoch"]
    assert len(epochs(shorter)) == 6 or since_best == 1


def test_an_epochs_loss_is_the_mean_over_its_texts_and_epochs_are_in_order(train, tiny, tmp_path, corpus):
    """Pitfalls: the last batch's loss shown as the epoch's; epochs sorted as text, 1 10 11 2."""
    no_dropout = copy_without_dropout(tiny, tmp_path)
    run = train("--num-epochs=11", "--learning-rate=1e-12", f"--checkpoint={no_dropout}")  # nothing is learnt
    assert [entry["epoch"] for entry in epochs(run)] == list(range(1, 12))
    registers = list(REGISTERS)
    texts = corpus_load.load_training_texts(
        corpus, ["en"], registers, validation_size=0.2, seed=42, all_texts=False
    ).train
    set_seed(42)
    model, tokenizer = classifier.load_classifier(no_dropout, registers), classifier.load_tokenizer(no_dropout)
    dataset = corpus_load.tokenize(texts, tokenizer, 64, registers)
    right = classifier.predict(model, dataset, tokenizer, 16, "fp32")[np.arange(len(texts)), dataset["labels"][:]]
    for entry in epochs(run):
        assert entry["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-4)


def test_the_rate_rises_and_falls_by_optimiser_steps(train):
    run = train("--num-epochs=4", "--gradient-accumulation=2", "--batch-size=8", "--learning-rate=1e-3", "--warmup=0.5")
    # 80 texts in effective batches of 16: 5 steps an epoch, 20 in all, 10 of them warm-up
    assert [entry["learning_rate"] for entry in epochs(run)] == pytest.approx([5e-4, 1e-3, 5e-4, 0.0], abs=1e-12)


def test_the_default_number_of_epochs_shows_50_000_texts(train, monkeypatch):
    monkeypatch.setattr(finetune, "TEXTS_SHOWN", 200)
    assert len(epochs(train())) == 3  # 80 training texts


def test_accumulation_changes_neither_weights_nor_loss(train, tiny, tmp_path, monkeypatch):
    no_dropout = copy_without_dropout(tiny, tmp_path)
    whole = train("--num-epochs=2", f"--checkpoint={no_dropout}", "--batch-size=16", subfolder="whole")
    parts = train(
        "--num-epochs=2", f"--checkpoint={no_dropout}", "--batch-size=4", "--gradient-accumulation=4", subfolder="parts"
    )
    assert_same_training(whole, parts)


def copy_without_dropout(tiny, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "no-dropout")
    config = json.loads((copy / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def assert_same_training(first, second):
    """The same up to the order in which floats are added."""
    for a, b in zip(epochs(first), epochs(second), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["validation"]["loss"] == pytest.approx(b["validation"]["loss"], rel=1e-3)
    a, b = load_file(first.models / "model.safetensors"), load_file(second.models / "model.safetensors")
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=5e-4)


def test_two_processes_train_like_one(project, tiny, tmp_path, corpus, monkeypatch):
    no_dropout = copy_without_dropout(tiny, tmp_path)
    common = ["--model-name=t", "--train-langs=en", f"--checkpoint={no_dropout}", "--num-epochs=2", *FAST]
    finish(start(project, "finetune.py", *common, "--subfolder=one", "--batch-size=16", corpus=corpus))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    out = finish(start(project, *torchrun, "finetune.py", *common, "--subfolder=two", "--batch-size=8", corpus=corpus))
    assert out.count("trained already") == 0 and out.count("next: python evaluate.py") == 1
    monkeypatch.setattr(runs, "ROOT", project)
    assert_same_training(run_paths("t", ["en"], "one"), run_paths("t", ["en"], "two"))


def test_class_weights_are_inverse_to_counts_and_0_for_absent_registers():
    weights = trainer.class_weights(np.array([0, 0, 0, 2]), 3)
    assert weights.tolist() == pytest.approx([4 / 6, 0, 2])
    assert (weights * torch.tensor([3, 0, 1])).sum() / 4 == pytest.approx(1)  # mean over the texts


def test_balanced_weighs_the_loss(train):
    plain, balanced = train("--num-epochs=1"), train("--num-epochs=1", "--balanced", subfolder="balanced")
    assert weights(plain) != weights(balanced)  # the registers have 34, 33 and 33 texts


def test_attention_dropout_is_the_checkpoints_or_what_is_asked_for(train):
    for options, expected in (((), 0.1), (("--attention-dropout=0",), 0)):
        run = train("--num-epochs=1", *options, subfolder=f"dropout{expected}")
        assert json.loads((run.models / "config.json").read_text())["attention_probs_dropout_prob"] == expected


# ---- the order of texts ----


def test_batches_have_similar_lengths_and_every_text_comes_once():
    lengths = np.random.default_rng(0).integers(5, 512, size=1003)
    sampler = trainer.LengthGroupedSampler(lengths, 16, seed=7)
    order = list(sampler)
    assert sorted(order) == list(range(1003))
    batches = [lengths[order[start : start + 16]] for start in range(0, 1003, 16)]
    padded = sum(batch.max() * len(batch) for batch in batches)
    assert padded < 1.06 * lengths.sum()  # in random order it is 1.9 times
    assert len(batches[-1]) == 1003 % 16
    longest = [batch.max() for batch in batches[:-1]]
    assert sorted(longest) != longest and sorted(longest, reverse=True) != longest


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        sampler = trainer.LengthGroupedSampler(np.arange(100), 8, seed)
        sampler.epoch = epoch
        return list(sampler)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


# ---- what it writes ----


def test_the_model_answers_with_registers_in_a_pipeline(train):
    from transformers import pipeline

    run = train("--num-epochs=3")
    answer = pipeline("text-classification", model=str(run.models))("oh la la winter")
    assert answer[0]["label"] in REGISTERS
    config = json.loads((run.models / "config.json").read_text())
    assert config["id2label"] == {"0": "IN", "1": "OP", "2": "LY"}
    assert classifier.model_registers(run.models) == list(REGISTERS)
    assert not run.checkpoints.exists()
    umask = os.umask(0)
    os.umask(umask)
    for path in run.models.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask, path
        assert path.suffix not in (".bin", ".pt", ".pth"), "no pickled file in a finished model"


def test_run_json_tells_everything_that_decided_the_weights(train, corpus):
    run = train("--num-epochs=1")
    found = record(run)
    assert found["settings"] | FAST_SETTINGS == found["settings"]
    assert found["weights_sha256"] == weights(run)
    assert found["corpus"]["files"]["train/en.tsv"] == runs.sha256_of(corpus / "corpus" / "train" / "en.tsv")
    assert set(found["corpus"]["files"]) == {"train/en.tsv", "test/en.tsv", "test/fr.tsv"}
    assert sum(found["corpus"]["train"]["en"].values()) == 80
    assert list(found["corpus"]["validation"]["en"].values()) in ([7, 7, 6], [7, 6, 7], [6, 7, 7])
    assert found["versions"]["torch"] == torch.__version__
    assert found["peak_memory_bytes"] > 1e8 and found["seconds"] > 0 and found["device"]


FAST_SETTINGS = {"learning_rate": 1e-3, "patience": 0, "max_length": 64, "seed": 42, "batch_size": 16, "processes": 1}


# ---- run again ----


def test_a_finished_run_is_not_trained_again(project, corpus):
    command = ["finetune.py", "--model-name=tiny", "--train-langs", "en", "fr", "--num-epochs=1", *FAST]
    finish(start(project, *command, corpus=corpus))
    began = time.monotonic()
    out = finish(
        start(project, *[c.replace("en", "en-fr") if c == "en" else c for c in command if c != "fr"], corpus=corpus)
    )
    assert "trained already" in out
    assert time.monotonic() - began < 20  # it loads no model; its time is measured elsewhere


def test_other_options_or_another_corpus_are_refused_by_name(train, corpus):
    run = train("--num-epochs=1")
    before = weights(run)
    with pytest.raises(RunError, match="num_epochs was 1, is now 2.*--overwrite.*--subfolder"):
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
    with pytest.raises(RunError, match="expected the record of the model"):
        train("--num-epochs=1")
    assert (run.models / "model.safetensors").is_file()


def test_a_new_training_removes_old_evaluations(train):
    run = train("--num-epochs=1")
    drawn = [run.outputs / "cfm.png", run.outputs / "cfm.pdf", run.outputs / "errors" / "xx.tsv"]
    for path in (run.scores("xx"), run.confusions("xx"), run.predictions("xx"), run.outputs / "eval.json", *drawn):
        runs.write_text(path, "{}")
    train("--num-epochs=1", "--seed=1", "--overwrite")
    assert sorted(path.name for path in run.outputs.rglob("*")) == ["run.json", "train.json"]


# ---- refused ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision=fp16"], "expected a GPU, found none"),
        (["--max-length=513"], "expected at most 512"),
        (["--checkpoint=/nowhere/at-all"], "expected a model on the Hugging Face Hub, found"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_cannot_be_is_refused_in_one_line(train, options, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RunError, match=message) as error:
        train(*options)
    assert "\n" not in str(error.value)
    assert epochs(train("--num-epochs=1"))  # what could not start leaves nothing behind that stands in the way


@pytest.mark.parametrize(
    "options",
    [
        ["--model-name", "nobody-knows", "--train-langs", "en"],
        ["--model-name", "tiny", "--train-langs", "en", "en"],
        ["--model-name", "tiny", "--train-langs", "../en"],
        ["--model-name", "../tiny", "--train-langs", "en", "--checkpoint", "x"],
        ["--model-name", "tiny", "--train-langs", "en", "--subfolder", "../x"],
        ["--model-name", "tiny", "--train-langs", "en", "--subfolder", "/tmp/x"],
        ["--model-name", "tiny", "--train-langs", "en", "--subfolder", "pretrained"],
        ["--model-name", "tiny", "--train-langs", "en", "--batch-size", "0"],
        ["--model-name", "tiny", "--train-langs", "en", "--validation-size", "1"],
        ["--model-name", "tiny", "--train-langs", "en", "--learning-rate", "nan"],
        ["--train-langs", "en"],
        ["--model-name", "tiny"],
    ],
)
def test_wrong_use_ends_with_2(options, capsys):
    with pytest.raises(SystemExit) as end:
        finetune.main(options)
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_several_slurm_tasks_without_torchrun_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    with pytest.raises(SystemExit):
        finetune.main(["--model-name", "tiny", "--train-langs", "en"])
    assert "torchrun" in capsys.readouterr().err


def test_an_error_is_one_line_and_exit_1(project, tmp_path):
    out = finish(start(project, "finetune.py", "--model-name=tiny", "--train-langs=en", corpus=tmp_path), expect=1)
    assert out.startswith("finetune.py: ") and out.count("\n") == 1 and "--corpus-path" in out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_trains_on_the_cpu_and_says_so(train, caplog):
    caplog.set_level("INFO")
    train("--num-epochs=1")
    assert "training on CPU" in caplog.text


def test_a_checkpoint_with_pickled_weights_only_is_refused(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(RunError, match="pickled weights are never loaded"):
        classifier.load_classifier(folder, ["A", "B"])


def test_a_half_precision_checkpoint_is_trained_in_float32(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "half")
    model = classifier.load_classifier(folder, ["A", "B"]).half()
    model.save_pretrained(folder)
    assert classifier.load_classifier(folder, ["A", "B"]).dtype == torch.float32


def test_precision_and_kernels_follow_the_gpus_capability(monkeypatch):
    """Facts of GPUs that no test machine has: which precision each capability gets, which torch lacks its kernels."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    chosen = {}
    for capability in [(6, 1), (7, 0), (7, 5), (8, 0), (9, 0)]:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda capability=capability: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_61", "sm_70", "sm_75", "sm_80", "sm_90"])
        chosen[capability] = classifier.choose_precision("auto")
    assert list(chosen.values()) == ["fp32", "fp16", "fp16", "bf16", "bf16"]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    with pytest.raises(RunError, match="--precision bf16"):
        classifier.choose_precision("bf16")
    for built_for, fits in ((["sm_75", "sm_80", "sm_90"], False), (["sm_70", "sm_80"], True), (["compute_60"], True)):
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda built_for=built_for: built_for)
        if fits:
            assert classifier.choose_precision("auto") == "fp16"
        else:
            with pytest.raises(RunError, match="expected a torch with kernels for sm_70"):
                classifier.choose_precision("auto")
