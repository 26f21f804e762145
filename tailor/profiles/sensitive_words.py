"""Tell what is sensitive in a text: the one list that memories and stores of entities share.

It is a list of English words. What it misses is not thereby harmless.
"""

import re
from functools import cache

from tailor.text.words import search_words

SPECIAL = """
abortion- abuse abused addict- adhd alcoholi- allerg- antidepress- anxiety asthma- autis-
"blood pressure" cancer chemo chemotherapy contracepti- depress- diabet- diagnos- disab- disease
epilep- hepatitis herpes hiv ibs illness infertil- insulin lithium
medicat- miscarriage obes- pregnan- prozac psychiatr- rehab schizophreni- suicid- syphilis therap-
tumour tumor
wheelchair
atheis- buddhis- catholic- christian- church churches halal hijab hindu- islam- jew jewish judaism
kosher
mosque muslim prayer relig- synagogue
bisexual- erotic- gay gender homosexual- lesbian- lgbt nude nudist nudity porn- queer rape raped sex
sexual- trans transgender-
communis- democrat- ethnic- immigra- nazi politic- racis- refugee republican- socialis- vote voted
voting "union member"
"""
"""Words of health, faith, love and politics; a dash stands for any ending."""
PRIVATE = """
arrest- bankrupt- convict- debt divorc- iban income loan mortgage passport password prison salary
"""
"""Words of money, family and trouble with the law."""


def _pattern(words: str) -> re.Pattern[str]:
    """Return a pattern that finds the words of a list, in the plural too."""
    parts = [quoted or word for quoted, word in re.findall(r'"([^"]+)"|(\S+)', words)]
    stems = [f"{part[:-1]}\\w*" if part.endswith("-") else f"{part}(?:s|es)?" for part in parts]
    return re.compile(rf"\b(?:{'|'.join(stems)})\b", re.IGNORECASE)


_SPECIAL = _pattern(SPECIAL)
_PRIVATE = _pattern(PRIVATE)


def sensitivity_of(text: str) -> int:
    """Return 3 for health, faith, love and politics, 2 for private affairs, else 0."""
    if _SPECIAL.search(text):
        return 3
    return 2 if _PRIVATE.search(text) else 0


def is_sensitive(name: str, further: frozenset[str] = frozenset()) -> bool:
    """Return whether a name holds a sensitive word, or one of further words in any form."""
    if sensitivity_of(name):
        return True
    return not _stems_of(further).isdisjoint(search_words(name, "english"))


@cache
def _stems_of(names: frozenset[str]) -> frozenset[str]:
    return frozenset(stem for name in names for stem in search_words(name, "english"))
