"""Fixtures with real Orthancs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.orthanc import servers


@pytest.fixture
def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    return servers.free_port()


@pytest.fixture
def orthanc_pair(tmp_path: Path) -> Iterator[servers.OrthancPair]:
    """Return a clinical archive (with our plugin, its bell unanswered) and a research one."""
    clinical = servers.clinical_config(tmp_path / "orthanc-clinical")
    research = servers.research_config(tmp_path / "orthanc-research")
    with servers.running(clinical, research) as (first, second):
        yield servers.OrthancPair(first, second)


@pytest.fixture
def clinical(tmp_path: Path) -> Iterator[servers.RunningOrthanc]:
    """Return a clinical archive alone."""
    with servers.running(servers.clinical_config(tmp_path / "orthanc-clinical")) as (orthanc,):
        yield orthanc
