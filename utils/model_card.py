"""The README.md that travels with a fine-tuned model."""

import argparse
from typing import Any

from utils import runs
from utils.runs import Run


def model_card(args: argparse.Namespace, run: Run, registers: list[str], report: dict, best: dict[str, Any]) -> str:
    """Return the README.md of a fine-tuned model."""
    n_train = sum(sum(counts.values()) for counts in report["train"].values())
    n_validation = sum(sum(counts.values()) for counts in report["validation"].values())
    return f"""# {run.name}

A classifier of the register of a text: {args.checkpoint} fine-tuned on {n_train} texts of
{", ".join(args.train_langs)}. Its answers: {", ".join(registers)}.

    from transformers import pipeline
    classify = pipeline("text-classification", model="{runs.shown(run.models)}")
    classify("a text", truncation=True, max_length={args.max_length})

Epoch {best["epoch"]} was the best on {n_validation} held-out texts of the same languages: macro-F1
{best["validation"]["macro_f1"]:.3f}, accuracy {best["validation"]["micro_f1"]:.3f}. It was chosen on these texts, so
expect a little less on others; on languages it was not trained on, expect what evaluate.py measures.
Only the first {args.max_length} tokens of a text are read. One register is answered for every text, also for
texts of no register it knows. Options, corpus and versions are in {runs.shown(run.outputs)}/run.json.
"""
