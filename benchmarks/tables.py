"""Figures as Markdown tables, for the screen and for the README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_COLUMNS = ("what", "value", "beside", "ratio", "spread", "bar", "met")
_BEGIN, _END = "<!-- results: begin -->\n", "<!-- results: end -->\n"


def environment(facts: dict[str, str], *, quick: bool) -> str:
    """Return one line a fact."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    if quick:
        lines.append("- quick: fewer rounds and smaller sizes, so no figure to compare with")
    return "\n".join(lines) + "\n"


def case(told: dict[str, Any]) -> str:
    """Return one case's table with its heading."""
    head = f"### {told['name']}: {told['about']}\n\nBar: {told['bar']}. Took {told['seconds']} s.\n"
    if told.get("load"):
        head += f"{told['load']}\n"
    if told["error"]:
        return f"{head}\nIt broke: {told['error']}\n"
    rows = [_cells(row) for row in told["rows"]]
    widths = [max(len(line[i]) for line in (_COLUMNS, *rows)) for i in range(len(_COLUMNS))]
    lines = [_line(_COLUMNS, widths), "|" + "|".join("-" * (w + 2) for w in widths) + "|"]
    lines += [_line(row, widths) for row in rows]
    notes = [f"- {row['what']}: {row['note']}" for row in told["rows"] if row["note"]]
    return head + "\n" + "\n".join(lines) + "\n" + ("\n" + "\n".join(notes) + "\n" if notes else "")


def into_readme(path: str, document: dict[str, Any], order: Sequence[str]) -> None:
    """Replace what stands between the marks of the README: the sections of the cases that ran.

    Other cases keep their sections. What the figures were taken on is told with all sections
    where all cases ran, else below the headings of those that did.

    Args:
        path: the README.
        document: of one run.
        order: the names of all cases.
    """
    with open(path, encoding="utf-8") as file:
        text = file.read()
    before, begin, rest = text.partition(_BEGIN)
    found, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{path} has no marks for the results: {_BEGIN.strip()}, {_END.strip()}")
    head, *sections = found.strip().split("\n### ")
    kept = {section.partition(":")[0]: f"### {section.strip()}\n" for section in sections}
    facts = environment(document["environment"], quick=document["quick"])
    whole = {told["name"] for told in document["cases"]} == set(order)
    for told in document["cases"]:
        kept[told["name"]] = case(told if whole else told | {"load": _load(document)})
    parts = [
        facts if whole else head.strip() + "\n",
        *(kept[name] for name in order if name in kept),
    ]
    with open(path, "w", encoding="utf-8") as file:
        file.write(before + begin + "\n" + "\n".join(parts) + "\n" + end + after)


def _load(document: dict[str, Any]) -> str:
    """Return what a run of some cases has to say of the machine."""
    facts = document["environment"]
    wanted = ("load before the first case", "write + sync of 256 bytes")
    told = [f"{name}: {facts[name]}" for name in wanted if name in facts]
    return f"Taken in a run of its own; {'; '.join(told)}."


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    beside = row["beside"]
    if row["beside_value"] is not None:
        beside = f"{beside}: {_number(row['beside_value'], row['unit'])}"
    spread = row["spread"]
    return (
        row["what"],
        "-" if row["value"] is None else _number(row["value"], row["unit"]),
        beside or "-",
        "-" if row["ratio"] is None else f"{row['ratio']:.2f}x",
        "-" if spread is None else f"{_short(spread[0])} to {_short(spread[1])}",
        row["bar"] or "-",
        {True: "yes", False: "no", None: "-"}[row["met"]],
    )


def _number(value: float, unit: str) -> str:
    return f"{_short(value)} {unit}".rstrip()


def _short(value: float) -> str:
    if value and abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "| " + " | ".join(padded) + " |"
