"""Load an encoder as a register classifier, and predict registers."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from datasets import Dataset
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BatchEncoding,
    DataCollatorWithPadding,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from utils import runs
from utils.corpus_load import first_tokens
from utils.download_model import refuse_pickled
from utils.encoder import cpu
from utils.encoder.layers import part
from utils.encoder.memory import is_shortage
from utils.files.shapes import read_record
from utils.runs import RunError, first_line, shown

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
TRIED = 200  # tokens of the long one of the two trial texts: beyond a window of attention, which is 128 mostly
NO_LIMIT = 10**9  # tokens: what a tokenizer without a limit has is above

log = logging.getLogger(__name__)

transformers.logging.set_verbosity_error()  # its notes on new classifier heads would read as faults
transformers.logging.disable_progress_bar()


class Classifier(NamedTuple):
    """A model, the tokenizer that its texts go through, and the precision that it computes in."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    precision: str


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a checkpoint's tokenizer; RunError if the folder has none that loads.

    It keeps the beginning of a text that is too long, and tells the model which tokens are padding, whatever its files
    say. Where they name no token to pad with, that of the model's config is taken, or the one that ends a text.
    """
    refuse_code(folder)
    try:
        # a special token that is written in a text, as </s>, is text: it would end it, or pad it
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, split_special_tokens=True
        )
        tokenizer.truncation_side = "right"
        if "attention_mask" not in tokenizer.model_input_names:
            tokenizer.model_input_names = [*tokenizer.model_input_names, "attention_mask"]
        if tokenizer.pad_token_id is None:
            number: Any = getattr(_load_config(folder), "pad_token_id", None)
            known = isinstance(number, int) and 0 <= number < len(tokenizer)
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(number) if known else tokenizer.eos_token
            if tokenizer.pad_token_id is None:
                raise ValueError("none of its tokens is for padding, or ends a text")
        return tokenizer
    except Exception as error:  # a damaged file makes the libraries raise anything
        if is_shortage(error):
            raise
        raise _unusable(folder, "a tokenizer", error) from error


def _load_config(folder: Path) -> PreTrainedConfig:
    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_classifier(folder: Path, registers: Sequence[str]) -> PreTrainedModel:
    """Load an encoder in float32 with one output per register; a head it lacks is drawn from torch's seed.

    A head for these registers is kept; one for other labels is drawn anew, which the log tells. Reads safetensors only.
    RunError if the folder holds no encoder that transformers itself knows, or not all of its weights.
    """
    refuse_code(folder)
    if not list(folder.glob("model*.safetensors")):
        refuse_pickled(shown(folder), [path.name for path in folder.iterdir() if path.suffix != ".safetensors"])
    try:
        config = _load_config(folder)
        numbered: dict[Any, str] = config.id2label or {}
        labels = [numbered.get(number) for number in range(len(numbered))]
        if getattr(config, "pad_token_id", None) is None:  # without it, some find no end of a text beside others
            config.pad_token_id = load_tokenizer(folder).pad_token_id
        config = _of_registers(config, registers)
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,  # "auto" would train a checkpoint stored in half precision in half precision
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        head = {name for name in model.state_dict() if part(model, name) == "head"}
        if labels != list(registers) and not head & set(loaded["missing_keys"]):
            log.info("%s: its head is for %d other labels, and drawn anew; its encoder is kept", folder, len(labels))
            fresh = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).state_dict()
            model.load_state_dict({name: fresh[name] for name in head}, strict=False)
    except Exception as error:  # a damaged file makes the libraries raise anything
        if is_shortage(error) or isinstance(error, RunError):
            raise
        raise _unusable(folder, "an encoder checkpoint", error) from error
    # what is missing is drawn at random, which is right for the head, and for a pooler where there is none
    missing = sorted(
        {name for name in loaded["missing_keys"] if part(model, name) == "encoder"}
        | {name for name, *_ in loaded["mismatched_keys"] if part(model, name) != "head"}
    )
    if missing:
        raise RunError(
            f"{shown(folder)}: expected all weights of the model that config.json describes, found none that fit for "
            f"{len(missing)} of them, as {missing[0]}; fetch or copy it anew"
        )
    # out of the file, where they begin at any byte: products round differently by it, and a resumed training's would
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


def _of_registers(config: PreTrainedConfig, registers: Sequence[str]) -> PreTrainedConfig:
    """Let a config be that of a classifier that answers with one of the registers, and with nothing besides."""
    config.id2label = dict(enumerate(registers))
    config.label2id = {register: index for index, register in enumerate(registers)}
    config.problem_type = "single_label_classification"  # else what a published classifier was: several, or a number
    config.return_dict, config.output_hidden_states, config.output_attentions = True, False, False
    if getattr(config, "use_cache", False):
        config.use_cache = False  # for writing texts
    if getattr(config, "attention_type", None) == "block_sparse":
        config.attention_type = "original_full"  # else a text's answer depends on the length of those beside it
    return config


def check_copy(folder: Path, original: Path, registers: Sequence[str]) -> None:
    """RunError if a copy of a trained model does not load, or its tokenizer gives other tokens than the original's."""
    model = load_classifier(folder, registers)
    ours, theirs = (trial_texts(model, load_tokenizer(place))["input_ids"] for place in (folder, original))
    if not torch.equal(ours, theirs):
        raise RunError(
            f"{shown(folder)}: a file of its tokenizer is missing, of those in {shown(original)}; copy it by hand"
        )


