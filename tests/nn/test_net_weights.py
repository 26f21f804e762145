"""Weights saved under earlier names are found, and nothing else is."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tailor.nn.blocks import HSTUBlock, TransformerBlock  # noqa: E402
from tailor.nn.weights import OLD_SEGMENTS, load_weights, old_name, weights_of  # noqa: E402


def earlier(weights):
    return {old_name(name): array for name, array in weights.items()}


@pytest.mark.parametrize("make", [lambda: TransformerBlock(8, 2), lambda: HSTUBlock(8, 5)])
def test_weights_under_old_names_are_loaded(make):
    torch.manual_seed(0)
    net, other = make(), make()
    old = earlier(weights_of(net))
    assert not set(old) & set(weights_of(net)) - {"distance.weight", "time.weight"}
    load_weights(other, old)
    for name, array in weights_of(net).items():
        np.testing.assert_array_equal(weights_of(other)[name], array)


def test_names_of_one_net_stay_different():
    for net in (TransformerBlock(8, gated=True), HSTUBlock(8, 5)):
        names = list(net.state_dict())
        assert len({old_name(name) for name in names}) == len(names)


def test_a_weight_that_fits_nothing_is_reported():
    net = TransformerBlock(8)
    weights = weights_of(net)
    with pytest.raises(RuntimeError, match="strange"):
        load_weights(net, weights | {"strange.weight": np.zeros(1, np.float32)})
    del weights["norm1.weight"]
    with pytest.raises(RuntimeError, match=r"norm1\.weight"):
        load_weights(net, weights)


def test_no_old_name_is_a_name_of_today():
    assert not set(OLD_SEGMENTS) & set(OLD_SEGMENTS.values())
