"""A Hugging Face Hub on this machine, for the tests."""

import contextlib
import functools
import hashlib
import http.server
import json
import re
import socket
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers the calls that a download makes.

    repositories: lab/name -> its "files", name -> content, as the Hub lists them; "asked" gets the files asked for;
    "breaks" has numbers of bytes after which the connection is cut.
    """

    protocol_version = "HTTP/1.1"

    def __init__(self, repositories, *args):
        self.repositories = repositories
        super().__init__(*args)

    def do_GET(self):
        path = self.path.partition("?")[0]
        repository = self.repositories[re.search(r"lab/[a-z0-9-]+", path)[0]]
        files, name = repository["files"], path.rpartition("/")[2]
        if "/resolve/" in path:
            if self.command == "GET":
                repository["asked"].append(name)
            etag = hashlib.sha256(files[name]).hexdigest()
            answer = (200, files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"})
        else:
            entries = [entry(name, content) for name, content in files.items()]
            listed = entries if "/tree/" in path else {
                "id": "lab/x", "sha": COMMIT, "siblings": [{"rfilename": entry["path"]} for entry in entries]
            }  # fmt: skip
            answer = (200, json.dumps(listed).encode(), {})
        self.send(*answer, repository["breaks"] if name == "model.safetensors" else [])

    do_HEAD = do_GET

    def send(self, status, body, headers, breaks=()):
        if asked := re.match(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            first, n_bytes = int(asked[1]), len(body)
            status, body = 206, body[first:]
            headers |= {"Content-Range": f"bytes {first}-{n_bytes - 1}/{n_bytes}"}
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: breaks[0]] if breaks else body)
            if breaks:
                breaks.pop()
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

    def log_message(self, *args):
        pass


def entry(name, content):
    """A file as the Hub lists it: with git's hash, or its SHA-256 where it is large."""
    listed = {"type": "file", "path": name, "size": len(content)}
    if name.endswith(".safetensors"):
        lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return listed | {"oid": "0" * 40, "lfs": lfs}
    return listed | {"oid": hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()}


@contextlib.contextmanager
def served(repositories):
    """Serve the repositories; give the variables of the environment with which the Hub's client asks there."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, repositories))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1",
    }  # fmt: skip
    server.shutdown()
