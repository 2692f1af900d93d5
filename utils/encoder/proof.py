"""The one proof of a model, before a corpus is read or a job submitted: it learns and answers on this device.

Two texts of very unlike length go through it, in a training step and in a prediction, both as a training and an
evaluation do them. All numbers must be finite, and what it answers for a text the same whether the text is alone or
padded beside a longer one. Weights and random states are left as they were.
"""

import contextlib
import logging
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from utils.encoder import classifier, cpu, device
from utils.encoder.memory import is_shortage
from utils.runs import RunError, first_line, shown

APART = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05}  # share of the largest logit by which a padded text's may differ

log = logging.getLogger(__name__)


def load_proven(
    folder: Path, registers: Sequence[str], max_length: int | None, requested: str, *, learns: bool = True
) -> classifier.Classifier:
    """Load a checkpoint as a classifier and prove it, in the precision that it has then.

    max_length: tokens of a text that are used; None: as many as it takes. requested: --precision; where it is auto, and
    the device's precision is not the model's, that is fp32. learns: whether it will be trained. RunError if it fails.
    """
    tokenizer = classifier.load_tokenizer(folder)
    model = classifier.load_classifier(folder, registers)
    if max_length is not None:
        classifier.check_max_length(model, tokenizer, max_length)
    precision = device.choose_precision(requested)
    if torch.cuda.is_available():
        torch.nn.Module.cuda(model, int(os.environ.get("LOCAL_RANK", 0)))
    found = fault(model, tokenizer, precision, learns=learns)
    if not found:
        return classifier.Classifier(model, tokenizer, precision)
    remedy = "choose another model"
    if precision != "fp32" and not fault(model, tokenizer, "fp32", learns=learns):
        if requested == "auto":
            log.warning("%s: expected a model for %s, found %s; fp32 is used", shown(folder), precision, found)
            return classifier.Classifier(model, tokenizer, "fp32")
        remedy = "use --precision fp32"
    raise RunError(f"{shown(folder)}: expected a model that works in {precision}, found in a trial {found}; {remedy}")


def fault(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, precision: str, *, learns: bool = True) -> str:
    """Return what of a training step and of a prediction is not as it must be; "" if nothing."""
    with contextlib.suppress(NotImplementedError):  # a model whose tokens are hashed has none
        embeddings = model.get_input_embeddings()
        if isinstance(embeddings, torch.nn.Embedding) and embeddings.num_embeddings < len(tokenizer):
            return f"{embeddings.num_embeddings} embeddings for a tokenizer of {len(tokenizer)} tokens"
    on_cpu, training = next(model.parameters()).device.type == "cpu", model.training
    try:
        pair = classifier.trial_texts(model, tokenizer)
        with random_states_kept():
            found = ""
            if learns:
                with cpu.used_in(model, pair) if on_cpu else contextlib.nullcontext():
                    found = _fault_of_training(model.train(), pair, precision)
            for kind in dict.fromkeys(["fp32", precision]):  # what padding changes shows best in fp32
                with classifier.attention_of_prediction(model, pair, kind):
                    found = found or _fault_of_prediction(model.eval(), pair, kind)
        return found
    except Exception as error:  # a model that does not fit raises anything
        if is_shortage(error):
            raise
        return f"{type(error).__name__}: {first_line(error)}"
    finally:
        model.zero_grad(set_to_none=True)
        model.train(training)


def _fault_of_training(model: PreTrainedModel, pair: Mapping[str, torch.Tensor], precision: str) -> str:
    logits = classifier.answer(model, pair, precision)
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
    loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    wrong = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    if not loss.isfinite():
        return "a training loss that is no finite number"
    return f"no finite gradient for {len(wrong)} of its weights, as {wrong[0]}" if wrong else ""


@torch.inference_mode()
def _fault_of_prediction(model: PreTrainedModel, pair: Mapping[str, torch.Tensor], precision: str) -> str:
    beside = classifier.answer(model, pair, precision)
    if not beside.isfinite().all():
        return "predictions that are no finite numbers"
    n_tokens = int(pair["attention_mask"][0].sum())
    kept = pair["attention_mask"][0].bool()
    alone = classifier.answer(model, {name: values[:1, kept] for name, values in pair.items()}, precision)
    apart = float((beside[0] - alone[0]).abs().max() / beside.abs().max())
    if apart > APART[precision]:
        return f"that its answer for a text of {n_tokens} tokens is another one beside a longer text"
    return ""


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Leave the random states of torch, numpy and Python after the block as they were before."""
    numpys, pythons = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        yield
    np.random.set_state(numpys)
    random.setstate(pythons)
