"""Turn the results of all evaluated runs into confusion matrices, transfer matrices and tables.

    python post_eval.py
    python post_eval.py --base-dir outputs/seed1 outputs/seed2 outputs/seed3 --format png pdf --labels fr
    python post_eval.py --compare xlmr-en xlmr-en-fr

Reads   the files that finetune.py and evaluate.py wrote under the base dirs (default: outputs/); no model, no
        corpus: only the texts in errors/ come from the corpus, where it is at hand
Writes  in each run's folder   cfm.png           confusion matrices, a panel per evaluation language
                               errors/LANG.tsv   wrong predictions, the most confident first
        in the base dir        tve.png           training languages x evaluation languages, a panel per model and metric
                               tve.md, tve.tex   the same as tables, digit for digit
                               tve.csv           every score with its interval, in long form
                               per_register.csv  precision, recall, F1 and support of each register
                               report.html       a page for a browser: from the matrices to the texts behind a score
        What one page can't hold goes to further ones: cfm-2.png, tve-2.png…
Prints  the tables of the metrics drawn, or with --compare the comparison
Exit    0 all drawn, 1 nothing to draw, or damaged files (named; the rest is drawn), 2 wrong use,
        128 + N ended by signal N

Several base dirs are repetitions of the same grid with other seeds: cells show mean, standard deviation and interval
over them; what belongs to all of them is written to the folder that holds them. The scores are defined in
utils/metrics.py, their intervals and comparisons in utils/scores/. The same input gives the same bytes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # Python leaves it out where PYTHONSAFEPATH is set

if __name__ == "__main__":  # first: a signal during the imports below is answered too
    from utils.files import stop

    stop.end_on_signals()

import argparse
import ctypes
import itertools
import logging
import math
import multiprocessing
import os
import signal
import statistics
from typing import TYPE_CHECKING

from utils import options, runs
from utils.files import stop
from utils.runs import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from matplotlib.figure import Figure

    from utils.scores.results import EvaluatedRun

METRICS = ("macro_f1_10", "micro_f1", "macro_f1", "precision", "recall")
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h

log = logging.getLogger("post_eval")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = options.new_parser(
        "Turn the results of all evaluated runs into confusion matrices, transfer matrices and tables.",
        "python post_eval.py --base-dir outputs/demo --tve-metrics macro_f1_10",
    )
    parser.add_argument(
        "--base-dir", type=options.filled, nargs="+", default=[runs.ROOT / "outputs"], metavar="DIR",
        help="where the runs lie; several: repetitions with other seeds (default: outputs)",
    )  # fmt: skip
    parser.add_argument("--format", nargs="+", choices=("png", "pdf", "svg"), default=["png"], help="(default: png)")
    parser.add_argument("--labels", choices=("en", "fr"), default="en", help="language of the figures (default: en)")
    parser.add_argument(
        "--jobs", type=options.positive_int, metavar="N", help="figures drawn at once (default: one per core)"
    )
    parser.add_argument(
        "--compare", nargs=2, metavar="MODEL-LANGS",
        help="compare two runs on the same texts, per language, and draw nothing; of several base dirs, all seeds",
    )  # fmt: skip
    for kind, name in (("cfm", "confusion matrices"), ("tve", "transfer matrices")):
        group = parser.add_argument_group(name)
        group.add_argument(f"--ignore-{kind}", action="store_true", help=f"draw no {name}")
        group.add_argument(f"--{kind}-models", nargs="+", metavar="NAME", help="only these models")
        group.add_argument(
            f"--{kind}-train-langs", nargs="+", metavar="LANGS", help="only these training mixes: en en-fr"
        )
        group.add_argument(f"--{kind}-eval-langs", nargs="+", metavar="LANG", help="only these evaluation languages")
        if kind == "cfm":
            group.add_argument(
                "--cfm-ignore-summary", action="store_true", help="leave out the panel of training texts"
            )
        else:
            group.add_argument(
                "--tve-metrics", nargs="+", default=list(METRICS[:2]), metavar="METRIC",
                help=f"{', '.join(METRICS)} (default: {' '.join(METRICS[:2])})",
            )  # fmt: skip
    group = parser.add_argument_group("report.html")
    group.add_argument("--ignore-report", action="store_true", help="write no report.html")
    group.add_argument(
        "--report-texts", type=options.natural, default=0, metavar="N",
        help="show the beginnings of the texts of the N most confident errors of each pair of registers in an "
        "evaluation, where the corpus is at hand; 0: no text of the corpus is in the page (default: %(default)s)",
    )  # fmt: skip
    args = options.parse(parser, argv)
    check_each(parser, "--tve-metrics", args.tve_metrics, list(METRICS))
    args.base_dir = [Path(base_dir).absolute() for base_dir in args.base_dir]
    for a, b in itertools.combinations(args.base_dir, 2):
        if a.resolve() in (b.resolve(), *b.resolve().parents) or b.resolve() in a.resolve().parents:
            parser.error(f"argument --base-dir: expected folders outside each other, found {a} and {b}")
    if os.path.commonpath(args.base_dir) == "/":
        parser.error("argument --base-dir: expected folders in one folder, to which the tables are written")
    args.parser = parser
    return args


def check_each(parser: argparse.ArgumentParser, option: str, names: list[str] | None, existing: list[str]) -> None:
    """End with exit code 2 if one of the option's names is none of those that exist."""
    for name in names or []:
        if name not in existing:
            parser.error(f"argument {option}: expected one of {', '.join(existing)}; found {name!r}")


