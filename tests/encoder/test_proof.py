"""What an encoder must be to be trained, told before it is; and numbers that are not finite, never written."""

import json
import random
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from conftest import FAST, REGISTERS, record, words
from safetensors.torch import load_file, save_file

import evaluate
import finetune
from utils import download_model
from utils.corpus_load import first_tokens, load_training_texts, to_dataset
from utils.encoder import classifier, device, proof
from utils.runs import RunError, run_paths


@pytest.fixture
def changed(tiny, tmp_path):
    """Return a function that writes a copy of the tiny checkpoint: other settings in its config or tokenizer."""

    def change(config=None, tokenizer=None, name="changed"):
        folder = shutil.copytree(tiny, tmp_path / name, ignore=shutil.ignore_patterns("complete.json"))
        for file, settings in (("config.json", config or {}), ("tokenizer_config.json", tokenizer or {})):
            found = json.loads((folder / file).read_text()) | settings
            (folder / file).write_text(json.dumps({key: value for key, value in found.items() if value is not ...}))
        return folder

    return change


@pytest.fixture
def with_nan(changed):
    """Return a function that writes a copy whose vector of a word is no number."""

    def spoil(word):
        folder = changed(name=f"nan-{word}")
        weights = load_file(folder / "model.safetensors")
        number = classifier.load_tokenizer(folder)(word, add_special_tokens=False)["input_ids"][0]
        weights["embeddings.word_embeddings.weight"][number] = torch.nan
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return folder

    return spoil


# ---- numbers that are not finite ----


def test_a_language_with_probabilities_that_are_no_numbers_is_not_written(train, with_nan, write_corpus, caplog):
    rows = [(register, words(register, i)) for i in range(12) for register in REGISTERS]
    spoilt = [*rows[:20], ("IN", "the zebra is a kind of river")]
    corpus = write_corpus({"train/en": rows, "test/en": rows[:9], "test/fr": spoilt, "test/sv": rows[:9]})
    run = train("--num-epochs=1", f"--checkpoint={with_nan('zebra')}")
    names = ["--model-name=tiny", "--train-langs=en", f"--corpus-path={corpus}"]
    assert evaluate.main([*names, "--precision=fp32", "--threads=1", "--eval-lang", "en", "fr", "sv"]) == 1
    told = [entry.getMessage() for entry in caplog.records if entry.levelname == "ERROR"]
    assert "fr not evaluated: expected finite probabilities, found none for 1 of 21 texts in fp32" in told[0]
    for folder, suffix in (("predictions", "tsv"), ("eval", "json")):
        assert {path.name for path in (run.outputs / folder).iterdir()} == {f"en.{suffix}", f"sv.{suffix}"}


@pytest.mark.parametrize("split", ["training", "validation"])
def test_a_loss_that_is_no_number_ends_the_training_in_one_line(root, write_corpus, with_nan, split):
    rows = [(register, words(register, i)) for i in range(12) for register in REGISTERS]
    corpus = write_corpus({"train/en": rows})
    train, validation, _ = load_training_texts(
        corpus, ["en"], list(REGISTERS), validation_size=0.2, seed=42, all_texts=False
    )
    one = {"training": train, "validation": validation}[split]["text"].iloc[0]
    rows = [(register, f"{text} zebra" if text == one else text) for register, text in rows]
    corpus = write_corpus({"train/en": rows})
    names = ["--model-name=tiny", "--train-langs=en", f"--corpus-path={corpus}", "--num-epochs=2", *FAST]
    with pytest.raises(RunError, match=f"{split} loss: expected a finite number, found nan; .* lower --learning-rate"):
        finetune.main([*names, f"--checkpoint={with_nan('zebra')}"])
    run = run_paths("tiny", ["en"])
    assert not list(run.checkpoints.glob("checkpoint-*")) and not (run.outputs / "train.json").exists()


# ---- told before a text is learnt from ----


def told(folder, *options):
    """What a training says of a checkpoint, before a text is learnt from."""
    with pytest.raises(RunError) as error:
        finetune.main(["--model-name=own", "--train-langs=en", f"--checkpoint={folder}", "--threads=1", *options])
    return str(error.value)


@pytest.fixture
def begins(root, corpus, monkeypatch):
    """Let a training end where it would learn from the first text."""

    def learn(*_):
        raise RunError("it begins")

    monkeypatch.setattr(finetune, "learn", learn)
    monkeypatch.setenv("REGISTER_CORPUS", str(corpus))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(begins, changed, tiny):
    assert "it begins" in told(tiny)
    folder = changed()
    classifier.load_classifier(folder, ["A", "B"]).save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"word{i}" for i in range(9)])
    tokenizer.save_pretrained(folder)
    assert re.search(r"expected a model that works in .*, found in a trial \d+ embeddings for a token", told(folder))


