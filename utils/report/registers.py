"""The view of the registers: which suffer from zero-shot, which are confused, and the F1 of each."""

from pathlib import Path
from typing import Any

import numpy as np

from utils import metrics
from utils.report.colours import shade
from utils.scores.labels import REGISTERS, label, number
from utils.scores.panels import Panel

CONFUSED, CONFUSED_TEXTS = 0.1, 3  # share of a register's texts, and texts, taken for another: they are confused


def register_view(
    panel: Panel,
    lang: str,
    words: dict[str, str],
    keys: dict[Path, str],
    odd: dict[tuple[Path, str], str],
    has_tables: bool,
) -> dict[str, Any]:
    """Return what the template shows of the registers of one model; has_tables: F1 of each training mix too."""
    shown = list(
        dict.fromkeys(
            r for row in panel.rows for run in row.runs for e in run.evaluations.values() for r in e.registers
        )
    )
    f1 = _f1(panel, odd)
    suffers = _suffers(panel, shown, f1, lang, words)
    return {
        "title": panel.name,
        "suffers": suffers,
        "has_same": any(row["same"] for row in suffers),
        "columns": panel.columns,
        "overview": _overview(panel, shown, f1, lang),
        "pairs": _confused(panel, odd, lang, words),
        "tables": [
            _f1_table(panel, register, f1, lang, words, keys)
            for register in shown
            if has_tables and any(register in gold for gold in panel.gold.values())
        ],
    }


def _f1(panel: Panel, odd: dict[tuple[Path, str], str]) -> dict[tuple[int, str, str], float]:
    """Return (row, language, register) -> F1, the mean over the row's trainings; what is not comparable is left out."""
    found: dict[tuple[int, str, str], list[float]] = {}
    for i, row in enumerate(panel.rows):
        for run in row.runs:
            for column in (c for c in panel.columns if c in run.evaluations and (run.folder, c) not in odd):
                evaluation = run.evaluations[column]
                values = metrics.register_scores(evaluation.confusion)["f1"]
                for register, value in zip(evaluation.registers, values.tolist(), strict=True):
                    if not np.isnan(value):
                        found.setdefault((i, column, register), []).append(value)
    return {key: float(np.mean(values)) for key, values in found.items()}


def _suffers(
    panel: Panel, registers: list[str], f1: dict[tuple[int, str, str], float], lang: str, words: dict[str, str]
) -> list[dict[str, str]]:
    """Return per register its F1 trained on it and zero-shot; first those that lose most on the same texts."""
    rows = []
    for register in registers:
        own: dict[str, list[float]] = {}
        zero: dict[str, list[float]] = {}
        for i, row in enumerate(panel.rows):
            for column in panel.columns:
                value = f1.get((i, column, register))
                if value is None or panel.gold[column].get(register, 0) < metrics.MIN_TEXTS:
                    continue
                if column in row.train_langs:
                    own.setdefault(column, []).append(value)
                elif row.runs[0].is_zero_shot(column):
                    zero.setdefault(column, []).append(value)
        if not own or not zero:
            continue
        trained = float(np.mean([np.mean(values) for values in own.values()]))
        both = {c: (float(np.mean(own[c])), float(np.mean(zero[c]))) for c in own if c in zero}
        everywhere = {c: float(np.mean(values)) for c, values in zero.items()}
        loss_same = float(np.mean([z - o for o, z in both.values()])) if both else float("nan")
        zero_shot = float(np.mean(list(everywhere.values())))
        loss = zero_shot - trained
        rows.append(
            (
                (np.isnan(loss_same), loss if np.isnan(loss_same) else loss_same, loss),
                {
                    "register": register,
                    "name": label(REGISTERS, register, lang),
                    "trained": number(100 * trained, 1, lang),
                    "same": number(100 * float(np.mean([z for _, z in both.values()])), 1, lang) if both else "",
                    "loss_same": _signed(loss_same, lang) if both else "",
                    "lower_same": _k_of_m(sum(z < o for o, z in both.values()), len(both), words) if both else "",
                    "every": number(100 * zero_shot, 1, lang),
                    "loss": _signed(loss, lang),
                    "lower": _k_of_m(sum(z < trained for z in everywhere.values()), len(everywhere), words),
                },
            )
        )
    return [shown for _, shown in sorted(rows, key=lambda entry: entry[0])]


def _signed(value: float, lang: str) -> str:
    text = number(abs(100 * value), 1, lang)
    return f"{'−' if value < 0 else '+'}{text}"


