"""Signals, and what a process that was killed leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import make_grid
import numpy as np
import pytest
from conftest import FAST, ROOT, SAMPLE_CORPUS, finish, start

from utils import runs


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR2", 140), ("SIGHUP", 129)])
def test_a_signal_before_training_has_begun_ends_in_one_line(shared_project, name, code):
    process = start(shared_project, "finetune.py", "--model-name=tiny", "--train-langs=en", *FAST)
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtorch_cpu" not in maps.read_text():  # the imports take some seconds from here
        time.sleep(0.01)
    process.send_signal(signal.Signals[name])
    out = finish(process, expect=code)
    told = [line for line in out.splitlines() if not line[:2].isdigit()]  # those of the log begin with the time
    assert told == [f"finetune.py: ended by {name}; what is done is kept"]
    assert not (shared_project / "outputs" / "tiny-en").exists() and not list(
        (shared_project / "models").glob("tiny-en")
    )


def test_a_killed_drawing_process_is_told_in_one_line(shared_project):
    for i in range(8):
        folder = shared_project / "outputs" / "grid" / f"tiny-x{i}"
        make_grid.make_run(folder, "tiny", f"x{i}", make_grid.LANGS, 60, np.random.default_rng(0))
    process = start(shared_project, "post_eval.py", "--base-dir=outputs/grid", "--jobs=2", "--ignore-tve")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    drawn = shared_project / "outputs" / "grid" / "tiny-x0" / "cfm.png"
    while not drawn.exists() and process.poll() is None:
        time.sleep(0.005)
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    out = finish(process, expect=1)
    assert "Traceback" not in out and out.splitlines()[-1].startswith("post_eval.py: a process that drew was killed")


# ---- readers who leave ----


def bash(project, command, **variables):
    """Run a line of bash in the project's folder, $PYTHON and the corpus at hand; its exit code, and both streams."""
    of_tests = {"PYTHON": sys.executable, "REGISTER_CORPUS": str(SAMPLE_CORPUS), "HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, **of_tests, **variables}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=project, env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_reader_who_has_seen_enough_ends_an_evaluation_quietly(shared_project):
    names = "--model-name=tiny --train-langs=en --subfolder=read --threads=1"
    code, out, err = bash(
        shared_project, f"$PYTHON finetune.py {names} --num-epochs=1 --max-length=32 --precision=fp32 2>&1 | head -n1"
    )
    assert (code, out.count("\n"), err) == (141, 1, "")  # and is begun only
    code, _, err = bash(shared_project, f"$PYTHON finetune.py {names} --num-epochs=1 --max-length=32 --precision=fp32")
    assert code == 0, err
    code, out, err = bash(shared_project, f"$PYTHON evaluate.py {names} --eval-lang fr en ru sv | head -n1")
    assert code == 141 and out.startswith("fr  ") and "not evaluated" not in err and "Traceback" not in err, err
    folder = shared_project / "outputs" / "read" / "tiny-en"
    done = [json.loads(path.read_text())["eval_lang"] for path in (folder / "eval").iterdir()]
    assert "fr" in done and not list(folder.rglob("*.tmp")) and not (folder / ".lock").exists()
    code, out, err = bash(shared_project, f"$PYTHON evaluate.py {names} --eval-lang fr en ru sv")
    assert code == 0 and f"{out}{err}".count("fr") and "fr: evaluated already" in err
    assert sorted(path.stem for path in (folder / "eval").iterdir()) == ["en", "fr", "ru", "sv"]


GRID = "submit_train_jobs.sh --models tiny --langs en fr --local"


@pytest.mark.parametrize("script", ["$PYTHON finetune.py --help", f"bash {GRID} --status", f"bash {GRID} --dry-run"])
def test_nothing_is_said_to_a_reader_who_has_gone(shared_project, script):
    assert bash(shared_project, f"{script} | true") == (141, "", "")


def test_a_full_device_is_told_in_one_line(shared_project):
    code, _, err = bash(shared_project, "$PYTHON utils/audit.py > /dev/full")
    assert (code, err) == (
        1, "audit.py: expected room for what is printed, found: No space left on device\n"
    )  # fmt: skip


BEGIN = "import os, sys; from utils.files import stop; stop.end_on_signals(); "


def test_another_pipe_that_breaks_is_told_to_whoever_writes():
    code = BEGIN + ("r, w = os.pipe(); os.close(r)\ntry: os.write(w, b'x')\nexcept BrokenPipeError: print('told')\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "told\n"), done.stderr


def test_no_file_gets_the_number_of_a_stream_that_is_closed():
    code, _, err = bash(ROOT, f"$PYTHON -c \"{BEGIN} sys.exit(open('README.md').fileno())\" <&- >&- 2>&-")
    assert code >= 3, err


def test_temporary_files_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from utils import runs\n"
        "with runs.whole_file(Path(sys.argv[1])) as temporary: print(temporary, flush=True); time.sleep(60)\n"
    )
    target = tmp_path / "a[1].json"
    dead, living = (
        subprocess.Popen([sys.executable, "-c", code, target], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    left, kept = Path(dead.stdout.readline().strip()), Path(living.stdout.readline().strip())
    dead.kill()
    dead.wait()
    assert left.exists() and kept.exists() and left != kept
    runs.write_text(target, "whole")
    assert sorted(tmp_path.iterdir()) == sorted([target, kept]) and target.read_text() == "whole"
    living.kill()
    living.wait()
    runs.write_text(target, "again")
    assert list(tmp_path.iterdir()) == [target]
