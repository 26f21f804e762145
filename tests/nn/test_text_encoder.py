"""Readers of words: the mark in front, padding, and attention that begins as a mean."""

import dataclasses

import pytest

pytest.importorskip("torch")

import torch

from tailor.nn.attention import SelfAttention
from tailor.nn.text_encoder import (
    FIRST_TOKEN,
    SPECIAL_TOKENS,
    TextEncoderNet,
    TokenBatch,
)
from tailor.nn.weights import load_weights, weights_of


def reader(**settings):
    torch.manual_seed(0)
    return TextEncoderNet(
        **{
            "words": 20,
            "width": 8,
            "blocks": 2,
            "heads": 2,
            "positions": 9,
            "kinds": 3,
            "parts": 4,
            "dropout": 0.0,
        }
        | settings
    ).eval()


def texts(*rows, longest=None):
    longest = longest or max(map(len, rows)) + 1
    filled = [
        [FIRST_TOKEN, *(word + SPECIAL_TOKENS for word in row)]
        + [FIRST_TOKEN] * (longest - 1 - len(row))
        for row in rows
    ]
    ids = torch.tensor(filled)
    return TokenBatch(
        ids,
        (ids >= SPECIAL_TOKENS).long(),
        (ids >= SPECIAL_TOKENS).long(),
        torch.tensor([len(row) + 1 for row in rows]),
    )


def test_the_front_alone_is_what_it_is_among_all_places():
    net, text = reader(), texts([3, 1, 4], [1], [5, 9, 2, 6, 5])
    for part in net.parameters():  # away from how it begins
        part.data += 0.3 * torch.randn_like(part)
    torch.testing.assert_close(net(text), net.all_positions(text)[:, 0], rtol=0, atol=1e-5)


def test_padding_is_not_seen():
    net = reader()
    torch.testing.assert_close(net(texts([3, 1], longest=8)), net(texts([3, 1])), rtol=0, atol=1e-6)
    beside = net(texts([3, 1], [2, 2, 2, 2, 2]))[:1]
    torch.testing.assert_close(beside, net(texts([3, 1])), rtol=0, atol=1e-6)


def test_places_kinds_and_parts_are_told_apart():
    net, text = reader(), texts([3, 1])
    assert not torch.allclose(net(text), net(texts([1, 3])), atol=1e-6)
    for name in ("kinds", "parts"):
        other = dataclasses.replace(text, **{name: torch.tensor([[0, 1, 2]])})
        assert not torch.allclose(net(text), net(other), atol=1e-6)


def test_before_it_learns_texts_of_like_words_are_near():
    net = reader(words=60, width=32, positions=20)
    net.word_embedding.weight.data[SPECIAL_TOKENS:] = torch.nn.functional.normalize(
        torch.randn(60, 32), dim=-1
    )
    one, like, other = torch.nn.functional.normalize(
        net(texts([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 7], [11, 12, 13, 14, 15, 16])), dim=-1
    )
    assert one @ like > one @ other + 0.1


def test_the_first_place_gathers_as_attention_over_all_does():
    torch.manual_seed(1)
    attention, x = SelfAttention(8, 2, causal=False), torch.randn(3, 5, 8)
    torch.testing.assert_close(attention.forward_first(x), attention(x)[:, :1], rtol=0, atol=1e-6)


def test_the_last_places_gather_as_attention_over_all_does():
    torch.manual_seed(1)
    attention, x = SelfAttention(8, 2, causal=False), torch.randn(3, 5, 8)
    expected = attention(x)[:, 3:]
    torch.testing.assert_close(attention.forward_last(x, 2), expected, rtol=0, atol=1e-6)


def test_weights_go_and_come_back():
    net, other = reader(), TextEncoderNet(20, 8, 2, 2, 9, 3, 4, 0.0).eval()
    load_weights(other, weights_of(net))
    assert torch.equal(net(texts([3, 1])), other(texts([3, 1])))
