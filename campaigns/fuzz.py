"""Coverage-guided fuzzing of what reads bytes: no input may raise what is not foreseen, or lie.

The engine (atheris, which is libFuzzer) runs in a child process; it keeps the inputs that reach
new code, and goes on from them the next time if `--corpus` names a folder. It begins with logs
that the program made itself: sound, torn, damaged, of older versions and of other tools.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import msgspec

from eventlog import Durability, Event, EventLogError, Log, Verdict, codec, scan
from eventlog.decode import Block, Decoder
from eventlog.dicts import as_dict, as_dicts
from eventlog.lines import BytesSource, blocks, split
from eventlog.upcast import Form, convert

from .memory import MemoryFiles

MAX_BYTES = 4096
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_NEW = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/")


class Noted(Event, frozen=True, kw_only=True, tag="noted"):
    """What the reader's target knows; all else is unknown to it."""

    data: dict[str, Any]


def fuzz_codec(data: bytes) -> None:
    """A line that verifies is what sealing its parts gives; members come back as they went."""
    line, _, rest = data.partition(b"\n")
    said = codec.unseal(line)
    assert said is None or codec.looks_sealed(line)
    if said is not None:
        assert said.dur is None or said.dur >= 0
        assert codec.follows(line, said.seq, said.prev) == said.sum
    try:
        value = msgspec.json.decode(rest)
        members = codec.encode_members(value)
    except (*codec.UNREADABLE, EventLogError):
        return
    sealed, total = codec.seal(7, "2026-11-23T10:00:01.204417Z", members, codec.GENESIS, 3)
    assert codec.follows(sealed[:-1], 7, codec.GENESIS) == total
    back = msgspec.json.decode(sealed)
    for name in ("seq", "ts", "dur", "prev", "sum"):
        if name not in value:
            del back[name]
    assert set(value) == set(back)


def fuzz_recover(data: bytes) -> None:
    """A scan raises nothing; what it calls whole stays so; opening settles all but damage."""
    found = scan(BytesSource(data))
    assert 0 <= found.end <= len(data)
    kept = scan(BytesSource(data[: found.end]))
    if found.verdict is not Verdict.UNTERMINATED and found.sealed:
        assert (kept.verdict, kept.lines, kept.head) == (Verdict.WHOLE, found.lines, found.head)
    files = MemoryFiles({"/log": data})
    try:
        log = Log("/log", durability=Durability.OS, files=files, lock_path="/lock")
    except EventLogError:
        assert files.content("/log") == data, "a refused log was changed"
        return
    log.append({"type": "noted", "data": {}})
    log.close()
    after = scan(BytesSource(files.content("/log")))
    assert after.verdict is Verdict.WHOLE
    assert after.lines == found.lines + 2 + (log.recovered is not None)
    assert files.content("/log")[: found.end - found.junk].rstrip(b"\n") == data[
        : found.end - found.junk
    ].rstrip(b"\n")


def fuzz_reader(data: bytes) -> None:
    """A block's way gives what each line's gives; a bad line is one error of the log's tree."""
    seq = 0
    for offset, raw in blocks(BytesSource(data)):
        if not raw.endswith(b"\n"):
            break
        block = Block(seq, offset, raw)
        for verify in (False, True):
            decode: Decoder[Any] = Decoder(Noted, verify=verify)
            many, events = decode.records(block), decode.events(block)
            each = []
            for line in block.lines():
                try:
                    each.append(decode(line))
                except EventLogError:
                    assert many is None or not verify, "a block's way passed a line over"
                    many = events = None
            assert many is None or many == each
            # (Unchecked, this way looks at a damaged line's place only: the sums would show it.)
            if verify or all(codec.unseal(line.raw) for line in block.lines()):
                assert events is None or events == [record.event for record in each]
        _dicts(block)
        seq += raw.count(b"\n")


def _dicts(block: Block) -> None:
    many, each = as_dicts(block), []
    for line in block.lines():
        try:
            each.append(as_dict(line))
        except EventLogError:
            assert many is None
    assert many is None or many == each


