"""The net over words and items: numbering, causality, and gradients that reach both tables."""

import torch

from tailor.nn.blocks import TransformerBlock
from tailor.nn.item_encoders import CodeItemEncoder
from tailor.nn.token_net import TokenNet

WORDS, WIDTH = 5, 8
CODES = torch.tensor([[0, 0], [0, 1], [1, 0]])


def net() -> TokenNet:
    torch.manual_seed(0)
    encoder = CodeItemEncoder(CODES, [2, 2], WIDTH)
    return TokenNet(WORDS, 3, encoder, WIDTH, [TransformerBlock(WIDTH, 2)]).eval()


def test_tokens_from_the_number_of_words_on_are_items():
    token_net = net()
    vectors = token_net.embed(torch.tensor([[4, WORDS + 2, 0]]))
    assert torch.equal(vectors[0, 0], token_net.words.weight[4])
    assert torch.allclose(vectors[0, 1], token_net.table(torch.tensor(2)))
    assert torch.equal(vectors[0, 2], token_net.words.weight[0])


def test_a_state_knows_only_what_stands_before_it():
    token_net = net()
    first = token_net.read(torch.tensor([[1, WORDS, 2, 3]]))
    second = token_net.read(torch.tensor([[1, WORDS, 4, WORDS + 1]]))
    assert torch.allclose(first[:, :2], second[:, :2], atol=1e-6)
    assert not torch.allclose(first[:, 2], second[:, 2], atol=1e-3)


def test_words_and_items_both_learn():
    token_net = net()
    states = token_net.read(torch.tensor([[1, WORDS + 1]]))
    token_net.word_logits(states[:, -1])[0, 3].backward()
    assert token_net.words.weight.grad[1].abs().sum() > 0
    assert token_net.table.digits.weight.grad.abs().sum() > 0


def test_word_logits_compare_with_the_words_own_vectors():
    token_net = net()
    states = torch.zeros(1, WIDTH)
    states[0] = token_net.words.weight[3]
    logits = token_net.word_logits(states)
    assert torch.allclose(logits[0, 3], (states[0] ** 2).sum())
    assert logits.shape == (1, WORDS)
