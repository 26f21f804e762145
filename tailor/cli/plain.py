"""Words of a data set, a file or an error on their way to a terminal."""

CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def shown(text: str) -> str:
    """Without control characters: what stands in a file must not command the terminal."""
    return text.translate(CONTROLS)
