"""Load an encoder as a register classifier, choose its device and precision, predict registers."""

import contextlib
import ctypes
import glob
import logging
import os
import resource
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from utils.download_model import refuse_pickled
from utils.encoder import cpu, tokens
from utils.encoder.memory import is_shortage
from utils.files.shapes import read_record
from utils.runs import RunError, first_line, shown, slurm_job

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/kfd")  # what the drivers of NVIDIA and of AMD make
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
NO_LIMIT = 10**9  # tokens: what a tokenizer without a limit has is above

log = logging.getLogger(__name__)

transformers.logging.set_verbosity_error()  # its notes on new classifier heads would read as faults
transformers.logging.disable_progress_bar()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a checkpoint's tokenizer; RunError if the folder has none that loads.

    It keeps the beginning of a text that is too long, and tells the model which tokens are padding, whatever its files
    say. Where they name no token to pad with, that of the model's config is taken, or the one that ends a text.
    """
    refuse_code(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
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
        body = f"{model.base_model_prefix}."
        head = {name for name in model.state_dict() if not name.startswith(body)}
        if labels != list(registers) and not head & set(loaded["missing_keys"]):
            log.info("%s: its head is for %d other labels, and drawn anew; its encoder is kept", folder, len(labels))
            fresh = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).state_dict()
            model.load_state_dict({name: fresh[name] for name in head}, strict=False)
    except Exception as error:  # a damaged file makes the libraries raise anything
        if is_shortage(error) or isinstance(error, RunError):
            raise
        raise _unusable(folder, "an encoder checkpoint", error) from error
    # what is missing is drawn at random, which is right for the head alone
    lacking = {name for name in loaded["missing_keys"] if ".pooler." not in name}
    lacking |= {name for name, *_ in loaded["mismatched_keys"]}
    missing = sorted(name for name in lacking if name.startswith(body))
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


def refuse_code(folder: Path) -> None:
    """RunError if a checkpoint comes with code, which is never run: without it, it would be another model."""
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


def check_device() -> None:
    """Tell of a GPU that is there, or was given to this process, and that torch can't use: it would be slow unseen.

    RunError in a Slurm job that was given a GPU, and whose machine has one: nobody sees it compute on the CPU for days.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen == "" or torch.cuda.is_available():
        return
    devices = [path for pattern in GPU_DEVICES for path in sorted(glob.glob(pattern))]
    given = os.environ.get("SLURM_JOB_GPUS") if slurm_job() else None
    if not devices and not given:
        return
    try:
        torch.cuda.init()
        reason = "none that is visible"
    except (AssertionError, RuntimeError) as error:
        reason = first_line(error)
    which = devices[0] if devices else f"the GPU {given} of this job"
    found = f"expected {which} to be one that torch can use, found: {reason}"
    if devices and given:
        raise RunError(
            f"{found}; install the wheel of torch that its driver needs (README.md, Slurm cluster), or compute on the "
            "CPU with --cpu"
        )
    log.warning("%s; computing on the CPU, which --cpu does without this line", found)


def check_resumed(precision: str) -> None:
    """RunError if this device has no instructions for the precision in which a training was begun."""
    if precision == "bf16" and "bf16" not in _native_precisions():
        raise RunError(
            f"{describe_device()}: expected a device with instructions for bf16, in which this training was begun, "
            "found none; SBATCH_CONSTRAINT chooses the kind of node, finetune.py --overwrite starts anew"
        )


def _native_precisions() -> set[str]:
    """Return the precisions that this device has instructions for."""
    if torch.cuda.is_available():
        major, _ = torch.cuda.get_device_capability()
        return {"fp32"} | ({"fp16"} if major >= 7 else set()) | ({"bf16"} if major >= 8 else set())
    instructions = torch.cpu.get_capabilities()
    return {"fp32"} | ({"bf16"} if instructions.get("avx512_bf16") or instructions.get("amx_bf16") else set())


