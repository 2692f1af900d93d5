"""The model card: the README.md beside a fine-tuned model."""

import argparse
from typing import Any

import numpy as np

from utils import metrics, runs, uncertainty
from utils.labels import METRICS, label, markdown, markdown_rows
from utils.runs import Run


def model_card(
    args: argparse.Namespace,
    run: Run,
    registers: dict[str, str],
    report: dict,
    best: dict[str, Any],
    facts: dict[str, Any],
) -> str:
    """Return the model card: data, registers, scores with intervals, limits, how to load the model.

    registers: abbreviation -> name. report: from corpus_load.load_training_texts. best: the record in train.json of
    the model that was kept. facts: start_langs, epochs and, for n-grams, ngrams, as in run.json.
    """
    # scores on the validation texts, with intervals
    validation = best["validation"]
    n_validation = sum(sum(counts.values()) for counts in report["validation"].values())
    confusion = np.array(validation["confusion"])
    found = metrics.all_metrics(confusion)
    bounds = {name: [ends[0] for ends in uncertainty.intervals(confusion[None], name)] for name in found}
    scores = [
        [
            label(METRICS, name, "en"),
            f"{found[name]:.3f}",
            "too few texts" if low != low else f"{low:.3f} to {high:.3f}",
        ]
        for name, (low, high) in bounds.items()
        if found[name] is not None
    ]
    # numbers of texts by language, part and register
    texts = [
        [lang, part, *(str(counts[register]) for register in registers), str(sum(counts.values()))]
        for part in ("train", "validation")
        for lang, counts in report[part].items()
    ]
    # what a reader must know before using it
    learnt = metrics.beats_largest_register(confusion)
    warning = "" if learnt else f"**This model has learnt nothing useful: {metrics.NOTHING_LEARNT}.**\n\n"
    langs = ", ".join(args.train_langs)
    if facts["start_langs"]:
        langs += f"; before that, its start model was fine-tuned on texts in {', '.join(facts['start_langs'])}"
    if "ngrams" in facts:
        what, chosen = "logistic regression on character n-grams, trained", f"C = {best['C']:g}"
        read, sources = "All of a text is", "the corpus"
        load = f"""    from pathlib import Path
    from utils import ngrams
    model = ngrams.load(Path("{runs.shown(run.models)}"))
    ngrams.predict(model, ["a text"], model["registers"])  # a column per register"""
    else:
        what, chosen = f"`{args.checkpoint}`, fine-tuned", f"Epoch {best['epoch']} of {facts['epochs']}"
        read, sources = f"Only the first {args.max_length} tokens of a text are", "the checkpoint and of the corpus"
        load = f"""    from transformers import pipeline
    classify = pipeline("text-classification", model="{runs.shown(run.models)}")
    classify("a text", truncation=True, max_length={args.max_length})"""
    return f"""# {run.name}

A classifier of the register of a text: {what} on texts in {langs}.

## How to load it

{load}

## Registers

{_table(["answer", "register"], [[abbreviation, name] for abbreviation, name in registers.items()])}

## Texts

{_table(["language", "part", *registers, "all"], texts)}

Options, hashes of the corpus files and versions are in `{runs.shown(run.outputs)}/run.json`.

## Scores

On the {n_validation} validation texts, with 95 % intervals:

{_table(["score", "value", "95 % interval"], scores)}

{warning}{chosen} was kept because of its loss on these very texts, so expect slightly lower scores on other texts
of these languages. For other languages, evaluate the model on their test texts (evaluate.py).

## Limits

- {read} read.
- Every text gets one of these registers, even a text of another register or of several.
- The probabilities are not calibrated.
- The limits and licences of {sources} are also those of this model.
"""


def _table(header: list[str], rows: list[list[str]]) -> str:
    return markdown_rows(header, [[markdown(cell) for cell in row] for row in rows])
