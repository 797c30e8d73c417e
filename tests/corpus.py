"""The corpus of DICOM files beside the project: its index, and the mark of tests that need it."""

from __future__ import annotations

import csv

import pytest

from tests.series import DATA

CORPUS = DATA / "dicom-corpus"
INDEX = list(csv.DictReader((CORPUS / "INDEX.csv").open())) if CORPUS.exists() else []
needs_corpus = pytest.mark.skipif(not INDEX, reason="needs ../shared/data/dicom-corpus")
