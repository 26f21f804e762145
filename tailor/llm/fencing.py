"""Foreign text in prompts: what items and users say is data, and what in it speaks to the model is
taken out and reported.
"""

import re
import unicodedata
from dataclasses import dataclass

OPEN, CLOSE = "<<", ">>"  # around foreign text; neither can stand inside it
REMOVED = "[removed]"
LONGEST = 100_000  # characters of one text that are looked at; the rest is cut off
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\U000e0000-\U000e0fff]"
)
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# within a line and given back never: a run of white space is read once, however long
GAP = r"[^\S\n]*+"
MARKS = re.compile(
    r"<\|[^|>\n]{0,40}\|?>?|</?s>|\[/?(?:INST|SYS)\]|<</?SYS>>|</?(?:system|assistant|user|human|tool|instructions?|prompt)>|"
    rf"(?:^|\n){GAP}#{{0,4}}+{GAP}(?:system|assistant|user|human|developer|ai|new"
    r" instructions?)\s*+(?:prompt|message)?\s*+:",
    re.IGNORECASE,
)
SENTENCE = re.compile(r"[^.!?\n;。！？]+(?:[.!?;。！？]+|\n|$)|[.!?\n;。！？]+")
# Cyrillic and Greek letters that look Latin
HOMOGLYPHS = str.maketrans("аеорсухіјѕԁɡαοινκτρυ", "aeopcyxijsdgaoivktpu")
LEET = str.maketrans("013457@$", "oieastas")

ABOUT = r"(?:previous|prior|above|before|everything|earlier|preceding|all|any|other|your|these|the|system|following)"
COMMANDS = [
    re.compile(one, re.IGNORECASE)
    for one in (
        r"\b(?:ignore|disregard|forget|override|bypass|skip|discard|overrule|do not follow|don'?t"
        rf" follow|stop following)\b.{{0,40}}\b{ABOUT}\b.{{0,40}}"
        r"\b(?:instructions?|rules?|prompts?|directions?|guidelines?|orders?|context|messages?|constraints?|tasks?|items?|documents?|passages?|texts?|criteria|request|said|told)\b",
        r"\b(?:new|updated?|real|actual|hidden|secret|important|urgent|special)\s+(?:system\s+)?(?:instructions?|task|rules?|order|directive|prompt|message)\b",
        r"\b(?:rank|rate|put|place|list|order|sort|score|move|position|recommend|choose|select|pick|return|show|keep|grade)\b.{0,30}"
        r"\b(?:this|me|it|us|item|document|passage|product|option|candidate|number|\[?\d+\]?)\b.{0,40}"
        r"\b(?:first|top|highest|best|number one|no\.?"
        r" ?1|#1|above|before|ahead|always|only|maximum|10/10|100|last|lowest|bottom)\b",
        r"\b(?:respond|answer|reply|output|return|say|print|write|repeat|reveal|show|tell)\b.{0,25}\b(?:only|with|exactly|nothing"
        r" but|the word|your|back|json|system)\b.{0,50}"
        r"(?:\b(?:yes|no|true|json|prompt|instructions?|rules?|first|top|key|password|secret|history|verbatim)\b|\[\d+\]|\d)",
        r"\b(?:you are|you're|you will be|act|behave|pretend|roleplay|imagine you"
        r" are)\b.{0,15}\b(?:now|an?|as|to be|no longer)\b.{0,40}"
        r"\b(?:ai|assistant|model|ranker|judge|admin|administrator|developer|dan|unrestricted|jailbroken|salesman|seller|expert|bot|grader|system)\b",
        (
            r"\b(?:as an?|dear|attention|note to|hey|hello|to the|message"
            r" (?:for|to))\b.{0,10}\b(?:ai|language"
            r" model|assistant|llm|ranker|reranker|recommender|judge|chatbot|gpt|model|bot|grader|system)\b"
        ),
        (
            r"\b(?:the (?:correct|right|only|best|expected)"
            r" (?:answer|order|ranking|output|choice)|(?:correct|final|expected)"
            r" (?:answer|ranking|order|output))\s*(?:is|:|=|would be|should be|must be)"
        ),
        r"\b(?:this|the following) (?:item|document|passage|product|option)\b.{0,25}\b(?:is|must"
        r" be|should be|has to be|deserves|needs to be)\b.{0,25}"
        r"\b(?:most relevant|ranked|rated|relevant to (?:all|any|every)|first|top|number"
        r" one|recommended|chosen|selected)\b",
        (
            r"\b(?:end|begin|start) of (?:the"
            r" )?(?:documents?|items?|texts?|prompt|instructions?|data|context|user input)\b"
        ),
        r"\b(?:send|post|upload|forward|e-?mail|exfiltrate|leak)\b.{0,40}\b(?:history|data|profile|conversation|prompt|users?)\b.{0,20}\bto\b",
        r"\bignor\w*\b.{0,30}\b(?:anweisung\w*|regeln|instrucciones|reglas|consignes|instructions|istruzioni|instruções)\b",
        r"\b(?:ignoriere|missachte|vergiss|ignora|olvida|oublie[zr]?|ignorez|ignore[zr]?|esqueça|dimentica|игнорируй|забудь)\b",
        r"\b(?:setze|stelle|ordne|platziere|coloca|pon|mets?|mettez|classe[zr]?|metti|coloque|поставь)\b.{0,40}"
        r"\b(?:ersten?|oben|erste stelle|platz"
        r" 1|primero|primer|primera|premier|première|haut|tête|primo|primeiro|первое|первым)\b",
        r"(?:忽略|无视|忘记|無視|忘れ).{0,20}(?:指令|指示|说明|規則|规则|命令|提示|内容)|(?:排|放|置).{0,10}(?:第一|首位|最前|榜首|一番|1位)|(?:1位|一番|最初).{0,8}(?:にして|に置|してください)",
    )
]


