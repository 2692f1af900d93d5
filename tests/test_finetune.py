"""Fine-tuning: it learns, and it learns the same however it is cut."""

import json
import os
import random
import shutil
import stat

import numpy as np
import pytest
import torch
from conftest import FAST, REGISTERS, SAMPLE_CORPUS, change_config, epochs, finish, record, start, weights
from safetensors.torch import load_file
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed
from utils.encoder import classifier, device
from utils.training.batches import ShuffledSampler

import evaluate
import finetune
from utils import corpus_load, metrics, runs
from utils.runs import run_paths
from utils.training import trainer

# ---- it learns ----


def sample_rows(split):
    texts = corpus_load.read_texts(SAMPLE_CORPUS, split, "en", corpus_load.load_registers(SAMPLE_CORPUS))
    return list(zip(texts["register"], texts["text"], strict=True))


def test_it_memorises_50_texts(root, write_corpus, tiny):
    """The check that every text keeps its own label, from the file through the loss to the scores."""
    registers = corpus_load.load_registers(SAMPLE_CORPUS)
    corpus = write_corpus({"train/en": sample_rows("train")[:50]}, registers)
    set_seed(42)  # the head's first weights
    tokenizer, model = classifier.load_tokenizer(tiny), classifier.load_classifier(tiny, list(registers))
    texts = corpus_load.read_texts(corpus, "train", "en", registers)
    fifty = corpus_load.to_dataset(texts, tokenizer, 128, list(registers))
    options = ["--learning-rate=2e-3", "--batch-size=8", "--num-epochs=40"]
    args, run = finetune.parse_args(["--model-name=tiny", "--train-langs=en", *options])
    trainer.train(run, classifier.Classifier(model, tokenizer, "fp32"), fifty, fifty, args, resume_from=None)
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


def test_the_epoch_with_the_lowest_validation_loss_is_kept(train):
    """Not the one with the best macro-F1, which a text of a rare register decides."""
    run = train("--num-epochs=8", "--learning-rate=2e-2", "--seed=3")  # too high: the loss rises again
    losses = [entry["validation"]["loss"] for entry in epochs(run)]
    assert [entry["epoch"] for entry in epochs(run)] == list(range(1, 9))
    assert record(run)["best_epoch"] == losses.index(min(losses)) + 1
    assert record(run)["validation"] == epochs(run)[record(run)["best_epoch"] - 1]["validation"]


def test_patience_counts_texts_from_the_end_of_the_warm_up(train):
    """80 texts an epoch. A rate too low to change any prediction: the first epoch's loss is never beaten by much."""
    still_warming_up = train("--num-epochs=6", "--warmup=0.9", "--patience=80", "--learning-rate=1e-1")
    assert len(epochs(still_warming_up)) == 6
    run = train("--num-epochs=12", "--warmup=0", "--patience=160", "--learning-rate=1e-1", subfolder="no-warm-up")
    assert len(epochs(run)) == record(run)["best_epoch"] + 2 < 12
    longer = train("--num-epochs=12", "--warmup=0.5", "--patience=160", "--learning-rate=1e-1", subfolder="warm-up")
    assert len(epochs(longer)) == max(record(longer)["best_epoch"], 6) + 2


def test_of_many_short_epochs_some_are_validated_and_the_last(train):
    run = train("--num-epochs=25", langs=("fr",))  # 48 training texts
    found = epochs(run)
    assert [entry["epoch"] for entry in found] == [*range(2, 25, 2), 25]
    assert record(run)["epochs"] == 25 and record(run)["best_epoch"] in [entry["epoch"] for entry in found]
    best = next(entry for entry in found if entry["epoch"] == record(run)["best_epoch"])
    assert record(run)["validation"] == best["validation"]


def test_a_model_that_has_learnt_nothing_says_so(train, caplog, capsys, monkeypatch):
    run = train("--num-epochs=1", "--learning-rate=1e-9")
    assert not record(run)["beats_largest_register"]
    assert metrics.NOTHING_LEARNT in caplog.text
    assert metrics.NOTHING_LEARNT in (run.models / "README.md").read_text()
    run = train("--num-epochs=6", subfolder="learnt")
    assert record(run)["beats_largest_register"]
    assert metrics.NOTHING_LEARNT not in (run.models / "README.md").read_text()


