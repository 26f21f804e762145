"""Layers: nobody sees the future or the padding, and each does what its formula says."""

import copy

import pytest

torch = pytest.importorskip("torch")

from tailor.nn.attention import (  # noqa: E402
    CrossAttention,
    MultiQueryWindow,
    SelfAttention,
    attend,
    padding_bias,
    trailing_mean,
    window_bias,
)
from tailor.nn.blocks import (  # noqa: E402
    DecoderBlock,
    GRULayers,
    HSTUBlock,
    MixtureOfExperts,
    TransformerBlock,
    expert_blocks,
    load_balance,
)
from tailor.nn.dropout import dropout  # noqa: E402
from tailor.nn.positions import LearnedPositions, PositionsFromEnd, TimeBias, apply_rotary  # noqa: E402

B, T, D = 3, 9, 8
CAUSAL = {
    "transformer": lambda: TransformerBlock(D, 2),
    "gated": lambda: TransformerBlock(D, 2, gated=True),
    "rotary": lambda: TransformerBlock(D, 2, attention=SelfAttention(D, 2, rotary=True)),
    "multi-query": lambda: TransformerBlock(D, attention=MultiQueryWindow(D)),
    "experts": lambda: TransformerBlock(D, feed_forward=MixtureOfExperts(D, 4)),
    "hstu": lambda: HSTUBlock(D, T, 2),
    "gru": lambda: GRULayers(D, 2),
}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", CAUSAL)
def test_no_place_sees_what_comes_after_it(name):
    block, x = CAUSAL[name]().eval(), torch.randn(B, T, D)
    changed = x.clone()
    changed[:, 5:] = torch.randn(B, T - 5, D)
    out, other = block(x), block(changed)
    assert torch.allclose(out[:, :5], other[:, :5], atol=1e-6)
    assert not torch.allclose(out[:, 5:], other[:, 5:], atol=1e-3)
    # nor does a shorter batch change it
    assert torch.allclose(block(x[:, :5]), out[:, :5], atol=1e-6)


@pytest.mark.parametrize("name", CAUSAL)
def test_gradients_reach_every_weight(name):
    block = CAUSAL[name]()
    block(torch.randn(B, T, D)).pow(2).sum().backward()
    silent = [one for one, weight in block.named_parameters() if weight.grad is None]
    assert silent == (["time.weight"] if name == "hstu" else [])  # no times were given


def test_attention_by_the_formula():
    query, key, value = (torch.randn(B, 2, T, 4) for _ in range(3))
    logits = query @ key.transpose(-1, -2) / 2
    logits = logits.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -torch.inf)
    assert torch.allclose(
        attend(query, key, value, causal=True), logits.softmax(-1) @ value, atol=1e-5
    )


def test_padding_changes_nothing_where_both_sides_are_seen():
    block, x = TransformerBlock(D, 2, causal=False).eval(), torch.randn(1, T, D)
    short = block(x[:, :4])
    long = block(x, torch.tensor([4]))
    assert torch.allclose(short, long[:, :4], atol=1e-6)


def test_decoder_reads_its_memory_and_no_padding():
    block, x, memory = DecoderBlock(D, 2).eval(), torch.randn(1, 3, D), torch.randn(1, 6, D)
    assert torch.allclose(block(x, memory[:, :4]), block(x, memory, torch.tensor([4])), atol=1e-6)
    assert not torch.allclose(block(x, memory), block(x, memory.flip(2)), atol=1e-3)
    assert CrossAttention(D)(x, memory).shape == x.shape


def test_window_bias_shows_only_the_last_places():
    seen = torch.isfinite(window_bias(5, 2))
    assert seen.nonzero().tolist() == [
        [0, 0],
        [1, 0],
        [1, 1],
        [2, 1],
        [2, 2],
        [3, 2],
        [3, 3],
        [4, 3],
        [4, 4],
    ]


def test_trailing_mean_by_hand():
    x = torch.tensor([[[1.0], [2.0], [6.0], [4.0]]])
    assert trailing_mean(x, 2)[0, :, 0].tolist() == [1.0, 1.5, 4.0, 5.0]


def test_rotary_products_depend_on_distance_only():
    a, b = torch.randn(4), torch.randn(4)
    queries, keys = apply_rotary(a.expand(1, 1, 12, 4)), apply_rotary(b.expand(1, 1, 12, 4))
    products = (queries @ keys.transpose(-1, -2))[0, 0]
    assert torch.allclose(products[3, 1], products[10, 8], atol=1e-5)
    assert not torch.allclose(products[3, 1], products[3, 2], atol=1e-3)


