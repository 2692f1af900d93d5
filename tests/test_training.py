"""Fine-tuning: it learns, the same however it is cut, by random batches; and its checkpoints count only when whole."""

import contextlib
import errno
import itertools
import json
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import (
    FAST,
    REGISTERS,
    SAMPLE_CORPUS,
    assert_same_training,
    change_config,
    copy_project,
    epochs,
    finish,
    record,
    start,
)
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertModel,
    DataCollatorWithPadding,
    Trainer,
    TrainerState,
    TrainingArguments,
    set_seed,
)

import evaluate
import finetune
from utils import corpus_load, download_model, model, runs, training
from utils.runs import RunError, run_paths


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Return a model smaller still: what is tested here is the training, and most of its time are its checkpoints."""
    source = download_model.find_checkpoint("./tests/sample-corpus")
    folder = shutil.copytree(source, tmp_path_factory.mktemp("tiny") / "tiny")
    (folder / "complete.json").unlink()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    BertModel(BertConfig.from_pretrained(source, **sizes)).save_pretrained(folder)
    change_config(folder, random_weights=True)
    return folder


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path / "project", download_model.find_checkpoint("./tests/sample-corpus"))


# ---- batches ----


def test_batches_are_random_and_every_text_comes_once_an_epoch():
    """Batches of similar length are batches of like registers; small corpora had the same ones every epoch."""
    lengths = np.random.default_rng(0).integers(5, 512, size=100)
    sampler = training.ShuffledSampler(lengths, 16, seed=7)
    orders, mates = [], []
    for sampler.epoch in range(200):
        order = list(sampler)
        orders.append(order)
        assert sorted(order) == list(range(100))
        assert lengths.argmax() in order[:16]  # so that too little memory is told at once
        batches = [order[first : first + 16] for first in range(0, 100, 16)]
        mates += [frozenset(pair) for batch in batches for pair in itertools.combinations(batch, 2)]
    counts = Counter(mates)
    assert len(counts) == 100 * 99 / 2  # each text meets each other
    expected = len(mates) / len(counts)
    assert max(counts.values()) < 2 * expected and min(counts.values()) > expected / 2
    sampler.epoch = 3
    assert list(sampler) == orders[3]  # a function of seed and epoch
    assert list(training.ShuffledSampler(lengths, 16, seed=8)) not in orders


def test_the_last_batch_of_several_processes_is_filled_with_a_text_that_does_not_count():
    order = list(training.ShuffledSampler(np.arange(1, 22), 8, seed=7, multiple=8))
    assert sorted(order[:21]) == list(range(21)) and order[21:] == [21] * 3


def test_the_filling_has_a_label_that_no_loss_counts(no_dropout, corpus):
    _, dataset = loaded_and_texts(no_dropout, corpus)
    *real, last = training.with_filling(dataset)
    assert len(real) == 80 and last["labels"] == torch.nn.CrossEntropyLoss().ignore_index
    assert last["input_ids"].tolist() == dataset[0]["input_ids"][:16].tolist()


@pytest.mark.parametrize("side", ["right", "left"])
def test_parts_of_similar_length_hold_every_text_and_token_once(side):
    mask = torch.zeros(16, 64, dtype=torch.long)
    for row, length in enumerate(np.random.default_rng(0).integers(1, 60, size=16)):
        mask[row, :length] = 1
    mask = mask.flip(1) if side == "left" else mask
    batch = {"input_ids": torch.arange(16 * 64).view(16, 64) * mask, "attention_mask": mask, "labels": torch.arange(16)}
    parts = training.parts_of_similar_length(batch, 256)
    assert all(part["attention_mask"].numel() <= 256 or len(part["labels"]) == 1 for part in parts)
    assert sum(part["attention_mask"].numel() for part in parts) < 0.75 * mask.numel()
    assert torch.cat([part["labels"] for part in parts]).sort().values.tolist() == list(range(16))
    for part in parts:
        for label, ids, kept in zip(part["labels"], part["input_ids"], part["attention_mask"], strict=True):
            assert torch.equal(ids[kept.bool()], batch["input_ids"][label][mask[label].bool()])
    (whole,) = training.parts_of_similar_length(batch, mask.numel())
    assert torch.equal(whole["input_ids"], batch["input_ids"])


# ---- it learns ----


def sample_rows(split):
    texts = corpus_load.read_texts(SAMPLE_CORPUS, split, "en", corpus_load.load_registers(SAMPLE_CORPUS))
    return list(zip(texts["register"], texts["text"], strict=True))


@pytest.mark.slow
def test_shuffled_labels_give_chance(root, write_corpus, tiny):
    registers, rows = corpus_load.load_registers(SAMPLE_CORPUS), sample_rows("train")
    labels = [register for register, _ in rows]
    random.Random(1).shuffle(labels)
    shuffled = [(label, text) for label, (_, text) in zip(labels, rows, strict=True)]
    accuracy = {}
    for name, train_rows in (("right", rows), ("shuffled", shuffled)):
        corpus = write_corpus({"train/en": train_rows, "test/en": sample_rows("test")}, registers)
        names = [f"--model-name={name}", "--train-langs=en", f"--corpus-path={corpus}", "--threads=1"]
        learning = ["--num-epochs=20", "--learning-rate=2e-3", "--batch-size=8", "--max-length=128"]
        assert finetune.main([*names, f"--checkpoint={tiny}", *learning]) == 0
        assert evaluate.main([*names, "--eval-lang=en"]) == 0
        accuracy[name] = json.loads(run_paths(name, ["en"]).scores("en").read_text())["metrics"]["micro_f1"]
    assert accuracy["right"] > 0.5
    assert accuracy["shuffled"] < 0.35  # the largest register has 0.15 of the test texts


def test_the_epoch_with_the_lowest_validation_loss_is_kept(train):
    """Not the one with the best macro-F1, which a text of a rare register decides."""
    run = train("--num-epochs=8", "--learning-rate=2e-2", "--seed=3")  # too high: the loss rises again
    losses = [entry["validation"]["loss"] for entry in epochs(run)]
    assert [entry["epoch"] for entry in epochs(run)] == list(range(1, 9))
    assert record(run)["best_epoch"] == losses.index(min(losses)) + 1
    assert record(run)["validation"] == epochs(run)[record(run)["best_epoch"] - 1]["validation"]


def test_patience_counts_texts_from_the_end_of_the_warm_up(train):
    """80 texts an epoch, and a rate so high that the first epoch's loss is hardly ever beaten."""
    options = ["--num-epochs=12", "--patience=160", "--learning-rate=1e-1"]
    run = train(*options, "--warmup=0", subfolder="no-warm-up")
    assert len(epochs(run)) == record(run)["best_epoch"] + 2 < 12
    longer = train(*options, "--warmup=0.5", subfolder="warm-up")
    assert len(epochs(longer)) == max(record(longer)["best_epoch"], 6) + 2


