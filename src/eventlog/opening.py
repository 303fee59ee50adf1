"""How a writer that takes a log introduces itself."""

from __future__ import annotations

import os
import secrets
import socket

from .codec import FORMAT
from .event import Opened
from .recover import Scan


def introduce(found: Scan, epoch: int) -> Opened:
    """Return what the next writer's `log.opened` says over what it found."""
    sealing = not found.sealed and found.lines > 0
    return Opened(
        format=FORMAT,
        log_id=found.log_id or secrets.token_hex(16),
        epoch=epoch,
        pid=os.getpid(),
        host=socket.gethostname(),
        prior_bytes=found.end if sealing else None,
        prior_lines=found.lines if sealing else None,
        prior_sha256=found.unsealed_sha256 if sealing else None,
    )
