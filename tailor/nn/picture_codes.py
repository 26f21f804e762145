"""Codes of small pictures: the kind of a picture, and a grid of patches that it can be drawn from.

Shapes: P pictures, S pixels of a side, G patches of a side, K words of patches, C colours, J kinds.
"""

from dataclasses import dataclass

import numpy as np

from tailor.nn.quantizers import checked_vectors, k_means, nearest_word, unit

SIDE = 16  # pixels of a side of the pictures that have codes
GRID = 4  # patches of a side
COLOURS = 16  # colours that a picture's kind is told from
STEPS = 25  # of k-means, at most
LEAST = 0.02  # share of a picture's pixels that makes a colour count


@dataclass(frozen=True, eq=False)
class PictureCodes:
    """Words of patches and of whole pictures, all centres of k-means.

    A picture's kind is the nearest centre of the colours in it, each weighted by its rarity, as
    words of texts are (TF-IDF): what few pictures have tells more than a background.
    """

    patches: np.ndarray
    """(K, 3 * (S / G) ** 2) float32 from 0 to 1: the pixels of each patch."""
    colours: np.ndarray
    """(C, 3) float32 from 0 to 1."""
    rarity: np.ndarray
    """(C,) float32 logarithm of one over the share of pictures that have the colour."""
    kinds: np.ndarray
    """(J, C) float32 centres of rare colours."""

    @classmethod
    def fit(
        cls, pixels: np.ndarray, rng: np.random.Generator, patches: int, kinds: int
    ) -> "PictureCodes":
        """Learn at most `patches` and `kinds` words of pictures (P, S, S, 3) uint8.

        Raises ValueError where there is no picture.
        """
        vectors = _patches(pixels)
        patch_vectors = checked_vectors(vectors.reshape(-1, _patch_size()))
        patch_words = k_means(patch_vectors, patches, STEPS, rng)
        points = _points(pixels)
        colours = k_means(points.reshape(-1, 3), COLOURS, STEPS, rng)
        has_colour = _has_colour(pixels, colours)
        shares = has_colour.mean(axis=0)
        least_share = 1 / len(pixels)
        rarity = -np.log(np.maximum(shares, least_share)).astype(np.float32)
        rare_colours = unit(has_colour * rarity)
        kind_words = k_means(rare_colours, kinds, STEPS, rng)
        return cls(patch_words, colours, rarity, kind_words)

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> "PictureCodes":
        """Return the codes that `arrays` were taken of."""
        return cls(**arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the fields by name, to be saved."""
        return dict(vars(self))

    def kinds_of(self, pixels: np.ndarray) -> np.ndarray:
        """Return the kinds (P,) int32 of pictures (P, S, S, 3) uint8."""
        has_colour = _has_colour(pixels, self.colours)
        rare_colours = unit(has_colour * self.rarity)
        return nearest_word(rare_colours, self.kinds)

    def grids_of(self, pixels: np.ndarray) -> np.ndarray:
        """Return the words (P, G * G) int32 of patches, row by row."""
        vectors = _patches(pixels)
        vectors = vectors.reshape(-1, _patch_size())
        words = nearest_word(vectors, self.patches)
        return words.reshape(len(pixels), -1)

    def drawn(self, grids: np.ndarray) -> np.ndarray:
        """Return pictures (P, S, S, 3) uint8 made of patches' words (P, G * G)."""
        side = SIDE // GRID
        patches = self.patches[grids]
        patches = patches.reshape(-1, GRID, GRID, side, side, 3)
        rows = patches.transpose(0, 1, 3, 2, 4, 5)
        pictures = rows.reshape(-1, SIDE, SIDE, 3)
        pictures = np.clip(pictures, 0, 1)
        return np.rint(255 * pictures).astype(np.uint8)


def _patch_size() -> int:
    return 3 * (SIDE // GRID) ** 2


def _patches(pixels: np.ndarray) -> np.ndarray:
    """Return the patches (P, G * G, pixels) float32, from 0 to 1, row by row."""
    side = SIDE // GRID
    points = _points(pixels)
    rows = points.reshape(-1, GRID, side, GRID, side, 3)
    patches = rows.transpose(0, 1, 3, 2, 4, 5)
    return patches.reshape(-1, GRID * GRID, _patch_size())


def _points(pixels: np.ndarray) -> np.ndarray:
    """Return the colours (P, S * S, 3) float32 from 0 to 1 of pictures."""
    points = pixels.reshape(len(pixels), -1, 3)
    return points.astype(np.float32) / 255


def _has_colour(pixels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return (P, C) float32: 1 where a colour is nearest to enough of a picture's pixels."""
    points = _points(pixels)
    nearest = nearest_word(points.reshape(-1, 3), colours)
    nearest = nearest.reshape(len(pixels), -1)
    counts = np.zeros((len(pixels), len(colours)))
    numbers = np.arange(len(pixels))[:, None]
    np.add.at(counts, (numbers, nearest), 1)
    least = LEAST * nearest.shape[1]
    return (counts >= least).astype(np.float32)
