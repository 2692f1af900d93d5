"""What of a grid is left to do, or all that is wrong with it."""

import argparse
import functools
import sys
from typing import NamedTuple

import evaluate
from utils import corpus_load, download_model, runs
from utils.cluster.grid import GridRun, Job
from utils.runs import RunError

hash_file = functools.cache(corpus_load.hash_file)  # each file once for the whole grid


class Todo(NamedTuple):
    """One run of the grid: its jobs in the queue, by kind, and the kinds that are left to be submitted."""

    entry: GridRun
    jobs: dict[str, Job]
    left: list[str]


def left_to_do(
    grid: list[GridRun], args: argparse.Namespace, queue: dict[str, Job], problems: dict[str, int]
) -> tuple[list[Todo], list[str]]:
    """Return what is left to do, and the names of the evaluations that can't be done for want of a model.

    What is done, queued or running is told on stderr; what is wrong is added to problems, with an exit code.
    Checkpoints that a finished training has left are removed.
    """
    if grid:
        check_grid(grid, args, problems)
    todo, untrained, notes = [], [], []
    for entry in grid:
        names = {kind: entry.job_name(kind) for kind in ("train", "eval")}
        jobs = {kind: queue[name] for kind, name in names.items() if name in queue}
        left: list[str] = []
        try:
            for kind in args.kinds:
                trained_soon = "train" in jobs or "train" in left
                if kind in jobs:
                    notes.append(f"{names[kind]}: {jobs[kind].state.lower()} already, as job {jobs[kind].number}")
                elif kind == "train" and (trainer := runs.trained_by(entry.run)):  # by hand, or from another grid
                    notes.append(f"{names[kind]}: being {trainer}")
                elif kind == "eval" and not trained_soon and not entry.is_trained():
                    if entry.args["eval"].model_name not in download_model.known_checkpoints():
                        problems[f"--models: expected a known or a trained model, found {entry.run.name}"] = 2
                    untrained.append(names[kind])
                elif not trained_soon and (nothing_to_train(entry) if kind == "train" else nothing_to_evaluate(entry)):
                    notes.append(f"{names[kind]}: done already")
                    if kind == "train" and not args.dry_run:  # left by a training that was ended as it finished
                        runs.remove_folder(entry.run.checkpoints)
                else:
                    left.append(kind)
        except RunError as error:
            problems[str(error)] = 1
        if left or jobs:
            todo.append(Todo(entry, jobs, left))
    if not problems:
        for note in [*notes, *(f"{name}: not trained yet" for name in untrained)]:
            print(note, file=sys.stderr)
    return todo, untrained


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
        missing = {}
        for entry in grid:
            checkpoint = entry.args["train"].checkpoint
            try:
                if download_model.folder_at_hand(checkpoint) is None:
                    missing[entry.args["eval"].model_name] = checkpoint
            except RunError as error:
                problems[str(error)] = 1
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


def nothing_to_train(entry: GridRun) -> bool:
    """Tell whether finetune.py would find the run finished; RunError if it would refuse these settings."""
    if entry.args["train"].overwrite:
        return False
    corpus = corpus_load.find_corpus(entry.args["train"].corpus_path)
    args = argparse.Namespace(**vars(entry.args["train"]) | {"corpus_path": corpus})
    start_weights = download_model.start_weights(args.checkpoint)
    settings = runs.settings_of(args, list(corpus_load.load_registers(corpus)), start_weights)
    earlier = runs.earlier_record(entry.run)
    if earlier:
        settings["processes"] = earlier["settings"]["processes"]  # known on the node only
    return runs.is_finished(entry.run, settings)


def nothing_to_evaluate(entry: GridRun) -> bool:
    """Tell whether evaluate.py would skip all languages."""
    args = entry.args["eval"]
    corpus = corpus_load.find_corpus(args.corpus_path)
    record = evaluate.load_record(args, entry.run)
    signatures = [evaluate.signature(args, record, lang, hash_file(corpus, "test", lang)) for lang in args.eval_lang]
    done = (evaluate.is_done(entry.run, record, expected, on_this_device=False) for expected in signatures)
    return not args.overwrite and all(done)
