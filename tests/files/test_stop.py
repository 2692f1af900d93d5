"""Signals, and what a process that was killed leaves behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import make_grid
import numpy as np
import pytest
from conftest import FAST, ROOT, finish, start

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
