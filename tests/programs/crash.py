"""Kill the programs at random moments, run them again, and compare with what they give undisturbed.

    python tests/programs/crash.py [--rounds 80] [--seed 0] [--only finetune evaluate …]

Each program works in a folder of its own, made for it. It is started, and ended by SIGKILL, SIGTERM, SIGUSR2 or
SIGINT, sent to itself or to all its processes, anywhere from Python's start to its last file, or within the writing
of one; after two to five such ends it runs through. Then its results must be, byte for byte, those of an
undisturbed run, times aside, with nothing else left in the folders; and what there was before must be there still.
Ctrl-C while Python is still importing, in the first second, is answered by Python itself, which prints a traceback
then: these are counted apart.

Prints  per program and signal how many tries, results lost, tracebacks, wrong exit codes, files left behind
Exit    0 no fault, 1 faults: each is told on stderr
"""

import argparse
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parents[above]) for above in (1, 2)]

import make_grid
import numpy as np
from conftest import SAMPLE_CORPUS, copy_project

from utils import download_model

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2, signal.SIGINT]
FAULTS = ("lost", "traceback", "exit code", "left")
SECONDS = 300  # that no program takes
PASSED_OVER = (".txt", ".pyc", ".tmp")  # logs; temporary files of the killed, which stay for a day
TIMES = {"seconds", "validation_seconds", "texts_per_second", "tokens_per_second", "finished", "peak_memory_bytes"}
QUICK = ["--max-length=32", "--learning-rate=1e-3", "--batch-size=8", "--threads=1"]
TINY = Path("models") / "pretrained" / "tests--sample-corpus"


class Program(NamedTuple):
    """A program to end at random.

    command: run in the project's folder. results: what it writes, relative to it. moments: globs of what is there
    only while a file or checkpoint is being written. prepare: makes what it needs. alone: whether to send signals
    to the first process alone, too.
    """

    command: list[str]
    results: list[str]
    moments: list[str]
    prepare: Callable[[Path], None] | None = None
    alone: bool = True


def prepare_evaluation(project: Path) -> None:
    names = ["--model-name=tiny", "--train-langs=sv"]
    through(project, [sys.executable, "finetune.py", *names, "--num-epochs=2", *QUICK])
    through(project, [sys.executable, "evaluate.py", *names, "--eval-lang=en"])


def prepare_grid(project: Path) -> None:
    rng = np.random.default_rng(0)
    for mix in ("en", "fr", "en-fr"):
        make_grid.make_run(project / "outputs" / "grid" / f"tiny-{mix}", "tiny", mix, ["en", "fr", "sv"], 60, rng)


def prepare_environment(project: Path) -> None:
    shutil.rmtree(project / ".venv")
    (project / "requirements.txt").write_text("# none\n")


TRAINING = ["--num-epochs=3", "--patience=0", *QUICK]
SAVING = ["models/c/*/checkpoints/checkpoint-*", "models/c/*/.*.tmp", "outputs/c/*/.*.tmp"]
PROGRAMS = {
    "finetune": Program(
        ["finetune.py", "--model-name=tiny", "--train-langs=en-fr", "--subfolder=c", *TRAINING],
        ["models/c", "outputs/c"], SAVING,
    ),
    "evaluate": Program(
        ["evaluate.py", "--model-name=tiny", "--train-langs=sv", "--eval-lang", "fr", "ru", "sv"],
        [f"outputs/tiny-sv/{kind}/{lang}.*" for kind in ("predictions", "eval") for lang in ("fr", "ru", "sv")],
        ["outputs/tiny-sv/*/.*.tmp", "outputs/tiny-sv/predictions/fr.tsv", "outputs/tiny-sv/.*.tmp"],
        prepare_evaluation,
    ),
    "post_eval": Program(
        ["post_eval.py", "--base-dir=outputs/grid", "--jobs=2"],
        ["outputs/grid/*.*", "outputs/grid/*/cfm.png", "outputs/grid/*/errors"],
        ["outputs/grid/**/.*.tmp"], prepare_grid,
    ),
    "download_model": Program(
        ["utils/download_model.py", "tiny"], [str(TINY)], [f"{TINY}/*", f"{TINY}/.complete.json*"],
    ),
    ".venv": Program(
        ["bash", "-c", "set -euo pipefail; source utils/load_env.sh"], [".venv"], [".venv/bin", ".venv/lib/*/*/pip"],
        prepare_environment,
    ),
    "submit_train_jobs.sh": Program(
        ["bash", "submit_train_jobs.sh", "--local", "--models", "tiny", "--langs", "en", "sv", "--subfolder", "c",
         "--", *TRAINING],
        ["models/c", "outputs/c"], SAVING, alone=False,
    ),
}  # fmt: skip


# ---- start, end ----


