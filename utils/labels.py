"""The words of figures, tables and page, in English and French, and how numbers and names are written.

Languages have the names that the corpus gives them; a register that is not listed here has its abbreviation.
"""

import re
from collections.abc import Mapping

# English name, as in info/lang2name.json -> French name; other languages keep their English names
FRENCH = dict(
    re.findall(
        r"(\w+)=(\w+)",
        "afrikaans=afrikaans albanian=albanais alsatian=alsacien amharic=amharique arabic=arabe armenian=arménien "
        "basque=basque belarusian=biélorusse bengali=bengali bosnian=bosniaque breton=breton bulgarian=bulgare "
        "catalan=catalan chinese=chinois croatian=croate czech=tchèque danish=danois dutch=néerlandais english=anglais "
        "esperanto=espéranto estonian=estonien farsi=persan finnish=finnois french=français galician=galicien "
        "georgian=géorgien german=allemand greek=grec gujarati=gujarati hausa=haoussa hebrew=hébreu hindi=hindi "
        "hungarian=hongrois icelandic=islandais indonesian=indonésien irish=irlandais italian=italien "
        "japanese=japonais kazakh=kazakh korean=coréen kurdish=kurde latin=latin latvian=letton lithuanian=lituanien "
        "luxembourgish=luxembourgeois macedonian=macédonien malay=malais maltese=maltais mongolian=mongol "
        "nepali=népalais norwegian=norvégien occitan=occitan persian=persan polish=polonais portuguese=portugais "
        "punjabi=pendjabi romanian=roumain russian=russe serbian=serbe slovak=slovaque slovenian=slovène "
        "slovene=slovène somali=somali spanish=espagnol swahili=swahili swedish=suédois tamil=tamoul telugu=télougou "
        "thai=thaï turkish=turc ukrainian=ukrainien urdu=ourdou uzbek=ouzbek vietnamese=vietnamien welsh=gallois",
    )
)
REGISTERS = {
    "IN": ("information", "information"),
    "OP": ("opinion", "opinion"),
    "RN": ("narrative", "récit"),
    "JN": ("news", "presse"),
    "HI": ("how-to", "mode d’emploi"),
    "LY": ("lyrics", "poésie, chanson"),
    "ND": ("discussion", "discussion"),
    "AD": ("scripted dialogue", "dialogue écrit"),
}
METRICS = {
    "macro_f1_10": ("macro-F1, registers of ≥ 10 texts", "macro-F1, registres d’au moins 10 textes"),
    "micro_f1": ("accuracy (micro-F1)", "exactitude (micro-F1)"),
    "macro_f1": ("macro-F1", "macro-F1"),
    "precision": ("precision (macro)", "précision (macro)"),
    "recall": ("recall (macro)", "rappel (macro)"),
}
# fmt: off
WORDS = {
    "distr": ("mixed corpus", "corpus multilingue"),
    "gold": ("gold register", "registre de référence"),
    "predicted": ("predicted register", "registre prédit"),
    "training texts": ("training texts", "textes d’entraînement"),
    "number of texts": ("number of texts", "nombre de textes"),
    "trained on": ("trained on", "langues d’entraînement :"),
    "training": ("training languages", "langues d’entraînement"),
    "evaluation": ("evaluation language, number of test texts", "langue d’évaluation, nombre de textes de test"),
    "evaluation registers": ("evaluation language, number of test texts, registers in the mean / in the test file",
        "langue d’évaluation, nombre de textes de test, registres dans la moyenne / dans le fichier de test"),
    "seeds": ("{n} seeds", "{n} graines"),
    "of seeds": ("{k} of {n}", "{k} sur {n}"),
    "baseline": ("most frequent register", "registre le plus fréquent"),
    "zero-shot mean": ("zero-shot mean", "moyenne zero-shot"),
    "mean of": ("zero-shot mean of {langs}", "moyenne zero-shot de {langs}"),
    "mean of seeds": ("zero-shot mean of {langs}, over the seeds evaluated on all of them",
        "moyenne zero-shot de {langs}, sur les graines évaluées sur toutes ces langues"),
    "too few texts": ("too few texts", "trop peu de textes"),
    "registers averaged": ("macro-F1 {score} ({k} of {n} registers)", "macro-F1 {score} ({k} registres sur {n})"),
    "registers with 10": ("too few texts for F1", "trop peu de textes pour F1"),
    "reg.": ("reg.", "reg."),
    "share": ("% of the row, and number of texts below; *: a training language; macro-F1 over the registers with at "
        "least 10 texts",
        "% de la ligne et, au-dessous, nombre de textes ; * : une langue d’entraînement ; macro-F1 des registres "
        "qui ont au moins 10 textes"),
    # below a matrix
    "cells": ("score × 100, with its 95 % interval, which is about other texts of this kind, not about another "
        "training",
        "score × 100, avec son intervalle à 95 %, qui concerne d’autres textes du même type, pas un autre "
        "entraînement"),
    "cells seeds": ("score × 100, mean ± standard deviation over {n} seeds, with the 95 % interval of the mean, which "
        "is about other texts and other trainings, from three seeds on",
        "score × 100, moyenne ± écart type sur {n} graines, avec l’intervalle à 95 % de la moyenne, qui concerne "
        "d’autres textes et d’autres entraînements, à partir de trois graines"),
    "own figure": ("outlined: a training language", "encadré : une langue d’entraînement"),
    "own text": ("*: a training language", "* : une langue d’entraînement"),
    "best figure": ("bold: best of a column; underlined: not distinguishable from the best",
        "en gras : le meilleur d’une colonne ; souligné : impossible à distinguer du meilleur"),
    "best text": ("^: best of a column; ~: not distinguishable from the best",
        "^ : le meilleur d’une colonne ; ~ : impossible à distinguer du meilleur"),
    "best test": ("compared on the same texts ({test}, Bonferroni’s correction for the number of rows, level 0.05)",
        "comparés sur les mêmes textes ({test}, correction de Bonferroni pour le nombre de lignes, seuil de 0,05)"),
    "test micro_f1": ("McNemar’s exact test", "test exact de McNemar"),
    "test other": ("score test by the delta method", "test du score par la méthode delta"),
    "test seeds": ("Welch’s t test over the trainings", "test t de Welch sur les entraînements"),
    "test some": ("{tests}; about other texts only, if one of the two has a single training",
        "{tests} ; ne concerne que d’autres textes si l’un des deux n’a qu’un entraînement"),
    "columns": ("each column averages over its own registers: compare scores down a column, not along a row",
        "chaque colonne porte sur ses propres registres : comparez les scores d’une même colonne, pas ceux d’une "
        "même ligne"),
    "†": ("†: not comparable (another test file, length, precision, version or training option) and left out of means "
        "and bests; if some seeds of a cell are comparable, only these count",
        "† : non comparable (autre fichier de test, longueur, précision numérique, version ou option "
        "d’entraînement), donc exclu des moyennes et des meilleurs ; si certaines graines de la case sont "
        "comparables, elles seules comptent"),
    "↓": ("↓: no better than always predicting the most frequent register",
        "↓ : ne fait pas mieux que de toujours prédire le registre le plus fréquent"),
    "°": ("°: never predicts one of the registers in the mean: the interval is wide, and covers the true value in more "
        "than 95 % of cases",
        "° : ne prédit jamais l’un des registres de la moyenne : l’intervalle est large, et contient la vraie valeur "
        "dans plus de 95 % des cas"),
    "left out": ("left out of the mean, with fewer than 10 texts, or the only register with that many: {names}",
        "hors de la moyenne, avec moins de 10 textes, ou seul registre à en avoir autant : {names}"),
    "few in mean": ("fewer than 10 texts: the interval is wide, and there is no comparison: {names}",
        "moins de 10 textes : l’intervalle est large, et il n’y a pas de comparaison : {names}"),
    "f1 of registers": ("F1 of each register", "F1 de chaque registre"),
    "f1 note": ("F1 × 100 and its 95 % interval, which is about other texts of this kind; with several seeds, their "
        "mean and a bar that covers all their intervals; hollow: fewer than 10 texts; in brackets, the number of gold "
        "texts",
        "F1 × 100 et son intervalle à 95 %, qui concerne d’autres textes du même type ; avec plusieurs graines, leur "
        "moyenne et une barre qui couvre tous leurs intervalles ; cercle vide : moins de 10 textes ; entre "
        "parenthèses, le nombre de textes de référence"),
    "curves": ("How many texts are enough", "Combien de textes suffisent"),
    "curves note": ("score × 100; with several seeds, their mean, and a bar of one standard deviation on each side",
        "score × 100 ; avec plusieurs graines, leur moyenne, et une barre d’un écart type de chaque côté"),
    "texts of each": ("texts per training language, validation included",
        "textes par langue d’entraînement, validation comprise"),
    "own languages": ("training languages", "langues d’entraînement"),
    # only in the page
    "title": ("Register classification: from a score to its errors", "Classer les registres : du score aux erreurs"),
    "intro": ("{runs} trained models, {langs} evaluation languages, {n} evaluations",
        "{runs} modèles entraînés, {langs} langues d’évaluation, {n} évaluations"),
    "skip": ("skip to content", "aller au contenu"),
    "parts": ("parts of this page", "parties de cette page"),
    "matrices": ("Transfer matrices", "Matrices de transfert"),
    "registers": ("Registers", "Registres"),
    "warnings": ("Warnings", "Avertissements"),
    "about": ("About this page", "À propos de cette page"),
    "choices": ("Display", "Afficher"),
    "model": ("model", "modèle"),
    "subfolder": ("folder", "dossier"),
    "metric": ("metric", "mesure"),
    "all": ("all", "tout"),
    "only zero-shot": ("only languages that no model was trained on",
        "seulement les langues absentes de tous les entraînements"),
    "sort": ("sort rows by zero-shot mean", "trier les lignes par moyenne zero-shot"),
    "how to read": ("How to read it", "Comment lire"),
    "and more": ("and {n} more", "et {n} de plus"),
    "no warnings": ("There are none.", "Il n’y en a pas."),
    "colon": (": ", " : "),
    # warnings, the most serious first; evaluations are grouped by the words before the colon
    "constant": ("predicts one register for every text: {names}",
        "prédit un seul registre pour tous les textes : {names}"),
    "no better": ("no better than always predicting the most frequent register: accuracy {score}, against {baseline}",
        "ne fait pas mieux que de toujours prédire le registre le plus fréquent : exactitude {score}, contre "
        "{baseline}"),
    "never": ("never predicts some registers: {names}", "ne prédit jamais certains registres : {names}"),
    "incomparable": ("not comparable with the rest of its matrix: {what}",
        "non comparable au reste de sa matrice : {what}"),
    "changed": ("the test file has changed since the training: the model may have been trained on some of its texts",
        "le fichier de test a changé depuis l’entraînement : certains de ses textes ont pu y servir"),
    "learnt": ("has learnt nothing: on the validation texts, no better than always predicting the most frequent "
        "register",
        "n’a rien appris : sur les textes de validation, pas mieux que de toujours prédire le registre le plus "
        "fréquent"),
    "cut": ("training stopped before its planned end (--patience): after {n} epochs",
        "entraînement arrêté avant la fin prévue (--patience) : après {n} époques"),
    "several": ("test texts under several registers, of which no model can get all right: {n}, for example {names}",
        "textes de test avec plusieurs registres, qu’aucun modèle ne peut tous réussir : {n}, par exemple {names}"),
    "several in training": ("training texts under several registers: {n}, for example {names}",
        "textes d’entraînement avec plusieurs registres : {n}, par exemple {names}"),
    "long": ("most texts are only read in part: {share} % have more than {length} tokens",
        "la plupart des textes ne sont lus qu’en partie : {share} % ont plus de {length} jetons"),
    "few texts": ("few test texts, so the intervals are wide: {n}",
        "peu de textes de test, les intervalles sont larges : {n}"),
    "few": ("registers with fewer than 10 gold texts: {names}",
        "registres avec moins de 10 textes de référence : {names}"),
    # registers
    "register": ("register", "registre"),
    "suffers": ("Which registers suffer from zero-shot", "Les registres qui souffrent du zero-shot"),
    "suffers note": ("F1 × 100 on the same texts, of the models trained on the language and of the others; means over "
        "the languages for which there are both, with at least 10 gold texts of the register",
        "F1 × 100 sur les mêmes textes, pour les modèles entraînés sur la langue et pour les autres ; moyennes sur les "
        "langues pour lesquelles il y a les deux, avec au moins 10 textes de référence du registre"),
    "F1 trained": ("F1, trained on the language", "F1, entraîné sur la langue"),
    "F1 zero-shot": ("F1, zero-shot", "F1, zero-shot"),
    "difference": ("difference", "différence"),
    "lower in": ("languages where it is lower", "langues où il est plus bas"),
    "nothing": ("nothing can be said: no register has 10 gold texts in a language that some models were trained on and "
        "others not.",
        "on ne peut rien dire : aucun registre n’a 10 textes de référence dans une langue sur laquelle certains "
        "modèles ont été entraînés et d’autres non."),
    "confused": ("Which registers are confused", "Les registres confondus"),
    "confused note": ("at least a tenth of the gold texts of a register, and at least 3, are predicted as the other, "
        "on average over the models; if that is so in every language, look at the typology; if in a single one, look "
        "at its texts",
        "au moins un dixième des textes de référence d’un registre, et au moins 3, sont prédits comme l’autre, en "
        "moyenne sur les modèles ; si c’est le cas dans toutes les langues, voyez la typologie ; si c’est dans une "
        "seule, voyez ses textes"),
    "number of languages": ("languages", "langues"),
    "where": ("where, % of the texts", "où, % des textes"),
    "no pairs": ("none.", "aucun."),
    "too few pairs": ("nothing can be said: no register has 10 gold texts.",
        "on ne peut rien dire : aucun registre n’a 10 textes de référence."),
    "says nothing": ("Left out ({n}), because they say nothing about registers: the model is no better than always "
        "predicting the most frequent one, or never predicts one that has 10 texts:",
        "Laissées de côté ({n}), car elles ne disent rien des registres : le modèle ne fait pas mieux que de "
        "toujours prédire le plus fréquent, ou n’en prédit jamais un qui a 10 textes :"),
    # suspected labels, words
    "suspects": ("Suspected labels", "Étiquettes suspectes"),
    "suspects note": ("Test texts whose register is contradicted by the models that never saw their language, the most "
        "suspect first: read them again. Agreement: trainings that predict this other register. Score: mean over the "
        "trainings of log p(predicted) − log p(gold), minus the usual value for the register. The complete lists are "
        "in suspects/.",
        "Textes de test dont le registre est contredit par les modèles qui n’ont jamais vu leur langue, les plus "
        "suspects d’abord : relisez-les. Accord : les entraînements qui prédisent cet autre registre. Score : moyenne "
        "sur les entraînements de log p(prédit) − log p(référence), moins la valeur habituelle pour le registre. Les "
        "listes complètes sont dans suspects/."),
    "no suspects": ("Nothing can be said: there are no two trainings that never saw a language and do better on it "
        "than always predicting its most frequent register.",
        "On ne peut rien dire : il n’y a pas deux entraînements qui n’ont jamais vu une langue et qui y font mieux que "
        "de toujours prédire son registre le plus fréquent."),
    "row": ("row of the test file", "ligne du fichier de test"),
    "agreement": ("agreement", "accord"),
    "suspicion": ("score", "score"),
    "words": ("Words of the registers", "Mots des registres"),
    "words note": ("Words that the test texts of a register contain more often than the other texts, the most certain "
        "first, with their counts in both. If such words come from the export and not from the register (a literal "
        "\\n, the name of a site), a model learns what it should not learn.",
        "Mots que les textes de test d’un registre contiennent plus souvent que les autres textes, les plus certains "
        "d’abord, avec leurs effectifs des deux côtés. Si de tels mots viennent de l’export et non du registre (un \\n "
        "écrit en toutes lettres, le nom d’un site), un modèle apprend ce qu’il ne devrait pas apprendre."),
    "words of a pair": ("words", "mots"),
    # an evaluation
    "back": ("all matrices", "toutes les matrices"),
    "heading": ("{path} on {language}", "{path} sur {language}"),
    "described": ("Trained on {langs}; {kind}; {n} test texts", "Entraîné sur {langs} ; {kind} ; {n} textes de test"),
    "zero-shot": ("zero-shot: the model was not trained on this language",
        "zero-shot : le modèle n’a pas été entraîné sur cette langue"),
    "own": ("a training language", "une langue d’entraînement"),
    "maybe": ("the mixed corpus may contain this language", "le corpus multilingue peut contenir cette langue"),
    "finding": ("{score}, {relation}; always predicting the most frequent register has {baseline} ({metric}, × 100).",
        "{score}, {relation} ; toujours prédire le registre le plus fréquent donne {baseline} ({metric}, × 100)."),
    "mean": ("mean of {n} trainings", "moyenne de {n} entraînements"),
    "worse": ("worse than {other} by {points} points{bounds}, {verdict}",
        "{points} points de moins que {other}{bounds}, {verdict}"),
    "best": ("the best of {n}, ahead of {other} by {points} points{bounds}, {verdict}",
        "le meilleur sur {n}, {points} points de plus que {other}{bounds}, {verdict}"),
    "as": ("with {verdict} as {other}", "avec {verdict} que {other}"),
    "only": ("with no other run to compare it with", "sans autre entraînement auquel le comparer"),
    "apart": ("not comparable with the others", "non comparable aux autres"),
    "more": ("more than chance", "plus que le hasard"),
    "chance": ("may be due to chance", "peut être dû au hasard"),
    "chance of many": ("may be due to chance among so many comparisons",
        "peut être dû au hasard parmi tant de comparaisons"),
    "same": ("the same predictions for all texts", "les mêmes prédictions pour tous les textes"),
    "few to compare": ("too few texts to compare", "trop peu de textes pour comparer"),
    "gone": ("predictions are gone; may be due to chance", "prédictions absentes ; peut être dû au hasard"),
    "gone more": ("predictions are gone; more than chance, judging by the intervals",
        "prédictions absentes ; plus que le hasard, à en juger par les intervalles"),
    "texts alone": ("only about other texts", "ne concerne que d’autres textes"),
    "to": ("to", "à"),
    "trainings": ("Other trainings of this cell", "Autres entraînements de cette case"),
    "scores": ("Scores", "Scores"),
    "score": ("score × 100", "score × 100"),
    "interval": ("95 % interval", "intervalle à 95 %"),
    "comparison": ("Comparison", "Comparaison"),
    "verdict": ("verdict", "verdict"),
    "this one": ("this one", "celui-ci"),
    "matrix": ("Confusion matrix", "Matrice de confusion"),
    "gold predicted": ("gold ↓ predicted →", "référence ↓ prédit →"),
    "precision": ("precision", "précision"),
    "recall": ("recall", "rappel"),
    "support": ("gold texts", "textes de référence"),
    "languages": ("Other languages", "Autres langues"),
    "language": ("language", "langue"),
    "decides": ("What this score depends on", "Ce dont dépend ce score"),
    "epochs": ("epochs; the one kept", "époques ; époque retenue"),
    "seed": ("seed", "graine"),
    "again": ("to evaluate it again", "pour l’évaluer à nouveau"),
    "compare": ("to compare it", "pour le comparer"),
    "errors": ("Errors", "Erreurs"),
    "of": ("{k} of {n}", "{k} sur {n}"),
    "reading": ("Comparison: this score minus the other, with its 95 % interval, and p without correction; the verdict "
        "includes Bonferroni’s correction for the number of rows, as in the matrices; with more than {n} rows, only "
        "the best is compared with the others. Confusion matrix: % of the row (texts); click on a cell off the "
        "diagonal to see its errors. Other languages have other texts and registers: a lower score may come from a "
        "harder test file. Errors: rows of the test file, the most confident first (with their probability), and words "
        "that these texts contain more often than the correctly predicted texts of the same register (counts in both).",
        "Comparaison : ce score moins l’autre, avec l’intervalle à 95 %, et p sans correction ; le verdict tient "
        "compte de la correction de Bonferroni pour le nombre de lignes, comme dans les matrices ; au-delà de {n} "
        "lignes, seul le meilleur est comparé aux autres. Matrice de confusion : % de la ligne (textes) ; cliquez sur "
        "une case hors de la diagonale pour voir ses erreurs. D’autres langues ont d’autres textes et d’autres "
        "registres : un score plus bas peut venir d’un fichier de test plus difficile. Erreurs : lignes du fichier de "
        "test, les plus assurées d’abord (avec leur probabilité), et mots que ces textes contiennent plus souvent que "
        "les textes bien prédits du même registre (effectifs des deux côtés)."),
    "no predictions": ("The predictions are gone, so the errors can’t be listed.",
        "Les prédictions ont disparu ; les erreurs ne peuvent donc pas être listées."),
    # about the page
    "too many": ("Only matrices and registers, because there are more than {most} evaluations. To see those of one "
        "model: {command}",
        "Seulement les matrices et les registres, car il y a plus de {most} évaluations. Pour voir celles d’un "
        "modèle : {command}"),
    "no texts": ("This page contains no text of the corpus, so it can be shared like the scores. To show the "
        "beginnings of texts: --report-texts 5",
        "Cette page ne contient aucun texte du corpus : elle peut être partagée comme les scores. Pour voir le début "
        "des textes : --report-texts 5"),
    "texts": ("This page contains the beginnings of texts of the corpus, up to {k} for each pair of registers in an "
        "evaluation ({n} were requested; with fewer evaluations there is room for more): share it only if the corpus "
        "may be shared.",
        "Cette page contient le début de textes du corpus, jusqu’à {k} par paire de registres et par évaluation ({n} "
        "demandés ; avec moins d’évaluations, il y a de la place pour plus) : ne la partagez que si le corpus peut "
        "l’être."),
    "no corpus": ("Texts were requested, but the corpus is not on this machine, or its test files have changed.",
        "Des textes étaient demandés, mais le corpus n’est pas sur cette machine, ou ses fichiers de test ont "
        "changé."),
    "single words": ("This page contains single words of the test texts, each from at least 3 texts. To leave them "
        "out: --ignore-keywords",
        "Cette page contient des mots isolés des textes de test, chacun présent dans au moins 3 textes. Pour les "
        "laisser de côté : --ignore-keywords"),
    "all errors": ("All errors of all evaluations", "Toutes les erreurs de toutes les évaluations"),
    "fewer errors": ("The {k} most confident errors of each pair of registers in an evaluation, so that the page is "
        "smaller than 10 MB; all errors are in the folder errors/ of each run",
        "Les {k} erreurs les plus assurées de chaque paire de registres et de chaque évaluation, pour que la page "
        "fasse moins de 10 Mo ; toutes les erreurs sont dans le dossier errors/ de chaque modèle"),
}
# fmt: on


