"""`.env` files: secrets, and nothing but secrets.

Looked for in the current folder, then beside the job file. The environment goes before both, the
current folder before the other. Only keys are taken (`…_API_KEY`, and what the job names under
`secrets:`): an address or a setting in such a file could send a key of the environment somewhere
else, and the file may have come with a job of somebody else's.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping

from .errors import UsageError

NAME = ".env"
SWITCH = "ORCH_DOTENV"
"""The environment variable that is 0 where no `.env` file is to be read."""
KEY_SUFFIX = "_API_KEY"
MAX_BYTES = 64 << 10

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)\Z")


def is_key(name: str) -> bool:
    """Return whether a variable holds a provider's key, by its name."""
    return name.endswith(KEY_SUFFIX)


def with_secrets(
    environ: Mapping[str, str],
    folders: Iterable[str],
    names: Iterable[str],
    warn: Callable[[str], None],
) -> dict[str, str]:
    """Return the environment with the secrets of `.env` files in it.

    Args:
        environ: goes before every file.
        folders: where to look, the first one first.
        names: further variables that are secrets.
        warn: told of a file that others can read, or that is not used.

    Raises:
        UsageError: a line that can't be understood (never quoting it).
    """
    found = dict(environ)
    if environ.get(SWITCH) == "0":
        return found
    wanted = set(names)
    for folder in dict.fromkeys(os.path.abspath(folder) for folder in folders if folder):
        path = os.path.join(folder, NAME)
        for name, value in _load(path, warn).items():
            if (is_key(name) or name in wanted) and not found.get(name):
                found[name] = value
    return found


def parse(text: str, place: str) -> dict[str, str]:
    """Return the variables of a `.env` file: `NAME=value`, `export` and quotes if need be.

    Nothing is expanded. A value in no quotes ends before ` #`.

    Raises:
        UsageError: a line that is none.
    """
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        value = _value(match[2]) if match else None
        if match is None or value is None:
            raise UsageError(
                "a line of the .env file is no NAME=value",
                place=f"{place}:{number}",
                hint="write NAME=value, or NAME='value'",
            )
        found[match[1]] = value
    return found


def _value(text: str) -> str | None:
    text = text.strip()
    quote = text[:1]
    if quote not in ("'", '"'):
        return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].rstrip()
    end = text.find(quote, 1)
    rest = text[end + 1 :].strip()
    return None if end < 0 or (rest and not rest.startswith("#")) else text[1:end]


def _load(path: str, warn: Callable[[str], None]) -> dict[str, str]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return {}
    except OSError as error:
        warn(f"warning: .env is not used: {error.strerror}\n  --> {path}")
        return {}
    info = os.fstat(fd)
    why = _distrust(info)
    if why:
        os.close(fd)
        warn(f"warning: .env is not used: {why}\n  --> {path}")
        return {}
    if info.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"warning: others can read the keys in .env: chmod 600 it\n  --> {path}")
    with open(fd, "rb") as file:
        text = file.read(MAX_BYTES).decode("utf-8", "surrogateescape")
    return parse(text, path)


def _distrust(info: os.stat_result) -> str:
    if not stat.S_ISREG(info.st_mode):
        return "it is not a file"
    if info.st_uid not in (os.geteuid(), 0):
        return "it belongs to another user"
    if info.st_mode & stat.S_IWOTH:
        return "every user can write it"
    return f"it is larger than {MAX_BYTES} bytes" if info.st_size > MAX_BYTES else ""
