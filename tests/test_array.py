"""FloatArray: an array of a format's numbers that computes as NumPy's arrays do."""

from __future__ import annotations

import asyncio
import copy
import operator
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim import FloatArray, Stochastic

E4M3 = "float8_e4m3fn"
X = [1.0, 0.3125, -22.0, 0.0]
Y = [2.0, -1.5, 0.5, 4.0]


def same(got: Any, want: Any) -> None:
    assert np.array_equal(np.asarray(got), np.asarray(want), equal_nan=True), (got, want)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_operators_are_the_functions(name: str) -> None:
    sign = {"add": "add", "subtract": "sub", "multiply": "mul", "divide": "truediv"}[name]
    x, y = fpsim.array(X, E4M3), fpsim.array(Y, E4M3)
    want = getattr(fpsim, name)(X, Y, E4M3)
    for got in (getattr(operator, sign)(x, y), getattr(np, name)(x, y)):
        assert isinstance(got, FloatArray)
        assert got.fmt == fpsim.Format.parse(E4M3)
        same(got, want)
    same(getattr(operator, sign)(x, 1.37), getattr(fpsim, name)(X, 1.37, E4M3))  # an exact operand
    same(getattr(operator, sign)(1.37, y), getattr(fpsim, name)(1.37, Y, E4M3))
    numbers = np.array([0.1, 7, 1e-3, 5])
    same(getattr(operator, sign)(numbers, y), getattr(fpsim, name)(numbers, Y, E4M3))


def test_other_functions_of_numpy() -> None:
    x, y = fpsim.array(X, E4M3), fpsim.array(Y, E4M3)
    same(np.sqrt(abs(x)), fpsim.sqrt(np.abs(X), E4M3))
    same(-x, -np.array(X))
    assert np.signbit((-x).values[3])
    same(+x, X)
    same(np.maximum(x, y), np.maximum(X, Y))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        got = getattr(operator, name)(x, y)
        assert got.dtype == bool
        same(got, getattr(operator, name)(np.array(X), np.array(Y)))
    wider = fpsim.array(X, "float8_e5m2")
    same(np.isnan(wider / (wider - wider)), [False, False, False, True])
    same(np.isinf(wider / (wider - wider)), [True, True, True, False])
    wide = fpsim.array(Y, "binary32")
    assert (fpsim.array(Y, E4M3) == wide).all()  # comparing needs no format
    with pytest.raises(TypeError):
        np.sin(x)
    with pytest.raises(TypeError):
        np.add.accumulate(x)


def test_sums_in_a_stated_order() -> None:
    x = fpsim.array(np.ones((2, 40)), E4M3)
    same(np.sum(x, axis=1), [16, 16])
    same(np.add.reduce(x, axis=1), [16, 16])
    same(x.sum(axis=0), np.full(40, 2.0))
    same(x.sum(order="pairwise"), 80)
    same(x.sum(axis=1, order="exact"), [40, 40])
    same(x.sum(order="kahan"), fpsim.dot(np.ones(80), np.ones(80),
                                         fpsim.Accumulator(E4M3, order="kahan")))  # fmt: skip


def test_matrix_products() -> None:
    rng = np.random.default_rng(0)
    a, b = (fpsim.array(rng.standard_normal(s), E4M3) for s in ((3, 5), (5, 4)))
    unit = fpsim.Accumulator(E4M3)
    same(a @ b, fpsim.matmul(a.values, b.values, unit))
    same(a @ b[:, 0], fpsim.dot(a.values, b.values[:, 0], unit))
    same(a[0] @ b, fpsim.matmul(a.values[:1], b.values, unit)[0])
    same(a[0] @ b[:, 0], fpsim.dot(a.values[0], b.values[:, 0], unit))
    same(np.matmul(a, b), (a @ b).values)


def test_formats_that_differ_need_a_result() -> None:
    x, y = fpsim.array([1.0, 0.3], E4M3), fpsim.array([0.3, 3.0], "float8_e5m2")
    for fails in (lambda: x + y, lambda: x @ y, lambda: np.concatenate([x, y])):
        with pytest.raises(TypeError, match=r"float8_e4m3fn and float8_e5m2.*fpsim\.result"):
            fails()
    with fpsim.result("binary16", rounding="toward_zero"):
        z = x / y
    assert z.fmt == fpsim.Format.parse("binary16")
    same(z, fpsim.divide(x.values, y.values, "binary16", rounding="toward_zero"))
    with fpsim.result(overflow="saturate"):
        same(fpsim.array([448.0], E4M3) * 2.0, [448])
    assert np.isnan((fpsim.array([448.0], E4M3) * 2.0).values).all()


