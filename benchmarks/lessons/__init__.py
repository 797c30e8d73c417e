"""The parts of the benchmark of learning: how good, how fast, and whether the loop closes."""
