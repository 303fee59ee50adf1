"""What the figures were taken on: versions, kernel, file system, and how fast its sync is."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from importlib import metadata

from eventlog.fs import FILES

_PACKAGES = ("msgspec", "duckdb", "anyio", "httpx", "typer")


def describe(folder: str) -> dict[str, str]:
    """Return what a reader has to know to compare; nothing names the machine."""
    kind, device = _mount(folder)
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: _version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {_kernel()} {platform.machine()}, {os.cpu_count()} cores",
        "file system": f"{kind} on {_disk(device)}",
        "load before the first case": f"{os.getloadavg()[0]:.1f} (a quiet machine is below 0.5)",
        "write + sync of 256 bytes": f"{_sync_us(folder):.0f} us (median of 200)",
    }


def _kernel() -> str:
    """Return the kernel's number; what a builder hung on to it may name a machine."""
    found = re.match(r"\d+(\.\d+)*", platform.release())
    return found[0] if found else ""


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _mount(folder: str) -> tuple[str, str]:
    """Return the file system and the device that hold a folder, as far as the system tells."""
    best = ("", "unknown", "")
    real = os.path.realpath(folder)
    try:
        with open("/proc/mounts", encoding="utf-8") as mounts:
            for line in mounts:
                device, point, kind = line.split()[:3]
                within = real == point or real.startswith(point.rstrip("/") + "/")
                if within and len(point) >= len(best[0]):
                    best = (point, kind, device)
    except OSError:
        pass
    return best[1], best[2]


def _disk(device: str) -> str:
    name = os.path.basename(os.path.realpath(device)) if device.startswith("/dev/") else ""
    if not name:
        return "memory or a network" if device else "an unknown disk"
    whole = name if os.path.exists(f"/sys/block/{name}") else name.rstrip("0123456789").rstrip("p")
    kinds = {"vd": "a virtual disk", "xv": "a virtual disk", "nv": "an NVMe disk"}
    if kind := kinds.get(whole[:2]):
        return kind
    try:
        with open(f"/sys/block/{whole}/queue/rotational", encoding="ascii") as file:
            return "a rotating disk" if file.read().strip() == "1" else "a solid state disk"
    except OSError:
        return "an unknown disk"


def _sync_us(folder: str) -> float:
    path = os.path.join(folder, "sync-probe")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    taken = []
    try:
        for _ in range(200):
            begun = time.perf_counter()
            os.write(fd, b"x" * 256)
            FILES.sync_data(fd)
            taken.append(time.perf_counter() - begun)
    finally:
        os.close(fd)
        os.unlink(path)
    return statistics.median(taken) * 1e6
