"""A residual autoencoder (RQ-VAE): codes of vectors through a small net that learns with them.

Shapes: N vectors, B vectors of a batch, D width, H hidden units, E width of the words, L levels,
K words a level.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.run import Run
from tailor.errors import ModelError
from tailor.nn.devices import computing
from tailor.nn.fitting import Recipe, fit_net
from tailor.nn.quantizers import (
    check_minima,
    checked_vectors,
    code_report,
    k_means,
    nearest_word,
    unit,
    used_words,
    words_for,
)

START_STEPS = 10  # moves of the first centres by k-means
BATCH = 1_024  # vectors of a step, at most
STEPS_PER_EPOCH = 4  # of a small catalogue, at least
LEAST_USED = 0.8  # share of a level's words below which the codes are refused


@dataclass(frozen=True, eq=False)
class AutoencoderCodebooks:
    """Codebooks of an autoencoder, whose words lie in the space of its inner vectors.

    The matrices are maps whose last row is added; between two of them, negative values become 0.
    """

    words: np.ndarray
    """(L, K, E) float32; rows beyond a level's number of words hold infinity."""
    hidden_of_vector: np.ndarray
    """(D + 1, H) float32 first half of the encoder."""
    inner_of_hidden: np.ndarray
    """(H + 1, E) float32 second half of the encoder."""
    hidden_of_inner: np.ndarray
    """(E + 1, H) float32 first half of the decoder."""
    vector_of_hidden: np.ndarray
    """(H + 1, D) float32 second half of the decoder."""

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return the codes (N, L) int32 of vectors (N, D).

        Each row has the code that it would have alone, except where two words are equally near.
        """
        vectors = np.asarray(vectors, dtype=np.float32)
        residual = _two_maps(_scaled(vectors), self.hidden_of_vector, self.inner_of_hidden)
        codes = np.empty((len(vectors), len(self.words)), dtype=np.int32)
        for level, words in enumerate(self.words):
            codes[:, level] = nearest_word(residual, used_words(words))
            residual = residual - words[codes[:, level]]
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return approximately the unit vectors (N, D) that have these codes (N, L)."""
        inner = np.zeros((len(codes), self.words.shape[2]), dtype=np.float32)
        for level, words in enumerate(self.words):
            inner += words[codes[:, level]]
        vectors = _two_maps(inner, self.hidden_of_inner, self.vector_of_hidden)
        return vectors / np.float32(vectors.shape[1] ** 0.5)


