"""A grid of models and training mixes: its runs, its options, and its jobs in Slurm's queue.

args is what submit.py parses: the options after -- are finetune.py's if the first of args.kinds is train, else
evaluate.py's.
"""

import argparse
import contextlib
import functools
import io
import itertools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from typing import NamedTuple

import evaluate
import finetune
from utils import download_model, runs
from utils.runs import ROOT, Run, RunError


class GridRun(NamedTuple):
    """One run of the grid, with the arguments that each kind's script would get; "eval" is always there."""

    run: Run
    mix: str
    args: dict[str, argparse.Namespace]

    def job_name(self, kind: str) -> str:
        return f"{kind}-{self.run.outputs.relative_to(ROOT / 'outputs')}"

    def is_trained(self) -> bool:
        return (self.run.outputs / "run.json").is_file()


class Job(NamedTuple):
    """A job of this repository in Slurm's queue. time_used: as squeue has it, [days-]hours:minutes:seconds."""

    number: str
    state: str
    reason: str
    time_used: str
    restarts: int


def parse_runs(args: argparse.Namespace, problems: dict[str, int]) -> list[GridRun]:
    """Return the runs of the grid; what the scripts' own parsers refuse is added to problems, with exit code 2."""
    download_model.known_checkpoints()  # a damaged list of models is no wrong use
    grid = []
    for model_name, mix in itertools.product(dict.fromkeys(args.models), dict.fromkeys(args.langs)):
        names = [f"--model-name={model_name}", f"--train-langs={mix}", f"--subfolder={args.subfolder}"]
        rest = {args.kinds[0]: args.rest}
        try:
            parsed = {}
            if "train" in args.kinds:
                parsed["train"], run = _parse(finetune.parse_args, [*names, *rest.get("train", [])])
            parsed["eval"], named = _parse(
                evaluate.parse_args, [*names, "--eval-lang", *eval_langs(), *rest.get("eval", [])]
            )
            if "train" in parsed and run != named or named != runs.run_paths(model_name, [mix], args.subfolder):
                raise RunError("--model-name, --train-langs, --subfolder: expected before --, found after it")
            if len(args.kinds) > 1 and parsed["train"].corpus_path:
                raise RunError(
                    "--corpus-path: expected for trainings alone; for evaluations too, set REGISTER_CORPUS instead"
                )
            grid.append(GridRun(named, mix, parsed))
        except RunError as error:
            problems[str(error)] = 2
    return grid


def _parse(parse_args: Callable, argv: list[str]) -> tuple[argparse.Namespace, Run]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return parse_args(argv)
    except SystemExit:
        last_line = (said.getvalue().strip().splitlines() or [""])[-1]
        raise RunError(last_line.partition(" error: ")[2] or f"options can't be used: {shlex.join(argv)}") from None


@functools.cache
def eval_langs() -> list[str]:
    """Return the languages that run_eval.sh has in eval_langs."""
    found = re.search(r"^eval_langs=\((.*?)\)", (ROOT / "run_eval.sh").read_text(encoding="utf-8"), re.M | re.S)
    if not found:
        raise RunError("run_eval.sh: expected a line eval_langs=(…), found none; git checkout run_eval.sh restores it")
    return shlex.split(found[1], comments=True)


def queued_jobs() -> dict[str, Job]:
    """Return this user's jobs that were submitted from this repository, by name."""
    if not shutil.which("squeue"):
        return {}
    fields = "Name:\t,JobID:\t,State:\t,Reason:\t,TimeUsed:\t,RestartCnt:\t,WorkDir:\t"  # with a tab: in full length
    answer = subprocess.run(["squeue", "--me", "--noheader", f"--Format={fields}"], capture_output=True, text=True)
    if answer.returncode:
        raise RunError(
            f"squeue: expected the list of your jobs, found: {answer.stderr.strip().splitlines()[-1]}; try again later"
        )
    jobs = {}
    for line in reversed(answer.stdout.splitlines()):  # of several with one name, the first counts
        match line.split("\t"):
            case name, number, state, reason, time_used, restarts, folder, _ if os.path.realpath(folder) == str(ROOT):
                jobs[name] = Job(number, state, reason, time_used, int(restarts))
    return jobs
