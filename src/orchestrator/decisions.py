"""What people decide in a job, as its events carry it. Pure.

Who it was is the name of the account that gave the command. `request` is the id of the file in
inbox/ by which it came: a request whose id stands in the log is never recorded again.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Shown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What somebody is asked to approve.

    Attributes:
        key: the hash of all that is shown: the rendered message, and the outputs of what the
            step needs. An approval is for this key and no other.
        message: text, or a BlobRef's object for a large one.
        parts: hashes of what the key consists of.
    """

    key: str = ""
    message: Any = None
    needs: tuple[str, ...] = ()
    parts: dict[str, str] = {}


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An approval or a rejection; the output is an approval's."""

    by: str = ""
    note: str = ""
    key: str = ""
    output: Any = None
    output_sha256: str = ""
    request: str = ""


class HandMade(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A result that a person gave in place of an attempt."""

    by: str = ""
    reason: str = ""
    output: Any = None
    output_sha256: str = ""
    request: str = ""
