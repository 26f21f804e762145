"""A request in other words, by frames that change its manner and not its meaning."""

FRAMES = (
    "{}",
    "please recommend {}",
    "I am looking for {}",
    "{}, thanks",
    "could you suggest {}?",
    "what is there of {}",
    "my friend asked for {}",
    "hi, do you know {}?",
)


def reworded(text: str, count: int) -> list[str]:
    """Return a request in up to `count` manners of English, the first as it is."""
    return [frame.format(text) for frame in FRAMES[: max(count, 1)]]
