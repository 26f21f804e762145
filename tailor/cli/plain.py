"""Make words of a data set, a file or an error safe for a terminal."""

CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Return a text without control characters, which could command the terminal."""
    return text.translate(CONTROLS)
