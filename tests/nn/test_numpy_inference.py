"""A net for one sequence at a time says what the net says, and only where it can."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailor.core.run import Run  # noqa: E402
from tailor.nn.blocks import HSTUBlock, TransformerBlock  # noqa: E402
from tailor.nn.numpy_inference import NumpyTransformer  # noqa: E402
from tailor.nn.positions import LearnedPositions, PositionsFromEnd  # noqa: E402
from tailor.nn.sequence import SequenceNet  # noqa: E402
from tailor.retrieval import sequences  # noqa: E402
from tailor.retrieval.sasrec import SASRec  # noqa: E402
from tailor.testing.data import tiny_data  # noqa: E402


def net(layers, temperature=0.1, positions=None):
    torch.manual_seed(0)
    made = SequenceNet(50, 16, layers, 0.2, temperature, positions or LearnedPositions(12, 16))
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(std=0.5)
    return made.eval()


@pytest.mark.parametrize("temperature", [0.0, 0.1])
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 12])
def test_it_is_the_net(blocks, heads, temperature, length):
    some = net([TransformerBlock(16, heads) for _ in range(blocks)], temperature)
    rows = np.random.default_rng(length).integers(0, 50, length)
    with torch.inference_mode():
        expected = some.states(some.table(torch.from_numpy(rows)[None]))[0, -1].numpy()
    assert np.allclose(
        some.comparable_state(some.numpy_copy().state(rows)), expected, atol=2e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [TransformerBlock(16, gated=True)],
        [TransformerBlock(16, causal=False)],
        [TransformerBlock(16), HSTUBlock(16, 12)],
        [TransformerBlock(16, feed_forward=torch.nn.Identity())],
    ],
)
def test_other_nets_have_no_such_form(layers):
    assert NumpyTransformer.of(net(layers)) is None


def test_neither_have_other_positions_or_number_formats():
    assert (
        NumpyTransformer.of(net([TransformerBlock(16)], positions=PositionsFromEnd(12, 16))) is None
    )
    assert NumpyTransformer.of(net([TransformerBlock(16)]).bfloat16()) is None


def test_it_follows_the_net_when_it_is_trained_on():
    some = net([TransformerBlock(16)])
    before = some.numpy_copy().state(np.array([1, 2]))
    some.train()
    assert some.numpy_copy() is None
    with torch.no_grad():
        for weight in some.parameters():
            weight.add_(0.1)
    assert not np.allclose(some.eval().numpy_copy().state(np.array([1, 2])), before, atol=1e-3)


def test_lone_queries_are_answered_as_in_company(monkeypatch):
    data = tiny_data()
    method = SASRec(width=16, heads=2, blocks=2, length=5, epochs=3, negatives=20).fit(
        data, Run(workers=1)
    )
    queries = method.restrict(data.queries().reindexed(method.items_))
    together = method._scores(queries)
    asked = []
    monkeypatch.setattr(
        sequences,
        "_softmax",
        lambda logits, real=sequences._softmax: asked.append(1) or real(logits),
    )
    alone = np.concatenate([method._scores(queries[i : i + 1]) for i in range(len(queries))])
    assert len(asked) == (queries.histories.lengths > 0).sum() > 0
    assert np.allclose(alone, together, atol=1e-6)