def test_results_hold_in_their_own_thread_and_task() -> None:
    x = fpsim.array([1.0], E4M3)
    seen = []
    with fpsim.result(rounding="toward_positive"):
        thread = threading.Thread(target=lambda: seen.append(float((x + 2.0**-20)[0])))
        thread.start()
        thread.join()
        seen.append(float((x + 2.0**-20)[0]))
    assert seen == [1.0, 1.125]

    async def up() -> float:
        with fpsim.result(rounding="toward_positive"):
            await asyncio.sleep(0.01)
            return float((x + 2.0**-20)[0])

    async def nearest() -> float:
        await asyncio.sleep(0.005)
        return float((x + 2.0**-20)[0])

    async def both() -> list[float]:
        return list(await asyncio.gather(up(), nearest()))

    assert asyncio.run(both()) == [1.125, 1.0]


def test_random_results_go_on_in_their_stream() -> None:
    x = fpsim.array(np.ones(50), E4M3)
    with fpsim.result(rounding=Stochastic(8), rng=4):
        first, second = x + 0.04, x + 0.04
    want = fpsim.add(np.ones(50), 0.04, E4M3, rounding=Stochastic(8), rng=4)
    same(first, want)
    assert not np.array_equal(first.codes, second.codes)
    again = fpsim.add(np.ones(50), 0.04, E4M3, rounding=Stochastic(8), rng=fpsim.Stream(4, 50))
    same(second, again)


def test_shapes_and_copies() -> None:
    x = fpsim.array(np.arange(6.0).reshape(2, 3), E4M3)
    same(x[1], [3, 4, 5])
    same(x[:, ::-1], np.arange(6.0).reshape(2, 3)[:, ::-1])
    same(x[x > 2.0], [3, 4, 5])
    same(x.reshape(3, 2), np.arange(6.0).reshape(3, 2))
    same(np.reshape(x, (6,)), np.arange(6.0))
    same(x.T, np.arange(6.0).reshape(2, 3).T)
    same(np.transpose(x), x.T.values)
    same(np.concatenate([x, x], axis=1), np.tile(x.values, 2))
    same(np.stack([x[0], x[1]]), x.values)
    assert [float(e) for e in x[0]] == [0, 1, 2]
    assert (len(x), x.shape, x.ndim, x.size) == (2, (2, 3), 2, 6)
    y = x.copy()
    y[0, 0] = 7.0
    assert float(x[0, 0]) == 0
    assert float(y[0, 0]) == 7
    x[0] = y[1]
    same(x[0], y[1])
    same(x.astype("float4_e2m1fn"), fpsim.round(x.values, "float4_e2m1fn"))
    for other in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x)):
        assert other.fmt == x.fmt
        assert np.array_equal(other.codes, x.codes)


def test_codes_are_shared_with_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    theirs = np.array(X, ml_dtypes.float8_e4m3fn)
    x = fpsim.array(theirs)
    assert x.fmt == fpsim.Format.parse(E4M3)
    assert np.shares_memory(x.codes, theirs)
    back = x.view(ml_dtypes.float8_e4m3fn)
    assert np.shares_memory(back, theirs)
    assert np.array_equal(back, theirs)
    half = fpsim.array(np.float16([1.5, -2]))
    assert half.codes.tolist() == [0x3E00, 0xC000]
    with pytest.raises(ValueError, match="the array is float8_e4m3fn"):
        x.view(ml_dtypes.float8_e5m2)


def test_it_shows_itself() -> None:
    x = fpsim.array([1.0, -0.3], E4M3)
    assert repr(x) == "array([ 1.    , -0.3125], fmt='float8_e4m3fn')"
    assert repr(x[0]) == "array(1., fmt='float8_e4m3fn')"
    fine = fpsim.array([1 / 3, -0.0, np.inf, np.nan], "binary32")
    named = fpsim.array([1.0, 1 / 3], fpsim.Format(4, 9, bias=3, name="mine"))
    for each in (x, x[0], fine, named, fpsim.array([], E4M3), fpsim.array([[1.0]], "1-4-3")):
        again = eval(repr(each), vars(fpsim) | {"nan": np.nan, "inf": np.inf})
        assert (again.fmt, again.shape) == (each.fmt, each.shape)
        assert np.array_equal(again.codes, each.codes)
    page = x._repr_html_()
    assert "float8_e4m3fn" in page
    assert "-0.3125" in page
    assert "170" in page  # the code
    named = fpsim.Format(4, 3, name="<b>")
    assert "<b>" not in fpsim.array([1.0], named)._repr_html_()


def test_bad_input() -> None:
    with pytest.raises(TypeError, match="give fmt="):
        fpsim.array([1.0, 2.0])
    with pytest.raises(ValueError, match="codes=256 is out of range"):
        FloatArray([256], E4M3)
    with pytest.raises(ValueError, match=r"codes=16 is out of range.*0 to 15"):
        FloatArray(np.array([16], np.uint8), "float4_e2m1fn")
    with pytest.raises(TypeError, match="codes have dtype float64"):
        FloatArray([0.5], E4M3)
    x = fpsim.array([1.0], E4M3)
    with pytest.raises(TypeError, match=r"fpsim\.result"):
        x[0] = fpsim.array([1.0], "float8_e5m2")[0]
    with pytest.raises(ValueError, match="rounding='up'"), fpsim.result(rounding="up"):
        pass
