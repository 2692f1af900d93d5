"""Fetching pretrained models: from a Hub that this test serves, and made from a corpus."""

import json
import os
import subprocess
import sys

import pytest
from conftest import SAMPLE_CORPUS
from hub import COMMIT, served

from utils import corpus_load, download_model, runs

TEXTS = ["A text, in English.", "Un texte, déjà vu !", "Ещё один текст — здесь.", "  two  blanks\nand a line "]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return an XLM-R checkpoint that, like Glot500's, has a sentencepiece vocabulary and no tokenizer.json."""
    import sentencepiece
    from transformers import XLMRobertaConfig, XLMRobertaModel

    folder = tmp_path_factory.mktemp("hub")
    registers = corpus_load.load_registers(SAMPLE_CORPUS)
    texts = [
        line
        for lang in ("en", "fr", "ru")
        for text in corpus_load.read_texts(SAMPLE_CORPUS, "train", lang, registers)["text"]
        for line in text.splitlines()
    ]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(folder / "sentencepiece.bpe"), vocab_size=900,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2,
    )  # fmt: skip
    (folder / "sentencepiece.bpe.vocab").unlink()
    config = XLMRobertaConfig(
        vocab_size=902, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=514,
    )  # fmt: skip
    XLMRobertaModel(config).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "XLMRobertaTokenizer"}))
    (folder / "pytorch_model.bin").write_bytes(b"a pickled file that must not be fetched")
    (folder / "modeling_custom.py").write_text("raise SystemExit('code from a repository was run')")
    return folder


@pytest.fixture
def small(checkpoint):
    """Serve the checkpoint as lab/small; return what the Hub has of it, and how to ask for it."""
    repository = {"files": {path.name: path.read_bytes() for path in checkpoint.iterdir()}, "asked": [], "breaks": []}
    with served({"lab/small": repository}) as variables:
        yield repository, variables


@pytest.fixture
def with_small(project):
    """A project in which adding a model was one line of JSON."""
    path = project / "utils" / "model2chckpt.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"small": "lab/small"}))
    return project


def download(project, *names, **variables):
    command = [sys.executable, project / "utils" / "download_model.py", *names]
    environment = {**os.environ, "HF_HOME": str(project / "hf"), **variables}
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=300)


def test_a_hub_model_is_fetched_converted_and_loads_offline(with_small, small, checkpoint):
    repository, variables = small
    done = download(with_small, "small", **variables)
    assert done.returncode == 0, done.stderr
    folder = with_small / "models" / "pretrained" / "lab--small"
    there = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "complete.json"} <= there
    assert not {"pytorch_model.bin", "modeling_custom.py", ".cache"} & (there | set(repository["asked"]))
    complete = json.loads((folder / "complete.json").read_text())
    assert complete["revision"] == COMMIT
    assert complete["files"] == {name: runs.sha256_of(folder / name) for name in there - {"complete.json"}}

    code = "import sys; sys.modules['sentencepiece'] = None; sys.modules['google.protobuf'] = None\n"
    code += "import json; from pathlib import Path; from utils import model\n"
    code += f"print(json.dumps(model.load_tokenizer(Path({str(folder)!r}))({TEXTS!r})['input_ids']))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=with_small, env=environment, capture_output=True, text=True
    )
    assert loaded.returncode == 0, loaded.stderr
    assert json.loads(loaded.stdout) == [sentencepiece_ids(checkpoint, text) for text in TEXTS]

    requests = len(repository["asked"])
    assert download(with_small, "small", **variables).returncode == 0
    assert len(repository["asked"]) == requests  # what is there is not fetched again


def sentencepiece_ids(checkpoint, text):
    """XLM-R's ids by sentencepiece itself: shifted by one for <pad>, with <s> and </s> (fairseq's layout)."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(checkpoint / "sentencepiece.bpe.model"))
    return [0, *(3 if piece == 0 else piece + 1 for piece in processor.encode(text)), 2]


def test_an_interrupted_download_goes_on(with_small, small, checkpoint):
    repository, variables = small
    folder = with_small / "models" / "pretrained" / "lab--small"
    size = len(repository["files"]["model.safetensors"])
    repository["breaks"] += [size // 20] * 20  # more often than the Hub's client tries again
    done = download(with_small, "small", **variables)
    assert done.returncode == 1 and "python utils/download_model.py small" in done.stderr
    assert "Traceback" not in done.stderr and not (folder / "complete.json").exists()
    repository["breaks"].clear()
    repository["asked"].clear()
    assert download(with_small, "small", **variables).returncode == 0
    assert runs.sha256_of(folder / "model.safetensors") == runs.sha256_of(checkpoint / "model.safetensors")
    assert repository["asked"] == ["model.safetensors"]  # what was there already is not fetched again


def test_offline_the_message_gives_the_command_and_the_others_are_made(with_small):
    done = download(with_small, "small", "tiny", HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and "tests--sample-corpus" in done.stdout
    assert "python utils/download_model.py small" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["nobody-knows", "../lab/x", "lab/../x", ".."])
def test_an_unknown_name_is_wrong_use(name, capsys):
    with pytest.raises(SystemExit) as end:
        download_model.main([name])
    assert end.value.code == 2 and "mbert, xlmr, glot500, tiny" in capsys.readouterr().err


def test_tiny_is_the_same_wherever_it_is_made(tiny, tmp_path):
    folder = tmp_path / "again"
    download_model.make_tiny(SAMPLE_CORPUS, folder)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert runs.sha256_of(folder / name) == runs.sha256_of(tiny / name), name


def test_the_start_of_a_training_is_known_by_its_weights(tiny, pretrained):
    weights = runs.sha256_of(tiny / "model.safetensors")
    assert download_model.start_weights("./tests/sample-corpus") == weights == download_model.start_weights(str(tiny))
    assert download_model.start_of(pretrained) == {"start_weights": weights, "start_revision": "", "start_langs": []}
    (pretrained / "config.json").write_text('{"train_langs": ["fi", "pt-br"]}')
    (pretrained / "model.safetensors").write_bytes(b"others")
    start = download_model.start_of(pretrained)
    assert start["start_langs"] == ["fi", "pt-br"] and start["start_weights"] not in (None, weights)
    assert download_model.start_weights("lab/not-fetched") is None
