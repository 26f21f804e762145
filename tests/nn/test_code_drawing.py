"""Codes are drawn in proportion to their probabilities, and conditions change states."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailor.data.arrays import Ragged  # noqa: E402
from tailor.nn.blocks import TransformerBlock  # noqa: E402
from tailor.nn.conditioning import Conditioned  # noqa: E402
from tailor.nn.decoding import (  # noqa: E402
    AllowedItems,
    Trie,
    draw,
    exact_scores,
    log_probs_among,
)
from tailor.nn.item_encoders import CodeItemEncoder  # noqa: E402
from tailor.nn.semantic_id_decoder import SemanticIdDecoder  # noqa: E402
from tailor.nn.sequence import SequenceNet  # noqa: E402

CODES = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 2, 0], [2, 0, 0], [2, 2, 0]])
SIZES = [3, 3, 2]
WIDTH = 8


@pytest.fixture
def net():
    torch.manual_seed(0)
    encoder = CodeItemEncoder(torch.from_numpy(CODES), SIZES, WIDTH)
    body = SequenceNet(len(CODES), WIDTH, [TransformerBlock(WIDTH)], item_encoder=encoder)
    made = SemanticIdDecoder(body, CODES, SIZES, WIDTH, conditions=4)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return made.eval()


def test_codes_lead_to_their_items_and_others_to_none():
    trie = Trie.of(CODES)
    assert trie.items_of(torch.from_numpy(CODES)).tolist() == list(range(6))
    strange = torch.tensor([[0, 2, 0], [1, 2, 1], [2, 2, 2], [5, 0, 0]])
    assert trie.items_of(strange).tolist() == [-1] * 4


@pytest.mark.parametrize("closed", [True, False])
def test_draws_follow_the_probabilities_that_they_report(net, closed):
    state = torch.randn(1, WIDTH)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        codes, log_probs = draw(net, state, net.trie, 20_000, generator, closed)
        exact = exact_scores(net, state, net.trie, closed)[0].exp().numpy()
    items = net.trie.items_of(codes[0])
    counts = np.bincount(items[items >= 0].numpy(), minlength=6) / 20_000
    assert counts == pytest.approx(exact, abs=0.015)
    for item in range(6):
        at = (items == item).nonzero()[0, 0]
        assert float(log_probs[0, at].exp()) == pytest.approx(exact[item], abs=1e-5)
    assert bool((items < 0).any()) != closed


def test_the_same_codes_have_the_same_log_probabilities_when_asked(net):
    states = torch.randn(5, WIDTH)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        codes, drawn = draw(net, states, net.trie, 4, generator, closed=False)
        repeated = states.repeat_interleave(4, dim=0)
        asked = net.log_probs(repeated, codes.flatten(0, 1)).unflatten(0, (5, 4))
        items = torch.arange(5)
        exact = exact_scores(net, states, net.trie).gather(1, items[:, None])[:, 0]
    assert asked.numpy() == pytest.approx(drawn.numpy(), abs=1e-5)
    assert net.item_log_probs(states, items).detach().numpy() == pytest.approx(
        exact.numpy(), abs=1e-5
    )


def test_a_hot_draw_is_flatter(net):
    state = torch.randn(1, WIDTH) * 5
    shares = []
    for temperature in (0.2, 1.0, 5.0):
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            codes, _ = draw(net, state, net.trie, 2_000, generator, temperature=temperature)
        counts = np.bincount(net.trie.items_of(codes[0]).numpy(), minlength=6)
        shares.append(counts.max() / 2_000)
    assert shares[0] > shares[1] > shares[2]


def test_a_condition_changes_nothing_at_first_and_zeros_never():
    layer = Conditioned(6, 3)
    states, conditions = torch.randn(4, 6), torch.randn(4, 3)
    assert torch.equal(layer(states, conditions), states)
    torch.nn.init.normal_(layer.outer.weight)
    torch.nn.init.normal_(layer.outer.bias)
    conditions[1] = 0
    changed = layer(states, conditions)
    assert torch.equal(changed[1], states[1])
    assert not torch.allclose(changed[[0, 2, 3]], states[[0, 2, 3]])


def test_what_is_taken_is_not_drawn_and_leaves_its_share_to_the_others(net):
    states = torch.randn(2, WIDTH)
    taken = [[0, 1, 3], [5]]
    allowed = AllowedItems(net.trie, Ragged.of(taken))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        codes, log_probs = draw(net, states, net.trie, 10_000, generator, allowed=allowed)
    items = net.trie.items_of(codes.flatten(0, 1)).view(2, -1)
    for query in (0, 1):
        left = [item for item in range(6) if item not in taken[query]]
        assert set(items[query].tolist()) == set(left)
        shares = np.bincount(items[query].numpy(), minlength=6) / 10_000
        one_by_one = AllowedItems(net.trie, Ragged.of([taken[query]] * len(left)))
        rows = torch.tensor(left)
        values = log_probs_among(
            net, states[query].expand(len(left), -1), net.trie, rows, one_by_one
        )
        assert values.exp().sum().item() == pytest.approx(1, abs=1e-5)
        assert shares[left] == pytest.approx(values.exp().detach().numpy(), abs=0.02)
        drawn = int(items[query, 0])
        assert log_probs[query, 0].item() == pytest.approx(
            values[left.index(drawn)].item(), abs=1e-5
        )
