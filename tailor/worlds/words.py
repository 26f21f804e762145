"""Words of planted worlds: syllables of invented ones, and those of an outdoor shop."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SYLLABLES = (  # of invented words
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "ka",
    "le",
    "mi",
    "no",
    "pu",
    "ra",
    "se",
    "ti",
    "vo",
    "zu",
)
CATEGORIES = {  # name: (day of the year when it sells best, how strongly it follows the season)
    "camping": (200, 1.0),
    "camp kitchen": (195, 0.7),
    "hiking": (160, 0.5),
    "climbing": (150, 0.5),
    "cycling": (140, 0.7),
    "running": (110, 0.4),
    "skiing": (15, 1.6),
    "water sports": (195, 1.4),
    "fishing": (130, 0.8),
    "travel": (180, 0.6),
}
MATERIALS = {
    "fabric": ("ripstop nylon", "recycled polyester", "waxed cotton", "canvas"),
    "wear": ("merino wool", "softshell", "fleece", "organic cotton"),
    "metal": ("titanium", "aluminium", "stainless steel", "bamboo"),
    "shell": ("carbon fibre", "polycarbonate", "cork", "natural rubber"),
    "care": ("plant-based", "unscented", "refillable", "concentrated"),
    "food": ("vegan", "high-protein", "gluten-free", "sugar-free"),
}
BRANDS = (
    "Norrland",
    "Tarnfell",
    "Kestrel",
    "Bracken",
    "Solvane",
    "Huldra",
    "Oakhaven",
    "Pinnacle",
    "Marlow",
    "Fjordline",
    "Cairnway",
    "Wildermark",
    "Lumenry",
    "Driftwell",
    "Ashby",
    "Tindale",
    "Vantor",
    "Quillon",
    "Harrow",
    "Saltmarsh",
)
COLOURS = (
    "navy",
    "forest green",
    "charcoal",
    "scarlet",
    "mustard",
    "turquoise",
    "sand",
    "plum",
    "orange",
    "sky blue",
    "ivory",
    "lime",
)
STYLES = (
    "compact",
    "everyday",
    "playful",
    "luxurious",
    "ultralight",
    "rugged",
    "minimalist",
    "retro",
)
STYLES_OF_CONSUMABLES = 4  # the first ones; an energy gel is not rugged


@dataclass(frozen=True)
class Kind:
    """A kind of item."""

    name: str
    category: str
    price: float
    """Mean price of the kind."""
    material: str
    """Group of MATERIALS."""
    goes_with: tuple[str, ...]
    """Names of kinds that are bought together with it."""
    cycle_days: int = 0
    """Days that a consumable lasts; 0 for lasting goods."""


def _kinds(category: str, *rows: tuple[Any, ...]) -> list[Kind]:
    """Return the kinds of a category from rows of name, price, material, matches, cycle."""
    return [
        Kind(name, category, price, material, tuple(goes.split("+")), *cycle)
        for name, price, material, goes, *cycle in rows
    ]


KINDS = [
    *_kinds(
        "camping",
        ("tent", 220, "fabric", "sleeping bag+sleeping mat+lantern"),
        ("sleeping bag", 120, "wear", "sleeping mat+tent"),
        ("sleeping mat", 70, "fabric", "sleeping bag+tent"),
        ("lantern", 35, "metal", "tent+camp chair+camp stove"),
        ("camp chair", 50, "fabric", "lantern+camp stove+mug"),
    ),
    *_kinds(
        "camp kitchen",
        ("camp stove", 65, "metal", "gas canister+cook pot+trail meal"),
        ("cook pot", 40, "metal", "camp stove+mug"),
        ("mug", 15, "metal", "cook pot+water bottle"),
        ("gas canister", 8, "care", "camp stove+trail meal", 28),
        ("trail meal", 9, "food", "gas canister+cook pot", 21),
    ),
    *_kinds(
        "hiking",
        ("backpack", 110, "fabric", "water bottle+rain jacket+trekking poles"),
        ("hiking boots", 150, "shell", "trekking poles+backpack"),
        ("trekking poles", 60, "shell", "hiking boots+backpack"),
        ("rain jacket", 130, "wear", "backpack+hiking boots"),
        ("water bottle", 20, "metal", "backpack+mug"),
    ),
    *_kinds(
        "climbing",
        ("climbing rope", 140, "fabric", "harness+carabiner"),
        ("harness", 70, "fabric", "carabiner+climbing rope"),
        ("climbing shoes", 95, "shell", "chalk+harness"),
        ("carabiner", 14, "metal", "climbing rope+harness"),
        ("chalk", 9, "care", "climbing shoes+harness", 35),
    ),
    *_kinds(
        "cycling",
        ("bike helmet", 80, "shell", "bike light+cycling jersey"),
        ("bike light", 30, "metal", "bike helmet+pannier"),
        ("pannier", 75, "fabric", "bike light+rain jacket"),
        ("cycling jersey", 60, "wear", "bike helmet+energy gel"),
        ("chain oil", 11, "care", "bike light+pannier", 42),
    ),
    *_kinds(
        "running",
        ("running shoes", 120, "shell", "running vest+running shorts"),
        ("running vest", 85, "fabric", "energy gel+headlamp"),
        ("running shorts", 40, "wear", "running shoes+running vest"),
        ("headlamp", 45, "metal", "running vest+tent"),
        ("energy gel", 6, "food", "running vest+running shoes", 18),
    ),
    *_kinds(
        "skiing",
        ("ski gloves", 60, "wear", "ski goggles+wool hat"),
        ("ski goggles", 95, "shell", "ski gloves+ski wax"),
        ("base layer", 65, "wear", "ski gloves+wool hat"),
        ("wool hat", 25, "wear", "ski gloves+base layer"),
        ("ski wax", 12, "care", "ski goggles+ski gloves", 24),
    ),
    *_kinds(
        "water sports",
        ("kayak paddle", 110, "shell", "dry bag+wetsuit"),
        ("dry bag", 30, "fabric", "kayak paddle+travel towel"),
        ("wetsuit", 170, "shell", "swim goggles+kayak paddle"),
        ("swim goggles", 22, "shell", "wetsuit+sunscreen"),
        ("sunscreen", 13, "care", "swim goggles+dry bag", 30),
    ),
    *_kinds(
        "fishing",
        ("fishing rod", 90, "shell", "fishing reel+tackle box"),
        ("fishing reel", 75, "metal", "fishing rod+bait"),
        ("tackle box", 35, "metal", "bait+fishing rod"),
        ("waders", 130, "wear", "fishing rod+tackle box"),
        ("bait", 7, "care", "tackle box+fishing reel", 16),
    ),
    *_kinds(
        "travel",
        ("duffel bag", 95, "fabric", "packing cubes+travel towel"),
        ("packing cubes", 28, "fabric", "duffel bag+travel towel"),
        ("travel towel", 18, "wear", "packing cubes+sunscreen"),
        ("travel pillow", 24, "wear", "duffel bag+packing cubes"),
        ("insect repellent", 10, "care", "travel towel+tent", 32),
    ),
]
MODELS = (
    "Alder",
    "Birch",
    "Comet",
    "Dune",
    "Ember",
    "Fern",
    "Glade",
    "Heron",
    "Isle",
    "Juniper",
    "Kite",
    "Larch",
    "Moss",
    "North",
    "Otter",
    "Pike",
    "Quartz",
    "Ridge",
    "Spruce",
    "Thistle",
    "Umber",
    "Vale",
    "Willow",
    "Yarrow",
)

# The kind of sentence says whether a user likes a trait: every sentence of dislike holds one of
# NEGATIONS, and no other sentence does.
NEGATIONS = ("not", "without", "never", "hardly")
LIKES = {
    "brand": (
        "{v} is the name I trust.",
        "I keep coming back to {v}.",
        "{v} got it right again.",
        "Typical {v}, which I mean as praise.",
    ),
    "colour": (
        "I love the {v}.",
        "The {v} is exactly my colour.",
        "Looks wonderful in {v}.",
        "The {v} made me smile.",
    ),
    "material": (
        "I look for {v} and this delivers.",
        "The {v} sold me.",
        "Being {v} is a plus.",
        "I like {v} best.",
    ),
    "style": (
        "Wonderfully {v}, just as I like it.",
        "I prefer {v} things and this fits.",
        "So {v}, perfect for me.",
        "{A} {v} design, my favourite.",
    ),
}
DISLIKES = {
    "brand": (
        "I am not a friend of {v}.",
        "{v} will not see me again soon.",
        "I would never have picked {v} by choice.",
    ),
    "colour": (
        "I could do without the {v}.",
        "The {v} is not for me.",
        "I would never choose {v} again.",
        "I can hardly look at the {v}.",
    ),
    "material": (
        "I could do without the {v}.",
        "Being {v} does not suit me.",
        "The {v} hardly helps.",
    ),
    "style": (
        "{A} {v} design is not my thing.",
        "Too {v}, and that is not what I want.",
        "I have never liked {v} things.",
    ),
}
WISHES = {
    "brand": ("Next time I will go back to {v}.", "{v} remains my favourite maker."),
    "colour": (
        "I wish there had been {v}.",
        "In {v} it would be perfect.",
        "I would gladly swap the colour for {v}.",
    ),
    "style": (
        "I usually go for {v} things.",
        "I am looking for something more {v}.",
        "{A} {v} version would suit me better.",
    ),
}
OPENERS = (
    "Took the {kind} {where} {when}.",
    "Bought the {kind} for a trip {where}.",
    "{When} the {kind} came along {where}.",
    "I have used my {kind} since I went {where}.",
    "The {kind} went {where} with us {when}.",
    "I gave the {kind} to a friend {when}.",
    "Ordered the {kind} {when} and went {where}.",
    "I needed the {kind} to go {where}.",
    "My {kind} arrived {when}.",
)
WHERE = (
    "to the lakes",
    "to the coast",
    "into the hills",
    "around the park",
    "along the river",
    "to the islands",
    "up north",
    "to the valley",
    "to the forest",
    "over the pass",
    "to the old quarry",
    "to the dunes",
    "round the bay",
    "to my sister's cabin",
    "to the moor",
)
WHEN = (
    "last weekend",
    "on Sunday",
    "in the rain",
    "in May",
    "before breakfast",
    "on my day off",
    "after work",
    "on a cold morning",
    "in strong wind",
    "over the holidays",
    "last week",
    "on a whim",
)
VERDICTS = {
    1: ("A disappointment.", "I sent it back.", "One star from me.", "Money wasted."),
    2: ("Below what I hoped for.", "It does the job, barely.", "I expected more.", "Two stars."),
    3: ("All right overall.", "Does what it says.", "Decent, nothing more.", "A fair choice."),
    4: ("Happy with it.", "A good buy.", "I would recommend it.", "Works very well."),
    5: (
        "Absolutely delighted.",
        "Best purchase this year.",
        "I would buy it again tomorrow.",
        "Five stars.",
        "A joy to use.",
    ),
}
CHEAP = ("The price was right.", "Good value.", "A bargain.")
DEAR = ("Too expensive for what it is.", "The price hurts.", "I paid more than I wanted.")
SEARCHES = (
    "{a} {kind}",
    "{kind} {a}",
    "{a} {b} {kind}",
    "{kind}",
    "{kind} {a} {b}",
    "looking for {a} {kind}",
    "best {a} {kind}",
    "{b} {kind}",
)
USES = (
    "day trips",
    "long weekends",
    "beginners",
    "people who are out every week",
    "wet weather",
    "family outings",
    "training",
    "first trips",
)
FEATURES = (
    "Easy to clean.",
    "Repairable, with spare parts in stock.",
    "Packs away small.",
    "Tested by our own staff.",
    "Two years of guarantee.",
    "Designed with local clubs.",
    "Ships in plain cardboard.",
    "Made in small batches.",
)
# groups of an item's traits, in the order of its columns
GROUPS = ("brand", "colour", "material", "style")


def pick(options: Sequence[str], draw: float) -> str:
    """Return one of the options by a draw from [0, 1)."""
    return options[int(draw * len(options))]


def article(word: str) -> str:
    """Return the indefinite article of a word, capitalised."""
    return "An" if word[0].lower() in "aeiou" else "A"


def _fill(sentences: Sequence[str], value: str, draw: float) -> str:
    """Return one of the templates with a value filled in."""
    return pick(sentences, draw).format(v=value, A=article(value), a=article(value).lower())


def title(kind: Kind, traits: Sequence[str], draws: Sequence[float]) -> str:
    """Return a title from brand, colour, material and style."""
    brand, colour, material, style = traits
    model = f"{pick(MODELS, draws[0])} {1 + int(draws[1] * 9)}"
    pack = " pack" if kind.cycle_days else ""
    return f"{brand} {model} {style} {material} {kind.name}, {colour}{pack}"


def description(kind: Kind, traits: Sequence[str], band: str, draws: Sequence[float]) -> str:
    """Return two or three sentences on an item of a price band."""
    brand, colour, material, style = traits
    look = f"in a {colour} pack" if kind.cycle_days else f"in {colour}"
    first = f"{style.capitalize()} {kind.name} for {kind.category} by {brand}, {material}, {look}."
    second = f"Made for {pick(USES, draws[2])}, at a {band} price."
    third = pick(FEATURES, draws[3])
    return f"{first} {second} {third}"


def review(
    kind: Kind,
    opinions: Sequence[tuple[str, str, bool]],
    wish: tuple[str, str] | None,
    rating: int,
    price: int,
    draws: Sequence[float],
) -> str:
    """Return a review: opener, opinions, a wish, a word on the price, a verdict.

    `opinions` are up to two of (group, value, liked), `wish` is (group, value), `price` 1 for too
    high, -1 for low.
    """
    when = pick(WHEN, draws[2])
    location = pick(WHERE, draws[1])
    opener = pick(OPENERS, draws[0]).format(
        kind=kind.name, where=location, when=when, When=when.capitalize()
    )
    middle = []
    for (group, value, is_liked), draw in zip(opinions, draws[3:5], strict=False):
        sentences = LIKES if is_liked else DISLIKES
        middle.append(_fill(sentences[group], value, draw))
    if wish is not None:
        middle.append(_fill(WISHES[wish[0]], wish[1], draws[5]))
    if price:
        middle.append(pick(DEAR if price > 0 else CHEAP, draws[6]))
    verdict = pick(VERDICTS[rating], draws[7])
    sentences_in_order = [opener, *middle, verdict]
    if draws[8] < 0.4:
        sentences_in_order = [verdict, *middle, opener]
    return " ".join(sentences_in_order)


def search(kind: Kind, traits: Sequence[str], draws: Sequence[float]) -> str:
    """Return a search for a kind with two traits, the better liked one first."""
    return pick(SEARCHES, draws[0]).format(kind=kind.name, a=traits[0], b=traits[1]).lower()


def attribute_names() -> np.ndarray:
    """Return (A,) "group: value" of every column of tastes and item attributes."""
    groups = {
        "category": CATEGORIES,
        "kind": [kind.name for kind in KINDS],
        "brand": BRANDS,
        "colour": COLOURS,
        "material": [value for values in MATERIALS.values() for value in values],
        "style": STYLES,
    }
    return np.array([f"{group}: {value}" for group, values in groups.items() for value in values])
