"""Draw what ``fpsim recommend --bits 6`` prints, as the README's picture.

python docs/images/make_recommend_svg.py docs/images/recommend.svg
"""

from __future__ import annotations

import io
import sys
from unittest import mock

from rich.console import Console

import fpsim
from fpsim.cli import recommend

if __name__ == "__main__":
    console = Console(record=True, width=138, file=io.StringIO(), force_terminal=True)
    gradients = fpsim.sample_gradients()
    late = {name: x for name, x in gradients.items() if name.startswith("step119")}
    with mock.patch.object(recommend, "output", return_value=console):
        recommend._print_recommendation(fpsim.recommend(late, [6]), "neural gradients")
    console.save_svg(sys.argv[1], title="fpsim recommend --bits 6")
