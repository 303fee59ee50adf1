"""Find the tags of a template and what they name, without evaluating anything.

The engine tells which top-level names a template uses, but not `steps["some-name"]`, nor
where a name stands; and it has no limit on how long an expression may be, though a very long
one overflows its stack. So this reads the same tags once more, as tokens only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_OPENER = re.compile(r"\{\{|\{%|\{#")
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<name>[^\W\d]\w*)
      | (?P<number>\d+)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_ENDRAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_CLOSERS = {"{{": "}}", "{%": "%}"}


class Token(NamedTuple):
    """A name, number, string (with its quotes) or single mark."""

    kind: str
    text: str
    start: int


class Tag(NamedTuple):
    """`{{ … }}` or `{% … %}`; `opener` is its first two characters."""

    opener: str
    start: int
    end: int
    tokens: tuple[Token, ...]


class Reference(NamedTuple):
    """A member that a template names: `steps.qa` or `steps["qa"]`, as `text` has it."""

    name: str
    text: str


def scan(source: str) -> list[Tag]:
    """Return the tags in order; comments and raw blocks are passed over."""
    tags: list[Tag] = []
    position = 0
    while (opener := _OPENER.search(source, position)) is not None:
        if opener.group() == "{#":
            closed = source.find("#}", opener.end())
            if closed < 0:
                break
            position = closed + 2
            continue
        tag = _tag(source, opener.group(), opener.start())
        tags.append(tag)
        position = tag.end
        if tag.opener == "{%" and [token.text for token in tag.tokens] == ["raw"]:
            closing = _ENDRAW.search(source, position)
            if closing is None:
                break
            position = closing.end()
    return tags


def _tag(source: str, opener: str, start: int) -> Tag:
    closer = _CLOSERS[opener]
    tokens: list[Token] = []
    braces = 0
    position = start + 2
    if source[position : position + 1] in ("-", "+"):
        position += 1
    while position < len(source):
        if not braces and source.startswith(closer, position):
            if tokens and tokens[-1].text in ("-", "+"):
                tokens.pop()
            return Tag(opener, start, position + 2, tuple(tokens))
        found = _TOKEN.match(source, position)
        assert found is not None  # `mark` takes any character
        kind, text = str(found.lastgroup), found.group()
        if text == "{":
            braces += 1
        elif text == "}":
            braces = max(0, braces - 1)
        if kind != "space":
            tokens.append(Token(kind, text, position))
        position = found.end()
    return Tag(opener, start, len(source), tuple(tokens))


def filters_and_tests(tags: list[Tag]) -> list[tuple[str, Token]]:
    """Return the filters (`|`) and tests (`is`) that are used, as ("filter", its token)."""
    found: list[tuple[str, Token]] = []
    for tag in tags:
        names = [token.text for token in tag.tokens]
        for index, token in enumerate(tag.tokens):
            if token.kind != "name" or not index:
                continue
            before = names[index - 1]
            if before == "|" or (index == 1 and tag.opener == "{%" and names[0] == "filter"):
                found.append(("filter", token))
            elif token.text != "not" and "is" in (
                before,
                names[index - 2] if before == "not" and index > 1 else "",
            ):
                found.append(("test", token))
    return found


def references(tags: list[Tag], root: str) -> tuple[list[Reference], bool]:
    """Return the members of `root` that are named, and whether all uses of it are so plain.

    `steps.qa` and `steps["qa"]` name a member; `steps[x]` or `steps|length` don't.
    """
    found: list[Reference] = []
    plain = True
    for tag in tags:
        tokens = tag.tokens
        for index, token in enumerate(tokens):
            if token.text != root or token.kind != "name" or _is_other(tag, index):
                continue
            after = tokens[index + 1 : index + 4]
            kinds = [part.kind for part in after]
            texts = [part.text for part in after]
            if texts[:1] == ["."] and kinds[1:2] == ["name"]:
                found.append(Reference(texts[1], f"{root}.{texts[1]}"))
            elif texts[:1] == ["["] and kinds[1:2] == ["string"] and texts[2:] == ["]"]:
                plain = plain and "\\" not in texts[1]
                found.append(Reference(texts[1][1:-1], f"{root}[{texts[1]}]"))
            else:
                plain = False
    return found, plain


def assigns(tags: list[Tag], name: str) -> bool:
    """Tell whether a template may give a name a meaning of its own."""
    return any(
        tag.opener == "{%"
        and tag.tokens[:1] != ()
        and tag.tokens[0].text in ("set", "for", "with", "macro", "call")
        and any(token.text == name for token in tag.tokens[1:])
        for tag in tags
    )


def _is_other(tag: Tag, index: int) -> bool:
    """Tell whether a token that reads like a variable is a keyword, a member or an argument."""
    before = tag.tokens[index - 1].text if index else ""
    after = [token.text for token in tag.tokens[index + 1 : index + 3]]
    if before in (".", "|") or (not index and tag.opener == "{%"):
        return True
    return after[:1] == ["="] and after[1:] != ["="] and tag.opener == "{{"


_WORDS = frozenset(
    ("true", "false", "none", "True", "False", "None", "not", "and", "or", "in", "is", "if", "else")
)


def path_of(tag: Tag) -> tuple[str | int, ...] | None:
    """Return what a tag that only walks through data walks: `a.b[0]["c"]`; None for more."""
    tokens = list(tag.tokens)
    if not tokens or tokens[0].kind != "name" or tokens[0].text in _WORDS:
        return None
    path: list[str | int] = [tokens[0].text]
    index = 1
    while index < len(tokens):
        texts = [token.text for token in tokens[index : index + 3]]
        kinds = [token.kind for token in tokens[index : index + 3]]
        if texts[0] == "." and kinds[1:2] == ["name"]:
            path.append(texts[1])
            index += 2
        elif texts[0] == "[" and kinds[1:2] == ["number"] and texts[2:] == ["]"]:
            path.append(int(texts[1]))
            index += 3
        elif texts[0] == "[" and kinds[1:2] == ["string"] and texts[2:] == ["]"]:
            if "\\" in texts[1]:
                return None
            path.append(texts[1][1:-1])
            index += 3
        else:
            return None
    return tuple(path)
