"""A checkpoint becomes a classifier: what is refused, what is trained of it, on which device, and its predictions."""

import json
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from conftest import REGISTERS, ROOT, epochs, record
from safetensors.torch import load_file

import finetune
from utils import model, training
from utils.runs import RunError, run_paths

SMALL = {"num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
VOCABULARY = {"vocab_size": 4000, "pad_token_id": 0}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 4, "num_heads": 4, "decoder_start_token_id": 0}


@pytest.fixture
def changed(tiny, tmp_path):
    """Return a function that writes a copy of tiny: another encoder, or other settings in its config or tokenizer."""

    def change(encoder=None, config=None, tokenizer=None, name="changed"):
        folder = shutil.copytree(tiny, tmp_path / name, ignore=shutil.ignore_patterns("complete.json"))
        if encoder is not None:
            encoder.save_pretrained(folder)
        for file, settings in (("config.json", config or {}), ("tokenizer_config.json", tokenizer or {})):
            found = json.loads((folder / file).read_text()) | settings
            (folder / file).write_text(json.dumps({key: value for key, value in found.items() if value is not ...}))
        return folder

    return change


def encoder_of(kind, **options):
    torch.manual_seed(0)
    return transformers.AutoModel.from_config(getattr(transformers, f"{kind}Config")(**VOCABULARY, **options))


# ---- device ----


def test_a_lack_of_memory_is_one_line_with_a_remedy_and_other_faults_stay_as_they_are():
    program = (
        "import resource, numpy, torch; from utils import model\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**36, 2**36))\n"
        "with model.shortage_explained('do less'): torch.ones(2**40)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert "RunError: " in done.stderr.splitlines()[-1] and "do less" in done.stderr.splitlines()[-1]
    assert model.is_shortage(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"))
    for error in (KeyError("x"), RuntimeError("size mismatch"), RunError("out of memory; of another kind")):
        with pytest.raises(type(error)) as raised, model.shortage_explained("do less"):
            raise error
        assert raised.value is error


# ---- tried before a text is learnt from ----


@pytest.fixture
def told(root, corpus, monkeypatch):
    """Return a function that gives what a training says of a checkpoint, before a text is learnt from."""

    def begins(*_):
        raise RunError("it begins")

    def told(folder, *options):
        with pytest.raises(RunError) as error:
            finetune.main(["--model-name=own", "--train-langs=en", f"--checkpoint={folder}", "--threads=1", *options])
        return str(error.value)

    monkeypatch.setattr(training, "train", begins)
    monkeypatch.setenv("REGISTER_CORPUS", str(corpus))
    return told


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(told, changed, tiny):
    assert "it begins" in told(tiny)
    folder = changed()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"word{i}" for i in range(9)])
    tokenizer.save_pretrained(folder)
    assert f" {len(tokenizer)} " in told(folder)


def test_a_model_whose_answers_depend_on_padding_is_refused(told, changed):
    folder = changed(encoder_of("FNet", hidden_size=32, num_hidden_layers=1, intermediate_size=64))
    for precision in ("fp32", "bf16", "auto"):
        assert "it begins" not in told(folder, f"--precision={precision}")


def test_a_model_that_fails_in_bf16_alone_is_trained_in_fp32(told, changed, caplog, monkeypatch):
    xmod = SMALL | {"num_hidden_layers": 1, "max_position_embeddings": 513, "languages": ["en_XX"]}
    folder = changed(encoder_of("Xmod", default_language="en_XX", **xmod))
    assert "--precision fp32" in told(folder, "--precision=bf16")
    assert "it begins" in told(folder, "--precision=fp32")
    monkeypatch.setattr(model, "native_precisions", lambda: {"fp32", "bf16"})
    assert "it begins" in told(folder) and "fp32" in caplog.text
    assert json.loads((run_paths("own", ["en"]).checkpoints / "started.json").read_text())["precision"] == "fp32"
    as_published = changed(encoder_of("Xmod", **xmod), name="published")
    assert "Input language unknown" in told(as_published, "--precision=fp32", "--overwrite")