def _k_of_m(k: int, m: int, words: dict[str, str]) -> str:
    return words["k of m"].format(k=k, m=m)


def _confused(panel: Panel, odd: dict[tuple[Path, str], str], lang: str, words: dict[str, str]) -> list[dict[str, Any]]:
    """Return the pairs of registers that are confused, in groups: in every language, in several, in one."""
    shares: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for column in panel.columns:
        found = [
            run.evaluations[column]
            for row in panel.rows
            for run in row.runs
            if column in run.evaluations and (run.folder, column) not in odd
        ]
        if not found:
            continue
        registers = found[0].registers
        mean = np.mean([evaluation.confusion for evaluation in found], axis=0)
        for i, gold in enumerate(registers):
            n = float(mean[i].sum())
            for j, predicted in enumerate(registers):
                if i != j and n >= metrics.MIN_TEXTS:
                    shares.setdefault((gold, predicted), {})[column] = float(mean[i, j]) / n, float(mean[i, j])
    groups: dict[str, list] = {"everywhere": [], "several languages": [], "one language": [], "only language": []}
    for (gold, predicted), of_langs in shares.items():
        where = {c: s for c, (s, n) in of_langs.items() if s >= CONFUSED and n >= CONFUSED_TEXTS}
        if not where:
            continue
        k, m = len(where), len(of_langs)
        group = (
            "only language" if m == 1 else "everywhere" if k == m else "one language" if k == 1 else "several languages"
        )
        mean_share = float(np.mean([share for share, _ in of_langs.values()]))
        ordered = sorted(where.items(), key=lambda entry: (-entry[1], entry[0]))
        groups[group].append(
            (
                (-k / m, -mean_share, gold, predicted),
                {
                    "gold": gold,
                    "predicted": predicted,
                    "names": f"{label(REGISTERS, gold, lang)} → {label(REGISTERS, predicted, lang)}",
                    "count": _k_of_m(k, m, words),
                    "share": number(100 * mean_share, 0, lang),
                    "where": ", ".join(f"{c} {number(100 * share, 0, lang)}" for c, share in ordered),
                },
            )
        )
    return [
        {"title": words[group], "pairs": [shown for _, shown in sorted(pairs, key=lambda entry: entry[0])]}
        for group, pairs in groups.items()
        if pairs
    ]


def _overview(
    panel: Panel, registers: list[str], f1: dict[tuple[int, str, str], float], lang: str
) -> list[dict[str, Any]]:
    """Return per register its F1 on each language, the mean over the trainings without the language."""
    rows = []
    for register in registers:
        cells: list[dict[str, Any]] = []
        for column in panel.columns:
            found = [
                f1[i, column, register]
                for i, row in enumerate(panel.rows)
                if (i, column, register) in f1 and row.runs[0].is_zero_shot(column)
            ]
            few = panel.gold[column].get(register, 0) < metrics.MIN_TEXTS
            mean = float(np.mean(found)) if found else float("nan")
            kind = "none" if not found else "few" if few else shade(mean)
            cells.append({"class": kind, "text": number(100 * mean, 1, lang) if found else ""})
        name = label(REGISTERS, register, lang)
        rows.append({"register": register, "name": "" if name == register else name, "cells": cells})
    return rows


def _f1_table(
    panel: Panel,
    register: str,
    f1: dict[tuple[int, str, str], float],
    lang: str,
    words: dict[str, str],
    keys: dict[Path, str],
) -> dict[str, Any]:
    """Return the table of a register's F1: rows training mixes, columns the languages that have gold texts of it."""
    columns = [column for column in panel.columns if panel.gold[column].get(register)]
    rows = []
    for i, row in enumerate(panel.rows):
        cells: list[dict[str, Any]] = []
        for column in columns:
            value = f1.get((i, column, register))
            few = panel.gold[column][register] < metrics.MIN_TEXTS
            if value is None:
                cells.append({"class": "none", "text": "", "href": ""})
                continue
            run = next(run for run in row.runs if column in run.evaluations)
            kinds = ["few" if few else shade(value), *(["own"] if column in row.train_langs else [])]
            cells.append(
                {
                    "class": " ".join(kinds),
                    "text": number(100 * value, 1, lang),
                    "href": f"#{keys[run.folder]}/{column}",
                }
            )
        rows.append({"label": row.label, "cells": cells})
    name = label(REGISTERS, register, lang)
    return {
        "title": words["f1 of"].format(register=register if name == register else f"{register} ({name})"),
        "heads": [(column, panel.gold[column][register]) for column in columns],
        "rows": rows,
    }