def test_of_many_short_epochs_some_are_validated_and_the_last(train):
    run = train("--num-epochs=25", langs=("fr",))  # 48 training texts
    assert [entry["epoch"] for entry in epochs(run)] == [*range(2, 25, 2), 25]
    best = next(entry for entry in epochs(run) if entry["epoch"] == record(run)["best_epoch"])
    assert record(run)["epochs"] == 25 and record(run)["validation"] == best["validation"]
    few = train("--num-epochs=2", langs=("fr",), subfolder="few")
    assert [entry["epoch"] for entry in epochs(few)] == [1, 2]  # at least one in ten is


def loaded_and_texts(folder, corpus):
    """The model before its training, and the texts of it, as finetune.py has them."""
    registers = list(REGISTERS)
    options = {"validation_size": 0.2, "seed": 42, "all_texts": False}
    texts, *_ = corpus_load.load_training_texts(corpus, ["en"], registers, **options)
    set_seed(42)
    classifier, tokenizer = model.load_classifier(folder, registers), model.load_tokenizer(folder)
    return model.Classifier(classifier, tokenizer, "fp32"), corpus_load.to_dataset(texts, tokenizer, 64, registers)


def test_an_epochs_loss_is_the_mean_over_its_texts_and_epochs_are_in_order(train, no_dropout, corpus):
    """Pitfalls: the last batch's loss shown as the epoch's; epochs sorted as text, 1 10 11 2."""
    run = train("--num-epochs=11", "--learning-rate=1e-12", f"--checkpoint={no_dropout}")  # nothing is learnt
    assert [entry["epoch"] for entry in epochs(run)] == list(range(1, 12))
    loaded, dataset = loaded_and_texts(no_dropout, corpus)
    right = model.predict(loaded, dataset, 16 * 64, "texts")[np.arange(len(dataset)), dataset["labels"][:]]
    for entry in epochs(run):
        assert entry["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-4)
        assert entry["texts_per_second"] == pytest.approx(80 / entry["seconds"], rel=0.05)
        assert entry["tokens_per_second"] > 5 * entry["texts_per_second"]


def test_the_rate_rises_and_falls_by_optimiser_steps(train):
    run = train("--num-epochs=4", "--gradient-accumulation=2", "--batch-size=8", "--learning-rate=1e-3", "--warmup=0.5")
    # 80 texts in effective batches of 16: 5 steps an epoch, 20 in all, 10 of them warm-up
    assert [entry["learning_rate"] for entry in epochs(run)] == pytest.approx([5e-4, 1e-3, 5e-4, 0.0], abs=1e-12)


def test_neither_accumulation_nor_parts_of_a_batch_change_what_is_learnt(train, no_dropout, monkeypatch):
    common = ["--num-epochs=2", f"--checkpoint={no_dropout}"]
    whole = train(*common, "--batch-size=16", subfolder="whole")
    assert_same_training(whole, train(*common, "--batch-size=4", "--gradient-accumulation=4", subfolder="accumulated"))
    monkeypatch.setattr(training, "most_tokens", lambda: 64)
    assert_same_training(whole, train(*common, subfolder="parts"))


def test_it_is_the_training_of_transformers_own_trainer(train, no_dropout, tmp_path, corpus):
    """The same texts in the same order, and none of what --warmup and --head-rate change: the same weights."""
    run = train("--num-epochs=1", "--warmup=0", "--head-rate=1e-3", f"--checkpoint={no_dropout}")
    (classifier, tokenizer, _), dataset = loaded_and_texts(no_dropout, corpus)
    first = {name: values.clone() for name, values in classifier.state_dict().items()}
    order = list(training.ShuffledSampler(dataset["length"], 16, seed=42))
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "trainer"), num_train_epochs=1, per_device_train_batch_size=16, learning_rate=1e-3,
        use_cpu=True, save_strategy="no", disable_tqdm=True, report_to=[],
    )  # fmt: skip
    reference = Trainer(
        model=classifier, args=arguments, train_dataset=dataset.select(order).select_columns(["input_ids", "labels"]),
        data_collator=DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    reference._get_train_sampler = torch.utils.data.SequentialSampler
    reference.train()
    ours, theirs = load_file(run.models / "model.safetensors"), classifier.state_dict()
    apart = sum((ours[name] - theirs[name]).square().sum() for name in ours) ** 0.5
    assert apart < 0.01 * sum((first[name] - theirs[name]).square().sum() for name in ours) ** 0.5


def by_two(project, corpus, *options):
    """Train in two processes of one torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "finetune.py"]
    return finish(start(project, *torchrun, "--model-name=t", "--train-langs=en", *options, corpus=corpus))


@pytest.mark.slow
def test_two_processes_train_like_one(project, no_dropout, corpus, monkeypatch):
    change_config(no_dropout, random_weights=None)  # as of a pretrained one, only the upper half is trained
    common = [f"--checkpoint={no_dropout}", "--num-epochs=2", *FAST]
    # of 80 texts, 26 in an update: 2 are left for the last one, both of one process and none of the other
    one = ["finetune.py", "--model-name=t", "--train-langs=en", "--subfolder=one", "--batch-size=26"]
    finish(start(project, *one, *common, corpus=corpus))
    out = by_two(project, corpus, *common, "--subfolder=two", "--batch-size=13")
    assert out.count("python evaluate.py") == 1  # one of the two says what is next
    monkeypatch.setattr(runs, "ROOT", project)
    assert_same_training(run_paths("t", ["en"], "one"), run_paths("t", ["en"], "two"))


def test_a_training_that_a_signal_ends_within_an_epoch_goes_on_as_if_nothing_had_been(train, monkeypatch):
    undisturbed, step_end = train("--num-epochs=3", subfolder="undisturbed"), training.Recorder.on_step_end

    def interrupted(self, args, state, control, **more):
        if state.global_step == 7:  # the second of the second epoch
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGTERM)
        step_end(self, args, state, control, **more)

    with monkeypatch.context() as patch:
        patch.setattr(training.Recorder, "on_step_end", interrupted)
        run = train("--num-epochs=3", expect=128 + signal.SIGTERM)
    *_, last = training.load_state(training.newest_checkpoint(run)).log_history
    assert last["interrupted"]["learnt"][1] == 32 and [entry["epoch"] for entry in epochs(run)] == [1]
    train("--num-epochs=3")
    assert_same_training(run, undisturbed)
    assert epochs(run)[1]["seconds"] > last["interrupted"]["seconds"] > 0.5


# ---- loss, progress ----


def test_class_weights_are_inverse_to_counts_and_0_for_absent_registers():
    weights = training.class_weights(np.array([0, 0, 0, 2]), 3)
    assert weights.tolist() == pytest.approx([4 / 6, 0, 2])
    assert (weights * torch.tensor([3, 0, 1])).sum() / 4 == pytest.approx(1)  # mean over the texts


def test_balanced_weighs_the_loss_and_chooses_the_epoch_by_it(train, corpus):
    plain, balanced = train("--num-epochs=1"), train("--num-epochs=1", "--balanced", subfolder="balanced")
    assert record(plain)["weights_sha256"] != record(balanced)["weights_sha256"]  # there are 34, 33 and 33 texts
    # the loss recorded is the mean over the texts, weighted as in the training
    options = {"validation_size": 0.2, "seed": 42, "all_texts": False}
    parts = corpus_load.load_training_texts(corpus, ["en"], list(REGISTERS), **options)[:2]
    tokenizer = model.load_tokenizer(balanced.models)
    loaded = model.Classifier(model.load_classifier(balanced.models, list(REGISTERS)).eval(), tokenizer, "fp32")
    learnt, validated = (corpus_load.to_dataset(part, tokenizer, 64, list(REGISTERS)) for part in parts)
    gold = validated["labels"][:].numpy()
    losses = -np.log(model.predict(loaded, validated, 16 * 64, "texts")[np.arange(len(gold)), gold])
    of_registers = 80 / 3 / np.bincount(learnt["labels"][:].numpy())
    expected = np.average(losses, weights=of_registers[gold])
    assert record(balanced)["validation"]["loss"] == pytest.approx(expected, rel=1e-5)


def test_validation_metrics_by_hand():
    of_registers = torch.tensor([0.5, 3.0, 1.0])
    logits, gold = np.array([[2.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=np.float32), np.array([0, 1, 2, 1])
    losses = -np.log(np.exp(logits)[range(4), gold] / np.exp(logits).sum(axis=1))
    found = training.validation_metrics((logits, gold), weights=of_registers)
    assert found["mean_loss"] == pytest.approx(np.average(losses, weights=of_registers.numpy()[gold]))
    assert found["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]] and found["micro_f1"] == 0.75
    assert training.validation_metrics((logits, gold))["mean_loss"] == pytest.approx(losses.mean())


def test_progress_is_told_and_a_busy_machine_with_it(train, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(training, "LOG_SECONDS", 0)
    for busy in (0, 100):
        caplog.clear()
        monkeypatch.setattr(training, "BUSY", busy)
        train("--num-epochs=2", subfolder=f"busy-{busy}")
        told = [line.getMessage() for line in caplog.records if re.match(r"\d+ .*\b160\b", line.getMessage())]
        assert [int(line.split()[0]) for line in told] == [16, 32, 48, 64, 80, 96, 112, 128, 144, 160]
        assert all(("%" in line) == bool(busy) for line in told)


def test_a_disk_has_room_for_three_checkpoints_and_the_model_to_the_byte(tmp_path, pretrained, monkeypatch):
    run, classifier = runs.Run("x", tmp_path / "o", tmp_path / "m"), model.load_classifier(pretrained, list(REGISTERS))
    model.freeze(classifier, 0.5)
    weights, learning = (
        4 * sum(w.numel() for w in classifier.parameters() if w.requires_grad >= one) for one in (0, 1)
    )
    for num_epochs, n_checkpoints in ((1, 1), (2, 2), (9, 3)):
        needed = n_checkpoints * (weights + 2 * learning) + weights  # AdamW has two numbers of each weight
        for free in (needed, needed - 1):
            monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
            with contextlib.nullcontext() if free == needed else pytest.raises(RunError, match="m: "):
                training.check_room(run, classifier, num_epochs)


def test_a_training_is_over_after_its_last_step():
    args = SimpleNamespace(patience=0, warmup=0.1)
    states = (TrainerState(global_step=step, max_steps=40, num_train_epochs=4) for step in (39, 40))
    assert [training.is_over(state, args, 80) for state in states] == [False, True]


# ---- checkpoints ----


@pytest.fixture
def checkpoints(tmp_path):
    """Return a run with two checkpoints, which count; the first one is the best."""
    run = runs.Run("tiny-en", tmp_path / "outputs", tmp_path / "models")
    for step in (90, 110):
        folder = run.checkpoints / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in training.PARTS:
            (folder / name).write_text("x")
        state = TrainerState(global_step=step, best_global_step=90, max_steps=400, num_train_epochs=40)
        state.save_to_json(str(folder / "trainer_state.json"))
        training.complete(folder)
    return run


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_a_checkpoint_that_cannot_be_read_just_now_is_not_removed(checkpoints, monkeypatch, number):
    def fails(path):
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch, pytest.raises(RunError, match="checkpoint-110"):
        patch.setattr(runs, "sha256_of", fails)
        training.last_checkpoint(checkpoints)
    assert training.last_checkpoint(checkpoints) == checkpoints.checkpoints / "checkpoint-110"


def test_a_checkpoint_is_on_the_disk_before_it_counts(checkpoints, monkeypatch):
    folder, flushed = checkpoints.checkpoints / "checkpoint-90", []
    (folder / "hashes.json").unlink()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_ino) or fsync(file))
    monkeypatch.setattr(runs, "write_json", lambda path, hashes: flushed.append(path.name))
    training.complete(folder)
    assert set(flushed[:-1]) == {path.stat().st_ino for path in folder.iterdir()} and flushed[-1] == "hashes.json"


def test_without_its_best_checkpoint_none_counts(checkpoints):
    assert training.newest_checkpoint(checkpoints).name == "checkpoint-110"
    (checkpoints.checkpoints / "checkpoint-90" / "model.safetensors").write_text("y")
    assert training.last_checkpoint(checkpoints) is None
    assert not list(checkpoints.checkpoints.iterdir())


def test_it_goes_on_with_the_same_texts_and_on_a_device_that_has_the_precision(checkpoints, monkeypatch):
    monkeypatch.setattr(training, "describe_device", lambda: "a card")
    settings = {"processes": 1}
    started = {
        "settings": settings, "start_revision": "", "start_langs": [], "texts_sha256": "a", "precision": "bf16",
        "devices": ["CPU"],
    }  # fmt: skip
    runs.write_json(checkpoints.checkpoints / "started.json", started)
    monkeypatch.setattr(training, "native_precisions", lambda: {"fp32"})
    with pytest.raises(RunError, match="a card .*SBATCH_CONSTRAINT"):
        training.to_resume(checkpoints, "a", "auto")
    assert training.to_resume(checkpoints, "a", "bf16").name == "checkpoint-110"  # it was asked for
    monkeypatch.setattr(training, "native_precisions", lambda: {"fp32", "bf16"})
    assert training.to_resume(checkpoints, "a", "auto").name == "checkpoint-110"
    assert runs.read_started(checkpoints)["devices"] == ["CPU", "a card"]
    with pytest.raises(RunError, match="training texts"):
        training.to_resume(checkpoints, "b", "auto")
    shutil.rmtree(checkpoints.checkpoints)
    assert training.to_resume(checkpoints, "b", "auto") is None


@pytest.fixture
def with_nan(pretrained):
    """Return a checkpoint whose vector of the word zebra is no number."""
    classifier = model.load_classifier(pretrained, list(REGISTERS))
    (number,) = model.load_tokenizer(pretrained)("zebra", add_special_tokens=False)["input_ids"][:1]
    classifier.get_input_embeddings().weight.data[number] = torch.nan
    classifier.base_model.save_pretrained(pretrained)
    return pretrained


@pytest.mark.parametrize("split", ["training", "validation"])
def test_a_loss_that_is_no_number_ends_the_training_in_one_line(train, corpus, with_nan, split):
    train_texts, validation, _ = corpus_load.load_training_texts(
        corpus, ["en"], list(REGISTERS), validation_size=0.2, seed=42, all_texts=False
    )
    one = {"training": train_texts, "validation": validation}[split]["text"].iloc[0]
    path = corpus / "corpus" / "train" / "en.tsv"
    path.write_text(path.read_text().replace(f"{one}\n", f"{one} zebra\n"))
    with pytest.raises(RunError, match=f"{split} .*--learning-rate"):
        train("--num-epochs=2", f"--checkpoint={with_nan}")
    run = run_paths("tiny", ["en"])
    assert not list(run.checkpoints.glob("checkpoint-*")) and not (run.outputs / "train.json").exists()


def test_the_loss_is_looked_at_long_before_an_epoch_ends(train, corpus, with_nan, monkeypatch):
    path = corpus / "corpus" / "train" / "en.tsv"
    path.write_text(path.read_text().replace("\n", " zebra\n"))
    monkeypatch.setattr(training, "CHECKED", 2)
    monkeypatch.setattr(training.Recorder, "learnt_by_all", lambda *_: pytest.fail("the epoch is over"))
    with pytest.raises(RunError, match="--learning-rate"):
        train("--num-epochs=1", f"--checkpoint={with_nan}")


def test_a_language_with_probabilities_that_are_no_numbers_is_not_written(train, corpus, with_nan, caplog):
    with open(corpus / "corpus" / "test" / "fr.tsv", "a") as file:
        file.write("IN\tthe zebra is a kind of river\n")
    run = train("--num-epochs=1", f"--checkpoint={with_nan}")
    names = ["--model-name=tiny", "--train-langs=en", f"--corpus-path={corpus}"]
    assert evaluate.main([*names, "--precision=fp32", "--threads=1", "--eval-lang", "fr", "en"]) == 1
    assert "fr" in caplog.text and "1 of 31" in caplog.text
    assert {path.stem for kind in ("eval", "predictions") for path in (run.outputs / kind).iterdir()} == {"en"}
