"""Fetch the pretrained models of utils/model2chckpt.json, for machines and nodes without internet.

    python utils/download_model.py              all of them
    python utils/download_model.py xlmr tiny    some of them

Each line of model2chckpt.json gives a short name and where its checkpoint comes from:
    "xlmr": "FacebookAI/xlm-roberta-base"   a repository of the Hugging Face Hub
    "tiny": "./tests/sample-corpus"         a corpus folder (it begins with "./"): a small BERT with random
                                            weights is made, its tokenizer trained on the corpus's texts

Writes  models/pretrained/CHECKPOINT/       config, safetensors weights, tokenizer; complete.json, written last,
                                            says that the folder loads offline
Exit    0 all there, 1 one could not be fetched (the others were), 2 wrong use

Weights are read as safetensors only; pickled weights and code from a repository are never loaded. A
checkpoint that has only a sentencepiece vocabulary gets a tokenizer.json, so that it loads without
sentencepiece. An interrupted download goes on where it stopped.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":  # first: a signal during the imports below is answered too
    from utils import stop

    stop.end_on_signals()

import argparse
import fcntl
import logging
import os
import shutil
import subprocess

from utils import corpus_load, runs
from utils.runs import PRETRAINED, ROOT, RunError

MODEL2CHCKPT = ROOT / "utils" / "model2chckpt.json"
WANTED_FILES = [
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
]
TINY = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}
TINY_VOCABULARY = 4000
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}

log = logging.getLogger(__name__)


def known_checkpoints() -> dict[str, str]:
    """Return short name -> checkpoint, as utils/model2chckpt.json has them."""
    checkpoints = runs.read_json(MODEL2CHCKPT, "restore it with: git checkout utils/model2chckpt.json")
    if not isinstance(checkpoints, dict) or not all(isinstance(value, str) for value in checkpoints.values()):
        raise RunError(f"{runs.shown(MODEL2CHCKPT)}: expected an object, short name: checkpoint")
    return checkpoints


def find_checkpoint(checkpoint: str) -> Path:
    """Return the folder of a checkpoint: itself if it is a folder, else fetched into models/pretrained/.

    RunError if it isn't there and can't be fetched because HF_HUB_OFFLINE is set.
    """
    folder = folder_at_hand(checkpoint)
    if folder is None:
        fetch(checkpoint)
    return folder or pretrained_folder(checkpoint)


def folder_at_hand(checkpoint: str) -> Path | None:
    """Return the folder of a checkpoint that needs no fetching; None if there is none."""
    folder, fetched = Path(checkpoint).expanduser(), pretrained_folder(checkpoint)
    if (folder / "config.json").is_file():
        return folder.absolute()
    return fetched if (fetched / "complete.json").is_file() else None


def pretrained_folder(checkpoint: str) -> Path:
    """Return the folder under models/pretrained/ that holds a fetched checkpoint."""
    return PRETRAINED / checkpoint.removeprefix("./").replace("/", "--")


def fetch(checkpoint: str) -> None:
    """Make models/pretrained/CHECKPOINT/, proven to load offline. Several at once wait for each other."""
    target = pretrained_folder(checkpoint)
    PRETRAINED.mkdir(parents=True, exist_ok=True)
    lock = os.open(PRETRAINED / ".lock", os.O_WRONLY | os.O_CREAT)  # NFS locks only what can be written
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (target / "complete.json").is_file():
            return
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(target, ignore_errors=True)
        if checkpoint.startswith("./"):
            make_tiny(ROOT / checkpoint, partial)
            revision = ""
        else:
            revision = _download(checkpoint, partial)
        convert_tokenizer(partial)
        _prove(partial)
        runs.follow_umask(partial)
        files = {path.name: runs.sha256_of(path) for path in sorted(partial.glob("[!.]*")) if path.is_file()}
        runs.write_json(partial / "complete.json", {"checkpoint": checkpoint, "revision": revision, "files": files})
        shutil.rmtree(partial / ".cache", ignore_errors=True)  # the Hub's notes on what it has downloaded
        partial.rename(target)
        log.info("%s: there, in %s", checkpoint, runs.shown(target))
    except Exception as error:  # tokenizers raises nothing narrower
        fault = runs.disk_fault(partial, error)
        if fault is None:
            raise
        raise fault from error
    finally:
        os.close(lock)


def _download(checkpoint: str, folder: Path) -> str:
    """Download a Hub repository's safetensors, config and tokenizer; return its commit."""
    from huggingface_hub import constants, model_info, snapshot_download
    from huggingface_hub.errors import HTTPError

    if constants.HF_HUB_OFFLINE:
        raise RunError(
            f"{runs.shown(pretrained_folder(checkpoint))}: expected the model {checkpoint}, found none, and "
            "HF_HUB_OFFLINE is set; on a machine with internet, type: python utils/download_model.py"
        )
    log.info("%s: downloading", checkpoint)
    try:
        revision = model_info(checkpoint, timeout=30).sha
        snapshot_download(checkpoint, revision=revision, local_dir=folder, allow_patterns=WANTED_FILES)
    except (OSError, ValueError, HTTPError) as error:
        reason = runs.first_line(error)
        raise RunError(f"{checkpoint}: expected a model on the Hugging Face Hub, found: {reason}") from error
    return revision or ""


