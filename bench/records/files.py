"""Files: read within bounds, and replaced as a whole or not at all."""

import contextlib
import errno
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

#: Bytes of a JSON file beyond which it is not read.
MAX_JSON = 2**28
#: First bytes of files that hold no text, and what to do with them.
PACKED = {
    b"\x1f\x8b": "packed with gzip: unpack it first",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook: unpack it, or save the sheet as CSV",
}


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of `limit` bytes at most; OSError for any other.

    A device or a pipe could have no end, or no writer. A packed file is no text.
    """
    known = path.stat()
    if stat.S_ISDIR(known.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    if not stat.S_ISREG(known.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if known.st_size > limit:
        raise OSError(errno.EFBIG, f"larger than {limit:,} bytes", str(path))
    raw = path.read_bytes()
    for magic, what in PACKED.items():
        if raw.startswith(magic):
            raise OSError(errno.EINVAL, what, str(path))
    return raw


def read_json(path: Path, limit: int = MAX_JSON) -> Any:
    """Return what a JSON file holds; OSError, or ValueError if it is not JSON or nested deeply."""
    raw = read_bytes(path, limit)
    try:
        return json.loads(raw)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def replace(path: Path, content: str | bytes) -> None:
    """Write a file beside `path` and move it into place; what was there is replaced whole or stays.

    A path that is no regular file, such as ``/dev/stdout``, is written to. Raises OSError.
    """
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    path = path.resolve() if path.is_symlink() else path
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    try:
        number, name = tempfile.mkstemp(prefix=f".{path.name[:50]}-", dir=path.parent)
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, str(path)) from problem
    try:
        with open(number, "wb") as file:
            file.write(data)
        os.chmod(name, stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~umask())
        os.replace(name, path)
    except BaseException as problem:
        with contextlib.suppress(OSError):
            os.unlink(name)
        if isinstance(problem, OSError):
            raise OSError(problem.errno, problem.strerror, str(path)) from problem
        raise


def umask() -> int:
    """Return the mask of new files, which can be read only by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
