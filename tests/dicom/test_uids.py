"""Pseudonyms: the same for the same key, unlinkable for another, always valid UIDs."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom.uids import (
    date_shift_days,
    derived_uid,
    label_pseudonym,
    patient_pseudonym,
    pseudonym_uid,
)

keys = st.binary(min_size=32, max_size=32)
KEY = bytes(range(32))
OTHER = bytes(32)


def is_valid_uid(uid: str) -> bool:
    """PS3.5 9.1: digits and dots, no leading zero in a component, at most 64 characters."""
    return len(uid) <= 64 and re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", uid) is not None


@given(keys, st.text())
def test_a_pseudonym_is_a_valid_uid_and_always_the_same(key, uid):
    assert is_valid_uid(pseudonym_uid(key, uid))
    assert pseudonym_uid(key, uid) == pseudonym_uid(key, uid)


@given(keys, st.lists(st.text(), unique=True, max_size=20))
def test_different_uids_have_different_pseudonyms(key, uids):
    assert len({pseudonym_uid(key, uid) for uid in uids}) == len(uids)


@given(st.text())
def test_another_key_gives_another_pseudonym(uid):
    assert pseudonym_uid(KEY, uid) != pseudonym_uid(OTHER, uid)
    assert patient_pseudonym(KEY, uid, "") != patient_pseudonym(OTHER, uid, "")


@given(keys, st.text(), st.text())
def test_a_shift_goes_back_by_days_up_to_ten_years_and_is_never_zero(key, patient_id, issuer):
    assert -3650 <= date_shift_days(key, patient_id, issuer) <= -1


def test_shifts_are_spread_over_the_whole_range():
    shifts = [date_shift_days(KEY, str(n), "") for n in range(2000)]
    assert len(set(shifts)) > 1400  # 2000 draws from 3650: 1540 differ on average
    assert min(shifts) < -3600
    assert max(shifts) > -50


def test_the_issuer_is_part_of_who_a_patient_is():
    assert patient_pseudonym(KEY, "1", "A") != patient_pseudonym(KEY, "1", "B")
    assert patient_pseudonym(KEY, "1A", "") != patient_pseudonym(KEY, "1", "A")


def test_purposes_do_not_share_their_randomness():
    """The same text under the same key, used for four things, has nothing in common."""
    uid = int(pseudonym_uid(KEY, "1.2.3").removeprefix("2.25."))
    assert f"{uid:032X}"[:6] != label_pseudonym(KEY, "1.2.3")
    assert str(uid) not in patient_pseudonym(KEY, "1.2.3", "")
    assert derived_uid("1.2.3") != pseudonym_uid(KEY, "1.2.3")


def test_a_result_uid_depends_on_every_part_and_on_where_it_ends():
    assert derived_uid("job", "task") == derived_uid("job", "task")
    assert is_valid_uid(derived_uid())
    uids = {derived_uid(*parts) for parts in [("ab", "c"), ("a", "bc"), ("abc",), ("abc", "")]}
    assert len(uids) == 4


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_a_short_or_long_key_is_refused(key):
    for use in (pseudonym_uid, label_pseudonym):
        with pytest.raises(ValueError, match="32 bytes"):
            use(key, "1.2")
    for use in (patient_pseudonym, date_shift_days):
        with pytest.raises(ValueError, match="32 bytes"):
            use(key, "1", "")


def test_the_construction_stands():
    """Changing it would give every patient of every site a second pseudonym."""
    assert pseudonym_uid(KEY, "1.2.3") == "2.25.224074540819229332416642780756909459557"
    assert patient_pseudonym(KEY, "MRN", "ISSUER") == "RL-45IDTEKUTNJDPMRI"
    assert date_shift_days(KEY, "MRN", "ISSUER") == -2337
    assert derived_uid("job", "task") == "2.25.279360697755643435853646061635672535616"
