"""The words of figures, tables and page, in English and French, and how numbers and names are written.

A language has the name that the corpus gives it, a register that is not listed here its abbreviation.
"""

import re
from collections.abc import Mapping

# English name, as in info/lang2name.json -> French name; a language that is not here keeps its English name
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
    "distr": ("mixed corpus", "corpus mixte"),
    "gold": ("gold register", "registre de référence"),
    "predicted": ("predicted register", "registre prédit"),
    "training texts": ("training texts", "textes d’entraînement"),
    "number of texts": ("number of texts", "nombre de textes"),
    "trained on": ("trained on", "langues d’entraînement :"),
    "training": ("training languages", "langues d’entraînement"),
    "evaluation": ("evaluation language, number of test texts", "langue d’évaluation, nombre de textes de test"),
    "evaluation registers": ("evaluation language, number of test texts, registers averaged of those it has",
        "langue d’évaluation, nombre de textes de test, registres pris dans la moyenne sur ceux qu’elle a"),
    "seeds": ("{n} seeds", "{n} graines"),
    "of seeds": ("{k} of {n}", "{k} sur {n}"),
    "baseline": ("most frequent register", "registre le plus fréquent"),
    "zero-shot mean": ("zero-shot mean", "moyenne zero-shot"),
    "mean of": ("zero-shot mean of {langs}", "moyenne zero-shot de {langs}"),
    "mean of seeds": ("zero-shot mean of {langs}, over the seeds that have all of them",
        "moyenne zero-shot de {langs}, sur les graines qui les ont toutes"),
    "too few texts": ("too few texts", "trop peu de textes"),
    "registers averaged": ("macro-F1 {score} ({k} of {n} registers)", "macro-F1 {score} ({k} registres sur {n})"),
    "registers with 10": ("too few texts for F1", "trop peu de textes pour F1"),
    "reg.": ("reg.", "reg."),
    "share": ("share of the row in %, below it the number of texts; *: a training language; macro-F1 of the registers "
        "that have at least 10 texts",
        "part de la ligne en %, au-dessous le nombre de textes ; * : une langue d’entraînement ; macro-F1 des "
        "registres qui ont au moins 10 textes"),
    # what stands below a matrix
    "cells": ("score × 100, with its 95 % interval: for other texts of this kind, not for another training",
        "score × 100, avec son intervalle à 95 % : pour d’autres textes du même genre, pas pour un autre entraînement"),
    "cells seeds": ("score × 100, mean ± standard deviation over {n} seeds, with the 95 % interval of the mean: for "
        "other texts and other trainings, from three seeds on",
        "score × 100, moyenne ± écart type sur {n} graines, avec l’intervalle à 95 % de la moyenne : pour d’autres "
        "textes et d’autres entraînements, à partir de trois graines"),
    "own figure": ("outlined: a training language", "encadré : une langue d’entraînement"),
    "own text": ("*: a training language", "* : une langue d’entraînement"),
    "best figure": ("bold: best of a column; underlined: not distinguishable from it",
        "en gras : le meilleur d’une colonne ; souligné : on ne l’en distingue pas"),
    "best text": ("^: best of a column; ~: not distinguishable from it",
        "^ : le meilleur d’une colonne ; ~ : on ne l’en distingue pas"),
    "best test": ("compared on the same texts ({test}, Bonferroni’s correction over the rows, 0.05)",
        "comparés sur les mêmes textes ({test}, correction de Bonferroni sur les lignes, 0,05)"),
    "test micro_f1": ("McNemar’s exact test", "test exact de McNemar"),
    "test other": ("score test by the delta method", "test du score par la méthode delta"),
    "test seeds": ("Welch’s t test over the trainings", "test t de Welch sur les entraînements"),
    "test some": ("{tests}; where one has a single training, for other texts alone",
        "{tests} ; là où l’un n’a qu’un entraînement, seulement pour d’autres textes"),
    "columns": ("columns average over different registers: compare scores down a column, not along a row",
        "les colonnes ne portent pas sur les mêmes registres : comparez les scores d’une colonne, pas ceux d’une "
        "ligne"),
    "†": ("†: not comparable (another test file, length, precision, version or training option), left out of means "
        "and bests; if seeds of a cell are comparable, they alone count",
        "† : non comparable (autre fichier de test, longueur, précision numérique, version ou option "
        "d’entraînement), ne compte ni pour les moyennes ni pour les meilleurs ; si des graines de la case sont "
        "comparables, elles seules comptent"),
    "↓": ("↓: no better than always predicting the most frequent register",
        "↓ : ne fait pas mieux que de toujours prédire le registre le plus fréquent"),
    "°": ("°: never predicts a register that is averaged over: its interval is wide, and holds the truth in more than "
        "95 % of cases",
        "° : ne prédit jamais un des registres de la moyenne : son intervalle est large, et contient la vraie valeur "
        "dans plus de 95 % des cas"),
    "left out": ("not averaged over, with fewer than 10 texts or as the only register with so many: {names}",
        "hors de la moyenne, avec moins de 10 textes ou seul registre à en avoir autant : {names}"),
    "few in mean": ("fewer than 10 texts: the interval is wide, and there is no comparison: {names}",
        "moins de 10 textes : l’intervalle est large, et il n’y a pas de comparaison : {names}"),
    "f1 of registers": ("F1 of each register", "F1 de chaque registre"),
    "f1 note": ("F1 × 100 and its 95 % interval, for other texts of this kind; of several seeds their mean, and a bar "
        "over the intervals of all; hollow: fewer than 10 texts; in brackets the number of gold texts",
        "F1 × 100 et son intervalle à 95 %, pour d’autres textes du même genre ; pour plusieurs graines, leur "
        "moyenne et une barre qui couvre tous leurs intervalles ; cercle vide : moins de 10 textes ; entre "
        "parenthèses, le nombre de textes de référence"),
    "curves": ("How many texts are enough", "Combien de textes suffisent"),
    "curves note": ("score × 100; of several seeds the mean, and a bar of its standard deviation on both sides",
        "score × 100 ; pour plusieurs graines, la moyenne, et de part et d’autre une barre d’un écart type"),
    "texts of each": ("texts of each training language, those of validation included",
        "textes de chaque langue d’entraînement, ceux de validation compris"),
    "own languages": ("training languages", "langues d’entraînement"),
    # what only the page says
    "title": ("Register classification: from a score to its errors", "Classer les registres : du score aux erreurs"),
    "intro": ("{runs} trained models, {langs} evaluation languages, {n} evaluations",
        "{runs} modèles entraînés, {langs} langues d’évaluation, {n} évaluations"),
    "skip": ("to the content", "aller au contenu"),
    "parts": ("parts of this page", "parties de cette page"),
    "matrices": ("Transfer matrices", "Matrices de transfert"),
    "registers": ("Registers", "Registres"),
    "warnings": ("Warnings", "Avertissements"),
    "about": ("What this page holds", "Ce que contient cette page"),
    "choices": ("Display", "Afficher"),
    "model": ("model", "modèle"),
    "subfolder": ("folder", "dossier"),
    "metric": ("metric", "mesure"),
    "all": ("all", "tout"),
    "only zero-shot": ("only languages that no model was trained on", "seulement les langues sans entraînement"),
    "sort": ("rows by zero-shot mean", "lignes par moyenne zero-shot"),
    "how to read": ("How to read it", "Comment lire"),
    "and more": ("and {n} more", "et {n} de plus"),
    "no warnings": ("There are none.", "Il n’y en a pas."),
    "colon": (": ", " : "),
    # warnings, the gravest first; before the colon what many evaluations have in common
    "constant": ("predicts one register for every text: {names}",
        "prédit un seul registre pour tous les textes : {names}"),
    "no better": ("no better than always predicting the most frequent register: accuracy {score}, against {baseline}",
        "pas mieux que de toujours prédire le registre le plus fréquent : exactitude {score}, contre {baseline}"),
    "never": ("never predicts some registers: {names}", "ne prédit jamais certains registres : {names}"),
    "incomparable": ("not comparable with the rest of its matrix: {what}",
        "non comparable au reste de sa matrice : {what}"),
    "changed": ("not the test file of the training: some of its texts may have been trained on",
        "pas le fichier de test de l’entraînement : certains de ses textes ont pu y servir"),
    "learnt": ("learnt nothing: no better on the validation texts than the most frequent register",
        "n’a rien appris : pas mieux sur la validation que le registre le plus fréquent"),
    "cut": ("training stopped before its planned end (--patience): after {n} epochs",
        "entraînement arrêté avant la fin prévue (--patience) : après {n} époques"),
    "several": ("test texts under several registers, so no model gets all rows right: {n}, as {names}",
        "textes de test dans plusieurs registres, aucun modèle n’a tout juste : {n}, dont {names}"),
    "several in training": ("training texts under several registers: {n}, as {names}",
        "textes d’entraînement dans plusieurs registres : {n}, dont {names}"),
    "long": ("most texts are read only in part: {share} % are longer than {length} tokens",
        "la plupart des textes ne sont lus qu’en partie : {share} % dépassent {length} jetons"),
    "few texts": ("few test texts, so the intervals are wide: {n}",
        "peu de textes de test, les intervalles sont larges : {n}"),
    "few": ("registers of fewer than 10 gold texts: {names}", "registres de moins de 10 textes de référence : {names}"),
    # registers
    "register": ("register", "registre"),
    "suffers": ("Which registers suffer from zero-shot", "Les registres qui souffrent du zero-shot"),
    "suffers note": ("F1 × 100 on the same texts, for models trained on their language and for the others; means over "
        "the languages that have both, and at least 10 gold texts of the register",
        "F1 × 100 sur les mêmes textes, pour les modèles entraînés sur leur langue et pour les autres ; moyennes sur "
        "les langues qui ont les deux, et au moins 10 textes de référence du registre"),
    "F1 trained": ("F1, trained on", "F1, entraîné"),
    "F1 zero-shot": ("F1, zero-shot", "F1, zero-shot"),
    "difference": ("difference", "différence"),
    "lower in": ("languages where it is lower", "langues où il est plus bas"),
    "nothing": ("nothing can be said without a register of 10 gold texts in a language that some models were trained "
        "on and others not.",
        "on ne peut rien dire sans un registre de 10 textes de référence dans une langue où certains modèles sont "
        "entraînés et d’autres non."),
    "confused": ("Which registers are confused", "Les registres confondus"),
    "confused note": ("a tenth of a register’s gold texts, and at least 3, are predicted as the other, on average "
        "over the models; in every language: look at the typology; in one alone: look at its texts",
        "un dixième des textes d’un registre, et au moins 3, sont prédits comme l’autre, en moyenne sur les modèles "
        "; dans toutes les langues : voyez la typologie ; dans une seule : voyez ses textes"),
    "number of languages": ("languages", "langues"),
    "where": ("where, % of its texts", "où, % de ses textes"),
    "no pairs": ("none are.", "aucun."),
    "too few pairs": ("nothing can be said, no register has 10 gold texts.",
        "on ne peut rien dire, aucun registre n’a 10 textes de référence."),
    "says nothing": ("Left out ({n}), for they say nothing about the registers: no better than the most frequent one, "
        "or of a model that never predicts a register of 10 texts:",
        "Laissées de côté ({n}), car elles ne disent rien des registres : pas mieux que le plus fréquent, ou d’un "
        "modèle qui ne prédit jamais un registre de 10 textes :"),
    # an evaluation
    "back": ("all matrices", "toutes les matrices"),
    "heading": ("{path} on {language}", "{path} sur {language}"),
    "described": ("Trained on {langs}; {kind}; {n} test texts", "Entraîné sur {langs} ; {kind} ; {n} textes de test"),
    "zero-shot": ("zero-shot: the language is not in the training",
        "zero-shot : la langue n’est pas dans l’entraînement"),
    "own": ("a language of the training", "une langue de l’entraînement"),
    "maybe": ("the mixed corpus may hold this language", "le corpus mixte peut contenir cette langue"),
    "finding": ("{score}, {relation}; the most frequent register alone has {baseline} ({metric}, × 100).",
        "{score}, {relation} ; le registre le plus fréquent à lui seul donne {baseline} ({metric}, × 100)."),
    "mean": ("mean of {n} trainings", "moyenne de {n} entraînements"),
    "worse": ("worse than {other} by {points} points{bounds}, {verdict}",
        "{points} points de moins que {other}{bounds}, {verdict}"),
    "best": ("the best of {n}, ahead of {other} by {points} points{bounds}, {verdict}",
        "le meilleur sur {n}, {points} points de plus que {other}{bounds}, {verdict}"),
    "as": ("with {verdict} as {other}", "avec {verdict} que {other}"),
    "only": ("with nothing to compare it with", "sans rien à quoi le comparer"),
    "apart": ("not comparable with the others", "non comparable aux autres"),
    "more": ("more than chance", "plus que le hasard"),
    "chance": ("may be chance", "compatible avec le hasard"),
    "chance of many": ("may be chance among so many", "compatible avec le hasard vu leur nombre"),
    "same": ("the same answers to all texts", "les mêmes réponses à tous les textes"),
    "few to compare": ("too few texts to compare", "trop peu de textes pour comparer"),
    "gone": ("predictions gone, may be chance", "prédictions absentes, compatible avec le hasard"),
    "gone more": ("predictions gone, more than chance by the intervals",
        "prédictions absentes, plus que le hasard d’après les intervalles"),
    "texts alone": ("for other texts alone", "pour d’autres textes seulement"),
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
    "decides": ("What decides this score", "Ce dont dépend ce score"),
    "epochs": ("epochs; the one kept", "époques ; époque retenue"),
    "seed": ("seed", "graine"),
    "again": ("to evaluate it again", "pour l’évaluer à nouveau"),
    "compare": ("to compare it", "pour le comparer"),
    "errors": ("Errors", "Erreurs"),
    "of": ("{k} of {n}", "{k} sur {n}"),
    "reading": ("Comparison: this one minus the other, with its 95 % interval, and p of this comparison alone; the "
        "verdict holds with Bonferroni’s correction over the rows, as in the matrices; of more than {n} rows, only "
        "the best is compared with each. Confusion matrix: % of the row (texts); a cell off the diagonal leads to its "
        "errors. Other languages have other texts and registers: a lower score may come from a harder file. Errors: "
        "rows of the test file, the most confident first (probability).",
        "Comparaison : celui-ci moins l’autre, avec l’intervalle à 95 %, et p de cette seule comparaison ; le "
        "verdict vaut avec la correction de Bonferroni sur les lignes, comme dans les matrices ; au-delà de {n} "
        "lignes, seul le meilleur est comparé à chacun. Matrice de confusion : % de la ligne (textes) ; une case "
        "hors de la diagonale mène à ses erreurs. D’autres langues ont d’autres textes et registres : un score plus "
        "bas peut venir d’un fichier plus difficile. Erreurs : lignes du fichier de test, les plus assurées d’abord "
        "(probabilité)."),
    "no predictions": ("The predictions are gone: the errors can’t be listed.",
        "Les prédictions ont disparu : les erreurs ne peuvent être listées."),
    # what the page holds
    "too many": ("Matrices and registers alone, for there are more than {most} evaluations. With the evaluations of "
        "one model: {command}",
        "Seulement les matrices et les registres, car il y a plus de {most} évaluations. Avec celles d’un modèle : "
        "{command}"),
    "no texts": ("No text of the corpus: the page can be passed on as the scores can. With beginnings of texts: "
        "--report-texts 5",
        "Aucun texte du corpus : la page se transmet comme les scores. Avec des débuts de textes : --report-texts 5"),
    "texts": ("Beginnings of texts of the corpus, up to {k} of each pair of registers in an evaluation ({n} were "
        "asked for; fewer evaluations leave room for more): pass it on only if the corpus may be passed on.",
        "Des débuts de textes du corpus, jusqu’à {k} par paire de registres d’une évaluation ({n} demandés ; moins "
        "d’évaluations laissent plus de place) : ne la transmettez que si le corpus peut l’être."),
    "no corpus": ("Texts were asked for, but the corpus is not at hand, or its test files are others.",
        "Des textes étaient demandés, mais le corpus n’est pas là, ou ses fichiers de test sont autres."),
    "all errors": ("All errors of all evaluations", "Toutes les erreurs de toutes les évaluations"),
    "fewer errors": ("The {k} most confident errors of each pair of registers in an evaluation, to stay below 10 MB; "
        "all are in errors/ of each run.",
        "Les {k} erreurs les plus assurées de chaque paire de registres d’une évaluation, pour rester sous 10 Mo ; "
        "toutes sont dans errors/ de chaque modèle."),
}
# fmt: on


