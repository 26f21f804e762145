"""Make a log of garments that were bought in a size, and whether they fitted.

Products run small or large, which no table says; reviews say it, in several languages, often
vaguely and sometimes wrongly. Shapes: U people, P products, N items (a product in a size), n
purchases.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.special import ndtr

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.shop_truth import START_MS

HOUR_MS = 3_600_000
SMALL, FITS, LARGE = 0, 1, 2  # values of the events
CATEGORIES = ("top", "trousers", "dress")
EASE = 0.8  # sizes between body and garment that still fit
TASTE = 0.35  # standard deviation of where a purchase stops fitting, in sizes
GUESS = 0.5  # standard deviation of the size that a customer takes for theirs
OFF_TOPIC = 0.3  # share of reviews without a word on the size
CENTIMETRES = 6.0  # between two sizes
# a language's sentences on what was too small, fitted, and was too large; they share their words,
# so that no word names an outcome
SIZE_SENTENCES = (
    (
        (
            "Had to send it back for the next size up.",
            "Tight where it should be loose.",
            "I would order it bigger next time, it is cut narrow.",
            "My usual size did not close.",
        ),
        (
            "I would order the same size again, neither tight nor loose.",
            "My usual size, no need to go up or down.",
            "Not too narrow and not too wide, I did not send it back.",
            "It closes well and sits where it should.",
        ),
        (
            "Had to send it back for the next size down.",
            "Loose where it should be tight.",
            "I would order it smaller next time, it is cut wide.",
            "My usual size hung on me.",
        ),
    ),
    (
        (
            "Musste es gegen die nächste Größe nach oben tauschen.",
            "Sitzt eng, wo es weit sein sollte.",
            "Beim nächsten Mal nehme ich es größer, schmal geschnitten.",
        ),
        (
            "Meine übliche Größe, weder eng noch weit.",
            "Musste nichts tauschen, weder größer noch kleiner.",
            "Nicht zu schmal und nicht zu breit geschnitten.",
        ),
        (
            "Musste es gegen die nächste Größe nach unten tauschen.",
            "Sitzt weit, wo es eng sein sollte.",
            "Beim nächsten Mal nehme ich es kleiner, breit geschnitten.",
        ),
    ),
    (
        (
            "Tuve que cambiarlo por una talla más.",
            "Queda justo donde debería quedar suelto.",
            "La próxima vez lo pediría más grande, es estrecho.",
        ),
        (
            "Es mi talla de siempre, ni justo ni suelto.",
            "No tuve que cambiarlo por una talla más ni menos.",
            "Ni estrecho ni ancho, pediría la misma talla.",
        ),
        (
            "Tuve que cambiarlo por una talla menos.",
            "Queda suelto donde debería quedar justo.",
            "La próxima vez lo pediría más pequeño, es ancho.",
        ),
    ),
)
OTHER_SENTENCES = (
    (
        "The colour is as in the picture.",
        "The seams are well made.",
        "It came after two days.",
        "Bought it for my brother's wedding.",
        "The fabric is soft and a little thin.",
    ),
    (
        "Die Farbe ist wie auf dem Bild.",
        "Die Nähte sind gut verarbeitet.",
        "Kam nach zwei Tagen an.",
        "Der Stoff ist weich und etwas dünn.",
    ),
    (
        "El color es como en la foto.",
        "Las costuras están bien hechas.",
        "Llegó en dos días.",
        "La tela es suave y un poco fina.",
    ),
)


@dataclass(frozen=True, eq=False)
class Garments:
    """A log, and the truth that no method may see."""

    data: Dataset
    """Events (value 0 too small, 1 fits, 2 too large, null where no one told), items, users with
    measurements, reviews.
    """
    offsets: dict[str, float]
    """Product -> sizes by which it runs small; negative where it runs large."""
    probabilities: np.ndarray
    """(n, 3) probability of each outcome of each event, in the order of the events."""


def garments(
    people: int = 3_000,
    products: int = 3_000,
    sizes: int = 5,
    events: int = 24_000,
    brands: int = 20,
    offset: float = 1.2,
    outcome_share: float = 0.35,
    review_share: float = 0.8,
    wrong_share: float = 0.15,
    measured_share: float = 0.7,
    seed: int = 0,
) -> Garments:
    """Make purchases of products in a size by people with a body; a size is the unit of lengths.

    A purchase is too small where the body and the product's offset are EASE above the size, give or
    take TASTE. Offsets have standard deviation `offset`, half of their variance by brand. Of the
    purchases a share `outcome_share` has a known outcome, and a share `review_share` is reviewed
    within ten days, whether the outcome is known or not. A share `wrong_share` of the reviews tells
    another outcome, and OFF_TOPIC of them tell none. A share `measured_share` of the people has
    measurements. The same arguments give the same log. Raises DataError for sizes below 1.
    """
    if min(people, products, sizes, events, brands) < 1 or offset < 0:
        raise DataError(
            f"people {people}, products {products}, sizes {sizes}, events {events}, brands"
            f" {brands}: at least 1 each; offset {offset}: at least 0"
        )
    rng = random_of(seed, "garments")
    bodies = _bodies(people, sizes, rng)  # U, 2: above and below the waist
    category = rng.integers(len(CATEGORIES), size=products)
    brand = rng.integers(brands, size=products)
    by_brand = rng.normal(0, offset / np.sqrt(2), brands)
    offsets = by_brand[brand] + rng.normal(0, offset / np.sqrt(2), products)
    purchases = _purchases(events, bodies, category, offsets, sizes, rng)
    product_ids = opaque_ids("p-", products, seed)
    user_ids = opaque_ids("u-", people, seed)
    item_ids = opaque_ids("i-", products * sizes, seed)
    outcomes = np.where(rng.random(events) < outcome_share, purchases.outcomes, np.nan)
    log = pl.DataFrame(
        {
            "user_id": user_ids[purchases.buyers],
            "item_id": item_ids[purchases.products * sizes + purchases.sizes],
            "time_ms": START_MS + HOUR_MS * np.arange(events),
            "value": pl.Series(outcomes).fill_nan(None),
        }
    )
    tables = {
        "events": log,
        "items": _items(item_ids, product_ids, category, brand, sizes),
        "users": _measurements(user_ids, bodies, measured_share, rng),
        "texts": _reviews(log, purchases.outcomes, review_share, wrong_share, rng),
    }
    truth = dict(zip(product_ids.to_list(), offsets.tolist(), strict=True))
    return Garments(Dataset(tables, f"garments-{seed}"), truth, purchases.probabilities)


class _Purchases(NamedTuple):
    buyers: np.ndarray  # n: rows of people
    products: np.ndarray  # n
    sizes: np.ndarray  # n
    outcomes: np.ndarray  # n
    probabilities: np.ndarray  # n, 3: of each outcome


def _purchases(
    events: int,
    bodies: np.ndarray,
    category: np.ndarray,
    offsets: np.ndarray,
    sizes: int,
    rng: np.random.Generator,
) -> _Purchases:
    """Draw purchases, each in about the size that the customer takes for theirs."""
    buyers = rng.integers(len(bodies), size=events)
    products = (len(category) * rng.random(events) ** 1.5).astype(int)  # some sell more
    body = _relevant(bodies[buyers], category[products])
    size = np.clip(np.rint(body + rng.normal(0, GUESS, events)), 0, sizes - 1).astype(int)
    gap = body - size + offsets[products]
    too_small = ndtr((gap - EASE) / TASTE)
    too_large = ndtr((-gap - EASE) / TASTE)
    probabilities = np.stack([too_small, 1 - too_small - too_large, too_large], axis=1)
    outcomes = (rng.random(events)[:, None] > probabilities.cumsum(axis=1)[:, :2]).sum(axis=1)
    return _Purchases(buyers, products, size, outcomes, probabilities)


def _items(
    item_ids: pl.Series,
    product_ids: pl.Series,
    category: np.ndarray,
    brand: np.ndarray,
    sizes: int,
) -> pl.DataFrame:
    """Return the items, every product in every size."""
    product = np.repeat(np.arange(len(product_ids)), sizes)
    size_codes = np.tile(np.arange(sizes), len(product_ids))
    return pl.DataFrame(
        {
            "item_id": item_ids,
            "product": product_ids[product],
            "size": [f"size {code}" for code in size_codes.tolist()],
            "category": [CATEGORIES[code] for code in category[product].tolist()],
            "brand": [f"brand {code}" for code in brand[product].tolist()],
        }
    )


def _bodies(people: int, sizes: int, rng: np.random.Generator) -> np.ndarray:
    """Return (U, 2) sizes of the body above and below the waist, alike but not the same."""
    common = rng.normal(0, sizes / 5, people)
    difference = rng.normal(0, 0.5, (people, 2))
    return np.asarray((sizes - 1) / 2 + common[:, None] + difference)


def _relevant(bodies: np.ndarray, category: np.ndarray) -> np.ndarray:
    """Return (n,) the size that a garment's category asks for: above, below, or both."""
    above, below = bodies.T
    return np.choose(category, [above, below, (above + below) / 2])


