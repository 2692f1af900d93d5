"""Disturb a grid on a real Slurm in every way a cluster does, and compare with what it gives undisturbed.

    python tests/programs/rounds.py [--rounds 20] [--seed 0]

A round submits trainings with their evaluations, and, while they train, at random moments and in a random order:
lets a time limit come near, twice; preempts the trainings by a job of another partition; requeues one; kills slurmd
and starts it again; drains the node; loses the node with all that runs on it. Every run must end with the same
weights and metrics as in a grid left alone, and be evaluated once, after its end.

Prints  a line per round: what was done, and 0 differences
Exit    0 no difference in any round, 1 some; what Slurm's log says is printed
"""

import argparse
import datetime
import json
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(folder) for folder in (TESTS / "cluster", TESTS, TESTS.parent)]

from cluster import Cluster, wait_until
from conftest import SAMPLE_CORPUS, copy_project, result

from utils import download_model, runs

MIXES = ["en-fr", "sv"]
EVAL_LANGS = ["en", "ru"]
TRAINING = ["--num-epochs=40", "--max-length=128", "--batch-size=4", "--learning-rate=1e-3", "--patience=0"]


class Grid:
    """One grid of a project on a cluster, in a subfolder of its own."""

    def __init__(self, cluster: Cluster, project: Path, subfolder: str, langs: list[str] = MIXES) -> None:
        self.cluster, self.project, self.subfolder, self.langs = cluster, project, subfolder, langs

    def bash(self, script: str, *options: str, expect: int = 0, **variables: str) -> str:
        """Run a submit script for this grid; return what it prints on both streams."""
        done = subprocess.run(
            ["bash", script, "--models", "tiny", "--langs", *self.langs, "--subfolder", self.subfolder, *options],
            cwd=self.project, env=self.environment(**variables), text=True, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == expect, done.stdout
        return done.stdout

    def environment(self, **variables: str) -> dict[str, str]:
        return {**os.environ, **self.cluster.variables, "REGISTER_CORPUS": str(SAMPLE_CORPUS), **variables}

    def status(self) -> dict[str, list[str]]:
        """Return the cells of the status table, run -> [training, evaluation]."""
        table = self.bash("submit_train_jobs.sh", "--status").partition("\n\n")[0]
        rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table.splitlines()[1:]]
        return {row[0].removeprefix(f"{self.subfolder}/"): row[1:] for row in rows}

    def jobs(self, kind: str) -> dict[str, str]:
        """Return mix -> number of each queued or running job of this kind."""
        lines = self.cluster.ask("squeue", "-h", "-o", "%i %j").splitlines()
        prefix = f"{kind}-{self.subfolder}/tiny-"
        named = (line.split() for line in lines)
        return {name.removeprefix(prefix): number for number, name in named if name.startswith(prefix)}

    def run(self, mix: str) -> runs.Run:
        folders = (self.project / kind / self.subfolder / f"tiny-{mix}" for kind in ("outputs", "models"))
        return runs.Run(f"tiny-{mix}", *folders)

    def log(self, mix: str, kind: str = "train") -> str:
        path = self.run(mix).outputs / f"{kind}.txt"
        return path.read_text() if path.exists() else ""

    def saved_epochs(self, mix: str) -> int:
        path = self.run(mix).outputs / "train.json"
        return len(json.loads(path.read_text())) if path.exists() else 0

    def wait(self, seconds: float = 600) -> None:
        """Wait until no job of this grid is in the queue."""
        wait_until(f"the end of {self.subfolder}", lambda: not self.jobs("train") and not self.jobs("eval"), seconds)

    def results(self) -> dict[str, tuple]:
        """Return per mix the hash of the weights, all metrics of all epochs, and those of the evaluations."""
        found = {}
        for mix in self.langs:
            run = self.run(mix)
            files = sorted((run.outputs / "eval").glob("*.json"))
            scores = {path.stem: json.loads(path.read_text())["metrics"] for path in files}
            assert sorted(scores) == EVAL_LANGS, scores
            found[mix] = *result(run), scores
        return found


def prepare(folder: Path) -> Path:
    """Return a copy of the project whose eval_langs are those of the rounds, and whose jobs take one core each."""
    project = copy_project(folder, download_model.find_checkpoint("./tests/sample-corpus"))
    for name in ("run_train.sh", "run_eval.sh"):
        text = (project / name).read_text()
        text = re.sub("^eval_langs=.*", f"eval_langs=({' '.join(EVAL_LANGS)})", text, flags=re.MULTILINE)
        (project / name).write_text(text.replace("--cpus-per-task=4", "--cpus-per-task=1"))
    return project


