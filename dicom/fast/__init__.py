"""The fast engine: a header as tokens, and the careful engine's decisions remembered.

===============  ================================================================================
`tokens`         a header as the bytes of its elements; strict
`reading`        a file as tokens, and where its pixels lie
`memory`         what was decided before, bounded
`series`         what is the same for the instances of a series, found out by watching what is read
`written`        what the result says of itself, made once
`engine`         one instance: tokens in, bytes out; pixels are never looked at
`choice`         fast, careful, or the one where the other will not do
===============  ================================================================================

What becomes of an attribute is :func:`dicom.deid.decide`'s answer and nobody else's: the same bytes
at the same place of the same subject are asked for once. What this engine cannot read with
certainty, it does not write: the careful engine reads it.
"""

from dicom.fast.choice import EitherEngine, EngineChoice, engine_for
from dicom.fast.engine import FastDeidentifier

__all__ = ["EitherEngine", "EngineChoice", "FastDeidentifier", "engine_for"]