def test_a_model_whose_answers_depend_on_padding_is_refused(begins, changed, tiny):
    config = transformers.FNetConfig(
        vocab_size=4000, hidden_size=32, num_hidden_layers=1, intermediate_size=64, pad_token_id=0
    )
    folder = changed()
    torch.manual_seed(0)
    transformers.FNetModel(config).save_pretrained(folder)
    for precision in ("fp32", "bf16", "auto"):
        found = told(folder, f"--precision={precision}")
        assert "is another one beside a longer text; choose another model" in found


def test_a_model_that_fails_in_bf16_alone_is_told_the_other_precision(begins, changed, caplog):
    config = transformers.XmodConfig(
        vocab_size=4000, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        pad_token_id=0, max_position_embeddings=513, languages=["en_XX"], default_language="en_XX",
    )  # fmt: skip
    folder = changed()
    transformers.XmodModel(config).save_pretrained(folder)
    assert "use --precision fp32" in told(folder, "--precision=bf16")
    assert "it begins" in told(folder, "--precision=fp32")
    if device.choose_precision("auto") == "bf16":
        assert "it begins" in told(folder) and "fp32 is used" in caplog.text
    config.default_language = None  # as published
    transformers.XmodModel(config).save_pretrained(folder)
    assert "Input language unknown" in told(folder, "--precision=fp32")


@pytest.mark.parametrize("where", ["config", "tokenizer"])
def test_texts_longer_than_the_model_takes_are_refused(begins, changed, where):
    limit = {"max_position_embeddings": 100, "model_type": "modernbert"} if where == "config" else {}
    config = transformers.ModernBertConfig(
        vocab_size=4000, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3,
        max_position_embeddings=100 if limit else 8192,
    )  # fmt: skip
    folder = changed(tokenizer={"model_max_length": 512 if limit else 100})
    transformers.ModernBertModel(config).save_pretrained(folder)
    assert "--max-length 101: expected at most 100, the longest text" in told(folder, "--max-length=101")
    assert "it begins" in told(folder, "--max-length=100")