@pytest.mark.parametrize("where", ["config", "tokenizer", "RoBERTa's positions"])
def test_texts_longer_than_the_model_takes_are_refused(told, changed, where):
    small, tokens = SMALL | {"num_hidden_layers": 1}, 8192
    tokenizer = {"model_max_length": 100 if where == "tokenizer" else tokens}
    if where == "RoBERTa's positions":  # counted from after the padding's
        folder = changed(
            encoder_of("Roberta", max_position_embeddings=101, **small), tokenizer={"model_max_length": tokens}
        )
    else:
        ends = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
        positions = 100 if where == "config" else tokens
        folder = changed(
            encoder_of("ModernBert", max_position_embeddings=positions, **small, **ends), tokenizer=tokenizer
        )
    assert "--max-length 101: " in told(folder, "--max-length=101")
    assert "it begins" in told(folder, "--max-length=100")


def test_the_trial_draws_nothing_and_leaves_the_model_as_it_was(tiny):
    tokenizer, classifier = model.load_tokenizer(tiny), model.load_classifier(tiny, ["A", "B"])
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}

    def draws(*_):
        random.random(), np.random.random(), torch.rand(1)

    classifier.register_forward_hook(draws)
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    for precision in ("fp32", "bf16"):
        assert model.trial(classifier, tokenizer, precision, learns=True) == ""
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[2]
    assert np.random.get_state()[2] == states[1][2] and (np.random.get_state()[1] == states[1][1]).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())
    assert all(weight.grad is None for weight in classifier.parameters()) and not classifier.training


def test_a_loss_or_a_gradient_that_is_no_number_is_found(tiny):
    tokenizer, classifier = model.load_tokenizer(tiny), model.load_classifier(tiny, ["A", "B"])
    classifier.classifier.weight.data[:] = torch.nan
    assert "loss" in model.trial(classifier, tokenizer, "fp32", learns=True)
    assert "predictions" in model.trial(classifier, tokenizer, "fp32", learns=False)
    classifier = model.load_classifier(tiny, ["A", "B"])
    classifier.classifier.weight.register_hook(lambda gradient: gradient * torch.inf)
    assert "gradient" in model.trial(classifier, tokenizer, "fp32", learns=True)


# ---- heads, labels and tokenizers of published classifiers ----


@pytest.mark.parametrize("n_labels, problem", [(3, None), (25, "multi_label_classification"), (1, "regression")])
def test_of_a_classifier_for_other_labels_the_encoder_is_kept(changed, caplog, n_labels, problem):
    folder = changed()
    of = transformers.AutoModelForSequenceClassification.from_pretrained
    published = of(folder, num_labels=n_labels, problem_type=problem, dtype=torch.float16)
    published.classifier.weight.data.fill_(7)
    published.save_pretrained(folder)
    with caplog.at_level("INFO"):
        classifier = model.load_classifier(folder, list(REGISTERS))
    assert str(n_labels) in caplog.text and classifier.dtype == torch.float32
    assert classifier.classifier.weight.std() > 0.001 and classifier.classifier.weight.abs().max() < 1
    assert classifier.config.problem_type == "single_label_classification"
    kept = published.bert.state_dict()
    assert all(torch.equal(weight, kept[name].float()) for name, weight in classifier.bert.state_dict().items())


def test_a_head_for_these_registers_is_kept(train):
    run = train("--num-epochs=1")
    head = load_file(run.models / "model.safetensors")["classifier.weight"]
    assert torch.equal(model.load_classifier(run.models, list(REGISTERS)).classifier.weight, head)
    assert not torch.equal(model.load_classifier(run.models, list(REGISTERS)[::-1]).classifier.weight, head)


# ---- what is trained of it, and at which rate ----


