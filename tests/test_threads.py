"""Threads: how many there are, that callers cannot get in each other's way, and fork.

What could hang runs in a process of its own with a time limit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import fpsim
from fpsim.analysis.measure import measured_summary
from fpsim.threads import alone, over_chunks

LIMIT = 120  # seconds; a pass takes a few
HAS_FORK = hasattr(os, "fork")

PREAMBLE = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import fpsim
fpsim.set_num_threads(4)
x = np.random.default_rng(0).lognormal(-3, 2, 700_000).astype(np.float32)
def work(_=0):
    a = fpsim.round(x, "float8_e4m3fn")
    b = fpsim.encode(x, "float8_e4m3fn", rounding="stochastic", rng=7)
    c = fpsim.decode(b, "float8_e4m3fn")
    s = fpsim.Sketch.of(x)
    e = fpsim.measured_error(x, "float8_e4m3fn", 16.0)
    r = fpsim.recommend(x[:50_000], 6)
    return a.tobytes() + b.tobytes() + c.tobytes(), s, e, r.best
"""


def run(code: str, **environment: str) -> str:
    """Output of a script, which must end by itself and well."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def _threads() -> Iterator[None]:
    before = fpsim.get_num_threads()
    yield
    fpsim.set_num_threads(before)


# How many ---------------------------------------------------------------------------------------


def test_number_from_the_environment() -> None:
    code = """
        import os, fpsim
        print(fpsim.get_num_threads())
        os.environ["FPSIM_NUM_THREADS"] = " 3 "
        print(fpsim.get_num_threads())
        os.environ["FPSIM_NUM_THREADS"] = ""
        print(fpsim.get_num_threads() == len(os.sched_getaffinity(0)))
        os.environ["FPSIM_NUM_THREADS"] = "7"
        fpsim.set_num_threads(2)  # comes before the environment
        print(fpsim.get_num_threads())
    """
    assert run(code, FPSIM_NUM_THREADS="5").split() == ["5", "3", "True", "2"]


def test_number_is_that_of_usable_processors() -> None:
    code = """
        import os, fpsim
        os.environ.pop("FPSIM_NUM_THREADS", None)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(fpsim.get_num_threads())
    """
    assert run(code).split() == ["1"]


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("n", [1, 2, 5, np.int64(3)])
def test_set_and_get(n: int) -> None:
    fpsim.set_num_threads(n)
    assert fpsim.get_num_threads() == n
    assert type(fpsim.get_num_threads()) is int


@pytest.mark.usefixtures("_threads")
def test_no_thread_but_the_caller_works_where_one_is_asked_for() -> None:
    seen = set()
    fpsim.set_num_threads(1)
    over_chunks(1000, lambda start, stop: seen.add(threading.get_ident()), chunk=1)
    assert seen == {threading.get_ident()}


@pytest.mark.usefixtures("_threads")
def test_so_many_threads_work_as_are_asked_for_and_no_more() -> None:
    fpsim.set_num_threads(4)
    all_here = threading.Barrier(4, timeout=30)  # breaks unless four come
    seen = set()

    def work(start: int, stop: int) -> None:
        if threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            all_here.wait()

    over_chunks(1000, work, chunk=1)
    assert len(seen) == 4
    assert threading.get_ident() in seen


@pytest.mark.usefixtures("_threads")
def test_alone() -> None:
    """For callers with threads of their own; and afterwards as before."""
    fpsim.set_num_threads(4)
    seen = set()

    def work(start: int, stop: int) -> None:
        seen.add(threading.get_ident())
        time.sleep(0.001)

    with alone():
        with alone():
            over_chunks(20, work, chunk=1)
        over_chunks(20, work, chunk=1)
    assert seen == {threading.get_ident()}
    over_chunks(100, work, chunk=1)
    assert len(seen) > 1


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 100, 101])
@pytest.mark.parametrize("threads", [1, 3])
def test_chunks_cover_the_range_once(size: int, threads: int) -> None:
    fpsim.set_num_threads(threads)
    done: list[tuple[int, int]] = []
    over_chunks(size, lambda start, stop: done.append((start, stop)), chunk=10)
    starts = list(range(0, size, 10))
    assert sorted(done) == [(start, min(start + 10, size)) for start in starts]


# The same results -------------------------------------------------------------------------------


@pytest.mark.usefixtures("_threads")
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    x = np.random.default_rng(0).lognormal(-3, 2, 900_001).astype(np.float32)
    x[::1000] = np.nan
    seen = []
    for threads in (1, 2, 5):
        fpsim.set_num_threads(threads)
        flags = np.empty(x.shape, np.uint8)
        error = measured_summary(x, "float8_e4m3fn", 16.0, rounding="stochastic", rng=3)
        recommendation = fpsim.recommend(x[:100_000], 6)
        seen.append(
            (
                fpsim.round(x, "float8_e4m3fn", flags=flags).tobytes(),
                flags.tobytes(),
                fpsim.encode(x, "binary8p3se", rounding="stochastic", rng=3).tobytes(),
                fpsim.Stream(4).words(900_001).tobytes(),
                fpsim.Sketch.of(x),
                fpsim.Sketch.of(x.astype(np.float64)),
                error,
                recommendation.candidates,
            )
        )
    assert seen[0] == seen[1]
    assert seen[0] == seen[2]


# Many callers -----------------------------------------------------------------------------------


def test_many_threads_at_once() -> None:
    code = (
        PREAMBLE
        + """
