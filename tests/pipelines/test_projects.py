"""Projects: what each of them may ask for, and that nobody can link one to the other."""

from __future__ import annotations

import pytest

from dicom.deid import Deidentifier, Heads
from dicom.errors import ConflictingOptions, InvalidSettings, NotFound
from dicom.profile import ObjectType, Option
from pipelines.keyring import KeyRing
from pipelines.projects import NODE, Project, project_called
from tests.planted import slice_of_mr

FACES = Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES


def test_the_node_is_a_project_of_its_own_and_keeps_heads():
    assert project_called("node", ()) == NODE
    assert NODE.heads is Heads.KEEP
    with pytest.raises(NotFound):
        project_called("stroke", (Project("liver"),))


@pytest.mark.parametrize(
    "options",
    [
        (Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES),
        (Option.RETAIN_UIDS, Option.RETAIN_MODIFIED_DATES),
    ],
)
def test_options_that_exclude_each_other_make_no_project(options):
    with pytest.raises(ConflictingOptions):
        Project("stroke", options)


def test_faces_cannot_be_cleaned_and_kept():
    with pytest.raises(ConflictingOptions):
        Project("stroke", (FACES,), heads=Heads.KEEP)
    assert FACES in Project("stroke", heads=Heads.DEFACE).profile.options


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 33, "é"])
def test_a_name_that_is_no_word_makes_no_project(name):
    with pytest.raises(InvalidSettings):
        Project(name)


def test_a_project_is_told_in_one_sentence():
    project = Project("stroke", (Option.RETAIN_UIDS,), objects=(ObjectType.DOCUMENT,))
    said = project.in_words()
    assert "Retain UIDs Option (113110)" in said
    assert "heads are refused" in said and "documents are taken unread" in said


def test_a_patient_is_the_same_within_a_project_and_a_stranger_in_another():
    """Pseudonym, UIDs and the shift of dates: none of them is shared, each is repeatable."""
    ring = KeyRing((bytes(range(32)),))

    def seen_by(name: str, study: str) -> tuple[str, str, str, str]:
        engine = Deidentifier(Project(name).profile, ring.pseudonym_key(name))
        clean, _ = engine.deidentify(slice_of_mr(StudyInstanceUID=study))
        return (clean.PatientID, clean.StudyInstanceUID, clean.SOPInstanceUID, clean.StudyDate)

    first, again = seen_by("stroke", "1.2.826.77.2"), seen_by("stroke", "1.2.826.77.2")
    other_study = seen_by("stroke", "1.2.826.77.3")
    elsewhere, node = seen_by("liver", "1.2.826.77.2"), seen_by("node", "1.2.826.77.2")
    assert first == again
    assert first[0] == other_study[0] and first[3] == other_study[3]
    for one, two in ((first, elsewhere), (first, node), (elsewhere, node)):
        assert not set(one) & set(two)
