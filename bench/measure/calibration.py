"""The best times of the yardsticks on this machine in the last day, kept in the user's cache.

A process that begins while the machine is slow and ends before it recovers would take slow for its
best; another process, an hour ago, knew better. The nodes of a cluster often share the home folder
with the cache in it: each knows its own bests alone, or a slow one would take the times of the
fastest for its own, and be found disturbed where it is slow.
"""

import hashlib
import json
import os
import platform
import time
from pathlib import Path

import platformdirs

#: After this a best is forgotten: a machine may have changed for good.
MAX_AGE_S = 24 * 3600
#: What decides how fast threads meet: how those of the GNU, LLVM and Intel runtimes wait, where
#: they are, and whether another runtime takes their place.
MEETING = (
    *("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"),
    *("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "LD_PRELOAD"),
)


def path() -> Path:
    """Return the file that holds them."""
    return Path(platformdirs.user_cache_dir("torch-device-bench")) / "yardsticks.json"


def _host() -> str:
    """Return a word of its own for this host, which does not tell the host's name."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:12]


def _entry(key: str) -> str:
    """Return the name under which the bests of this host with its software as `key` are kept.

    Settings by which threads meet faster or slower have bests of their own.
    """
    meeting = [f"{name}={os.environ[name]}" for name in MEETING if os.environ.get(name)]
    return " ".join([f"{_host()}:", key, *meeting])


def _read() -> dict[str, dict[str, float]]:
    """Return what is stored and not too old: by key, the time of storing and the bests."""
    try:
        stored = json.loads(path().read_text(encoding="utf-8"))
        return {
            key: {name: float(value) for name, value in entry.items()}
            for key, entry in stored.items()
            if 0 <= time.time() - float(entry["stored"]) < MAX_AGE_S
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # there is none, or something else than we wrote


def known(key: str) -> dict[str, float]:
    """Return the bests in seconds by name, of this host and its software as `key`."""
    stored = _read().get(_entry(key), {})
    return {name: s for name, s in stored.items() if name != "stored" and s > 0}


def keep(key: str, bests: dict[str, float]) -> None:
    """Store bests in seconds; one that is no better than the known keeps the age of that."""
    stored, key = _read(), _entry(key)
    before = stored.get(key, {})
    better = {name: min(s, before.get(name, s)) for name, s in bests.items()}
    if all(before.get(name) == s for name, s in better.items()):
        return
    stored[key] = {"stored": before.get("stored", time.time())} | better
    unfinished = path().with_suffix(f".{_host()}-{os.getpid()}")
    try:
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(stored), encoding="utf-8")
        unfinished.replace(path())
    except OSError:
        return  # a cache that cannot be written is none
