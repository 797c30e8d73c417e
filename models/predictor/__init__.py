"""A bundle at work: images in, an answer on the grid of the first of them out.

`predictor` is the road: images onto one grid, the region where a first model looked, whole volumes
or slice by slice, and back. On it, `looking` runs the network and `meaning` says what came of it;
`beside` checks what a bundle names beside itself, `opening` opens all of these.
"""

from models.predictor.opening import open_predictor
from models.predictor.predictor import Predictor

__all__ = ["Predictor", "open_predictor"]
