"""Turn the results of all evaluated runs into confusion matrices, transfer matrices, tables and a page.

    python post_eval.py
    python post_eval.py --base-dir outputs/seed1 outputs/seed2 outputs/seed3 --format png pdf --labels fr
    python post_eval.py --compare xlmr-en xlmr-en-fr

Reads   the files of finetune.py and evaluate.py in the base dirs (default: outputs/, without outputs/demo); the corpus
        only for words, and for the beginnings of texts in errors/ and suspects/, if it is on this machine
Writes  in each run's folder: cfm.png, errors/LANG.tsv, keywords/LANG.tsv
        in the base dir (--output-dir): tve.png, registers.png, tve.md, tve.tex, tve_cells.csv, tve.csv,
        per_register.csv, methods.md, suspects/LANG.tsv, report.html, and curve.png if runs differ only in --texts;
        README.md says what each contains
        What does not fit on one page continues in cfm-2.png, tve-2.png…
Prints  the matrices of the metrics drawn, or with --compare the comparison
Exit    0 all drawn, 1 nothing to draw, or damaged files (they are named, the rest is drawn), 2 wrong use,
        128 + N ended by signal N

Several base dirs are repetitions of the same runs with other seeds: cells then show mean, standard deviation and
interval. utils/metrics.py defines the scores, utils/uncertainty.py intervals and comparisons. The same input gives the
same bytes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # Python does not if PYTHONSAFEPATH is set

if __name__ == "__main__":  # before any package is imported
    from utils import environment

    environment.prepare()

import argparse
import ctypes
import itertools
import logging
import math
import multiprocessing
import os
import signal
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from utils import labels, metrics, options, results, runs, tables, uncertainty
from utils.runs import RunError

DRAWN = ("macro_f1_10", "micro_f1")  # the default metrics
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h

log = logging.getLogger("post_eval")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = options.new_parser(
        "Turn the results of all evaluated runs into confusion matrices, transfer matrices, tables and a page.",
        "python post_eval.py --base-dir outputs/demo --tve-metrics macro_f1_10",
    )
    # fmt: off
    parser.add_argument("--base-dir", type=options.filled, nargs="+", default=[runs.ROOT / "outputs"], metavar="DIR",
        help="the folder of the runs; several: repetitions with other seeds (default: outputs, without outputs/demo)")
    parser.add_argument("--output-dir", type=options.filled, metavar="DIR",
        help="the folder for matrices, tables and page (default: the folder that contains all base dirs)")
    parser.add_argument("--format", nargs="+", choices=("png", "pdf", "svg"), default=["png"], help="(default: png)")
    parser.add_argument("--labels", choices=("en", "fr"), default="en",
        help="language of figures, tables and page (default: en)")
    parser.add_argument("--jobs", type=options.positive_int, metavar="N",
        help="figures drawn at the same time (default: one per core that this process may use)")
    parser.add_argument("--compare", nargs=2, metavar="MODEL-LANGS",
        help="compare two runs on the same texts, per language, and draw nothing; with several base dirs, all seeds")
    for kind, name in (("cfm", "confusion matrices"), ("tve", "transfer matrices")):
        group = parser.add_argument_group(name)
        group.add_argument(f"--ignore-{kind}", action="store_true", help=f"draw no {name}")
        group.add_argument(f"--{kind}-models", nargs="+", metavar="NAME", help="only these models")
        group.add_argument(f"--{kind}-train-langs", nargs="+", metavar="LANGS",
            help="only these training languages: en en-fr")
        group.add_argument(f"--{kind}-eval-langs", nargs="+", metavar="LANG", help="only these evaluation languages")
        if kind == "cfm":
            group.add_argument("--cfm-ignore-summary", action="store_true", help="no panel of training texts")
        else:
            group.add_argument("--tve-metrics", nargs="+", default=list(DRAWN), choices=metrics.METRICS,
                metavar="METRIC", help=f"{', '.join(metrics.METRICS)} (default: {' '.join(DRAWN)})")
    parser.add_argument("--ignore-keywords", action="store_true", help="no keywords/, no words in report.html")
    group = parser.add_argument_group("report.html")
    group.add_argument("--ignore-report", action="store_true", help="write no report.html")
    group.add_argument("--report-texts", type=options.natural, default=0, metavar="N",
        help="show the beginnings of the texts of the N most confident errors of each pair of registers, if the corpus "
        "is on this machine; 0: the page contains no text of the corpus (default: %(default)s)")
    # fmt: on
    args = options.parse(parser, argv)
    args.base_dir = list(dict.fromkeys(Path(os.path.abspath(base_dir)) for base_dir in args.base_dir))
    if not args.output_dir and os.path.commonpath(args.base_dir) == "/":
        parser.error("the base dirs have no folder in common; say with --output-dir where the files should go")
    args.output_dir = Path(os.path.abspath(args.output_dir or os.path.commonpath(args.base_dir)))
    args.parser = parser
    return args


def select(args: argparse.Namespace, kind: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the evaluations that the options for this kind of matrix select; exit 2 for an unknown name."""
    chosen = pd.Series(True, index=frame.index)
    for option, column in (("models", "model"), ("train_langs", "training"), ("eval_langs", "eval_lang")):
        names = getattr(args, f"{kind}_{option}")
        check_names(args.parser, f"--{kind}-{option.replace('_', '-')}", names or [], frame[column])
        if names:
            chosen &= frame[column].isin(names)
    if not chosen.any():
        args.parser.error(f"the --{kind}- options together leave no evaluation; leave one of them out")
    return frame[chosen.to_numpy()]


