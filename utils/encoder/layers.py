"""Which parts of a pretrained encoder a training changes, and how fast.

The lower half of a multilingual encoder brings languages together, the upper half reads the result (Muller et al.
2021, "First Align, then Predict"); to train the lower layers on few languages moves them away from the others (Wu &
Dredze 2019). The classifier's head is drawn at random, and has further to go than what is pretrained.
"""

import itertools
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from utils.files.shapes import read_record


def is_pretrained(folder: Path) -> bool:
    """Tell whether there is anything to keep in a checkpoint: tiny is made with random weights, and says so."""
    return not read_record(folder / "config.json", {}, "fetch or copy it anew").get("random_weights")


def freeze(model: PreTrainedModel, share: float) -> int:
    """Freeze the embeddings and a share of the encoder's layers, the lowest ones; return how many layers that is.

    share: 0 freezes nothing, and no share does in a model with random weights. Where layers share their weights, as
    ALBERT's do, the embeddings alone are frozen.
    """
    if not share or getattr(model.config, "random_weights", False):
        return 0
    lists = _layer_lists(model)
    if not lists:
        model.get_input_embeddings().requires_grad_(False)
        return 0
    n_frozen = int(share * model.config.num_hidden_layers)
    in_layers = {id(parameter) for layers in lists for parameter in layers.parameters()}
    for parameter in itertools.takewhile(lambda before: id(before) not in in_layers, model.base_model.parameters()):
        parameter.requires_grad_(False)
    for layers in lists:
        layers[:n_frozen].requires_grad_(False)
    return n_frozen


def _layer_lists(model: PreTrainedModel) -> list[torch.nn.ModuleList]:
    """Return the lists that have an entry per layer of the encoder: one, or, as in XLM, one per part of a layer."""
    found: list[torch.nn.ModuleList] = []
    inside: set[int] = set()
    for module in model.base_model.modules():
        per_layer = isinstance(module, torch.nn.ModuleList) and len(module) == model.config.num_hidden_layers
        if per_layer and id(module) not in inside:
            found.append(cast(torch.nn.ModuleList, module))
            inside |= {id(part) for part in module.modules()}
    return found


def part(model: PreTrainedModel, name: str) -> str:
    """Return what a classifier's weight belongs to, by its name: "encoder", the "pooler" in it, or the "head".

    Of encoders that are published, many have no pooler, or one that was never trained: it learns as the head does.
    """
    if not name.startswith(f"{model.base_model_prefix}."):
        return "head"
    return "pooler" if ".pooler." in name else "encoder"


def parameter_groups(model: PreTrainedModel, rate: float, head_rate: float) -> list[dict[str, Any]]:
    """Return AdamW's two groups: what is trained of the encoder, at this rate, and head and pooler, at theirs."""
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[part(model, name) == "encoder"].append(parameter)
    return [{"params": groups[True], "lr": rate}, {"params": groups[False], "lr": head_rate}]
