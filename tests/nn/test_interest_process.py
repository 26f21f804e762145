"""The process of interest: windows counted from the end, masks, and Gaussians."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from tailor.nn.interest_process import AgeEncoding, InterestProcess, Latent

WIDTH = 8


@pytest.fixture(scope="module")
def process():
    torch.manual_seed(0)
    return InterestProcess(WIDTH, latent=4, window=3, dropout=0.0).eval()


def events(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    vectors = torch.randn(len(lengths), longest, WIDTH, generator=generator)
    ages = torch.arange(longest, 0, -1.0).repeat(len(lengths), 1)
    return vectors, ages, torch.tensor(lengths)


def test_windows_are_counted_from_the_latest_event(process):
    vectors, ages, lengths = events([7, 2])
    windows, window_ages = process.windows(vectors, ages, lengths)
    assert windows.shape == (2, 3, WIDTH)
    # events 4 to 6, 1 to 3, and 0; of the other history events 0 and 1
    assert window_ages.tolist() == [[2, 5, 7], [6.5, -1, -1]]
    latest, _ = process.windows(vectors[:1, 4:], ages[:1, 4:], torch.tensor([3]))
    assert torch.allclose(windows[0, 0], latest[0, 0], atol=1e-5)
    oldest, _ = process.windows(vectors[:1, :1], ages[:1, :1], torch.tensor([1]))
    assert torch.allclose(windows[0, 2], oldest[0, 0], atol=1e-5)


def test_padding_changes_nothing(process):
    vectors, ages, lengths = events([7, 2])
    windows, window_ages = process.windows(vectors, ages, lengths)
    alone, alone_ages = process.windows(vectors[1:, :2], ages[1:, :2], lengths[1:])
    z = torch.zeros(1, 4)
    asked = torch.tensor([[0.0, 1.5]])
    interest = process.interest(windows[1:], window_ages[1:], window_ages[1:] >= 0, z, asked)
    expected = process.interest(alone, alone_ages, alone_ages >= 0, z, asked)
    assert torch.allclose(interest, expected, atol=1e-5)
    latent = process.latent(windows[1:], window_ages[1:], window_ages[1:] >= 0)
    expected_latent = process.latent(alone, alone_ages, alone_ages >= 0)
    assert torch.allclose(latent.mean, expected_latent.mean, atol=1e-5)


def test_only_the_context_is_read(process):
    windows = torch.randn(1, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    ages = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    mask = torch.tensor([[False, True, False, True]])
    z = torch.zeros(1, 4)
    asked = torch.tensor([[0.0, 1.0]])
    changed = windows.clone()
    changed[:, [0, 2]] += 10
    before = process.interest(windows, ages, mask, z, asked)
    assert torch.allclose(before, process.interest(changed, ages, mask, z, asked), atol=1e-5)
    latents = [process.latent(each, ages, mask).mean for each in (windows, changed)]
    assert torch.allclose(*latents, atol=1e-5)
    changed = windows.clone()
    changed[:, 3] += 10
    after = process.interest(changed, ages, mask, z, asked)
    assert (before - after).abs().max() > 1e-2


def test_interest_depends_on_the_age_and_the_latent(process):
    windows = torch.randn(1, 2, WIDTH, generator=torch.Generator().manual_seed(1))
    ages = torch.tensor([[1.0, 5.0]])
    mask = ages >= 0
    z = torch.zeros(1, 4)
    now, later = process.interest(windows, ages, mask, z, torch.tensor([[0.0, 3.0]]))[0]
    assert (now - later).abs().max() > 1e-3
    other = process.interest(windows, ages, mask, z + 1, torch.zeros(1, 1))[0, 0]
    assert (now - other).abs().max() > 1e-3


def test_a_pool_takes_the_latest_events_only(process):
    x = torch.randn(1, 1, 3, WIDTH, generator=torch.Generator().manual_seed(2))
    ages = torch.tensor([[[1.0, 2.0, 3.0]]])
    is_event = torch.ones(1, 1, 3, dtype=torch.bool)
    normed = torch.nn.functional.layer_norm(x, (WIDTH,))
    mixed = process.event_mlp(torch.cat([normed, process.ages(ages)], dim=-1))[0, 0]
    logits = mixed @ mixed[0] / np.sqrt(WIDTH)
    expected = [mixed[0]]
    for size in (3, 3):  # five are pooled over the three that there are
        weights = logits[:size].softmax(dim=0)
        expected.append((weights[:, None] * mixed[:size]).sum(dim=0))
    pooled, _ = process._pooled(x, ages, is_event)
    assert torch.allclose(pooled[0, 0], process.pool_proj(torch.cat(expected)), atol=1e-5)


def test_the_divergence_is_that_of_gaussians():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(2, 3, 5, generator=generator)
    spreads = torch.rand(2, 3, 5, generator=generator) + 0.1
    first, second = (Latent(means[i], spreads[i]) for i in range(2))
    normal = torch.distributions.Normal
    pair = normal(means[0], spreads[0]), normal(means[1], spreads[1])
    expected = torch.distributions.kl_divergence(*pair).sum(dim=1)
    assert torch.allclose(first.divergence(second), expected, atol=1e-4)
    assert first.divergence(first).abs().max() < 1e-5


def test_ages_are_told_apart():
    torch.manual_seed(0)
    encoded = AgeEncoding(WIDTH)(torch.tensor([0.0, 0.3, 3.0, 30.0]))
    distances = torch.cdist(encoded, encoded) + torch.eye(4)
    assert distances.min() > 0.1
