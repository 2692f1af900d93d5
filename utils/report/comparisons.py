"""The data that page.js compares the rows of a matrix with."""

import itertools
from typing import Any

import numpy as np

from utils.scores import tables
from utils.scores.panels import Panel
from utils.scores.results import EvaluatedRun

MOST_COMPARISONS = 4_000  # beyond those with the best of each column
COMPARE_ALL = 6  # rows of a matrix whose pairs are all compared


def grid_data(grids: list[list[Panel]], found: list[EvaluatedRun], lang: str) -> list[dict[str, Any]]:
    """Return of each subfolder and model its rows, cells as text, and the comparisons of each column."""
    numbers = {run.folder: index for index, run in enumerate(found)}
    pairs = {
        (index, panel.metric, column): _pairs(panel, column, with_parts=True)
        for index, grid in enumerate(grids)
        for panel in grid
        for column in panel.columns
    }
    whole = sum(map(len, pairs.values())) <= MOST_COMPARISONS + sum(
        len(p.rows) * len(p.columns) for g in grids for p in g
    )
    shown = []
    for index, grid in enumerate(grids):
        compared: dict[str, dict[str, list]] = {}
        for panel in grid:
            for column in panel.columns:
                chosen = pairs[index, panel.metric, column] if whole else _pairs(panel, column, with_parts=False)
                compared.setdefault(panel.metric, {})[column] = [
                    [i, j, *values] for i, j in chosen if (values := _compared(panel, i, j, column)) is not None
                ]
        rows = grid[0].rows
        shown.append(
            {
                "subfolder": grid[0].subfolder,
                "columns": grid[0].columns,
                "metrics": [panel.metric for panel in grid],
                "rows": [{"label": row.label, "runs": [numbers[run.folder] for run in row.runs]} for row in rows],
                "cells": {panel.metric: _cells(panel, lang) for panel in grid},  # null: as of the one evaluation
                "best": {panel.metric: {c: tables.best_row(panel, c) for c in panel.columns} for panel in grid},
                "compared": compared,
                "parts": whole,
            }
        )
    return shown


def _cells(panel: Panel, lang: str) -> list[dict[str, str]] | None:
    """Return the cells of each row as text, where they are means over seeds."""
    if panel.n_seeds == 1:
        return None
    return [{c: tables.cell_line(cell, lang, panel.n_seeds) for c, cell in row.cells.items()} for row in panel.rows]


def _pairs(panel: Panel, column: str, with_parts: bool) -> list[tuple[int, int]]:
    """Return which rows of a column are compared: the best with each, a mix with those that it holds; of few, all."""
    rows, best = tables.comparable_rows(panel, column), tables.best_row(panel, column)
    langs = [set(row.train_langs) for row in panel.rows]
    return [
        (best, j if i == best else i) if best in (i, j) else (i, j)
        for i, j in itertools.combinations(rows, 2)
        if best in (i, j) or with_parts and (len(rows) <= COMPARE_ALL or langs[i] < langs[j] or langs[j] < langs[i])
    ]


def _compared(panel: Panel, i: int, j: int, column: str) -> list[float | int] | None:
    """Return difference, low, high (tenths of a hundredth) and p (ten thousandths) of two rows; None: can't be had."""
    compared = tables.compare_rows(panel, i, j, column)
    if compared is None or np.isnan(compared["p"]):
        return None
    return [*(round(1000 * compared[name]) for name in ("difference", "low", "high")), round(10000 * compared["p"])]
