"""glibc's malloc, kept from giving memory back between steps.

A training step allocates and frees the same large blocks again and again. glibc maps each of them anew and
returns it to the system, so that every step pays for the page faults of all its memory: on two cores, more
than half of CSI's time (docs/performance.md).
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
LARGEST = 2**31 - 1


def keep_memory(of_all_threads: bool = False) -> bool:
    """Serve large blocks from the heap and never trim it. True where the C library took it.

    For processes that train or score; a library that is merely imported leaves its host's malloc alone.

    Args:
        of_all_threads: one heap for all threads, for those that score in another than the first: the other
            heaps of glibc are given back whatever is said here, which costs two fifths more processor time
            (PaDiM at 256 pixels).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # musl has no mallopt
    if of_all_threads and not mallopt(M_ARENA_MAX, 1):
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST))
