"""Which module may import which, what an import costs, and that every public name is explained."""

from __future__ import annotations

import ast
import builtins
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fpsim

ROOT = Path(fpsim.__file__).parent

# From the bottom up; a module may import those of the rows below it, and what is named beside it.
LAYERS: list[set[str]] = [
    {"arguments", "reprs", "analysis.table", "kernels.lanes", "kernels.exact"},
    {"kernels.words"},
    {"kernels.chance"},
    {
        "kernels.casts",
        "kernels.dither",
        "kernels.luq",
        "kernels.nm",
        "kernels.pruning",
        "kernels.registers",
        "kernels.statistics",
    },
    {"kernels.operate"},
    {"kernels.accumulate"},
    {"format", "rounding", "kernels", "threads"},
    {"catalog", "stream"},
    {"spec", "inputs", "dask"},
    {"projection"},
    {"cast", "arithmetic", "accumulator"},
    {"accumulate", "units"},
    {"array", "analysis.sums"},
    {"strategies.calls"},
    {"strategies.kinds"},
    {"strategies.parameters"},
    {"strategies.numbers"},
    {"strategies.decisions"},
    {"strategies.operations"},
    {"strategies"},
    {"analysis.sketch"},
    {"analysis.error", "analysis.lognormal"},
    {"analysis.measure", "analysis.pruning", "gradients.nonfinite"},
    {"analysis.dither"},
    {
        "gradients.allocation",
        "gradients.dither",
        "gradients.luq",
        "gradients.nm",
        "gradients.pruning",
    },
    {"analysis.recommend"},
    {
        "certify",
        "files",
        "gradients.scaled",
        "hardware.coverage",
        "hardware.draws",
        "hardware.rendering",
        "hardware.systemverilog",
        "plot.style",
    },
    {"hardware.operands", "hardware.c_header"},
    {"hardware.tables", "hardware.random_bits"},
    {"hardware.vectors"},
    {"hardware.vector_files"},
    {"hardware.bench"},
    {"plot.formats"},
    {"plot.casts", "plot.data", "plot.choice", "plot.sums", "plot.tradeoff"},
    {"plot"},
    {"report", "explore"},
    {"torch.tensors", "torch.layers"},
    {"torch.ops", "torch.gradients"},
    {"torch.forward", "torch.capture"},
    {"torch"},
    {"cli.terminal"},
    {"cli.plot", "cli.report"},
    {"cli.recommend", "cli.describe", "cli.certify"},
    {"cli"},
]
BESIDE = {("analysis.lognormal", "analysis.error")}
UPWARD_IN_FUNCTIONS = {("format", "catalog"), ("accumulator", "units")}
OPTIONAL = [
    "matplotlib",
    "torch",
    "ml_dtypes",
    "safetensors",
    "hypothesis",
    "dask",
    "gmpy2",
    "jinja2",
    "ipywidgets",
    "IPython",
]


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name not in ("__init__", "analysis", "gradients", "hardware"):  # these hold no code
            found[name] = path
    return found


def height(name: str) -> int:
    (level,) = [i for i, layer in enumerate(LAYERS) if name in layer]
    return level


def imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(where, module of fpsim) of every import: 'module', 'function' or 'types'."""

    def visit(node: ast.AST, where: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                yield from visit(child, "function")
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                yield from visit(child, "types")
            elif isinstance(child, ast.Import):
                yield from ((where, alias.name) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "imports are absolute"
                base = child.module or ""
                for alias in child.names:
                    longer = f"{base}.{alias.name}".removeprefix("fpsim.")
                    yield where, f"fpsim.{longer}" if longer in modules() else base
            else:
                yield from visit(child, where)

    for where, name in visit(tree, "module"):
        if name == "fpsim" or name.startswith("fpsim."):
            yield where, name.removeprefix("fpsim").removeprefix(".")


def test_every_module_has_its_place() -> None:
    assert set(modules()) == set().union(*LAYERS)


@pytest.mark.parametrize("name", modules())
def test_imports_go_downwards(name: str) -> None:
    for where, other in imports(ast.parse(modules()[name].read_text())):
        if where == "types":
            continue
        if not other and name.split(".")[0] == "cli":
            continue  # it stands above the public names
        assert other, f"{name} imports fpsim itself"
        if (name, other) in BESIDE or height(other) < height(name):
            continue
        assert where == "function", f"{name} imports {other} at module level"
        assert (name, other) in UPWARD_IN_FUNCTIONS, f"{name} reaches up to {other}"


def test_nothing_imports_the_command_line() -> None:
    for name, path in modules().items():
        if name.split(".")[0] != "cli":
            found = {other.split(".")[0] for _, other in imports(ast.parse(path.read_text()))}
            assert "cli" not in found, name
    tree = ast.parse((ROOT / "__init__.py").read_text())
    assert not {other.split(".")[0] for _, other in imports(tree)} & {"cli", "certify"}


@pytest.mark.parametrize("name", ["arguments", "threads", "rounding"])
def test_tools_know_nothing_of_formats(name: str) -> None:
    """They could be lifted out as they are."""
    assert set(imports(ast.parse(modules()[name].read_text()))) <= {("module", "arguments")}


def test_kernels_stand_alone() -> None:
    """What kernels use is in their package, which is what their cache watches, or in Numba."""
    packages, own = set(), set()
    for name, path in modules().items():
        tree = ast.parse(path.read_text())
        if name.split(".")[0] != "kernels":
            assert "numba" not in path.read_text().replace("Numba", ""), f"{name} uses numba too"
            continue
        own |= {other for _, other in imports(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                packages |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                packages.add((node.module or "").split(".")[0])
    assert {name.split(".")[0] for name in own} == {"kernels"}
    assert packages - set(sys.stdlib_module_names) <= {"fpsim", "llvmlite", "numba", "numpy"}


def test_an_edit_to_a_helper_is_seen(tmp_path: Path) -> None:
    """Numba's own cache would go on with the helper of another file that it once compiled."""
    shutil.copytree(ROOT, tmp_path / "fpsim", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    code = """
import fpsim, numpy as np
flags = np.zeros(1, np.uint8)
fpsim.round([0.3], "e4m3", flags=flags)
print(flags[0])
"""
    helper = tmp_path / "fpsim" / "kernels" / "exact.py"
    kernel = tmp_path / "fpsim" / "kernels" / "casts.py"
    assert "INEXACT = 1" in helper.read_text()
    assert "INEXACT = " not in kernel.read_text()
    assert python(code, **environment).strip() == "1"
    helper.write_text(helper.read_text().replace("INEXACT = 1", "INEXACT = 64"))
    assert python(code, **environment).strip() == "64"


def test_the_specification_shares_no_code_with_the_casts() -> None:
    found = {other for _, other in imports(ast.parse(modules()["spec"].read_text()))}
    assert found <= {"arguments", "format", "rounding", "catalog"}


# What an import costs ---------------------------------------------------------------------------


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_optional_packages_are_not_imported() -> None:
    code = f"""
import sys, fpsim
print([name for name in {OPTIONAL!r} if name in sys.modules])
fpsim.round([0.3], "e4m3"), fpsim.recommend([0.3, 0.5, 1.0], 6)
import fpsim.files, fpsim.certify
print([name for name in {OPTIONAL!r} if name in sys.modules])
print([name for name in ("click", "rich") if name in sys.modules])
"""
    assert python(code).splitlines() == ["[]", "[]", "[]"]


def test_nothing_is_compiled_at_import(tmp_path: Path) -> None:
    code = """
import fpsim, fpsim.cli, fpsim.certify
from numba.core.dispatcher import Dispatcher
import gc
print([d.py_func.__name__ for d in gc.get_objects() if isinstance(d, Dispatcher)
       and d.py_func.__module__.startswith("fpsim") and d.signatures])
"""
    assert python(code, NUMBA_CACHE_DIR=str(tmp_path)).strip() == "[]"
    assert not list(tmp_path.rglob("*.nb*"))


def test_import_without_optional_packages() -> None:
    """As if none of them were installed."""
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OPTIONAL!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import fpsim, fpsim.cli
import numpy as np
print(fpsim.round(0.3, "e4m3"), fpsim.recommend(np.arange(1, 50.0), 4).format)
"""
    assert python(code).split()[0] == "0.3125"


def test_round_compiles_one_signature_a_dtype(tmp_path: Path) -> None:
    """Whatever the format, the mode and the layout, and whether the input may be written to."""
    code = """
import numpy as np, fpsim
for dtype in (np.float32, np.float64):
    x = np.linspace(-3, 3, 100).astype(dtype)
    frozen = x.copy(); frozen.flags.writeable = False
    for fmt in ("e4m3", "e5m2f", "float8_e8m0fnu", "ue3m2f", "e3m2,subnormals=false"):
        for mode in fpsim.Rounding:
            for y in (x, frozen, x[::-1], x[::2]):
                fpsim.round(y, fmt, rounding=mode, overflow="saturate")
"""
    python(code, NUMBA_CACHE_DIR=str(tmp_path))
    compiled = [path.name for path in tmp_path.rglob("*.nbc")]
    # One file a signature; helpers that are compiled on their own have files of their own.
    assert sum("round_by_mode" in name for name in compiled) == 2
    assert not [name for name in compiled if "random" in name or "encode" in name]


# What is public ---------------------------------------------------------------------------------


def test_public_names_are_there_and_sorted() -> None:
    assert fpsim.__all__ == sorted(fpsim.__all__)
    for name in fpsim.__all__:
        assert hasattr(fpsim, name)
    assert {n for n in fpsim.__all__ if hasattr(builtins, n)} == {"round"}


def public() -> Iterator[tuple[str, object]]:
    for name in fpsim.__all__:
        thing = getattr(fpsim, name)
        yield name, thing
        if inspect.isclass(thing) or inspect.ismodule(thing):
            for member, value in vars(thing).items():
                function = getattr(value, "__func__", value)
                if member.startswith("_") or not inspect.isfunction(function):
                    continue
                if function.__module__.startswith("fpsim") and (
                    not inspect.ismodule(thing) or function.__module__ == thing.__name__
                ):
                    yield f"{name}.{member}", function


@pytest.mark.parametrize(("name", "thing"), [pytest.param(n, t, id=n) for n, t in public()])
def test_public_names_are_explained(name: str, thing: object) -> None:
    text = inspect.getdoc(thing) or ""
    assert len(text) > 20
    assert text[0].isupper() or text[0] in "`'\"" or text.startswith(name.split(".")[-1])
    assert ".\n" in text + "\n"  # a first sentence


# Enumerations and plain results explain themselves by their members.
WITHOUT_EXAMPLE = {
    "Allocation",
    "DitherExpectation",
    "Dithered",
    "LayerSparsity",
    "Flag",
    "Luq",
    "LuqExpectation",
    "PackedNM",
    "Pruned",
    "Pruning",
    "PruningExpectation",
    "Metric",
    "NaNs",
    "Order",
    "Overflow",
    "Recommendation",
    "Rounding",
    "SetRecommendation",
    "SparsityAllocation",
    "Weighting",
    "spec",
}


@pytest.mark.parametrize("name", sorted(set(fpsim.__all__) - WITHOUT_EXAMPLE))
def test_public_names_have_an_example(name: str) -> None:
    text = inspect.getdoc(getattr(fpsim, name)) or ""
    assert ">>> " in text
    assert "+SKIP" not in text
