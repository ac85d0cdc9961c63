"""Findings and figures as JSON."""

import json
import math
from typing import Any


def dumps(value: Any) -> str:
    """Return a value as JSON; infinite numbers and NaN, which JSON lacks, become null."""
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