def _two_maps(vectors: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return vectors (N, D) through two maps, with ReLU between."""
    hidden = np.maximum(vectors @ first[:-1] + first[-1], 0)
    return np.asarray(hidden @ second[:-1] + second[-1])


def _scaled(vectors: np.ndarray) -> np.ndarray:
    """Return unit vectors (N, D) times the root of D, so that a number is about one."""
    return unit(vectors) * np.float32(vectors.shape[1] ** 0.5)


@dataclass(frozen=True)
class ResidualAutoencoder:
    """Residual quantization inside an autoencoder (RQ-VAE; Zeghidour et al. 2021, TIGER).

    An encoder makes a short inner vector, which is replaced by the sum of a word of each level; a
    decoder restores the vector from it. Words begin at k-means centres; gradients pass through the
    choice unchanged (straight-through); a word that an epoch left unused restarts at a residual of
    some vector. Codes that use too few words are refused.
    """

    levels: int = 3
    """Number of levels."""
    words: int = 256
    """Words per level, at most."""
    shared: int = 8
    """Vectors per word, at least, on average."""
    inner: int = 32
    """Width of the inner vectors, and of the words."""
    hidden: int = 128
    """Hidden units of encoder and decoder."""
    epochs: int = 100
    """Passes over the vectors."""
    lr: float = 2e-3
    """Peak learning rate of AdamW."""
    commitment: float = 0.25
    """Weight of the loss that keeps inner vectors near their words."""
    revives: bool = True
    """Whether unused words restart after every epoch."""

    def __post_init__(self) -> None:
        minima = ("levels", "shared", "inner", "hidden", "epochs")
        check_minima(self, {"words": 2, **dict.fromkeys(minima, 1)})

    def fit(self, vectors: np.ndarray, rng: np.random.Generator) -> AutoencoderCodebooks:
        """Learn the autoencoder from vectors (N, D).

        Raises ValueError for values that are not finite, and where there is no vector; ModelError
        where a level uses less than 80 % of its words although there are vectors enough.
        """
        vectors = checked_vectors(vectors)
        size = words_for(vectors, self.words, self.shared)
        run = Run(seed=int(rng.integers(2**31)), dtype="float32")
        with computing(run.seed, run.workers):
            net = _Autoencoder(vectors.shape[1], self, size)
        net.start_words(torch.from_numpy(_scaled(vectors)), rng)
        self._train(net, vectors, run)
        codebooks = net.codebooks()
        check_usage(codebooks.encode(vectors), size, len(np.unique(vectors, axis=0)))
        return codebooks

    def _train(self, net: "_Autoencoder", vectors: np.ndarray, run: Run) -> None:
        """Train the net on all vectors (N, D)."""
        inputs = torch.from_numpy(_scaled(vectors))
        batch = max(1, min(BATCH, len(vectors) // STEPS_PER_EPOCH))

        def batches(epoch_rng: np.random.Generator) -> Sequence[np.ndarray]:
            if self.revives:
                net.revive(inputs.to(net.device), epoch_rng)
            order = epoch_rng.permutation(len(vectors))
            return np.array_split(order, -(-len(order) // batch))

        def loss(rows: np.ndarray, _: np.random.Generator) -> Tensor:
            return net.loss(inputs[torch.from_numpy(rows)].to(net.device), self.commitment)

        fit_net(net, batches, loss, run, Recipe(self.epochs, self.lr))
        net.cpu().eval()


def check_usage(codes: np.ndarray, words: int, distinct: int) -> None:
    """Raise ModelError where a level of codes (N, L) uses less than 80 % of its words.

    `distinct` vectors, fewer than two for a word, allow no such check.
    """
    if distinct < 2 * words:
        return
    used = code_report(codes, [words] * codes.shape[1])["words_used"]
    for level, share in enumerate(used, start=1):
        if share < LEAST_USED:
            raise ModelError(
                f"level {level} of the autoencoder uses {share:.0%} of its {words} words, at least"
                f" {LEAST_USED:.0%} must be: let unused words revive, train longer, or take fewer"
                " words"
            )


class _Autoencoder(nn.Module):
    """Encoder, words and decoder while they are trained."""

    used: Tensor

    def __init__(self, dims: int, settings: ResidualAutoencoder, size: int) -> None:
        super().__init__()
        hidden = settings.hidden
        inner = settings.inner
        self.encoder = nn.Sequential(nn.Linear(dims, hidden), nn.ReLU(), nn.Linear(hidden, inner))
        self.decoder = nn.Sequential(nn.Linear(inner, hidden), nn.ReLU(), nn.Linear(hidden, dims))
        self.words = nn.Parameter(torch.zeros(settings.levels, size, inner))
        # a buffer, so that a training that goes on knows what its epoch used
        self.register_buffer("used", torch.ones(settings.levels, size))

    @property
    def device(self) -> torch.device:
        return self.words.device

    def start_words(self, vectors: Tensor, rng: np.random.Generator) -> None:
        """Set the words to k-means centres of the residuals of vectors (N, D)."""
        with torch.no_grad():
            residual = self.encoder(vectors).numpy()
            for words in self.words:
                centres = k_means(residual, len(words), START_STEPS, rng)
                # where there are fewer, the first one stands for the missing
                missing = len(words) - len(centres)
                centres = np.concatenate([centres, np.repeat(centres[:1], missing, axis=0)])
                words.copy_(torch.from_numpy(centres))
                residual = residual - centres[nearest_word(residual, centres)]

    def loss(self, vectors: Tensor, commitment: float) -> Tensor:
        """Return the mean loss of vectors (B, D): what is not restored, and far from its word."""
        inner = self.encoder(vectors)  # B, E
        total, far, near = torch.zeros_like(inner), inner.new_zeros(()), inner.new_zeros(())
        residual = inner
        for level, words in enumerate(self.words):
            chosen = torch.cdist(residual.detach(), words.detach()).argmin(dim=1)
            self.used[level, chosen] = 1
            word = words[chosen]
            far = far + (residual.detach() - word).square().sum(dim=1).mean()
            near = near + (residual - word.detach()).square().sum(dim=1).mean()
            total = total + word
            residual = residual - word.detach()
        passed = inner + (total - inner).detach()
        restored = (self.decoder(passed) - vectors).square().mean()
        return restored + (far + commitment * near) / inner.shape[1]

    def revive(self, vectors: Tensor, rng: np.random.Generator) -> None:
        """Restart words that the last epoch left unused at residuals of vectors (N, D)."""
        with torch.no_grad():
            residual = self.encoder(vectors)
            for words, used in zip(self.words, self.used, strict=True):
                dead = torch.nonzero(used == 0).flatten()
                rows = rng.integers(len(residual), size=len(dead))
                words[dead] = residual[torch.from_numpy(rows).to(words.device)]
                residual = residual - words[torch.cdist(residual, words).argmin(dim=1)]
            self.used.zero_()

    def codebooks(self) -> AutoencoderCodebooks:
        """Return what was learned, as arrays."""

        def matrix(part: nn.Module) -> np.ndarray:
            weight, bias = (weights.detach().numpy() for weights in part.parameters())
            return np.concatenate([weight.T, bias[None]])

        maps = [self.encoder[0], self.encoder[2], self.decoder[0], self.decoder[2]]
        return AutoencoderCodebooks(self.words.detach().numpy(), *map(matrix, maps))
