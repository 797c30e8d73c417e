"""What all tests share."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

# The same examples in every run: a test that fails here fails for everybody. To look for new ones:
# pytest --hypothesis-profile=explore
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")

_LONG = (
    *("tests/whole/", "tests/browser/", "tests/orthanc/", "tests/pipelines/test_launching.py"),
    *("tests/pipelines/test_nine_kinds.py", "tests/pipelines/test_lessons.py"),
    *("tests/models/test_mr_brain.py", "tests/models/test_importing_head.py"),
    *("tests/models/test_trainer.py", "tests/node/test_cli.py", "tests/dicom/test_verify.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest: of two processes none is left alone with them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))  # the rest stays in order


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one core: another process tests on the other."""
    import torch  # late: most tests have no use for it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
