"""The table of encoders in the READMEs: each architecture, with random weights, goes through the whole chain.

    python tests/programs/encoders.py [--lang fr] [--encoders BERT XLM-R]

Each is made as small as it can be, from a config of its own, with the tokenizer of `tiny`: no checkpoint is fetched, so
that what is shown is the architecture, in this version of transformers, and not a checkpoint that somebody published.
"""

import argparse
import csv
import json
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


import evaluate
import finetune
from utils import corpus_load, download_model, model, runs, training
from utils.runs import RunError

SAMPLE_CORPUS = ROOT / "tests" / "sample-corpus"
LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
POSITIONS = {"max_position_embeddings": 514}  # RoBERTa's family: 512, from after the padding's
DECODER = {**LAYERS, "num_key_value_heads": 2, "head_dim": 8}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
XLM = {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 512, "n_langs": 1}


class Encoder(NamedTuple):
    """An architecture. kind: of its config, without Config; checkpoint: one that was published, and its languages."""

    kind: str
    checkpoint: str
    options: dict[str, Any]
    langs: str = ""  # where it is not multilingual


ENCODERS = {
    "BERT": Encoder("Bert", "google-bert/bert-base-multilingual-cased", LAYERS),
    "RoBERTa": Encoder("Roberta", "FacebookAI/roberta-base", LAYERS | POSITIONS, "en"),
    "XLM-R": Encoder("XLMRoberta", "FacebookAI/xlm-roberta-base", LAYERS | POSITIONS),
    "XLM-R XL": Encoder("XLMRobertaXL", "facebook/xlm-roberta-xl", LAYERS | POSITIONS),
    "CamemBERT": Encoder("Camembert", "almanach/camembert-base", LAYERS | POSITIONS, "fr"),
    "DistilBERT": Encoder(
        "DistilBert",
        "distilbert/distilbert-base-multilingual-cased",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    ),
    "ELECTRA": Encoder("Electra", "google/electra-base-discriminator", LAYERS | {"embedding_size": 16}, "en"),
    "ALBERT": Encoder("Albert", "albert/albert-base-v2", LAYERS | {"embedding_size": 16}, "en"),
    "DeBERTa-v2": Encoder(
        "DebertaV2",
        "microsoft/mdeberta-v3-base",
        LAYERS | {"relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"]},
    ),
    "MPNet": Encoder("MPNet", "microsoft/mpnet-base", LAYERS | POSITIONS, "en"),
    "RemBERT": Encoder("RemBert", "google/rembert", LAYERS | {"input_embedding_size": 16}),
    "XLM": Encoder("XLM", "FacebookAI/xlm-mlm-100-1280", XLM),
    "X-MOD": Encoder("Xmod", "facebook/xmod-base", LAYERS | POSITIONS | {"languages": ["en_XX"]}),
    "X-MOD, `default_language` in its config": Encoder(
        "Xmod", "facebook/xmod-base", LAYERS | POSITIONS | {"languages": ["en_XX"], "default_language": "en_XX"}
    ),
    "BigBird": Encoder("BigBird", "google/bigbird-roberta-base", LAYERS, "en"),
    "Longformer": Encoder(
        "Longformer", "allenai/longformer-base-4096", LAYERS | POSITIONS | {"attention_window": 32}, "en"
    ),
    "ModernBERT": Encoder("ModernBert", "jhu-clsp/mmBERT-base", LAYERS | {"num_hidden_layers": 4}),
    "EuroBERT": Encoder("EuroBert", "EuroBERT/EuroBERT-210m", LAYERS | {"num_key_value_heads": 2}),
    "NomicBERT": Encoder("NomicBert", "nomic-ai/nomic-embed-text-v1.5", LAYERS | {"head_dim": 8}, "en"),
    "Jina v3": Encoder("JinaEmbeddingsV3", "jinaai/jina-embeddings-v3", LAYERS),
    "Gemma 3": Encoder(
        "Gemma3Text",
        "google/embeddinggemma-300m",
        DECODER | {"use_bidirectional_attention": True, "sliding_window": 16, "num_hidden_layers": 3},
    ),
    "Gemma 2": Encoder("Gemma2", "google/gemma-2-2b", DECODER | {"sliding_window": 16}),
    "Qwen3": Encoder("Qwen3", "Qwen/Qwen3-Embedding-0.6B", DECODER),
    "T5": Encoder("T5", "google-t5/t5-base", T5, "en fr de ro"),
    "mT5": Encoder("MT5", "google/mt5-base", T5),
    "CANINE": Encoder(
        "Canine", "google/canine-s", LAYERS | {"max_position_embeddings": 2048, "num_hash_buckets": 2048}
    ),
}


