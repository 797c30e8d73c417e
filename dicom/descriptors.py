"""Descriptions cut down to words that are known to be safe (PS3.15 E.3.4, Clean Descriptors).

Fails closed: a word stays only when the vocabulary has it; whatever else it is, a name, a number, a
word of another alphabet, is dropped. A word that also stands in the object's own names and
identifiers is dropped even when the vocabulary has it: a patient may be called Head.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources

# A word: letters, digits, and every byte that is not ASCII (which makes the word unknown).
_WORD = re.compile(r"[^\s_\-/\\.,:;+*()\[\]<>=&#|^@'\"!?%{}~`$]+(?:\.\d+)?")
_LONG_WORD = re.compile(r"[^\W_]{3,}")
_MEASURE = re.compile(r"\d{1,4}(?:\.\d{1,3})?(?:mm|cm|ms|sec|s|kv|kvp|ma|mas|t|deg|hz|khz|d)", re.A)
_COUNT = re.compile(r"\d(?:\.\d{1,2})?", re.A)
_VALUED = re.compile(r"(?:b\d{1,4}|p\d|x\d|[ctls]\d{1,2}|te\d{1,3}|tr\d{1,4}|ti\d{1,4})", re.A)
_DIGITS = re.compile(r"\d")

# What an identity looks like in a text that a device wrote: a person's caret, a mail address, a
# long number, a date. Version numbers (12.0.4) must pass.
_SUSPECT = re.compile(
    r"[\^@\x1b]|\d{6}|(?:19|20)\d\d[./\-]\d{1,2}[./\-]\d{1,2}|\d{1,2}[./\-]\d{1,2}[./\-](?:19|20)\d\d",
    re.A,
)


@cache
def _vocabulary() -> frozenset[str]:
    text = resources.files("dicom").joinpath("data", "vocabulary.json").read_text(encoding="utf-8")
    return frozenset(json.loads(text)["words"])


def is_term(word: str) -> bool:
    """Return whether a word, in lower case, is one of the vocabulary: a device may mean it."""
    return word in _vocabulary()


def words_of(text: str) -> frozenset[str]:
    """Return the words of a name or identifier that shall not stay in any description.

    Three characters or more, in lower case: shorter ones (initials, Hispanic particles) would take
    half of the imaging vocabulary with them.
    """
    return frozenset(_LONG_WORD.findall(text.lower()))


def clean_descriptor(text: str, *, identity: frozenset[str] = frozenset()) -> str:
    """Return `text` without every word that is not known to be safe.

    Parameters
    ----------
    text : str
        A short description. A character that is not ASCII makes its word unknown.
    identity : frozenset of str
        Words in lower case that must not stay, from :func:`words_of`.

    Returns
    -------
    str
        What is left, possibly nothing. A text of safe words alone comes back unchanged.
    """
    if "\x1b" in text:  # ISO 2022: bytes between escapes only look like ASCII
        return ""
    words = list(_WORD.finditer(text))
    numeric = [bool(_DIGITS.search(word[0])) for word in words]
    pieces: list[str] = []
    last = -1
    for index, word in enumerate(words):
        beside_number = any(numeric[max(0, index - 1) : index]) or any(
            numeric[index + 1 : index + 2]
        )
        if not _is_safe(word[0].lower(), identity, beside_number=beside_number):
            continue
        if pieces:
            joined = last == index - 1
            pieces.append(text[words[last].end() : word.start()] if joined else " ")
        pieces.append(word[0])
        last = index
    if len(pieces) == 2 * len(words) - 1:
        return text.strip()
    return "".join(pieces)


def _is_safe(word: str, identity: frozenset[str], *, beside_number: bool) -> bool:
    if word in identity or not words_of(word).isdisjoint(identity):
        return False
    if word in _vocabulary() or _VALUED.fullmatch(word) or _MEASURE.fullmatch(word):
        return True
    # A lone small number is a count; several in a row may be a date or an identifier.
    return _COUNT.fullmatch(word) is not None and not beside_number


def looks_technical(text: str, *, identity: frozenset[str] = frozenset()) -> bool:
    """Return whether nothing in a text that a device wrote looks like an identity."""
    return _SUSPECT.search(text) is None and words_of(text).isdisjoint(identity)