class Disturber:
    """The ways to disturb a grid; each waits for what it causes."""

    def __init__(self, grid: Grid, chance: random.Random) -> None:
        self.grid, self.cluster, self.chance = grid, grid.cluster, chance

    def a_training(self) -> tuple[str, str] | None:
        """Wait until a training has saved something since now, and a moment longer; return mix and number of one."""
        before = {mix: self.grid.saved_epochs(mix) for mix in self.grid.langs}

        def gained() -> list[tuple[str, str]]:
            jobs = self.grid.jobs("train").items()
            return [
                (mix, number)
                for mix, number in jobs
                if self.cluster.job(number)["JobState"] == "RUNNING" and self.grid.saved_epochs(mix) > before[mix]
            ]

        wait_until("a training to disturb", lambda: gained() or not self.grid.jobs("train"), 120)
        time.sleep(self.chance.uniform(0, 1))
        found = gained()
        return self.chance.choice(found) if found else None

    def restart_after(self, number: str, *command: str) -> None:
        """Ask Slurm for what makes the job start again; wait until it has, or has come to its end just before."""
        before = int(self.cluster.job(number)["Restarts"])
        self.cluster.ask(*command)
        wait_until(
            f"the restart of job {number} after {shlex.join(command)}",
            lambda: int((job := self.cluster.job(number))["Restarts"]) > before or job["JobState"] == "COMPLETED",
        )

    def near_time_limit(self, mix: str, number: str) -> None:
        soon = f"EndTime={self.cluster.now() + datetime.timedelta(seconds=280):%Y-%m-%dT%H:%M:%S}"
        self.restart_after(number, "scontrol", "update", f"JobId={number}", soon)
        if mix in self.grid.jobs("train"):
            assert mix in self.grid.jobs("eval"), "the evaluation left the queue"
            self.cluster.ask("scontrol", "update", f"JobId={number}", "TimeLimit=1440")

    def preemption(self, mix: str, number: str) -> None:
        whole_node = ["--partition=urgent", "--cpus-per-task=2", "--mem=1"]
        self.restart_after(number, "sbatch", *whole_node, "--output=/dev/null", "--wrap=sleep 0.5")

    def requeue(self, mix: str, number: str) -> None:
        self.restart_after(number, "scontrol", "requeue", number)

    def slurmd_killed(self, mix: str, number: str) -> None:
        self.cluster.kill_slurmd()
        time.sleep(self.chance.uniform(0, 2))
        self.cluster.start_slurmd()

    def node_drained(self, mix: str, number: str) -> None:
        node = f"NodeName={self.cluster.node}"
        self.cluster.ask("scontrol", "update", node, "State=DRAIN", "Reason=test")
        time.sleep(self.chance.uniform(0, 2))
        self.cluster.ask("scontrol", "update", node, "State=RESUME")

    def node_lost(self, mix: str, number: str) -> None:
        self.cluster.crash_node()
        self.restart_after(
            number, "scontrol", "update", f"NodeName={self.cluster.node}", "State=DOWN", "Reason=test"
        )  # fmt: skip
        self.cluster.start_slurmd()


def disturbed_round(grid: Grid, chance: random.Random) -> list[str]:
    """Submit the grid, disturb it in every way, wait for its end; return what was done."""
    disturber = Disturber(grid, chance)
    events = [
        disturber.near_time_limit, disturber.near_time_limit, disturber.preemption, disturber.requeue,
        disturber.slurmd_killed, disturber.node_drained, disturber.node_lost,
    ]  # fmt: skip
    chance.shuffle(events)
    grid.bash("submit_train_jobs.sh", "--then-evaluate", "--", *TRAINING)
    done = []
    for event in events:
        training = disturber.a_training()
        if training is None:
            break
        event(*training)
        done.append(f"{event.__name__} {training[0]}")
    grid.wait()
    for mix in grid.langs:
        evaluated = [line.split()[0] for line in grid.log(mix, "eval").splitlines() if "micro_f1" in line]
        assert evaluated == EVAL_LANGS, f"{mix}: evaluated {evaluated}, once each expected"
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description="Disturb a grid on a real Slurm; compare with one left alone.")
    parser.add_argument("--rounds", type=int, default=20, help="(default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and their order (default: 0)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rounds") as folder:
        cluster = Cluster(Path(folder) / "slurm")
        try:
            cluster.up()
            project = prepare(Path(folder) / "project")
            alone = Grid(cluster, project, "alone")
            alone.bash("submit_train_jobs.sh", "--then-evaluate", "--", *TRAINING)
            alone.wait()
            expected = alone.results()
            failed = 0
            for number in range(args.rounds):
                began = time.monotonic()
                grid = Grid(cluster, project, f"round{number}")
                try:
                    done = disturbed_round(grid, random.Random(args.seed + number))
                    assert grid.results() == expected, f"differences after {done}"
                except Exception as error:
                    failed += 1
                    print(f"round {number}: {type(error).__name__}: {error}")
                    print(cluster.ask("sinfo", "-N", "-l"), cluster.ask("squeue"), sep="\n")
                    print(*(cluster.folder / "slurmctld.log").read_text().splitlines()[-60:], sep="\n", flush=True)
                    cluster.ask("scancel", "--user=root")
                    grid.wait(60)
                    continue
                seconds = time.monotonic() - began
                print(f"round {number}: {seconds:.0f} s, 0 differences; {', '.join(done)}", flush=True)
            print(f"{args.rounds - failed} of {args.rounds} rounds without a difference")
            sys.exit(1 if failed else 0)
        finally:
            cluster.down()


if __name__ == "__main__":
    main()
