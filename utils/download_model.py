"""Download the pretrained models of utils/model2chckpt.json, for machines and nodes without internet.

    python utils/download_model.py              all of them
    python utils/download_model.py xlmr tiny    some of them, by short name or Hub id

model2chckpt.json gives each short name a repository of the Hugging Face Hub, or a corpus folder that begins with "./",
for which a small BERT with random weights is made. Checkpoints that need pickled weights or code of their own are
refused.

Writes  models/pretrained/CHECKPOINT/   config, safetensors weights, tokenizer; complete.json with their hashes, last
Exit    0 all downloaded, 1 one could not be (the others were), 2 wrong use
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":  # before any package is imported
    from utils import environment

    environment.prepare()

import argparse
import logging
import os
import re
import shutil
import subprocess
from typing import Any

from filelock import FileLock

from utils import corpus_load, ngrams, options, runs
from utils.runs import PRETRAINED, ROOT, RunError

MODEL2CHCKPT = ROOT / "utils" / "model2chckpt.json"
WANTED_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*.json", "*.model", "*.codes",
                "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt"]  # fmt: skip

# a repository of the Hub, or a folder of this project; nothing that leads out of models/pretrained/
CHECKPOINT = re.compile(r"(\./)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95})?")

log = logging.getLogger(__name__)


def known_checkpoints() -> dict[str, str]:
    """Return short name -> checkpoint, from utils/model2chckpt.json."""
    remedy = "git checkout utils/model2chckpt.json restores it"
    checkpoints = runs.read_record(MODEL2CHCKPT, {str: str}, remedy)
    if wrong := [name for name in checkpoints if not options.MODEL_NAME.fullmatch(name)]:
        raise RunError(
            f"{runs.shown(MODEL2CHCKPT)}: {wrong[0]!a} is not allowed as the short name of a model; {remedy}"
        )
    return checkpoints


def known_models() -> list[str]:
    """Return the names of models that need no --checkpoint: those of known_checkpoints, and the n-gram baseline."""
    return [*known_checkpoints(), ngrams.NAME]


def find_checkpoint(checkpoint: str) -> Path:
    """Return the folder of a checkpoint: the path itself, or one in models/pretrained/, downloaded if needed."""
    folder = folder_at_hand(checkpoint)
    if folder is None:
        return fetch(checkpoint)
    # a folder elsewhere may have been changed on purpose
    if folder.parent == PRETRAINED and (fault := damage(folder)):
        raise RunError(f"{fault}; to download it again, type: {fetch_command(checkpoint)}")
    return folder


def folder_at_hand(checkpoint: str) -> Path | None:
    """Return the folder of a checkpoint if it is on this machine; None if it must be downloaded."""
    folder = os.path.abspath(os.path.expanduser(checkpoint))
    if os.path.isfile(f"{folder}/config.json"):
        return Path(folder)
    fetched = pretrained_folder(checkpoint)
    return fetched if (fetched / "complete.json").is_file() else None


def pretrained_folder(checkpoint: str) -> Path:
    """Return the folder in models/pretrained/ for a checkpoint; RunError if the name is not allowed."""
    if not CHECKPOINT.fullmatch(checkpoint):
        hub = "a model of the Hugging Face Hub, such as FacebookAI/xlm-roberta-base"
        raise RunError(f"{checkpoint[:80]!a}: is neither a folder with config.json nor {hub}; check the name")
    return PRETRAINED / checkpoint.removeprefix("./").replace("/", "--")


def fetch_command(checkpoint: str) -> str:
    short = {known: name for name, known in known_checkpoints().items()}
    return f"python utils/download_model.py {short.get(checkpoint, checkpoint)}"


def complete(folder: Path) -> dict[str, Any]:
    """Return complete.json of a folder in models/pretrained/: its commit on the Hub, and the hashes of its files."""
    shape = {"revision": str, "files": {"config.json": str}}
    return runs.read_record(folder / "complete.json", shape, "the folder is damaged")


def damage(folder: Path) -> str:
    """Return which file of a folder in models/pretrained/ has changed since the download, by its hash; "" if none."""
    try:
        hashes = complete(folder)["files"]
    except RunError as error:
        if isinstance(error.__cause__, OSError):  # a file server may be down: the files may well be right
            raise
        return str(error)
    changed = [path for name in hashes if not (path := folder / name).is_file() or runs.sha256_of(path) != hashes[name]]
    return f"{runs.shown(changed[0])}: has changed since it was downloaded" if changed else ""


def start_weights(checkpoint: str) -> str | None:
    """Return the hashes of a checkpoint's weights, one per file; None if it is not on this machine."""
    try:
        folder = folder_at_hand(checkpoint)
        return start_of(folder)["start_weights"] if folder else None
    except RunError:
        # reported when it is loaded, which a finished run does not need
        return None


