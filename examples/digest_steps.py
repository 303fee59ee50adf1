"""The Python steps of digest.yaml: plain functions, which take what `with:` gives them."""

import re


def outline(corpus: str) -> dict:
    """Return the headings and the number of words of each file in the corpus."""
    files = []
    for part in corpus.split("\n@@ ")[1:] if "\n@@ " in corpus else corpus.split("@@ ")[1:]:
        path, _, text = part.partition("\n")
        in_code = False
        headings = []
        for line in text.splitlines():
            if line.startswith("```"):
                in_code = not in_code
            elif not in_code and re.match(r"#{1,2} \S", line):
                headings.append(line.lstrip("# ").strip())
        files.append({"path": path, "words": len(text.split()), "headings": headings[:12]})
    return {"files": files, "words": sum(file["words"] for file in files)}


def digest(outline: dict, gist: str, history: str, ctx) -> dict:
    """Write digest.md; what is left in `ctx.outputs` is published to outputs/."""
    lines = [
        "# Digest",
        "",
        f"{len(outline['files'])} Markdown files, {outline['words']:,} words.",
        "",
        "## What they say",
        "",
        gist.strip(),
        "",
        "## What is where",
        "",
    ]
    for file in outline["files"]:
        lines.append(f"- `{file['path']}` ({file['words']:,} words)")
        lines += [f"  - {heading}" for heading in file["headings"]]
    lines += ["", "## What happened last", "", "```", history.strip(), "```", ""]
    page = ctx.outputs / "digest.md"
    page.write_text("\n".join(lines), encoding="utf-8")
    return {"files": len(outline["files"]), "words": outline["words"]}