def test_the_proof_draws_nothing_and_leaves_the_model_as_it_was(tiny):
    tokenizer, model = classifier.load_tokenizer(tiny), classifier.load_classifier(tiny, ["A", "B"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    for precision in ("fp32", "bf16"):
        assert proof.fault(model, tokenizer, precision) == ""
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[2]
    assert (np.random.get_state()[1] == states[1]).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters()) and not model.training


# ---- heads, labels and tokenizers of published classifiers ----


@pytest.mark.parametrize(
    ("n_labels", "problem_type"), [(3, None), (25, "multi_label_classification"), (1, "regression")]
)
def test_of_a_classifier_for_other_labels_the_encoder_is_kept(changed, tmp_path, caplog, n_labels, problem_type):
    of = transformers.AutoModelForSequenceClassification.from_pretrained
    published = of(changed(), num_labels=n_labels, problem_type=problem_type)
    published.classifier.weight.data.fill_(7)
    published.save_pretrained(tmp_path / "changed")
    torch.manual_seed(0)
    with caplog.at_level("INFO"):
        model = classifier.load_classifier(tmp_path / "changed", list(REGISTERS))
    assert f"its head is for {n_labels} other labels, and drawn anew" in caplog.text
    assert model.classifier.weight.abs().max() < 1 and model.classifier.weight.std() > 0.001
    assert model.config.problem_type == "single_label_classification"
    kept = published.bert.state_dict()
    assert all(torch.equal(weight, kept[name]) for name, weight in model.bert.state_dict().items())


def test_a_head_for_these_registers_is_kept(train, tmp_path, caplog):
    run = train("--num-epochs=1")
    caplog.set_level("INFO")
    model = classifier.load_classifier(run.models, list(REGISTERS))
    found = load_file(run.models / "model.safetensors")
    assert torch.equal(model.classifier.weight, found["classifier.weight"]) and "drawn anew" not in caplog.text
    anew = classifier.load_classifier(run.models, list(REGISTERS)[::-1])
    assert not torch.equal(anew.classifier.weight, found["classifier.weight"]) and "3 other labels" in caplog.text


def test_the_saved_model_gives_one_register_a_text(train, changed):
    config = {"problem_type": "multi_label_classification", "output_hidden_states": True, "return_dict": False}
    run = train("--num-epochs=1", f"--checkpoint={changed(config)}")
    classify = transformers.pipeline("text-classification", model=str(run.models), top_k=None)
    assert sum(answer["score"] for answer in classify("a river")[0]) == pytest.approx(1)


def test_download_proves_a_classifier_of_any_number_of_labels(tiny, changed, monkeypatch):
    folder = changed()
    of = transformers.AutoModelForSequenceClassification.from_pretrained
    of(tiny, num_labels=25).save_pretrained(folder)
    download_model._prove(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"pad_token": ...},
        {"truncation_side": "left"},
        {"model_input_names": ["input_ids"]},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_tokenizer_with_other_settings_gives_the_same_model(train, changed, settings):
    options = ["--num-epochs=1", "--max-length=8"]
    run, other = train(*options), train(*options, f"--checkpoint={changed(tokenizer=settings)}", subfolder="other")
    assert record(other)["weights_sha256"] == record(run)["weights_sha256"]
    classify = [transformers.pipeline("text-classification", model=str(found.models)) for found in (run, other)]
    texts = ["a river", "a bicycle is a kind of library and a garden in winter"]
    assert classify[0](texts, batch_size=2) == classify[1](texts, batch_size=2)


def test_a_tokenizer_that_is_not_fast_gives_the_first_tokens():
    tokenizer = transformers.CanineTokenizer()
    texts = pd.DataFrame({"register": "IN", "text": ["short", "a long text"]})
    found = to_dataset(texts, tokenizer, 8, ["IN"])
    assert [ids.tolist()[1:-1] for ids in found["input_ids"]] == [[*map(ord, "short")], [*map(ord, "a long")]]
    assert found["over"][:].tolist() == [False, True]


def test_a_special_token_in_a_text_is_text(train, tiny):

    tokenizer = classifier.load_tokenizer(tiny)
    text = "a [SEP] b [PAD] [MASK] [CLS] c"
    (ids,), _ = first_tokens([text], tokenizer, 64)
    assert [i for i in ids[1:-1] if i in tokenizer.all_special_ids and i != tokenizer.unk_token_id] == []
    run = train("--num-epochs=1")
    answers = transformers.pipeline("text-classification", model=str(run.models))
    assert answers.tokenizer(text)["input_ids"] == ids


def test_a_text_with_the_end_token_is_no_traceback(root, write_corpus, tiny, tmp_path):
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=4000,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=3,
        decoder_start_token_id=0,
    )
    folder = shutil.copytree(tiny, tmp_path / "t5", ignore=shutil.ignore_patterns("complete.json"))
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    rows = [(r, f"{r} text [SEP] {'[SEP]' * (i % 3)} {i}") for i in range(12) for r in REGISTERS]
    corpus = write_corpus({"train/en": rows, "test/en": rows[:6]})
    names = ["--model-name=t5", "--train-langs=en", f"--corpus-path={corpus}", "--threads=1"]
    assert (
        finetune.main([*names, f"--checkpoint={folder}", "--num-epochs=1", "--max-length=32", "--precision=fp32"]) == 0
    )
    assert evaluate.main([*names, "--eval-lang=en"]) == 0


def test_whatever_files_a_tokenizer_has_are_kept(root, write_corpus, tiny, tmp_path):
    """As PhoBERT and BERTweet: a vocabulary in vocab.txt and bpe.codes, and no tokenizer.json."""
    folder = tmp_path / "phobert"
    folder.mkdir()
    (folder / "vocab.txt").write_text(
        "".join(f"{word} 1\n" for word in ["IN", "OP", "LY", "t@@", "e", "x", *map(str, range(40))])
    )
    (folder / "bpe.codes").write_text("I N</w> 9\nO P</w> 8\nL Y</w> 7\n")
    tokenizer = transformers.PhobertTokenizer(str(folder / "vocab.txt"), str(folder / "bpe.codes"))
    tokenizer.save_pretrained(folder)
    for name in ("tokenizer.json",):
        (folder / name).unlink(missing_ok=True)
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        tokenizer_class="PhobertTokenizer",
    )
    transformers.RobertaModel(config).save_pretrained(folder)
    rows = [(r, f"{r} {i}") for i in range(12) for r in REGISTERS]
    corpus = write_corpus({"train/en": rows, "test/en": rows[:6]})
    names = ["--model-name=pho", "--train-langs=en", f"--corpus-path={corpus}", "--threads=1"]
    assert (
        finetune.main([*names, f"--checkpoint={folder}", "--num-epochs=1", "--max-length=32", "--precision=fp32"]) == 0
    )
    assert (run_paths("pho", ["en"]).models / "bpe.codes").is_file()
    assert evaluate.main([*names, "--eval-lang=en"]) == 0


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_pointers_of_git_lfs_are_told(root, corpus, pretrained, name):
    (pretrained / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{7:064d}\nsize 123456\n")
    words = ["--model-name=lfs", f"--checkpoint={pretrained}", f"--corpus-path={corpus}", "--train-langs=en", *FAST]
    with pytest.raises(RunError, match=f"{name}: pointers of Git LFS alone; type in it: git lfs pull"):
        finetune.main(words)