def _measurements(
    user_ids: pl.Series, bodies: np.ndarray, measured_share: float, rng: np.random.Generator
) -> pl.DataFrame:
    """Return the users with chest, waist and height in centimetres; null for many."""
    noise = rng.normal(0, 2.0, (len(bodies), 3))
    chest = 90 + CENTIMETRES * bodies[:, 0] + noise[:, 0]
    waist = 74 + CENTIMETRES * bodies[:, 1] + noise[:, 1]
    height = 170 + 2.0 * bodies.mean(axis=1) + 4 * noise[:, 2]
    is_known = rng.random(len(bodies)) < measured_share
    columns = {"chest_cm": chest, "waist_cm": waist, "height_cm": height}
    table = {
        name: pl.Series(np.where(is_known, values.round(1), np.nan)).fill_nan(None)
        for name, values in columns.items()
    }
    return pl.DataFrame({"user_id": user_ids, **table})


def _reviews(
    log: pl.DataFrame,
    outcomes: np.ndarray,
    review_share: float,
    wrong_share: float,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Return reviews of some purchases, each in the language of its writer."""
    rows = np.flatnonzero(rng.random(len(log)) < review_share)
    reported = outcomes[rows]
    is_wrong = rng.random(len(rows)) < wrong_share
    other = (reported + rng.integers(1, 3, len(rows))) % 3
    reported = np.where(is_wrong, other, reported)
    is_off_topic = rng.random(len(rows)) < OFF_TOPIC
    languages = rng.integers(len(SIZE_SENTENCES), size=log["user_id"].n_unique())
    writers = log["user_id"].rank("dense").to_numpy().astype(int) - 1
    texts = [
        _review(int(languages[writers[row]]), int(code), bool(silent), rng)
        for row, code, silent in zip(rows, reported, is_off_topic, strict=True)
    ]
    delays = rng.integers(1, 10 * 24, len(rows)) * HOUR_MS
    return pl.DataFrame(
        {
            "user_id": log["user_id"][rows],
            "item_id": log["item_id"][rows],
            "time_ms": log["time_ms"].to_numpy()[rows] + delays,
            "text": texts,
        }
    )


def _review(language: int, outcome: int, is_off_topic: bool, rng: np.random.Generator) -> str:
    """Return two sentences in any order, one of them on the size unless it is off the topic."""
    others = OTHER_SENTENCES[language]
    first = others if is_off_topic else SIZE_SENTENCES[language][outcome]
    sentences = [str(rng.choice(first)), str(rng.choice(others))]
    return " ".join(sentences[:: int(rng.choice([-1, 1]))])
