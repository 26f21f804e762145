"""The net that sees pictures: shut gates, the picture just before a token, and gradients."""

import numpy as np
import torch

from tailor.nn.blocks import TransformerBlock
from tailor.nn.item_encoders import CodeItemEncoder
from tailor.nn.pictured_net import PicturedNet
from tailor.nn.pictures import RegionEncoder
from tailor.nn.token_net import TokenNet

WORDS, WIDTH = 5, 8
CODES = torch.tensor([[0, 0], [0, 1], [1, 0]])
TOKENS = torch.tensor([[1, WORDS, 2, 3]])


def parts():
    torch.manual_seed(0)
    layers = [TransformerBlock(WIDTH, 2), TransformerBlock(WIDTH, 2)]
    return WORDS, 3, CodeItemEncoder(CODES, [2, 2], WIDTH), WIDTH, layers


def net(gate=0.0):
    pictured = PicturedNet(*parts(), heads=2).eval()
    for block in pictured.gates:
        torch.nn.init.constant_(block.gate, gate)
    return pictured


def pixels():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8))


def test_shut_gates_read_as_a_net_without_pictures():
    plain = TokenNet(*parts()).eval()
    states = net().read(TOKENS, torch.tensor([[0, 0, 1, 1]]), pixels())
    assert torch.equal(plain.read(TOKENS), states)
    assert net().open_gates() == [0.0, 0.0]


def test_without_pictures_open_gates_change_nothing():
    pictured = net(gate=1.0)
    assert torch.equal(pictured.read(TOKENS), net().read(TOKENS))
    unseen = pictured.read(TOKENS, torch.full((1, 4), -1), pixels())
    assert torch.allclose(unseen, pictured.read(TOKENS), atol=1e-6)


def test_a_token_sees_its_own_picture_alone():
    pictured = net(gate=1.0)
    pictures = torch.tensor([[-1, 0, 0, 1]])
    states = pictured.read(TOKENS, pictures, pixels())
    other = pixels().clone()
    other[1] = 0
    changed = pictured.read(TOKENS, pictures, other)
    assert torch.allclose(states[:, :3], changed[:, :3], atol=1e-6)
    assert not torch.allclose(states[:, 3], changed[:, 3], atol=1e-3)
    blind = pictured.read(TOKENS)
    assert torch.allclose(states[:, 0], blind[:, 0], atol=1e-6)


def test_gates_learn_first_and_then_what_they_let_through():
    pictured = net()
    states = pictured.read(TOKENS, torch.zeros(1, 4, dtype=torch.long), pixels())
    pictured.word_logits(states[:, -1])[0, 3].backward()
    assert all(block.gate.grad.abs().sum() > 0 for block in pictured.gates)
    assert pictured.picture_encoder.out_proj.weight.grad.abs().sum() == 0
    pictured = net(gate=0.5)
    states = pictured.read(TOKENS, torch.zeros(1, 4, dtype=torch.long), pixels())
    pictured.word_logits(states[:, -1])[0, 3].backward()
    assert pictured.picture_encoder.out_proj.weight.grad.abs().sum() > 0


def test_regions_lie_where_the_picture_has_them():
    torch.manual_seed(0)
    encoder = RegionEncoder(WIDTH)
    white = torch.full((1, 16, 16, 3), 255, dtype=torch.uint8)
    spotted = white.clone()
    spotted[0, 15, 15] = 0
    differs = (encoder(white) != encoder(spotted)).any(dim=2)[0]
    assert differs.tolist() == [False, False, False, True]