def check_names(parser: argparse.ArgumentParser, option: str, names: Iterable[str], existing: Iterable[str]) -> None:
    """Exit with code 2 if one of the names given to an option does not exist."""
    known = list(dict.fromkeys(existing))
    for name in names:
        if name not in known:
            parser.error(f"argument {option}: there is no {name!r}; choose from {', '.join(known)}")


# ---- figures and tables ----


def draw(args: argparse.Namespace, frame: pd.DataFrame) -> None:
    """Draw everything: confusion matrices in processes of their own, and the rest meanwhile in this one."""
    # figures look the same whatever the user's own settings are
    os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)
    from utils import cfm, figures  # noqa: F401  # loaded once, before the processes start

    names = results.language_names(frame)
    figures.use_style(
        {register for registers in frame["registers"] for register in registers}
        | {labels.language(code, names, args.labels) for code in [*names, *frame["eval_lang"]]}
        | {*frame["subfolder"], *frame["model"], *frame["training"], *frame["eval_lang"]}
    )
    # the processes draw a run each, while this one counts words and draws the rest
    of_runs = [] if args.ignore_cfm else [rows for _, rows in select(args, "cfm", frame).groupby("folder", sort=False)]
    style = (names, args.labels, not args.cfm_ignore_summary, args.format)
    n_jobs = args.jobs or len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(n_jobs, multiprocessing.get_context("fork"), end_with, (os.getpid(),)) as pool:
        drawn = [pool.submit(draw_run, results.evaluations(rows), *style) for rows in of_runs]
        bar = tqdm(total=len(drawn), desc="confusion matrices", unit="run", delay=2, leave=False, disable=None)
        for future in drawn:
            future.add_done_callback(lambda _: bar.update())
        rows = results.evaluations(frame)
        words = {}
        if not args.ignore_keywords:
            from utils import keywords  # loads scikit-learn

            words = keywords.find(rows)
            keywords.write(rows, words)
        table = ""
        if not (args.ignore_tve and args.ignore_report):
            table = draw_transfer(args, select(args, "tve", frame), names, words)
        try:
            for future in drawn:
                future.result()
        except BrokenProcessPool:
            raise RunError(
                "drawing: a process was killed, perhaps for lack of memory; --jobs 1 needs the least"
            ) from None
    bar.close()
    if drawn:
        log.info("cfm.%s and errors/ in the folders of %d runs", ", cfm.".join(args.format), len(drawn))
    if words:
        log.info("keywords/ in the folders of %d runs", rows.loc[list(words), "folder"].nunique())
    if table:
        # last, since whoever reads it may stop early, as `| head` does
        print(table)


