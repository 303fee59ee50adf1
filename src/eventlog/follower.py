"""Hand out the lines of a growing log: each once, in order, whatever is done to the file.

What a follower does about

- a partial line: it waits for the newline.
- lines that are no longer there (a batch whose sync failed is taken back by its writer, having
  been promised to nobody; or the file was cut): it raises LogRewritten, which names the first
  event that was handed out and is gone. Going on after that hands out what stands there now.
- another file under the log's name: it reads the old one to its end. Where the new one holds the
  line that was read last at the same place (its sum stands for all before it), nothing has
  happened; else it raises LogRewritten, and going on begins with the new file's first line.
- no file under the name: it keeps what it has open, and waits for the name.

A line is handed out when it is complete in the file, which may be before its writer's sync has
returned.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from .bulk import is_chained
from .decode import Block, Line
from .errors import LogNotFound, LogRewritten
from .lines import blocks, each
from .reader import Place, resume_at, told
from .source import LogFile

POLL_S = 0.1
"""The longest pause between two looks."""

FIRST_POLL_S = 0.001
"""The first one after a change; each is twice as long as the one before."""

_MARK = 4096
_KEPT = 256
_READINGS = 3
_NOTHING = Block(0, 0, b"")


class Follower:
    """Hand out the lines that a growing log gained, without missing or repeating one.

    Args:
        path: the log file.
        from_end: begin with what comes after the lines that are there now.
        after: begin after this record or checkpoint.

    Raises:
        LogNotFound: there is no file at `path`.
        LogRewritten: the log does not hold the line that `after` names.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        from_end: bool = False,
        after: Place | None = None,
    ) -> None:
        self._file = LogFile(path)
        self._offset = self._seq = 0
        self._mark = b""  # what stands before the offset, as it was read
        self._last = _NOTHING  # what was read last, to name what is gone of it
        self._before: deque[tuple[int, int, bytes]] = deque(maxlen=_KEPT)
        try:
            if after is not None and after.seq >= 0:  # (-1: after nothing)
                self._begin(after)
            while from_end and self.block() is not None:
                pass
        except BaseException:
            self.close()
            raise

    @property
    def seq(self) -> int:
        """The seq of the line that is handed out next."""
        return self._seq

    @property
    def offset(self) -> int:
        """Where that line begins."""
        return self._offset

    def block(self) -> Block | None:
        """Return complete lines that were not handed out yet, None if there are none.

        Raises:
            LogRewritten: lines that were handed out are no longer there. The next call goes on
                with those that are, from the error's seq.
            LineTooLong, EventLogError: the file can't be read.
        """
        found = self._new()
        if found is not None:
            self._take(found, len(found.raw), found.raw.count(b"\n"))
        return found

    def poll(self) -> Iterator[Line]:
        """Yield the lines that are complete now; those not taken stay for the next call.

        Raises:
            LogRewritten, LineTooLong, EventLogError: as `block`.
        """
        while (found := self._new()) is not None:
            for line in found.lines():
                self._take(found, line.end - found.offset, line.seq + 1 - found.seq)
                yield line

    def follow(
        self, ended: Callable[[], bool], sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[Line]:
        """Yield lines until `ended()` says that no more will come and all are handed out."""
        pause = FIRST_POLL_S
        while True:
            last, seq = ended(), self._seq
            yield from self.poll()
            if last:
                return
            pause = FIRST_POLL_S if self._seq != seq else min(2 * pause, POLL_S)
            sleep(pause)

    def close(self) -> None:
        """Close the file; more than once is fine."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- inside ----------------------------------------------------------------------------------

    def _begin(self, after: Place) -> None:
        with told(self._file.path, lambda: after.seq):
            offset = resume_at(self._file, after)
        if offset is None:
            raise LogRewritten(
                "the log does not hold the line to go on after",
                path=self._file.path,
                seq=after.seq,
                offset=after.offset,
                hint="read it from the start",
            )
        size = min(offset - after.offset, _MARK)
        self._stand(offset, after.seq + 1, self._file.read_at(offset - size, size))

    def _take(self, block: Block, size: int, count: int) -> None:
        """Go past the first `count` lines of a block, which are `size` bytes."""
        if block is not self._last:
            self._before.append((self._offset, self._seq, self._mark))
            self._last = block
        begin = max(block.raw.rfind(b"\n", 0, size - 1) + 1, size - _MARK)
        self._stand(block.offset + size, block.seq + count, block.raw[begin:size])

    def _stand(self, offset: int, seq: int, mark: bytes) -> None:
        self._offset, self._seq, self._mark = offset, seq, mark

    def _new(self) -> Block | None:
        """Return complete lines that are new, in this file or in one that took its name."""
        with told(self._file.path, lambda: self._seq):
            found = self._read()
            if found is None and not self._file.has_name():
                # What came before the name went is read first.
                found = self._read() or (self._read() if self._change() else None)
            return found

    def _read(self) -> Block | None:
        """Return the next block, once it is sure to follow what was handed out."""
        found: bytes | None = None
        for _ in range(_READINGS):
            self._file.refresh()
            self._check()
            _, raw = next(blocks(self._file, self._offset), (0, b""))
            if not raw.endswith(b"\n"):
                return None
            # Their writer may take lines back and put others there while they are read: the
            # last one handed out still stands, and they fit together, or this log is damaged
            # and they are the same again.
            self._check()
            again = found is not None and raw.startswith(found)
            if again or is_chained(raw[:-1].split(b"\n"), _sum_in(self._mark)):
                return Block(self._seq, self._offset, raw)
            found = raw
        return None  # it does not hold still: perhaps the next time

    def _check(self) -> None:
        """Look whether the line that was handed out last still stands where it stood.

        Raises:
            LogRewritten: it does not; the position is now the latest one that holds.
        """
        if self._holds(self._file, self._offset, self._mark):
            return
        self._file.refresh()
        last, size, cut = self._seq - 1, self._file.size, self._file.size < self._offset
        self._go_back()
        what = f"the log shrank to {size} bytes" if cut else "other lines stand in their place"
        raise self._rewritten(last, what)

    def _go_back(self) -> None:
        """Stand after the last line of those handed out that is still there."""
        block = self._last
        read = block.raw[: self._offset - block.offset] if block.raw else b""
        stands = self._file.read_at(block.offset, len(read))
        whole = count = 0
        for line in each(read):
            if not stands.startswith(line, whole):
                break
            whole, count = whole + len(line), count + 1
        if whole:
            return self._take(block, whole, count)
        self._last = _NOTHING
        while self._before:
            before = self._before.pop()
            if self._holds(self._file, before[0], before[2]):
                return self._stand(*before)
        return self._stand(0, 0, b"")

    def _rewritten(self, last: int, what: str) -> LogRewritten:
        gone = f"event {last} is" if last == self._seq else f"events {self._seq} to {last} are"
        return LogRewritten(
            f"{gone} not in the log any more, and had been read: {what}",
            path=self._file.path,
            seq=self._seq,
            offset=self._offset,
            hint="what was not synced may be taken back; read on from there, or from the start",
        )

    def _change(self) -> bool:
        """Go on in the file that has the name now; return whether there is one.

        Raises:
            LogRewritten: it is another log.
        """
        try:
            other = LogFile(self._file.path)
        except LogNotFound:
            return False
        self._file.close()
        self._file = other
        if not self._offset:
            return True
        if _sum_in(self._mark) and self._holds(other, self._offset, self._mark):
            return True
        last = self._seq - 1
        self._stand(0, 0, b"")
        self._last = _NOTHING
        self._before.clear()
        raise self._rewritten(last, "another file has the log's name now")

    @staticmethod
    def _holds(file: LogFile, offset: int, mark: bytes) -> bool:
        return not mark or file.read_at(offset - len(mark), len(mark)) == mark


def _sum_in(mark: bytes) -> bytes:
    """Return the sum of the line that ends with these bytes, empty if it is not sealed."""
    return mark[-19:-3] if mark[-27:-19] == b',"sum":"' else b""
