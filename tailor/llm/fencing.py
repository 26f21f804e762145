"""Fence foreign text in prompts.

Words of items and users are data. Whatever in them speaks to the model is taken out and reported.
"""

import re
import unicodedata
from dataclasses import dataclass

OPEN, CLOSE = "<<", ">>"  # around foreign text, which can hold neither
REMOVED = "[removed]"
MAX_CHARACTERS = 100_000  # of one text; the rest is cut off
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\U000e0000-\U000e0fff]"
)
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# White space within a line. The match is possessive: a run is read once, however long it is.
GAP = r"[^\S\n]*+"
MARKS = re.compile(
    r"<\|[^|>\n]{0,40}\|?>?|</?s>|\[/?(?:INST|SYS)\]|<</?SYS>>|"
    r"</?(?:system|assistant|user|human|tool|instructions?|prompt)>|"
    rf"(?:^|\n){GAP}#{{0,4}}+{GAP}(?:system|assistant|user|human|developer|ai|new"
    r" instructions?)\s*+(?:prompt|message)?\s*+:",
    re.IGNORECASE,
)
SENTENCE = re.compile(r"[^.!?\n;。！？]+(?:[.!?;。！？]+|\n|$)|[.!?\n;。！？]+")
# Cyrillic and Greek letters that look Latin
HOMOGLYPHS = str.maketrans("аеорсухіјѕԁɡαοινκτρυ", "aeopcyxijsdgaoivktpu")
LEET = str.maketrans("013457@$", "oieastas")

ABOUT = (
    r"(?:previous|prior|above|before|everything|earlier|preceding|all|any|other|your|these|"
    r"the|system|following)"
)
COMMANDS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # ignore the instructions
        (
            r"\b(?:ignore|disregard|forget|override|bypass|skip|discard|overrule|"
            r"do not follow|don'?t follow|stop following)\b.{0,40}"
            rf"\b{ABOUT}\b.{{0,40}}"
            r"\b(?:instructions?|rules?|prompts?|directions?|guidelines?|"
            r"orders?|context|messages?|constraints?|tasks?|items?|documents?|passages?|"
            r"texts?|criteria|request|said|told)\b"
        ),
        # new instructions
        (
            r"\b(?:new|updated?|real|actual|hidden|secret|important|urgent|"
            r"special)\s+(?:system\s+)?(?:instructions?|task|rules?|order|directive|prompt|"
            r"message)\b"
        ),
        # rank this first
        (
            r"\b(?:rank|rate|put|place|list|order|sort|score|move|position|recommend|choose|"
            r"select|pick|return|show|keep|grade)\b.{0,30}\b(?:this|me|it|us|item|document|"
            r"passage|product|option|candidate|number|\[?\d+\]?)\b.{0,40}\b(?:first|top|"
            r"highest|best|number one|no\.? ?1|#1|above|before|ahead|always|only|maximum|"
            r"10/10|100|last|lowest|bottom)\b"
        ),
        # answer only with
        (
            r"\b(?:respond|answer|reply|output|return|say|print|write|repeat|reveal|show|"
            r"tell)\b.{0,25}\b(?:only|with|exactly|nothing but|the word|your|back|json|"
            r"system)\b.{0,50}(?:\b(?:yes|no|true|json|prompt|instructions?|rules?|first|top|"
            r"key|password|secret|history|verbatim)\b|\[\d+\]|\d)"
        ),
        # you are now
        (
            r"\b(?:you are|you're|you will be|act|behave|pretend|roleplay|"
            r"imagine you are)\b.{0,15}\b(?:now|an?|as|to be|no longer)\b.{0,40}\b(?:ai|"
            r"assistant|model|ranker|judge|admin|administrator|developer|dan|unrestricted|"
            r"jailbroken|salesman|seller|expert|bot|grader|system)\b"
        ),
        # dear assistant
        (
            r"\b(?:as an?|dear|attention|note to|hey|hello|to the|message (?:for|"
            r"to))\b.{0,10}\b(?:ai|language model|assistant|llm|ranker|reranker|recommender|"
            r"judge|chatbot|gpt|model|bot|grader|system)\b"
        ),
        # the correct answer is
        (
            r"\b(?:the (?:correct|right|only|best|expected) (?:answer|order|ranking|output|"
            r"choice)|(?:correct|final|expected) (?:answer|ranking|order|output))\s*(?:is|:|=|"
            r"would be|should be|must be)"
        ),
        # this item is the best
        (
            r"\b(?:this|the following) (?:item|document|passage|product|"
            r"option)\b.{0,25}\b(?:is|must be|should be|has to be|deserves|"
            r"needs to be)\b.{0,25}\b(?:most relevant|ranked|rated|relevant to (?:all|any|"
            r"every)|first|top|number one|recommended|chosen|selected)\b"
        ),
        # end of the prompt
        (
            r"\b(?:end|begin|start) of (?:the )?(?:documents?|items?|texts?|prompt|"
            r"instructions?|data|context|user input)\b"
        ),
        # send the history to
        (
            r"\b(?:send|post|upload|forward|e-?mail|exfiltrate|leak)\b.{0,40}\b(?:history|"
            r"data|profile|conversation|prompt|users?)\b.{0,20}\bto\b"
        ),
        # ignore the instructions, in other languages
        (
            r"\bignor\w*\b.{0,30}\b(?:anweisung\w*|regeln|instrucciones|reglas|consignes|"
            r"instructions|istruzioni|instruções)\b"
        ),
        # ignore, in other languages
        (
            r"\b(?:ignoriere|missachte|vergiss|ignora|olvida|oublie[zr]?|ignorez|ignore[zr]?|"
            r"esqueça|dimentica|игнорируй|забудь)\b"
        ),
        # put first, in other languages
        (
            r"\b(?:setze|stelle|ordne|platziere|coloca|pon|mets?|mettez|classe[zr]?|metti|"
            r"coloque|поставь)\b.{0,40}\b(?:ersten?|oben|erste stelle|platz 1|primero|primer|"
            r"primera|premier|première|haut|tête|primo|primeiro|первое|первым)\b"
        ),
        # Chinese and Japanese
        (
            r"(?:忽略|无视|忘记|無視|忘れ).{0,20}(?:指令|指示|说明|規則|规则|命令|提示|内容)|(?:排|放|置).{0,10}(?:第一|首位|"
            r"最前|榜首|一番|1位)|(?:1位|一番|最初).{0,8}(?:にして|に置|してください)"
        ),
    )
]


