"""Capture real neural gradients from a small network and store a sample of them.

The script trains a residual network of five convolutions on Fashion-MNIST and
records, at a few moments of the training, the gradient of the loss with respect
to the *output* of each convolution: the "neural gradients" that a training
accelerator would quantise. They are not weight gradients. The sample embedded in
``fpsim/data/gradients.npz`` was written by one call::

    python benchmarks/capture_gradients.py --out fpsim/data/gradients.npz

What is needed
--------------
PyTorch and NumPy; the CPU build of PyTorch is enough, and the call takes about a
minute and 1 GB of memory. The data are the four gzipped IDX files of
Fashion-MNIST. Debian packages them as ``dataset-fashion-mnist``, whose folder is
the default of ``--data``; any other folder with files of the same names will do.

How the sample was made
-----------------------
Network
    conv1 (1 to 16 channels), conv2 (16 to 16, with an identity shortcut), conv3
    (16 to 32, stride 2), conv4 (32 to 32, with an identity shortcut), conv5
    (32 to 64, stride 2); all 3x3 without bias, each followed by batch
    normalisation and ReLU; then global average pooling and a linear classifier.
    PyTorch's default initialisation.
Training
    Plain mean cross-entropy without any loss scaling; SGD with learning rate 0.1
    and momentum 0.9; batches of 256 out of a seeded shuffle, in float32
    throughout. Pixels are standardised with the training set's mean and standard
    deviation.
Moments
    Steps 0, 30 and 119. Step 0 is the first batch on the untrained network; step
    ``n`` sees the weights after ``n`` updates.
Tensors
    Named ``step030/conv3``: the moment, then the layer. The full tensors hold
    3,211,264 elements (conv1, conv2), 1,605,632 (conv3, conv4) and 802,816
    (conv5), so each is stored as 10,000 of its elements, drawn at random without
    replacement and kept in their order: flat float32 arrays whose values are
    exactly those that the backward pass produced. Exact zeros would stay in (there
    are none), and so do repeated values (1 to 14 % of a sample). A sample keeps the
    distribution but seldom the few largest elements, so its maximum lies below the
    tensor's; the script prints the figures of both.

The embedded sample was captured with seed 0 and PyTorch 2.13.0 (CPU build).
Everything random is seeded and the run is single-threaded, so the same versions on
the same kind of processor give the same file, bit for bit. Another version or
processor may sum in another order; the training then drifts apart, and the file
has other elements with much the same statistics.
"""

# PyTorch leaves some of its methods without types.
# mypy: allow-untyped-calls

from __future__ import annotations

import argparse
import gzip
import hashlib
import math
import sys
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
except ImportError as error:
    sys.exit(f"error: this script needs PyTorch, e.g. `pip install torch` ({error})")

FloatArray = NDArray[np.float32]

BATCH = 256
LEARNING_RATE = 0.1
MOMENTUM = 0.9
DEBIAN_PACKAGE = "dataset-fashion-mnist"


class ResidualNet(nn.Module):
    """Five convolutions with two identity shortcuts, batch norm and ReLU."""

    def __init__(self) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)

        # Without running statistics, which lag far behind this early in a training: a
        # batch is normalised by its own statistics when measuring the accuracy, too.
        def norm(channels: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels, track_running_stats=False)

        self.conv1, self.bn1 = conv(1, 16), norm(16)
        self.conv2, self.bn2 = conv(16, 16), norm(16)
        self.conv3, self.bn3 = conv(16, 32, stride=2), norm(32)
        self.conv4, self.bn4 = conv(32, 32), norm(32)
        self.conv5, self.bn5 = conv(32, 64, stride=2), norm(64)
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch of images."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)) + x)
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.relu(self.bn4(self.conv4(x)) + x)
        x = F.relu(self.bn5(self.conv5(x)))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


class Dataset(NamedTuple):
    """Standardised images of shape (n, 1, 28, 28), and their labels."""

    images: Tensor
    labels: Tensor