def select(args: argparse.Namespace, kind: str, found: "list[EvaluatedRun]") -> "tuple[list[EvaluatedRun], list[str]]":
    """Return the runs and evaluation languages that the options of this kind of matrix leave."""
    from utils.scores import results

    models, mixes, langs = (getattr(args, f"{kind}_{name}") for name in ("models", "train_langs", "eval_langs"))
    check_each(args.parser, f"--{kind}-models", models, list(dict.fromkeys(run.model_name for run in found)))
    check_each(args.parser, f"--{kind}-train-langs", mixes, list(dict.fromkeys(run.mix for run in found)))
    check_each(args.parser, f"--{kind}-eval-langs", langs, results.languages(found))
    chosen = [run for run in found if (not models or run.model_name in models) and (not mixes or run.mix in mixes)]
    eval_langs = [lang for lang in results.languages(chosen) if not langs or lang in langs]
    return [run for run in chosen if set(run.evaluations) & set(eval_langs)], eval_langs


# ---- confusion matrices and errors ----


def draw_confusions(job: "tuple[EvaluatedRun, list[str], argparse.Namespace]") -> None:
    """Draw one run's confusion matrices and write its errors."""
    from utils import cfm
    from utils.scores import errors

    run, eval_langs, args = job
    langs = [lang for lang in eval_langs if lang in run.evaluations]
    with_summary = not args.cfm_ignore_summary
    save_figures(cfm.draw_run(run, langs, args.labels, with_summary), run.folder / "cfm", args.format)
    for lang in langs:
        errors.write_errors(run, lang)


def save_figures(figures: "Iterable[Figure]", stem: Path, formats: list[str]) -> int:
    """Save pages as STEM.FORMAT, STEM-2.FORMAT…, each whole or not at all, the same bytes for the same figure.

    Pages beyond these that an earlier drawing left are removed. Return the number of pages.
    """
    no_date: dict[str, dict] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    n_pages = 0
    for n_pages, figure in enumerate(figures, start=1):
        for kind in formats:
            with runs.whole_file(page_of(stem, n_pages, kind)) as temporary:
                figure.savefig(temporary, format=kind, metadata=no_date[kind])
    for kind in formats:
        left = list(itertools.takewhile(Path.exists, (page_of(stem, n, kind) for n in itertools.count(n_pages + 1))))
        for page in reversed(left):  # so that none is left behind a gap, if this ends halfway
            page.unlink()
    return n_pages


def page_of(stem: Path, number: int, kind: str) -> Path:
    return stem.with_name(f"{stem.name}{f'-{number}' if number > 1 else ''}.{kind}")


# ---- transfer matrices and tables ----


