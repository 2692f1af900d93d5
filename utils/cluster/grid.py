"""Find out which runs are left to do, how far each of them is (--status), or everything that is wrong.

Called once by utils/cluster/jobs.sh, with train or eval, the variables of the submit script, the options that were
typed, and Slurm's queue on stdin. Prints bash variables, or the table; on stderr, why jobs are left out, or everything
that is wrong. Exit: 0; 1 something can't be used; 2 wrong use.
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
import functools
import io
import itertools
import os
import shlex
from collections.abc import Callable
from typing import Any

import evaluate
import finetune
from utils import corpus_load, download_model, metrics, ngrams, options, runs
from utils.runs import Run, RunError

COLUMNS = ("name", "number", "state", "reason", "time_used", "restarts", "folder")  # of squeue, in jobs.sh

# the part of run.json that the table reads
RECORD = {"model_name": str, "train_langs": [str], "epochs": int, "validation": {"macro_f1": float}}

hash_file = functools.cache(corpus_load.hash_file)  # each file only once for all runs


def parse_args(argv: list[str]) -> argparse.Namespace:
    kind, *argv = argv
    end = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(
        prog=f"submit_{kind}_jobs.sh", usage=argparse.SUPPRESS, exit_on_error=False, allow_abbrev=False
    )
    for option in ("--models", "--langs", "--eval-lang", "--eval-langs"):
        parser.add_argument(option, nargs="+", default=[])
    parser.add_argument("--subfolder", default="")
    for option in ("--local", "--dry-run", "--status", *(["--then-evaluate"] if kind == "train" else [])):
        parser.add_argument(option, action="store_true")
    args = options.parse(parser, argv[:end])

    # the variables of the submit script, as they will be printed for bash
    args.models, args.langs = list(dict.fromkeys(args.models)), list(dict.fromkeys(args.langs))
    args.subfolder = args.subfolder.removesuffix("/")
    args.eval_options = ["--eval-lang", *args.eval_lang] if args.eval_lang else []
    args.options = argv[end + 1 :]
    args.kinds = [kind, "eval"] if kind == "train" and (args.then_evaluate or args.eval_lang) else [kind]
    return args


def parse_runs(args: argparse.Namespace, problems: dict[str, int]) -> list[dict[str, Any]]:
    """Return each run: its name, its folders, and the arguments of its training and of its evaluation.

    Whatever finetune.py and evaluate.py refuse is added to problems, with exit code 2.
    """
    download_model.known_checkpoints()  # raises if the list of models is damaged
    grid = []
    for model_name, langs in itertools.product(args.models, args.langs):
        run = runs.run_paths(model_name, [langs], args.subfolder)
        names = [f"--model-name={model_name}", f"--train-langs={langs}", f"--subfolder={args.subfolder}"]
        words = {"train": names, "eval": [*names, "--eval-lang", *(args.eval_lang or args.eval_langs)]}
        words[args.kinds[0]] += args.options
        try:
            entry: dict[str, Any] = {"run": run, "eval": _parse(evaluate.parse_args, words["eval"], run)}
            if args.kinds[0] == "train":
                entry["train"] = _parse(finetune.parse_args, words["train"], run)
            if len(args.kinds) == 2 and entry["train"].corpus_path:
                raise RunError("--corpus-path would only count for training; set the variable REGISTER_CORPUS instead")
            grid.append(entry | {"name": str(run.outputs.relative_to(runs.ROOT / "outputs"))})
        except RunError as error:
            problems[str(error)] = 2
    return grid


def _parse(parse_args: Callable, words: list[str], run: Run) -> argparse.Namespace:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            args, named = parse_args(words)
    except SystemExit:
        wrong = said.getvalue().strip().rpartition("\n")[2].partition(" error: ")[2]
        typed = wrong.replace("--train-langs", "--langs").replace("--model-name", "--models")
        raise RunError(typed or f"options can't be used: {shlex.join(words)}") from None
    if named != run:
        raise RunError(
            "--model-name, --train-langs and --subfolder can't come after --; use --models, --langs, --subfolder"
        )
    return args


def check_files(args: argparse.Namespace, grid: list[dict[str, Any]], problems: dict[str, int]) -> None:
    """Add missing files of the corpus and missing checkpoints to problems, with exit code 1."""
    corpus = corpus_load.find_corpus(grid[0][args.kinds[0]].corpus_path)
    corpus_load.load_registers(corpus)
    # the files that are needed, and where to change the list if one is missing
    needed = [("test", grid[0]["eval"].eval_lang, "eval_langs in run_eval.sh, or --eval-lang")] * ("eval" in args.kinds)
    if args.kinds[0] == "train":
        needed.append(("train", [lang for entry in grid for lang in entry["train"].train_langs], "--langs"))
        checkpoints = {entry["train"].model_name: entry["train"].checkpoint for entry in grid}
        missing = {
            name: where for name, where in checkpoints.items() if where and not download_model.folder_at_hand(where)
        }
        if missing and not args.local:  # with --local, finetune.py downloads it
            problems[
                f"models/pretrained: {', '.join(missing.values())} must be downloaded first, for nodes without "
                f"internet; type: python utils/download_model.py {' '.join(missing)}"
            ] = 1
    for split, langs, change in needed:
        if absent := sorted(set(langs) - set(corpus_load.list_languages(corpus, split))):
            problems[f"{corpus}/corpus/{split}: there is no file for {' '.join(absent)}; change {change}"] = 1


def why_left_out(kind: str, entry: dict[str, Any], job: dict[str, str] | None, trained_soon: bool) -> str:
    """Return why a training or evaluation is left out, or ""; RunError if its script would refuse it."""
    args, run = argparse.Namespace(**vars(entry[kind])), entry["run"]
    # somebody is on it, or it can't be done yet
    if job:
        return f"{job['state'].lower()} already, as job {job['number']}"
    if kind == "train" and (trainer := runs.trained_by(run)):
        return f"is being {trainer}"
    if kind == "eval" and not trained_soon and not (run.outputs / "run.json").is_file():
        return "not trained yet"
    if args.overwrite or (kind == "eval" and trained_soon):
        return ""
    # it is done if its record has the same settings, or all its evaluations the same signatures
    args.corpus_path = corpus_load.find_corpus(args.corpus_path)
    if kind == "train":
        registers = list(corpus_load.load_registers(args.corpus_path))
        settings = finetune.settings_of(args, registers)
        if earlier := runs.earlier_record(run):
            settings["processes"] = earlier["settings"]["processes"]  # only known on the node
        return "done already" if runs.is_finished(run, settings) else ""
    record, corpus = evaluate.load_record(args, run), args.corpus_path
    signatures = [evaluate.signature(args, record, lang, hash_file(corpus, "test", lang)) for lang in args.eval_lang]
    done = [evaluate.is_done(run, record, signature, on_this_device=False) for signature in signatures]
    return "done already" if all(done) else ""


def main(argv: list[str] | None = None) -> int:
    args = parse_args(sys.argv[1:] if argv is None else argv)
    lines = sys.stdin.read().splitlines()
    if lines and lines[0].startswith("squeue does not"):
        raise RunError(f"{lines[0]}; try again later")
    jobs = [dict(zip(COLUMNS, line.split("\t"), strict=False)) for line in lines]
    # only jobs submitted from this folder; if several have the same name, the first counts
    queue = {job["name"]: job for job in reversed(jobs) if os.path.realpath(job.get("folder", "/")) == str(runs.ROOT)}
    problems: dict[str, int] = {}  # message -> exit code
    grid = parse_runs(args, problems)
    if args.status and not problems:
        return show_status(grid, queue)

    why_not: dict[str, str] = {}  # name of a job -> why it is left out; "" if it is to be started
    try:
        if grid:
            check_files(args, grid, problems)
    except RunError as error:
        problems[str(error)] = 1
    # what is left to do, and what can't be done
    for entry, kind in itertools.product(grid, args.kinds):
        name, train = f"{kind}-{entry['name']}", f"train-{entry['name']}"
        try:
            why = why_left_out(kind, entry, queue.get(name), train in queue or why_not.get(train) == "")
        except RunError as error:
            problems[str(error)] = 1
            continue
        why_not[name] = why
        if why == "not trained yet" and entry["eval"].model_name not in download_model.known_models():
            problems[f"--models: {entry['eval'].model_name} is not a known model, nor trained here; check the name"] = 2
        if (kind, why) == ("train", "done already") and not args.dry_run:
            runs.remove_folder(entry["run"].checkpoints)  # left by a training that was killed as it finished
    if problems:
        print(*map(runs.one_line, problems), "nothing was submitted", sep="\n", file=sys.stderr)
        return max(problems.values())
    for name, why in why_not.items():
        if why:
            print(f"{name}: {why}", file=sys.stderr)
    # variables for bash, which evaluates them
    for variable in ("models", "langs", "options", "eval_options"):
        print(f"{variable}=({shlex.join(vars(args)[variable])})")
    print(f"subfolder={args.subfolder} here={args.local or ''} dry_run={args.dry_run or ''}")
    print(f"to_do=({' '.join(f'[{name}]=yes' for name, why in why_not.items() if not why)})")
    print(f"not_done=({' '.join(name for name, why in why_not.items() if why == 'not trained yet')})")
    names = [f"train-{entry['name']}" for entry in grid]
    print(f"job=({' '.join(f'[{name}]=' + queue[name]['number'] for name in names if name in queue)})")
    return 0


def show_status(grid: list[dict[str, Any]], queue: dict[str, dict[str, str]]) -> int:
    """Print a row per run, and below the table why runs are damaged or have stopped; return 1 if one is damaged."""
    rows, reasons, damaged = [["run", "training", "evaluation"]], [], 0
    for entry in grid:
        rows.append([entry["name"]])
        for kind in ("train", "eval"):
            log = entry["run"].outputs / f"{kind}.txt"
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
            lines = [
                line for line in lines if line.strip() and not line.startswith("srun: ")
            ]  # about the end of the step
            try:
                job = queue.get(f"{kind}-{entry['name']}")
                cell, why = describe(kind, entry, job, lines[-1][:150] if lines else "")
            except RunError as error:
                cell, why, damaged = "damaged", str(error), 1
            rows[-1].append(cell)
            reasons += [runs.one_line(f"{kind}-{entry['name']}: {why}")] if why else []
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, *cells in rows:
        print(f"{name:{widths[0]}}  {cells[0]:{widths[1]}}  {cells[1]}")
    if reasons:
        print("", *reasons, sep="\n")
    return damaged


def describe(kind: str, entry: dict[str, Any], job: dict[str, str] | None, log: str) -> tuple[str, str]:
    """Return how far a training or evaluation is, and why it has stopped; log: the last line of its log."""
    run, langs = entry["run"], entry["eval"].eval_lang
    if langs == ["all"]:  # there is no corpus here
        langs = [path.stem for path in run.outputs.glob("eval/[!.]*.json")]
    if kind == "train":
        has_epochs = (run.outputs / "train.json").is_file() and entry["eval"].model_name != ngrams.NAME
        epochs = runs.read_record(run.outputs / "train.json", [{"epoch": int}], runs.RETRAIN) if has_epochs else []
        now = f"epoch {epochs[-1]['epoch'] + 1 if epochs else 1}"
    else:
        n_done = sum(run.scores(lang).is_file() for lang in langs)
        now = f"{n_done} of {len(langs)} languages"
    # in the queue
    if job:
        is_running = job["state"] == "RUNNING"
        words = f"running {job['time_used']}, {now}" if is_running else f"{job['state'].lower()} ({job['reason']})"
        again = f", requeued {job['restarts']} times" if job["restarts"] != "0" else ""
        return f"{words}{again} (job {job['number']})", ""
    # finished, or trained in a terminal
    if kind == "eval" and n_done:
        return now, log if n_done < len(langs) else ""
    if kind == "train" and (run.outputs / "run.json").is_file():
        record = runs.read_record(run.outputs / "run.json", RECORD, runs.RETRAIN)
        runs.check_names(entry["eval"], run, record)
        score = f"{100 * record['validation']['macro_f1']:.1f}"
        why = metrics.NOTHING_LEARNT if record.get("beats_largest_register") is False else ""
        length = f"{record['epochs']} epochs, " if record["epochs"] else ""  # n-grams are learnt without
        return f"trained, {length}validation macro-F1 {score}", why
    if kind == "train" and (trainer := runs.trained_by(run)):
        return f"{now}, {trainer}", ""
    # stopped before its end, which its log may explain
    if kind == "train" and any(run.checkpoints.glob("checkpoint-*")):
        return f"interrupted in {now}", log
    return "failed" if log else "not submitted", log


if __name__ == "__main__":
    runs.run_script(main)
