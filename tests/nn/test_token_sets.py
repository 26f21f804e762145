"""Sets of tokens: what reads what, states at any place, and what the autoencoder restores."""

import numpy as np
import pytest
import torch

from tailor.nn.attention import group_bias
from tailor.nn.blocks import TransformerBlock
from tailor.nn.token_sets import TextTokens, TokenSetNet

HIDDEN = float("-inf")


def net(separate=True, items=7, tokens=2, width=8):
    torch.manual_seed(0)
    made = TokenSetNet(
        torch.randn(items, 5),
        torch.nn.functional.normalize(torch.randn(items, 6), dim=1),
        TextTokens(6, tokens, width, (12,)),
        [TransformerBlock(width, 2) for _ in range(2)],
        length=4,
        width=width,
        separate=separate,
    )
    return made.eval()


def test_group_bias_by_hand():
    bias = group_bias(torch.tensor([0, 0, 1]))
    assert bias.tolist() == [[0, HIDDEN, HIDDEN], [HIDDEN, 0, HIDDEN], [0, 0, 0]]
    hidden = group_bias(torch.tensor([0, 0, 1]), torch.tensor([True, False, False]))
    assert hidden.tolist() == [[0, HIDDEN, HIDDEN], [HIDDEN, 0, HIDDEN], [HIDDEN, 0, 0]]
    assert group_bias(torch.zeros(3, 5)).shape == (3, 5, 5)


def test_a_block_takes_a_bias():
    torch.manual_seed(0)
    block = TransformerBlock(8, 2).eval()
    x = torch.randn(1, 3, 8)
    alone = group_bias(torch.zeros(3))[None, None]
    assert torch.allclose(block(x, bias=alone)[:, 1:2], block(x[:, 1:2]), atol=1e-6)
    assert not torch.allclose(block(x)[:, 1:2], block(x[:, 1:2]), atol=1e-3)


@pytest.mark.parametrize("separate", [True, False])
def test_tokens_of_one_item_do_not_read_each_other(separate):
    made = net(separate)
    x = torch.zeros(1, 2 * 3 + 3, 8)  # two items, then the queries of one place
    x[0, :6] = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    bias = made._bias(2, 3, torch.tensor([[1]]))
    changed = x.clone()
    changed[0, 4] = changed[0, 4].flip(0)  # the second token of the second item

    def after(inputs):
        for block in made.blocks:
            inputs = block(inputs, bias=bias)
        return inputs

    moved = (after(x) - after(changed)).abs().sum(dim=-1)[0] > 1e-6
    siblings = not separate
    expected = [False, False, False, siblings, True, siblings, True, True, True]
    assert moved.tolist() == expected


def test_attention_falls_with_the_distance_in_each_head_at_its_own_slope():
    bias = net()._bias(3, 2, torch.tensor([[2]]))  # six tokens, then two queries
    assert bias.shape == (1, 2, 8, 8)
    assert bias[0, 0, 4, :5].tolist() == [-2, -2, -1, -1, 0]
    assert bias[0, 1, 4, :5].tolist() == [-2 / 16, -2 / 16, -1 / 16, -1 / 16, 0]
    assert bias[0, 0, 7].tolist() == [-2, -2, -1, -1, 0, 0, HIDDEN, 0]


def test_states_at_a_place_read_nothing_later_and_no_other_query():
    made = net()
    tokens = made.tokens(torch.arange(4))[0][None]  # 1, 4, 3, 8
    everywhere = made.states(tokens, torch.arange(4)[None])
    for place in range(4):
        alone = made.states(tokens, torch.tensor([[place]]))[:, 0]
        assert torch.allclose(alone, everywhere[:, place], atol=1e-5)
        shorter = made.states(tokens[:, : place + 1], torch.tensor([[place]]))[:, 0]
        assert torch.allclose(shorter, everywhere[:, place], atol=1e-5)
    assert not torch.allclose(everywhere[:, 0], everywhere[:, 1], atol=1e-3)


def test_tokens_of_one_item_share_a_position():
    made = net()
    tokens = made.tokens(torch.arange(4))[0][None]
    states = made.states(tokens, torch.tensor([[3]]))
    swapped = tokens[:, :, [0, 2, 1]]  # a set: the order of the tokens says nothing
    assert torch.allclose(made.states(swapped, torch.tensor([[3]])), states, atol=1e-5)
    reversed_items = made.states(tokens.flip(1), torch.tensor([[3]]))
    assert not torch.allclose(reversed_items, states, atol=1e-3)


def test_places_may_differ_from_sequence_to_sequence():
    made = net()
    tokens = made.tokens(torch.tensor([0, 1, 2, 3, 4, 5]))[0].view(2, 3, 3, 8)
    both = made.states(tokens, torch.tensor([[0], [2]]))
    first = made.states(tokens[:1], torch.tensor([[0]]))
    second = made.states(tokens[1:], torch.tensor([[2]]))
    assert torch.allclose(both, torch.cat([first, second]), atol=1e-5)


def test_the_autoencoder_restores_texts():
    torch.manual_seed(0)
    texts = torch.nn.functional.normalize(torch.randn(40, 6), dim=1)
    tokens = TextTokens(6, 2, 4, (16,))
    assert tokens(texts)[0].shape == (40, 2, 4)
    optimizer = torch.optim.Adam(tokens.parameters(), lr=0.01)
    before = tokens(texts)[1].item()
    for _ in range(200):
        optimizer.zero_grad()
        error = tokens(texts)[1]
        error.backward()
        optimizer.step()
    assert error.item() < 0.1 * before
    inner = tokens(texts)[0].flatten(1)
    restored = tokens.decoder(inner) / np.sqrt(6)
    assert torch.allclose(restored, texts, atol=0.3)


def test_the_catalogue_is_made_anew_after_training():
    made = net()
    with torch.inference_mode():
        before = made.catalogue()
        assert made.catalogue() is before
    made.train()
    with torch.no_grad():
        made.behaviour_map.last.weight.add_(1)
    made.eval()
    with torch.inference_mode():
        assert not torch.equal(made.catalogue(), before)
