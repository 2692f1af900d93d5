"""Turn texts into tokens, held compactly and in memory: no cache that several jobs would share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from utils.corpus_load import Text

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

CHARS_PER_TOKEN = 8  # a first guess at how much of a long text max_length tokens need
TRIED = 200  # tokens of the long one of two texts: beyond a window of attention, which is 128 mostly


def tokenize(
    texts: Sequence[Text], tokenizer: "PreTrainedTokenizerBase", max_length: int, registers: Sequence[str]
) -> "Dataset":
    """Return the texts as a datasets.Dataset in torch format, in memory, in the order given.

    Columns: input_ids (the first max_length tokens, special ones included), labels (label ids in the
    registers' order), length (tokens kept), over (whether the text has more than max_length tokens).
    """
    from datasets import Dataset, Features, List, Value, concatenate_datasets
    from tqdm import tqdm

    features = Features(
        {"input_ids": List(Value("int32")), "labels": Value("int64"), "length": Value("int32"), "over": Value("bool")}
    )
    label_ids = {register: index for index, register in enumerate(registers)}
    parts = []
    starts = range(0, len(texts), 1000)  # a thousand texts' tokens at a time as Python lists
    for start in tqdm(starts, desc="texts into tokens", unit="000 texts", delay=2, leave=False, disable=None):
        part = texts[start : start + 1000]
        input_ids, over = _first_tokens([text.text for text in part], tokenizer, max_length)
        columns = {
            "input_ids": input_ids,
            "labels": [label_ids[text.register] for text in part],
            "length": [len(ids) for ids in input_ids],
            "over": over,
        }
        parts.append(Dataset.from_dict(columns, features=features))
    return concatenate_datasets(parts).with_format("torch")


def two_texts(tokenizer: "PreTrainedTokenizerBase", max_length: int) -> Any:
    """Return a short text and a long one, of at most TRIED tokens, padded to one length: what a model is tried with.

    A transformers.BatchEncoding: input_ids, attention_mask, shape (2, tokens).
    """
    from transformers import DataCollatorWithPadding

    texts = ["Short.", "A text that is much longer than the one beside it, which is padded to its length. " * TRIED]
    input_ids, _ = _first_tokens(texts, tokenizer, min(max_length, TRIED))
    return DataCollatorWithPadding(tokenizer)([{"input_ids": ids} for ids in input_ids])


def _first_tokens(
    texts: list[str], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> tuple[list[list[int]], list[bool]]:
    """Return each text's first max_length tokens, and whether it has more.

    Only the beginning of a long text is tokenised, up to a blank, where no tokenizer's word goes on:
    its tokens are those of the whole text. If they don't fill max_length, the whole text is taken.
    """
    beginnings = [_beginning(text, CHARS_PER_TOKEN * max_length) for text in texts]
    input_ids, over = _encode(beginnings, tokenizer, max_length)
    too_short = [i for i in range(len(texts)) if len(beginnings[i]) < len(texts[i]) and not over[i]]
    if too_short:
        whole_ids, whole_over = _encode([texts[i] for i in too_short], tokenizer, max_length)
        for i, ids, is_over in zip(too_short, whole_ids, whole_over, strict=True):
            input_ids[i], over[i] = ids, is_over
    return input_ids, over


def _beginning(text: str, n_chars: int) -> str:
    blank = text.find(" ", n_chars)
    return text if blank < 0 else text[:blank]


def _encode(
    texts: list[str], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> tuple[list[list[int]], list[bool]]:
    options: Any = {
        "truncation": True, "max_length": max_length, "return_attention_mask": False, "return_token_type_ids": False,
    }  # fmt: skip
    if tokenizer.is_fast:
        encoded = tokenizer(texts, **options)
        tokenizer.backend_tokenizer.no_truncation()  # else it is saved with it, and read as settings of its own
        return encoded["input_ids"], [bool(encoding.overflowing) for encoding in encoded.encodings or ()]
    one_by_one = [tokenizer(text, return_overflowing_tokens=True, **options) for text in texts]
    return [encoded["input_ids"] for encoded in one_by_one], ["overflowing_tokens" in encoded for encoded in one_by_one]
