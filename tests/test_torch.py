"""fpsim.torch against fpsim's own functions on arrays, and PyTorch's own numbers and gradients."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import fpsim
from fpsim.cli import main

torch = pytest.importorskip("torch", reason="PyTorch is not there: pip install 'fpsim[torch]'")

from torch import nn  # noqa: E402
from torch.library import opcheck  # noqa: E402
from torch.nn import functional  # noqa: E402

import fpsim.torch  # noqa: E402
from fpsim.torch import ForwardPass, NeuralGradients, forward, ops, tensors  # noqa: E402

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
FP8 = [
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
]
SINGLE, DOUBLE = fpsim.Accumulator("binary32"), fpsim.Accumulator("binary64")
NARROW = fpsim.Accumulator("e5m6", rounding="toward_zero")
RANDOM = fpsim.Accumulator("e5m6", rounding="stochastic")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch's threads wait for each other by spinning, which is slow on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def every_value(dtype: Any) -> Any:
    """All values of a dtype of 16 bits."""
    codes = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(torch.int16)
    return codes.view(dtype)


def bits(x: Any) -> Any:
    """What two tensors must have in common to be the same, NaN included."""
    x = x.detach().contiguous()
    return x.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.itemsize])


def draw(*shape: int, seed: int = 0, dtype: Any = torch.float32) -> Any:
    """Lognormal magnitudes of both signs."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * torch.randn(shape, generator=generator).exp()
    return x.to(dtype)


# round --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("target", FP8)
def test_round_agrees_with_pytorchs_own_casts(dtype: Any, target: Any) -> None:
    """Of every value in range to an FP8 type; past it PyTorch's rules differ from type to type."""
    x = every_value(dtype)
    x = x[x.float().abs() <= torch.finfo(target).max]
    expected = x.to(target).to(dtype)
    expected = torch.where(expected == 0, torch.zeros_like(expected), expected)  # -0 or 0: below
    found = fpsim.torch.round(x, str(target).removeprefix("torch."))
    assert found.dtype == dtype
    assert torch.equal(torch.where(found == 0, torch.zeros_like(found), found), expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "options",
    [
        {"rounding": "toward_negative"},
        {"overflow": "saturate"},
        {"rounding": fpsim.Stochastic(3, "C"), "rng": 5},
        {"rounding": "stochastic", "rng": fpsim.Stream((1 << 64) - 1, (1 << 63) + 5)},
    ],
    ids=str,
)
def test_round_is_that_of_arrays(dtype: Any, options: dict[str, Any]) -> None:
    x = draw(7, 5, 3, dtype=dtype)
    x[0, 0, :] = torch.tensor([float("nan"), float("inf"), -0.0])
    for view in (x, x[::2, :, 1:], x.permute(2, 0, 1), x[:0], x[3, 2, 1], x[:, :1].expand(7, 4, 3)):
        found = fpsim.torch.round(view, "e3m2,bias=5", **options)
        expected = fpsim.round(view.double().numpy(), "e3m2,bias=5", **options)
        assert found.shape == view.shape
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.double().numpy(), expected)
        np.testing.assert_array_equal(found.signbit().numpy(), np.signbit(expected))


@pytest.mark.parametrize("dtype", FP8)
def test_round_from_fp8(dtype: Any) -> None:
    x = torch.arange(256, dtype=torch.int32).to(torch.uint8).view(dtype)
    x = x[x.float().isfinite()]
    found = fpsim.torch.round(x, "e3m1fnuz,bias=5", overflow="saturate")
    assert found.dtype == dtype
    expected = fpsim.round(x.float().numpy(), "e3m1fnuz,bias=5", overflow="saturate")
    np.testing.assert_array_equal(found.float().numpy(), expected)


def test_round_works_on_the_tensors_memory() -> None:
    x = draw(1000)
    assert tensors.as_array(x).ctypes.data == x.data_ptr()
    for dtype in (torch.bfloat16, *FP8):
        narrow = x.to(dtype)
        array = tensors.as_array(narrow)
        assert array.ctypes.data == narrow.data_ptr()
        assert tensors.as_tensor(array, narrow).data_ptr() == narrow.data_ptr()
        np.testing.assert_array_equal(array.astype(np.float32), narrow.float().numpy())
    assert tensors.as_tensor(tensors.as_array(x), x).data_ptr() == x.data_ptr()


