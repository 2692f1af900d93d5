"""Show the scores of all evaluated runs as a table: training languages x evaluation languages.

    python post_eval.py --base-dir outputs/demo

Reads   outputs/…/eval/LANG.json of every run under the base dir; no model, no corpus
Prints  macro-F1 x 100 per run (rows) and evaluation language (columns); * marks languages trained on,
        a blank is a language that was not evaluated
Exit    0 shown, 1 nothing to show, 2 wrong use
"""

import argparse
from pathlib import Path

from utils import runs
from utils.runs import RunError


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Show the scores of all evaluated runs as a table.",
        epilog="example: python post_eval.py --base-dir outputs/demo",
    )
    parser.add_argument(
        "--base-dir",
        type=Path,
        default=runs.ROOT / "outputs",
        metavar="DIR",
        help="where the runs lie (default: outputs)",
    )
    return parser.parse_args(argv)


def load_scores(base_dir: Path) -> dict[str, dict[str, dict]]:
    """Return run's folder -> evaluation language -> scores, for all runs with evaluations; RunError if none."""
    scores: dict[str, dict[str, dict]] = {}
    for path in sorted(base_dir.glob("**/eval/[!.]*.json")):
        run_dir = path.parent.parent
        name = str(run_dir.relative_to(base_dir))
        scores.setdefault(name, {})[path.stem] = runs.read_json(path, "evaluate this language again")
    if not scores:
        raise RunError(f"{base_dir}: expected evaluated runs, found none; evaluate.py makes them")
    return scores


def score_table(scores: dict[str, dict[str, dict]]) -> str:
    """Return the runs' macro-F1 x 100 as lines of text, a column per evaluation language."""
    langs = sorted({lang for by_lang in scores.values() for lang in by_lang})
    width = max(len(name) for name in [*scores, "macro_f1 x 100"])
    lines = [" ".join([f"{'macro_f1 x 100':{width}}", *(f"{lang:>6}" for lang in langs)])]
    for name, by_lang in scores.items():
        cells = [
            f"{100 * by_lang[lang]['metrics']['macro_f1']:5.1f}{' ' if by_lang[lang]['zero_shot'] else '*'}"
            if lang in by_lang
            else " " * 6
            for lang in langs
        ]
        lines.append(" ".join([f"{name:{width}}", *cells]))
    return "\n".join([*lines, "* trained on this language"])


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    print(score_table(load_scores(args.base_dir)))
    print(f"runs and their files: {runs.shown(args.base_dir.absolute())}")
    return 0


if __name__ == "__main__":
    runs.run_script(main)