def convert_tokenizer(folder: Path) -> None:
    """Give a checkpoint that has only a sentencepiece vocabulary a tokenizer.json; its tokens stay the same."""
    if (folder / "tokenizer.json").is_file() or not list(folder.glob("*.model")):
        return
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False).save_pretrained(folder)


def _prove(folder: Path) -> None:
    """Load the folder in a new process, offline and without sentencepiece; RunError if that fails."""
    code = (
        "import sys; sys.modules['sentencepiece'] = None\n"
        "from pathlib import Path; from utils import classifier\n"
        "folder = Path(sys.argv[1]); classifier.load_tokenizer(folder)(['a text'])\n"
        "classifier.load_classifier(folder, ['A', 'B'])\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    proof = subprocess.run([sys.executable, "-c", code, folder], env=environment, capture_output=True, text=True)
    if proof.returncode:
        last_line = proof.stderr.strip().splitlines()[-1] if proof.stderr.strip() else f"exit {proof.returncode}"
        raise RunError(f"{runs.shown(folder)}: expected a checkpoint that loads offline, found: {last_line}")


def make_tiny(corpus: Path, folder: Path) -> None:
    """Make a small BERT with random weights for trying the tool: tokenizer trained on the corpus, seed fixed."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    registers = corpus_load.load_registers(corpus)
    langs = [lang for lang in corpus_load.list_languages(corpus, "train") if lang != corpus_load.DISTR]
    texts = [text.text for lang in langs for text in corpus_load.read_file(corpus, "train", lang, registers).texts]

    shutil.rmtree(folder, ignore_errors=True)
    # BPE and not WordPiece, whose trainer numbers the tokens in another order at each making
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    # line ends are kept as a mark of their own: verse and dialogue are known by them
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace("\n", " ⏎ ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(vocab_size=TINY_VOCABULARY, special_tokens=list(SPECIAL_TOKENS.values()))
    tokenizer.train_from_iterator(texts, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **SPECIAL_TOKENS)
    wrapped.save_pretrained(folder)

    torch.manual_seed(0)
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), pad_token_id=wrapped.pad_token_id, **TINY)
    BertModel(config).save_pretrained(folder)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    checkpoints = known_checkpoints()
    parser = argparse.ArgumentParser(
        description="Fetch pretrained models, for machines without internet.",
        epilog="example: python utils/download_model.py xlmr",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"short names of utils/model2chckpt.json (default: all): {', '.join(checkpoints)}",
    )
    args = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in checkpoints]
    if unknown:
        parser.error(f"expected names of {', '.join(checkpoints)}; found {', '.join(unknown)}")
    args.checkpoints = [checkpoints[name] for name in args.names or checkpoints]
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    failed = 0
    for checkpoint in args.checkpoints:
        try:
            folder = find_checkpoint(checkpoint)
            print(f"{checkpoint}: {runs.shown(folder)}")
        except RunError as error:
            log.error("%s", error)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    runs.run_script(main)
