"""Submit the jobs of a grid that are left to do, run them here, or tell how far they are.

    python utils/cluster/submit.py train --models xlmr --langs en fr en-fr --then-evaluate [-- finetune.py options]

Called by submit_train_jobs.sh (train) and submit_eval_jobs.sh (eval), whose --help has the options.

Reads   what finetune.py and evaluate.py would read: names, corpus, checkpoints, records of runs; Slurm's queue, by
        one call of squeue
Writes  outputs/RUN/train.txt and eval.txt: the logs of the jobs
Prints  a line per job; on stderr, what is left out because it is done, queued or running, or, if anything is wrong,
        all of that, and then nothing is submitted
Exit    0; 1 something can't be used or was not done; 2 wrong use
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if __name__ == "__main__":  # before any package is imported
    from utils import environment

    sys.argv[0] = f"submit_{sys.argv[1]}_jobs.sh"
    environment.prepare()

import argparse
import contextlib
import itertools
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator

from utils import options, runs
from utils.cluster import status
from utils.cluster.grid import GridRun, parse_runs, queued_jobs
from utils.cluster.plan import Todo, left_to_do
from utils.runs import ROOT, RunError


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parse a kind of jobs and the options of a grid. args.kinds: that kind first; args.rest: the words after --."""
    kind, *argv = argv
    end = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(
        prog=f"submit_{kind}_jobs.sh", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False
    )
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--langs", nargs="+")
    parser.add_argument("--subfolder", default="")
    parser.add_argument("--max-jobs", type=int, default=0)
    for option in ("--local", "--dry-run", "--status", *(["--then-evaluate"] if kind == "train" else [])):
        parser.add_argument(option, action="store_true")
    options.check_words(parser, argv[:end])
    args, unknown = parser.parse_known_args(argv[:end])
    if unknown:
        parser.error(f"unknown option {unknown[0]!r}; options for the Python script go after --")
    if "--max-jobs" in argv[:end] and args.max_jobs < 1:
        parser.error("--max-jobs needs a number above 0")
    if not (args.local or args.dry_run or args.status or shutil.which("sbatch")):
        parser.error("no Slurm here (sbatch is not on the PATH): use --local to run on this machine, or --dry-run")
    args.rest = argv[end + 1 :]
    args.kinds = [kind, "eval"] if vars(args).get("then_evaluate") else [kind]
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(sys.argv[1:] if argv is None else argv)
    problems: dict[str, int] = {}  # message -> exit code
    grid = parse_runs(args, problems)
    queue = {} if args.local else queued_jobs()
    todo, untrained = ([], []) if args.status else left_to_do(grid, args, queue, problems)
    if problems:
        print(*map(runs.one_line, problems), "nothing was submitted", sep="\n", file=sys.stderr)
        return max(problems.values())
    if args.status:
        return status.show(grid, queue, {} if args.local else status.ended_jobs())
    not_done = [*(run_here if args.local else submit)(todo, args), *untrained]
    if not_done:
        print(f"submit_{args.kinds[0]}_jobs.sh: not done: {' '.join(not_done)}", file=sys.stderr)
    return 1 if not_done else 0


def script_of(entry: GridRun, kind: str, args: argparse.Namespace) -> list[str]:
    """Return a job's script and its arguments; an evaluation submitted with its training gets the subfolder alone."""
    subfolder = [f"--subfolder={args.subfolder}"] if args.subfolder else []
    rest = args.rest if kind == args.kinds[0] else []
    return [f"run_{kind}.sh", entry.args["eval"].model_name, entry.mix, *subfolder, *rest]


def submit(todo: list[Todo], args: argparse.Namespace) -> list[str]:
    """Submit the jobs that are left; return the names of those that were not, of which there are none.

    With --max-jobs, runs stand in that many lanes, in each of which a job waits for the end of those before it.
    """
    lanes: Iterator[list[str]] = itertools.cycle([[] for _ in range(args.max_jobs)])
    n_submitted = 0
    for entry, jobs, left in todo:
        lane = next(lanes, [])
        training = jobs["train"].number if "train" in jobs else ""
        for kind in args.kinds:
            if kind in jobs:
                lane.append(jobs[kind].number)
            if kind not in left:
                continue
            name, folder = entry.job_name(kind), entry.run.outputs.relative_to(ROOT)
            waits = ["singleton"]  # one job of a name at a time, should it ever be submitted twice
            if kind == "eval" and training:
                waits.append(f"afterok:{training}")
            if before := [number for number in lane if number != training]:
                waits.append(f"afterany:{':'.join(before)}")
            command = [
                "sbatch", "--parsable", f"--job-name={name}", f"--output={folder}/{kind}.txt",
                f"--dependency={','.join(waits)}", "--kill-on-invalid-dep=yes", *script_of(entry, kind, args),
            ]  # fmt: skip
            n_submitted += 1
            number = f"JOB{n_submitted}"
            if args.dry_run:
                print(shlex.join(command))
            else:
                entry.run.outputs.mkdir(parents=True, exist_ok=True)  # Slurm does not make the folder of --output
                answer = subprocess.run(command, capture_output=True, text=True)
                if answer.returncode:
                    raise RunError(
                        f"sbatch: expected the number of a job for {name}, found: {answer.stderr.strip()}; the same "
                        "command submits what is missing"
                    )
                number = answer.stdout.strip().partition(";")[0]  # on some sites the cluster's name follows
                print(f"job {number}: {name}", flush=True)
            lane[:] = [number]
            if kind == "train":
                training = number
    return []


def run_here(todo: list[Todo], args: argparse.Namespace) -> list[str]:
    """Run the jobs that are left one after the other; return the names of those that failed, or needed one that did."""
    not_done: list[str] = []
    for entry, _, left in todo:
        code = 0
        for kind in left:
            if code:
                not_done.append(entry.job_name(kind))
                continue
            command = ["bash", *script_of(entry, kind, args)]
            if args.dry_run:
                print(shlex.join(command))
                continue
            print("==", kind, *command[2:4], flush=True)
            code = run_logged(command, entry.run.outputs / f"{kind}.txt")
            if code > 128:  # interrupted: not the other runs either
                sys.exit(code)
            if code:
                not_done.append(entry.job_name(kind))
    return not_done


def run_logged(command: list[str], log: Path) -> int:
    """Run a command with what it says on the screen and in a log; return its exit code, 128 + N after signal N.

    It has a process group of its own, which ends with this process, having said its last words.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab", buffering=0) as file, subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
    ) as process:  # fmt: skip
        assert process.stdout is not None
        pipe = process.stdout.fileno()

        def end() -> None:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                while said := os.read(pipe, 2**16):
                    file.write(said)
                    with contextlib.suppress(OSError):  # the terminal may be gone
                        os.write(1, said)

        def leave(number: int, frame: object) -> None:
            sys.exit(128 + number)

        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP):
            signal.signal(number, leave)
        try:
            while said := os.read(pipe, 2**16):
                file.write(said)
                os.write(1, said)
            code = process.wait()
        finally:
            end()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    runs.run_script(main)