def draw_run(rows: pd.DataFrame, names: dict[str, str], lang: str, with_summary: bool, formats: list[str]) -> None:
    """Draw the confusion matrices of a run and list its wrong predictions."""
    from utils import cfm

    save_figures(cfm.draw_run(rows, names, lang, with_summary), rows["folder"].iloc[0] / "cfm", formats)
    for row in rows.itertuples():
        results.write_errors(row)


def draw_transfer(
    args: argparse.Namespace, frame: pd.DataFrame, names: dict[str, str], words: dict[int, pd.DataFrame]
) -> str:
    """Write matrices, tables and page; return the matrices as text. Log what is missing or not comparable."""
    from utils import curve, methods, registers, report, suspects, tve

    # what a reader of the matrices must know
    rows, folder, lang = results.evaluations(frame), args.output_dir, args.labels
    for (_, model), of_model in rows.groupby(["subfolder", "model"], sort=False):
        commits = sorted({str(signature.get("commit")) for signature in of_model["signature"]})
        if len(commits) > 1:
            log.warning("%s: evaluated by several versions of this tool: %s", model, ", ".join(commits))
    different = rows[rows["not_comparable"] != ""]
    for (place, difference), found in different.groupby(["folder", "not_comparable"], sort=False):
        langs = " ".join(found["eval_lang"])
        log.warning("%s on %s: not comparable, out of means and bests: %s", runs.shown(place), langs, difference)

    # the page, then figures and tables from the same matrices
    matrices = tables.make_matrices(frame, args.tve_metrics, len(args.base_dir), lang)
    suspected = suspects.find(rows)
    folder.mkdir(parents=True, exist_ok=True)
    if not args.ignore_report:
        page = folder / "report.html"
        report.write_report(page, frame, matrices, names, lang, args.report_texts, suspected, words)
        with_texts = "with beginnings of texts of the corpus" if args.report_texts else "without any text of the corpus"
        log.info("%s: report.html, %s (--report-texts)", runs.shown(folder), with_texts)
    if args.ignore_tve:
        return ""
    n_pages = save_figures(tve.draw_matrices(matrices, lang), folder / "tve", args.format)
    save_figures(registers.draw(frame, names, lang), folder / "registers", args.format)
    if save_figures(curve.draw(frame, args.tve_metrics, lang), folder / "curve", args.format):
        log.info("%s: curve.%s, for runs that differ only in --texts", runs.shown(folder), args.format[0])
    runs.write_text(folder / "tve.md", tables.markdown_table(matrices, lang))
    runs.write_text(folder / "tve.tex", tables.latex_table(matrices, lang))
    runs.write_text(folder / "tve_cells.csv", tables.cells_csv(matrices))
    runs.write_text(folder / "tve.csv", tables.scores_csv(frame))
    runs.write_text(folder / "per_register.csv", tables.registers_csv(frame))
    suspects.write(folder, rows, suspected)
    methods.write_methods(folder / "methods.md", frame, matrices, names, lang)
    for command in results.missing_commands(frame, sorted(set(frame["eval_lang"]))):
        log.warning("missing: %s", command)
    drawn = ", ".join(f"tve.{kind}{f' to tve-{n_pages}.{kind}' if n_pages > 1 else ''}" for kind in args.format)
    with_suspects = ", suspects/" if suspected else ""
    log.info("%s: %s, registers.%s, tables%s and methods.md", runs.shown(folder), drawn, args.format[0], with_suspects)
    return tables.terminal_table(matrices, lang)


def save_figures(figures: Iterable, stem: Path, formats: list[str]) -> int:
    """Save pages as STEM.FORMAT, STEM-2.FORMAT…, with the same bytes for the same figure; return their number.

    Further pages from an earlier drawing are removed.
    """

    def page(number: int, kind: str) -> Path:
        return stem.with_name(f"{stem.name}{f'-{number}' if number > 1 else ''}.{kind}")

    no_date: dict[str, dict] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    n_pages = 0
    for n_pages, figure in enumerate(figures, start=1):
        for kind in formats:
            with runs.atomic_file(page(n_pages, kind)) as temporary:
                figure.savefig(temporary, format=kind, metadata=no_date[kind])
    for kind in formats:
        left = list(itertools.takewhile(Path.exists, (page(n, kind) for n in itertools.count(n_pages + 1))))
        # the last one first, so that an interruption leaves no gap
        for path in reversed(left):
            path.unlink()
    return n_pages


