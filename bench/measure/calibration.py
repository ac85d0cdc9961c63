"""The calibration cache: best times of the reference kernels in the last day, per machine.

A process that runs while the machine is slow would otherwise take a slow time for the best one; an
earlier process knows better. The nodes of a cluster often share a home folder, and so this cache.
So each host has entries of its own: a slow node is not disturbed only because another one is fast.
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from bench.records.files import read_json, replace

#: Older entries are ignored: the machine may have changed permanently.
MAX_AGE_S = 24 * 3600
#: Bytes of the file beyond which it is not read.
MAX_BYTES = 2**20
#: A stored time that is so many times shorter than one measured now is no time of this machine.
ABSURD = 10.0
#: Variables that change how fast threads synchronise: how the threads of the GNU, LLVM and Intel
#: runtimes wait, where they run, and which runtime is loaded.
SYNCHRONISATION = (
    *("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"),
    *("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "LD_PRELOAD"),
)


def path() -> Path:
    """Return the file of the cache."""
    return Path(platformdirs.user_cache_dir("torch-device-bench")) / "reference-kernels.json"


def _entry(key: str) -> str:
    """Return the cache key of this host with the software and thread settings it uses now.

    It does not reveal the name of the host.
    """
    host = hashlib.sha256(platform.node().encode()).hexdigest()[:12]
    settings = [f"{name}={os.environ[name]}" for name in SYNCHRONISATION if os.environ.get(name)]
    return " ".join([f"{host}:", key, *settings])


def _read() -> dict[str, dict[str, float]]:
    """Return the entries that are not too old: best times by name, and the time of storing."""
    try:
        stored = read_json(path(), MAX_BYTES)
        return {
            key: {name: s for name, value in entry.items() if 0 < (s := float(value)) < math.inf}
            for key, entry in stored.items()
            if 0 <= time.time() - float(entry["stored"]) < MAX_AGE_S
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return {}  # no cache, or not in our format


def known(key: str) -> dict[str, float]:
    """Return the best times in seconds by name, for this host and its software `key`."""
    stored = _read().get(_entry(key), {})
    return {name: s for name, s in stored.items() if name != "stored"}


def keep(key: str, bests: Mapping[str, float], discard: bool = False) -> None:
    """Store best times in seconds; an earlier time that is shorter stays.

    An entry keeps its age when its times improve. `discard` throws the earlier times away.
    """
    stored, key = _read(), _entry(key)
    before = {} if discard else stored.get(key, {})
    better = {name: min(s, before.get(name, s)) for name, s in bests.items()}
    if all(before.get(name) == s for name, s in better.items()):
        return
    stored[key] = {"stored": before.get("stored", time.time())} | better
    with contextlib.suppress(OSError):  # works without a cache
        path().parent.mkdir(parents=True, exist_ok=True)
        replace(path(), json.dumps(stored))