def draw_transfer(args: argparse.Namespace, found: "list[EvaluatedRun]") -> str:
    """Draw the transfer matrices and write the tables; return them as text, and name missing evaluations on stderr.

    report.html is written of the same scores; without the matrices (--ignore-tve), it alone, and there is no text.
    """
    from utils import tve
    from utils.report import page
    from utils.scores import panels, results, tables

    chosen, eval_langs = select(args, "tve", found)
    folder = Path(os.path.commonpath(args.base_dir))
    scores = results.all_scores(chosen, eval_langs)
    name_odd(results.evaluations_of(scores))
    matrices = panels.make_panels(scores, args.tve_metrics, len(args.base_dir))
    if not args.ignore_report:
        page.write_report(folder / "report.html", scores, matrices, args.labels, args.report_texts)
        texts = "texts of the corpus, where it is at hand" if args.report_texts else "no text of the corpus"
        log.info("%s: report.html, with %s (--report-texts)", runs.shown(folder), texts)
    if args.ignore_tve:
        return ""
    n_pages = save_figures(tve.draw_panels(matrices, len(args.tve_metrics), args.labels), folder / "tve", args.format)
    runs.write_text(folder / "tve.csv", tables.long_table(scores))
    runs.write_text(folder / "per_register.csv", tables.register_table(scores))
    runs.write_text(folder / "tve.tex", tables.latex_table(matrices, args.labels))
    runs.write_text(folder / "tve.md", tables.markdown_table(matrices, args.labels))
    name_missing(chosen, eval_langs)
    drawn = ", ".join(f"tve.{kind}{f' to tve-{n_pages}.{kind}' if n_pages > 1 else ''}" for kind in args.format)
    log.info("%s: %s, tve.md, tve.tex, tve.csv, per_register.csv", runs.shown(folder), drawn)
    return tables.terminal_table(matrices, args.labels)


def name_odd(evaluations: "pd.DataFrame") -> None:
    """Name the evaluations that can't be compared with the others of their column or panel."""
    for (_, model_name), of_panel in evaluations.groupby(["subfolder", "model"], sort=False):
        codes = {str(found.signature.get("commit")) for found in of_panel["evaluation"]}
        if len(codes) > 1:
            log.warning("%s: evaluated by several versions of this tool: %s", model_name, ", ".join(sorted(codes)))
    for odd in evaluations[evaluations["not_comparable"] != ""].itertuples():
        text = "%s on %s: not comparable, left out of means and bests: %s"
        log.warning(text, odd.run.folder.name, odd.eval_lang, odd.not_comparable)


def name_missing(chosen: "list[EvaluatedRun]", eval_langs: list[str]) -> None:
    """Name the evaluations that are missing, with the command that fills each run's gaps."""
    from utils.scores import results

    for run in chosen:
        missing = [lang for lang in eval_langs if lang not in run.evaluations]
        if missing:
            log.warning("missing: %s", results.evaluate_command(run.record, missing))


# ---- comparison ----


def compare(args: argparse.Namespace, found: "list[EvaluatedRun]") -> None:
    """Print, per language and metric, how two runs differ on the same texts, with Holm's correction over languages.

    With several base dirs, the trainings of one are compared with those of the other.
    """
    names: dict[str, list[EvaluatedRun]] = {}
    for run in found:
        names.setdefault(str(run.path), []).append(run)
    check_each(args.parser, "--compare", args.compare, list(names))
    a, b = (names[name] for name in args.compare)
    for metric in args.tve_metrics:
        compare_metric(args.compare, a, b, metric)


