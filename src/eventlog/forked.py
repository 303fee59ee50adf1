"""What a forked process must not hold: logs and locks are their opener's alone.

A lock that a child inherited would stay taken after its parent's death, and two that write with
one handle would write over each other's promises.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Owned(Protocol):
    """Something that only the process that made it may use."""

    def disown(self) -> None:
        """Let go of it in a child; other threads than this one are not there any more."""
        ...


_owned: weakref.WeakSet[Owned] = weakref.WeakSet()


def own(thing: Owned) -> None:
    """Disown a thing in every process that is forked from this one."""
    _owned.add(thing)


def _disown() -> None:
    for thing in list(_owned):
        thing.disown()


os.register_at_fork(after_in_child=_disown)
