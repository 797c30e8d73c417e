"""Runs one peer over files, with the peer's own interpreter: `peer.py NAME LIST`.

LIST is JSON: pairs of a source and a target. Each is used as its documentation says, with its
defaults; `dicom-anonymizer 2026c` with its newest table instead. What a file fails with is printed
as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path


def dicognito() -> Callable[[Path, Path], None]:
    """Return dicognito's hand."""
    import pydicom
    from dicognito.anonymizer import Anonymizer

    anonymizer = Anonymizer()

    def run(source: Path, target: Path) -> None:
        ds = pydicom.dcmread(source)
        anonymizer.anonymize(ds)
        ds.save_as(target)

    return run


def dicom_anonymizer(version: str = "") -> Callable[[Path, Path], None]:
    """Return dicom-anonymizer's hand."""
    from dicomanonymizer.simpledicomanonymizer import anonymize_dicom_file, initialize_actions

    def run(source: Path, target: Path) -> None:
        if version:
            anonymize_dicom_file(
                str(source), str(target), base_rules_gen=lambda: initialize_actions(version)
            )
        else:
            anonymize_dicom_file(str(source), str(target))

    return run


def deid() -> Callable[[Path, Path], None]:
    """Return deid's hand, private attributes removed."""
    from deid.dicom import get_identifiers, replace_identifiers

    def run(source: Path, target: Path) -> None:
        found = get_identifiers([str(source)])
        (ds,) = replace_identifiers([str(source)], ids=found, save=False, remove_private=True)
        ds.save_as(target)

    return run


HANDS = {
    "dicognito": dicognito,
    "dicom-anonymizer": dicom_anonymizer,
    "dicom-anonymizer 2026c": lambda: dicom_anonymizer("dicomfields_2026c"),
    "deid": deid,
}


def main() -> None:
    """Do every pair; print what failed."""
    run = HANDS[sys.argv[1]]()
    failed: dict[str, str] = {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for source, target in json.loads(Path(sys.argv[2]).read_text()):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            try:
                run(Path(source), Path(target))
            except Exception as error:  # noqa: BLE001 - whatever a peer fails with
                failed[source] = type(error).__name__
    sys.stdout.write(json.dumps(failed))


if __name__ == "__main__":
    main()
