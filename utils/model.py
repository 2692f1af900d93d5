"""Load an encoder as a register classifier, try it out, freeze a part of it, and predict registers with it.

Why a part is frozen: the lower half of a multilingual encoder aligns the languages, the upper half predicts from the
aligned representation (Muller et al. 2021, "First Align, then Predict"). Training the lower layers on a few languages
moves these away from the others (Wu & Dredze 2019). The head of the classifier starts from random weights, and has
further to go than pretrained ones.
"""

import contextlib
import ctypes
import glob
import itertools
import logging
import os
import random
import re
import resource
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

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
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from utils.corpus_load import first_tokens
from utils.download_model import refuse_pickled
from utils.runs import RunError, first_line, is_lfs_pointer, read_record, shown, slurm_job

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
APART = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05}  # how far padding may move a logit, as a share of the largest
TRIED = 200  # tokens of the longer trial text: more than a window of attention, which is mostly 128
NO_LIMIT = 10**9  # tokens: a tokenizer without a limit has a larger number
# the names that architectures give to dropout in attention and of layers. torch's fused attention has no dropout on a
# CPU and would fall back to slow steps; a layer that is left out in the trial would be taken for one that is never used
LEFT_OUT = (
    "attention_probs_dropout_prob", "attention_dropout", "attn_pdrop", "layerdrop", "encoder_layerdrop",
    "decoder_layerdrop",
)  # fmt: skip
AFTER_LAYERS = re.compile(r"pooler|final|project_out")  # of modules that are registered before the layers
# how torch, its libraries, C++ and the system report that memory has run out; on a CPU it is a plain RuntimeError
SHORTAGE = (
    "out of memory", "not enough memory", "allocate memory", "bad_alloc", "bad allocation", "ALLOC_FAILED",
    "could not create a memory object", "can't start new thread",
)  # fmt: skip
FETCH_AGAIN = "download or copy it again"

log = logging.getLogger(__name__)

transformers.logging.set_verbosity_error()  # its remarks on new classifier heads look like errors
transformers.logging.disable_progress_bar()


