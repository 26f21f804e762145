"""Splitting text into words."""

import html
import re

WORD = re.compile(r"\w+(?:'\w+)?", re.UNICODE)


def words(text: str) -> list[str]:
    """Lower-case words and numbers in order, HTML entities decoded: `words("Salt &amp; 0.5-Ounce")` is ["salt", "0", "5", "ounce"]."""
    return WORD.findall(html.unescape(text).lower())
