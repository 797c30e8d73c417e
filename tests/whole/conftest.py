"""One node for the tests of this folder, with a quick bundle and a real receiver of results."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.orthanc import find_program
from tests.bundles import write_kidney_bundle, write_slow_bundle, write_threshold_bundle
from tests.orthanc.servers import free_port
from tests.whole.nodes import Node, running_node, write_config

ROUTES = """
[[route]]
name = "head-mr"
bundle = "threshold"
collect = true
destinations = ["pacs"]
[route.when]
modality = ["MR"]
not_image_type = ["LOCALIZER"]

[[route]]
name = "ct"
bundle = "threshold"
[route.when]
modality = ["CT"]

[[route]]
name = "wrong-side"
bundle = "kidney_right"
[route.when]
modality = ["PT"]
body_part = ["ABDOMEN"]

[[route]]
name = "wrong-place"
bundle = "kidney_left"
outputs = ["seg", "sr", "shifted"]
[route.when]
modality = ["PT"]
body_part = ["CHEST"]
"""

SHIFTED = '''"""An output type of a site, with a fault: its segmentation lies one slice too high."""

from pipelines.outputs import seg


def encode(made):
    encoded = seg.encode(made)
    step = made.source.affine_lps[:3, 0]
    for group in encoded.ds.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0]
        place.ImagePositionPatient = [
            round(float(a) + b, 6) for a, b in zip(place.ImagePositionPatient, step)
        ]
    return encoded
'''


def write_site_package(folder: Path) -> Path:
    """Write an installed package with an output type of its own; return the folder for the path."""
    about = folder / "shifted-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Name: shifted\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[radloop.outputs]\nshifted = shifted_output\n")
    (folder / "shifted_output.py").write_text(SHIFTED)
    return folder


@dataclass
class Receiver:
    """dcmtk's storescp: another system's receiver, started and stopped at will."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("storescp")
        assert program is not None
        self.folder.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [program, "--aetitle", "PACS", "--output-directory", str(self.folder), str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.exists() else []


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    write_threshold_bundle(folder)
    write_slow_bundle(folder)
    write_kidney_bundle(folder, "left")
    write_kidney_bundle(folder, "right")
    return folder


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    pacs = Receiver(free_port(), tmp_path_factory.mktemp("pacs") / "received")
    pacs.start()
    yield pacs
    pacs.stop()


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, bundles: Path, receiver: Receiver
) -> Iterator[Node]:
    find_program()
    more = f"""
[[peer]]
name = "pacs"
aet = "PACS"
host = "127.0.0.1"
port = {receiver.port}
"""
    config = write_config(tmp_path_factory.mktemp("node"), bundles, routes=ROUTES, more=more)
    site = write_site_package(tmp_path_factory.mktemp("site"))
    with running_node(config, env=[("PYTHONPATH", str(site))]) as running:
        yield running
