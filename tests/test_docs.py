"""The pages are complete: each public name is in the reference, each page in the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fpsim

DOCS = Path(__file__).parents[1] / "docs"


def test_the_reference_has_every_public_name() -> None:
    listed = re.findall(
        r"auto(?:function|class|module):: fpsim\.(\w+)", (DOCS / "api.md").read_text()
    )
    assert set(fpsim.__all__) <= set(listed)
    assert len(set(listed)) == len(listed), "listed twice"


@pytest.mark.parametrize("page", sorted(p.stem for p in DOCS.glob("*.md")))
def test_every_page_can_be_found(page: str) -> None:
    index = (DOCS / "index.md").read_text()
    assert page == "index" or re.search(rf"^{page}$", index, re.MULTILINE)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