@dataclass(frozen=True)
class Fenced:
    """A foreign text made safe for a prompt, and the parts taken out."""

    text: str
    """The text with its fence."""
    removed: tuple[str, ...] = ()
    """The sentences and marks taken out, as they were."""

    @property
    def is_suspicious(self) -> bool:
        """True where anything was taken out."""
        return bool(self.removed)


def fenced(text: str, is_kept: bool = False) -> Fenced:
    """Return a text without anything that ends its fence, plays another role, or gives orders.

    With `is_kept`, orders are reported and left in. Orders are recognised by the shape of their
    sentences, in several languages, also where letters are replaced by look-alikes, spread out or
    invisible. That is a net with holes: where certainty is needed, compare the answer with the one
    without the text.
    """
    visible = CONTROLS.sub(" ", INVISIBLE.sub("", text[:MAX_CHARACTERS]))
    clean = visible.encode("utf-8", "replace").decode("utf-8")
    removed = [mark.group().strip() for mark in MARKS.finditer(clean)]
    clean = MARKS.sub(f" {REMOVED} " if removed else " ", clean)
    parts = []
    for sentence in SENTENCE.findall(clean):
        is_order = commands(sentence)
        if is_order:
            removed.append(sentence.strip())
        parts.append(f" {REMOVED} " if is_order and not is_kept else sentence)
    whole = "".join(parts)
    if commands(whole) and not is_kept:  # an order spread over sentences
        removed.append(whole.strip())
        whole = REMOVED
    whole = _merge_removals(whole)
    return Fenced(OPEN + _without_fences(whole.replace("\n", " ")) + CLOSE, tuple(removed))


def _merge_removals(text: str) -> str:
    """Return the text with one spaced mark for several removals in a row."""
    first, *others = (part.strip() for part in text.split(REMOVED))
    return f" {REMOVED} ".join([first, *filter(None, others[:-1]), *others[-1:]]).strip()


def _without_fences(text: str) -> str:
    """Set angle brackets apart, from each other and from the fence.

    A fence also must make no mark of a role with the text's first or last bar.
    """
    spaced = re.sub(r">(?=>)", "> ", text)
    spaced = re.sub(r"<(?=<)", "< ", spaced)
    if spaced.startswith(("<", "|")):
        spaced = f" {spaced}"
    if spaced.endswith((">", "|")):
        spaced = f"{spaced} "
    return spaced


def commands(text: str) -> bool:
    """Return whether a text gives orders to a reader that takes it as an instruction."""
    written = " ".join(unicodedata.normalize("NFKC", text).split())
    latin = unicodedata.normalize("NFKD", written.translate(HOMOGLYPHS))
    bare = "".join(character for character in latin if not unicodedata.combining(character))
    closed_up = re.sub(r"(?<=\b\w)[ .\-_*](?=\w\b)", "", bare)  # i g n o r e, i-g-n-o-r-e
    separated = re.sub(r"(?<=\w)[.\-_*](?=\w)", " ", bare)  # ignore-all-rules
    forms = {written, bare, closed_up, bare.translate(LEET), separated}
    return any(pattern.search(form) for form in forms for pattern in COMMANDS)