@dataclass(frozen=True)
class Fenced:
    """A foreign text as it may stand in a prompt, and what was taken out of it."""

    text: str
    removed: tuple[str, ...] = ()
    """The sentences and marks, as they were."""

    @property
    def is_suspicious(self) -> bool:
        return bool(self.removed)


def fenced(text: str, is_kept: bool = False) -> Fenced:
    """The text without what could end its fence, play another role, or give orders; `is_kept`
    reports orders and leaves them in.

    Orders are found by the shape of their sentences, in several languages, also where letters are
    replaced by look-alikes, spread out or invisible. That is a net with holes: whoever needs
    certainty compares the answer with the one without the text.
    """
    clean = (
        CONTROLS.sub(" ", INVISIBLE.sub("", text[:LONGEST]))
        .encode("utf-8", "replace")
        .decode("utf-8")
    )
    removed = [one.group().strip() for one in MARKS.finditer(clean)]
    clean = MARKS.sub(f" {REMOVED} " if removed else " ", clean)
    parts = []
    for one in SENTENCE.findall(clean):
        if commands(one):
            removed.append(one.strip())
            parts.append(one if is_kept else f" {REMOVED} ")
        else:
            parts.append(one)
    whole = "".join(parts)
    if commands(whole) and not is_kept:  # an order spread over sentences
        removed.append(whole.strip())
        whole = REMOVED
    whole = _once(whole)
    return Fenced(OPEN + _without_fences(whole.replace("\n", " ")) + CLOSE, tuple(removed))


def _once(text: str) -> str:
    """The text with one mark for removals that follow each other, and single spaces around it."""
    first, *others = (one.strip() for one in text.split(REMOVED))
    return f" {REMOVED} ".join([first, *filter(None, others[:-1]), *others[-1:]]).strip()


def _without_fences(text: str) -> str:
    """The text with its angle brackets set apart, from each other and from the fence, which makes
    no mark of a role with its first or last bar.
    """
    apart = re.sub(r"<(?=<)", "< ", re.sub(r">(?=>)", "> ", text))
    return " " * apart.startswith(("<", "|")) + apart + " " * apart.endswith((">", "|"))


def commands(text: str) -> bool:
    """Whether a text gives orders to whoever reads it as an instruction."""
    written = " ".join(unicodedata.normalize("NFKC", text).split())
    plain = written.translate(HOMOGLYPHS)
    bare = "".join(
        one for one in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(one)
    )
    spread = re.sub(r"(?<=\b\w)[ .\-_*](?=\w\b)", "", bare)  # i g n o r e, i-g-n-o-r-e
    forms = {
        written,
        bare,
        spread,
        bare.translate(LEET),
        re.sub(r"(?<=\w)[.\-_*](?=\w)", " ", bare),
    }
    return any(pattern.search(form) for form in forms for pattern in COMMANDS)
