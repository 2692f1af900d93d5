"""Draw the confusion matrices of a run: one figure, one matrix per evaluation language.

The first panel shows the registers of the training texts. In a matrix rows are gold registers with
their number of texts, columns predicted ones; a cell shows the share of its row in % and, below it,
the number of texts. A register without gold texts is a blank row. All matrices share one colour scale.
"""

import math

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils.scores.labels import LANGUAGES, PHRASES, REGISTERS, label, number
from utils.scores.results import EvaluatedRun, Evaluation

COLUMNS = 4
PANEL = 3.4  # inches, width and height
MARGIN_LEFT, MARGIN_BOTTOM, MARGIN_TOP = 0.72, 0.62, 0.42  # inches within a panel, for labels and title
COLOURS = "Blues"  # one hue, dark to light: the same order in grey and for colour-blind eyes
DARK = 0.55  # cells with a larger share are dark: white text


def draw_run(run: EvaluatedRun, eval_langs: list[str], lang: str, with_summary: bool) -> Figure:
    """Return the figure of a run: its training texts (with_summary), then eval_langs, those trained on first."""
    ordered = sorted(eval_langs, key=lambda name: (name not in run.train_langs, name))
    n_panels = len(ordered) + with_summary
    n_columns = min(COLUMNS, n_panels)
    n_rows = math.ceil(n_panels / n_columns)
    head, foot = 0.5, 0.55  # inches above and below all panels
    size = (max(n_columns, 2) * PANEL, n_rows * PANEL + head + foot)
    rcParams["text.parse_math"] = False  # a $ in a name is a dollar
    figure = Figure(figsize=size, dpi=150)
    FigureCanvasAgg(figure)
    trained = ", ".join(label(LANGUAGES, name, lang) for name in run.train_langs)
    title = f"{run.model_name}, {label(PHRASES, 'trained on', lang)} {trained}"
    figure.text(0.5, 1 - 0.28 / size[1], title, ha="center", va="center", fontsize=13, weight="bold")
    registers = run.evaluations[ordered[0]].registers
    key = "   ".join(f"{register} {label(REGISTERS, register, lang)}" for register in registers)
    figure.text(0.5, 0.36 / size[1], label(PHRASES, "share", lang), ha="center", va="center", fontsize=8)
    figure.text(0.5, 0.14 / size[1], key, ha="center", va="center", fontsize=min(8, 125 * size[0] / len(key)))
    for index in range(n_panels):
        row, column = divmod(index, n_columns)
        left = (column * PANEL + MARGIN_LEFT) / size[0]
        bottom = (foot + (n_rows - 1 - row) * PANEL + MARGIN_BOTTOM) / size[1]
        width, height = PANEL - MARGIN_LEFT - 0.12, PANEL - MARGIN_BOTTOM - MARGIN_TOP
        ax = figure.add_axes((left, bottom, width / size[0], height / size[1]))
        if with_summary and index == 0:
            draw_training_texts(run, ax, lang)
        else:
            draw_matrix(run.evaluations[ordered[index - with_summary]], run, ax, lang)
    return figure


def draw_matrix(evaluation: Evaluation, run: EvaluatedRun, ax: Axes, lang: str) -> Axes:
    """Draw one confusion matrix, gold registers as rows."""
    counts = evaluation.confusion
    gold = counts.sum(axis=1)
    shares = np.divide(counts, gold[:, None], out=np.full(counts.shape, np.nan), where=gold[:, None] > 0)
    n = len(counts)
    ax.pcolormesh(np.ma.masked_invalid(shares), cmap=COLOURS, vmin=0, vmax=1, edgecolors="white", linewidth=0.6)
    ax.set(xlim=(0, n), ylim=(n, 0), aspect="equal")
    font = min(6.4, 52 / n)
    for i, j in np.ndindex(counts.shape):
        if gold[i] and counts[i, j]:
            colour = "white" if shares[i, j] > DARK else "black"
            text = f"{number(100 * shares[i, j], 0, lang)}\n({counts[i, j]})"
            ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=font, color=colour, linespacing=0.95)
    # labels are plain texts: ticks would be three more lines and a text for each, and take a third of the time
    ax.set(xticks=[], yticks=[])
    for i, (register, total) in enumerate(zip(evaluation.registers, gold, strict=True)):
        ax.text(i + 0.5, n * 1.012, register, ha="center", va="top", fontsize=7)
        ax.text(-n * 0.012, i + 0.5, f"{register} ({total})", ha="right", va="center", fontsize=7)
    ax.text(n / 2, n * 1.075, label(PHRASES, "predicted", lang), ha="center", va="top", fontsize=7.5)
    gold_label = label(PHRASES, "gold", lang)
    ax.text(-n * 0.235, n / 2, gold_label, ha="right", va="center", fontsize=7.5, rotation="vertical")
    name = label(LANGUAGES, evaluation.eval_lang, lang)
    score = evaluation.scores["macro_f1_10"]
    scores = f"F1 {number(100 * score, 1, lang)}" if score is not None else label(PHRASES, "too few texts for F1", lang)
    kind = "" if run.is_zero_shot(evaluation.eval_lang) else " *"
    ax.set_title(f"{name}{kind}   n = {evaluation.n}   {scores}", fontsize=8.5, pad=4)
    for spine in ax.spines.values():
        spine.set(linewidth=1.6 if kind else 0.5, color="black" if kind else "0.6")
    return ax


def draw_training_texts(run: EvaluatedRun, ax: Axes, lang: str) -> Axes:
    """Draw how many training texts each register has, a bar per register, stacked by language."""
    by_lang = run.record["corpus"]["train"]
    registers = next(iter(run.evaluations.values())).registers
    start = np.zeros(len(registers))
    greys = np.linspace(0.25, 0.75, len(by_lang))
    for (name, counts), grey in zip(by_lang.items(), greys, strict=True):
        values = np.array([counts.get(register, 0) for register in registers])
        ax.barh(
            range(len(registers)), values, left=start, color=str(grey), height=0.75, label=label(LANGUAGES, name, lang)
        )
        start += values
    for index, total in enumerate(start):
        ax.text(total + start.max() * 0.02, index, f"{total:.0f}", va="center", fontsize=7)
    ax.set(xlim=(0, max(start.max(), 1) * 1.18), ylim=(len(registers) - 0.5, -0.5))
    ax.set_yticks(range(len(registers)), registers, fontsize=7)
    ax.tick_params(labelsize=7, length=2)
    ax.set_xlabel(label(PHRASES, "number of texts", lang), fontsize=7.5, labelpad=2)
    ax.set_title(f"{label(PHRASES, 'training texts', lang)}   n = {start.sum():.0f}", fontsize=8.5, pad=4)
    if len(by_lang) > 1:
        ax.legend(fontsize=6.5, frameon=False, loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)
    return ax
