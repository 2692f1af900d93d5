"""Fetch the pretrained models of utils/model2chckpt.json, for machines and nodes without internet.

    python utils/download_model.py              all of them
    python utils/download_model.py xlmr tiny    some of them, by short name or Hub id

Each line of model2chckpt.json gives a short name and where its checkpoint comes from:
    "xlmr": "FacebookAI/xlm-roberta-base"   a repository of the Hugging Face Hub
    "tiny": "./tests/sample-corpus"         a corpus folder (it begins with "./"): a small BERT with random
                                            weights is made, its tokenizer trained on the corpus's texts

Writes  models/pretrained/CHECKPOINT/       config, safetensors weights, tokenizer; complete.json, written last,
                                            says that the folder loads offline
Exit    0 all there, 1 one could not be fetched (the others were), 2 wrong use

Weights are read as safetensors only; pickled weights and code from a repository are never loaded: a checkpoint
that needs them is refused. A checkpoint that has only a sentencepiece vocabulary gets a tokenizer.json, so that it
loads without sentencepiece. An interrupted download goes on where it stopped. What is downloaded is compared with the
Hub's hashes, and what is there with those in complete.json: a damaged checkpoint is fetched anew.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":  # before any package is imported
    from utils import environment

    environment.prepare()

import argparse
import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
from typing import Any

from utils import corpus_load, options, runs
from utils.runs import PRETRAINED, ROOT, RunError

MODEL2CHCKPT = ROOT / "utils" / "model2chckpt.json"
WANTED_FILES = [
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
    "*.codes",
]
TINY_VOCABULARY = 4000
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}

# a repository of the Hub, or a folder of this project: nothing in it leads out of models/pretrained/
CHECKPOINT = re.compile(r"(\./)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95})?")

log = logging.getLogger(__name__)


def known_checkpoints() -> dict[str, str]:
    """Return short name -> checkpoint, as utils/model2chckpt.json has them."""
    remedy = "git checkout utils/model2chckpt.json restores it"
    checkpoints = runs.read_record(MODEL2CHCKPT, {str: str}, remedy)
    for name in checkpoints:
        if not options.MODEL_NAME.fullmatch(name):
            expected = "short names of letters, digits, '_', '.' and '-'"
            raise RunError(f"{runs.shown(MODEL2CHCKPT)}: expected {expected}, found {name!a}; {remedy}")
    return checkpoints


def find_checkpoint(checkpoint: str) -> Path:
    """Return the folder of a checkpoint: itself if it is a folder, else fetched into models/pretrained/.

    RunError if it isn't there and can't be fetched because HF_HUB_OFFLINE is set, or if it is damaged.
    """
    folder = folder_at_hand(checkpoint)
    if folder is None:
        return fetch(checkpoint)
    if folder.parent == PRETRAINED:  # a copy elsewhere may have been changed on purpose
        found = damage(folder)
        if found:
            raise RunError(f"{found}; to fetch it anew, type: {fetch_command(checkpoint)}")
    return folder


def folder_at_hand(checkpoint: str) -> Path | None:
    """Return the folder of a checkpoint that needs no fetching; None if there is none."""
    folder = os.path.abspath(os.path.expanduser(checkpoint))
    if os.path.isfile(f"{folder}/config.json"):
        return Path(folder)
    fetched = pretrained_folder(checkpoint)
    return fetched if (fetched / "complete.json").is_file() else None


def pretrained_folder(checkpoint: str) -> Path:
    """Return the folder under models/pretrained/ that holds a fetched checkpoint; RunError if it can't be one."""
    if not CHECKPOINT.fullmatch(checkpoint):
        raise RunError(
            f"{checkpoint[:80]!a}: expected a folder with config.json, or a model of the Hugging Face Hub as "
            "FacebookAI/xlm-roberta-base, found neither"
        )
    return PRETRAINED / _folder_name(checkpoint)


def _folder_name(checkpoint: str) -> str:
    return checkpoint.removeprefix("./").replace("/", "--")


def fetch_command(checkpoint: str) -> str:
    """Return the command that fetches a checkpoint, or its folder, by its short name where it has one."""
    fetched = (_folder_name(checkpoint), Path(checkpoint).name)
    names = [name for name, known in known_checkpoints().items() if _folder_name(known) in fetched]
    return f"python utils/download_model.py {(names or [checkpoint])[0]}"