def make(name: str, folder: Path) -> Path:
    """Write a checkpoint of an encoder with random weights: a bare encoder, as those published; return the folder."""
    encoder = ENCODERS[name]
    options = dict(encoder.options)
    if name == "CANINE":
        tokenizer: Any = transformers.CanineTokenizer()
    else:
        tokenizer = model.load_tokenizer(download_model.find_checkpoint("./tests/sample-corpus"))
        special = {"pad": "pad", "cls": "cls", "sep": "sep", "bos": "cls", "eos": "sep", "decoder_start": "pad"}
        options |= {f"{key}_token_id": getattr(tokenizer, f"{token}_token_id") for key, token in special.items()}
        options["vocab_size"] = len(tokenizer)
    config = getattr(transformers, f"{encoder.kind}Config")(**options)
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# ---- the chain ----


def write_corpus(folder: Path) -> Path:
    """Write two training texts and a test text per register of the sample corpus's English; return the folder."""
    registers = corpus_load.load_registers(SAMPLE_CORPUS)
    (folder / "info").mkdir(parents=True)
    shutil.copy(SAMPLE_CORPUS / "info" / "reg_abbv.json", folder / "info")
    for split, n_texts in (("train", 3), ("test", 1)):
        texts = corpus_load.read_texts(SAMPLE_CORPUS, split, "en", registers)
        rows = [
            (register, text)
            for register in registers
            for text in texts.loc[texts["register"] == register, "text"][:n_texts]
        ]
        (folder / "corpus" / split).mkdir(parents=True)
        with open(folder / "corpus" / split / "en.tsv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)
    return folder


def go_through(name: str, root: Path, corpus: Path) -> str:
    """Take an encoder through the whole chain in root, which stands in for the repository; return its precision.

    RunError where it is refused; AssertionError where the chain is not what it must be.
    """
    runs.ROOT = root
    run = ["--model-name=x", "--train-langs=en", f"--corpus-path={corpus}", "--threads=1"]
    command = [*run, f"--checkpoint={make(name, root / 'checkpoint')}", "--num-epochs=2", "--max-length=64"]
    command += ["--batch-size=8", "--learning-rate=1e-3"]
    assert finetune.main(command) == 0
    undisturbed, resumed = runs.run_paths("x", ["en"]), runs.run_paths("x", ["en"], "killed")
    command.append("--subfolder=killed")
    assert kill_after_an_epoch(command) == -signal.SIGKILL and any(resumed.checkpoints.glob("checkpoint-*"))
    assert finetune.main(command) == 0
    weights = [runs.sha256_of(found.models / "model.safetensors") for found in (undisturbed, resumed)]
    assert weights[0] == weights[1], "the training that was killed ends with other weights"
    assert evaluate.main([*run, "--eval-lang=en"]) == 0 and undisturbed.predictions("en").is_file()
    classify = transformers.pipeline("text-classification", model=str(undisturbed.models), top_k=None)
    registers = set(corpus_load.load_registers(corpus))
    for answer in classify(["A text.", "Another text, which is longer than the first of the two."], batch_size=2):
        assert {label["label"] for label in answer} == registers
        assert abs(sum(label["score"] for label in answer) - 1) < 1e-5
    return json.loads((undisturbed.outputs / "run.json").read_text())["precision"]


def kill_after_an_epoch(command: list[str]) -> int:
    """Train in a process that is killed as soon as its first checkpoint is whole; return its exit code."""
    process = os.fork()  # of this one, which has imported all that takes long
    if not process:
        try:
            complete = training.complete
            training.complete = lambda folder: (complete(folder), os.kill(os.getpid(), signal.SIGKILL))
            finetune.main(command)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


# ---- the table ----

HEADINGS = {
    "en": ("works", "architecture and a checkpoint of it"),
    "fr": ("marche", "architecture et un de ses checkpoints"),
}
BETWEEN = " · "  # the architectures of a row
REFUSED = {"en": "no:", "fr": "non\u00a0:"}
WORKS = {"en": {"bf16": "yes", "fp32": "in fp32 only"}, "fr": {"bf16": "oui", "fp32": "en fp32 seulement"}}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lang", choices=("en", "fr"), default="en", help="language of the table")
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS), metavar="NAME")
    args = parser.parse_args(argv)
    logging.getLogger("datasets").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder) / "corpus")
        rows: dict[str, list[str]] = {}
        for number, name in enumerate(args.encoders):
            try:
                works = WORKS[args.lang][go_through(name, Path(folder) / str(number), corpus)]
            except RunError as error:
                works = f"{REFUSED[args.lang]} `{told(error)}`"
            rows.setdefault(works, []).append(shown(name))
    print_row(*HEADINGS[args.lang])
    print("|---|---|")
    for works, names in rows.items():
        print_row(works, BETWEEN.join(names))
    return 0


def shown(name: str) -> str:
    encoder = ENCODERS[name]
    return f"{name} `{encoder.checkpoint}`{encoder.langs and f' ({encoder.langs})'}"


def print_row(*cells: str) -> None:
    print("|", " | ".join(cells), "|", flush=True)


def told(error: RunError) -> str:
    """Return what is wrong with an encoder, without its folder and the remedy."""
    return re.sub(r".* does not work in \w+: |;[^;]*$", "", str(error)).replace("`", "")


if __name__ == "__main__":
    sys.exit(main())