def end_with(parent: int) -> None:
    """Make this process end exactly when its parent ends, for whatever reason, and ignore signals until then."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


# ---- comparison ----


def compare(args: argparse.Namespace, frame: pd.DataFrame) -> None:
    """Print how two runs differ on the same texts, by metric and language, with Holm's correction over the languages.

    With several base dirs, each of the two is a set of trainings with different seeds.
    """
    check_names(args.parser, "--compare", args.compare, frame["path"])
    for metric in args.tve_metrics:
        of_metric = frame[frame["metric"] == metric]
        both_sides: list[dict[str, list[Any]]] = [{}, {}]
        for rows, path in zip(both_sides, args.compare, strict=True):
            for row in of_metric[of_metric["path"] == path].itertuples():
                rows.setdefault(row.eval_lang, []).append(row)
        found, remarks = [], []
        for lang in sorted(both_sides[0].keys() & both_sides[1].keys()):
            a, b = (tables.comparable(side[lang]) for side in both_sides)
            compared = results.compare(a, b, metric)
            if compared is None:
                log.warning("%s: left out, not evaluated on the same test file, or predictions are gone", lang)
                continue
            if math.isnan(compared["p"]):
                log.warning("%s: left out, too few texts to compare by %s", lang, metric)
                continue
            scores = {side: np.mean([row.score for row in rows]) for side, rows in (("a", a), ("b", b))}
            found.append({"lang": lang, "n": a[0].n, "sides": (len(a), len(b)), **scores, **compared})
            # differences in how they were evaluated: those of training are what is being compared
            both = pd.DataFrame([*a, *b]).assign(subfolder="", model="", record=[{"settings": {}}] * len([*a, *b]))
            for difference in dict.fromkeys(filter(None, results.differences(both))):
                log.warning("%s: the two also differ in how they were evaluated: %s", lang, difference)
            if compared["same"]:
                remarks.append(f"{lang}: the same predictions for all texts")
            elif not compared["trainings"] and len(a) + len(b) > 2:
                counted = f"{lang}: {len(a)} and {len(b)} trainings"
                remarks.append(f"{counted}: the interval is about other texts, not about other trainings")
        # the table, with the name of the tests
        tests = dict.fromkeys(labels.test_of(metric, *one["sides"]) for one in found)
        print(f"{metric} x 100: {args.compare[0]} against {args.compare[1]}, {', '.join(tests) or 'no common texts'}")
        columns = f"{'first':>7} {'second':>7} {'difference':>11} {'95 % interval':>17} {'p':>8} {'p (Holm)':>9}"
        print(f"{'lang':6} {'n':>6} {columns}")
        for one, holm in zip(found, uncertainty.holm([one["p"] for one in found]), strict=True):
            low, high = (labels.signed(100 * one[end], 1, "en") for end in ("low", "high"))
            interval = "" if math.isnan(one["low"]) else f"{low} to {high}"
            print(
                f"{one['lang']:6} {one['n']:6d} {100 * one['a']:7.1f} {100 * one['b']:7.1f} "
                f"{labels.signed(100 * one['difference'], 1, 'en'):>11} {interval:>17} "
                f"{labels.p_value(one['p'], 'en'):>8} {labels.p_value(holm, 'en'):>9}"
            )
        print(*remarks, sep="\n", end="\n" if remarks else "")


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    frame, damaged = results.read_results(args.base_dir)
    if frame.empty and not damaged:
        places = ", ".join(runs.shown(base_dir) for base_dir in args.base_dir)
        raise RunError(f"{places}: there is no evaluated run; evaluate one first, with evaluate.py")
    if args.compare and not frame.empty:
        compare(args, frame)
    elif not frame.empty:
        draw(args, frame)
    if damaged:
        log.error("%d damaged files were left out, see above", damaged)
    return 1 if damaged else 0


if __name__ == "__main__":
    runs.run_script(main)