def test_an_epochs_loss_is_the_mean_over_its_texts_and_epochs_are_in_order(train, tiny, tmp_path, corpus):
    """Pitfalls: the last batch's loss shown as the epoch's; epochs sorted as text, 1 10 11 2."""
    no_dropout = copy_without_dropout(tiny, tmp_path)
    run = train("--num-epochs=11", "--learning-rate=1e-12", f"--checkpoint={no_dropout}")  # nothing is learnt
    assert [entry["epoch"] for entry in epochs(run)] == list(range(1, 12))
    registers = list(REGISTERS)
    texts, *_ = corpus_load.load_training_texts(
        corpus, ["en"], registers, validation_size=0.2, seed=42, all_texts=False
    )
    set_seed(42)
    model, tokenizer = classifier.load_classifier(no_dropout, registers), classifier.load_tokenizer(no_dropout)
    dataset = corpus_load.to_dataset(texts, tokenizer, 64, registers)
    loaded = classifier.Classifier(model, tokenizer, "fp32")
    right = classifier.predict(loaded, dataset, 16 * 64, "texts")[np.arange(len(texts)), dataset["labels"][:]]
    for entry in epochs(run):
        assert entry["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-4)


def test_the_rate_rises_and_falls_by_optimiser_steps(train):
    run = train("--num-epochs=4", "--gradient-accumulation=2", "--batch-size=8", "--learning-rate=1e-3", "--warmup=0.5")
    # 80 texts in effective batches of 16: 5 steps an epoch, 20 in all, 10 of them warm-up
    assert [entry["learning_rate"] for entry in epochs(run)] == pytest.approx([5e-4, 1e-3, 5e-4, 0.0], abs=1e-12)


def test_the_default_number_of_epochs_shows_so_many_texts(train, monkeypatch):
    monkeypatch.setattr(finetune, "TEXTS_SHOWN", 330)
    assert len(epochs(train())) == 5  # 80 training texts
    monkeypatch.undo()
    assert [finetune.default_epochs(n_texts) for n_texts in (25, 221, 1308, 30_000)] == [40, 36, 6, 3]


def test_accumulation_changes_neither_weights_nor_loss(train, tiny, tmp_path, monkeypatch):
    no_dropout = copy_without_dropout(tiny, tmp_path)
    whole = train("--num-epochs=2", f"--checkpoint={no_dropout}", "--batch-size=16", subfolder="whole")
    parts = train(
        "--num-epochs=2", f"--checkpoint={no_dropout}", "--batch-size=4", "--gradient-accumulation=4", subfolder="parts"
    )
    assert_same_training(whole, parts)


def copy_without_dropout(tiny, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "no-dropout")
    change_config(copy, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return copy


def assert_same_training(first, second):
    """The same up to the order in which floats are added."""
    for a, b in zip(epochs(first), epochs(second), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["validation"]["loss"] == pytest.approx(b["validation"]["loss"], rel=1e-3)
    a, b = load_file(first.models / "model.safetensors"), load_file(second.models / "model.safetensors")
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=5e-4)


def test_a_batch_in_parts_is_the_same_training(train, tiny, tmp_path, monkeypatch):
    no_dropout = copy_without_dropout(tiny, tmp_path)
    whole = train("--num-epochs=2", f"--checkpoint={no_dropout}", subfolder="whole")
    monkeypatch.setattr(trainer, "evaluation_batch_size", lambda max_length: 64)  # tokens at once
    parts = train("--num-epochs=2", f"--checkpoint={no_dropout}", subfolder="parts")
    assert_same_training(whole, parts)


def test_it_is_the_training_of_transformers_own_trainer(train, tiny, tmp_path, corpus):
    """The same texts in the same order, and none of what --warmup and --head-rate change: the same weights."""
    no_dropout = copy_without_dropout(tiny, tmp_path)
    run = train("--num-epochs=1", "--warmup=0", "--head-rate=1e-3", f"--checkpoint={no_dropout}")
    registers = list(REGISTERS)
    texts, *_ = corpus_load.load_training_texts(
        corpus, ["en"], registers, validation_size=0.2, seed=42, all_texts=False
    )
    set_seed(42)
    model, tokenizer = classifier.load_classifier(no_dropout, registers), classifier.load_tokenizer(no_dropout)
    first = {name: values.clone() for name, values in model.state_dict().items()}
    dataset = corpus_load.to_dataset(texts, tokenizer, 64, registers)
    order = list(ShuffledSampler(dataset["length"], 16, seed=42))
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "trainer"), num_train_epochs=1, per_device_train_batch_size=16, learning_rate=1e-3,
        use_cpu=True, save_strategy="no", disable_tqdm=True, report_to=[],
    )  # fmt: skip
    reference = Trainer(
        model=model, args=arguments, train_dataset=dataset.select(order).select_columns(["input_ids", "labels"]),
        data_collator=DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    reference._get_train_sampler = torch.utils.data.SequentialSampler
    reference.train()
    ours, theirs = load_file(run.models / "model.safetensors"), model.state_dict()
    apart = sum((ours[name] - theirs[name]).square().sum() for name in ours) ** 0.5
    assert apart < 0.01 * sum((first[name] - theirs[name]).square().sum() for name in ours) ** 0.5


def test_two_processes_train_like_one(project, tiny, tmp_path, corpus, monkeypatch):
    no_dropout = copy_without_dropout(tiny, tmp_path)
    change_config(no_dropout, random_weights=None)  # as of a pretrained one, only the upper half is trained
    common = ["--model-name=t", "--train-langs=en", f"--checkpoint={no_dropout}", "--num-epochs=2", *FAST]
    # of 80 texts, 26 in an update: 2 are left for the last one, both of one process and none of the other
    finish(start(project, "finetune.py", *common, "--subfolder=one", "--batch-size=26", corpus=corpus))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    out = finish(start(project, *torchrun, "finetune.py", *common, "--subfolder=two", "--batch-size=13", corpus=corpus))
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


# ---- what it writes ----


def test_the_model_answers_with_registers_in_a_pipeline(train):
    from transformers import pipeline

    run = train("--num-epochs=3")
    answer = pipeline("text-classification", model=str(run.models))("oh la la winter")
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
    assert found["peak_memory_bytes"] > 1e8 and found["seconds"] > 0 and found["devices"] == [device.describe_device()]
    assert found["optimiser"]["weight_decay"] == 0.0 and found["optimiser"]["max_grad_norm"] == 1.0


FAST_SETTINGS = {"learning_rate": 1e-3, "patience": 0, "max_length": 64, "seed": 42, "batch_size": 16, "processes": 1}


# ---- what chooses the epoch; a busy machine ----


def test_balanced_chooses_the_epoch_by_what_it_minimises():
    of_registers = torch.tensor([0.5, 3.0, 1.0])
    logits, gold = np.array([[2.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=np.float32), np.array([0, 1, 2, 1])
    losses = -np.log(np.exp(logits)[range(4), gold] / np.exp(logits).sum(axis=1))
    found = trainer.validation_metrics((logits, gold), weights=of_registers)["mean_loss"]
    assert found == pytest.approx(np.average(losses, weights=of_registers.numpy()[gold]))
    assert trainer.validation_metrics((logits, gold))["mean_loss"] == pytest.approx(losses.mean())


def test_a_busy_machine_is_told_in_one_line(train, monkeypatch, caplog):
    monkeypatch.setattr(trainer, "BUSY_SECONDS", 0)
    monkeypatch.setattr(trainer, "BUSY_SHARE", 0)
    train("--num-epochs=1")
    assert "busy" not in caplog.text
    monkeypatch.setattr(trainer, "BUSY_SHARE", 2)
    train("--num-epochs=1", subfolder="busy")
    assert caplog.text.count("this machine is busy: of ") == 1
