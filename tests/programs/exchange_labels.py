"""Exchange labels of test files by chance, and see how many of them are among the first suspects of post_eval.py.

    python tests/programs/exchange_labels.py --base-dir outputs/seed1 --langs sv fr tr

Takes a share of a language's test texts, at random, and gives each the register of another one drawn at random among
those of other registers. The predictions are those of the trainings that post_eval.py would ask, which do not depend on
the labels. Nothing is written.
Prints  a line per language and seed: trainings asked, texts, labels exchanged, and the share of these among the first
        5 % and 10 % of the file's texts in the order of their scores; by chance it would be 5 % and 10 %
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils import results, suspects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-dir", type=Path, nargs="+", required=True)
    parser.add_argument("--langs", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--share", type=float, default=0.05)
    args = parser.parse_args()
    rows = results.evaluations(results.read_results(args.base_dir)[0])
    shares = []
    for lang in args.langs:
        answers = suspects.ask(rows[rows["eval_lang"] == lang])
        gold = pd.Index(answers[0, 0, 3:]).get_indexer(answers[0, 1:, 1])
        for seed in args.seeds:
            rng, labels = np.random.default_rng(seed), gold.copy()
            exchanged = rng.permutation(len(gold))[: round(args.share * len(gold))]
            for text in exchanged:
                labels[text] = rng.choice(gold[gold != gold[text]])
            scores = suspects.judge(labels, answers[:, 1:, 3:].astype(float))["score"]
            place = scores.rank(ascending=False, method="first")[exchanged]
            shares.append([(place <= first * len(gold)).mean() for first in (0.05, 0.1)])
            found = " ".join(f"{100 * share:.0f} %" for share in shares[-1])
            n = len(exchanged)
            print(f"{lang} seed {seed}: {len(answers)} trainings, {len(gold)} texts, {n} exchanged: {found}")
    print("mean:", " ".join(f"{100 * share:.0f} %" for share in np.mean(shares, axis=0)))


if __name__ == "__main__":
    main()
