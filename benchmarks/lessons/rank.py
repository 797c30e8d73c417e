"""One of several ranks that learn as one, as torchrun starts it; the first says its rate."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from models.learning.cases import read_dataset
from models.learning.planning import Plan
from models.learning.ranks import joined
from models.learning.trainer import train


def main() -> None:
    """Learn by the plan in the run's folder; print the samples a second of the last epoch."""
    data, run, cache = (Path(word) for word in sys.argv[1:])
    torch.set_num_threads(1)
    plan = Plan.model_validate_json((run / "plan.ask.json").read_bytes())
    with joined(torch.device("cpu")) as (device, is_first):
        done = train(read_dataset(data), plan, run / "run", cache=cache, device=device, workers=1)
    if is_first:
        print(plan.steps_an_epoch * plan.batch / done.best.seconds)


if __name__ == "__main__":
    main()
