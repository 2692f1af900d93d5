"""Words that figures and tables show, in English and French: languages, registers, titles; how numbers are written.

A language or register that is not listed here is shown by its abbreviation.
"""

import re
from collections.abc import Sequence

LANGUAGES = {
    "al": ("Alsatian", "alsacien"),
    "ar": ("Arabic", "arabe"),
    "ca": ("Catalan", "catalan"),
    "de": ("German", "allemand"),
    "en": ("English", "anglais"),
    "es": ("Spanish", "espagnol"),
    "fa": ("Persian", "persan"),
    "fi": ("Finnish", "finnois"),
    "fr": ("French", "français"),
    "hi": ("Hindi", "hindi"),
    "id": ("Indonesian", "indonésien"),
    "jp": ("Japanese", "japonais"),
    "no": ("Norwegian", "norvégien"),
    "pt": ("Portuguese", "portugais"),
    "ru": ("Russian", "russe"),
    "sv": ("Swedish", "suédois"),
    "tr": ("Turkish", "turc"),
    "ur": ("Urdu", "ourdou"),
    "zh": ("Chinese", "chinois"),
    "distr": ("mixed corpus", "corpus mixte"),
}
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
    "macro_f1_10": ("macro-F1, registers of ≥ 10 texts", "macro-F1, registres de ≥ 10 textes"),
    "micro_f1": ("accuracy (micro-F1)", "exactitude (micro-F1)"),
    "macro_f1": ("macro-F1", "macro-F1"),
    "precision": ("precision (macro)", "précision (macro)"),
    "recall": ("recall (macro)", "rappel (macro)"),
}
PHRASES = {
    "gold": ("gold register", "registre de référence"),
    "predicted": ("predicted register", "registre prédit"),
    "training texts": ("training texts", "textes d’entraînement"),
    "number of texts": ("number of texts", "nombre de textes"),
    "trained on": ("trained on", "entraîné sur"),
    "training": ("training language(s)", "langue(s) d’entraînement"),
    "evaluation": ("evaluation language, number of test texts", "langue d’évaluation, nombre de textes de test"),
    "share": (
        "share of the row in %, below it the number of texts; *: a language of the training; "
        "F1: macro-F1 of the registers that have at least 10 texts",
        "part de la ligne en %, au-dessous le nombre de textes ; * : une langue de l’entraînement ; "
        "F1 : macro-F1 des registres qui ont au moins 10 textes",
    ),
    "zero-shot mean": ("zero-shot\nmean", "moyenne\nzero-shot"),
    "baseline": ("largest register", "registre majoritaire"),
    "evaluation registers": (
        "evaluation language, number of test texts, registers averaged of those it has",
        "langue d’évaluation, nombre de textes de test, registres moyennés parmi ceux qu’elle a",
    ),
    "cells": (
        "score × 100, below it its 95 % interval: for other texts of this kind, not for another training\n"
        "outlined: trained on this language; zero-shot mean: of these languages, interval for other texts of theirs",
        "score × 100, au-dessous son intervalle à 95 % : pour d’autres textes semblables, "
        "non pour un autre entraînement\n"
        "encadré : entraîné sur cette langue ; moyenne zero-shot : de ces langues-ci, "
        "son intervalle pour d’autres textes des mêmes",
    ),
    "cells seeds": (
        "score × 100, mean ± standard deviation over seeds; below it the 95 % interval of the mean, for other texts "
        "and other trainings, from three seeds on\n"
        "outlined: trained on this language; zero-shot mean: of these languages, its interval likewise",
        "score × 100, moyenne ± écart type sur les graines ; au-dessous l’intervalle à 95 % de la moyenne, "
        "pour d’autres textes et d’autres entraînements, à partir de trois graines\n"
        "encadré : entraîné sur cette langue ; moyenne zero-shot : de ces langues-ci, son intervalle de même",
    ),
    "registers": (
        "columns average over different registers: compare scores down a column, not along a row",
        "les colonnes moyennent des registres différents : comparez les scores d’une colonne, non ceux d’une ligne",
    ),
    "odd": (
        "†: not comparable (another test file, length, precision or version), left out of means and bests",
        "† : non comparable (autre fichier de test, longueur, précision numérique ou version), hors des moyennes "
        "et des meilleurs",
    ),
    "too few texts": ("too few\ntexts", "trop peu\nde textes"),
    "too few texts for F1": ("too few texts for F1", "trop peu de textes pour F1"),
    "reg.": ("reg.", "reg."),
    "left out": (
        "not measured, with fewer than 10 texts or as the only register with so many",
        "non mesurés, de moins de 10 textes ou seuls à en avoir autant",
    ),
    "assumption": (
        "fewer than 10 texts; the interval rests on an assumption about them",
        "moins de 10 textes ; l’intervalle repose sur une hypothèse à leur sujet",
    ),
    "mean of": ("zero-shot mean of", "moyenne zero-shot de"),
    "best": (
        "Bold: best of a column; underlined: what can’t be told from it (paired randomisation test on the same texts, "
        "Bonferroni’s correction over the rows, 0.05).",
        "En gras : le meilleur d’une colonne ; soulignés : ceux qu’on n’en distingue pas (test de permutation apparié "
        "sur les mêmes textes, correction de Bonferroni sur les lignes, 0,05).",
    ),
    "seeds": ("seeds", "graines"),
    "of": ("of", "sur"),
}


def label(table: dict[str, tuple[str, str]], key: str, lang: str) -> str:
    """Return the word for a key in English ("en") or French ("fr"); the key itself if it has none."""
    return table.get(key, (key, key))[lang == "fr"]


def number(value: float, decimals: int, lang: str) -> str:
    """Return a number with a decimal point, or a decimal comma in French."""
    text = f"{value:.{decimals}f}"
    return text.replace(".", ",") if lang == "fr" else text


def no_formula(cell: str) -> str:
    """Return a CSV cell that a spreadsheet shows as it is: one that it would take for a formula gets an apostrophe."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell


def markdown_row(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table that shows the cells as they are."""
    return "| " + " | ".join(markdown_text(text) for text in cells) + " |"


def markdown_text(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>&|~$#])", r"\\\1", text)