def fuzz_upcast(data: bytes) -> None:
    """Converting raises nothing, and what is converted stays as it is the second time."""
    for _, line in split(BytesSource(data)):
        made = convert(line.removesuffix(b"\n"))
        if made.form in {Form.V1, Form.V2_0, Form.V2_1}:
            again = convert(made.line)
            assert (again.form, again.line) == (Form.V2_1, made.line)
            # (By another decoder, and numbers as they are spelled: some are beyond a float.)
            text = made.line.decode("utf-8-sig")
            assert isinstance(json.loads(text, parse_int=str, parse_float=str), dict)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "codec": fuzz_codec,
    "recover": fuzz_recover,
    "reader": fuzz_reader,
    "upcast": fuzz_upcast,
}


def missing() -> str:
    """Return why nothing can be fuzzed here, if so."""
    try:
        import atheris  # noqa: F401 - only whether it is there
    except ImportError:
        return "atheris is not installed: pip install atheris"
    return ""


def seeds() -> list[bytes]:
    """Return logs to begin with, the same every time."""
    files = MemoryFiles({})
    ticks = iter(range(1_700_000_000_000_000_000, 1_800_000_000_000_000_000, 1_000_001))
    for data in ({"n": 1}, {"text": 'a"\\é\n', "list": [1, 2.5, None, True]}):
        with Log("/log", files=files, lock_path="/lock", clock=lambda: next(ticks)) as log:
            log.append({"type": "noted", "data": data}, {"type": "other", "x": [data]})
    sound = files.content("/log")
    foreign = (
        b'{"timestamp":"2025-10-22T10:00:00","type":"step.started","step":"a"}\n'
        b'\xef\xbb\xbf{"ts":"2025-10-22T10:00:00+02:00","type":"x","tokens":12,"data":{"a":1e400}}\n'
        b'{"ts":"2025-10-22T10:00:00Z","level":"INFO","type":"x","data":{}}\n\n'
    )
    first = sound[: sound.index(b"\n") + 1]
    object_line = b'\n{"type":"noted","data":{"a":[1,{"b":null}],"c":-1.5e3}}'
    made = [b"", sound, foreign, foreign + sound, sound[:-9], sound[:-1], first + bytes(600)]
    return [*made, sound.replace(b'"n":1', b'"n":2'), first[:-1] + object_line]


_CHILD = """
import sys, atheris
with atheris.instrument_imports(include=["eventlog"]):
    from campaigns import fuzz
atheris.Setup(sys.argv[1:], fuzz.TARGETS[sys.argv.pop(1)])
atheris.Fuzz()
"""


def main(seconds: int, seed: int, targets: list[str] | None, corpus: str | None) -> int:
    """Fuzz each target and print figures; return how many found something wrong."""
    print(f"fuzz: seed {seed}, {seconds} s for each target")
    print(f"{'target':<10} {'executions':>12} {'branches':>9} {'corpus':>7}  findings")
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in targets or list(TARGETS):
            folder = os.path.join(corpus or scratch, name)
            os.makedirs(folder, exist_ok=True)
            for number, log in enumerate(seeds()):
                with open(os.path.join(folder, f"seed-{number}"), "wb") as file:
                    file.write(log)
            wrong += _fuzz(name, folder, corpus or scratch, seconds, seed % (1 << 31) or 1)
    return wrong


def _fuzz(name: str, folder: str, keep: str, seconds: int, seed: int) -> int:
    began = time.perf_counter()
    options = [f"-seed={seed}", f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}"]
    options += ["-rss_limit_mb=1024", "-timeout=10", f"-artifact_prefix={keep}/{name}-"]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, name, *options, folder],
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=seconds + 300,
    )
    told = done.stderr + done.stdout
    runs = _DONE.search(told)
    new = _NEW.findall(told)
    branches, _, inputs = new[-1] if new else ("0", "0", "0")
    count = int(runs[1]) if runs else 0
    found = "none" if done.returncode == 0 and runs else "WRONG"
    print(f"{name:<10} {count:>12,} {int(branches):>9,} {int(inputs):>7,}  {found}", flush=True)
    if found == "none":
        return 0
    print(f"WRONG: {name}, after {time.perf_counter() - began:.0f} s:\n{told[-3000:]}")
    return 1
