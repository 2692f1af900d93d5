"""Draw learning curves: scores by the number of training texts, for runs that differ only in it (and in the seed).

There is a panel per model and metric, and a colour per list of training languages. The zero-shot mean is over the
languages on which all runs of the panel were evaluated, with the same test file, and none was trained.
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from seaborn import color_palette

from utils import labels, results
from utils.figures import Panel, draw_pages

SIZE = (4.2, 3.0)  # inches, of a panel
TEXT = 9  # points
FREE = ("texts", "seed", "processes")  # settings that may differ along a curve


def points(frame: pd.DataFrame, metric_names: Sequence[str]) -> pd.DataFrame:
    """Return mean and standard deviation over the seeds for each point of the curves; no rows if there are no curves.

    Columns: model, metric, curve, training, langs (over which the mean is taken), is_own (they are training languages),
    texts (per training language, validation included), mean, std.
    """
    rows = frame[frame["metric"].isin(metric_names) & frame["score"].notna()].copy()
    of_rows = list(zip(rows["record"], rows["signature"], strict=True))
    rows["test"] = [signature["test_sha256"] for _, signature in of_rows]
    rows["texts"] = [_number_of_texts(record) for record, _ in of_rows]
    rows["curve"] = [
        json.dumps(
            [{name: value for name, value in record["settings"].items() if name not in FREE}]
            + [signature.get(name) for name in results.OF_A_MATRIX]
            + [record["model_name"], record["train_langs"]],
            sort_keys=True,
        )
        for record, signature in of_rows
    ]
    rows["asked"] = [record["settings"].get("texts") or 0 for record, _ in of_rows]
    rows = rows[rows.groupby("curve")["asked"].transform("nunique") > 1]

    found = []
    for (model, metric), panel in rows.groupby(["model", "metric"], sort=False):
        zero_shot = [
            code
            for code, of in panel.groupby("eval_lang")
            if of["zero_shot"].all()
            and of["folder"].nunique() == panel["folder"].nunique()
            and of["test"].nunique() == 1
        ]
        for (curve, training), of_curve in panel.groupby(["curve", "training"], sort=False):
            is_complete = of_curve.groupby("eval_lang")["folder"].transform("nunique") == of_curve["folder"].nunique()
            kinds = of_curve[of_curve["own"] & is_complete], of_curve[of_curve["eval_lang"].isin(zero_shot)]
            for is_own, kind in zip((True, False), kinds, strict=True):
                of_runs = kind.groupby(["texts", "folder"])["score"].mean()  # the mean over languages, then over seeds
                means = of_runs.groupby("texts").agg(["mean", "std"]).fillna({"std": 0}).reset_index()
                names = {"model": model, "metric": metric, "curve": curve, "training": training, "is_own": is_own}
                found.append(means.assign(**names, langs=" ".join(sorted(set(kind["eval_lang"])))))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _number_of_texts(record: dict) -> int:
    parts = [record["corpus"].get(part, {}) for part in ("train", "validation")]
    n_texts = sum(n for part in parts for counts in part.values() for n in counts.values())
    return record["settings"].get("texts") or round(n_texts / len(record["train_langs"]))


def draw(frame: pd.DataFrame, metric_names: Sequence[str], lang: str) -> Iterator[Figure]:
    """Yield the pages with all curves; none if no runs differ only in the number of texts."""
    drawn = points(frame, metric_names)
    if drawn.empty:
        return
    panels: list[Panel] = [
        (SIZE, partial(draw_panel, of_panel, f"{model}, {labels.label(labels.METRICS, metric, lang)}", lang))
        for (model, metric), of_panel in drawn.groupby(["model", "metric"], sort=False)
    ]
    zero_shot = [langs for langs in dict.fromkeys(drawn.loc[~drawn["is_own"], "langs"]) if langs]
    notes = [labels.word("mean of", lang, langs=langs) for langs in zero_shot]
    yield from draw_pages(panels, 2, 4, labels.word("curves", lang), [labels.word("curves note", lang), *notes], TEXT)


def draw_panel(points: pd.DataFrame, title: str, lang: str, ax: Axes) -> None:
    """Draw the curves of a model by one metric: solid for the training languages, dashed for the zero-shot mean."""
    curves = list(dict.fromkeys(points["curve"]))
    for (curve, training, is_own), of in points.groupby(["curve", "training", "is_own"], sort=False):
        colour, line = color_palette("colorblind")[curves.index(curve) % 10], "o-" if is_own else "s--"
        label = f"{training}, {labels.word('own languages' if is_own else 'zero-shot mean', lang)}"
        ax.errorbar(of["texts"], 100 * of["mean"], 100 * of["std"], fmt=line, color=colour, markersize=4, label=label)
    ax.set_xscale("log")
    ticks = sorted(set(points["texts"]))
    # leave out numbers that would cover each other
    apart = [n for n, before in zip(ticks, [0, *ticks], strict=False) if n > 1.25 * before]
    ax.set_xticks(apart, list(map(str, apart)), fontsize=TEXT)
    ax.set_xticks([], minor=True)
    ax.set_xlabel(labels.word("texts of each", lang), fontsize=TEXT)
    ax.set_title(title, fontsize=TEXT + 2, y=1)
    ax.grid(color="0.9")
    ax.legend(fontsize=TEXT - 2)
    ax.spines[["top", "right"]].set_visible(False)
