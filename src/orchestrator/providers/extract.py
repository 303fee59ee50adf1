"""Plain text algorithms: the title, the sentences and the words that stand out of a text.

What `offline/extract` answers with. No model, no data but a short list of common words; the
same text always gives the same result. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

SENTENCES = 3
KEYWORDS = 8
TEXT_MAX_CHARS = 1024 * 1024

_WORD = re.compile(r"[^\W\d_][\w'-]+")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])\s+(?=[^a-z\s])|\n\s*\n|\n(?=\s*(?:[-*#>]|\d+\.)\s|[^\W\d][\w .-]{0,40}:\s)"
)
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_MARK = re.compile(r"^\s*(?:[-*+>#]+|\d+[.)])\s+")
_PAIR = re.compile(
    r"^\s*(?:[-*+]\s+)?[*_`\"']*([A-Za-z][\w .-]{0,60}?)[*_`\"']*\s*[:=]\s*(.*?)\s*$"
)
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+(.+?)\s*$")
_NUMBER = re.compile(r"[-+]?\d[\d_,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
_FORMATS = {
    "date": re.compile(r"\b\d{4}-\d{2}-\d{2}\b"),
    "date-time": re.compile(
        r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:?\d{2})?"
    ),
    "email": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "uri": re.compile(r"https?://[^\s<>\"')\]]+"),
}
_TRUE = {"true", "yes", "on", "y", "1"}
_FALSE = {"false", "no", "off", "n", "0"}
_COMMON = frozenset(
    """
    a about above after again all also am an and any are as at be because been before being
    below between both but by can could did do does doing down during each either else every
    few for from further get got had has have having he her here hers him his how if in into
    is it its itself just let like made make many may me might more most much must my neither
    never no nor not now of off on once one only or other our out over own per same shall she
    should since so some such than that the their them then there these they this those
    through to too two under until up upon us use used uses using very was we were what when
    where whether which while who whom whose why will with within without would yet you your
    """.split()  # noqa: SIM905 - a list of words reads best as words
)


def summary(text: str, *, sentences: int = SENTENCES, keywords: int = KEYWORDS) -> str:
    """Return title, leading sentences and keywords of a text, as Markdown."""
    text = text[:TEXT_MAX_CHARS]
    blocks = []
    heading = title(text)
    if heading:
        blocks.append(f"# {heading}")
    blocks += leading_sentences(text, sentences)
    words = top_words(text, keywords)
    if words:
        blocks.append(f"Keywords: {', '.join(words)}")
    return "\n\n".join(blocks)


def title(text: str) -> str:
    """Return the first heading, else the first line that says something."""
    heading = _HEADING.search(text)
    if heading:
        return heading[1][:120]
    for line in text.splitlines():
        stripped = _MARK.sub("", line).strip(" \t#*_=-")
        if stripped:
            return stripped[:120]
    return ""


def leading_sentences(text: str, count: int) -> list[str]:
    """Return the sentences whose words the text uses most, in the order of the text."""
    weights = _weights(text)
    ranked: list[tuple[float, int, str]] = []
    seen: set[str] = set()
    for place, raw in enumerate(_SENTENCE_END.split(text)):
        sentence = " ".join(_MARK.sub("", raw).split())
        words = [word for word in _words(sentence) if word in weights]
        if len(words) < 3 or sentence in seen or _HEADING.match(raw.lstrip("\n")):
            continue
        seen.add(sentence)
        # The mean, not the sum: else the longest sentence always wins; and not below eight
        # words, else the shortest does.
        score = sum(weights[word] for word in words) / max(len(words), 8)
        ranked.append((-score, place, sentence[:1000]))
    chosen = sorted(ranked)[:count]
    return [sentence for _, _, sentence in sorted(chosen, key=lambda found: found[1])]


def top_words(text: str, count: int) -> list[str]:
    """Return the most frequent words that are not common ones; ties in alphabetical order."""
    counts = _weights(text)
    return sorted(counts, key=lambda word: (-counts[word], word))[:count]


def by_schema(text: str, schema: dict[str, Any]) -> Any:
    """Return a JSON value with the properties of `schema` that were found in the text.

    A property is looked for as `name: value`, then by its `pattern`, `format` or `enum`;
    `title`, `summary` and `keywords` are worked out if they are not written down. What is not
    found is left out (null where the schema allows it), never made up.
    """
    text = text[:TEXT_MAX_CHARS]
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return _convert(text.strip(), schema)
    pairs = _pairs(text)
    found: dict[str, Any] = {}
    for name, rule in properties.items():
        form = rule if isinstance(rule, dict) else {}
        value = _property(name, form, pairs, text)
        if value is not None or _allows(form, "null"):
            found[name] = value
    return found


def _property(name: str, form: dict[str, Any], pairs: dict[str, str], text: str) -> Any:
    if _allows(form, "object") and "properties" in form:
        return by_schema(text, form)
    written = pairs.get(_plain(name))
    value = None
    if written is not None:
        pattern = _pattern(form)
        match = pattern.search(written) if pattern else None
        value = _convert(match[0] if match else written, form)
    if value is None:
        value = _searched(form, text)
    if value is None:
        value = _worked_out(_plain(name), form, text)
    return value


def _searched(form: dict[str, Any], text: str) -> Any:
    """Return what a pattern, a format or an enumeration finds anywhere in the text."""
    items = form.get("items")
    if _allows(form, "array") and isinstance(items, dict):
        pattern = _pattern(items)
        hits = [match[0] for match in pattern.finditer(text)][:1000] if pattern else []
        return [_scalar(hit, items) for hit in dict.fromkeys(hits)] or None
    choices = form.get("enum")
    if isinstance(choices, list):
        words = set(_words(text))
        hits = [choice for choice in choices if isinstance(choice, str) and _plain(choice) in words]
        return hits[0] if hits else None
    pattern = _pattern(form)
    match = pattern.search(text) if pattern else None
    return _scalar(match[0], form) if match else None


def _pattern(form: dict[str, Any]) -> re.Pattern[str] | None:
    pattern = form.get("pattern")
    if isinstance(pattern, str):
        try:
            return re.compile(pattern, re.MULTILINE)
        except re.error:
            return None
    return _FORMATS.get(str(form.get("format")))


def _worked_out(name: str, form: dict[str, Any], text: str) -> Any:
    if name == "title" and _allows(form, "string"):
        return title(text) or None
    if name in {"summary", "abstract"} and _allows(form, "string"):
        return " ".join(leading_sentences(text, SENTENCES)) or None
    if name in {"keywords", "tags", "topics"}:
        words = top_words(text, _limit(form))
        return words if _allows(form, "array") else ", ".join(words)
    return None


def _limit(form: dict[str, Any]) -> int:
    limit = form.get("maxItems")
    return min(limit, 1000) if isinstance(limit, int) and limit >= 0 else KEYWORDS


def _convert(written: str, form: dict[str, Any]) -> Any:
    """Return a written value in the type that the schema wants, or None if it is not that."""
    if _allows(form, "array"):
        items = form.get("items")
        parts = [part.strip(" []\"'") for part in re.split(r"[,;\n]", written)]
        values = [_scalar(part, items if isinstance(items, dict) else {}) for part in parts if part]
        return [value for value in values if value is not None]
    return _scalar(written, form) if written else None


def _scalar(written: str, form: dict[str, Any]) -> Any:
    plain = written.strip().strip("*_`\"'")
    choices = form.get("enum")
    if isinstance(choices, list):
        same = [choice for choice in choices if str(choice).lower() == plain.lower()]
        return same[0] if same else None
    if _allows(form, "string") or not form.get("type"):
        return plain
    if _allows(form, "boolean") and plain.lower() in _TRUE | _FALSE:
        return plain.lower() in _TRUE
    number = _NUMBER.search(plain)
    if number and (_allows(form, "number") or _allows(form, "integer")):
        digits = number[0].replace(",", "").replace("_", "")
        if re.fullmatch(r"[-+]?\d{1,18}", digits):
            return int(digits)
        return float(digits) if _allows(form, "number") else None
    return None


def _pairs(text: str) -> dict[str, str]:
    """Return every `key: value` line, the first of a key; a bare `key:` takes the list below."""
    pairs: dict[str, str] = {}
    lines = text.splitlines()
    for place, line in enumerate(lines):
        match = _PAIR.match(line[:4096])
        if not match or _plain(match[1]) in pairs:
            continue
        value = match[2].strip()
        if not value:
            items = []
            for below in lines[place + 1 : place + 1001]:
                item = _ITEM.match(below[:4096])
                if not item:
                    break
                items.append(item[1])
            value = "\n".join(items)
        pairs[_plain(match[1])] = value
    return pairs


def _plain(name: str) -> str:
    return re.sub(r"[\s_.-]+", "", name).lower()


def _allows(form: dict[str, Any], kind: str) -> bool:
    declared = form.get("type")
    return kind in declared if isinstance(declared, list) else declared == kind


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _weights(text: str) -> Counter[str]:
    return Counter(word for word in _words(text) if word not in _COMMON and len(word) > 2)