want = work()
with ThreadPoolExecutor(12) as pool:
    results = list(pool.map(work, range(36)))
assert all(r == want for r in results)
print("done")
"""
    )
    assert run(code).split() == ["done"]


def test_many_threads_meet_at_the_first_call() -> None:
    """Kernels are compiled or loaded, and the pool made, by whoever comes first."""
    code = (
        PREAMBLE
        + """
ready = threading.Barrier(8)
def first(i):
    ready.wait()
    return work()
with ThreadPoolExecutor(8) as pool:
    results = list(pool.map(first, range(8)))
assert all(r == results[0] for r in results)
print("done")
"""
    )
    assert run(code).split() == ["done"]


def test_the_number_of_threads_changes_while_others_work() -> None:
    code = (
        PREAMBLE
        + """
want = fpsim.round(x, "e4m3").tobytes()
stop = threading.Event()
def change():
    n = 0
    while not stop.is_set():
        n = n % 9 + 1
        fpsim.set_num_threads(n)
changer = threading.Thread(target=change)
changer.start()
with ThreadPoolExecutor(6) as pool:
    results = list(pool.map(lambda _: fpsim.round(x, "e4m3").tobytes(), range(100)))
stop.set(); changer.join()
assert all(r == want for r in results)
print("done")
"""
    )
    assert run(code).split() == ["done"]


def test_work_that_calls_fpsim_again() -> None:
    """From chunks of fpsim's own pool: waiting for the pool there could wait for ever."""
    code = (
        PREAMBLE
        + """
from fpsim.threads import over_chunks
want = fpsim.round(x, "e4m3").tobytes()
results = []
def outer(start, stop):
    def inner(start, stop):
        results.append(fpsim.round(x, "e4m3").tobytes() == want)
    over_chunks(3, inner, chunk=1)
over_chunks(20, outer, chunk=1)
assert len(results) == 60 and all(results)
print("done")
"""
    )
    assert run(code).split() == ["done"]


# Errors -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("where", [0, 5, 99])
def test_what_work_raises_reaches_the_caller(threads: int, where: int) -> None:
    fpsim.set_num_threads(threads)

    def work(start: int, stop: int) -> None:
        if start == where:
            raise KeyError(f"chunk {start}")

    for _ in range(20):
        with pytest.raises(KeyError, match=f"chunk {where}"):
            over_chunks(100, work, chunk=1)
    # The pool is as good as before.
    x = np.linspace(0, 1, 500_000, dtype=np.float32)
    assert fpsim.round(x, "e4m3")[-1] == 1.0