def start(project: Path, command: list[str]) -> subprocess.Popen:
    """Start a program in a process group of its own, what it prints into pipes."""
    environment = {**os.environ, "REGISTER_CORPUS": str(SAMPLE_CORPUS), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment.pop("VIRTUAL_ENV", None)
    command = [sys.executable, *command] if command[0].endswith(".py") else command
    return subprocess.Popen(
        command, cwd=project, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def through(project: Path, command: list[str]) -> tuple[int, str]:
    """Run a program to its end; return exit code and output."""
    process = start(project, command)
    out, _ = process.communicate(timeout=SECONDS)
    return process.returncode, out


def wait_for_moment(process: subprocess.Popen, project: Path, program: Program, seconds: float, rng) -> None:
    """Wait until a moment drawn from all of the program's time, from its first instants, or from its writing."""
    kind = rng.choice(["any", "any", "start", "write", "write"])
    if kind != "write":
        time.sleep(rng.uniform(0, 1.1 * seconds if kind == "any" else min(0.3, seconds)))
        return
    pattern = rng.choice(program.moments)
    there = set(project.glob(pattern))
    while process.poll() is None and not [path for path in project.glob(pattern) if path not in there]:
        time.sleep(0.001)
    time.sleep(rng.choice([0, 0, rng.uniform(0, 0.03)]))


# ---- compare ----


def snapshot(project: Path, patterns: list[str]) -> dict[str, str]:
    """Return path -> hash of its bytes, times in JSON aside, of all that the patterns name, logs aside."""
    found = {}
    for root in (path for pattern in patterns for path in project.glob(pattern)):
        for path in [root, *root.rglob("*")] if root.is_dir() else [root]:
            if path.is_file() and path.suffix not in PASSED_OVER and path.name != ".lock":
                content = path.read_bytes()
                if path.suffix == ".json" and "outputs" in path.parts:
                    content = json.dumps(without_times(json.loads(content))).encode()
                found[str(path.relative_to(project))] = hashlib.sha256(content).hexdigest()
    return found


def without_times(content):
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key not in TIMES}
    return [without_times(value) for value in content] if isinstance(content, list) else content


def remove(project: Path, patterns: list[str]) -> None:
    for path in [path for pattern in patterns for path in project.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def newest_steps(project: Path) -> dict[str, float]:
    """Return run -> step of its newest whole checkpoint, infinity if it is finished."""
    steps = {path.parent.name: math.inf for path in project.glob("outputs/c/*/run.json")}
    for path in project.glob("models/c/*/checkpoints/checkpoint-*/hashes.json"):
        run, step = path.parents[2].name, int(path.parent.name.partition("-")[2])
        steps[run] = max(step, steps.get(run, 0))
    return steps


# ---- the rounds ----


def crash(name: str, project: Path, rounds: int, rng: random.Random, counts: Counter) -> None:
    """End a program `rounds` times; count tries and faults by signal in counts, and tell each fault."""
    program = PROGRAMS[name]
    if program.prepare:
        program.prepare(project)
    remove(project, program.results)
    everything = ["models", "outputs", ".venv"]
    before = snapshot(project, everything)
    began = time.monotonic()
    code, out = through(project, program.command)
    seconds = time.monotonic() - began
    expected = snapshot(project, everything)
    if code or not expected.keys() - before.keys():
        raise SystemExit(f"{name}: expected results from an undisturbed run, found exit code {code}:\n{out}")
    remove(project, program.results)

    def fault(kind: str, number: int, what: str) -> None:
        counts[name, number, kind] += 1
        print(f"{name}, {signal.Signals(number).name}, {kind}: {what}", file=sys.stderr, flush=True)

    tries = 0
    while tries < rounds:
        for _ in range(rng.randint(2, 5)):
            number, saved = rng.choice(SIGNALS), newest_steps(project)
            process = start(project, program.command)
            wait_for_moment(process, project, program, seconds, rng)
            was_running = process.poll() is None
            if was_running:
                (os.kill if program.alone and rng.random() < 0.5 else os.killpg)(process.pid, number)
            out, _ = process.communicate(timeout=SECONDS)  # the end of all that hold its output
            code = process.returncode
            counts[name, number, "tries"] += was_running
            tries += was_running
            if code not in (-number, 128 + number if number != signal.SIGKILL else -number, 0):
                fault("exit code", number, f"{code}\n{out}")
            if "Traceback" in out or "Fatal Python error" in out:
                if number == signal.SIGINT and "run_script" not in out:
                    counts[name, number, "python"] += 1
                else:
                    fault("traceback", number, out)
            kept, newest = snapshot(project, everything), newest_steps(project)
            gone = [path for path in before if kept.get(path) != before[path]]
            gone += [run for run, step in saved.items() if newest.get(run, 0) < step]
            if gone:
                fault("lost", number, f"{gone}\n{out}")
        code, out = through(project, program.command)
        result = snapshot(project, everything)
        if code:
            fault("exit code", number, f"{code} of the run after it\n{out}")
        different = [path for path in {**expected, **result} if expected.get(path) != result.get(path)]
        left = [path for path in different if path not in expected]
        if len(different) > len(left):
            fault("lost", number, f"not as undisturbed: {different}\n{out}")
        if left:
            fault("left", number, f"{left}\n{out}")
        remove(project, program.results)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Kill the programs at random moments, and run them again.")
    parser.add_argument("--rounds", type=int, default=80, help="ends of each program (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="decides moments and signals (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS), help="these programs")
    args = parser.parse_args(argv)
    tiny = download_model.find_checkpoint("./tests/sample-corpus")
    counts: Counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only:
            project = copy_project(Path(folder) / name, tiny)
            crash(name, project, args.rounds, random.Random(f"{args.seed} {name}"), counts)
    for (name, number, what), n in counts.items():
        print(f"{name:20} {signal.Signals(number).name:8} {what:10} {n:5}")
    return 1 if any(counts[key] for key in counts if key[2] in FAULTS) else 0


if __name__ == "__main__":
    sys.exit(main())
