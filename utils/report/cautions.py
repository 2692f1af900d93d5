"""What to mind of a training and of an evaluation: sentences, from their files."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from utils import metrics, runs
from utils.scores.labels import LANGUAGES, label
from utils.scores.panels import gold_texts
from utils.scores.results import EvaluatedRun, Evaluation

FEW_TEXTS = 100  # of a test file
PLACES = 10  # named in a sentence, and linked to from one


class Cautions(NamedTuple):
    """of_runs: folder -> sentences. of_evaluations: (folder, language) -> the kinds of caution, and their sentences."""

    of_runs: dict[Path, list[str]]
    of_evaluations: dict[tuple[Path, str], list[tuple[str, str]]]


def read_cautions(
    found: list[EvaluatedRun], eval_langs: list[str], odd: dict[tuple[Path, str], str], words: dict[str, str]
) -> Cautions:
    """Return what to mind of these trainings and evaluations; odd: in what an evaluation differs from the others."""
    return Cautions(
        {run.folder: _of_run(run, words) for run in found},
        {
            (run.folder, lang): _of_evaluation(run, run.evaluations[lang], odd.get((run.folder, lang)), words)
            for run in found
            for lang in eval_langs
            if lang in run.evaluations
        },
    )


def _of_run(run: EvaluatedRun, words: dict[str, str]) -> list[str]:
    """Return what to mind of a training."""
    found = []
    epochs = _read(run.folder / "train.json", list)
    rates = [epoch.get("learning_rate", 0.0) for epoch in epochs if isinstance(epoch, dict)]
    if rates and rates[-1] > 0.05 * max(rates):  # a whole training ends with a rate of 0
        found.append(words["cut"].format(n=len(rates)))
    if run.record.get("beats_largest_register") is False:
        found.append(words["learnt nothing"])
    if several := run.record["corpus"].get("several_registers"):
        found.append(words["several in training"].format(n=len(several), places=_places(several, words)))
    return found


def _of_evaluation(
    run: EvaluatedRun, evaluation: Evaluation, odd: str | None, words: dict[str, str]
) -> list[tuple[str, str]]:
    """Return what to mind of an evaluation: the kind of warning, and its sentence."""
    found = []
    if odd:
        found.append(("odd", words["odd"].format(what=odd)))
    told = run.record["corpus"].get("files", {}).get(f"test/{evaluation.eval_lang}.tsv")
    if told and told != evaluation.signature["test_sha256"]:
        found.append(("changed", words["changed"]))
    if evaluation.n < FEW_TEXTS:
        found.append(("few texts", words["few texts"].format(n=evaluation.n)))
    few = [f"{register} ({n})" for register, n in gold_texts(evaluation).items() if n < metrics.MIN_TEXTS]
    if few:
        found.append(("few of register", words["few of register"].format(names=", ".join(few))))
    facts = _read(run.folder / "eval" / f"{evaluation.eval_lang}.json", dict)
    if several := facts.get("several_registers"):
        found.append(("several", words["several"].format(n=len(several), places=_places(several, words))))
    share, length = facts.get("over_max_length"), evaluation.signature.get("max_length")
    if isinstance(share, float) and share > 0.5 and length:
        found.append(("long", words["long"].format(share=round(100 * share), length=length)))
    return found


def _read(path: Path, kind: type) -> Any:
    """Return the list or the dictionary in a JSON file, an empty one if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return kind()
    return found if isinstance(found, kind) else kind()


def _places(found: Any, words: dict[str, str]) -> str:
    more = [words["and more"].format(n=len(found) - PLACES)] if len(found) > PLACES else []
    return words["semicolon"].join([*(runs.one_line(str(place)) for place in found[:PLACES]), *more])


def listed_cautions(
    cautions: Cautions,
    found: list[EvaluatedRun],
    eval_langs: list[str],
    lang: str,
    words: dict[str, str],
    keys: dict[Path, str],
) -> list[dict[str, Any]]:
    """Return what the template shows of them, by kind: each sentence with the evaluations that it is about."""
    kinds: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for run in found:
        key, name = keys[run.folder], runs.one_line(str(run.path))
        evaluated = [eval_lang for eval_lang in eval_langs if eval_lang in run.evaluations]
        for sentence in cautions.of_runs[run.folder]:
            links = kinds.setdefault(words["of trainings"], {}).setdefault(sentence, [])
            links.append((f"#{key}/{evaluated[0]}", name))
        for eval_lang in evaluated:
            for kind, told in cautions.of_evaluations[run.folder, eval_lang]:
                sentence = f"{label(LANGUAGES, eval_lang, lang)}: {told}"
                links = kinds.setdefault(words[f"kind {kind}"], {}).setdefault(sentence, [])
                links.append((f"#{key}/{eval_lang}", name))
    return [
        {
            "kind": kind,
            "sentences": [
                {
                    "sentence": sentence,
                    "links": links[:PLACES],
                    "more": words["and more"].format(n=len(links) - PLACES) if len(links) > PLACES else "",
                }
                for sentence, links in of_kind.items()
            ],
        }
        for kind, of_kind in kinds.items()
    ]