def start_of(folder: Path) -> dict[str, Any]:
    """Return what run.json records of the model that training starts from: weights, commit on the Hub, languages."""
    langs = runs.read_record(folder / "config.json", {}, "download or copy it again").get("train_langs", [])
    # find_checkpoint has compared the hashes of downloaded files
    fetched: dict[str, Any] = complete(folder) if folder.parent == PRETRAINED else {"revision": "", "files": {}}
    hashes = [fetched["files"].get(path.name) or runs.sha256_of(path) for path in sorted(folder.glob("*.safetensors"))]
    return {
        "start_weights": " ".join(hashes) or None,
        "start_revision": fetched["revision"],
        "start_langs": langs if not runs.misfit(langs, [options.LANGUAGE]) else [],
    }


def fetch(checkpoint: str) -> Path:
    """Download a checkpoint to models/pretrained/, unless it is there undamaged; return the folder.

    Several processes that need it at the same time wait for the first.
    """
    from huggingface_hub import HfApi, constants

    folder, revision = pretrained_folder(checkpoint), ""
    PRETRAINED.mkdir(parents=True, exist_ok=True)
    with FileLock(PRETRAINED / ".lock"):
        if (folder / "complete.json").is_file():
            fault = damage(folder)
            if not fault:
                return folder
            log.warning("%s; downloading it again", fault)
            shutil.rmtree(folder)
        try:
            if checkpoint.startswith("./"):
                make_tiny(corpus_load.find_corpus(str(ROOT / checkpoint)), folder)
            else:
                log.info("%s: downloading", checkpoint)
                # otherwise the client logs a line per request
                logging.getLogger("httpx2").setLevel(logging.WARNING)
                hub = HfApi()
                info = hub.model_info(checkpoint, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
                revision = info.sha or ""
                refuse_pickled(checkpoint, [file.rfilename for file in info.siblings or ()])
                # resumes an interrupted download; compares only sizes
                hub.snapshot_download(checkpoint, revision=revision, local_dir=folder, allow_patterns=WANTED_FILES)
                if wrong := hub.verify_repo_checksums(checkpoint, revision=revision, local_dir=folder).mismatches:
                    # the client has recorded that the file is right, and would never download it again
                    shutil.rmtree(folder)
                    raise OSError(f"{wrong[0]['path']} has another hash than on the Hub")
                # a sentencepiece vocabulary would otherwise be converted at each loading
                if not (folder / "tokenizer.json").is_file() and list(folder.glob("*.model")):
                    from transformers import AutoTokenizer

                    AutoTokenizer.from_pretrained(folder, trust_remote_code=False).save_pretrained(folder)
            _prove(folder)
        except RunError:
            raise
        except Exception as error:
            # answers that are not the Hub's make the client raise anything, and a full disk makes tokenizers do so
            found = f"can't be downloaded from {constants.ENDPOINT}: {type(error).__name__}: {runs.first_line(error)}"
            advice = f"check name and connection; where there is internet, type: {fetch_command(checkpoint)}"
            raise runs.disk_fault(folder, error) or RunError(f"{checkpoint}: {found}; {advice}") from error
        # notes of the client
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        runs.follow_umask(folder)
        files = {path.name: runs.sha256_of(path) for path in sorted(folder.glob("[!.]*")) if path.is_file()}
        runs.write_json(folder / "complete.json", {"checkpoint": checkpoint, "revision": revision, "files": files})
    return folder


def refuse_pickled(checkpoint: str, files: list[str]) -> None:
    """RunError if there are no safetensors weights among the files of a checkpoint; names pickled ones."""
    if not any(name.endswith(".safetensors") for name in files):
        pickled = [name for name in sorted(files) if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5"))]
        found = f", only {', '.join(pickled)}, and pickled weights are never loaded" if pickled else ""
        raise RunError(f"{checkpoint}: has no model.safetensors{found}; choose another model")


def _prove(folder: Path) -> None:
    """Try out a model in a new process, offline and without sentencepiece; remove it if that fails (RunError)."""
    code = (
        "import sys; sys.modules['sentencepiece'] = None; from pathlib import Path; from utils import model\n"
        "model.load(Path(sys.argv[1]), ['A', 'B'], None, 'auto', learns=True)"
    )
    # on one thread, since login nodes are shared
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    tried = subprocess.run([sys.executable, "-c", code, folder], env=variables, capture_output=True, text=True)
    if tried.returncode:
        shutil.rmtree(folder)
        reason = (tried.stderr.strip().splitlines() or [f"exit {tried.returncode}"])[-1]
        raise RunError(f"{runs.shown(folder)}: can't be loaded: {reason.removeprefix('utils.runs.RunError: ')}")


def make_tiny(corpus: Path, folder: Path) -> None:
    """Make a small BERT with random weights, to try the tool; its tokenizer is trained on the corpus."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    registers = corpus_load.load_registers(corpus)
    langs = [lang for lang in corpus_load.list_languages(corpus, "train") if lang != corpus_load.DISTR]
    texts = [text for lang in langs for text in corpus_load.read_texts(corpus, "train", lang, registers)["text"]]
    # not WordPiece, whose trainer numbers the tokens differently each time
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    # line ends become a token, since they are typical of verse and dialogue
    line_ends = normalizers.Replace("\n", " ⏎ ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), line_ends])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=4000, special_tokens=list(special.values())))
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    shutil.rmtree(folder, ignore_errors=True)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **special).save_pretrained(folder)

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), pad_token_id=0, intermediate_size=256, **sizes)
    # with random weights, nothing is frozen in training
    config.random_weights = True
    BertModel(config).save_pretrained(folder)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    checkpoints = known_checkpoints()
    known = ", ".join(checkpoints)
    example = "python utils/download_model.py xlmr"
    parser = options.new_parser("Download pretrained models, for machines without internet.", example)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{known} (default: all), or a Hub id, LAB/NAME")
    args = options.parse(parser, argv)
    for name in args.names:
        if name not in (*checkpoints, ngrams.NAME) and not (CHECKPOINT.fullmatch(name) and "/" in name):
            parser.error(f"{name!a}: is neither one of {known}, nor a Hub id LAB/NAME")
    if ngrams.NAME in args.names:
        log.info("%s: nothing to download, it needs no pretrained model", ngrams.NAME)
    args.checkpoints = [checkpoints.get(name, name) for name in args.names or checkpoints if name != ngrams.NAME]
    return args


def main(argv: list[str] | None = None) -> int:
    code = 0
    for checkpoint in parse_args(argv).checkpoints:
        try:
            folder = folder_at_hand(checkpoint)
            if folder is None or folder.parent == PRETRAINED:
                folder = fetch(checkpoint)
            print(f"{checkpoint}: {runs.shown(folder)}")
        except RunError as error:
            log.error("%s", error)
            code = 1
    return code


if __name__ == "__main__":
    runs.run_script(main)