def compare_metric(names: list[str], a: "list[EvaluatedRun]", b: "list[EvaluatedRun]", metric: str) -> None:
    from utils.scores import comparison, results

    shown: dict[str, tuple[list[EvaluatedRun], list[EvaluatedRun], dict[str, float]]] = {}
    for lang in (lang for lang in results.languages(a) if lang in results.languages(b)):
        one, other = ([run for run in side if lang in run.evaluations] for side in (a, b))
        compared = results.compare_runs(one, other, lang, metric)
        if compared is None:
            log.warning("%s: not evaluated on the same test file, or predictions are gone: left out", lang)
        elif math.isnan(compared["p"]):
            log.warning("%s: too few texts for %s: left out", lang, metric)
        else:
            shown[lang] = one, other, compared
            differences = results.all_scores(one + other, [lang], panel=["eval_lang"])["not_comparable"]
            for difference in differences[differences != ""].unique():
                log.warning("%s: not comparable, so the difference is not of the models alone: %s", lang, difference)
    trainings = any(min(len(one), len(other)) > 1 for one, other, _ in shown.values())
    way = "trainings compared, Welch's t test" if trainings else "paired randomisation test, mid-p of 10,000 exchanges"
    print(f"{metric} x 100: {names[0]} against {names[1]}, {way}")
    columns = f"{'first':>7} {'second':>7} {'difference':>11} {'95 % interval':>17} {'p':>7} {'p (Holm)':>9}"
    print(f"{'lang':6} {'n':>6} {columns}")
    adjusted = comparison.holm([compared["p"] for _, _, compared in shown.values()])
    for (lang, (one, other, compared)), p in zip(shown.items(), adjusted, strict=True):
        first, second = (
            statistics.mean(run.evaluations[lang].scores[metric] or 0.0 for run in side) for side in (one, other)
        )
        interval = f"{100 * compared['low']:+.1f} to {100 * compared['high']:+.1f}"
        print(
            f"{lang:6} {one[0].evaluations[lang].n:6d} {100 * first:7.1f} {100 * second:7.1f} "
            f"{100 * compared['difference']:+11.1f} {interval:>17} {compared['p']:7.4f} {p:9.4f}"
        )


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from utils.scores import results

    found, damaged = results.find_runs(args.base_dir)
    if not found and not damaged:
        places = ", ".join(runs.shown(base_dir) for base_dir in args.base_dir)
        raise RunError(f"{places}: expected evaluated runs, found none; evaluate.py makes them")
    if args.compare:
        compare(args, found)
    elif found:
        draw(args, found)
    if damaged:
        log.error("%d damaged files were passed over, see above", damaged)
    return 1 if damaged else 0


def draw(args: argparse.Namespace, found: "list[EvaluatedRun]") -> None:
    """Draw what was asked for: confusion matrices in processes of their own, the rest meanwhile in this one."""
    os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}  # not a notebook's, not the user's
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)  # what it says of folders and fonts is no one's concern
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    from tqdm import tqdm

    from utils import cfm  # noqa: F401  # loaded once here, not in each process
    from utils.scores import errors, figures  # noqa: F401  # loaded once here, not in each process

    names = {register for run in found for e in run.evaluations.values() for register in e.registers}
    names |= {name for run in found for name in (run.subfolder, run.model_name, run.mix, *run.evaluations)}
    figures.use_style(names)
    chosen, eval_langs = ([], []) if args.ignore_cfm else select(args, "cfm", found)
    plain_args = argparse.Namespace(**{key: value for key, value in vars(args).items() if key != "parser"})
    n_jobs, fork = args.jobs or os.cpu_count(), multiprocessing.get_context("fork")  # style and imports go with it
    with ProcessPoolExecutor(n_jobs, fork, end_with, (os.getpid(),)) as pool:
        drawn = [pool.submit(draw_confusions, (run, eval_langs, plain_args)) for run in chosen]
        bar = tqdm(total=len(drawn), desc="confusion matrices", unit="run", delay=2, leave=False, disable=None)
        for future in drawn:
            future.add_done_callback(lambda _: bar.update())
        table = "" if args.ignore_tve and args.ignore_report else draw_transfer(args, found)
        try:
            for future in drawn:
                future.result()
        except BrokenProcessPool:
            raise RunError("a process that drew was killed, for lack of memory maybe: --jobs 1 needs least") from None
    bar.close()
    if drawn:
        log.info("cfm.%s and errors/ in the folders of the runs: %d", ", cfm.".join(args.format), len(drawn))
    if table:
        print(table)  # last: whoever reads it may stop before its end, as `| head` does, and nothing is missing


def end_with(parent: int) -> None:
    """Let this process, which draws for another, end when that ends, however it does, and by no signal before."""
    for number in stop.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # which was quicker
        os._exit(1)


if __name__ == "__main__":
    runs.run_script(main)
