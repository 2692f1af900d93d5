"""The transfer matrices, as the template shows them."""

from pathlib import Path
from typing import Any

import numpy as np

from utils.report.cautions import FEW_TEXTS, Cautions
from utils.report.colours import shade
from utils.scores import tables
from utils.scores.labels import LANGUAGES, PHRASES, label
from utils.scores.panels import Panel, cell_text, column_head, mean_text


def matrix_view(
    panel: Panel, lang: str, words: dict[str, str], keys: dict[Path, str], cautions: Cautions
) -> dict[str, Any]:
    """Return what the template shows of one panel."""
    rows = []
    for row in panel.rows:
        warned = [sentence for run in row.runs for sentence in cautions.of_runs[run.folder]]
        cells: list[dict[str, Any]] = []
        for column in panel.columns:
            cell = row.cells.get(column)
            if cell is None:
                cells.append({"class": "none", "lines": ()})
                continue
            evaluated = [run for run in row.runs if column in run.evaluations]
            run = evaluated[0]
            kinds = {kind for one in evaluated for kind, _ in cautions.of_evaluations[one.folder, column]}
            cells.append(
                {
                    "class": " ".join(
                        [
                            shade(cell.score),
                            *(["own"] if column in row.train_langs else []),
                            *([] if run.is_zero_shot(column) else ["seen"]),
                        ]
                    ),
                    "href": f"#{keys[run.folder]}/{column}",
                    "lines": cell_text(cell, lang, panel.n_seeds),
                    "warned": "changed" in kinds,
                }
            )
        mean = panel.means.get(row.label)
        rows.append(
            {
                "label": row.label,
                "title": ", ".join(label(LANGUAGES, name, lang) for name in row.train_langs),
                "warned": words["semicolon"].join(dict.fromkeys(warned)),
                "cells": cells,
                "mean": None if mean is None else {"class": shade(mean.score), "lines": mean_text(mean, lang)},
                "order": "" if mean is None or np.isnan(mean.score) else f"{mean.score:.6f}",
            }
        )
    return {
        "title": panel.title(lang),
        "model": panel.model_name,
        "subfolder": panel.subfolder,
        "metric": panel.metric,
        "heads": [
            {
                "name": column,
                "title": label(LANGUAGES, column, lang),
                "lines": column_head(panel, column, lang)[1:],
                "few": max(panel.n_texts[column]) < FEW_TEXTS,
            }
            for column in panel.columns
        ],
        "rows": rows,
        "has_mean": bool(panel.zero_shot),
        "mean_label": label(PHRASES, "zero-shot mean", lang).replace("\n", " "),
        "training_label": label(PHRASES, "training", lang),
        "baseline_label": label(PHRASES, "baseline", lang),
        "baseline": [
            {"class": shade(cell.score), "lines": cell_text(cell, lang, 1)}
            for cell in (panel.baseline[column] for column in panel.columns)
        ],
        "notes": tables.notes(panel, lang),
    }
