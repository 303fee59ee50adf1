"""Figures as Markdown tables, for the screen and for the README."""

from __future__ import annotations

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
    if told["error"]:
        return f"{head}\nIt broke: {told['error']}\n"
    rows = [_cells(row) for row in told["rows"]]
    widths = [max(len(line[i]) for line in (_COLUMNS, *rows)) for i in range(len(_COLUMNS))]
    lines = [_line(_COLUMNS, widths), "|" + "|".join("-" * (w + 2) for w in widths) + "|"]
    lines += [_line(row, widths) for row in rows]
    notes = [f"- {row['what']}: {row['note']}" for row in told["rows"] if row["note"]]
    return head + "\n" + "\n".join(lines) + "\n" + ("\n" + "\n".join(notes) + "\n" if notes else "")


def into_readme(path: str, document: dict[str, Any]) -> None:
    """Replace what stands between the marks of the README."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{path} has no marks for the results: {_BEGIN.strip()}, {_END.strip()}")
    parts = [environment(document["environment"], quick=document["quick"])]
    parts += [case(told) for told in document["cases"]]
    with open(path, "w", encoding="utf-8") as file:
        file.write(before + begin + "\n" + "\n".join(parts) + "\n" + end + after)


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
