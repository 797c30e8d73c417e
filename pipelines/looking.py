"""The second look before the node's own models: no study goes on with anything of its patient.

What a series' originals hold is gathered file by file, and searched in what de-identification made
of them. Each file of a series that comes in is looked at when it does; where later files, the study
or the patient's other studies hold more to search for than was known then, that is searched in the
file's bytes once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom import Dataset
from pydicom.dataelem import DataElement

from dicom.deid import Identity
from dicom.descriptors import clean_descriptor
from dicom.profile import Option, Profile
from dicom.verify import Before, Originals, SecondLook, Tokens
from dicom.verify.reading import is_own_uid
from dicom.verify.tokens import DATES, KEPT, LOST

_SHORTEST_NAME: Final = 2


@dataclass(eq=False)
class SeriesLook:
    """The second look at one series, done in as many parts as it comes in.

    Parameters
    ----------
    profile : Profile
        By which it is de-identified.
    """

    profile: Profile
    _originals: Originals = field(init=False)
    _before: dict[Path, Before] = field(default_factory=dict, init=False)
    _searched: dict[Path, Tokens] = field(default_factory=dict, init=False)
    _ahead: tuple[Tokens, SecondLook] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._originals = Originals(self.profile)

    @property
    def tokens(self) -> Tokens:
        """What must not be found, of all files that were read."""
        return self._originals.tokens

    def read(self, source: Path) -> None:
        """Read an original, unless what it says is still at hand.

        Raises
        ------
        NotDicom
            When it cannot be read.
        """
        if source not in self._before:
            self._before[source] = self._originals.read(source)

    def look_ahead(self, source: Path, clean: Path) -> None:
        """Read an original, and look at what was made of it, by what is known so far.

        Raises
        ------
        IdentityLeft
            On a finding, naming rule and place.
        NotDicom
            When a file cannot be parsed.
        """
        self.read(source)
        count = len(self._searched)
        if self._ahead is None or count & (count - 1) == 0:  # few sets to compare with later
            tokens = self.tokens
            self._ahead = tokens, SecondLook(self.profile, tokens)
        tokens, look = self._ahead
        look.check(clean, self._before.pop(source, None))
        self._searched[source] = tokens

    def look(self, made: Mapping[Path, Path], tokens: Tokens) -> None:
        """Look at what was made of the originals; what was searched before is not searched again.

        Parameters
        ----------
        made : mapping of Path to Path
            Original to de-identified file.
        tokens : Tokens
            At least those of this series.

        Raises
        ------
        IdentityLeft
            On a finding, naming rule and place.
        NotDicom
            When a file cannot be parsed.
        """
        looks: dict[int, SecondLook] = {}
        for source, clean in made.items():
            known = self._searched.get(source)
            wanted = tokens if known is None else _beyond(tokens, known)
            if known is not None and wanted == Tokens():
                continue
            if id(known) not in looks:
                looks[id(known)] = SecondLook(self.profile, wanted)
            if known is not None and not wanted.words:
                looks[id(known)].check_bytes(clean)
            else:  # a short name within a description is found by its place alone
                self.read(source)
                looks[id(known)].check(clean, self._before.pop(source, None))
            self._searched[source] = tokens


def study_tokens(series: Iterable[SeriesLook], others: Sequence[Identity]) -> Tokens:
    """Return what must not be found in any file of a study, besides what its own series says.

    Names, UIDs and dates of every series, and all that the vault has of the patient's other
    studies. Other texts of a series are searched in that series alone: a report's own (what made
    it, in which version) stand rightly in an image that the same device took.

    Parameters
    ----------
    series : iterable of SeriesLook
        All of the study, read.
    others : sequence of Identity
        The patient's other studies, as the vault has them.
    """
    found = Tokens()
    for one in series:
        said = one.tokens
        found |= Tokens(words=said.words, uids=said.uids, dates=said.dates)
        for identity in others:
            found |= tokens_of(identity, one.profile)
        others = ()
    return found


def tokens_of(identity: Identity, profile: Profile) -> Tokens:
    """Return what the vault's word on a study says must not be found.

    What the profile keeps is no token, as in :class:`dicom.verify.Originals`.
    """
    words: set[str] = set()
    identifiers: set[str] = set()
    uids: set[str] = set()
    dates: set[str] = set()
    for parent, element in _elements(Dataset.from_json(dict(identity.attributes))):
        vr = element.VR
        action = profile.verdict(element.tag, vr, iod="", parent=parent).action
        if vr == "PN" and action not in KEPT:
            words |= {part for text in _texts(element) for part in _words_of(text)}
        elif vr in DATES and action not in KEPT:
            dates |= {text[:8] for text in _texts(element) if text[:8].isdigit()}
        elif vr == "UI" and action not in KEPT:
            uids |= {text for text in _texts(element) if is_own_uid(text)}
        elif vr not in ("PN", "UI", *DATES) and action in LOST:
            identifiers |= {
                text.lower() for text in _texts(element) if clean_descriptor(text) != text
            }
    if Option.RETAIN_UIDS not in profile.options:
        uids |= {uid for uid in identity.uids.values() if uid not in identity.uids}
    return Tokens(frozenset(words), frozenset(identifiers), frozenset(uids), frozenset(dates))


def _elements(ds: Dataset, parent: int = 0) -> Iterator[tuple[int, DataElement]]:
    """Yield every element that is no sequence, with the tag of the sequence that it stands in."""
    for element in ds:
        if element.VR != "SQ":
            yield parent, element
            continue
        for item in element.value or ():
            yield from _elements(item, int(element.tag))


def _texts(element: DataElement) -> list[str]:
    values = element.value if element.VM > 1 else [element.value]
    return [text for value in values if (text := str(value or "").strip())]


def _words_of(name: str) -> set[str]:
    parts = "".join(c if c.isalnum() else " " for c in name.lower()).split()
    return {part for part in parts if len(part) >= _SHORTEST_NAME}


def _beyond(tokens: Tokens, known: Tokens) -> Tokens:
    return Tokens(
        tokens.words - known.words,
        tokens.identifiers - known.identifiers,
        tokens.uids - known.uids,
        tokens.dates - known.dates,
    )
