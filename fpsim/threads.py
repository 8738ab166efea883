"""Threads: work split into chunks over a small pool. Imports arguments.

Kernels release the GIL and are run from ordinary Python threads: unlike Numba's own threading
layers this is safe when many threads call at once, and a pool lost to fork is made anew.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

from fpsim.arguments import integer

CHUNK = 1 << 17  # elements handed to a thread at a time
_VARIABLE = "FPSIM_NUM_THREADS"
_MOST = 1 << 16
_REMEDY = "give the number of threads, 1 or more"

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_count: int | None = None
_inside = threading.local()  # .work is True in a thread that is at work on a chunk


def get_num_threads() -> int:
    """How many threads fpsim uses on large arrays.

    That of the last `set_num_threads`, else of the environment variable ``FPSIM_NUM_THREADS``,
    else the number of processors that this process may use.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.set_num_threads(2)
    >>> fpsim.get_num_threads()
    2
    """
    if _count is not None:
        return _count
    text = os.environ.get(_VARIABLE, "").strip()
    if text:
        if not text.isdecimal():
            raise ValueError(f"{_VARIABLE}={text!r} is not an integer; {_REMEDY}")
        return integer(_VARIABLE, int(text), 1, _MOST, _REMEDY)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_num_threads(n: int) -> None:
    """Use `n` threads on large arrays, in this process. Results never depend on it.

    Parameters
    ----------
    n : int
        1 or more.

    Examples
    --------
    >>> import fpsim
    >>> before = fpsim.get_num_threads()
    >>> fpsim.set_num_threads(1)
    >>> fpsim.set_num_threads(before)
    """
    global _count
    _count = integer("n", n, 1, _MOST, _REMEDY)


def _forget() -> None:
    """In a forked child: the parent's threads are not there."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _executor(workers: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < workers:
            # An outgrown pool finishes what it has and goes with its last user.
            _pool = ThreadPoolExecutor(workers, thread_name_prefix="fpsim")
            _pool_size = workers
        return _pool


@contextmanager
def alone() -> Iterator[None]:
    """In it, this thread does all the work itself: for callers with threads of their own."""
    before = getattr(_inside, "work", False)
    _inside.work = True
    try:
        yield
    finally:
        _inside.work = before


def over_chunks(size: int, work: Callable[[int, int], None], chunk: int = CHUNK) -> None:
    """Call ``work(start, stop)`` for consecutive chunks of ``range(size)``, on all threads.

    The calling thread works too; what `work` raises is raised here.
    """
    # Work that calls this again goes on in its own thread: waiting for the pool in one of its
    # own threads could wait for ever.
    nested = getattr(_inside, "work", False)
    helpers = 0 if nested else min(get_num_threads(), -(-size // chunk)) - 1
    starts = itertools.count(0, chunk)  # its next() is atomic

    failed = threading.Event()

    def drain() -> None:
        _inside.work = True
        try:
            for start in starts:
                if start >= size or failed.is_set():
                    return
                work(start, min(start + chunk, size))
        except BaseException:
            failed.set()  # nobody starts on another chunk
            raise
        finally:
            _inside.work = nested

    if helpers <= 0:
        drain()
        return
    futures = []
    try:
        pool = _executor(helpers)
        futures = [pool.submit(drain) for _ in range(helpers)]
    except RuntimeError:
        pass  # the interpreter is shutting down and starts no threads: this one does the rest
    try:
        drain()
    finally:
        wait(futures)  # the caller may free what the work writes to
    for future in futures:
        future.result()
