"""Tell which jobs of a grid are left to do, or all that is wrong with it.

    python utils/cluster/plan.py --models xlmr --langs en fr en-fr --kinds train eval [-- finetune.py options]

Called by utils/cluster/submit.sh, which submits what this prints.

Reads   what finetune.py and evaluate.py would read: names, corpus, checkpoints, records of runs; Slurm's queue, by
        one call of squeue
Prints  a line per job that is left to do: kind, job name, folder of its log, model, mix, dependency; kind is
        `untrained` for an evaluation that can't be done yet. On stderr, what is left out because it is done,
        queued or running, or, if anything is wrong, all of that and nothing else
Exit    0; 1 something can't be used; 2 wrong use
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if __name__ == "__main__":  # first: a signal during the imports below is answered too
    from utils.files import stop

    stop.end_on_signals()

import argparse
import functools
import itertools
from typing import NamedTuple

import evaluate
from utils import corpus_load, download_model, runs
from utils.cluster.grid import GridRun, parse_args, parse_runs, queued_jobs
from utils.files import lock, records
from utils.runs import ROOT, RunError


class Step(NamedTuple):
    """One job of the grid, in the queue or still to be submitted.

    number: Slurm's, or @N for the Nth to be submitted. after: number of the training that it needs.
    """

    kind: str
    entry: GridRun
    number: str
    after: str | None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Tell which jobs of a grid are left to do, or what is wrong with it.")
    parser.add_argument("--max-jobs", type=int, default=0, help="at most so many of them at once (default: any number)")
    args = parse_args(parser, argv)
    problems: dict[str, int] = {}  # message -> exit code
    grid = parse_runs(args, problems)
    if grid:
        check_grid(grid, args, problems)
    jobs = {} if args.local else queued_jobs()
    steps: list[Step] = []
    untrained: list[GridRun] = []
    notes: list[str] = []
    for entry in grid:
        training = jobs.get(entry.job_name("train"))
        after = training.number if training else None
        try:
            for kind in args.kinds:
                job = jobs.get(entry.job_name(kind))
                if job:
                    notes.append(f"{entry.job_name(kind)}: {job.state.lower()} already, as job {job.number}")
                    steps.append(Step(kind, entry, job.number, after if kind == "eval" else None))
                elif kind == "train" and (trainer := lock.trainer_of(entry.run)):  # by hand, or from another grid
                    notes.append(f"{entry.job_name(kind)}: being {trainer}")
                elif kind == "eval" and not after and not entry.is_trained():
                    if entry.args["eval"].model_name not in download_model.known_checkpoints():
                        problems[f"--models: expected a known or a trained model, found {entry.run.name}"] = 2
                    untrained.append(entry)
                elif not after and (nothing_to_train(entry) if kind == "train" else nothing_to_evaluate(entry)):
                    notes.append(f"{entry.job_name(kind)}: done already")
                else:
                    number = f"@{1 + sum(step.number.startswith('@') for step in steps)}"
                    steps.append(Step(kind, entry, number, after))
                    after = number if kind == "train" else after
        except RunError as error:
            problems[str(error)] = 1
    if problems:
        print(*map(runs.one_line, problems), "nothing was submitted", sep="\n", file=sys.stderr)
        return max(problems.values())
    for note in [*notes, *(f"{entry.job_name('eval')}: not trained yet" for entry in untrained)]:
        print(note, file=sys.stderr)
    for step, dependency in zip(steps, dependencies(steps, args.max_jobs), strict=True):
        if step.number.startswith("@"):
            folder = step.entry.run.outputs.relative_to(ROOT)
            model_name = step.entry.args["eval"].model_name
            print(step.kind, step.entry.job_name(step.kind), folder, model_name, step.entry.mix, dependency)
    for entry in untrained:
        print("untrained", entry.job_name("eval"))
    return 0


def check_grid(grid: list[GridRun], args: argparse.Namespace, problems: dict[str, int]) -> None:
    """Add to problems what corpus and checkpoints lack for the grid, with exit code 1."""
    first = grid[0]
    try:
        corpus = corpus_load.find_corpus(first.args[args.kinds[0]].corpus_path)
        corpus_load.load_registers(corpus)
    except RunError as error:
        problems[str(error)] = 1
        return
    langs: dict[str, list[str]] = {"train": [], "test": []}
    if "train" in args.kinds:
        langs["train"] = [lang for entry in grid for lang in entry.args["train"].train_langs]
        missing = {
            entry.args["eval"].model_name: entry.args["train"].checkpoint
            for entry in grid
            if not at_hand(entry.args["train"].checkpoint, problems)
        }
        if missing and not args.local:  # on this machine, finetune.py fetches it
            problems[
                f"{runs.shown(runs.PRETRAINED)}: expected {', '.join(missing.values())}, for nodes without internet, "
                f"found none; type: python utils/download_model.py {' '.join(missing)}"
            ] = 1
    if "eval" in args.kinds:
        langs["test"] = first.args["eval"].eval_lang
    for split, names in langs.items():
        absent = sorted(set(names) - set(corpus_load.list_languages(corpus, split)))
        if absent:
            change = "--langs" if split == "train" else "eval_langs in run_eval.sh, or --eval-lang"
            problems[
                f"{corpus}/corpus/{split}: expected a file LANG.tsv for each language, found none for "
                f"{' '.join(absent)}; change {change}"
            ] = 1


def at_hand(checkpoint: str, problems: dict[str, int]) -> bool:
    """Tell whether a checkpoint needs no fetching; one that can't be one is added to problems."""
    try:
        return download_model.folder_at_hand(checkpoint) is not None
    except RunError as error:
        problems[str(error)] = 1
        return True


