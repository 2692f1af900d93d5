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
        "share of the row in %, below it the number of texts; *: a language of the training",
        "part de la ligne en %, au-dessous le nombre de textes ; * : une langue de l’entraînement",
    ),
    "zero-shot mean": ("zero-shot\nmean", "moyenne\nzero-shot"),
    "baseline": ("largest register", "registre majoritaire"),
    "cells": (
        "score × 100, below it its 95 % interval; outlined: trained on this language",
        "score × 100, au-dessous son intervalle à 95 % ; encadré : entraîné sur cette langue",
    ),
    "cells seeds": (
        "score × 100, mean ± standard deviation over seeds; outlined: trained on this language",
        "score × 100, moyenne ± écart type sur les graines ; encadré : entraîné sur cette langue",
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
