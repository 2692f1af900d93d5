"""A baseline without a pretrained model: logistic regression on character n-grams, weighted by TF-IDF.

An n-gram has 1 to 5 characters and lies within a word in lower case, with a blank at both ends (scikit-learn's char_wb). Kept are the 20,000 that most training texts have: the loss on the validation texts is 0.65, 0.64 and 0.64
with 10,000, 20,000 and 50,000 for sv, 0.88, 0.85 and 0.86 for fi, and the model stays below 2 MB. A text is the vector
of 1 + ln(count), times ln((1 + texts) / (1 + texts with the n-gram)) + 1, of length 1. All of a text is read.

The strength of regularisation (C) is the one with the lowest loss on the validation texts, as the epoch of an encoder
is: their macro-F1 would be moved too much by one text of a rare register. Sums of one thread alone, for those of
several are rounded in another order: the same corpus and seed give the same bytes, whatever the number of cores.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils import metrics, runs
from utils.runs import RunError

if TYPE_CHECKING:  # scikit-learn takes a second to load, which --help does without
    import pandas as pd
    from scipy.sparse import csr_array

NAME = "ngrams"  # of --model-name
SETTINGS = ("model_name", "train_langs", "texts", "all_texts", "validation_size", "balanced", "seed")  # that count
LENGTHS = (1, 5)  # characters of an n-gram
N_NGRAMS = 20_000
STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # C: the higher, the less is regularised

Model = dict[str, Any]  # registers, ngrams: lists of strings; idf (n-grams,), coef (registers, n-grams), intercept


def count_ngrams(texts: Iterable[str], known: Sequence[str] | None = None) -> "tuple[csr_array, list[str]]":
    """Return how often each text has each n-gram, shape (texts, n-grams), and the n-grams: those known, or all.

    A word is cut into its n-grams once, however often it is used, which takes a tenth of the time.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    words = CountVectorizer(analyzer=str.split)
    of_texts = words.fit_transform(text.lower() for text in texts)
    ngrams = CountVectorizer(analyzer="char_wb", ngram_range=LENGTHS, lowercase=False, vocabulary=known)
    of_words = ngrams.fit_transform(words.get_feature_names_out())
    return of_texts @ of_words, list(ngrams.get_feature_names_out())


def weighted(counts: "csr_array", idf: np.ndarray) -> "csr_array":
    """Return the texts' vectors, shape (texts, n-grams), from their counts of n-grams."""
    from sklearn.feature_extraction.text import TfidfTransformer

    transformer = TfidfTransformer(sublinear_tf=True)
    transformer.idf_ = idf
    return transformer.transform(counts)


def fit(
    train: "pd.DataFrame", validation: "pd.DataFrame", registers: Sequence[str], balanced: bool
) -> tuple[Model, list]:
    """Learn from the training texts; return the best model, and a record for each C, the one that is kept first.

    registers: their order is that of the confusion counts. balanced: weigh registers inversely to their number of
    texts, in the validation loss too, in which registers without training texts do not count.
    """
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.utils.class_weight import compute_sample_weight
    from threadpoolctl import threadpool_limits

    # the n-grams that most texts have; of those that equally many have, the first in the alphabet
    counts, ngrams = count_ngrams(train["text"])
    most_first = np.argsort(-np.bincount(counts.indices, minlength=len(ngrams)), kind="stable")
    kept = np.sort(most_first[:N_NGRAMS])
    counts, ngrams = counts[:, kept], [ngrams[index] for index in kept]
    idf = TfidfTransformer().fit(counts).idf_
    features = weighted(counts, idf)
    held_out = weighted(count_ngrams(validation["text"], ngrams)[0], idf)

    known = sorted(set(train["register"]))
    of_loss = validation["register"].isin(known).to_numpy()
    gold = validation["register"].map(list(registers).index).to_numpy()
    weights = np.ones(of_loss.sum())
    if balanced:
        per_register = dict(zip(train["register"], compute_sample_weight("balanced", train["register"]), strict=True))
        weights = validation["register"][of_loss].map(per_register).to_numpy()

    tried: list[tuple[dict[str, Any], Model]] = []
    with threadpool_limits(1):
        for strength in STRENGTHS:
            # ten times the usual tolerance: half the time, and the lowest loss is the same to 0.01
            settings = {"tol": 1e-3, "max_iter": 1000, "class_weight": "balanced" if balanced else None}
            classifier = LogisticRegression(C=strength, **settings)
            classifier.fit(features, train["register"])
            coef, intercept = classifier.coef_, classifier.intercept_
            if len(known) == 2:  # it has the second register's alone
                coef, intercept = np.vstack([0 * coef, coef]), np.append(0, intercept)
            model = {"registers": known, "ngrams": ngrams, "idf": idf, "coef": coef, "intercept": intercept}
            probabilities = answer(model, held_out, registers)
            confusion = metrics.count_confusions(gold, probabilities.argmax(axis=1), len(registers))
            losses = -np.log(probabilities[np.arange(len(gold)), gold][of_loss])
            scores = {"loss": float(np.average(losses, weights=weights)), **metrics.all_metrics(confusion)}
            record = {"C": strength, "iterations": int(classifier.n_iter_[0])}
            tried.append((record | {"validation": scores | {"confusion": confusion.tolist()}}, model))
    tried.sort(key=lambda one: one[0]["validation"]["loss"])
    return tried[0][1], [record for record, _ in tried]


def answer(model: Model, features: "csr_array", registers: Sequence[str]) -> np.ndarray:
    """Return the probability of each of these registers for each vector; 0 for those that no training text had."""
    from scipy.special import softmax

    probabilities = np.zeros((features.shape[0], len(registers)))
    columns = [list(registers).index(register) for register in model["registers"]]
    probabilities[:, columns] = softmax(features @ model["coef"].T + model["intercept"], axis=1)
    return probabilities


def predict(model: Model, texts: Iterable[str], registers: Sequence[str]) -> np.ndarray:
    """Return the probability of each of these registers for each text, shape (texts, registers)."""
    return answer(model, weighted(count_ngrams(texts, model["ngrams"])[0], model["idf"]), registers)


def save(model: Model, folder: Path) -> None:
    """Write a model as model.safetensors, its arrays, and ngrams.json, its registers and n-grams."""
    from safetensors.numpy import save_file

    runs.write_json(folder / "ngrams.json", {name: model[name] for name in ("registers", "ngrams")})
    with runs.whole_file(folder / "model.safetensors") as temporary:
        save_file({name: np.ascontiguousarray(model[name]) for name in ("idf", "coef", "intercept")}, temporary)
    runs.follow_umask(folder)


def load(folder: Path) -> Model:
    """Read what save has written; RunError if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    names = runs.read_record(folder / "ngrams.json", {"registers": [str], "ngrams": [str]}, runs.RETRAIN)
    path, wrong = folder / "model.safetensors", ""
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{runs.shown(path)}: can't be read: {runs.first_line(error)}; {runs.RETRAIN}") from error
    n_registers, n_ngrams = len(names["registers"]), len(names["ngrams"])
    shapes = {"idf": (n_ngrams,), "coef": (n_registers, n_ngrams), "intercept": (n_registers,)}
    if {name: array.shape for name, array in arrays.items()} != shapes:
        wrong = f"not the arrays for {n_registers} registers and {n_ngrams} n-grams"
    elif not all(np.isfinite(array).all() for array in arrays.values()):
        wrong = "some of its numbers are not finite"
    if wrong:
        raise RunError(f"{runs.shown(path)}: {wrong}; {runs.RETRAIN}")
    return names | arrays