def nothing_to_train(entry: GridRun) -> bool:
    """Tell whether finetune.py would find the run finished; RunError if it would refuse these settings."""
    if entry.args["train"].overwrite:
        return False
    corpus = corpus_load.find_corpus(entry.args["train"].corpus_path)
    settings = records.run_settings(entry.args["train"], corpus, list(corpus_load.load_registers(corpus)))
    earlier = records.earlier_record(entry.run)
    if earlier:
        settings["processes"] = earlier["settings"]["processes"]  # known on the node only
    return records.is_finished(entry.run, settings)


def nothing_to_evaluate(entry: GridRun) -> bool:
    """Tell whether evaluate.py would skip all languages."""
    args = entry.args["eval"]
    corpus = corpus_load.find_corpus(args.corpus_path)
    record = evaluate.load_record(args, entry.run)
    signatures = [evaluate.signature(args, record, lang, test_sha256(corpus, lang)) for lang in args.eval_lang]
    return not args.overwrite and all(evaluate.is_done(entry.run, record, expected) for expected in signatures)


@functools.cache
def test_sha256(corpus: Path, lang: str) -> str | None:
    return corpus_load.hash_file(corpus, "test", lang)


def dependencies(steps: list[Step], max_jobs: int) -> list[str]:
    """Return what sbatch is to be given as --dependency for each step.

    With max_jobs, steps stand in that many lanes, in each of which one waits for the end of those before.
    """
    lanes: list[list[str]] = [[] for _ in range(max_jobs)]
    turns = itertools.cycle(lanes)
    found = []
    for step in steps:
        waits = ["singleton"]  # one job of a name at a time, should it ever be submitted twice
        if step.after:
            waits.append(f"afterok:{step.after}")
        if lanes:
            if not (step.after or "").startswith("@"):  # else it stands behind its training, in the same lane
                lane = next(turns)
                if lane:
                    waits.append(f"afterany:{':'.join(lane)}")
            if step.number.startswith("@"):
                lane.clear()
            lane.append(step.number)
        found.append(",".join(waits))
    return found


if __name__ == "__main__":
    runs.run_script(main)
