"""How much an append promises."""

from __future__ import annotations

import enum


class Durability(enum.StrEnum):
    """What an append waits for.

    `os`: the system has the bytes; a power cut may lose them. `group` and `sync`: the disk has
    them; in a group, concurrent appends share one sync.
    """

    OS = "os"
    GROUP = "group"
    SYNC = "sync"
