"""Methods that read texts at larger sizes on an accelerator: a few steps there give the losses and
the lists of a processor, to tolerance.
"""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from tailor.core.run import Run
from tailor.data.nouns import History, Query
from tailor.data.splits import last_out
from tailor.papers.retrieval.hllm import HLLM
from tailor.papers.retrieval.linkedin_feed import LinkedInFeed
from tailor.papers.retrieval.recformer import RecFormer
from tailor.text.hashing import HashingEncoder
from tailor.worlds.shop import shop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no accelerator: torch.cuda.is_available() is False"
    ),
]
WORDS = HashingEncoder(768)  # as wide as a larger sentence encoder's vectors
METHODS = [
    HLLM(
        encoder=WORDS, width=512, blocks=6, heads=8, length=50, epochs=2, patience=None, dropout=0.0
    ),
    LinkedInFeed(
        encoder=WORDS, numbers=("events",), width=512, nested=(64, 256), epochs=2, patience=None
    ),
    RecFormer(
        encoder=WORDS,
        width=512,
        blocks=6,
        heads=8,
        words=32,
        length=50,
        pretraining=1,
        epochs=1,
        second=1,
        patience=None,
        dropout=0.0,
        guessed=0.0,
    ),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda one: type(one).__name__)
@pytest.mark.timeout(600)
def test_a_few_steps_there_are_a_few_steps_here(method):
    data = last_out(shop(users=400, items=300, seed=0).data).train
    here, there = (
        dataclasses.replace(method).fit(
            data, Run(seed=0, device=device, dtype="float32", workers=4)
        )
        for device in ("cpu", "cuda")
    )
    asked = [
        Query(history=History.of(*data.catalogue.ids[data.sequences.rows[user]].tolist()))
        for user in range(50)
    ]
    lists = [one.recommend(asked, 50) for one in (here, there)]
    same = [len(set(a.ids) & set(b.ids)) / max(len(a.ids), 1) for a, b in zip(*lists, strict=True)]
    # sums are in another order there; items that nearly tie may change places
    assert np.mean(same) > 0.95
    for part in ("pretraining", "first", "second", None):
        reports = [
            one.fit_report_ if part is None else one.fit_report_.get(part, {})
            for one in (here, there)
        ]
        if "loss" in reports[0]:
            np.testing.assert_allclose(*(report["loss"] for report in reports), rtol=0.02)
            assert reports[1]["device"].startswith("cuda")
