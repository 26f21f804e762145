"""A planted map of routes that overlap, and travellers whose purpose tells who they may be.

Shapes: P places, K routes of a place, F features, T tastes, V purposes, R requests.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.data.nouns import Query, Ranking
from tailor.errors import DataError
from tailor.worlds.seeds import START_MS, opaque_ids, random_of

FEATURES = ("minutes", "toll", "green")
SEGMENTS = 12  # of a route
MINUTE_MS = 60_000
ALIKE = 0.8  # share of segments in common from which two routes are one to a traveller


@dataclass(frozen=True, eq=False)
class Routes:
    """A log to learn from, and requests of later travellers with what they would take."""

    data: Dataset
    """Requests with a purpose, all routes of their place as impressions, one taken by an event."""
    queries: list[Query]
    """Later requests; the context holds the purpose."""
    candidates: list[Ranking]
    """The routes of each request's place, in any order."""
    taken: list[str]
    """The route that each of the requests would take."""
    useful: list[frozenset[str]]
    """For each request, routes that are best for somebody who may ask so."""
    segments: dict[str, frozenset[str]]
    """Route id -> its segments."""

    def overlap(self, route: str, other: str) -> float:
        """Return the share of the segments of two routes that they have in common (Jaccard)."""
        shared = len(self.segments[route] & self.segments[other])
        return shared / len(self.segments[route] | self.segments[other])

    def different(self, useful: frozenset[str]) -> int:
        """Return the number of routes that are left when those that are one are counted once."""
        counted: list[str] = []
        for route in sorted(useful):
            if all(self.overlap(route, other) <= ALIKE for other in counted):
                counted.append(route)
        return len(counted)


def routes(
    requests: int = 3_000,
    asked: int = 400,
    places: int = 60,
    corridors: int = 4,
    variants: int = 3,
    tastes: int = 6,
    purposes: int = 8,
    seed: int = 0,
    *,
    spread: float = 0.3,
    noise: float = 0.3,
) -> Routes:
    """Make a log of `requests` requests for routes at `places`, and `asked` later ones.

    A place has routes of `corridors`, `variants` of each, which share most of their segments. A
    route has minutes, a toll and green, mostly those of its corridor: variants differ by `spread`.
    A traveller has one of `tastes`, which weighs these features, and takes the best route after
    `noise` (both in standard deviations). A purpose is compatible with one to four tastes: it says
    who the traveller may be, and no more.

    The same arguments give the same log. Raises DataError for sizes that cannot be.
    """
    sizes = (requests, asked, places, corridors, variants, purposes)
    if min(sizes) < 1 or tastes < 4:
        raise DataError(
            f"requests {requests}, asked {asked}, places {places}, corridors {corridors}, variants"
            f" {variants}, purposes {purposes}, tastes {tastes}: at least 1 each, 4 tastes"
        )
    rng = random_of(seed, "routes")
    size = corridors * variants
    features = _features(places, corridors, variants, spread, rng)  # P, K, F
    segments = [_segments(corridors, variants, place, rng) for place in range(places)]
    weights = rng.normal(size=(tastes, len(FEATURES)))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    values = features @ weights.T  # P, K, T
    compatible = _compatible(purposes, tastes, rng)  # V, T
    total = requests + asked
    place = rng.integers(places, size=total)
    purpose = rng.integers(purposes, size=total)
    taste = (compatible[purpose] * rng.random((total, tastes))).argmax(axis=1)
    noisy_values = values[place, :, taste] + rng.normal(0.0, noise, (total, size))
    best = noisy_values.argmax(axis=1)
    route_ids = np.array(opaque_ids("r-", places * size, seed).to_list()).reshape(places, size)
    shuffled = rng.permuted(np.tile(np.arange(size), (total, 1)), axis=1)
    shown = route_ids[place[:, None], shuffled]  # R, K
    taken = route_ids[place, best]
    data = Dataset(
        {
            **_log(shown[:requests], taken[:requests], purpose[:requests], seed),
            "items": _items(route_ids, features, segments),
        },
        f"routes-{seed}",
    )
    later = range(requests, total)
    favourites = values.argmax(axis=1)  # P, T
    useful = [
        frozenset(route_ids[place[i], favourites[place[i]][compatible[purpose[i]]]].tolist())
        for i in later
    ]
    return Routes(
        data,
        [Query(context={"purpose": f"purpose {purpose[i]}"}) for i in later],
        [Ranking(tuple(shown[i].tolist()), np.zeros(size, np.float32)) for i in later],
        taken[requests:].tolist(),
        useful,
        {
            route_id: frozenset(names)
            for ids, of_place in zip(route_ids.tolist(), segments, strict=True)
            for route_id, names in zip(ids, of_place, strict=True)
        },
    )


