"""What is trained of a pretrained encoder, and at which rate."""

import pytest
import torch
import transformers
from conftest import epochs, record
from safetensors.torch import load_file

import finetune
from utils.encoder import layers

SMALL = {"num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
VOCABULARY = {"vocab_size": 100, "pad_token_id": 0}


def test_the_embeddings_and_the_lower_half_stay_as_they_were(train, pretrained):
    before = load_file(pretrained / "model.safetensors")
    run = train("--num-epochs=2", f"--checkpoint={pretrained}")
    after = load_file(run.models / "model.safetensors")
    for name, weights in before.items():
        if "pooler" not in name:
            lower = "embeddings" in name or "layer.0" in name
            assert torch.equal(weights, after[f"bert.{name}"]) == lower, name
    assert record(run)["settings"]["frozen_layers"] == 0.5


def test_a_model_made_with_random_weights_is_trained_as_a_whole(train, tiny, pretrained):
    assert layers.is_pretrained(pretrained) and not layers.is_pretrained(tiny)
    before = load_file(tiny / "model.safetensors")
    run = train("--num-epochs=1")
    after = load_file(run.models / "model.safetensors")
    assert not any(
        torch.equal(weights, after[f"bert.{name}"]) for name, weights in before.items() if "pooler" not in name
    )
    assert not record(run)["pretrained"]


def test_the_head_has_a_rate_of_its_own(train, pretrained):
    """With the encoder's at next to 0, the head alone has learnt."""
    before = load_file(pretrained / "model.safetensors")
    options = [f"--checkpoint={pretrained}", "--num-epochs=2", "--learning-rate=1e-12"]
    learnt, not_learnt = train(*options, "--head-rate=1e-2"), train(*options, subfolder="default")
    after = load_file(learnt.models / "model.safetensors")
    for name, weights in before.items():
        if "pooler" not in name:
            torch.testing.assert_close(weights, after[f"bert.{name}"], rtol=0, atol=1e-9)
    losses = [[entry["validation"]["loss"] for entry in epochs(run)] for run in (learnt, not_learnt)]
    assert losses[0][1] < losses[0][0] - 1e-3
    assert losses[1][1] == pytest.approx(losses[1][0], rel=1e-6)


def test_the_heads_rate_follows_the_learning_rate(train):
    def head_rate(*rates):
        return finetune.parse_args(["--model-name=tiny", "--train-langs=en", *rates])[0].head_rate

    assert head_rate() == 5e-4 and head_rate("--learning-rate=1e-5") == pytest.approx(1e-4)
    assert head_rate("--learning-rate=2e-3") == 2e-3 and head_rate("--head-rate=1e-5") == 1e-5


@pytest.mark.parametrize(
    ("model", "n_frozen"),
    [
        (transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, **VOCABULARY)), 2),
        (transformers.XLMRobertaForSequenceClassification(transformers.XLMRobertaConfig(**SMALL, **VOCABULARY)), 2),
        (transformers.AlbertForSequenceClassification(transformers.AlbertConfig(**SMALL, **VOCABULARY)), 0),
        (
            transformers.XLMForSequenceClassification(
                transformers.XLMConfig(vocab_size=100, emb_dim=32, n_layers=4, n_heads=4)
            ),
            2,
        ),
    ],
    ids=["BERT", "XLM-R", "ALBERT, whose layers are one", "XLM, whose layers lie in several lists"],
)
def test_the_lowest_layers_are_found_in_every_build(model, n_frozen):
    assert layers.freeze(model, 0.5) == n_frozen
    assert not model.get_input_embeddings().weight.requires_grad
    assert layers.freeze(model, 0) == 0  # nothing more
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("classifier" in name or "summary" in name for name in trained)
    if n_frozen:
        assert not any(f".{layer}." in name for name in trained for layer in range(n_frozen))
        assert any(f".{n_frozen}." in name for name in trained)
