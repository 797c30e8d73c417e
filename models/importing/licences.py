"""Under which licence a model may be used: as its files say, or the person who imports it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from dicom.errors import UnknownLicence

_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING", "license.txt")

# Words that only this licence has; the first that fits.
_TEXTS: tuple[tuple[str, str], ...] = (
    (r"Apache License,?\s+Version 2\.0", "Apache-2.0"),
    (r"CC[ -]BY[ -]NC[ -]SA|Attribution-NonCommercial-ShareAlike", "CC-BY-NC-SA"),
    (r"CC[ -]BY[ -]NC|Attribution-NonCommercial", "CC-BY-NC"),
    (r"CC[ -]BY[ -]SA|Attribution-ShareAlike", "CC-BY-SA"),
    (r"CC[ -]BY\b|Creative Commons Attribution", "CC-BY"),
    (r"\bCC0\b", "CC0-1.0"),
    (r"Neither the name of .* may be used to endorse", "BSD-3-Clause"),
    (r"Redistribution and use in source and binary forms", "BSD-2-Clause"),
    (r"Permission is hereby granted, free of charge", "MIT"),
    (r"GNU AFFERO GENERAL PUBLIC LICENSE", "AGPL"),
    (r"GNU GENERAL PUBLIC LICENSE", "GPL"),
    (r"\b(Apache-2\.0|MIT|BSD-[23]-Clause|MPL-2\.0|GPL-[23]\.0|AGPL-3\.0)\b", r"\1"),
)


def licence_of(folders: Iterable[Path], said: str | None) -> tuple[str, str]:
    """Return a licence's short name and its text.

    Parameters
    ----------
    folders : iterable of Path
        Looked through in this order for a licence's file, or for a field ``license`` in MONAI's
        metadata.json or nnU-Net's dataset.json.
    said : str or None
        What the person who imports says; it comes first, since that person has looked.

    Raises
    ------
    UnknownLicence
        When nobody says.
    """
    text = field = ""
    for folder in folders:
        found = [folder / name for name in _FILES if (folder / name).is_file()]
        text = text or (found[0].read_text("utf-8", errors="replace") if found else "")
        field = field or _field(folder)
    if said:
        return said, text or f"{said}\n\nAs said by the person who imported the model.\n"
    if text.strip():
        return _short(text), text
    if field:
        return _short(field), f"{field}\n\nAs said in the model's description.\n"
    raise UnknownLicence("the model holds no LICENSE file and names no licence in its description")


def _field(folder: Path) -> str:
    for name in ("configs/metadata.json", "dataset.json"):
        try:
            document = json.loads((folder / name).read_text("utf-8"))
        except (OSError, ValueError):
            continue  # whoever reads it as a model says what is wrong with it
        for key in ("license", "licence", "License", "Licence"):
            value = document.get(key) if isinstance(document, dict) else None
            if isinstance(value, str) and value.strip():
                return value.strip()
    return ""


def _short(text: str) -> str:
    """Return the short name of a licence's text; its first line when the text is not known."""
    for pattern, name in _TEXTS:
        match = re.search(pattern, text, re.IGNORECASE | re.DOTALL)
        if match:
            return match.expand(name)
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first[:64]
