"""Train the weights of this bundle: ``python -m models.bundles.mr_brain.scripts.train``.

``--data`` is the folder that holds ``t1_nifti``, ``silver_labels`` and ``sag_anon_t1_dicom``. What
is not said on the command line is in configs/train.json. Every sample is new: there are no epochs.
The saved weights are a running mean over the last steps, in half precision.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.bundle.config_parser import ConfigParser
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, IterableDataset

from models.bundles.mr_brain.scripts.heads import read_head
from models.bundles.mr_brain.scripts.synthesis import Library, samples

log = logging.getLogger("train")
BUNDLE = Path(__file__).resolve().parent.parent


def train(options: argparse.Namespace) -> None:
    """Run the whole training and write the weights, and every 250 steps what there is by then."""
    parser = ConfigParser(json.loads((BUNDLE / "configs/train.json").read_text()))
    for name, _, value in (setting.partition("=") for setting in options.set):
        if name not in parser:
            raise SystemExit(f"train.json has no {name}")
        parser[name] = json.loads(value)
    torch.manual_seed(parser["seed"])
    network = parser.get_parsed_content("network_def")
    if options.start is not None:
        network.load_state_dict(torch.load(options.start, weights_only=True))
    network = network.to(memory_format=torch.channels_last_3d)
    optimizer = parser.get_parsed_content("optimizer")
    schedule = parser.get_parsed_content("schedule")
    loss_of = parser.get_parsed_content("loss")
    average = AveragedModel(network, multi_avg_fn=partial(towards, keep=parser["average"]))

    begun = time.monotonic()
    heads = [read_head(name, options.data) for name in parser["heads"]]
    counts = {name: parser[name] for name in ("phantoms", "rebuilt", "nothing", "seed")}
    library = Library(heads, **counts)
    log.info("library of shapes made in %.0f s", time.monotonic() - begun)

    begun, mean_loss = time.monotonic(), 1.0
    # Samples are drawn beside the training, one thread each: two threads that wait for each other
    # lose most of their time on a machine that others use too.
    drawn = iter(
        DataLoader(Drawn(library, parser["seed"], parser["shares"]), batch_size=None, num_workers=1)
    )
    last = min(parser["steps"], options.stop or parser["steps"])
    for step in range(1, last + 1):
        image_bcxyz, mask_bcxyz = next(drawn)
        image_bcxyz = image_bcxyz.to(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16):
            logits_bcxyz = network(image_bcxyz)
        loss = loss_of(logits_bcxyz.float(), mask_bcxyz)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        mean_loss += 0.02 * (loss.item() - mean_loss)
        if step % 50 == 0:
            log.info("step %d: loss %.4f, %.0f s", step, mean_loss, time.monotonic() - begun)
        if step % 250 == 0 or step == last:
            save(average.module, options.out)


def towards(
    averages: list[torch.Tensor], parameters: list[torch.Tensor], _: object, *, keep: float
) -> None:
    """Move running means a little towards the present parameters."""
    torch._foreach_lerp_(averages, parameters, 1 - keep)


class Drawn(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Samples without end, for a process of their own."""

    def __init__(self, library: Library, seed: int, shares: dict[str, float]) -> None:
        self.shares = shares
        self.library = library
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Draw from the beginning."""
        torch.set_num_threads(1)
        return samples(self.library, self.seed, self.shares)


def save(network: torch.nn.Module, path: Path) -> None:
    """Write the state dict in half precision; a network takes it back into its own."""
    state: dict[str, Any] = {k: v.half().contiguous() for k, v in network.state_dict().items()}
    torch.save(state, path)


def main() -> None:
    """Read the command line and train."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("--data", type=Path, required=True, help="folder of the real heads")
    command.add_argument("--out", type=Path, required=True, help="where the weights are written")
    command.add_argument("--start", type=Path, help="weights to go on from")
    command.add_argument(
        "--set", nargs="*", default=[], help="what shall differ from train.json: NAME=JSON ..."
    )
    command.add_argument("--stop", type=int, help="end before the schedule does")
    command.add_argument("--threads", type=int, default=1)
    options = command.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    train(options)


if __name__ == "__main__":
    main()
