"""What the tests of this floor share."""

import pytest

from dicom.deid import Deidentifier
from dicom.profile import node_profile
from tests.planted import KEY


@pytest.fixture(scope="module")
def engine() -> Deidentifier:
    return Deidentifier(node_profile(), KEY)
