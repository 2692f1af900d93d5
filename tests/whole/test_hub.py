"""A Hub that hangs, refuses or answers with anything else: a line for each model, and nothing left in the way."""

import json
import os
import re
import subprocess
import sys

from hub import served

HTML = b"<!DOCTYPE html><html>Log in to the Wi-Fi</html>"
NAMES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def faulty_repositories(files):
    """Return repositories that lack what they list, or list what can't be used."""
    weights = files["model.safetensors"]
    config = json.loads(files["config.json"])
    listings = {
        "html": HTML, "empty": b"", "null": b"null", "object": b"{}", "cut": b'{"id": "lab/cut", "sha": "01',
        "types": b'{"id": 7, "sha": [], "siblings": 5}', "binary": b"\xff\x00\x1b[31m", "deep": b"[" * 100_000,
    }  # fmt: skip
    sent = {
        "other-weights": {**files, "model.safetensors": weights[:-1] + b"x"},
        "other-config": {**files, "config.json": files["config.json"].replace(b"128", b"129")},
        "page-for-file": dict.fromkeys(files, HTML),
        "cut-file": {name: content[: len(content) // 2] for name, content in files.items()},
        "file-loop": (302, b"", {"Location": "/lab/file-loop/resolve/main/config.json"}),
        "file-hang": "hang", "half-hang": "half", "file-close": "close",
    }  # fmt: skip
    found = {f"status{status}": {"listing": (status, b"no", {})} for status in (401, 404, 429, 503)}
    found |= {f"file{status}": {"sent": (status, b"no", {})} for status in (401, 404, 429, 503)}
    found |= {name: {"listing": (200, body, {})} for name, body in listings.items()}
    found |= {name: {"sent": answer} for name, answer in sent.items()}
    found |= {"hang": {"listing": "hang"}, "close": {"listing": "close"}}
    found["pickled"] = {"files": {"config.json": files["config.json"], "pytorch_model.bin": b"\x80"}}
    found["own-code"] = {"files": {**files, "config.json": json.dumps({**config, "auto_map": {}}).encode()}}
    return {f"lab/{name}": {"files": files} | faults for name, faults in found.items()}


# the client tries again after 1, 2, 4, 8 and 8 seconds: here at once
IMPATIENT = """
import sys, time
time.sleep = lambda seconds: None
from utils import download_model, runs
sys.argv[0] = "download_model.py"
runs.run_script(download_model.main)
"""


def test_each_fault_of_the_hub_is_one_line_and_leaves_nothing_in_the_way(project, tiny):
    repositories = faulty_repositories({name: (tiny / name).read_bytes() for name in NAMES})
    faulty = list(repositories)
    repositories["lab/good"] = {"files": repositories["lab/hang"]["files"]}

    def download(*names):
        return subprocess.run(
            [sys.executable, "-c", IMPATIENT, *names], cwd=project, capture_output=True, text=True, timeout=300,
            env={**os.environ, "HF_HOME": str(project / "hf"), **variables},
        )  # fmt: skip

    with served(repositories) as variables:
        done = download(*faulty, "lab/good")
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert done.stdout == "lab/good: models/pretrained/lab--good\n"
        said = re.findall(r"^[\d:]{8} (?:models/pretrained/)?(lab(?:/|--)\S+): (.*)$", done.stderr, re.MULTILINE)
        told = {}
        for name, text in said:
            if text != "downloading":
                assert told.setdefault(name.replace("--", "/"), text) is text  # one line each
        assert list(told) == faulty
        assert "pytorch_model.bin" in told["lab/pickled"] and "auto_map" in told["lab/own-code"]
        assert "model.safetensors" in told["lab/other-weights"] and "config.json" in told["lab/other-config"]
        assert not list(project.glob("models/pretrained/lab--*[!d]/complete.json"))

        mended = ["lab/other-weights", "lab/cut-file", "lab/half-hang"]
        for name in mended:  # the Hub is itself again
            repositories[name] = repositories["lab/good"]
        again = download(*mended)
        assert again.returncode == 0 and len(again.stdout.splitlines()) == len(mended), again.stderr