def refuse_code(folder: Path) -> None:
    """RunError if a checkpoint comes with code, which is never run, or if Git LFS has left pointers for files."""
    pointers = sorted(path.name for path in folder.iterdir() if runs.is_lfs_pointer(path))
    if pointers:
        raise RunError(f"{shown(folder)}: {', '.join(pointers)}: pointers of Git LFS alone; type in it: git lfs pull")
    found = sorted(path.name for path in folder.glob("*.py"))
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and "auto_map" in read_record(folder / name, {}, "fetch or copy it anew"):
            found.append(f"auto_map in {name}")
    if found:
        raise RunError(
            f"{shown(folder)}: expected a model that transformers itself knows, found code of the checkpoint's own, "
            f"which is never run: {', '.join(found)}; choose another model"
        )


def _unusable(folder: Path, expected: str, error: Exception) -> RunError:
    reason = f"{type(error).__name__}: {first_line(error)}"
    return RunError(f"{shown(folder)}: expected {expected}, found {reason}; fetch or copy it anew")


def check_max_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    """RunError if texts of max_length tokens are longer than the model can take, by its config or its tokenizer."""
    limit = longest_text(model, tokenizer)
    if limit is not None and max_length > limit:
        raise RunError(f"--max-length {max_length}: expected at most {limit}, the longest text this model can take")


def longest_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return how many tokens of a text a model takes at most; None if neither its config nor its tokenizer says so."""
    names = ("max_position_embeddings", "n_positions", "max_seq_len")
    limits = [getattr(model.config, name, None) for name in names]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # RoBERTa's family counts positions from after the padding's
            limits.append(module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1))
    limits.append(tokenizer.model_max_length)
    return min((limit for limit in limits if isinstance(limit, int) and 0 < limit < NO_LIMIT), default=None)


def evaluation_batch_size(max_length: int) -> int:
    """Return how many texts of max_length tokens go through the model at once: on a CPU as many as its caches hold."""
    n_tokens = 32 * 512 if torch.cuda.is_available() else 4 * 512
    return max(n_tokens // max_length, 1)


def batches_of_similar_length(lengths: np.ndarray, n_tokens: int) -> list[np.ndarray]:
    """Cut the texts, longest first, into batches that all need about the same memory; return their indices.

    A batch is padded to n_tokens in all at most, or has a single text: of shorter texts it holds more.
    """
    longest_first = np.argsort(-lengths, kind="stable")
    batches = []
    while len(longest_first):
        n_texts = max(n_tokens // max(int(lengths[longest_first[0]]), 1), 1)
        batches.append(longest_first[:n_texts])
        longest_first = longest_first[n_texts:]
    return batches


def trial_texts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> BatchEncoding:
    """Return a short text and a long one, padded to one length, on the model's device: what a model is tried with.

    input_ids and attention_mask, shape (2, tokens).
    """
    texts = ["Short.", "A text that is much longer than the one beside it, which is padded to its length. " * TRIED]
    input_ids, _ = first_tokens(texts, tokenizer, min(longest_text(model, tokenizer) or TRIED, TRIED))
    pair: Any = DataCollatorWithPadding(tokenizer)([{"input_ids": ids} for ids in input_ids])
    return pair.to(next(model.parameters()).device)


def answer(model: PreTrainedModel, batch: Mapping[str, torch.Tensor], precision: str) -> torch.Tensor:
    """Return the model's logits for a batch, computed in this precision: float32, shape (texts, registers)."""
    device = next(model.parameters()).device
    with torch.autocast(device.type, dtype=AUTOCAST.get(precision), enabled=precision in AUTOCAST):
        return model(**batch).logits.float()


def attention_of_prediction(
    model: PreTrainedModel, pair: Mapping[str, torch.Tensor], precision: str
) -> AbstractContextManager:
    """Let predictions in a block use the attention of cpu.py where torch's own takes 1.4 times as long."""
    slow = precision == "bf16" and next(model.parameters()).device.type == "cpu"
    return cpu.used_in(model, pair) if slow else contextlib.nullcontext()


@torch.inference_mode()
def predict(loaded: Classifier, dataset: Dataset, n_tokens: int, name: str) -> np.ndarray:
    """Return the probability of each register for each text: float32, shape (n texts, n registers), dataset's order.

    n_tokens: how many go through the model together, padding included. name: what the progress bar calls the texts.
    RunError if a probability is no finite number.
    """
    model, tokenizer, precision = loaded
    device = next(model.parameters()).device
    model.eval()
    collate = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8 if device.type == "cuda" else None)
    texts = dataset.select_columns("input_ids")
    logits = []
    batches = batches_of_similar_length(np.asarray(dataset["length"]), n_tokens)
    bar = tqdm(total=len(dataset), desc=name, unit="text", delay=2, leave=False, disable=None)  # None: no terminal
    with bar, attention_of_prediction(model, trial_texts(model, tokenizer), precision):
        for indices in batches:
            collated = collate([texts[int(index)] for index in indices])
            batch = {name: values.to(device, non_blocking=True) for name, values in collated.items()}
            logits.append(answer(model, batch, precision))
            bar.update(len(indices))
    longest_first = torch.cat(logits).softmax(dim=1).cpu().numpy()
    wrong = int((~np.isfinite(longest_first)).any(axis=1).sum())
    if wrong:
        raise RunError(
            f"expected finite probabilities, found none for {wrong} of {len(dataset)} texts in {precision}; "
            "try --precision fp32, and train anew if that gives none either"
        )
    probabilities = np.empty_like(longest_first)
    probabilities[np.concatenate(batches)] = longest_first
    return probabilities