def start_weights(checkpoint: str) -> str | None:
    """Return a hash of a checkpoint's weights; None where they have to be fetched first, or are nowhere."""
    try:
        folder = folder_at_hand(checkpoint)
    except RunError:  # told when it is loaded: a finished training needs its start no more
        folder = None
    if folder is None:
        return None
    # of what was fetched they are known, and compared before it is loaded; a copy elsewhere may have been changed
    hashes = _fetched(folder)["files"] or {path.name: runs.sha256_of(path) for path in folder.glob("*.safetensors")}
    weights = [hashes[name] for name in sorted(hashes) if name.endswith(".safetensors")]
    return weights[0] if len(weights) == 1 else hashlib.sha256("\n".join(weights).encode()).hexdigest()


def _fetched(folder: Path) -> dict[str, Any]:
    """Return what complete.json has of a checkpoint that was fetched: revision, and hashes of files; else nothing."""
    try:
        if folder.parent == PRETRAINED:
            return runs.read_record(folder / "complete.json", {"revision": str, "files": {str: str}}, "")
    except RunError:  # told when it is loaded
        pass
    return {"revision": "", "files": {}}


def start_of(folder: Path) -> dict[str, Any]:
    """Return what run.json tells of the model that a training starts from: its languages, its commit on the Hub."""
    langs = runs.read_record(folder / "config.json", {}, "fetch or copy it anew").get("train_langs", [])
    return {
        "start_weights": start_weights(str(folder)),
        "start_revision": _fetched(folder)["revision"],
        "start_langs": langs if not runs.misfit(langs, [options.LANGUAGE]) else [],
    }


def damage(folder: Path) -> str:
    """Return what of a fetched checkpoint is not as it was fetched, by the hashes in complete.json; "" if nothing."""
    try:
        files = runs.read_record(folder / "complete.json", {"files": {str: str}}, "it is not whole")["files"]
    except RunError as error:
        return str(error)
    for path, sha256 in ((folder / name, sha256) for name, sha256 in files.items()):
        if not path.is_file() or runs.sha256_of(path) != sha256:
            found = "another content" if path.is_file() else "none"
            return f"{runs.shown(path)}: expected the file that was fetched, by its hash, found {found}"
    return "" if "config.json" in files else f"{runs.shown(folder)}/complete.json: expected hashes, found none"