def label(table: Mapping[str, tuple[str, str]], key: str, lang: str) -> str:
    """Return the word for a key in English ("en") or French ("fr"); the key itself if it has none."""
    return table.get(key, (key, key))[lang == "fr"]


def word(key: str, lang: str, **values: object) -> str:
    """Return one of WORDS, its places filled."""
    return WORDS[key][lang == "fr"].format(**values)


def test_of(metric: str, n_a: int, n_b: int, lang: str = "en") -> str:
    """Return the name of the test that two models are compared by; n_a, n_b: the trainings of each."""
    if min(n_a, n_b) > 1:
        return word("test seeds", lang)
    return word("test micro_f1" if metric == "micro_f1" and max(n_a, n_b) == 1 else "test other", lang)


def language(code: str, names: Mapping[str, str], lang: str) -> str:
    """Return the name of a language; names: code -> English name, as the corpus has it. Without one, its code."""
    if code == "distr":
        return word("distr", lang)
    name = names.get(code, "")
    if lang == "fr":  # farsi/persian, chinese (simplified): by the first word
        first = re.split(r"[/( ]", name.lower())[0]
        return FRENCH.get(name.lower(), FRENCH.get(first, name)) or code
    return name[:1].upper() + name[1:] or code


def number(value: float, decimals: int, lang: str) -> str:
    """Return a number with a decimal point, or a decimal comma in French; a rounded 0 has no sign."""
    text = f"{value:.{decimals}f}"
    text = text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")
    return text.replace(".", ",") if lang == "fr" else text


def signed(value: float, decimals: int, lang: str) -> str:
    """Return a difference with its sign; one that is rounded to 0 has none."""
    text = number(value, decimals, lang)
    return f"+{text}" if value > 0 and float(f"{value:.{decimals}f}") else text


def p_value(p: float, lang: str) -> str:
    """Return p with four decimals, and never as 0."""
    return f"< {number(0.0001, 4, lang)}" if p < 0.0001 else number(p, 4, lang)


def no_formula(cell: str) -> str:
    """Return a CSV cell that a spreadsheet shows as it is: one that it would take for a formula gets an apostrophe."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell


def markdown(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>&|~$#])", r"\\\1", text)


def markdown_rows(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table; its cells are Markdown already."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))
