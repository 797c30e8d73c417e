"""How a network is run: plainly, with fewer bits, or by OpenVINO; chosen by measuring.

A processor that multiplies bfloat16 in hardware is five to eight times as fast with it as torch is
with float32, another is three times as fast with OpenVINO, and some networks answer differently
with fewer bits. So nothing is assumed: the first window that is slow enough to matter is run in
each way there is, and the fastest one that says the same as plain float32 is kept.

``ways`` are the ways, ``lean`` is what one of them does to a network, ``agreement`` is what "the
same" means, ``choosing`` compares, ``chosen`` remembers.
"""

from models.backends.agreement import DICE, disagreement
from models.backends.choosing import Choice, choose
from models.backends.chosen import Chosen
from models.backends.ways import Backend, LeanTorch, OpenVino, PlainTorch, ShortTorch, SideBySide

__all__ = [
    "DICE",
    "Backend",
    "Choice",
    "Chosen",
    "LeanTorch",
    "OpenVino",
    "PlainTorch",
    "ShortTorch",
    "SideBySide",
    "choose",
    "disagreement",
]
