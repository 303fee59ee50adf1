"""YAML 1.2 (or JSON) text -> plain JSON values, and where each of them stands.

Only what JSON can say too is taken: no tags, anchors, aliases, merge keys or timestamps; `yes`,
`no`, `on` and `off` are text, `012` is twelve and `1e3` a number. All that is wrong is collected.

| code   | problem                                            |
|--------|----------------------------------------------------|
| ORC101 | not UTF-8                                          |
| ORC102 | larger than the limit                              |
| ORC103 | not YAML (the parser stops there: at most one)     |
| ORC104 | a tag                                              |
| ORC105 | an anchor or an alias                              |
| ORC106 | a key that is there twice                          |
| ORC107 | a key that isn't text                              |
| ORC108 | nested too deep                                    |
| ORC109 | a number that JSON can't hold                      |
| ORC110 | more than one document                             |
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Any, NamedTuple

from ..errors import Problem
from .yamlcore import FORBIDDEN, json_as_yaml, resolve

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_PROBLEMS = 100

Path = tuple[str | int, ...]
"""Keys and indexes from the root: `("steps", "qa", "needs", 0)`."""


_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")


def visible(message: str) -> str:
    """Return a message on one line, its control characters spelled out."""
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), message)


class Span(NamedTuple):
    """A place in the text: line and column count from 1, length is at least 1."""

    line: int
    column: int
    length: int


class Document:
    """A text, the value it says, and the places of all keys and values.

    Attributes:
        text: without a byte order mark.
        value: dicts, lists, str, int, float, bool, None. What could not be read is None.
        problems: all that is wrong with it; empty for a good one.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.value: Any = None
        self.problems: list[Problem] = []
        self._told: set[tuple[str, int, int]] = set()
        self._keys: dict[Path, tuple[int, int]] = {}
        self._values: dict[Path, tuple[int, int]] = {}
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def at(self, path: Path) -> Span:
        """Return where a value is, or the nearest thing around it that the text shows."""
        while path not in self._values and path:
            path = path[:-1]
        return self.span(*self._values.get(path, (0, 1)))

    def at_key(self, path: Path) -> Span:
        """Return where the key of a value is; of a list's item, where the item is."""
        if path in self._keys:
            return self.span(*self._keys[path])
        return self.at(path)

    def find(self, path: Path, needle: str) -> Span:
        """Return the first place of `needle` inside a value's source text, else the value's.

        As a whole word, if it is there as one.
        """
        start, end = self._values.get(path, (0, 0))
        word = re.compile(rf"(?<![\w.]){re.escape(needle)}(?!\w)").search(self.text, start, end)
        found = word.start() if word else self.text.find(needle, start, end)
        if found < 0 or not needle:
            return self.at(path)
        return self.span(found, found + len(needle))

    def span(self, start: int, end: int) -> Span:
        """Return the place of a stretch of characters, cut at the end of its first line."""
        start = min(start, len(self.text))
        row = bisect_right(self._lines, start) - 1
        stop = self._lines[row + 1] - 1 if row + 1 < len(self._lines) else len(self.text)
        length = len(self.text[start : max(start, min(end, stop))].rstrip())
        return Span(row + 1, start - self._lines[row] + 1, max(1, length))

    def place(self, path: Path, start: int, end: int) -> None:
        """Note where a value stands, in characters."""
        self._values[path] = (start, end)

    def place_key(self, path: Path, start: int, end: int) -> None:
        """Note where a key stands."""
        self._keys[path] = (start, end)

    def placed(self, path: Path) -> bool:
        """Tell whether the text has this value."""
        return path in self._values

    def problem(self, code: str, message: str, span: Span, hint: str = "") -> None:
        """Note a problem, each once; past `MAX_PROBLEMS` the rest is dropped."""
        if len(self.problems) < MAX_PROBLEMS:
            line, column, length = span
            message, hint = visible(message), visible(hint)
            if (message, line, column) in self._told:
                return
            self._told.add((message, line, column))
            self.problems.append(
                Problem(message, line=line, column=column, length=length, hint=hint, code=code)
            )

    @property
    def shown(self) -> str:
        """The text for code frames: nothing in it moves a terminal's cursor."""
        return FORBIDDEN.sub("\ufffd", self.text)


def read(source: bytes | str, *, max_bytes: int = MAX_BYTES) -> Document:
    """Read one YAML or JSON document; never raises, see `problems`."""
    raw = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
    if len(raw) > max_bytes:
        document = Document("")
        document.problem(
            "ORC102",
            f"the text has {len(raw):,} bytes; the limit is {max_bytes:,}",
            Span(1, 1, 1),
            "move large texts to files and name them with file://",
        )
        return document
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        document = Document(raw.decode("utf-8", "replace"))
        before = raw[: error.start].decode("utf-8", "replace")
        document.problem(
            "ORC101",
            f"not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}",
            document.span(len(before), len(before) + 1),
            "save the file as UTF-8",
        )
        return document
    document = Document(text.removeprefix("\ufeff"))
    _Builder(document).build()
    return document


# --- structure --------------------------------------------------------------------------------