class Summary(NamedTuple):
    """What the report says of one array of gradients; logarithms of the non-zeros."""

    zeros: int
    non_finite: int
    mean: float
    std: float
    peak: float
    """Largest log2 magnitude, in standard deviations above the mean."""


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    # Two zero bytes, the element type (8: unsigned byte), the number of dimensions,
    # then each dimension as a big-endian 32-bit integer.
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of bytes")
    dims = content[3]
    shape = np.frombuffer(content, ">u4", count=dims, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape(shape)


def load_data(folder: Path) -> tuple[Dataset, Dataset]:
    """Read the training and the test set out of a folder of IDX files."""
    paths = {
        (part, kind): folder / f"{part}-{kind}-ubyte.gz"
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    }
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"no {', '.join(missing)} in {folder}; install Debian's package "
            f"{DEBIAN_PACKAGE}, or name with --data a folder with Fashion-MNIST's files"
        )
    arrays = {key: read_idx(path) for key, path in paths.items()}
    pixels = arrays["train", "images-idx3"]
    mean, std = pixels.mean(), pixels.std()

    def dataset(part: str) -> Dataset:
        images = ((arrays[part, "images-idx3"] - mean) / std).astype(np.float32)
        labels = arrays[part, "labels-idx1"].astype(np.int64)
        return Dataset(torch.from_numpy(images[:, None]), torch.from_numpy(labels))

    return dataset("train"), dataset("t10k")


def batches(data: Dataset, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled full batches without end, reshuffling after each epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(data.labels), generator=generator)
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            yield data.images[chosen], data.labels[chosen]


@torch.no_grad()
def accuracy(model: nn.Module, data: Dataset) -> float:
    """Return the share of correctly classified images."""
    guesses = torch.cat([model(images).argmax(dim=1) for images in data.images.split(1000)])
    return (guesses == data.labels).float().mean().item()


