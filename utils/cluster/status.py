"""How far each run of a grid is, and why what is missing is missing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from utils import metrics, runs
from utils.cluster.grid import GridRun, Job
from utils.runs import ROOT, RunError

# what is read of run.json here
RECORD = {"model_name": str, "train_langs": [str], "epochs": int, "validation": {"macro_f1": float}}
REMEDY = "finetune.py --overwrite trains anew"
SHOWN_OF_LOG = 150  # characters of a log's last line
SLURMS_OWN = re.compile(r"(srun|slurmstepd|slurmd)\b[^:]*: ")  # how lines begin that Slurm adds to a log


def show(grid: list[GridRun], queue: dict[str, Job], ended: dict[str, str]) -> int:
    """Print a table, a row per run, and below it the last line of the log of what has stopped before its end.

    ended: how jobs ended, by name. Return 1 if a run's record is damaged, else 0.
    """
    rows, reasons, damaged = [["run", "training", "evaluation"]], [], 0
    for entry in grid:
        name = str(entry.run.outputs.relative_to(ROOT / "outputs"))
        cells = [name]
        for kind, describe in (("train", training_status), ("eval", evaluation_status)):
            try:
                cell, reason = describe(entry, queue.get(entry.job_name(kind)), ended.get(entry.job_name(kind)))
            except RunError as error:
                cell, reason, damaged = "damaged", str(error), 1
            cells.append(cell)
            if reason:
                reasons.append(runs.one_line(f"{entry.job_name(kind)}: {reason}"))
        rows.append(cells)
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for row in rows:
        print(f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}")
    if reasons:
        print("", *reasons, sep="\n")
    return damaged


def ended_jobs() -> dict[str, str]:
    """Return how the latest ended job of each name ended, as Slurm's accounting has it; {} where there is none."""
    if not shutil.which("sacct"):
        return {}
    command = ["sacct", "--allocations", "--noheader", "--parsable2", "--starttime=now-60days"]
    answer = subprocess.run([*command, "--format=State,JobName,WorkDir"], capture_output=True, text=True)
    ended = {}
    for line in answer.stdout.splitlines() if answer.returncode == 0 else []:
        state, name, folder = line.split("|", 2)
        if os.path.realpath(folder) == str(ROOT):
            ended[name] = state.split()[0].lower()  # "CANCELLED by 1000"
    return ended


def training_status(entry: GridRun, job: Job | None, ended: str | None) -> tuple[str, str]:
    """Return how far a training is, in words, and the last line of its log if it has stopped before its end."""
    run = entry.run
    epochs_file = run.outputs / "train.json"
    epochs = runs.read_record(epochs_file, [{"epoch": int}], REMEDY) if epochs_file.is_file() else []
    n_epochs = epochs[-1]["epoch"] if epochs else 0
    if job:
        return queue_status(job, f"epoch {n_epochs + 1}"), ""
    if entry.is_trained():
        record = runs.read_record(run.outputs / "run.json", RECORD, REMEDY)
        runs.check_names(entry.args["eval"], run, record)
        score = 100 * record["validation"]["macro_f1"]
        learnt = record.get("beats_largest_register") is not False  # an earlier version did not tell
        why = "" if learnt else metrics.NOTHING_LEARNT
        return f"trained, {record['epochs']} epochs, validation macro-F1 {score:.1f}", why
    trainer = runs.trained_by(run)
    if trainer:
        return f"epoch {n_epochs + 1}, {trainer}", ""
    why = last_line(run.outputs / "train.txt")
    if any(run.checkpoints.glob("checkpoint-*")):
        return f"{ended or 'interrupted'} in epoch {n_epochs + 1}", why
    return (ended or "failed", why) if why or ended else ("not submitted", "")


def evaluation_status(entry: GridRun, job: Job | None, ended: str | None) -> tuple[str, str]:
    """Return how far an evaluation is, in words, and the last line of its log if it has stopped before its end."""
    langs = entry.args["eval"].eval_lang
    n_done = sum(entry.run.scores(lang).is_file() for lang in langs)
    done = f"{n_done} of {len(langs)} languages"
    if job:
        return queue_status(job, done), ""
    why = last_line(entry.run.outputs / "eval.txt") if n_done < len(langs) else ""
    if n_done:
        return done, why
    return (ended or "failed", why) if why or ended else ("not submitted", "")


def queue_status(job: Job, progress: str) -> str:
    """Return a queued or running job in words: `running 2:13:01, epoch 4, requeued 2 times (job 17)`."""
    details = [f"{job.state.lower()} ({job.reason})"]
    if job.state == "RUNNING":
        details = [f"running {job.time_used}", progress]
    if job.restarts:
        details.append(f"requeued {job.restarts} time{'s' * (job.restarts > 1)}")
    return f"{', '.join(details)} (job {job.number})"


def last_line(log_file: Path) -> str:
    """Return the last line of a log, or its beginning, that is not Slurm's own; "" if there is none."""
    try:
        with open(log_file, "rb") as file:
            file.seek(max(0, log_file.stat().st_size - 10_000))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    lines = [line.strip() for line in lines if line.strip()]
    told = [line for line in lines if not SLURMS_OWN.match(line)] or lines or [""]
    return told[-1] if len(told[-1]) <= SHOWN_OF_LOG else f"{told[-1][:SHOWN_OF_LOG]}…"
