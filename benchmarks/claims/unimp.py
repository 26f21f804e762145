"""UniMP where pictures alone show a taste: all that is read beside each part, and six tasks in one.

Planted facets: a user keeps to a kind and a colour and walks along the makers; titles name kind and
maker, pictures of 16 x 16 pixels show the colour. Two random states compare forms of the net of
next items that read both, texts, pictures, and the pictures of other items, in as many steps. In
the first state one net of six tasks stands beside five nets of one task, each with all of its
steps. Ratings have none: whether an item fits a history is not learned in so few steps, and a share
of chance would say nothing; their figure is printed. Reviews, which only the second part reads,
name the colour of the item.
"""

from collections.abc import Mapping
from colorsys import rgb_to_hsv
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from claim_tools import difference_interval, seeded

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import Ranking
from tailor.data.pictures import item_pictures, small_pictures
from tailor.data.queries import Queries
from tailor.data.splits import Split, split_by
from tailor.generative.tiger import TIGER
from tailor.metrics.prediction import auc
from tailor.metrics.rouge import rouge_l
from tailor.papers.generative.unimp import TASKS, UniMP
from tailor.retrieval.covisitation import CoVisitation
from tailor.text.hashing import HashingEncoder
from tailor.text.words import words
from tailor.worlds.facets import Facets, facets
from tailor.worlds.pictures import COLOURS

PEOPLE, KIND, MAKER, COLOUR = 300, 0, 1, 2
COPIES = 4  # of an item: too many to know by heart, and with colours more than a list is long
OPTIONS = 4  # pictures among which one is selected
TEXTS = HashingEncoder(64)
SETTINGS = UniMP(
    encoder=TEXTS, levels=2, codes="additive", words=12, lr=6e-3, batch_places=512, word_dropout=0.1
)
STATES = (0, 1)
STEPS, JOINT_STEPS = 160, 250
JUDGED = tuple(task for task in TASKS if task != "preference")
LOST, KEPT, TIMES = 0.8, 0.95, 2.0


def measure(run: Run) -> Claim:
    """Parts of what is read, two random states; six tasks together and alone in the first."""
    return measured(run, JOINT_STEPS)


def measure_long(run: Run) -> Claim:
    """The same with four times as many steps for the tasks."""
    return measured(run, 4 * JOINT_STEPS)


def measured(run: Run, joint_steps: int) -> Claim:
    """Return the claim, the nets of tasks trained in so many steps."""
    rows = [on_parts(seeded(run, seed)) for seed in STATES]
    joint = on_tasks(seeded(run, STATES[0]), joint_steps)
    kept = [share >= KEPT for share in joint["together / alone"].values()]
    checks = {
        "above texts alone, every state": all(row["over text"]["low"] > 0 for row in rows),
        "above pictures alone, every state": all(row["over pictures"]["low"] > 0 for row in rows),
        "pictures of other items lose 0.8 of the gain, every state": all(
            row["share lost"] >= LOST for row in rows
        ),
        "together keeps 0.95 of alone in 4 of 5 tasks": sum(kept) >= len(kept) - 1,
        "drawn pictures have the user's colour twice as often as by chance": (
            joint["together"]["img_gen"] >= TIMES / len(COLOURS)
        ),
    }
    return Claim(checks, {"parts": rows, "tasks": joint}, list(STATES), ["facets"])


def planted(seed: int) -> Facets:
    """Return the world: a kept colour that only pictures show."""
    return facets(
        PEOPLE,
        10,
        seed=seed,
        values=(4, 12, 6),
        kept=("kind", "colour"),
        walked=("maker",),
        wished=(),
        copies=COPIES,
        named=("kind", "maker"),
        drawn=("colour",),
        side=16,
    )


# --- parts of what is read


