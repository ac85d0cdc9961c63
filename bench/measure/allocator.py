"""The host's allocator, in the state a long-running process reaches."""

import ctypes
import platform

# Parameters of mallopt(3), from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: The largest values glibc's thresholds grow to by themselves on a 64-bit machine.
_LARGEST = {_MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}


def settle_allocator() -> bool:
    """Set glibc's thresholds to where they end in a long process; whether that was possible.

    They start low and grow with what is freed, so that a call that returns some MiB reuses memory
    or pays for fresh pages depending on which cells ran before it, and its time differs tenfold
    (mallopt(3), M_MMAP_THRESHOLD). From here on, below 32 MiB memory is reused and above it every
    call pays for fresh pages, in every run alike. Other allocators are left alone.
    """
    if platform.libc_ver()[0] != "glibc" or ctypes.sizeof(ctypes.c_void_p) < 8:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = [mallopt(parameter, value) == 1 for parameter, value in _LARGEST.items()]
    return all(done)
