"""Words for segments: found by a few letters, coded as the standard has them."""

import pytest
from pydicom.sr.codedict import codes

from dicom.vocabulary import search


def test_the_organ_comes_before_what_is_called_after_it():
    first, *rest = search("liver")
    assert (first.type.value, first.type.scheme) == ("10200004", "SCT")
    assert first.category.meaning == "Anatomical Structure"
    assert rest and all("liver" in term.label.casefold() for term in rest)


@pytest.mark.parametrize("text", ["kidney", "KIDN", "left kidney", "kidney right"])
def test_a_side_is_no_part_of_the_word(text):
    first = search(text)[0]
    assert (first.type.value, first.laterality_allowed) == ("64033007", True)


def test_terms_of_every_category_are_there():
    assert {term.category.meaning for term in search("", limit=5000)} >= {
        "Anatomical Structure",
        "Tissue",
        "Morphologically Abnormal Structure",
        "Physical object",
    }
    assert len(search("", limit=5000)) > 700


def test_british_and_american_words_lead_to_one_code():
    assert search("oesophagus")[0].type == search("esophagus")[0].type
    for word in ("tumour", "tumor", "neoplasm", "cancer"):
        assert search(word)[0].type.value == "108369006"
    assert [term.label for term in search("metastasis")] == ["Neoplasm, Secondary"]
    assert search("oedema") == search("edema") != []


def test_a_term_is_the_standards_own():
    (term,) = [t for t in search("mediastinum") if t.label == "Mediastinum"]
    assert term.type.value == codes.SCT.Mediastinum.value


def test_nonsense_is_nothing():
    assert search("xyzzy") == []
