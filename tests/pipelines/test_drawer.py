"""The drawer: it opens for its owner and with its key alone."""

import pytest

from dicom.errors import DrawerLocked
from pipelines.drawer import Drawer


def test_what_was_sealed_opens_for_its_owner_alone():
    drawer = Drawer(b"secret")
    sealed = drawer.close(b"Frau Muster", bound_to="draft 1")
    assert b"Muster" not in sealed
    assert drawer.open(sealed, bound_to="draft 1") == b"Frau Muster"
    for other, owner in ((drawer, "draft 2"), (Drawer(b"another"), "draft 1")):
        with pytest.raises(DrawerLocked):
            other.open(sealed, bound_to=owner)
    with pytest.raises(DrawerLocked):
        drawer.open(sealed[:-1] + bytes([sealed[-1] ^ 1]), bound_to="draft 1")


def test_names_are_the_same_each_time_and_need_the_secret():
    assert Drawer(b"secret").name("1.2.3") == Drawer(b"secret").name("1.2.3")
    assert Drawer(b"secret").name("1.2.3") != Drawer(b"another").name("1.2.3")
    assert Drawer(b"secret").name("1.2.3") != Drawer(b"secret").name("1.2.4")