def test_the_gradient_of_round_goes_straight_through() -> None:
    x = draw(50).requires_grad_()
    weights = draw(50, seed=1)
    (gradient,) = torch.autograd.grad((fpsim.torch.round(x, "e2m1f") * weights).nansum(), x)
    finite = fpsim.torch.round(x, "e2m1f").isfinite()
    assert torch.equal(gradient[finite], weights[finite])
    x = draw(4).requires_grad_()
    (first,) = torch.autograd.grad(fpsim.torch.round(x, "e4m3").pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    rounded = fpsim.torch.round(x, "e4m3").detach()
    assert torch.equal(first, 3 * rounded**2)
    assert torch.equal(second, 6 * rounded)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_round_is_compiled_as_one_graph(backend: str) -> None:
    wide = fpsim.Format(4, 1, bias=9, name="of my own")

    def compute(x: Any) -> Any:
        y = fpsim.torch.round(x * 3, "e4m3", overflow="saturate")
        y = fpsim.torch.round(y + 1, wide, overflow="saturate")
        return (
            fpsim.torch.round(y, "e3m2", rounding=fpsim.Stochastic(4), overflow="saturate", rng=1)
            .sin()
            .sum()
        )

    compiled = torch.compile(compute, backend=backend, fullgraph=True)
    x, y = draw(100).requires_grad_(), draw(100).requires_grad_()
    assert torch.equal(compute(x), compiled(y))
    compute(x).backward()
    compiled(y).backward()
    assert torch.equal(x.grad, y.grad)


@pytest.mark.parametrize(
    "x",
    [
        draw(3, 4).requires_grad_(),
        draw(2, 3, 4, 5).to(memory_format=torch.channels_last),
        draw(4, 3).t(),
        draw(5, dtype=torch.bfloat16),
        draw(0),
    ],
    ids=["plain", "channels_last", "transposed", "bfloat16", "empty"],
)
@pytest.mark.parametrize("rounding", ["ties_to_even", "stochastic A 7"])
def test_round_is_an_operation_as_pytorch_wants_them(x: Any, rounding: str) -> None:
    opcheck(ops._round, (x, "e4m1f", rounding, "saturate", -5, 3))


def test_pytorchs_own_seed_repeats_stochastic_rounding() -> None:
    x = torch.full((1000,), 0.3)
    once = torch.manual_seed(5) and fpsim.torch.round(x, "e2m1f", rounding="stochastic")
    other = fpsim.torch.round(x, "e2m1f", rounding="stochastic")
    again = torch.manual_seed(5) and fpsim.torch.round(x, "e2m1f", rounding="stochastic")
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


# linear, conv2d -----------------------------------------------------------------------------------


def by_hand(x: Any, weight: Any, bias: Any, how: fpsim.Accumulator, **options: Any) -> np.ndarray:
    """A convolution term by term: windows cut out one by one."""
    stride, padding, dilation = (
        options.get(k, d) for k, d in [("stride", 1), ("padding", 0), ("dilation", 1)]
    )
    groups = options.get("groups", 1)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    _, inputs, height, width = padded.shape
    outputs, _, rows, columns = weight.shape
    down = (height - dilation * (rows - 1) - 1) // stride + 1
    across = (width - dilation * (columns - 1) - 1) // stride + 1
    out = np.zeros((len(x), outputs, down, across), np.float32)
    for n, o, i, j in np.ndindex(*out.shape):
        first = o // (outputs // groups) * (inputs // groups)
        terms = [
            (
                padded[n, first + c, i * stride + r * dilation, j * stride + s * dilation],
                weight[o, c, r, s],
            )
            for c in range(inputs // groups)
            for r in range(rows)
            for s in range(columns)
        ]
        a, b = np.array(terms).T
        out[n, o, i, j] = fpsim.dot(a, b, how, c=bias[o])
    return out


CONVOLUTIONS: list[dict[str, Any]] = [
    {},
    {"stride": 2, "padding": 1},
    {"dilation": 2, "padding": 2},
    {"groups": 2, "padding": 1},
    {"groups": 4, "stride": 2},
]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_conv2d_sums_every_window_in_order(options: dict[str, Any]) -> None:
    x, weight = draw(2, 4, 6, 5), draw(8, 4 // options.get("groups", 1), 3, 2, seed=1)
    bias = draw(8, seed=2)
    found = fpsim.torch.conv2d(x, weight, bias, **options, accumulator=NARROW)
    expected = by_hand(x.numpy(), weight.numpy(), bias.numpy(), NARROW, **options)
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize(
    "options",
    [
        *CONVOLUTIONS,
        {"padding": "same", "dilation": 2},
        {"padding": "same"},  # one zero more after than before
        {"padding": "valid"},
        {"stride": (2, 1), "padding": (0, 3)},
    ],
    ids=str,
)
@pytest.mark.parametrize("backward", [None, DOUBLE])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_conv2d_and_its_gradients_are_pytorchs(
    options: dict[str, Any], backward: fpsim.Accumulator | None
) -> None:
    """In binary64, but for the order of the terms."""
    x = draw(2, 4, 7, 6, dtype=torch.float64).requires_grad_()
    weight = draw(
        8, 4 // options.get("groups", 1), 3, 2, seed=1, dtype=torch.float64
    ).requires_grad_()
    bias = draw(8, seed=2, dtype=torch.float64).requires_grad_()
    found = fpsim.torch.conv2d(x, weight, bias, **options, accumulator=DOUBLE, backward=backward)
    expected = functional.conv2d(x, weight, bias, **options)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    seed = draw(*expected.shape, seed=3, dtype=torch.float64)
    mine = torch.autograd.grad(found, (x, weight, bias), seed)
    theirs = torch.autograd.grad(expected, (x, weight, bias), seed)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_linear_is_a_dot_product_of_arrays() -> None:
    x, weight, bias = draw(3, 5, 40), draw(7, 40, seed=1), draw(7, seed=2)
    found = fpsim.torch.linear(x, weight, bias, accumulator=NARROW)
    assert found.shape == (3, 5, 7)
    for i, j, o in np.ndindex(3, 5, 7):
        expected = fpsim.dot(x[i, j].numpy(), weight[o].numpy(), NARROW, c=float(bias[o]))
        assert float(found[i, j, o]) == expected
    assert not torch.equal(found, functional.linear(x, weight, bias))
    single = fpsim.torch.linear(x[0, 0], weight, accumulator=NARROW)
    expected = [fpsim.dot(x[0, 0].numpy(), row.numpy(), NARROW) for row in weight]
    assert single.tolist() == expected


def test_the_backward_pass_of_linear_is_summed_as_told() -> None:
    x, weight = draw(9, 20).requires_grad_(), draw(7, 20, seed=1).requires_grad_()
    seed = draw(9, 7, seed=2)
    result = fpsim.torch.linear(x, weight, accumulator=SINGLE, backward=NARROW)
    grad_x, grad_weight = torch.autograd.grad(result, (x, weight), seed)
    for i, j in np.ndindex(9, 20):
        terms = seed[i].numpy(), weight[:, j].detach().numpy()
        assert float(grad_x[i, j]) == fpsim.dot(*terms, NARROW)
    for o, j in np.ndindex(7, 20):
        terms = seed[:, o].numpy(), x[:, j].detach().numpy()
        assert float(grad_weight[o, j]) == fpsim.dot(*terms, NARROW)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_narrow_operands_on_a_matrix_unit(dtype: Any) -> None:
    name = str(dtype).removeprefix("torch.")
    unit = fpsim.Accumulator.preset("nvidia-h100", name)
    x, weight = draw(4, 64).to(dtype), draw(6, 64, seed=1).to(dtype)
    sums = fpsim.matmul(x.float().numpy(), weight.float().t().numpy(), unit)
    found = fpsim.torch.linear(x, weight, accumulator=unit)
    assert torch.equal(bits(found), bits(torch.from_numpy(sums).to(dtype)))


def test_stochastic_sums_repeat() -> None:
    x, weight = draw(6, 200).requires_grad_(), draw(5, 200, seed=1)

    def step(rng: int) -> tuple[Any, Any]:
        y = fpsim.torch.linear(x, weight, accumulator=RANDOM, backward=RANDOM, rng=rng)
        return y, torch.autograd.grad(y.sum(), x)[0]

    for a, b, c in zip(step(1), step(1), step(2), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_products_are_an_operation_as_pytorch_wants_them() -> None:
    key = forward._named(SINGLE, "accumulator")
    a, b = draw(2, 3, 4).requires_grad_(), draw(2, 4, 5, seed=1)
    opcheck(forward._matmul, (a, b, None, key, key, 0, 0))
    opcheck(forward._matmul, (a, b, draw(2, 1, 5).requires_grad_(), key, "", 0, 0))
    compiled = torch.compile(
        partial(fpsim.torch.conv2d, accumulator=NARROW), backend="eager", fullgraph=True
    )
    x, weight = draw(1, 2, 5, 5), draw(3, 2, 3, 3, seed=1)
    assert torch.equal(compiled(x, weight), fpsim.torch.conv2d(x, weight, accumulator=NARROW))


# NeuralGradients ----------------------------------------------------------------------------------


class Net(nn.Module):
    """Convolutions, a norm, an activation in place, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, stride=2)
        self.last = nn.Linear(4 * 9, 3)

    def forward(self, x: Any) -> Any:
        x = functional.relu(self.norm(self.first(x)), inplace=True)
        x = functional.relu(self.second(x), inplace=True)
        return self.last(x.flatten(1))


def network(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


IMAGES, LABELS = draw(6, 1, 8, 8, seed=7), torch.tensor([0, 1, 2, 0, 1, 2])


def descend(model: nn.Module, steps: int = 3, batches: Any = None) -> Any:
    """Train, and give all parameters as one vector."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    for x, y in batches or [(IMAGES, LABELS)] * steps:
        optimiser.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def noisy(x: Any, rng: fpsim.Stream) -> Any:
    return fpsim.luq(x, 2, rng=rng)


def test_what_changes_nothing_changes_nothing() -> None:
    plain, watched, recorded = network(), network(), network()
    expected = descend(plain)
    with NeuralGradients(watched, lambda x, rng: x, every=1) as gradients:
        assert torch.equal(descend(watched), expected)
    assert gradients.layers == ("first", "second", "last")
    with NeuralGradients(recorded, every=2):
        assert torch.equal(descend(recorded), expected)


def test_the_method_stands_between_the_layers() -> None:
    """A backward pass of two layers by hand."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Tanh(), nn.Linear(5, 4, bias=False))
    x, target = draw(8, 6), draw(8, 4, seed=1)
    with NeuralGradients(model, fpsim.ScaledRounding("e2m1f", 4.0)):
        functional.mse_loss(model(x), target).backward()
    one, two = (model[i].weight.detach() for i in (0, 2))
    hidden = torch.tanh(x @ one.t())

    def rounded(g: Any) -> Any:
        return torch.from_numpy(fpsim.round(g.numpy() * 4, "e2m1f", overflow="saturate") / 4)

    outer = rounded(2 * (hidden @ two.t() - target) / target.numel())
    inner = rounded((outer @ two) * (1 - hidden**2))
    torch.testing.assert_close(model[2].weight.grad, outer.t() @ hidden)
    torch.testing.assert_close(model[0].weight.grad, inner.t() @ x)
    assert outer.count_nonzero() not in (0, outer.numel())


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int, threads: int = 2, channels_last: bool = False) -> Any:
        fpsim.set_num_threads(threads)
        model = network()
        with NeuralGradients(model, noisy, seed=seed):
            return descend(model)

    before = fpsim.get_num_threads()
    try:
        assert torch.equal(run(1), run(1, threads=1))
        assert not torch.equal(run(1), run(2))
    finally:
        fpsim.set_num_threads(before)


def test_layers_and_steps_draw_bits_of_their_own() -> None:
    seen: list[fpsim.Stream] = []

    def spy(x: Any, rng: fpsim.Stream) -> Any:
        seen.append(rng)
        return x

    model = network()
    with NeuralGradients(model, spy, seed=3):
        descend(model)
    assert len(set(seen)) == len(seen) == 9
    assert fpsim.Stream(3).derive("second", 2) in seen


def test_random_bits_do_not_depend_on_the_order_in_memory() -> None:
    made = []
    for memory in (torch.contiguous_format, torch.channels_last):
        layer = nn.Identity()
        x = draw(2, 3, 4, 5).requires_grad_()
        with NeuralGradients(layer, noisy, ""):
            y = layer(x)
            y.backward(draw(2, 3, 4, 5, seed=1).to(memory_format=memory))
        made.append(x.grad)
    assert torch.equal(*made)


def test_workers_of_a_loader_change_nothing() -> None:
    """They are forked while fpsim's threads are there, and round in their own processes."""

    class Rounded(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, i: int) -> Any:
            big = np.full(300_000, float(i + 1), np.float32)  # more than a thread's chunk
            scale = fpsim.round(big, "e4m3", rounding="stochastic", rng=i)[0]
            return IMAGES[i % 6] * float(scale), LABELS[i % 6]

    results = []
    for workers in (0, 2):
        loader = torch.utils.data.DataLoader(Rounded(), batch_size=4, num_workers=workers)
        model = network()
        with NeuralGradients(model, noisy):
            results.append(descend(model, batches=loader))
    assert torch.equal(*results)


def test_threads_train_side_by_side() -> None:
    found: dict[int, Any] = {}

    def train(seed: int) -> None:
        model = models[seed]
        with NeuralGradients(model, noisy, seed=seed):
            found[seed] = descend(model, 5)

    models = [network(seed) for seed in range(4)]
    threads = [threading.Thread(target=train, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = dict(found)
    models = [network(seed) for seed in range(4)]
    for seed in range(4):
        train(seed)
        assert torch.equal(found[seed], together[seed])


def test_records_say_what_happened() -> None:
    model = network()
    given: list[tuple[np.ndarray, np.ndarray]] = []

    def spy(x: Any, rng: fpsim.Stream) -> Any:
        y = fpsim.luq(np.where(np.abs(x) < 1e-4, 0, x), 1, rng=rng) * np.float32(0.5)
        given.append((x.astype(np.float64), y.astype(np.float64)))
        return y

    with NeuralGradients(model, {"second": spy}, every=2) as gradients:
        descend(model, 5)
    assert [(r.layer, r.step) for r in gradients.records] == [("second", s) for s in (0, 2, 4)]
    for record, (x, y) in zip(gradients.records, given[::2], strict=True):
        there = x != 0
        size, made = np.abs(x[there]), np.sign(x[there]) * y[there]
        assert record.size == x.size
        assert record.largest == size.max()
        assert record.sparsity == pytest.approx((y == 0).mean())
        assert record.fit.zero_fraction == pytest.approx((x == 0).mean())
        assert record.fit.sigma == pytest.approx(np.log(size).std())
        error = record.error
        assert error.underflow == pytest.approx((made == 0).mean())
        assert error.overflow == pytest.approx((size > np.abs(y).max()).mean())
        assert error.overflow > 0
        assert error.relative == pytest.approx((np.abs(made - size) / size).mean())
        assert error.nmse == pytest.approx(((made - size) ** 2).sum() / (size**2).sum())
        assert error.bias == pytest.approx(made.sum() / size.sum() - 1)
        length = np.linalg.norm(size) * np.linalg.norm(made)
        assert error.cosine == pytest.approx((size * made).sum() / length)


def test_a_gradient_of_zeros_is_recorded() -> None:
    layer = nn.Linear(2, 2)
    with NeuralGradients(layer, fpsim.ScaledRounding("e4m3"), "") as gradients:
        (layer(torch.ones(1, 2)) * 0).sum().backward()
    (record,) = gradients.records
    assert (record.fit, record.error, record.sparsity, record.largest) == (None, None, 1.0, 0.0)


def test_the_first_pattern_that_matches_counts() -> None:
    calls: list[str] = []

    def note(x: Any, rng: fpsim.Stream, label: str) -> Any:
        calls.append(label)
        return x

    routes = {"second": partial(note, label="one"), "*": partial(note, label="any")}
    model = network()
    with NeuralGradients(model, routes) as gradients:
        descend(model, 1)
    assert gradients.layers == ("first", "norm", "second", "last")
    assert calls == ["any", "one", "any", "any"]


def test_every_layer_has_a_transform_of_its_own() -> None:
    shared = fpsim.ScaledRounding("e4m1f")
    model = network()
    with NeuralGradients(model, shared) as gradients:
        descend(model)
    assert shared.current is None
    scales = {gradients.transform(name).current for name in gradients.layers}
    assert len(scales) > 1


def test_a_network_is_left_as_it_was() -> None:
    model, plain = network(), network()
    gradients = NeuralGradients(model, noisy)
    with gradients:
        descend(model, 1)
    state = network().state_dict()
    for each in (model, plain):
        each.load_state_dict(state)
    assert torch.equal(descend(model), descend(plain))
    count = len(gradients.records)
    descend(model)
    assert len(gradients.records) == count


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_network_can_be_copied_with_its_hooks(copied: Callable[[Any], Any]) -> None:
    model = network()
    with NeuralGradients(model, noisy) as gradients:
        other = copied(model)
        assert torch.equal(descend(other), descend(model))
    assert len(gradients.records) == 3


def test_nonfinite_gradients() -> None:
    x = torch.tensor([[1.0, float("nan"), float("inf"), -2.0]])
    expected = {"skip": [1.0, 0.0, 0.0, -2.0], "propagate": [1.0, float("nan"), float("inf"), -2.0]}
    for rule, values in expected.items():
        layer = nn.Identity()
        y = torch.ones(1, 4, requires_grad=True)
        with NeuralGradients(layer, fpsim.ScaledRounding("e4m3"), "", nonfinite=rule) as gradients:
            layer(y).backward(x)
        np.testing.assert_array_equal(y.grad.numpy(), [values])
        (record,) = gradients.records
        assert (record.nonfinite, record.largest) == (2, 2.0)
    layer = nn.Sequential(nn.Identity())
    message = r"layer '0' has 2 NaN or infinite .* step 0, the first at index \(0, 1\)"
    with (
        NeuralGradients(layer, fpsim.ScaledRounding("e4m3"), "0"),
        pytest.raises(ValueError, match=message),
    ):
        layer(torch.ones(1, 4, requires_grad=True)).backward(x)


class Fading:
    """A transform whose state matters in every step."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, x: Any, rng: fpsim.Stream) -> Any:
        self.seen += 1
        return x / np.float32(self.seen)


def test_a_run_goes_on_from_a_checkpoint() -> None:
    transform = fpsim.Chain(fpsim.ScaledRounding("e3m1f", refit=3, window=2), noisy, Fading())
    whole = network()
    with NeuralGradients(whole, transform, seed=4):
        expected = descend(whole, 9)
    model = network()
    with NeuralGradients(model, transform, seed=4) as gradients:
        descend(model, 4)
        state = pickle.loads(pickle.dumps((model.state_dict(), gradients.state_dict())))
    other = network(1)
    other.load_state_dict(state[0])
    with NeuralGradients(other, transform, seed=4) as gradients:
        gradients.load_state_dict(state[1])
        assert torch.equal(descend(other, 5), expected)
    with pytest.raises(ValueError, match="state is of the layers first, second, last"):
        NeuralGradients(other, None, "last").load_state_dict(state[1])


def test_outputs_that_are_no_single_tensor() -> None:
    model = nn.LSTM(3, 4)
    outputs, (hidden, cell) = model(draw(5, 2, 3))
    with NeuralGradients(model, noisy, "") as gradients:
        outputs, (hidden, cell) = model(draw(5, 2, 3))
        (outputs.sum() + hidden.sum() + cell.sum()).backward()
    assert gradients._layers[""].count == 3
    with torch.no_grad(), gradients:
        model(draw(5, 2, 3))


def test_recomputed_activations_pass_through_once() -> None:
    from torch.utils.checkpoint import checkpoint

    plain, saved = network(), network()
    for model, reentrant in ((plain, None), (saved, False)):
        with NeuralGradients(model, noisy) as gradients:
            x = IMAGES.clone().requires_grad_()
            y = model(x) if reentrant is None else checkpoint(model, x, use_reentrant=reentrant)
            functional.cross_entropy(y, LABELS).backward()
        assert gradients._layers["first"].count == 1
    for a, b in zip(plain.parameters(), saved.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_second_derivatives_go_straight_through() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 3.0)
    x = torch.tensor([[2.0]])
    with NeuralGradients(layer, fpsim.ScaledRounding("e4m0f", 1.0), ""):
        loss = layer(x).pow(2).sum() / 2  # its gradient at the output is 6, which rounds to 8
        (first,) = torch.autograd.grad(loss, layer.weight, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), layer.weight)
    assert first.item() == 8 * 2
    assert second.item() == 2 * 2


def test_bfloat16_gradients_are_rounded_once() -> None:
    """Pruned to a threshold that bfloat16 holds, and not to one that is rounded to it after."""
    x = draw(400, dtype=torch.bfloat16)
    layer, y = nn.Identity(), torch.zeros(400, dtype=torch.bfloat16, requires_grad=True)
    with NeuralGradients(layer, partial(fpsim.luq, exponent_bits=3), "", seed=2):
        layer(y).backward(x)
    import ml_dtypes

    array = x.float().numpy().astype(ml_dtypes.bfloat16)
    expected = fpsim.luq(array, 3, rng=fpsim.Stream(2).derive("", 0))
    np.testing.assert_array_equal(y.grad.float().numpy(), expected.astype(np.float32))


# capture ------------------------------------------------------------------------------------------


def test_capture_leaves_the_network_alone() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    model.last.bias.grad = torch.ones(3)
    fpsim.torch.capture(model, [(IMAGES, LABELS)] * 2, functional.cross_entropy)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    assert model.first.weight.grad is None
    assert torch.equal(model.last.bias.grad, torch.ones(3))
    assert not model.first._forward_hooks


def test_capture_takes_all_where_there_is_little() -> None:
    """Against the gradients that autograd itself gives."""
    model = network()
    samples = fpsim.torch.capture(model, [(IMAGES, LABELS)], functional.cross_entropy, "last")
    logits = model(IMAGES)
    (expected,) = torch.autograd.grad(functional.cross_entropy(logits, LABELS), logits)
    np.testing.assert_array_equal(samples["last"], expected.numpy().ravel())


def test_every_element_is_as_likely_to_be_captured() -> None:
    """Over 600 seeds the elements of two unequal batches."""
    x = torch.arange(40.0)
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    batches = [(x[:30, None], None), (x[30:, None], None)]

    def loss(outputs: Any, _: Any) -> Any:
        return (outputs**2).sum() / 2  # whose gradient is the outputs, hence x

    times = np.zeros(40)
    for seed in range(600):
        sample = fpsim.torch.capture(layer, batches, loss, "", size=10, seed=seed)[""]
        assert sample.size == len(set(sample)) == 10
        assert (np.diff(sample) > 0).all()
        times[sample.astype(int)] += 1
    # The number of times is binomial, but that 10 are drawn each time: chi-square with 39 degrees.
    chi_square = ((times - 150) ** 2).sum() / (600 * 0.25 * 0.75)
    assert 14 < chi_square * 39 / 40 < 81  # all but 1e-4 at either end


def test_capture_takes_batches_by_name_and_repeats(tmp_path: Any) -> None:
    model = network()
    batches = [{"x": IMAGES}]

    def loss(outputs: Any, batch: Any) -> Any:
        return outputs.square().mean() + batch["x"].sum() * 0

    first, again, other = (
        fpsim.torch.capture(model, batches, loss, size=50, seed=seed) for seed in (1, 1, 2)
    )
    assert set(first) == {"first", "second", "last"}
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["second"], other["second"])


def test_recommend_reads_what_capture_writes(tmp_path: Any) -> None:
    path = tmp_path / "gradients.npz"
    samples = fpsim.torch.capture(
        network(), [(IMAGES, LABELS)], functional.cross_entropy, path=path
    )
    run = CliRunner().invoke(main, ["recommend", "--bits", "6", str(path)])
    assert run.exit_code == 0, run.output
    for name in samples:
        assert name in run.output


# ForwardPass --------------------------------------------------------------------------------------


def test_a_whole_step_is_emulated() -> None:
    """Forward and backward of two layers by hand, every operand rounded and every sum narrow."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4, bias=False))
    x, target = draw(8, 6), draw(8, 4, seed=1)
    with (
        ForwardPass(model, "e4m3fn", "e3m2f", NARROW, backward=NARROW),
        NeuralGradients(model, fpsim.ScaledRounding("e5m2f", 16.0)),
    ):
        output = model(x)
        functional.mse_loss(output, target).backward()

    def to(value: Any, fmt: str, scale: float = 1.0) -> Any:
        return fpsim.round(value * np.float32(scale), fmt, overflow="saturate") / np.float32(scale)

    one, bias, two = (p.detach().numpy() for p in model.parameters())
    a1, w1, w2 = to(x.numpy(), "e3m2f"), to(one, "e4m3fn"), to(two, "e4m3fn")
    hidden = fpsim.matmul(a1, w1.T, NARROW, bias)
    a2 = to(np.maximum(hidden, 0), "e3m2f")
    y = fpsim.matmul(a2, w2.T, NARROW)
    np.testing.assert_array_equal(output.detach().numpy(), y)
    outer = to(2 * (y - target.numpy()) / np.float32(32), "e5m2f", 16)
    np.testing.assert_array_equal(model[2].weight.grad, fpsim.matmul(outer.T, a2, NARROW))
    inner = to(fpsim.matmul(outer, w2, NARROW) * (hidden > 0), "e5m2f", 16)
    np.testing.assert_array_equal(model[0].weight.grad, fpsim.matmul(inner.T, a1, NARROW))
    np.testing.assert_allclose(model[0].bias.grad, inner.sum(axis=0), rtol=1e-6, atol=1e-7)


def test_a_forward_pass_is_left_as_it_was() -> None:
    model = network().eval()
    expected, state = model(IMAGES), model.state_dict()
    with ForwardPass(model, "e4m3fn", fpsim.ScaledRounding("e2m1f")) as emulated:
        assert emulated.layers == ("first", "second", "last")
        assert not torch.equal(model(IMAGES), expected)
        assert list(model.state_dict()) == list(state)
    assert torch.equal(model(IMAGES), expected)
    with ForwardPass(model):
        assert torch.equal(model(IMAGES), expected)


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect"])
def test_convolutions_keep_their_padding(mode: str) -> None:
    layer = nn.Conv2d(2, 4, 3, stride=2, padding=2, padding_mode=mode, groups=2).double()
    x = draw(2, 2, 7, 6, dtype=torch.float64)
    expected = layer(x)
    with ForwardPass(layer, accumulator=DOUBLE, layers=""):
        torch.testing.assert_close(layer(x), expected, rtol=1e-13, atol=1e-13)


def test_forward_passes_repeat_by_their_seed() -> None:
    def run(seed: int) -> Any:
        model = network()
        with ForwardPass(model, noisy, noisy, RANDOM, backward=RANDOM, seed=seed):
            return descend(model, 2)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


# Bad arguments ------------------------------------------------------------------------------------

MODEL = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
X, WEIGHT = torch.ones(2, 4), torch.ones(3, 4)

ROWS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: fpsim.torch.round([0.3], "e4m3"), TypeError, r"x=\[0.3\] .* give a torch.Tensor"),
    (lambda: fpsim.torch.round(torch.ones(2).long(), "e4m3"), TypeError, "x has dtype int64; give"),
    (lambda: fpsim.torch.round(X.to_sparse(), "e4m3"), TypeError, r"sparse_coo.*x.to_dense\(\)"),
    (lambda: fpsim.torch.round(X, "e9m3"), ValueError, "cannot hold every value of e9m3"),
    (lambda: fpsim.torch.round(X.bfloat16(), "e4m9"), ValueError, "x has dtype bfloat16"),
    (lambda: fpsim.torch.round(X, "nonsense"), ValueError, "nonsense"),
    (lambda: fpsim.torch.round(X, "e4m3", rounding="up"), ValueError, "rounding='up' is not one"),
    (lambda: fpsim.torch.round(X, "e4m3", overflow="wrap"), ValueError, "overflow='wrap'"),
    (lambda: fpsim.torch.round(X * torch.nan, "e4m3f"), ValueError, r"8 NaN.*\(0, 0\)"),
    (
        lambda: fpsim.torch.round(X, "e4m3", rounding="stochastic", rng="x"),
        TypeError,
        "rng='x' is not an integer",
    ),
    (lambda: fpsim.torch.linear(X, WEIGHT, accumulator="e4m3"), TypeError, "accumulator='e4m3'"),
    (
        lambda: fpsim.torch.linear(X, WEIGHT, accumulator=SINGLE, backward=8),
        TypeError,
        "backward=8 is of type int",
    ),
    (
        lambda: fpsim.torch.linear(X, WEIGHT.t(), accumulator=SINGLE),
        ValueError,
        r"x \(2, 4\) and weight \(4, 3\) do not agree",
    ),
    (
        lambda: fpsim.torch.conv2d(X[None, None], torch.ones(1, 2, 3, 3), accumulator=SINGLE),
        ValueError,
        r"x \(1, 1, 2, 4\) and weight \(1, 2, 3, 3\) with groups=1",
    ),
    (
        lambda: fpsim.torch.conv2d(
            torch.ones(1, 2, 4, 4), torch.ones(3, 1, 3, 3), groups=2, accumulator=SINGLE
        ),
        ValueError,
        "groups=2 do not divide the 3 outputs",
    ),
    (
        lambda: fpsim.torch.conv2d(
            X[None, None], torch.ones(1, 1, 2, 2), stride=2, padding="same", accumulator=SINGLE
        ),
        ValueError,
        "padding='same'",
    ),
    (lambda: NeuralGradients("model"), TypeError, "model='model' is no torch.nn.Module"),
    (
        lambda: NeuralGradients(MODEL, layers="conv*"),
        ValueError,
        r"layers='conv\*' matches no module .* layers are 0, 2, and its modules 0, 1, 2",
    ),
    (lambda: NeuralGradients(MODEL, layers=[]), ValueError, "layers is empty"),
    (lambda: NeuralGradients(MODEL, layers=[0]), TypeError, "layers=0 is no str"),
    (lambda: NeuralGradients(nn.ReLU()), ValueError, "no convolution and no linear layer"),
    (lambda: NeuralGradients(MODEL, "e4m3"), TypeError, "transform='e4m3'.* cannot be called"),
    (lambda: NeuralGradients(MODEL, {"0": 3}), TypeError, "transform=3 for '0' cannot be called"),
    (lambda: NeuralGradients(MODEL, {"0": noisy}, "0"), ValueError, "leave out layers"),
    (lambda: NeuralGradients(MODEL, {"9": noisy}), ValueError, "layers='9' matches no module"),
    (lambda: NeuralGradients(MODEL, every=-1), ValueError, "every=-1 is out of range"),
    (lambda: NeuralGradients(MODEL, seed=-1), ValueError, "seed=-1 is out of range"),
    (lambda: NeuralGradients(MODEL, nonfinite="drop"), ValueError, "nonfinite='drop'"),
    (lambda: ForwardPass(MODEL, "nonsense"), ValueError, "nonsense"),
    (lambda: ForwardPass(MODEL, accumulator="e4m3"), TypeError, "accumulator='e4m3'"),
    (lambda: ForwardPass(MODEL, backward=SINGLE), ValueError, "backward was given without"),
    (lambda: ForwardPass(MODEL, layers="1"), TypeError, "layer '1' is a Flatten"),
    (
        lambda: fpsim.torch.capture(MODEL, [], functional.cross_entropy),
        ValueError,
        "batches is empty",
    ),
    (
        lambda: fpsim.torch.capture(MODEL, [], functional.cross_entropy, size=0),
        ValueError,
        "size=0 is out of range",
    ),
    (
        lambda: fpsim.torch.capture(MODEL, [], functional.cross_entropy, path="x.npy"),
        ValueError,
        "path='x.npy' does not end in .npz",
    ),
    (
        lambda: fpsim.torch.capture(nn.Linear(1, 1).requires_grad_(False), [], None),
        ValueError,
        "no parameter that requires a gradient",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ROWS, ids=[row[2] for row in ROWS])
def test_bad_arguments(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
    for module in MODEL:
        assert not module._forward_hooks
        assert "forward" not in vars(module)


def test_a_transform_that_does_not_keep_to_the_rules() -> None:
    def half(x: Any, rng: fpsim.Stream) -> Any:
        return x[:1]

    def in_place(x: Any, rng: fpsim.Stream) -> Any:
        x[...] = 0
        return x

    for transform, message in ((half, r"made shape \(1, "), (in_place, "read-only")):
        model = network()
        with NeuralGradients(model, transform), pytest.raises(ValueError, match=message):
            descend(model, 1)


def test_layers_that_no_gradient_reaches() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no gradient reached the layers 1"):
        fpsim.torch.capture(model, [(X[:, :2], None)], lambda y, _: model[0](X[:, :2]).sum())


def test_a_layer_is_emulated_once() -> None:
    with ForwardPass(MODEL), pytest.raises(ValueError, match="layer '0' is emulated already"):
        ForwardPass(MODEL)
