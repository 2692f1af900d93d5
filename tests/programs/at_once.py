"""Evaluate 19 languages of one run at once, one of them twice, while post_eval.py reads it; nothing may be lost.

    python tests/programs/at_once.py [--rounds 50]

Each round starts from a run that is trained and evaluated on one language. The processes are forked from one that
has loaded the libraries, and let go at the same instant. Then the run must hold, byte for byte, what evaluations one
after the other give, times aside, and nothing else.

Prints  how many rounds and processes there were, how many results were lost, processes ended wrongly, files were left
Exit    0 no fault, 1 faults: each is told on stderr
"""

import argparse
import contextlib
import csv
import io
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[above]) for above in (1, 2)]

from conftest import REGISTERS, words
from crash import remove, snapshot

import evaluate
import finetune
import post_eval
from utils import download_model, runs

LANGS = [f"l{i}" for i in range(19)]
NAMES = ["--model-name=tiny", "--train-langs=en", "--threads=1"]  # a pool of threads does not outlive a fork


def write_corpus(folder: Path) -> None:
    (folder / "info").mkdir(parents=True)
    (folder / "info" / "reg_abbv.json").write_text(json.dumps(REGISTERS), encoding="utf-8")
    for name in ("train/en", "test/en", *(f"test/{lang}" for lang in LANGS)):
        path = folder / "corpus" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="") as file:
            rows = [(register, f"{words(register, i)} {name}") for i in range(5) for register in REGISTERS]
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)


def fork(work: Callable[[], int], go: tuple[int, int]) -> tuple[int, Path]:
    """Fork a process that works when all are let go; return its number and the file of what it prints."""
    handle, name = tempfile.mkstemp()
    number = os.fork()
    if number == 0:
        code = 99
        with os.fdopen(handle, "w") as said:
            try:
                os.close(go[1])
                os.read(go[0], 1)  # the end of file, once the parent closes its end
                with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                    code = work()
            except BaseException:
                traceback.print_exc(file=said)
        os._exit(code)
    os.close(handle)
    return number, Path(name)


def one_round(root: Path, outputs: Path, expected: dict[str, str]) -> tuple[int, int, int]:
    """Return the numbers of results lost, processes ended wrongly, files left."""
    names = [*NAMES, f"--corpus-path={root / 'corpus'}", "--eval-lang"]
    remove(root, ["outputs/*.*", "outputs/tiny-en/cfm.png", *(f"outputs/tiny-en/*/{lang}.*" for lang in LANGS)])
    go = os.pipe()
    jobs = [fork(lambda lang=lang: evaluate.main([*names, lang]), go) for lang in [*LANGS, LANGS[0]]]
    jobs.append(fork(lambda: post_eval.main([f"--base-dir={outputs}", "--jobs=1"]), go))
    os.close(go[0])
    os.close(go[1])
    wrong = 0
    for number, said in jobs:
        code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
        if code:
            wrong += 1
            print(f"exit code {code}: {said.read_text()}", file=sys.stderr)
        said.unlink()
    with contextlib.redirect_stdout(io.StringIO()):
        assert post_eval.main([f"--base-dir={outputs}", "--jobs=1"]) == 0
    found = snapshot(root, ["outputs"])
    lost = [path for path in expected if found.get(path) != expected[path]]
    left = [path for path in found if path not in expected]
    if lost or left:
        print(f"lost: {lost}; left: {left}", file=sys.stderr)
    return len(lost), wrong, len(left)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Evaluate 19 languages at once, again and again.")
    parser.add_argument("--rounds", type=int, default=50, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    tiny = download_model.find_checkpoint("./tests/sample-corpus")
    with tempfile.TemporaryDirectory() as folder:
        root = runs.ROOT = Path(folder)
        write_corpus(root / "corpus")
        names = [*NAMES, f"--corpus-path={root / 'corpus'}"]
        options = [f"--checkpoint={tiny}", "--num-epochs=1", "--max-length=16", "--learning-rate=1e-3"]
        with contextlib.redirect_stdout(io.StringIO()):
            assert finetune.main([*names, *options]) == 0
            for lang in ["en", *LANGS]:
                assert evaluate.main([*names, "--eval-lang", lang]) == 0
            assert post_eval.main([f"--base-dir={root / 'outputs'}", "--jobs=1"]) == 0
        expected = snapshot(root, ["outputs"])
        sums = [0, 0, 0]
        for _ in range(args.rounds):
            sums = [a + b for a, b in zip(sums, one_round(root, root / "outputs", expected), strict=True)]
    counts = f"{sums[0]} results lost, {sums[1]} processes ended wrongly, {sums[2]} files left"
    print(f"{args.rounds} rounds of {len(LANGS) + 2} processes: {counts}")
    return 1 if any(sums) else 0


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    sys.exit(main())
