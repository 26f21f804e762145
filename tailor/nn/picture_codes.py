"""Codes of small pictures: the kind of a picture, and a grid of patches that it can be drawn from.

Shapes: P pictures, S pixels of a side, G patches of a side, K words of patches, C colours, J kinds.
"""

from dataclasses import dataclass

import numpy as np

from tailor.nn.quantizers import checked_vectors, k_means, nearest_word, unit

SIDE = 16  # pixels of a side of the pictures that have codes
GRID = 4  # patches of a side
COLOURS = 16  # colours that a picture's kind is told from
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
        """Learn the words of pictures (P, S, S, 3) uint8; at most `patches` and `kinds` of them.

        Raises ValueError where there is no picture.
        """
        patch_vectors = checked_vectors(_patches(pixels).reshape(-1, _patch_size()))
        patch_words = k_means(patch_vectors, patches, 25, rng)
        points = pixels.reshape(-1, 3).astype(np.float32) / 255
        colours = k_means(points, COLOURS, 25, rng)
        has_colour = _has_colour(pixels, colours)
        shares = np.maximum(has_colour.mean(axis=0), 1 / len(pixels))
        rarity = -np.log(shares).astype(np.float32)
        kind_words = k_means(unit(has_colour * rarity), kinds, 25, rng)
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
        return nearest_word(unit(_has_colour(pixels, self.colours) * self.rarity), self.kinds)

    def grids_of(self, pixels: np.ndarray) -> np.ndarray:
        """Return the words (P, G * G) int32 of the patches of pictures, row by row."""
        vectors = _patches(pixels)
        words = nearest_word(vectors.reshape(-1, _patch_size()), self.patches)
        return words.reshape(len(pixels), -1)

    def drawn(self, grids: np.ndarray) -> np.ndarray:
        """Return the pictures (P, S, S, 3) uint8 that words of patches (P, G * G) make."""
        side = SIDE // GRID
        patches = self.patches[grids].reshape(len(grids), GRID, GRID, side, side, 3)
        pictures = patches.transpose(0, 1, 3, 2, 4, 5).reshape(len(grids), SIDE, SIDE, 3)
        return np.rint(255 * np.clip(pictures, 0, 1)).astype(np.uint8)


def _patch_size() -> int:
    return 3 * (SIDE // GRID) ** 2


def _patches(pixels: np.ndarray) -> np.ndarray:
    """Return the patches (P, G * G, pixels) float32 from 0 to 1 of pictures, row by row."""
    side = SIDE // GRID
    parts = pixels.reshape(len(pixels), GRID, side, GRID, side, 3).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(len(pixels), GRID * GRID, _patch_size()).astype(np.float32) / 255


def _has_colour(pixels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return (P, C) float32: 1 where a colour is nearest to enough of a picture's pixels."""
    points = pixels.reshape(-1, 3).astype(np.float32) / 255
    nearest = nearest_word(points, colours).reshape(len(pixels), -1)
    counts = np.zeros((len(pixels), len(colours)), np.float32)
    np.add.at(counts, (np.arange(len(pixels))[:, None], nearest), 1)
    return (counts >= LEAST * nearest.shape[1]).astype(np.float32)