def on_parts(run: Run) -> dict[str, Any]:
    """Return hits of each form, and leads at 10 of the full one with intervals over users."""
    data = planted(run.seed).data
    split = split_by(data, "last")
    others = split_by(with_other_pictures(data, run), "last")
    alone = replace(SETTINGS, tasks=("rec",))
    forms = {
        "both": (alone, split),
        "text": (replace(alone, reads="text"), split),
        "pictures": (replace(alone, reads="pictures"), split),
        "other pictures": (alone, others),
    }
    if run.seed == STATES[0]:
        forms["gamma 0"] = (replace(alone, gamma=0.0), split)
    fitted = {name: fit_steps(method, part, STEPS, run) for name, (method, part) in forms.items()}
    hits = {name: hits_at(method, split) for name, method in fitted.items()}
    hits["gates shut"] = hits_at(with_shut_gates(fitted["both"]), split)
    rivals = {
        "TIGER": TIGER(encoder=TEXTS, levels=2, codes="additive", words=12, patience=None),
        "co-visitation": CoVisitation(),
    }
    if run.seed == STATES[0]:
        for name, rival in rivals.items():
            hits[name] = hits_at(rival.fit(split.train, run), split)
    gain = hits["both"].mean(axis=0)[1] - hits["text"].mean(axis=0)[1]
    left = hits["other pictures"].mean(axis=0)[1] - hits["text"].mean(axis=0)[1]
    return {
        "seed": run.seed,
        "users": len(hits["both"]),
        "HR@1": {name: round(float(values[:, 0].mean()), 4) for name, values in hits.items()},
        "HR@10": {name: round(float(values[:, 1].mean()), 4) for name, values in hits.items()},
        **{
            f"over {name}": difference_interval((hits["both"] - hits[name])[:, 1], run.seed)
            for name in hits
            if name != "both"
        },
        "share lost": round(float(1 - left / gain), 4) if gain > 0 else 0.0,
        "gates": fitted["both"].fit_report_["gates"],
        "steps": {name: method.fit_report_["steps"] for name, method in fitted.items()},
    }


def fit_steps(method: UniMP, split: Split, steps: int, run: Run) -> UniMP:
    """Fit a form in about as many steps as any other, whatever its records are long."""
    probe = replace(method, epochs=1).fit(split.train, replace(run, deadline_s=0.0))
    epochs = max(1, round(steps / probe.fit_report_["steps_per_epoch"]))
    return replace(method, epochs=epochs).fit(split.train, run)


def with_other_pictures(data: Dataset, run: Run) -> Dataset:
    """Return the data with the pictures of items given to others, by chance."""
    items = data.tables["items"]
    order = run.rng("other pictures").permutation(len(items))
    moved = items.with_columns(asset=items["asset"].gather(order))
    return Dataset({**data.tables, "items": moved}, f"{data.name}-other-pictures")


def with_shut_gates(method: UniMP) -> UniMP:
    """Return a fitted form that sees no picture: what else of it tells the colour."""
    shut = replace(method)
    weights = {
        name: np.zeros_like(values) if name.endswith(".gate") else values
        for name, values in method.net_weights_.items()
    }
    shut.__dict__ |= method.state() | {"net_weights_": weights}
    return shut


def hits_at(method: Any, split: Split, texts: np.ndarray | None = None) -> np.ndarray:
    """Return (U, 2) float: whether the target is the first, and among ten, seen removed."""
    queries, targets = split.queries("test")
    asked = replace(queries.without_history(), texts=texts)
    rows = method.recommend(asked, 10).reindexed(queries.catalogue).rows
    is_target = rows == targets.values[:, None]
    return np.column_stack([is_target[:, 0], is_target.any(axis=1)]).astype(float)


# --- six tasks


def on_tasks(run: Run, steps: int) -> dict[str, Any]:
    """Return the figure of each task from one net, and from nets of one task."""
    world = planted(run.seed)
    data = with_reviews(world, run)
    split = split_by(data, "last")
    together = fit_steps(SETTINGS, split, steps, run)
    alone = {
        task: fit_steps(replace(SETTINGS, tasks=(task,)), split, steps, run) for task in JUDGED
    }
    exam = Exam(world, split, run)
    joint = {task: exam.mark(together, task) for task in TASKS}
    single = {task: exam.mark(method, task) for task, method in alone.items()}
    return {
        "together": joint,
        "alone": single,
        "chance": exam.chances(),
        "together / alone": {
            task: round(joint[task] / max(single[task], 1e-9), 4) for task in JUDGED
        },
        "colours told from pictures as they are": exam.told_colours(),
        "gates": together.fit_report_["gates"],
        "steps": {
            "together": together.fit_report_["steps"],
            **{task: method.fit_report_["steps"] for task, method in alone.items()},
        },
    }


def with_reviews(world: Facets, run: Run) -> Dataset:
    """Return the data with a review of each event, in words that name the item's colour."""
    items = world.truth.items
    events = world.data.events
    rows = world.data.catalogue.codes(events["item_id"])
    goods = (events["value"] > 3).to_list()
    patterns = ("this {colour} {kind} is just what I like", "a {colour} {kind} is not for me")
    texts = []
    for row, is_good in zip(rows.tolist(), goods, strict=True):
        code = items.codes[row]
        colour, kind = items.words[COLOUR][code[COLOUR]], items.words[KIND][code[KIND]]
        texts.append(patterns[0 if is_good else 1].format(colour=colour, kind=kind))
    reviews = events.select("user_id", "item_id", "time_ms").with_columns(text=pl.Series(texts))
    return Dataset({**world.data.tables, "texts": reviews}, f"{world.data.name}-reviews")