@pytest.mark.parametrize(
    "encoder, words, frozen, trained",
    [
        (("Bert", SMALL), "2 of 4", "embeddings. layer.1.", "layer.2. layer.3. pooler classif"),
        (("Albert", SMALL | {"embedding_size": 16}), "", "word_embeddings.", "albert_layer"),
        (("XLM", {"emb_dim": 32, "n_layers": 4, "n_heads": 4}), "2 of 4",
         "embeddings. attentions.0. ffns.1. layer_norm2.1.", "attentions.2. ffns.3. layer_norm1.2. summary"),
        (("T5", T5), "2 of 4",
         "shared. encoder.block.1. decoder.block.1.", "encoder.block.2. decoder.block.2. final_layer_norm classif"),
        (("Canine", SMALL | {"num_hash_buckets": 64}), "2 of 4",
         "char_embeddings. canine.encoder.layer.1.", "canine.encoder.layer.2. final_char_encoder pooler"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_the_embeddings_and_the_lowest_layers_are_frozen_in_every_build(encoder, words, frozen, trained):
    config = getattr(transformers, f"{encoder[0]}Config")(**VOCABULARY, **encoder[1])
    classifier = transformers.AutoModelForSequenceClassification.from_config(config)
    model.freeze(classifier, 0)
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    assert words in model.freeze(classifier, 0.5)
    learns = {name: parameter.requires_grad for name, parameter in classifier.named_parameters()}
    for sign, expected in [*((sign, False) for sign in frozen.split()), *((sign, True) for sign in trained.split())]:
        assert {learns[name] for name in learns if sign in name and "position" not in name} == {expected}, sign
    groups = model.parameter_groups(classifier, 1e-4, 5e-4)
    assert [group["lr"] for group in groups] == [1e-4, 5e-4]
    assert sum(len(group["params"]) for group in groups) == sum(learns.values())
    names = {id(parameter): name for name, parameter in classifier.named_parameters()}
    of_the_head = {names[id(parameter)] for parameter in groups[1]["params"]}
    assert of_the_head == {name for name in learns if ".pooler." in name or not name.startswith(
        classifier.base_model_prefix + ".")}  # fmt: skip


def test_of_a_pretrained_encoder_the_upper_half_learns_and_the_head_at_its_own_rate(train, tiny, pretrained):
    before = load_file(pretrained / "model.safetensors")
    common = ["--num-epochs=2", f"--checkpoint={pretrained}"]
    half, head = train(*common), train(*common, "--learning-rate=1e-12", "--head-rate=1e-2", subfolder="head")
    whole = train("--num-epochs=1", f"--checkpoint={tiny}", subfolder="random")
    assert [record(run)["pretrained"] for run in (half, head, whole)] == [True, True, False]
    after = {run: load_file(run.models / "model.safetensors") for run in (half, head, whole)}
    for name, weights in before.items():
        if "pooler" not in name:
            lower = "embeddings" in name or "layer.0" in name
            assert torch.equal(weights, after[half][f"bert.{name}"]) == lower, name
            torch.testing.assert_close(weights, after[head][f"bert.{name}"], rtol=0, atol=1e-9)
            assert not torch.equal(weights, after[whole][f"bert.{name}"]), name
    losses = [entry["validation"]["loss"] for entry in epochs(head)]
    assert losses[1] < losses[0] - 1e-3


# ---- prediction ----


def test_batches_of_similar_length_hold_every_text_once_and_need_the_same_memory():
    lengths = np.random.default_rng(0).integers(1, 513, size=1003)
    batches = model.batches_of_similar_length(lengths, 4 * 512)
    assert sorted(np.concatenate(batches)) == list(range(1003))
    assert all(lengths[batch].max() * len(batch) <= 4 * 512 for batch in batches)
    assert sum(lengths[batch].max() * len(batch) for batch in batches) < 1.03 * lengths.sum()
    assert len(batches[0]) == 4 and len(batches[-2]) > 16  # of the shortest texts many at once
    assert model.batches_of_similar_length(np.zeros(0, dtype=int), 4 * 512) == []
    assert len(model.batches_of_similar_length(np.array([600, 600]), 512)) == 2  # a text that is longer is alone
