"""Words behind a confusion: what distinguishes the wrongly predicted texts of a pair of registers from the others.

post_eval.py writes them to keywords/LANG.tsv in each run's folder, if the corpus is on this machine. Its columns:

    gold, predicted      texts of the gold register that are predicted as the other, compared with those predicted
                         correctly; if predicted is empty, all texts of the register, compared with all other texts
    word                 in lower case; in scripts without blanks between words, a character
    z, log_odds          how certain and how large the difference is
    count, count_other   how often the word occurs in the texts, and in those that they are compared with
    texts                in how many of the texts it occurs

log_odds is the log-odds ratio with an informative Dirichlet prior of Monroe, Colaresi & Quinn (2008, "Fightin' Words",
Political Analysis 16), and z its standard score. The prior is the test file itself: on both sides,
the number of occurrences of each word in the file is added to its count, so that a word which is rare everywhere proves
nothing. Words in fewer than MIN_TEXTS of the texts are left out: a name that one text repeats says nothing about a
register, and z must exceed MIN_Z. Among so many words, some exceed it by chance: they are hints, not results.
"""

import re
import unicodedata
from collections.abc import Collection

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from utils import results, runs

MIN_TEXTS, MIN_Z, MOST_WORDS = 3, 1.96, 20  # MOST_WORDS: per comparison, the most certain first
COLUMNS = ["gold", "predicted", "word", "z", "log_odds", "count", "count_other", "texts"]

# Thai and Lao, Burmese, Khmer, Kana, Han: characters are counted, since words have no blanks between them
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
# vowel signs and joiners of Indic and Arabic scripts are part of a word, although \w does not match them
MARKS = "".join(char for char in map(chr, range(0x10000)) if unicodedata.category(char)[0] == "M") + "\u200c\u200d"
# a literal \n, which an export has left, is a word, so that it can be seen
WORD = rf"\\n|\w+(?:[{MARKS}]+\w*)*"


def find(rows: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Return evaluation -> its words, those of the registers first; rows: from results.evaluations.

    Evaluations are left out if their predictions are gone, or if the corpus with their test file is not here.
    """
    found = {}
    test_file = [rows["eval_lang"], rows["registers"], rows["signature"].map(lambda one: one["test_sha256"])]
    for _, same in rows.groupby(test_file, sort=False):
        # the words of a test file are counted once for all runs
        texts = next(filter(None, map(results.test_texts, same.itertuples())), None)
        if texts is None:
            continue
        counted, of_registers = count_words(texts.values()), None
        for row in same.itertuples():
            answered = results.answers(row.folder, row.eval_lang, row.registers)
            if answered is None or len(answered[0]) != len(texts):
                continue
            if of_registers is None:
                of_registers = compare(*answered, row.registers, *counted, pairs=False)
            of_pairs = compare(*answered, row.registers, *counted)
            found[row.Index] = pd.DataFrame(of_registers + of_pairs, columns=COLUMNS)
    return found


def count_words(texts: Collection[str]) -> tuple[csr_matrix, np.ndarray]:
    """Return counts, texts x words, and the words; words in fewer than MIN_TEXTS texts are left out."""
    try:
        vectorizer = CountVectorizer(preprocessor=spaced, token_pattern=WORD, min_df=min(MIN_TEXTS, len(texts)))
        return vectorizer.fit_transform(texts), vectorizer.get_feature_names_out()
    except ValueError:  # there are no texts, or no words
        return csr_matrix((len(texts), 0), dtype=np.int64), np.array([], dtype=str)


def spaced(text: str) -> str:
    """Return a text in lower case and composed characters, with blanks around characters that count as words."""
    return UNSPACED.sub(r" \g<0> ", unicodedata.normalize("NFC", text.lower()))


def compare(
    gold: np.ndarray, predicted: np.ndarray, registers: tuple[str, ...], counts: csr_matrix, words: np.ndarray,
    *, pairs: bool = True,
) -> list[tuple]:  # fmt: skip
    """Return the words of all pairs, or of all registers, in the order of the registers; gold, predicted: label ids."""
    if len(words) < 2:  # odds need two words
        return []
    if not pairs:
        predicted = gold
    names, group = np.unique(np.stack([gold, predicted]), axis=1, return_inverse=True)
    member = csr_matrix((np.ones(len(gold), dtype=np.int64), (group, np.arange(len(gold)))))
    totals, holding = (member @ counts).toarray(), (member @ (counts > 0)).toarray()
    prior, number = totals.sum(axis=0), {pair: i for i, pair in enumerate(zip(*names.tolist(), strict=True))}
    found: list[tuple] = []
    for (g, p), i in number.items():
        if pairs and (g == p or (g, g) not in number):
            continue
        other = totals[number[g, g]] if pairs else prior - totals[i]
        held = np.flatnonzero(holding[i] >= MIN_TEXTS)
        log_odds, z = log_odds_ratio(totals[i], other, prior, held)
        surest = [k for k in np.argsort(-z, kind="stable")[:MOST_WORDS] if z[k] > MIN_Z]
        chosen = held[surest]
        facts = (words[chosen], z[surest], log_odds[surest], totals[i, chosen], other[chosen], holding[i, chosen])
        found += [(registers[g], registers[p] if pairs else "", *one) for one in zip(*facts, strict=True)]
    return found


def log_odds_ratio(
    a: np.ndarray, b: np.ndarray, prior: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return log-odds ratio and z of the chosen words in a against b (Monroe et al. 2008).

    a, b: counts of all words in the two groups of texts; prior: pseudo-counts > 0, the same for both.
    """
    n_a, n_b = (a + prior).sum(), (b + prior).sum()
    a, b = (a + prior)[chosen], (b + prior)[chosen]
    log_odds = np.log(a / (n_a - a)) - np.log(b / (n_b - b))
    return log_odds, log_odds / np.sqrt(1 / a + 1 / b)


def write(rows: pd.DataFrame, found: dict[int, pd.DataFrame]) -> None:
    """Write keywords/LANG.tsv of the evaluations that find has found; rows: as for find."""
    for row in rows.itertuples():
        if row.Index in found:
            table = found[row.Index].to_csv(sep="\t", index=False, float_format="%.3f")
            runs.write_text(row.folder / "keywords" / f"{row.eval_lang}.tsv", table)
