"""A Hub that hangs, refuses or answers with anything else: a line for each model, and nothing left in the way."""

import functools
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HTML = b"<!DOCTYPE html><html>Log in to the Wi-Fi</html>"


def answers(tiny):
    """Return what the Hub answers for each faulty model: (to the call for its files, to the call for a file)."""
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    content = {name: (tiny / name).read_bytes() for name in names}
    info = {"id": "lab/x", "sha": COMMIT, "siblings": [sibling(name, content[name]) for name in names]}
    whole = json.dumps(info).encode()
    right = (200, whole, {})
    code = {**content, "config.json": json.dumps({**json.loads(content["config.json"]), "auto_map": {}}).encode()}
    with_code = {**info, "siblings": [sibling(name, code[name]) for name in names]}
    other = {**content, "model.safetensors": content["model.safetensors"][:-1] + b"x"}
    small = {**content, "config.json": content["config.json"].replace(b"128", b"129")}
    pickled = {**info, "siblings": [{"rfilename": name} for name in ("config.json", "pytorch_model.bin")]}
    listed = {status: (status, b'{"error": "no"}', {}) for status in (401, 403, 404, 429, 500, 503)}
    found = {f"status{status}": (answer, answer) for status, answer in listed.items()}
    found |= {f"file{status}": (right, answer) for status, answer in listed.items()}
    for name, body in {
        "html": HTML, "empty": b"", "list": b"[]", "null": b"null", "object": b"{}", "number": b"7",
        "types": b'{"id": 7, "sha": [], "siblings": 5}', "cut": whole[:40], "binary": b"\xff\x00\x1b[31m",
        "deep": b"[" * 100_000,
    }.items():  # fmt: skip
        found[name] = ((200, body, {}), (200, body, {}))
    return found | {
        "pickled": ((200, json.dumps(pickled).encode(), {}), None),
        "own-code": ((200, json.dumps(with_code).encode(), {}), code),
        "other-weights": (right, other),
        "other-config": (right, small),
        "page-for-file": (right, dict.fromkeys(content, HTML)),
        "cut-file": (right, {name: body[: len(body) // 2] for name, body in content.items()}),
        "loop": ((302, b"", {"Location": "/api/models/lab/loop"}), None),
        "file-loop": (right, (302, b"", {"Location": "/lab/file-loop/resolve/main/config.json"})),
        "hang": ("hang", None),
        "file-hang": (right, "hang"),
        "half-hang": (right, "half"),
        "close": ("close", None),
        "file-close": (right, "close"),
        "good": (right, content),
    }


def sibling(name, content):
    """A file as the Hub lists it: with git's hash, or its SHA-256 where it is large."""
    blob = hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()
    entry = {"rfilename": name, "size": len(content), "blobId": blob}
    if name.endswith(".safetensors"):
        sha256 = hashlib.sha256(content).hexdigest()
        entry |= {"blobId": "0" * 40, "lfs": {"sha256": sha256, "size": len(content), "pointerSize": 130}}
    return entry


class FaultyHub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, answers, *args):
        self.answers = answers
        super().__init__(*args)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        named = re.search(r"lab/([a-z0-9-]+)", self.path)
        of_list, of_file = self.answers[named[1]] if named else ("close", None)
        if "/resolve/" not in self.path and "/tree/" not in self.path:
            answer = of_list
        elif "/tree/" in self.path:
            names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
            tree = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in names]
            answer = (200, json.dumps(tree).encode(), {})
        elif isinstance(of_file, dict):
            name = self.path.rpartition("/")[2].partition("?")[0]
            etag = hashlib.sha256(of_file[name]).hexdigest()
            answer = (200, of_file[name], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        else:
            answer = of_file
        if answer == "half":
            answer = (200, b"x" * 1000, {"ETag": '"0"', "X-Repo-Commit": COMMIT, "Content-Length": "2000"})
        if answer in ("hang", "close"):
            time.sleep(3 if answer == "hang" else 0)
            self.close_connection = True
            return
        status, body, headers = answer
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.close_connection = "Content-Length" in headers
            self.wfile.write(body)
            if headers.get("Content-Length") == "2000":
                time.sleep(3)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tiny):
    found = answers(tiny)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(FaultyHub, found))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", found
    server.shutdown()


# the client tries again after 1, 2, 4, 8 and 8 seconds: here at once
IMPATIENT = """
import sys, time
time.sleep = lambda seconds: None
from utils import download_model, runs
sys.argv[0] = "download_model.py"
runs.run_script(download_model.main)
"""


def test_each_fault_of_the_hub_is_one_line_and_leaves_nothing_in_the_way(project, hub):
    endpoint, found = hub
    names = [f"lab/{name}" for name in found]
    environment = {
        "HF_ENDPOINT": endpoint, "HF_HOME": str(project / "hf"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", IMPATIENT, *names]
    done = subprocess.run(
        command, cwd=project, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    lines = [line.partition(" ")[2] for line in done.stderr.splitlines() if ": expected " in line]
    assert len(lines) == len(names) - 1, done.stderr
    for name, line in zip(names[:-1], lines, strict=True):
        assert line.startswith((f"{name}: expected ", f"models/pretrained/{name.replace('/', '--')}")), line
    assert done.stdout == "lab/good: models/pretrained/lab--good\n"
    for name, word in {
        "pickled": "pytorch_model.bin; pickled weights are never loaded", "own-code": "auto_map in config.json",
        "other-weights": "expected model.safetensors with the hash", "other-config": "expected config.json with",
    }.items():  # fmt: skip
        assert word in next(line for line in lines if name in line)

    mended = ["other-weights", "cut-file", "half-hang"]
    for name in mended:  # the Hub is itself again
        found[name] = found["good"]
    command[3:] = [f"lab/{name}" for name in mended]
    again = subprocess.run(
        command, cwd=project, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert again.returncode == 0, again.stderr
    assert len(again.stdout.splitlines()) == 3
