"""Fetching pretrained models: from a Hub that this test serves, and made from a corpus."""

import functools
import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE_CORPUS

from utils import corpus_load, download_model, model, runs
from utils.runs import RunError

REPOSITORY = "some-lab/small-xlmr"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXTS = ["A text, in English.", "Un texte, déjà vu !", "Ещё один текст — здесь.", "  two  blanks\nand a line "]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """Return an XLM-R checkpoint that, like Glot500's, has a sentencepiece vocabulary and no tokenizer.json."""
    import sentencepiece
    from transformers import XLMRobertaConfig, XLMRobertaModel

    folder = tmp_path_factory.mktemp("hub") / REPOSITORY
    folder.mkdir(parents=True)
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


class Hub(http.server.BaseHTTPRequestHandler):
    """The calls of the Hugging Face Hub that a download makes."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, log: list[str], break_after: list[int], *args):
        self.folder, self.log, self.break_after = folder, log, break_after
        super().__init__(*args)

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool):
        path = self.path.partition("?")[0]
        files = sorted(path.name for path in self.folder.iterdir())
        if path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            tree = [
                {"type": "file", "path": name, "size": (self.folder / name).stat().st_size, "oid": "0" * 40}
                for name in files
            ]
            self.send(json.dumps(tree).encode(), {}, body)
        elif path.startswith(f"/api/models/{REPOSITORY}"):
            info = {"id": REPOSITORY, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            self.send(json.dumps(info).encode(), {}, body)
        elif path.startswith(f"/{REPOSITORY}/resolve/{COMMIT}/") and path.rsplit("/", 1)[1] in files:
            name = path.rsplit("/", 1)[1]
            content = (self.folder / name).read_bytes()
            self.log.append(f"{self.command} {name} {self.headers.get('Range') or ''}".strip())
            etag = hashlib.sha256(content).hexdigest()
            self.send(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body, name)
        else:
            self.send_error(404)

    def send(self, content: bytes, headers: dict[str, str], body: bool, name: str = ""):
        first = 0
        if self.headers.get("Range"):
            first = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
        self.send_response(206 if first else 200)
        for key, value in {**headers, "Accept-Ranges": "bytes", "Content-Length": str(len(content) - first)}.items():
            self.send_header(key, value)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body and name == "model.safetensors" and self.break_after:
            self.wfile.write(content[first : first + self.break_after.pop()])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif body:
            self.wfile.write(content[first:])

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(checkpoint, tmp_path):
    """Serve the checkpoint; return the requests for files, and a list to put "break off after N bytes" in."""
    log, break_after = [], []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, checkpoint, log, break_after))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", log, break_after
    server.shutdown()


def download(project: Path, *names: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, project / "utils" / "download_model.py", *names]
    variables = {"HF_HOME": str(project / "hf"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", **environment}
    return subprocess.run(
        command, cwd="/", env={**os.environ, **variables}, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def with_small_xlmr(project):
    """A project in which adding a model was one line of JSON."""
    path = project / "utils" / "model2chckpt.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"small": REPOSITORY}))
    return project


def test_a_hub_model_is_fetched_converted_and_proven_offline(with_small_xlmr, hub, checkpoint):
    project, (endpoint, log, _) = with_small_xlmr, hub
    done = download(project, "small", HF_ENDPOINT=endpoint)
    assert done.returncode == 0, done.stderr
    folder = project / "models" / "pretrained" / "some-lab--small-xlmr"
    there = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "complete.json"} <= there
    assert not {"pytorch_model.bin", "modeling_custom.py", ".cache"} & there
    assert not [line for line in log if "pytorch_model.bin" in line or ".py" in line]
    assert json.loads((folder / "complete.json").read_text())["revision"] == COMMIT

    without = "import sys; sys.modules['sentencepiece'] = None; sys.modules['google.protobuf'] = None\n"
    code = without + "import json; from pathlib import Path; from utils import model\n"
    code += f"print(json.dumps(model.load_tokenizer(Path({str(folder)!r}))({TEXTS!r})['input_ids']))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    loaded = subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    assert json.loads(loaded.stdout) == [sentencepiece_ids(checkpoint, text) for text in TEXTS]

    requests = len(log)
    assert download(project, "small", HF_ENDPOINT=endpoint).returncode == 0
    assert len(log) == requests  # what is there is not fetched again


def sentencepiece_ids(checkpoint: Path, text: str) -> list[int]:
    """XLM-R's ids by sentencepiece itself: shifted by one for <pad>, with <s> and </s> (fairseq's layout)."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(checkpoint / "sentencepiece.bpe.model"))
    return [0, *(3 if piece == 0 else piece + 1 for piece in processor.encode(text)), 2]


def test_an_interrupted_download_goes_on(with_small_xlmr, hub, checkpoint):
    project, (endpoint, log, break_after) = with_small_xlmr, hub
    size = (checkpoint / "model.safetensors").stat().st_size
    break_after.extend([size // 2] * 20)  # more often than the Hub's client tries again
    first = download(project, "small", HF_ENDPOINT=endpoint)
    assert first.returncode == 1 and "Traceback" not in first.stderr
    assert not (project / "models" / "pretrained" / "some-lab--small-xlmr").exists()
    break_after.clear()
    log.clear()
    second = download(project, "small", HF_ENDPOINT=endpoint)
    assert second.returncode == 0, second.stderr
    folder = project / "models" / "pretrained" / "some-lab--small-xlmr"
    assert runs.sha256_of(folder / "model.safetensors") == runs.sha256_of(checkpoint / "model.safetensors")


def test_offline_the_message_gives_the_command(with_small_xlmr):
    done = download(with_small_xlmr, "small", HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert "python utils/download_model.py" in done.stderr and "Traceback" not in done.stderr


def test_an_unknown_name_is_wrong_use(project):
    done = download(project, "nobody-knows")
    assert done.returncode == 2 and "mbert, xlmr, glot500, tiny" in done.stderr


def test_one_that_fails_does_not_stop_the_others(with_small_xlmr):
    done = download(with_small_xlmr, "small", "tiny", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1 and "tests--sample-corpus" in done.stdout


def test_tiny_is_the_same_wherever_it_is_made(tiny, tmp_path):
    folder = tmp_path / "again"
    download_model.make_tiny(SAMPLE_CORPUS, folder)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert runs.sha256_of(folder / name) == runs.sha256_of(tiny / name), name


def test_tiny_keeps_line_ends_and_knows_both_scripts(tiny):
    tokenizer = model.load_tokenizer(tiny)
    for text in ("one\ntwo", "Ночь\nсвет", "déjà"):
        tokens = tokenizer.tokenize(text)
        assert ("⏎" in tokens) == ("\n" in text)
        assert tokenizer.unk_token not in tokens


def test_a_folder_is_its_own_checkpoint(tiny):
    assert download_model.find_checkpoint(str(tiny)) == tiny
    with pytest.raises(RunError):
        model.load_classifier(ROOT, ["A", "B"])
