"""One node for the tests of this folder, with a quick bundle and a real receiver of results."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.orthanc import find_program
from tests.bundles import write_slow_bundle, write_threshold_bundle
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
"""


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
    with running_node(config) as running:
        yield running