class Classifier(NamedTuple):
    """A model, its tokenizer, and the precision that it computes in."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    precision: str


# ---- device ----


def use_device(threads: int | None) -> None:
    """Set up the CPU's threads and memory, and warn of a GPU that torch can't use.

    threads: None for one per core that this process may use. RunError if a Slurm job was given a GPU that torch can't
    use: otherwise it would compute on the CPU for days, and nobody would notice.
    """
    torch.set_num_threads(threads or cores())
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc then keeps memory instead of giving it back and zeroing it at each step
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or torch.cuda.is_available():
        return
    devices = sorted(glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/kfd"))  # made by the drivers of NVIDIA and AMD
    given = os.environ.get("SLURM_JOB_GPUS") if slurm_job() else None
    if not devices and not given:
        return
    try:
        torch.cuda.init()
        reason = "none is visible"
    except (AssertionError, RuntimeError) as error:
        reason = first_line(error)
    fact = f"{devices[0] if devices else f'the GPU {given} of this job'}: torch can't use it ({reason})"
    if devices and given:
        raise RunError(
            f"{fact}; install the version of torch that its driver needs (README.md, Slurm cluster), or use the CPU "
            "with --cpu"
        )
    log.warning("%s; using the CPU (--cpu does so without this warning)", fact)


def cores() -> int:
    """Return how many cores this process may use: those of the machine or job, divided among torchrun's processes."""
    allowed = len(os.sched_getaffinity(0))
    if slurm_job():  # not every site confines a job to its cores
        allowed = min(allowed, int(os.environ.get("SLURM_CPUS_PER_TASK", allowed)))
    return max(allowed // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)


def native_precisions() -> set[str]:
    """Return the precisions that this device has instructions for."""
    if torch.cuda.is_available():
        major, _ = torch.cuda.get_device_capability()
        return {"fp32"} | ({"fp16"} if major >= 7 else set()) | ({"bf16"} if major >= 8 else set())
    instructions = torch.cpu.get_capabilities()
    return {"fp32"} | ({"bf16"} if instructions.get("avx512_bf16") or instructions.get("amx_bf16") else set())


def choose_precision(requested: str) -> str:
    """Return fp32, bf16 or fp16: the one requested, or for "auto" the fastest that the device supports natively.

    RunError if the device does not support the one requested.
    """
    native = native_precisions()
    if torch.cuda.is_available():
        if requested == "bf16" and "bf16" not in native:
            raise RunError("--precision bf16: this GPU does not support it (capability below 8.0); use fp16 or fp32")
    elif requested == "fp16":
        raise RunError("--precision fp16: needs a GPU, and there is none; on the CPU, use fp32 or bf16")
    return requested if requested != "auto" else next(name for name in ("bf16", "fp16", "fp32") if name in native)


def describe_device() -> str:
    """Return the name of the GPU, or "CPU" with the number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    n_threads = torch.get_num_threads()
    return f"CPU, {n_threads} thread{'s' * (n_threads > 1)}"


def peak_memory() -> int:
    """Return the most memory that this process has used, in bytes: of the GPU if there is one, else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def is_shortage(error: BaseException) -> bool:
    """Tell whether an error says that the GPU or the machine is out of memory."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in SHORTAGE)


@contextlib.contextmanager
def shortage_explained(remedy: str) -> Iterator[None]:
    """Turn a lack of memory within the block into a RunError with the remedy."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RunError) or not is_shortage(error):
            raise
        raise RunError(f"out of memory; {remedy}, or use a GPU or job (--mem in run_*.sh) with more memory") from error


# ---- loading ----


def load(
    folder: Path, registers: Sequence[str], max_length: int | None, requested: str, *, learns: bool = False
) -> Classifier:
    """Load a checkpoint as a classifier onto the device, and try it out.

    max_length: tokens read of a text; None: as many as the model takes. requested: --precision; with auto, fp32 is used
    if the model does not work in the fastest precision. learns: whether it will be trained; weights without a gradient
    are then frozen, since several processes would wait for it. RunError if the checkpoint can't be used.
    """
    tokenizer, model = load_tokenizer(folder), load_classifier(folder, registers)
    limit = longest_text(model, tokenizer)
    if max_length and limit and max_length > limit:
        raise RunError(f"--max-length {max_length}: this model takes at most {limit} tokens of a text")
    precision = choose_precision(requested)
    if torch.cuda.is_available():
        torch.nn.Module.cuda(model, int(os.environ.get("LOCAL_RANK", 0)))
    fault = trial(model, tokenizer, precision, learns=learns)
    if not fault:
        return Classifier(model, tokenizer, precision)
    remedy = "choose another model"
    if "no kernel image" in fault:  # of this torch, for a GPU of this age
        remedy = "install the version of torch that this GPU needs (README.md, Slurm cluster)"
    if precision != "fp32" and not trial(model, tokenizer, "fp32", learns=learns):
        if requested == "auto":
            log.warning("%s does not work in %s (%s); using fp32", shown(folder), precision, fault)
            return Classifier(model, tokenizer, "fp32")
        remedy = "use --precision fp32"
    raise RunError(f"{shown(folder)}: does not work in {precision}: {fault}; {remedy}")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint; RunError if there is none, or it can't be loaded.

    Whatever its files say, it keeps the beginning of texts that are too long, and marks padding in an attention mask.
    If they name no padding token, the one in the model's config is used, or else the token that ends a text.
    """
    refuse_code(folder)
    with unusable_explained(folder, "tokenizer"):
        # a special token that occurs in a text, as </s>, is text: it must neither end nor pad it
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, split_special_tokens=True
        )
        tokenizer.truncation_side = "right"
        if "attention_mask" not in tokenizer.model_input_names:
            tokenizer.model_input_names = [*tokenizer.model_input_names, "attention_mask"]
        if tokenizer.pad_token_id is None:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            number: Any = getattr(config, "pad_token_id", None)
            known = isinstance(number, int) and 0 <= number < len(tokenizer)
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(number) if known else tokenizer.eos_token
            if tokenizer.pad_token_id is None:
                raise ValueError("it has no token that pads or ends a text")
    return tokenizer


def load_classifier(folder: Path, registers: Sequence[str]) -> PreTrainedModel:
    """Load an encoder in float32, with a head that has one output per register.

    A head for these very registers is kept. Otherwise a new one is drawn from torch's seed, and the log says so if that
    replaces a head for other labels. Reads safetensors only. RunError if the folder does not contain an encoder that
    transformers itself knows, with all of its weights.
    """
    refuse_code(folder)
    if not list(folder.glob("model*.safetensors")):
        refuse_pickled(shown(folder), [path.name for path in folder.iterdir() if path.suffix != ".safetensors"])
    with unusable_explained(folder, "encoder"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        numbered: dict[Any, str] = config.id2label or {}
        labels = [numbered.get(number) for number in range(len(numbered))]
        if getattr(config, "pad_token_id", None) is None:  # without it, some models miss the end of a padded text
            config.pad_token_id = load_tokenizer(folder).pad_token_id
        # exactly one register per text, and logits as the only output
        config.id2label = dict(enumerate(registers))
        config.label2id = {register: index for index, register in enumerate(registers)}
        config.problem_type = "single_label_classification"
        config.return_dict, config.output_hidden_states, config.output_attentions = True, False, False
        if getattr(config, "use_cache", False):
            config.use_cache = False  # only for generation
        if getattr(config, "attention_type", None) == "block_sparse":
            config.attention_type = "original_full"  # otherwise predictions depend on the length of other texts
        for name in LEFT_OUT:
            if getattr(config, name, 0):
                setattr(config, name, 0.0)
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,  # "auto" would keep half precision if the checkpoint is stored in it
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        head = {name for name in model.state_dict() if part(model, name) == "head"}
        if labels != list(registers) and not head & set(loaded["missing_keys"]):
            log.info("%s: its head, for %d other labels, is replaced; its encoder is kept", folder, len(labels))
            fresh = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).state_dict()
            model.load_state_dict({name: fresh[name] for name in head}, strict=False)
    # missing weights are drawn at random, which is right only for the head and for a pooler
    missing = sorted(
        {name for name in loaded["missing_keys"] if part(model, name) == "encoder"}
        | {name for name, *_ in loaded["mismatched_keys"] if part(model, name) != "head"}
    )
    if missing:
        raise RunError(
            f"{shown(folder)}: {len(missing)} weights that config.json describes are missing or have another shape, "
            f"{missing[0]} for example; {FETCH_AGAIN}"
        )
    # copied out of the file, where they start at any byte: the alignment changes how products are rounded, and so would
    # change the weights of a resumed training
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


@contextlib.contextmanager
def unusable_explained(folder: Path, what: str) -> Iterator[None]:
    """Turn any error of the libraries within the block, as from a damaged file, into a RunError."""
    try:
        yield
    except Exception as error:
        if is_shortage(error) or isinstance(error, RunError):
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise RunError(f"{shown(folder)}: its {what} can't be loaded ({reason}); {FETCH_AGAIN}") from error


def refuse_code(folder: Path) -> None:
    """RunError if a checkpoint comes with code, which is never run, or if its files are only pointers of Git LFS."""
    pointers = sorted(path.name for path in folder.iterdir() if is_lfs_pointer(path))
    if pointers:
        raise RunError(f"{shown(folder)}: only Git LFS pointers: {', '.join(pointers)}; in it, type: git lfs pull")
    code = sorted(path.name for path in folder.glob("*.py"))
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and "auto_map" in read_record(folder / name, {}, FETCH_AGAIN):
            code.append(f"auto_map in {name}")
    if code:
        raise RunError(
            f"{shown(folder)}: the checkpoint comes with code of its own, which is never run: {', '.join(code)}; "
            "choose a model that transformers itself knows"
        )


def check_copy(folder: Path, original: Path, registers: Sequence[str]) -> None:
    """RunError if a copy of a trained model can't be loaded, or its tokenizer gives other tokens than the original."""
    model = load_classifier(folder, registers)
    ours, theirs = (trial_texts(model, load_tokenizer(place))["input_ids"] for place in (folder, original))
    if not torch.equal(ours, theirs):
        raise RunError(f"{shown(folder)}: a file of its tokenizer is missing; copy it by hand from {shown(original)}")


def longest_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the most tokens of a text that a model takes; None if neither its config nor its tokenizer says."""
    names = ("max_position_embeddings", "n_positions", "max_seq_len")
    limits = [getattr(model.config, name, None) for name in names]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # the RoBERTa family counts positions from the one after padding
            limits.append(module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1))
    limits.append(tokenizer.model_max_length)
    return min((limit for limit in limits if isinstance(limit, int) and 0 < limit < NO_LIMIT), default=None)


# ---- trial ----


def trial(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, precision: str, *, learns: bool) -> str:
    """Return what is wrong with a training step and a prediction, in words; "" if nothing.

    Two texts of very different length go through the model. All numbers must be finite, and the logits of a text the
    same whether it is alone or padded beside a longer one. Weights and random states are left as they were.
    """
    with contextlib.suppress(NotImplementedError):  # CANINE has none: it hashes its tokens
        embeddings = model.get_input_embeddings()
        if isinstance(embeddings, torch.nn.Embedding) and embeddings.num_embeddings < len(tokenizer):
            return f"it has {embeddings.num_embeddings} embeddings, and its tokenizer {len(tokenizer)} tokens"
    numpys, pythons = np.random.get_state(), random.getstate()
    try:
        pair = trial_texts(model, tokenizer)
        with torch.random.fork_rng():
            fault = _trial_of_training(model.train(), pair, precision) if learns else ""
            for kind in dict.fromkeys(["fp32", precision]):  # effects of padding show best in fp32
                fault = fault or _trial_of_prediction(model.eval(), pair, kind)
        return fault
    except Exception as error:  # an unsuitable model may raise anything
        if is_shortage(error):
            raise
        return f"{type(error).__name__}: {first_line(error)}"
    finally:
        np.random.set_state(numpys)
        random.setstate(pythons)
        model.zero_grad(set_to_none=True)


def _trial_of_training(model: PreTrainedModel, pair: Mapping[str, torch.Tensor], precision: str) -> str:
    logits = answer(model, pair, precision)
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
    if not loss.isfinite():
        return "in a trial, its training loss is not a finite number"
    loss.backward()
    wrong = []
    for name, weight in model.named_parameters():
        if weight.grad is None:
            weight.requires_grad_(False)
        elif not weight.grad.isfinite().all():
            wrong.append(name)
    return f"in a trial, {len(wrong)} gradients are not finite, {wrong[0]} for example" if wrong else ""


@torch.inference_mode()
def _trial_of_prediction(model: PreTrainedModel, pair: Mapping[str, torch.Tensor], precision: str) -> str:
    beside = answer(model, pair, precision)
    if not beside.isfinite().all():
        return "in a trial, its predictions are not finite numbers"
    kept = pair["attention_mask"][0].bool()
    alone = answer(model, {name: values[:1, kept] for name, values in pair.items()}, precision)
    if float((beside[0] - alone[0]).abs().max() / beside.abs().max()) > APART[precision]:
        return f"its prediction for a text of {int(kept.sum())} tokens changes beside a longer text"
    return ""


def trial_texts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> BatchEncoding:
    """Return a short text and a long one, padded to one length, on the model's device.

    input_ids and attention_mask, shape (2, tokens).
    """
    texts = ["Short.", "A text that is much longer than the one beside it, which is padded to its length. " * TRIED]
    input_ids, _ = first_tokens(texts, tokenizer, min(longest_text(model, tokenizer) or TRIED, TRIED))
    pair: Any = DataCollatorWithPadding(tokenizer)([{"input_ids": ids} for ids in input_ids])
    return pair.to(next(model.parameters()).device)


# ---- which weights are trained ----


def freeze(model: PreTrainedModel, share: float) -> str:
    """Freeze the embeddings and a share of the encoder's layers, from the lowest up; return in words what is frozen.

    share: 0 freezes nothing. A model with random weights is trained as a whole, whatever the share. Head and pooler
    start from random weights and are always trained.
    """
    if not share or getattr(model.config, "random_weights", False):
        return "nothing is frozen"
    # the module lists with an entry per layer: one, or one per part of a layer (XLM), or for encoder and decoder (T5)
    lists: dict[str, torch.nn.ModuleList] = {}
    inside: set[int] = set()
    for name, module in model.base_model.named_modules():
        per_layer = isinstance(module, torch.nn.ModuleList) and len(module) == model.config.num_hidden_layers
        if per_layer and id(module) not in inside:
            lists[name] = cast(torch.nn.ModuleList, module)
            inside |= {id(submodule) for submodule in module.modules()}
    if not lists:
        model.get_input_embeddings().requires_grad_(False)
        return "the embeddings are frozen; the layers share their weights and are trained"
    n_frozen = int(share * model.config.num_hidden_layers)
    in_layers = {id(parameter) for layers in lists.values() for parameter in layers.parameters()}
    for name, parameter in itertools.takewhile(
        lambda named: id(named[1]) not in in_layers, model.base_model.named_parameters()
    ):
        if not AFTER_LAYERS.search(name):
            parameter.requires_grad_(False)
    for layers in lists.values():
        layers[:n_frozen].requires_grad_(False)
    stacks = list(dict.fromkeys(name.rpartition(".")[0] for name in lists))
    each = f" each of {' and '.join(stacks)}" if len(stacks) > 1 else ""
    return f"the embeddings and {n_frozen} of {model.config.num_hidden_layers} layers{each} are frozen"


def part(model: PreTrainedModel, name: str) -> str:
    """Return whether a weight belongs to the "encoder", to the "pooler" in it, or to the "head", by its name.

    Many published encoders have no pooler, or one that was never trained: it is treated like the head.
    """
    if not name.startswith(f"{model.base_model_prefix}."):
        return "head"
    return "pooler" if ".pooler." in name else "encoder"


def parameter_groups(model: PreTrainedModel, rate: float, head_rate: float) -> list[dict[str, Any]]:
    """Return two parameter groups for AdamW: the encoder's trained weights at rate, head and pooler at head_rate."""
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[part(model, name) == "encoder"].append(parameter)
    return [{"params": groups[True], "lr": rate}, {"params": groups[False], "lr": head_rate}]


# ---- prediction ----


def tokens_at_once() -> int:
    """Return how many tokens, padding included, go through the model together: on a CPU, what fits into its caches."""
    return 32 * 512 if torch.cuda.is_available() else 4 * 512


def batches_of_similar_length(lengths: np.ndarray, n_tokens: int) -> list[np.ndarray]:
    """Divide the texts, longest first, into batches that need about the same memory; return their indices.

    With its padding, a batch has at most n_tokens tokens, or is a single text; short texts make larger batches.
    """
    longest_first = np.argsort(-lengths, kind="stable")
    batches = []
    while len(longest_first):
        n_texts = max(n_tokens // max(int(lengths[longest_first[0]]), 1), 1)
        batches.append(longest_first[:n_texts])
        longest_first = longest_first[n_texts:]
    return batches


def answer(model: PreTrainedModel, batch: Mapping[str, torch.Tensor], precision: str) -> torch.Tensor:
    """Return the logits for a batch, computed in this precision, as float32 of shape (texts, registers)."""
    device = next(model.parameters()).device
    with torch.autocast(device.type, dtype=AUTOCAST.get(precision), enabled=precision in AUTOCAST):
        return model(**batch).logits.float()


@torch.inference_mode()
def predict(loaded: Classifier, dataset: Dataset, n_tokens: int, name: str) -> np.ndarray:
    """Return the probability of each register for each text, in the dataset's order: float32 (texts, registers).

    n_tokens: how many go through the model together, padding included. name: shown beside the progress bar. RunError
    if a probability is not a finite number.
    """
    model, tokenizer, precision = loaded
    device = next(model.parameters()).device
    model.eval()
    collate = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8 if device.type == "cuda" else None)
    texts = dataset.select_columns("input_ids")
    logits = []
    batches = batches_of_similar_length(np.asarray(dataset["length"]), n_tokens)
    with tqdm(total=len(dataset), desc=name, unit="text", delay=2, leave=False, disable=None) as bar:  # in a terminal
        for indices in batches:
            collated = collate([texts[int(index)] for index in indices])
            batch = {name: values.to(device, non_blocking=True) for name, values in collated.items()}
            logits.append(answer(model, batch, precision))
            bar.update(len(indices))
    longest_first = torch.cat(logits).softmax(dim=1).cpu().numpy()
    n_wrong = int((~np.isfinite(longest_first)).any(axis=1).sum())
    if n_wrong:
        raise RunError(
            f"for {n_wrong} of {len(dataset)} texts, the probabilities in {precision} are not finite numbers; try "
            "--precision fp32, and train again if that does not help"
        )
    probabilities = np.empty_like(longest_first)
    probabilities[np.concatenate(batches)] = longest_first
    return probabilities