def choose_precision(requested: str) -> str:
    """Return fp32, bf16 or fp16: what was asked for, or for "auto" the fastest that this device does natively.

    On a GPU by its compute capability: 8.0 and later bf16, 7.x fp16, else fp32. On a CPU bf16 if it has instructions
    for it, else fp32. RunError where the request, or the installed torch, does not fit the device.
    """
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        _check_kernels(major, minor)
        if requested == "bf16" and major < 8:
            raise RunError(
                f"--precision bf16: expected a GPU of capability 8.0 or later, found {major}.{minor}; use fp16"
            )
    elif requested == "fp16":
        raise RunError("--precision fp16: expected a GPU, found none; fp32 and bf16 run on the CPU")
    native = _native_precisions()
    return requested if requested != "auto" else next(name for name in ("bf16", "fp16", "fp32") if name in native)


def _check_kernels(major: int, minor: int) -> None:
    """RunError if this torch holds no kernels for a GPU of this capability: it would fail at the first product."""
    architectures = torch.cuda.get_arch_list()
    for architecture in architectures:
        kind, _, digits = architecture.partition("_")
        number = int("".join(filter(str.isdigit, digits)))
        same_family = number // 10 == major and number % 10 <= minor
        if same_family if kind == "sm" else number <= 10 * major + minor:
            return
    raise RunError(
        f"{torch.cuda.get_device_name()}: expected a torch with kernels for sm_{major}{minor}, found one for "
        f"{' '.join(architectures)}; install the wheel of an older CUDA: see README.md, Slurm cluster"
    )


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


def keep_freed_memory() -> None:
    """Let glibc keep the memory it has, instead of giving it back after each step, to be fetched and zeroed again."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def main_process_first() -> AbstractContextManager:
    """Let process 0 of several go first through a block, the others after it; one process just goes."""
    from accelerate import PartialState  # half a second that evaluation does without

    return PartialState(cpu=not torch.cuda.is_available()).main_process_first()


def peak_memory() -> int:
    """Return the most memory this process has held, in bytes: the GPU's if it has one, else the machine's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def describe_device() -> str:
    """Return what computes: the GPU's name, or the CPU with its number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    n_threads = torch.get_num_threads()
    return f"CPU, {n_threads} thread{'s' * (n_threads > 1)}"


def evaluation_batch_size(max_length: int) -> int:
    """Return how many texts of max_length tokens go through the model at once: on a CPU as many as its caches hold."""
    n_tokens = 32 * 512 if torch.cuda.is_available() else 4 * 512
    return max(n_tokens // max_length, 1)


def batches_of_similar_length(lengths: np.ndarray, batch_size: int, max_length: int) -> list[np.ndarray]:
    """Cut the texts, longest first, into batches that all need about the same memory; return their indices.

    A batch holds batch_size texts of max_length tokens, or more texts that are shorter: as many as are padded
    to no more tokens in all.
    """
    longest_first = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    while start < len(longest_first):
        longest = max(int(lengths[longest_first[start]]), 1)
        n_texts = max(batch_size, batch_size * max_length // longest)
        batches.append(longest_first[start : start + n_texts])
        start += n_texts
    return batches


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
def predict(
    model: PreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    max_length: int,
    precision: str,
    name: str,
) -> np.ndarray:
    """Return the probability of each register for each text: float32, shape (n texts, n registers), dataset's order.

    RunError if one of them is no finite number.
    batch_size: texts of max_length tokens that go through the model together; of shorter ones there are more.
    name: what the progress bar calls the texts.
    """
    device = next(model.parameters()).device
    model.eval()
    collate = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8 if device.type == "cuda" else None)
    texts = dataset.select_columns("input_ids")
    logits = []
    batches = batches_of_similar_length(np.asarray(dataset["length"]), batch_size, max_length)
    bar = tqdm(total=len(dataset), desc=name, unit="text", delay=2, leave=False, disable=None)  # None: no terminal
    with attention_of_prediction(model, tokens.two_texts(tokenizer, max_length).to(device), precision):
        for indices in batches:
            collated = collate([texts[int(index)] for index in indices])
            batch = {name: values.to(device, non_blocking=True) for name, values in collated.items()}
            logits.append(answer(model, batch, precision))
            bar.update(len(indices))
    bar.close()
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