def fetch(checkpoint: str) -> Path:
    """Make models/pretrained/CHECKPOINT/, proven to load offline, if it is not there or damaged; return it.

    Several at once wait for each other.
    """
    target = pretrained_folder(checkpoint)
    PRETRAINED.mkdir(parents=True, exist_ok=True)
    lock = os.open(PRETRAINED / ".lock", os.O_WRONLY | os.O_CREAT)  # NFS locks only what can be written
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (target / "complete.json").is_file():
            found = damage(target)
            if not found:
                return target
            log.warning("%s: fetching it anew", found)
        partial = target.with_name(f"{target.name}.partial")
        if checkpoint.startswith("./"):
            make_tiny(corpus_load.find_corpus(str(ROOT / checkpoint)), partial)
            revision = ""
        else:
            revision = _download(checkpoint, partial)
        try:
            convert_tokenizer(partial)
            _prove(partial)
        except RunError:
            shutil.rmtree(partial)  # what does not load must not be gone on from
            raise
        runs.follow_umask(partial)
        files = {path.name: runs.sha256_of(path) for path in sorted(partial.glob("[!.]*")) if path.is_file()}
        runs.write_json(partial / "complete.json", {"checkpoint": checkpoint, "revision": revision, "files": files})
        shutil.rmtree(partial / ".cache", ignore_errors=True)  # the Hub's notes on what it has downloaded
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        log.info("%s: there, in %s", checkpoint, runs.shown(target))
        return target
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
    from huggingface_hub.utils import filter_repo_objects

    if constants.HF_HUB_OFFLINE:
        raise RunError(
            f"{runs.shown(pretrained_folder(checkpoint))}: expected the model {checkpoint}, found none, and "
            f"HF_HUB_OFFLINE is set; on a machine with internet, type: {fetch_command(checkpoint)}"
        )
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # the client's, else a line per request
    log.info("%s: downloading", checkpoint)
    try:
        info = model_info(checkpoint, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
        files = {file.rfilename: file for file in info.siblings or ()}
        wanted = list(filter_repo_objects(files, allow_patterns=WANTED_FILES))
        refuse_pickled(checkpoint, list(files))
        snapshot_download(checkpoint, revision=info.sha, local_dir=folder, allow_patterns=WANTED_FILES)
        wrong = [name for name in wanted if not _is_as_on_the_hub(folder / name, files[name])]
    except RunError:
        raise
    except Exception as error:  # the Hub's client raises anything where an answer is not the Hub's
        cause: BaseException = error
        while cause.__cause__:  # the client wraps what the Hub has answered
            cause = cause.__cause__
        raise RunError(
            f"{checkpoint}: expected a model on {constants.ENDPOINT}, found {type(cause).__name__}: "
            f"{runs.first_line(cause)}; check name and connection, and type again: {fetch_command(checkpoint)} "
            "(what has been fetched is kept)"
        ) from error
    if wrong:
        shutil.rmtree(folder)  # its notes say that the file is right: it would never be fetched again
        raise RunError(
            f"{checkpoint}: expected {wrong[0]} with the hash that {constants.ENDPOINT} tells, found another content "
            f"or none; to try again, type: {fetch_command(checkpoint)}"
        )
    return info.sha or ""


def _is_as_on_the_hub(path: Path, file: Any) -> bool:
    """Tell whether a downloaded file has the hash that the Hub tells, if it tells one: SHA-256, or git's for small."""
    from huggingface_hub.utils.sha import git_hash

    if not path.is_file():
        return False
    if file.lfs is not None:
        return runs.sha256_of(path) == file.lfs.sha256
    if not file.blob_id:
        return True
    return git_hash(path.read_bytes()) == file.blob_id


def refuse_pickled(checkpoint: str, files: list[str]) -> None:
    """RunError if there are no safetensors weights among a checkpoint's files; names pickled ones."""
    if not any(name.endswith(".safetensors") for name in files):
        pickled = [name for name in files if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5"))]
        found = f"{', '.join(sorted(pickled))}; pickled weights are never loaded: choose a model" if pickled else "none"
        raise RunError(f"{checkpoint}: expected model.safetensors, found {found}")


def convert_tokenizer(folder: Path) -> None:
    """Give a checkpoint that has only a sentencepiece vocabulary a tokenizer.json; its tokens stay the same."""
    if (folder / "tokenizer.json").is_file() or not list(folder.glob("*.model")):
        return
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False).save_pretrained(folder)


def _prove(folder: Path) -> None:
    """Load the folder and try it in a new process, offline and without sentencepiece; RunError if that fails."""
    code = (
        "import sys; sys.modules['sentencepiece'] = None\n"
        "from pathlib import Path; from utils import environment; environment.let_options_decide(cpu=False)\n"
        "import torch; torch.set_num_threads(1)  # login nodes are others' too\n"
        "from utils import model\n"
        "model.load(Path(sys.argv[1]), ['A', 'B'], None, 'auto', learns=True)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    proof = subprocess.run([sys.executable, "-c", code, folder], env=environment, capture_output=True, text=True)
    if proof.returncode:
        last_line = proof.stderr.strip().splitlines()[-1] if proof.stderr.strip() else f"exit {proof.returncode}"
        reason = last_line.removeprefix("utils.runs.RunError: ")
        raise RunError(f"{runs.shown(folder)}: expected a checkpoint that loads offline, found: {reason}")


def make_tiny(corpus: Path, folder: Path) -> None:
    """Make a small BERT with random weights for trying the tool: tokenizer trained on the corpus, seed fixed."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    registers = corpus_load.load_registers(corpus)
    langs = [lang for lang in corpus_load.list_languages(corpus, "train") if lang != corpus_load.DISTR]
    texts = [text for lang in langs for text in corpus_load.read_texts(corpus, "train", lang, registers)["text"]]

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
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), pad_token_id=wrapped.pad_token_id,
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256,
    )  # fmt: skip
    config.random_weights = True  # utils/model.py freezes none of them
    BertModel(config).save_pretrained(folder)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    checkpoints = known_checkpoints()
    parser = options.new_parser(
        "Fetch pretrained models, for machines without internet.", "python utils/download_model.py xlmr"
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"short names of utils/model2chckpt.json (default: all): {', '.join(checkpoints)}; or a Hub id, LAB/NAME",
    )
    args = options.parse(parser, argv)
    for name in args.names:
        if name not in checkpoints and not (CHECKPOINT.fullmatch(name) and re.search(r"\w/", name)):
            parser.error(f"expected names of {', '.join(checkpoints)}, or a Hub id LAB/NAME; found {name!a}")
    args.checkpoints = [checkpoints.get(name, name) for name in args.names or checkpoints]
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    failed = 0
    for checkpoint in args.checkpoints:
        try:
            folder = folder_at_hand(checkpoint)
            if folder is None or folder.parent == PRETRAINED:
                folder = fetch(checkpoint)
            print(f"{checkpoint}: {runs.shown(folder)}")
        except RunError as error:
            log.error("%s", error)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    runs.run_script(main)