@pytest.mark.usefixtures("_threads")
def test_nobody_works_on_after_an_error_is_raised() -> None:
    """The caller may free what the work writes to."""
    fpsim.set_num_threads(3)
    caller = threading.get_ident()
    for turn in range(6):
        all_here = threading.Barrier(3, timeout=30)
        helpers: list[int] = []
        working = threading.Event()

        def work(
            start: int,
            stop: int,
            turn: int = turn,
            all_here: threading.Barrier = all_here,
            helpers: list[int] = helpers,
            working: threading.Event = working,
        ) -> None:
            me = threading.get_ident()
            if me != caller:
                helpers.append(me)
            all_here.wait()
            if me == caller:
                return
            if me == helpers[turn % 2]:
                raise ValueError("one of two")
            working.set()
            time.sleep(0.1)
            working.clear()

        with pytest.raises(ValueError, match="one of two"):
            over_chunks(3, work, chunk=1)
        assert not working.is_set()


@pytest.mark.usefixtures("_threads")
def test_errors_of_progress_reach_the_caller() -> None:
    fpsim.set_num_threads(3)

    def progress(done: int) -> None:
        raise RuntimeError("the bar broke")

    with pytest.raises(RuntimeError, match="the bar broke"):
        fpsim.Sketch.of(np.ones(2_000_000, np.float32), progress)


# fork -------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_FORK, reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestFork:
    def test_child_after_parent_used_threads(self) -> None:
        code = (
            PREAMBLE
            + """
import os, warnings
warnings.simplefilter("ignore")
want = work()
children = []
for i in range(3):
    pid = os.fork()
    if pid == 0:
        ok = False
        try:
            ok = work() == want
        finally:
            os._exit(0 if ok else 1)
    children.append(pid)
    assert work() == want  # the parent goes on
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
print(codes)
"""
        )
        assert run(code).strip() == "[0, 0, 0]"

    def test_fork_while_other_threads_are_at_work(self) -> None:
        code = (
            PREAMBLE
            + """
import os, time, warnings
warnings.simplefilter("ignore")
want = fpsim.round(x, "e4m3").tobytes()
stop = threading.Event()
def busy():
    while not stop.is_set():
        fpsim.round(x, "e4m3")
threads = [threading.Thread(target=busy) for _ in range(3)]
for t in threads: t.start()
codes = []
for i in range(15):
    time.sleep(0.01)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if fpsim.round(x, "e4m3").tobytes() == want else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.set()
for t in threads: t.join()
print(set(codes))
"""
        )
        assert run(code).strip() == "{0}"

    def test_fork_from_within_work(self) -> None:
        """A child forked by a thread at work on a chunk has all its threads again."""
        code = (
            PREAMBLE
            + """
import os, warnings
warnings.simplefilter("ignore")
from fpsim.threads import over_chunks
want = fpsim.round(x, "e4m3").tobytes()
codes = []
def outer(start, stop):
    if start == 0:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if fpsim.round(x, "e4m3").tobytes() == want else 1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
over_chunks(8, outer, chunk=1)
print(codes)
"""
        )
        assert run(code).strip() == "[0]"

    @pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
    def test_multiprocessing(self, method: str, tmp_path: object) -> None:
        script = f"{tmp_path}/script.py"
        with open(script, "w") as file:
            file.write(
                PREAMBLE
                + f"""
import multiprocessing, hashlib, warnings
warnings.simplefilter("ignore")
def digest(i):
    return hashlib.sha256(fpsim.encode(x, "e4m3", rounding="stochastic", rng=7)).hexdigest()
if __name__ == "__main__":
    want = digest(0)
    with multiprocessing.get_context({method!r}).Pool(3) as pool:
        print(set(pool.map(digest, range(6))) == {{want}})
"""
            )
        done = subprocess.run(
            [sys.executable, script], capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.strip() == "True"


def test_ends_without_waiting() -> None:
    """Threads of the pool do not keep the process, nor complain as it ends."""
    assert run(PREAMBLE + "fpsim.round(x, 'e4m3'); print('end')").split() == ["end"]


def test_at_exit() -> None:
    """Used for the last time when the interpreter shuts down."""
    code = (
        PREAMBLE
        + """
import atexit
atexit.register(lambda: print(len(fpsim.round(x, "e4m3"))))
"""
    )
    assert run(code).split() == ["700000"]


def test_from_a_thread_that_outlives_the_main_one() -> None:
    code = (
        PREAMBLE
        + """
import time
def late():
    time.sleep(0.3)
    print(len(fpsim.round(x, "e4m3")))
threading.Thread(target=late).start()
"""
    )
    assert run(code).split() == ["700000"]
