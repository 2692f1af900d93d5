"""The errors that the page lists, and the texts that it shows: as many of each evaluation as fit."""

from pathlib import Path

import numpy as np

from utils import runs
from utils.scores.errors import SHOWN, Error, beginning, read_errors, test_texts
from utils.scores.results import EvaluatedRun

MOST_ERRORS = 100_000  # listed in a page
MOST_BYTES = 9_000_000  # of a page; its texts take what is left
BYTES_OF_EVALUATION, BYTES_OF_ERROR = 700, 12  # about


def errors_and_texts(
    found: list[EvaluatedRun], eval_langs: list[str], n_texts: int, words: dict[str, str]
) -> tuple[dict[tuple[Path, str], list[Error] | None], dict[str, dict[int, str]], list[str]]:
    """Return the errors of each evaluation that the page lists, the texts of each test file, and what to tell of both.

    Errors: (folder of the run, language) -> the most confident first; None where the predictions are gone.
    Texts: hash of the test file -> row -> beginning of the text.
    """
    places = [(run, lang) for run in found for lang in eval_langs if lang in run.evaluations]
    n_wrong = [int(e.n - np.trace(e.confusion)) for e in (run.evaluations[lang] for run, lang in places)]
    most = _most_each(n_wrong, MOST_ERRORS)
    told = [words["errors whole"] if max(n_wrong) <= most else words["errors thinned"].format(k=most)]
    listed: dict[tuple[Path, str], list[Error] | None] = {}
    wanted: dict[str, dict[int, int]] = {}  # test file -> row -> its rank among those of its pair, at best
    for run, lang in places:
        chosen = read_errors(run, lang)
        listed[run.folder, lang] = None if chosen is None else chosen[:most]
        ranks: dict[tuple[str, str], int] = {}
        for error in listed[run.folder, lang] or [] if n_texts else []:
            rank = ranks[error.gold, error.predicted] = ranks.get((error.gold, error.predicted), 0) + 1
            rows = wanted.setdefault(run.evaluations[lang].signature["test_sha256"], {})
            rows[error.row] = min(rank, rows.get(error.row, rank))
    texts: dict[str, dict[int, str]] = {}
    for run, lang in places:
        sha256 = run.evaluations[lang].signature["test_sha256"]
        if n_texts and sha256 not in texts and (known := test_texts(run, lang)):
            texts[sha256] = {
                row: runs.one_line(beginning(known[row])) for row in wanted.get(sha256, {}) if row in known
            }
    ranked = [(wanted[sha][row], len(text.encode())) for sha, rows in texts.items() for row, text in rows.items()]
    n_listed = sum(min(n, most) for n in n_wrong)
    room = MOST_BYTES - BYTES_OF_EVALUATION * len(places) - BYTES_OF_ERROR * n_listed
    largest = max((rank for rank, _ in ranked), default=0)
    fits = (k for k in range(min(n_texts, largest), 0, -1) if sum(size for rank, size in ranked if rank <= k) <= room)
    kept = next(fits, 0)
    kept = n_texts if kept == largest else kept
    texts = {
        sha: {row: text for row, text in sorted(rows.items()) if wanted[sha][row] <= kept}
        for sha, rows in texts.items()
    }
    n_shown = sum(map(len, texts.values()))
    if n_shown:
        told.insert(0, words["holds texts"].format(n=n_shown, k=kept, chars=SHOWN))
        told += [words["texts thinned"].format(asked=n_texts)] if kept < n_texts else []
    else:
        told.insert(
            0,
            words["no corpus"] if n_texts else words["holds no texts"].format(command="post_eval.py --report-texts 5"),
        )
    return listed, texts, [*told, words["nothing loaded"]]


def _most_each(sizes: list[int], total: int) -> int:
    """Return how many may be taken of each, the same of all, so that they are not more than total; at least 1."""
    low, high = 1, max([1, *sizes])
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sum(min(size, middle) for size in sizes) <= total else (low, middle - 1)
    return low