def _features(
    places: int, corridors: int, variants: int, spread: float, rng: np.random.Generator
) -> np.ndarray:
    """Return (P, K, F) features of routes, standard normal over corridors."""
    of_corridors = rng.normal(size=(places, corridors, 1, len(FEATURES)))
    of_variants = rng.normal(0.0, spread, (places, corridors, variants, len(FEATURES)))
    features = of_corridors + of_variants
    return np.asarray(features.reshape(places, corridors * variants, -1))


def _segments(
    corridors: int, variants: int, place: int, rng: np.random.Generator
) -> list[list[str]]:
    """Return the segments of every route of a place; the ends are common to all."""
    routes_so_far = []
    for corridor in range(corridors):
        trunk = [f"{place}-{corridor}-{number}" for number in range(SEGMENTS - 2)]
        for variant in range(variants):
            leaves_trunk = rng.random(len(trunk)) < rng.uniform(
                0.0, 0.4
            )  # where it leaves the trunk
            path = [
                f"{name}-{variant}" if leaves else name
                for name, leaves in zip(trunk, leaves_trunk.tolist(), strict=True)
            ]
            routes_so_far.append([f"{place}-from", *path, f"{place}-to"])
    return routes_so_far


def _compatible(purposes: int, tastes: int, rng: np.random.Generator) -> np.ndarray:
    """Return (V, T) bool: one to four tastes of each purpose, in turn."""
    order = rng.random((purposes, tastes)).argsort(axis=1).argsort(axis=1)
    counts = 1 + np.arange(purposes) % 4
    return np.asarray(order < counts[:, None])


def _log(
    shown: np.ndarray, taken: np.ndarray, purpose: np.ndarray, seed: int
) -> dict[str, pl.DataFrame]:
    """Return requests, impressions of routes (R, K), and events of what was taken (R,)."""
    count, size = shown.shape
    request_ids = np.array(opaque_ids("q-", count, seed).to_list())
    user_ids = np.array(opaque_ids("u-", count, seed).to_list())
    times = START_MS + MINUTE_MS * np.arange(count)
    return {
        "requests": pl.DataFrame(
            {
                "request_id": request_ids,
                "user_id": user_ids,
                "time_ms": times,
                "purpose": [f"purpose {number}" for number in purpose.tolist()],
            }
        ),
        "impressions": pl.DataFrame(
            {
                "request_id": np.repeat(request_ids, size),
                "position": np.tile(np.arange(size), count),
                "item_id": shown.ravel(),
            }
        ),
        "events": pl.DataFrame(
            {
                "user_id": user_ids,
                "item_id": taken,
                "time_ms": times + 1,
                "request_id": request_ids,
            }
        ),
    }


def _items(
    route_ids: np.ndarray, features: np.ndarray, segments: list[list[list[str]]]
) -> pl.DataFrame:
    """Return the items table: a route's features and segments."""
    columns = {
        name: features[:, :, number].ravel().round(4) for number, name in enumerate(FEATURES)
    }
    flat = [names for of_place in segments for names in of_place]
    return pl.DataFrame({"item_id": route_ids.ravel(), **columns, "segments": flat})