class _Open:
    """A list or a map whose end has not come yet."""

    __slots__ = ("expects", "keys", "path", "start", "value")

    def __init__(self, value: list[Any] | dict[str, Any], path: Path, start: int) -> None:
        self.value = value
        self.path = path
        self.start = start
        self.keys: set[str] = set()
        self.expects: str | None = None
        """The key whose value comes next; `DROP` for a value that belongs to no usable key."""


DROP = ""
NOWHERE = -1  # stands in a path for what hangs on no usable key


class _Builder:
    """Builds the value from the parser's events: no recursion, so depth is only a count."""

    def __init__(self, document: Document) -> None:
        self._doc = document
        self._stack: list[_Open] = []

    def build(self) -> None:
        """Fill the document's value, places and problems."""
        import yaml  # most commands read no spec

        bad = FORBIDDEN.search(self._doc.text)
        if bad is not None:
            self._syntax(f"the character U+{ord(bad.group()):04X} is not allowed", bad.start())
            return
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            for event in yaml.parse(json_as_yaml(self._doc.text), Loader=loader):
                if not self._take(yaml, event):
                    break
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            context = f" ({error.context})" if error.context else ""
            self._syntax(f"{error.problem}{context}", mark.index if mark else 0)
        except yaml.YAMLError as error:
            self._syntax(str(error).split("\n", 1)[0], 0)

    def _syntax(self, message: str, index: int) -> None:
        if "maximum nesting depth" in message:  # newer parsers have a limit of their own
            self._too_deep(index)
            return
        hint = ""
        if self._doc.text[index : index + 1] == "\t":
            hint = "indent with spaces, not tabs"
        elif "mapping values are not allowed" in message:
            hint = "put a text that holds `: ` in quotes"
        self._doc.problem("ORC103", f"not YAML: {message}", self._doc.span(index, index + 1), hint)

    def _take(self, yaml: Any, event: Any) -> bool:
        """Take one event; False ends the reading."""
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, yaml.ScalarEvent):
            self._no_extras(event, start, end)
            self._put(self._scalar(event, start, end), start, end)
        elif isinstance(event, yaml.AliasEvent):
            self._extra("ORC105", f"the alias *{event.anchor}", start, end)
            self._put(None, start, end)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._no_extras(event, start, end)
            value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            return self._open(value, start)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._stack.pop()
            self._doc.place(done.path, done.start, end)
        elif isinstance(event, yaml.DocumentStartEvent) and self._doc.placed(()):
            message = "a second document begins here"
            self._doc.problem("ORC110", message, self._doc.span(start, end), "one file is one spec")
            return False
        return True

    def _no_extras(self, event: Any, start: int, end: int) -> None:
        if event.anchor is not None:
            self._extra("ORC105", f"the anchor &{event.anchor}", start, end)
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._extra("ORC104", f"the tag {tag}", start, end)

    def _extra(self, code: str, what: str, start: int, end: int) -> None:
        hint = "write the value out" if code == "ORC105" else "leave it out, or quote the text"
        span = self._doc.span(start, end)
        self._doc.problem(code, f"{what} is not allowed in a spec", span, hint)

    def _scalar(self, event: Any, start: int, end: int) -> Any:
        if event.style or not event.implicit[0]:
            return event.value
        try:
            return resolve(event.value)
        except ValueError as error:
            hint = "put it in quotes if it is text"
            self._doc.problem("ORC109", str(error), self._doc.span(start, end), hint)
            return None

    def _too_deep(self, index: int) -> None:
        message = f"nested more than {MAX_DEPTH} deep"
        self._doc.problem("ORC108", message, self._doc.span(index, index + 1))

    def _open(self, value: list[Any] | dict[str, Any], start: int) -> bool:
        if len(self._stack) >= MAX_DEPTH:
            self._too_deep(start)
            return False
        path = self._put(value, start, start + 1)
        self._stack.append(_Open(value, path, start))
        return True

    def _put(self, value: Any, start: int, end: int) -> Path:
        """Hang a value (or a key) into what is open; return its path."""
        if not self._stack:
            self._doc.value = value
            self._doc.place((), start, end)
            return ()
        top = self._stack[-1]
        if isinstance(top.value, list):
            path: Path = (*top.path, len(top.value))
            top.value.append(value)
        elif top.expects is None:
            top.expects = self._key(top, value, start, end)
            return (*top.path, NOWHERE)
        elif top.expects == DROP:
            top.expects = None
            return (*top.path, NOWHERE)
        else:
            path = (*top.path, top.expects)
            top.value[top.expects], top.expects = value, None
        self._doc.place(path, start, end)
        return path

    def _key(self, top: _Open, key: Any, start: int, end: int) -> str:
        """Return a map's key, or DROP where its value can't be kept."""
        span = self._doc.span(start, end)
        if not isinstance(key, str) or not key:
            source = self._doc.text[start:end].strip()
            what = f"`{source}`" if source else "nothing"
            if isinstance(key, list | dict):
                what = "a list or a map"
            self._doc.problem("ORC107", f"a key must be text, not {what}", span, "quote it")
            return DROP
        path = (*top.path, key)
        if key in top.keys:
            first = self._doc.at_key(path).line
            message = f"the key `{key}` is here twice (first in line {first})"
            self._doc.problem("ORC106", message, span, "keep one of them")
            return DROP
        top.keys.add(key)
        self._doc.place_key(path, start, end)
        return key