def test_hstu_by_the_formula():
    block, x = HSTUBlock(D, T), torch.randn(1, T, D)
    with torch.no_grad():
        block.distance.weight.copy_(torch.randn(T))
        block.time.weight.copy_(torch.randn(32))
    times = torch.tensor([[0, 1000, 4000, 4000, 9000, 100_000, 100_500, 10**7, 10**8]])
    gate, value, query, key = torch.nn.functional.silu(
        block.uvqk_proj(block.input_norm(x[0]))
    ).chunk(4, -1)
    mixed = torch.zeros(T, D)
    for i in range(T):
        for j in range(i + 1):
            gap = (times[0, i] - times[0, j]).item() / 1000
            bucket = int(torch.log2(torch.tensor(1 + gap, dtype=torch.float64)))
            mixed[i] += (
                torch.nn.functional.silu(
                    query[i] @ key[j] + block.distance.weight[i - j] + block.time.weight[bucket]
                )
                / T
                * value[j]
            )
    wanted = x[0] + block.out_proj(block.output_norm(mixed) * gate)
    assert torch.allclose(block(x, times)[0], wanted, atol=1e-5)
    assert TimeBias()(times).shape == (1, T, T)


def test_all_experts_active_is_their_weighted_sum():
    layer, x = MixtureOfExperts(D, 3, active=3), torch.randn(B, T, D)
    share = layer.gate(x).softmax(-1)
    wanted = sum(share[..., i, None] * expert(x) for i, expert in enumerate(layer.experts))
    assert torch.allclose(layer(x), wanted, atol=1e-5)
    assert layer.balance.item() >= 0.9
    with pytest.raises(ValueError, match="experts cannot be active"):
        MixtureOfExperts(D, 2, active=3)


def test_a_mixture_can_be_copied_after_a_pass_that_learns():
    layer, x = MixtureOfExperts(D, 3), torch.randn(B, T, D)
    layer(x)
    copied = copy.deepcopy(layer)
    assert copied.balance == layer.balance and layer.balance.requires_grad
    assert torch.equal(copied(x), layer(x))


def test_the_balance_of_a_net_is_that_of_all_its_mixtures():
    net, x = torch.nn.Sequential(*expert_blocks(2, D, 2, 0.0, 4)), torch.randn(B, T, D)
    net(x)
    balances = [block.feed_forward.balance for block in net]
    assert load_balance(net).item() == pytest.approx(sum(value.item() for value in balances))
    assert len({id(value) for value in balances}) == 2


def test_heads_must_divide_the_width():
    for make in (lambda: SelfAttention(8, 3), lambda: HSTUBlock(8, 4, 3)):
        with pytest.raises(ValueError, match="cannot be divided"):
            make()


def test_positions_are_added_up_to_the_length():
    layer = LearnedPositions(4, D)
    assert torch.equal(layer(torch.zeros(1, 3, D))[0], layer.table[:3])
    layer = PositionsFromEnd(4, D)
    assert torch.equal(
        layer(torch.zeros(1, 3, D), lengths=torch.tensor([2]))[0, :2], layer.table[[1, 0]]
    )


@pytest.mark.parametrize("p", [0.1, 0.4])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_mean_and_the_share(p, kind):
    x = torch.ones(1000, 203, dtype=kind, requires_grad=True)
    out = dropout(x, p)
    assert abs((out == 0).float().mean().item() - p) < 0.005
    assert abs(out.float().mean().item() - 1) < 0.01
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
    assert dropout(x, p, training=False) is x
    assert dropout(x, 0.0) is x


def test_dropout_of_nearly_everything_is_a_number():
    x = torch.ones(1000, 203)
    out = dropout(x, 0.9999)
    assert torch.isfinite(out).all()
    assert abs(out.mean().item() - 1) < 0.2


def test_the_last_places_of_a_block_are_those_of_the_whole():
    block, x = TransformerBlock(D, 2, causal=False).eval(), torch.randn(B, T, D)
    lengths = torch.tensor([T, 4, 1])
    whole = block(x, lengths)
    last = block.forward_last(x, 3, padding_bias(lengths, T))
    torch.testing.assert_close(last, whole[:, -3:], rtol=0, atol=1e-6)
