"""Taking a file out of the page cache, so that a read shows what the storage holds; and looking whether it is gone."""

import ctypes
import mmap
import os

# As a PyDLL, it keeps the interpreter's lock: these calls take a microsecond, getting the lock back may take ten.
_libc = ctypes.PyDLL(None)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_MAP_FAILED = ctypes.c_void_p(-1).value
_RESIDENT = b"\x01"


def drop_cache(descriptor: int) -> bool:
    """Ask the system to forget its pages of an open file; whether none is left for certain.

    The kernel takes POSIX_FADV_DONTNEED for a wish: dirty pages and pages that others have mapped stay, and tmpfs has
    nothing but its pages. So mincore(2) is asked afterwards. False also where that cannot be told, as for files that
    this user may only read: the kernel then says that all pages are there.
    """
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        size_bytes = os.fstat(descriptor).st_size
    except OSError:
        return False
    return size_bytes == 0 or not _any_cached(descriptor, size_bytes)


def _any_cached(descriptor: int, size_bytes: int) -> bool:
    """Whether a page of the file is in memory, or it cannot be told."""
    address = _libc.mmap(None, size_bytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == _MAP_FAILED:
        return True
    pages = ctypes.create_string_buffer(-(-size_bytes // mmap.PAGESIZE))
    answered = _libc.mincore(address, size_bytes, pages) == 0
    _libc.munmap(address, size_bytes)
    return not answered or _RESIDENT in pages.raw
