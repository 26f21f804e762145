"""Codes of pictures: patches that draw them again, kinds that rare colours tell."""

import numpy as np

from tailor.nn.picture_codes import GRID, SIDE, PictureCodes

RED, BLUE, WHITE, GREY = (200, 30, 30), (30, 30, 200), (255, 255, 255), (120, 120, 120)


def picture(thing, background, row=1, column=1):
    """A picture of one patch of a colour."""
    pixels = np.full((SIDE, SIDE, 3), background, np.uint8)
    side = SIDE // GRID
    pixels[row * side : (row + 1) * side, column * side : (column + 1) * side] = thing
    return pixels


def pictures():
    """Things of two colours at different places, on two backgrounds."""
    return np.stack(
        [
            picture(thing, background, row, column)
            for thing in (RED, BLUE)
            for background in (WHITE, GREY)
            for row in range(GRID)
            for column in range(GRID)
        ]
    )


def fitted(kinds=4):
    return PictureCodes.fit(pictures(), np.random.default_rng(0), 8, kinds)


def test_words_of_patches_draw_the_picture_again():
    codes = fitted()
    grids = codes.grids_of(pictures())
    assert grids.shape == (64, GRID * GRID)
    assert np.array_equal(codes.drawn(grids), pictures())


def test_a_grid_goes_row_by_row():
    codes = fitted()
    (grid,) = codes.grids_of(picture(RED, WHITE, row=1, column=2)[None])
    assert np.flatnonzero(grid != grid[0]).tolist() == [GRID + 2]


def test_kinds_tell_colours_wherever_they_are():
    codes = fitted()
    kinds = codes.kinds_of(pictures()).reshape(4, -1)  # of a colour and a background each
    assert (kinds == kinds[:, :1]).all()
    assert len(set(kinds[:, 0].tolist())) == 4


def test_what_all_pictures_have_tells_nothing():
    colours = np.stack([picture(thing, WHITE) for thing in (RED, BLUE) * 8])
    codes = PictureCodes.fit(colours, np.random.default_rng(0), 4, 4)
    assert codes.kinds_of(colours).tolist() == codes.kinds_of(colours)[:2].tolist() * 8
    white = codes.rarity[np.abs(codes.colours - 1).max(axis=1) < 0.01]
    assert (white == 0).all() and codes.rarity.max() > 0.5


def test_arrays_give_the_same_codes():
    codes = fitted()
    again = PictureCodes.of(codes.arrays())
    assert np.array_equal(again.kinds_of(pictures()), codes.kinds_of(pictures()))