def neural_gradients(
    model: nn.Module, images: Tensor, labels: Tensor
) -> tuple[float, dict[str, FloatArray]]:
    """Run one forward and backward pass, and watch the convolutions' outputs.

    Returns
    -------
    loss : float
        The batch's mean cross-entropy.
    gradients : dict of str to ndarray
        The loss gradient with respect to each convolution's whole output, by layer name.
    """
    gradients: dict[str, FloatArray] = {}

    def keep(name: str, gradient: Tensor) -> None:
        # A copy, as autograd may reuse the gradient's memory once this returns.
        gradients[name] = gradient.detach().clone().numpy()

    # A hook on the output tensor rather than a module's full backward hook, which warns
    # about the first convolution: the images it reads need no gradient.
    def watch(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        output.register_hook(partial(keep, name))

    handles = [
        module.register_forward_hook(partial(watch, name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    for handle in handles:
        handle.remove()
    # By name: the backward pass met the last layer first.
    return loss.item(), dict(sorted(gradients.items()))


def subsample(values: FloatArray, size: int, seed: tuple[int, ...]) -> FloatArray:
    """Draw `size` elements without replacement, in their order; all where there are fewer."""
    flat = values.ravel()
    size = min(size, flat.size)
    return flat[np.sort(np.random.default_rng(seed).choice(flat.size, size, replace=False))]


def summarise(values: FloatArray) -> Summary:
    """Count the zeros and the non-finite values, and describe the others' log2 magnitudes."""
    finite = values[np.isfinite(values)]
    logs = np.log2(np.abs(finite[finite != 0]).astype(np.float64))
    zeros, non_finite = finite.size - logs.size, values.size - finite.size
    if not logs.size:
        return Summary(zeros, non_finite, math.nan, math.nan, math.nan)
    mean, std = float(logs.mean()), float(logs.std())
    peak = (float(logs.max()) - mean) / std if std else math.nan
    return Summary(zeros, non_finite, mean, std, peak)


def report(name: str, full: FloatArray, sample: FloatArray) -> str:
    """Return two lines of the table: the whole tensor's figures, then the sample's."""
    return "\n".join(
        f"  {label:<14} {values.size:>9,} {s.zeros:>7,} {s.non_finite:>10,} "
        f"{s.mean:>10.3f} {s.std:>9.3f} {s.peak:>10.3f}"
        for label, values in ((name, full), ("    sample", sample))
        for s in (summarise(values),)
    )


def capture(
    train: Dataset, test: Dataset, steps: list[int], size: int, seed: int
) -> dict[str, FloatArray]:
    """Train the network and sample its neural gradients at the given steps.

    Parameters
    ----------
    train, test
        The data; the test set only serves the report.
    steps
        Moments of capture, ascending: numbers of updates made before.
    size
        Elements to keep of each tensor.
    seed
        Seed of the weights, of the order of the batches and of the subsamples.

    Returns
    -------
    dict of str to ndarray
        The sampled gradients, under names that sort by step and then by layer.
    """
    torch.manual_seed(seed)
    model = ResidualNet()
    optimiser = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    digits = max(3, len(str(steps[-1])))
    tensors: dict[str, FloatArray] = {}
    for step, (images, labels) in zip(range(steps[-1] + 1), batches(train, seed), strict=False):
        optimiser.zero_grad()
        if step not in steps:
            F.cross_entropy(model(images), labels).backward()
        else:
            test_accuracy = accuracy(model, test)
            loss, gradients = neural_gradients(model, images, labels)
            print(f"step {step}: training loss {loss:.4f}, test accuracy {test_accuracy:.2%}")
            print(
                f"  {'tensor':<14} {'elements':>9} {'zeros':>7} {'non-finite':>10} "
                f"{'mean log2':>10} {'std log2':>9} {'peak (std)':>10}"
            )
            for layer, (name, gradient) in enumerate(gradients.items()):
                key = f"step{step:0{digits}}/{name}"
                tensors[key] = subsample(gradient, size, (seed, step, layer))
                print(report(key, gradient, tensors[key]), flush=True)
        optimiser.step()
    print(f"after the last step: test accuracy {accuracy(model, test):.2%}")
    return tensors


def step_list(text: str) -> list[int]:
    """Parse the argument of ``--steps``: whole numbers between commas."""
    items = [item.strip() for item in text.split(",")]
    if not all(item.isdecimal() for item in items):
        raise argparse.ArgumentTypeError(f"not whole numbers between commas: {text!r}")
    return sorted({int(item) for item in items})


def parse_args() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("/usr/share/datasets/fashion-mnist"),
        metavar="DIR",
        help=f"Fashion-MNIST's four .gz files (default: where Debian's {DEBIAN_PACKAGE} puts them)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="NPZ", help="file to write")
    parser.add_argument(
        "--steps",
        type=step_list,
        default="0,30,119",
        help="training steps to capture, between commas (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=int,
        default=10_000,
        metavar="N",
        help="elements to keep of each tensor (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    args = parser.parse_args()
    if args.size < 1:
        parser.error("--size must be at least 1")
    if args.seed < 0:
        parser.error("--seed must not be negative")
    # NumPy would append the suffix by itself, and the report name a file that is not there.
    if args.out.suffix != ".npz":
        parser.error("--out must end in .npz")
    return args


def main() -> None:
    """Capture the gradients, write them, and report what was written."""
    args = parse_args()
    start = time.perf_counter()
    torch.use_deterministic_algorithms(True)
    # One thread: how reductions are split among threads decides the order of their sums.
    torch.set_num_threads(1)
    try:
        train, test = load_data(args.data)
        args.out.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(
        f"torch {torch.__version__}, seed {args.seed}, batch {BATCH}, "
        f"SGD with learning rate {LEARNING_RATE} and momentum {MOMENTUM}"
    )
    tensors = capture(train, test, args.steps, args.size, args.seed)
    np.savez_compressed(args.out, allow_pickle=False, **tensors)
    digest = hashlib.sha256(args.out.read_bytes()).hexdigest()
    print(f"{args.out}: {len(tensors)} tensors, {args.out.stat().st_size:,} bytes, sha256 {digest}")
    print(f"took {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