class Exam:
    """Figures of fitted forms on the last event of every user, by the truth of the world."""

    def __init__(self, world: Facets, split: Split, run: Run) -> None:
        self.split = split
        self.items = world.truth.items
        queries, targets = split.queries("test", columns=["values"])
        self.queries: Queries = queries
        self.targets = queries.catalogue.named(targets.values)
        self.rows = self.items.catalogue.rows(self.targets)
        users = world.data.users.rows(queries.user_ids.tolist())
        self.tastes = world.truth.ways[users, -1, COLOUR]
        fits = world.truth.ways[users, -1]
        self.fitting = self.items.catalogue.named(self.items.draw(fits, run.rng("fitting")))
        catalogue_rows = run.rng("any").integers(len(self.items.codes), size=(len(users), OPTIONS))
        self.others = [self.items.catalogue.named(rows) for rows in catalogue_rows]
        ids = world.data.catalogue.ids.tolist()
        self.pictures = dict(zip(ids, item_pictures(world.data), strict=True))
        texts = split.data.tables["texts"]
        keys = zip(texts["user_id"], texts["item_id"], strict=True)
        self.reviews = dict(zip(keys, texts["text"], strict=True))

    def mark(self, method: UniMP, task: str) -> float:
        """Return the figure of a task; higher is better."""
        return round(float(getattr(self, f"_{task}")(method)), 4)

    def chances(self) -> Mapping[str, float]:
        """Return what guessing gives where it gives something."""
        return {"img_sel": 1 / OPTIONS, "img_gen": round(1 / len(COLOURS), 4), "preference": 0.5}

    def told_colours(self) -> float:
        """Return the share of the items' own pictures whose colour `colour_of` tells."""
        pixels, _ = small_pictures([self.pictures[item_id] for item_id in self.targets], 16)
        colours = np.array([colour_of(picture) for picture in pixels])
        return round(float((colours == self.items.codes[self.rows, COLOUR]).mean()), 4)

    def _rec(self, method: UniMP) -> float:
        return hits_at(method, self.split)[:, 1].mean()

    def _search(self, method: UniMP) -> float:
        titles = self.split.data.texts_of("title")
        rows = self.split.data.catalogue.rows(self.targets).tolist()
        texts = np.array([titles[row] for row in rows], dtype=object)
        return hits_at(method, self.split, texts)[:, 1].mean()

    def _exp(self, method: UniMP) -> float:
        """Return the mean ROUGE-L of reasons for the targets, with what the users wrote."""
        lists = [Ranking((item_id,), np.zeros(1)) for item_id in self.targets]
        scores = []
        for i, (reason,) in enumerate(method.explain(self.queries, lists)):
            review = self.reviews[self.queries.user_ids[i], reason.item_id]
            scores.append(rouge_l(words(reason.text), words(review)))
        return float(np.mean(scores))

    def _img_sel(self, method: UniMP) -> float:
        options = [
            [self.pictures[item_id] for item_id in (target, *others[1:])]
            for target, others in zip(self.targets, self.others, strict=True)
        ]
        shares = method.suits(self.queries, options)
        return np.mean([values[0] > values[1:].max() for values in shares])

    def _img_gen(self, method: UniMP) -> float:
        colours = np.array([colour_of(picture) for picture in method.draw(self.queries)])
        return (colours == self.tastes).mean()

    def _preference(self, method: UniMP) -> float:
        """Return the AUC of what a user's ways ask for over any item."""
        pairs = [[mine, others[0]] for mine, others in zip(self.fitting, self.others, strict=True)]
        ratings = np.array(method.rate(self.queries, pairs))
        return auc(np.tile([1.0, 0.0], len(ratings)), ratings.ravel())


def colour_of(pixels: np.ndarray) -> int:
    """Return the number of the colour that most vivid pixels are nearest to; -1 without any."""
    points = pixels.reshape(-1, 3) / 255
    spread = points.max(axis=1) - points.min(axis=1)
    vivid = points[(spread > 0.25 * points.max(axis=1)) & (spread > 0.15)]
    if not len(vivid):
        return -1
    hues = np.array([hue(*point) for point in vivid.tolist()])
    own = np.array([hue(*colour) for colour in COLOURS.values()])
    distances = np.abs(hues[:, None] - own)
    nearest = np.minimum(distances, 1 - distances).argmin(axis=1)
    return int(np.bincount(nearest).argmax())


def hue(red: float, green: float, blue: float) -> float:
    """Return the hue of a colour, from 0 to 1."""
    return rgb_to_hsv(red, green, blue)[0]