def label(table: Mapping[str, tuple[str, str]], key: str, lang: str) -> str:
    """Return the word for a key in English ("en") or French ("fr"); the key itself if it has none."""
    return table.get(key, (key, key))[lang == "fr"]


def word(key: str, lang: str, **values: object) -> str:
    """Return an entry of WORDS with its places filled."""
    return WORDS[key][lang == "fr"].format(**values)


def test_of(metric: str, n_a: int, n_b: int, lang: str = "en") -> str:
    """Return the name of the test that compares two models; n_a, n_b: the number of trainings of each."""
    if min(n_a, n_b) > 1:
        return word("test seeds", lang)
    return word("test micro_f1" if metric == "micro_f1" and max(n_a, n_b) == 1 else "test other", lang)


def language(code: str, names: Mapping[str, str], lang: str) -> str:
    """Return the name of a language, or its code if it has none; names: code -> English name, from the corpus."""
    if code == "distr":
        return word("distr", lang)
    name = names.get(code, "")
    if lang == "fr":  # farsi/persian, chinese (simplified): the first word
        first = re.split(r"[/( ]", name.lower())[0]
        return FRENCH.get(name.lower(), FRENCH.get(first, name)) or code
    return name[:1].upper() + name[1:] or code


def number(value: float, decimals: int, lang: str) -> str:
    """Return a number with a decimal point, or in French a decimal comma; 0 after rounding has no sign."""
    text = f"{value:.{decimals}f}"
    text = text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")
    return text.replace(".", ",") if lang == "fr" else text


def signed(value: float, decimals: int, lang: str) -> str:
    """Return a difference with its sign; 0 after rounding has none."""
    text = number(value, decimals, lang)
    return f"+{text}" if value > 0 and float(f"{value:.{decimals}f}") else text


def p_value(p: float, lang: str) -> str:
    """Return p with four decimals, never 0."""
    return f"< {number(0.0001, 4, lang)}" if p < 0.0001 else number(p, 4, lang)


def no_formula(cell: str) -> str:
    """Return a CSV cell, with an apostrophe if a spreadsheet would take it for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell


def markdown(text: str) -> str:
    """Return a text escaped for Markdown."""
    return re.sub(r"([\\`*_\[\]<>&|~$#])", r"\\\1", text)


def markdown_rows(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table; the cells are Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))
