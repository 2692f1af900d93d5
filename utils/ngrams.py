"""A baseline without a pretrained model: logistic regression on character n-grams, weighted by TF-IDF.

An n-gram has 1 to 5 characters and lies within a word in lower case, with a blank at both ends (scikit-learn's
char_wb). The 20,000 that occur in most training texts are kept: with 10,000, 20,000 and 50,000, the loss on the
validation texts is 0.65, 0.64 and 0.64 for sv and 0.88, 0.85 and 0.86 for fi, and the model takes less than 2 MB. The
weight of an n-gram in a text is 1 + ln(count), times ln((1 + texts) / (1 + texts with the n-gram)) + 1; the vector of a
text is scaled to length 1. Texts are read to their end.

The strength of regularisation, C, is the one with the lowest loss on the validation texts, like the epoch of an
encoder: macro-F1 would depend too much on one text of a rare register. Everything runs on one thread, since several
would round sums differently: the same corpus and seed give the same bytes, whatever the number of cores.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils import metrics, runs
from utils.runs import RunError

if TYPE_CHECKING:  # scikit-learn takes a second to load, too long for --help
    import pandas as pd
    from scipy.sparse import csr_array

NAME = "ngrams"  # for --model-name
SETTINGS = (
    "model_name",
    "train_langs",
    "texts",
    "all_texts",
    "validation_size",
    "balanced",
    "seed",
)  # arguments that count
PRECISION, DEVICE, MAX_LENGTH = "fp64", "CPU, 1 thread", 0  # in run.json and signatures; 0: texts are read to their end
LENGTHS = (1, 5)  # characters of an n-gram
N_NGRAMS = 20_000
STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # C: the higher, the weaker the regularisation

Model = dict[str, Any]  # registers, ngrams: lists of strings; idf (n-grams,), coef (registers, n-grams), intercept


def count_ngrams(texts: Iterable[str], known: Sequence[str] | None = None) -> "tuple[csr_array, list[str]]":
    """Return the counts of n-grams, shape (texts, n-grams), and the n-grams: those known, or all.

    Each word is divided into its n-grams only once, however often it occurs, which takes half the time.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    words = CountVectorizer(analyzer=str.split)
    of_texts = words.fit_transform(text.lower() for text in texts)
    ngrams = CountVectorizer(analyzer="char_wb", ngram_range=LENGTHS, lowercase=False, vocabulary=known)
    of_words = ngrams.fit_transform(words.get_feature_names_out())
    return of_texts @ of_words, list(ngrams.get_feature_names_out())


def weighted(counts: "csr_array", idf: np.ndarray) -> "csr_array":
    """Return the vectors of the texts, shape (texts, n-grams), from their counts of n-grams."""
    from sklearn.feature_extraction.text import TfidfTransformer

    transformer = TfidfTransformer(sublinear_tf=True)
    transformer.idf_ = idf
    return transformer.transform(counts)


def fit(
    train: "pd.DataFrame", validation: "pd.DataFrame", registers: Sequence[str], balanced: bool
) -> tuple[Model, list]:
    """Train on the training texts; return the best model, and a record for each C, the best first.

    registers: in the order of the confusion counts. balanced: weigh registers inversely to their number of texts, also
    in the validation loss. Registers without training texts do not count in that loss.
    """
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.utils.class_weight import compute_sample_weight
    from threadpoolctl import threadpool_limits

    # the most widespread n-grams, in alphabetical order if equally widespread
    counts, ngrams = count_ngrams(train["text"])
    most_first = np.argsort(-np.bincount(counts.indices, minlength=len(ngrams)), kind="stable")
    kept = np.sort(most_first[:N_NGRAMS])
    counts, ngrams = counts[:, kept], [ngrams[index] for index in kept]
    idf = TfidfTransformer().fit(counts).idf_
    features = weighted(counts, idf)
    held_out = weighted(count_ngrams(validation["text"], ngrams)[0], idf)

    known = sorted(set(train["register"]))
    of_loss = validation["register"].isin(known).to_numpy()
    if not of_loss.any():
        raise RunError(
            "validation texts: none has a register of the training texts; take more texts, or another --seed"
        )
    gold = validation["register"].map(list(registers).index).to_numpy()
    weights = np.ones(of_loss.sum())
    if balanced:
        per_register = dict(zip(train["register"], compute_sample_weight("balanced", train["register"]), strict=True))
        weights = validation["register"][of_loss].map(per_register).to_numpy()

    tried: list[tuple[dict[str, Any], Model]] = []
    with threadpool_limits(1):
        for strength in STRENGTHS:
            # ten times the usual tolerance takes half the time, and changes the loss by less than 0.01
            settings = {"tol": 1e-3, "max_iter": 1000, "class_weight": "balanced" if balanced else None}
            classifier = LogisticRegression(C=strength, **settings)
            classifier.fit(features, train["register"])
            coef, intercept = classifier.coef_, classifier.intercept_
            if len(known) == 2:  # scikit-learn only has those of the second register
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
    """Return the probability of each of these registers for each vector; 0 for registers without training texts."""
    from scipy.special import softmax

    probabilities = np.zeros((features.shape[0], len(registers)))
    columns = [list(registers).index(register) for register in model["registers"]]
    probabilities[:, columns] = softmax(features @ model["coef"].T + model["intercept"], axis=1)
    return probabilities


def predict(model: Model, texts: Iterable[str], registers: Sequence[str]) -> np.ndarray:
    """Return the probability of each of these registers for each text, shape (texts, registers)."""
    return answer(model, weighted(count_ngrams(texts, model["ngrams"])[0], model["idf"]), registers)


def save(model: Model, folder: Path) -> None:
    """Write a model: its arrays to model.safetensors, its registers and n-grams to ngrams.json."""
    from safetensors.numpy import save_file

    runs.write_json(folder / "ngrams.json", {name: model[name] for name in ("registers", "ngrams")})
    with runs.atomic_file(folder / "model.safetensors") as temporary:
        save_file({name: np.ascontiguousarray(model[name]) for name in ("idf", "coef", "intercept")}, temporary)
    runs.follow_umask(folder)


def load(folder: Path) -> Model:
    """Read a model that save has written; RunError if it is damaged."""
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
        wrong = f"does not contain the arrays for {n_registers} registers and {n_ngrams} n-grams"
    elif not all(np.isfinite(array).all() for array in arrays.values()):
        wrong = "contains numbers that are not finite"
    if wrong:
        raise RunError(f"{runs.shown(path)}: {wrong}; {runs.RETRAIN}")
    return names | arrays
