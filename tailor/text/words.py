"""Splitting text into words."""

import html
import re

UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # kana and Chinese characters stand without spaces: each counts as a word
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+(?:'[^\W{UNSPACED}]+)?", re.UNICODE)


def words(text: str) -> list[str]:
    """Lower-case words and numbers in order, HTML entities decoded: `words("Salt &amp; 0.5-Ounce")` is ["salt", "0", "5", "ounce"]."""
    return WORD.findall(html.unescape(text).lower())
