"""methods.md: a methods paragraph for a paper, from the records of runs and evaluations, with BibTeX entries."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from utils import labels, results, runs, tables

# a sentence is left out if the value of one of its places is unknown; a place with :.0 prints nothing
PARAGRAPH = {
    "en": """We fine-tuned {models} to classify texts by register ({registers}). Our baseline, {ngrams}, is a logistic
regression on the TF-IDF weights of the {n_ngrams} character n-grams (1 to 5 characters, within words) that occur in
most training texts (scikit-learn {sklearn}); C, chosen by the validation loss: {c}. Texts taken from each training
language, validation included: {texts}. Training languages, with their numbers of texts, validation excluded:
{trainings}. Texts that are also in a test file were left out. Peak learning rate: {learning_rate}, of the
classifier’s head {head_rate}. Texts per update: {batch_size} × {gradient_accumulation} steps × {processes}
processes. Share of the layers frozen, with the embeddings: {frozen_layers}. Loss weighted inversely to the
registers’ frequency: {balanced}. Tokens read of a text, from its beginning: {max_length}. Precision:
{precision_used}. Share of the training texts for validation, stratified by language and register:
{validation_size}. Epochs: {epochs}; epoch kept, that of the lowest validation loss: {best_epoch}. Test texts played
no part in any choice. Trainings per model and training set: {n_trainings}. Seeds: {seed}. Evaluation languages,
with their numbers of test texts: {tests}. Macro-F1 is the mean F1 of the registers with at least 10 texts in the
test file{macro_f1_10:.0}. Accuracy is the share of texts classified correctly{micro_f1:.0}. Averaged over all
registers of the test file: {averages}. The baseline always predicts the most frequent register of the test file.
The zero-shot mean is over languages that none of the models compared was trained on: {zero_shot}. 95 % intervals
are about other texts of the same kind. Those of the accuracy of one training are Wilson’s (1927){micro_f1:.0}. The
others follow the delta method (Takahashi et al., 2022) on the logit scale, with Student’s t{delta:.0}. Those over
{several} trainings are about other trainings too. The best score on each evaluation language was compared with the
others on the same texts ({test}, Bonferroni’s correction, level 0.05). Not comparable, and left out of means and
bests: {different}. Software: register-finetuning, torch {torch}, transformers {transformers}. Commit of
register-finetuning: {commit}.""",
    "fr": """Nous avons affiné {models} pour classer des textes par registre ({registers}). Notre modèle de comparaison,
{ngrams}, est une régression logistique sur les poids TF-IDF des {n_ngrams} n-grammes de caractères (de 1 à 5, au
sein d’un mot) les plus répandus dans les textes d’entraînement (scikit-learn {sklearn}) ; C, choisi selon la perte
de validation : {c}. Textes pris dans chaque langue d’entraînement, validation comprise : {texts}. Langues
d’entraînement et nombre de textes, hors validation : {trainings}. Les textes également présents dans un fichier de
test ont été écartés. Taux d’apprentissage maximal : {learning_rate}, celui de la tête de classification
{head_rate}. Textes par mise à jour : {batch_size} × {gradient_accumulation} pas × {processes} processus. Part des
couches gelées, avec les plongements : {frozen_layers}. Perte pondérée à l’inverse de la fréquence des registres :
{balanced}. Tokens lus dans chaque texte, depuis son début : {max_length}. Précision numérique : {precision_used}.
Part des textes d’entraînement réservée à la validation, en strates de langue et de registre : {validation_size}.
Époques : {epochs} ; époque retenue, celle de la perte de validation la plus basse : {best_epoch}. Les textes de
test ne sont intervenus dans aucun choix. Entraînements par modèle et ensemble de langues : {n_trainings}. Graines :
{seed}. Langues d’évaluation et nombre de textes de test : {tests}. Le macro-F1 est la moyenne des F1 des registres
qui ont au moins 10 textes dans le fichier de test{macro_f1_10:.0}. L’exactitude est la part des textes bien
classés{micro_f1:.0}. En moyenne sur tous les registres du fichier de test : {averages}. Le modèle de référence
prédit toujours le registre le plus fréquent du fichier de test. La moyenne zero-shot porte sur des langues dont
aucune n’a servi à entraîner les modèles comparés : {zero_shot}. Les intervalles à 95 % concernent d’autres textes
du même type. Pour l’exactitude d’un seul entraînement, ce sont ceux de Wilson (1927){micro_f1:.0}. Les autres
suivent la méthode delta (Takahashi et al., 2022) sur l’échelle logit, avec le t de Student{delta:.0}. Ceux qui
portent sur {several} entraînements concernent aussi d’autres entraînements. Le meilleur score sur chaque langue
d’évaluation a été comparé aux autres sur les mêmes textes ({test}, correction de Bonferroni, seuil de 0,05). Non
comparables, hors des moyennes et des meilleurs : {different}. Logiciels : register-finetuning, torch {torch},
transformers {transformers}. Commit de register-finetuning : {commit}.""",
}
HUB_ID = re.compile(r"(?!models/|outputs/)[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
MISC = "@misc{{{},\n  title = {{{{{}}}}}, howpublished = {{\\url{{{}}}}}{}}}"
GITHUB = "https://github.com/ahar7911"
PAPERS = {  # checkpoint -> its BibTeX entry
    "google-bert/bert-base-multilingual-cased": r"""@inproceedings{devlin-etal-2019-bert, year = {2019},
  author = {Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina},
  title = {{BERT}: Pre-training of Deep Bidirectional Transformers for Language Understanding},
  booktitle = {Proceedings of NAACL-HLT}, pages = {4171--4186}, doi = {10.18653/v1/N19-1423}}""",
    "FacebookAI/xlm-roberta-base": r"""@inproceedings{conneau-etal-2020-unsupervised, year = {2020},
  author = {Conneau, Alexis and Khandelwal, Kartikay and Goyal, Naman and Chaudhary, Vishrav and Wenzek, Guillaume and
  Guzm{\'a}n, Francisco and Grave, Edouard and Ott, Myle and Zettlemoyer, Luke and Stoyanov, Veselin},
  title = {Unsupervised Cross-lingual Representation Learning at Scale},
  booktitle = {Proceedings of ACL}, pages = {8440--8451}, doi = {10.18653/v1/2020.acl-main.747}}""",
    "cis-lmu/glot500-base": r"""@inproceedings{imanigooghari-etal-2023-glot500, year = {2023},
  author = {ImaniGooghari, Ayyoob and Lin, Peiqin and Kargaran, Amir Hossein and Severini, Silvia and Jalili Sabet,
  Masoud and Kassner, Nora and Ma, Chunlan and Schmid, Helmut and Martins, Andr{\'e} and Yvon, Fran{\c{c}}ois and
  Sch{\"u}tze, Hinrich}, title = {{Glot500}: Scaling Multilingual Corpora and Language Models to 500 Languages},
  booktitle = {Proceedings of ACL}, pages = {1082--1117}, doi = {10.18653/v1/2023.acl-long.61}}""",
}


def write_methods(
    path: Path, frame: pd.DataFrame, matrices: Sequence[tables.Matrix], names: dict[str, str], lang: str
) -> None:
    """Write the paragraph in English (en) or French (fr); if trainings differ in an option, it names all values.

    names: language -> English name.
    """
    rows = results.evaluations(frame)
    trained = rows.drop_duplicates("folder")
    records = list(trained["record"])
    checkpoints = [str(one["settings"].get("checkpoint") or "") for one in records]

    def listed(values: Iterable[Any]) -> str:
        """Return the different known values, as "1, 2 and 42"; "" if there are none."""
        known = [value for value in values if value is not None and value != ""]
        known = sorted(known) if all(isinstance(value, int | float) for value in known) else known
        *others, last = dict.fromkeys(map(written, known)) or [""]
        return f"{', '.join(others)} {'et' if lang == 'fr' else 'and'} {last}" if others else last

    def written(value: Any) -> str:
        if isinstance(value, bool):
            return {"en": ("no", "yes"), "fr": ("non", "oui")}[lang][value]
        number = f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else ""
        return number.replace(".", "," if lang == "fr" else ".") or runs.one_line(str(value))

    def with_texts(langs: Sequence[str], counts: Iterable[Any]) -> str:
        """Return languages with their numbers of texts, as "English + French (310 + 310)"."""
        numbers = listed(counts)
        return " + ".join(labels.language(one, names, lang) for one in langs) + (f" ({numbers})" if numbers else "")

    # first what the records have under the name of a place, then what has to be composed
    options = [
        one | one.get("versions", {}) | one["settings"] | {"precision_used": one.get("precision")}
        | ({} if one.get("pretrained", True) else {"frozen_layers": 0})
        | (dict.fromkeys(("max_length", "epochs", "best_epoch")) if one.get("ngrams") else {})
        for one in records
    ] + [one | {"max_length": one["max_length"] or None} for one in rows["signature"]]  # fmt: skip
    facts = {place: listed(one.get(place) for one in options) for place in re.findall(r"{(\w+)", PARAGRAPH[lang])}
    fitted = [one for one in records if one.get("ngrams")]
    counts = [[sum(one["corpus"]["train"].get(code, {}).values()) for code in one["train_langs"]] for one in records]
    trained = trained.assign(texts=[" + ".join(map(str, n)) if all(n) else "" for n in counts])
    drawn = {matrix.metric: labels.label(labels.METRICS, matrix.metric, lang) for matrix in matrices}
    different = rows[rows["not_comparable"] != ""].groupby(["path", "not_comparable"], sort=False)["eval_lang"]
    several = pd.concat([matrix.cells for matrix in matrices]).query("n > 2 and low == low")["n"].astype(int).tolist()
    zero_shot = dict.fromkeys(" ".join(matrix.zero_shot) for matrix in matrices if matrix.zero_shot)
    facts |= dict.fromkeys(drawn, "drawn") | {
        "models": listed(
            f"{model} ({name if HUB_ID.fullmatch(name) else Path(name).name})" if name else model
            for model, name, one in zip(trained["model"], checkpoints, records, strict=True)
            if one not in fitted
        ),
        "ngrams": listed(one["model_name"] for one in fitted),
        "n_ngrams": listed(one["ngrams"]["n_ngrams"] for one in fitted),
        "c": listed(one["ngrams"]["C"] for one in fitted),
        "sklearn": listed(one.get("versions", {}).get("scikit-learn") for one in fitted),
        "registers": listed(", ".join(registers) for registers in rows["registers"]),
        "trainings": listed(with_texts(one, of["texts"]) for one, of in trained.groupby("train_langs", sort=False)),
        "n_trainings": listed(trained.groupby(["subfolder", "model", "training"]).size().tolist()),
        "tests": listed(with_texts([one], of["n"].tolist()) for one, of in rows.groupby("eval_lang")),
        "averages": listed(drawn[one] for one in ("macro_f1", "precision", "recall") if one in drawn),
        "zero_shot": "; ".join(zero_shot),
        "delta": "used" if several or zero_shot or drawn.keys() - {"micro_f1"} else "",
        "several": listed(several),
        "test": tables.tests_of_bests(matrices, lang),
        "different": "; ".join(f"{name} ({' '.join(dict.fromkeys(of))}): {how}" for (name, how), of in different),
    }
    # only the sentences whose places all have a value
    sentences = re.split(r"(?<=\.) ", re.sub(r" (?=[:;%])", "\xa0", PARAGRAPH[lang].replace("\n", " ")))
    known = [one for one in sentences if all(facts[place] for place in re.findall(r"{(\w+)", one))]
    if lang == "fr":
        facts["different"] = facts["different"].replace(", not ", ", et non ").replace("; ", "\xa0; ")
    paragraph = labels.markdown(" ".join(known).format(**facts))

    # the tool, the corpus and the pretrained models, as BibTeX
    commit = f", note = {{commit {facts['commit']}}}" if re.fullmatch(r"[\w, -]+", facts["commit"]) else ""
    entries = [MISC.format("register-finetuning", "Register fine-tuning", f"{GITHUB}/register-finetuning", commit)]
    if {Path(one["corpus"]["path"]).name for one in records} & {"", "register-corpus"}:
        entries.append(MISC.format("register-corpus", "register-corpus", f"{GITHUB}/register-corpus", ""))
    for name in dict.fromkeys(filter(HUB_ID.fullmatch, checkpoints)):
        entry = MISC.format(name.replace("/", ":"), tables.tex(name), f"https://huggingface.co/{name}", "")
        entries.append(PAPERS.get(name, entry))
    bibtex = "\n\n".join(entries)
    runs.write_text(path, f"{paragraph}\n\n```bibtex\n{bibtex}\n```\n")
