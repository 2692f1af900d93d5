"""What report.html says, in English and French; names of languages, registers and metrics are in labels.py."""

WORDS = {
    "title": ("Register classification: from a score to its texts", "Classer les registres : du score aux textes"),
    "intro": (
        "Trained models: {runs}; evaluation languages: {languages}; evaluations: {evaluations}. A score leads to its "
        "evaluation: confusion matrix, registers, texts, comparison.",
        "Modèles entraînés : {runs} ; langues d’évaluation : {languages} ; évaluations : {evaluations}. Un "
        "score mène à "
        "son évaluation : matrice de confusion, registres, textes, comparaison.",
    ),
    "semicolon": ("; ", " ; "),
    "colon": (": ", " : "),
    "skip": ("to the content", "aller au contenu"),
    "parts": ("parts of this page", "parties de cette page"),
    "matrices": ("Transfer matrices", "Matrices de transfert"),
    "registers view": ("Registers", "Registres"),
    "about": ("What this page holds", "Ce que contient cette page"),
    "no script": (
        "Without JavaScript, the matrices and the registers are here; a score leads to its evaluation only with it.",
        "Sans JavaScript, les matrices et les registres sont là ; un score ne mène à son évaluation qu’avec lui.",
    ),
    "choices": ("Choose", "Choisir"),
    "model": ("model", "modèle"),
    "subfolder": ("folder", "dossier"),
    "metric": ("metric", "mesure"),
    "all": ("all", "tous"),
    "all metrics": ("all", "toutes"),
    "only zero-shot": ("only languages not trained on", "seulement les langues hors entraînement"),
    "sort": ("rows by zero-shot mean", "lignes par moyenne zero-shot"),
    "none shown": ("No matrix of this choice.", "Aucune matrice pour ce choix."),
    "notes": ("How to read it", "Comment lire"),
    "to mind": ("What to mind", "À savoir"),
    "nothing to mind": ("Nothing.", "Rien."),
    "and more": ("and {n} more", "et {n} de plus"),
    "warning": ("warning", "avertissement"),
    "texts": ("texts", "textes"),
    # warnings: what each kind is called, and its sentence
    "of trainings": ("trainings", "entraînements"),
    "kind odd": ("not comparable with the others", "non comparables aux autres"),
    "kind changed": (
        "another test file than the training knew",
        "un autre fichier de test que celui de l’entraînement",
    ),
    "kind few texts": ("few test texts", "peu de textes de test"),
    "kind few of register": ("registers with few gold texts", "registres de peu de textes de référence"),
    "kind several": ("texts under several registers", "textes dans plusieurs registres"),
    "kind long": ("texts that were not read to their end", "textes qui n’ont pas été lus jusqu’au bout"),
    "few texts": (
        "only {n} test texts: the interval is wide, and a score above 90 lies nearer to its upper end",
        "seulement {n} textes de test : l’intervalle est large, et un score supérieur à 90 est plus près de sa borne "
        "supérieure",
    ),
    "few of register": (
        "registers with fewer than 10 gold texts, whose own scores say little: {names}",
        "registres de moins de 10 textes de référence, dont les propres scores disent peu : {names}",
    ),
    "several": (
        "{n} test texts occur under several registers, so that no model gets all of their rows right: {places}",
        "{n} textes de test sont dans plusieurs registres, si bien qu’aucun modèle n’a juste à toutes leurs lignes : "
        "{places}",
    ),
    "several in training": (
        "{n} texts occur under several registers in the training: {places}",
        "{n} textes sont dans plusieurs registres à l’entraînement : {places}",
    ),
    "changed": (
        "the test file is not the one that the training kept apart from its texts: some of them may be in the training",
        "le fichier de test n’est pas celui que l’entraînement a tenu à part : des textes peuvent s’y trouver aussi",
    ),
    "cut": (
        "the training was cut after {n} epochs, before its planned end (--patience)",
        "l’entraînement a été arrêté après {n} époques, avant la fin prévue (--patience)",
    ),
    "learnt nothing": (
        "the model got no more validation texts right than by always answering their largest register",
        "le modèle n’a pas mieux fait sur la validation que de toujours répondre le registre majoritaire",
    ),
    "odd": ("not comparable with the others: {what}", "non comparable aux autres : {what}"),
    "long": (
        "{share} % of the test texts are longer than {length} tokens: only their beginning was read",
        "{share} % des textes de test dépassent {length} jetons : seul leur début a été lu",
    ),
    # registers
    "register": ("register", "registre"),
    "suffers": ("Which registers suffer from zero-shot", "Les registres qui souffrent du zero-shot"),
    "suffers note": (
        "F1 × 100, means over training mixes. Same languages: those on which some mixes were trained and others not; "
        "the texts are the same, so the difference is due to the training. All languages: texts differ too. "
        "Only registers with at least 10 gold texts in a language.",
        "F1 × 100, moyennes sur les corpus d’entraînement. Mêmes langues : celles que certains entraînements "
        "contiennent et d’autres non ; les textes sont les mêmes, la différence vient donc de l’entraînement. Toutes "
        "les langues : les textes diffèrent aussi. Seulement les registres d’au moins 10 textes de référence dans une "
        "langue.",
    ),
    "trained F1": ("trained on", "entraîné"),
    "same languages": ("zero-shot, same languages", "zero-shot, mêmes langues"),
    "all languages": ("zero-shot, all languages", "zero-shot, toutes les langues"),
    "difference": ("difference", "différence"),
    "lower in": ("languages where it is lower", "langues où il est plus bas"),
    "k of m": ("{k} of {m}", "{k} sur {m}"),
    "pairs": (
        "Which registers are confused, and in how many languages",
        "Les registres confondus, et en combien de langues",
    ),
    "pairs note": (
        "A register is confused with another in a language if a tenth of its texts and at least 3 are taken for the "
        "other, on average over the training mixes; registers with at least 10 gold texts. Everywhere: look at the "
        "typology. In one language only: look at its data.",
        "Un registre est confondu avec un autre dans une langue si un dixième de ses textes, et au moins 3, sont pris "
        "pour l’autre, en moyenne sur les corpus d’entraînement ; registres d’au moins 10 textes de référence. "
        "Partout : voyez la typologie. Dans une seule langue : voyez ses données.",
    ),
    "everywhere": ("in every language", "dans toutes les langues"),
    "several languages": ("in several languages", "dans plusieurs langues"),
    "one language": ("in one language only", "dans une seule langue"),
    "only language": ("in the only language with enough texts", "dans la seule langue qui ait assez de textes"),
    "languages of pairs": ("languages", "langues"),
    "taken for": ("taken for", "pris pour"),
    "share of texts": ("of its texts", "de ses textes"),
    "where": ("where, % of its texts", "où, % de ses textes"),
    "no pairs": ("None is.", "Aucun."),
    "f1 of": ("F1 of {register}", "F1 de {register}"),
    "f1 note": (
        "F1 × 100; below a language its gold texts; in grey: fewer than 10; outlined: trained on this language",
        "F1 × 100 ; sous une langue, ses textes de référence ; en gris : moins de 10 ; encadré : entraîné sur cette "
        "langue",
    ),
    "f1 left out": (
        "In so large a grid, the F1 of each training mix is in its evaluations and in per_register.csv.",
        "Dans une si grande grille, le F1 de chaque corpus d’entraînement est dans ses évaluations et dans "
        "per_register.csv.",
    ),
    "overview": (
        "F1 of each register, mean over the trainings without the language",
        "F1 de chaque registre, moyenne sur les entraînements sans la langue",
    ),
    "per register": ("F1 per register, training mix and language", "F1 par registre, corpus d’entraînement et langue"),
    # evaluation
    "back": ("all matrices", "toutes les matrices"),
    "heading": ("{mix} on {lang}", "{mix} sur {lang}"),
    "described": ("{model}, trained on {trained}", "{model}, entraîné sur {trained}"),
    "zero-shot": (
        "zero-shot: the language is not in the training",
        "zero-shot : la langue n’est pas dans l’entraînement",
    ),
    "in training": ("a language of the training", "une langue de l’entraînement"),
    "maybe": ("the mixed corpus may hold this language", "le corpus mixte peut contenir cette langue"),
    "trainings": ("Trainings of this mix", "Entraînements de ce corpus"),
    "warnings": ("To be read with care", "À lire avec précaution"),
    "scores": ("Scores", "Scores"),
    "score": ("score × 100", "score × 100"),
    "interval": ("95 % interval", "intervalle à 95 %"),
    "too few": ("too few texts", "trop peu de textes"),
    "confusion": ("Confusion matrix", "Matrice de confusion"),
    "confusion note": (
        "share of the row in %, number of texts; a cell off the diagonal leads to its texts",
        "part de la ligne en %, nombre de textes ; une case hors de la diagonale mène à ses textes",
    ),
    "gold": ("gold", "référence"),
    "predicted": ("predicted", "prédit"),
    "gold predicted": ("gold ↓ predicted →", "référence ↓ prédit →"),
    "most confused": ("Most confused", "Les plus confondus"),
    "pair": ("{a} and {b}: {n} texts", "{a} et {b} : {n} textes"),
    "as": ("{a} taken for {b}: {n}", "{a} pris pour {b} : {n}"),
    "of the registers": ("Registers", "Registres"),
    "precision": ("precision", "précision"),
    "recall": ("recall", "rappel"),
    "support": ("gold texts", "textes de référence"),
    "training texts": ("training texts", "textes d’entraînement"),
    "few": ("few", "peu"),
    "errors": ("Errors, the most confident first", "Erreurs, les plus assurées d’abord"),
    "errors of": ("{a} taken for {b}", "{a} pris pour {b}"),
    "n errors": ("{n} texts", "{n} textes"),
    "shown of": ("the {k} most confident of {n} texts", "les {k} plus assurées sur {n} textes"),
    "all errors": ("all errors", "toutes les erreurs"),
    "more": ("show {n} more", "en montrer {n} de plus"),
    "no beginning": (
        "Without its beginning: a text that is not among the most confident errors of its pair of registers.",
        "Sans son début : un texte qui n’est pas parmi les erreurs les plus assurées de sa paire de registres.",
    ),
    "probability": ("probability", "probabilité"),
    "row": ("row in the file", "ligne du fichier"),
    "text": ("beginning of the text", "début du texte"),
    "no error": ("No error.", "Aucune erreur."),
    "no predictions": (
        "The predictions of this evaluation are gone: its texts can’t be listed.",
        "Les prédictions de cette évaluation ont disparu : ses textes ne peuvent être listés.",
    ),
    "column": (
        "Compared with the other training mixes, on the same texts",
        "Comparé aux autres entraînements, sur les mêmes textes",
    ),
    "column note": (
        "difference: this one minus the other, × 100. p: paired randomisation test, of this comparison alone; in the "
        "last column, “more than chance” holds also with Bonferroni’s correction over the comparisons of this table. "
        "Compared are: the best of the column with each, and a mix with those that it holds; in a matrix of up to six "
        "rows, all. For others: {command}",
        "différence : celui-ci moins l’autre, × 100. p : test de permutation apparié, de cette seule "
        "comparaison ; dans "
        "la dernière colonne, « plus que le hasard » vaut aussi avec la correction de Bonferroni sur les comparaisons "
        "de ce tableau. Sont comparés : le meilleur de la colonne à chacun, et un corpus à ceux qu’il contient ; dans "
        "une matrice de six lignes au plus, tous. Pour d’autres : {command}",
    ),
    "column note thin": (
        "difference: this one minus the other, × 100. p: paired randomisation test, of this comparison alone; in the "
        "last column, “more than chance” holds also with Bonferroni’s correction over the comparisons of this table. "
        "In so large a grid, only the best of the column is compared with each. For others: {command}",
        "différence : celui-ci moins l’autre, × 100. p : test de permutation apparié, de cette seule "
        "comparaison ; dans "
        "la dernière colonne, « plus que le hasard » vaut aussi avec la correction de Bonferroni sur les comparaisons "
        "de ce tableau. Dans une si grande grille, seul le meilleur de la colonne est comparé à chacun. Pour "
        "d’autres : "
        "{command}",
    ),
    "training mix": ("training", "entraînement"),
    "this one": ("this one", "celui-ci"),
    "best": ("best", "meilleur"),
    "more than chance": ("more than chance", "plus que le hasard"),
    "alone": ("more than chance, if no other is looked at", "plus que le hasard, si l’on n’en regarde pas d’autre"),
    "chance": ("may be chance", "peut être le hasard"),
    "not compared": ("not compared", "non comparé"),
    "in the row": ("The same training on other languages", "Le même entraînement sur d’autres langues"),
    "row note": (
        "other texts and other registers: no test can compare them, and a lower score may be a harder file",
        "d’autres textes et d’autres registres : aucun test ne peut les comparer, et un score plus bas peut venir d’un "
        "fichier plus difficile",
    ),
    "language": ("language", "langue"),
    "kind": ("zero-shot", "zero-shot"),
    "yes": ("yes", "oui"),
    "no": ("no", "non"),
    "signature": ("What decides this number", "Ce qui décide de ce nombre"),
    "again": ("to evaluate it again", "pour l’évaluer à nouveau"),
    "epochs": ("epochs of the training; the one kept", "époques de l’entraînement ; celle gardée"),
    "seed": ("seed of the training", "graine de l’entraînement"),
    # what the page holds
    "holds no texts": (
        "No text of the corpus is in this page, so it can be passed on as the scores can. The beginnings of texts come "
        "into it with: {command}",
        "Aucun texte du corpus n’est dans cette page : elle peut être transmise comme les scores. Les débuts "
        "des textes "
        "y viennent avec : {command}",
    ),
    "no corpus": (
        "The beginnings of texts were asked for, but the corpus is not at hand, or its test files are other ones.",
        "Les débuts des textes ont été demandés, mais le corpus n’est pas là, ou ses fichiers de test sont autres.",
    ),
    "holds texts": (
        "This page holds the beginnings of {n} texts of the corpus, up to {chars} characters each: of each pair of "
        "registers in an evaluation, the {k} most confident errors. Pass it on only if the corpus may be passed on.",
        "Cette page contient les débuts de {n} textes du corpus, d’au plus {chars} caractères : pour chaque paire de "
        "registres d’une évaluation, les {k} erreurs les plus assurées. Ne la transmettez que si le corpus "
        "peut l’être.",
    ),
    "texts thinned": (
        "Fewer than the {asked} asked for, so that the page stays below 10 MB.",
        "Moins que les {asked} demandées, pour que la page reste sous 10 Mo.",
    ),
    "errors thinned": (
        "Of each evaluation the {k} most confident errors are listed, so that the page stays below 10 MB; the counts "
        "are whole, and all errors are in errors/LANG.tsv beside each run.",
        "De chaque évaluation, les {k} erreurs les plus assurées sont listées, pour que la page reste sous 10 Mo ; les "
        "nombres sont complets, et toutes les erreurs sont dans errors/LANG.tsv, à côté de chaque modèle.",
    ),
    "errors whole": (
        "All errors of all evaluations are listed.",
        "Toutes les erreurs de toutes les évaluations sont listées.",
    ),
    "nothing loaded": (
        "Nothing is loaded from elsewhere: the page works without a network.",
        "Rien n’est chargé d’ailleurs : la page fonctionne sans réseau.",
    ),
}  # fmt: skip
