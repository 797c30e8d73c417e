"""The second look at pixels: whether a patient's name, number or date can be read in a picture.

Independent of the pass that masked them: other code decodes the frames, nothing is skipped but
labels and values, and what is found is read and compared with the originals' tokens. Reading errs,
so that near spellings count. Findings say the rule and the frame, never what was read.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dicom.burned_in.finding import TextFinder
from dicom.burned_in.reading import TextReader
from dicom.burned_in.rules import Course, judge
from dicom.burned_in.views import searched_views
from dicom.frames import FrameSource, format_of, read_frames
from dicom.header import read_header
from dicom.verify.look import Finding
from dicom.verify.tokens import Tokens

_LEAST_CONFIDENCE: Final = 0.3
_SHORTEST: Final = 4  # characters of a name or number that is searched for
_ONE_ERROR_FROM, _TWO_ERRORS_FROM = 6, 10  # characters
_LOOKS_LIKE: Final = str.maketrans("OQDILSZBG", "000115286")  # in numbers, what is read for digits
_SEPARATED: Final = re.compile(r"(\d{1,4})\s?[./\-: ]\s?(\d{1,2})\s?[./\-: ]\s?(\d{1,4})")
_WITH_MONTH: Final = re.compile(r"(\d{1,4})[\s.,\-]*([A-Z]{3,9})[\s.,\-]*(\d{2,4})")
_MONTH_FIRST: Final = re.compile(r"([A-Z]{3,9})[\s.,\-]*(\d{1,2})[\s.,\-]+(\d{4})")
_MONTHS: Final = {  # of English and German, by their first letters
    **{"JAN": 1, "FEB": 2, "MAR": 3, "MRZ": 3, "MAE": 3, "APR": 4, "MAY": 5, "MAI": 5, "JUN": 6},
    **{"JUL": 7, "AUG": 8, "SEP": 9, "OCT": 10, "OKT": 10, "NOV": 11, "DEC": 12, "DEZ": 12},
}
_HEADER: Final = ("SOPClassUID", "ImageType", "BurnedInAnnotation")


class PixelLook:
    """Reads the pictures of de-identified files of one patient.

    Parameters
    ----------
    tokens : Tokens
        Of all files of the study, and of the patient's other studies.
    threads : int, optional
        For the networks; as many as there are cores by default.

    Raises
    ------
    MissingPackage
        When the networks are not installed.
    """

    def __init__(self, tokens: Tokens, *, threads: int | None = None) -> None:
        self._names = frozenset(_plain(word) for word in tokens.words if len(word) >= _SHORTEST)
        numbers = (_plain(text) for text in tokens.identifiers)
        self._numbers = frozenset(text for text in numbers if len(text) >= _SHORTEST)
        self._dates = tokens.dates
        self._finder = TextFinder(threads=threads)
        self._reader = TextReader(threads=threads)

    def look(self, path: Path) -> tuple[Finding, ...]:
        """Return what can be read in a file's frames.

        Parameters
        ----------
        path : Path
            A Part 10 file, with pixels or without.

        Raises
        ------
        NotDicom, UnreadablePixels, UnsupportedPixelFormat, UnsupportedTransferSyntax
            When nobody could say what stands in it.
        """
        header = read_header(path, _HEADER)
        if header.pixels is None or judge(header.ds, 1, 1).course is Course.NO_PICTURE:
            return ()
        findings: dict[Finding, None] = {}
        seen: set[bytes] = set()
        for frame in range(format_of(header).frames):
            picture = read_frames([FrameSource(path, frame, header)], workers=1)[0]
            digest = hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
            if digest in seen:
                continue
            seen.add(digest)
            for view in searched_views(picture):
                for box in self._finder.find(view):
                    for reading in self._reader.readings(view, box):
                        if reading.confidence >= _LEAST_CONFIDENCE:
                            for rule in self.rules_in(reading.text):
                                findings[Finding(rule, f"pixels, frame {frame + 1}")] = None
        return tuple(findings)

    def rules_in(self, text: str) -> Iterator[str]:
        """Yield the rules that a text breaks: `name`, `identifier`, `date`."""
        upper = _unaccented(text)
        words = re.findall(r"[A-Z0-9]+", upper)
        joined = "".join(words)
        if any(name in joined or any(_near(name, word) for word in words) for name in self._names):
            yield "name"
        if any(_within(number, joined) for number in self._numbers):
            yield "identifier"
        if not self._dates.isdisjoint(_dates_in(upper)):
            yield "date"


def _unaccented(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text.upper())
    return "".join(part for part in parts if not unicodedata.combining(part))


def _plain(text: str) -> str:
    """Return the letters and digits of a text, in upper case, without accents."""
    return "".join(filter(str.isalnum, _unaccented(text)))


def _errors_allowed(length: int) -> int:
    return (length >= _ONE_ERROR_FROM) + (length >= _TWO_ERRORS_FROM)


def _near(name: str, word: str) -> bool:
    """Return whether a word is a name, but for what reading errs."""
    allowed = _errors_allowed(len(name))
    if abs(len(name) - len(word)) > allowed:
        return False
    return name == word or (allowed > 0 and _distance(name, word) <= allowed)


def _within(number: str, text: str) -> bool:
    """Return whether a number or longer identifier stands in a text, but for what reading errs."""
    if number in text:
        return True
    number, text = number.translate(_LOOKS_LIKE), text.translate(_LOOKS_LIKE)
    size = len(number)
    if number in text:
        return size >= _ONE_ERROR_FROM
    return size >= _TWO_ERRORS_FROM and any(
        _distance(number, text[start : start + size]) <= 1
        for start in range(max(1, len(text) - size + 1))
    )


def _distance(one: str, other: str) -> int:
    """Return how many characters have to be changed, added or dropped (Levenshtein)."""
    row = list(range(len(other) + 1))
    for at, mine in enumerate(one, start=1):
        before, row[0] = row[0], at
        for number, theirs in enumerate(other, start=1):
            before, row[number] = (
                row[number],
                min(row[number] + 1, row[number - 1] + 1, before + (mine != theirs)),
            )
    return row[-1]


def _dates_in(text: str) -> set[str]:
    """Return every date that a text may mean, as YYYYMMDD, whatever the order of its parts."""
    found = {text[at : at + 8] for at in range(len(text) - 7) if text[at : at + 8].isdigit()}
    for match in re.finditer(r"\d{8}", text):
        day, month, year = match[0][:2], match[0][2:4], match[0][4:]
        found |= {year + month + day, year + day + month}
    for match in _SEPARATED.finditer(text):
        found |= _orders(*match.groups())
    for match in _WITH_MONTH.finditer(text):
        named = _MONTHS.get(match[2][:3])
        if named:
            found |= _orders(match[1], str(named), match[3])
    for match in _MONTH_FIRST.finditer(text):
        named = _MONTHS.get(match[1][:3])
        if named:
            found |= _orders(match[2], str(named), match[3])
    return found


def _orders(first: str, second: str, third: str) -> set[str]:
    """Return the dates that three parts may mean: day, month, year; month, day, year; reversed."""
    ways = [(third, second, first), (third, first, second), (first, second, third)]
    return {
        f"{long}{month.zfill(2)}{day.zfill(2)}"
        for year, month, day in ways
        if len(month) <= 2 and len(day) <= 2
        for long in _years(year)
    }


def _years(year: str) -> tuple[str, ...]:
    if len(year) == 2:
        return f"19{year}", f"20{year}"
    return (year,) if len(year) == 4 else ()
