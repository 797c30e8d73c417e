"""The careful engine: one instance, read and written by pydicom.

pydicom reads the header, :func:`dicom.deid.decision.decide` says what becomes of every attribute,
and this module carries it through the data set. Pixel bytes are not decoded: a file's pixel element
is copied as it stands, and whatever follows it is dropped unread.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import BinaryIO, Final

from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.sequence import Sequence

from dicom.deid.decision import Fate, Place, Rules, decide
from dicom.deid.declaration import declare, file_meta, named
from dicom.deid.facts import Facts
from dicom.deid.files import Clean, Engine
from dicom.deid.identity import Identity
from dicom.deid.original import OriginalAttributes
from dicom.deid.pixels import Heads, Passes, Undeclared, has_pixels, may_show_a_face
from dicom.deid.subject import Subject, names_the_subject
from dicom.elements import (
    Attributes,
    Element,
    bytes_of,
    empty_like,
    is_parsable_sequence,
    made,
    text_of,
)
from dicom.errors import CannotDeidentify, HeadNotDefaced, NotDicom
from dicom.part10 import (
    PARSER_ERRORS,
    UNDEFINED_LENGTH,
    Extent,
    encoded,
    quiet_pydicom,
    read_header,
)
from dicom.private import PrivateCreators
from dicom.profile import PIXEL_OPTIONS, Action, Option, Profile, iod_of, is_public_scheme
from dicom.refusal import refuse_what_no_rule_judges, transfer_syntax_of

_PATIENT_ID, _SOP_CLASS, _SYNTAX = 0x00100020, 0x00080016, "TransferSyntaxUID"
_STUDY, _SERIES, _SOP_INSTANCE = 0x0020000D, 0x0020000E, 0x00080018
_SCHEME_DESIGNATOR = 0x00080102

_PASS_ORDER: Final = (Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES, Option.CLEAN_PIXEL_DATA)
DEEPEST: Final = 40
"""Sequences in sequences; real objects stay under ten, a structured report may nest deeper."""


class Deidentifier(Engine):
    """Takes the identity off instances, the same way each time; the careful engine.

    Parameters
    ----------
    profile : Profile
        What to do with each attribute.
    key : bytes
        32 secret bytes: all pseudonyms and date shifts come from them.
    passes : Mapping of Option to PixelPass
        One for each of the profile's options that look at pixels.
    heads : Heads
        What becomes of volumes that may show a face; with DEFACE, one that no pass has defaced is
        refused.
    text_is_released : bool
        Whether a person looked at the pixels, and lets text that is burned into them pass.

    Raises
    ------
    ValueError
        When the profile has an option whose pass is not given, or the key another length.
    """

    def __init__(
        self,
        profile: Profile,
        key: bytes,
        *,
        passes: Passes = MappingProxyType({}),
        heads: Heads = Heads.KEEP,
        text_is_released: bool = False,
    ) -> None:
        lacking = profile.options & PIXEL_OPTIONS - set(passes)
        if lacking:
            raise ValueError(f"no pass over the pixels is given for {len(lacking)} option(s)")
        self._rules = Rules(profile, key)
        self._passes = [(one, passes[one]) for one in _PASS_ORDER if one in profile.options]
        self._heads = heads
        self._text_is_released = text_is_released

    @property
    def rules(self) -> Rules:
        """Profile and key, as decisions need them."""
        return self._rules

    @property
    def looks_at_pixels(self) -> bool:
        """Whether what becomes of an object depends on more than its header."""
        return bool(self._passes)

    def deidentify(
        self, ds: Dataset, *, done: frozenset[Option] = frozenset()
    ) -> tuple[Dataset, Identity]:
        """Return the de-identified instance and what was taken from it.

        Parameters
        ----------
        ds : Dataset
            One SOP instance with its file meta information; it is left as it is.
        done : frozenset of Option
            The passes over its pixels that it has been through.

        Returns
        -------
        Dataset
            A new data set in the same transfer syntax. Pixel data, geometry and acquisition
            parameters are those of `ds`.
        Identity
            The originals.

        Raises
        ------
        CannotDeidentify
            When it holds something that no rule judges: burned-in annotation, documents, video,
            waveforms, raw data, a private SOP class, pixels kept elsewhere.
        HeadNotDefaced
            When it may show a face, and faces are not kept.
        NotDicom
            When its bytes end too early or cannot be parsed.
        UnsupportedTransferSyntax
            When the transfer syntax is private or unknown.
        """
        uids: dict[str, str] = {}
        syntax = getattr(ds, "file_meta", Dataset()).get(_SYNTAX)
        with quiet_pydicom():
            facts = self.facts_of(ds, syntax, like=empty_like(ds), done=done)
            clean = self._cleaned(ds, Place(facts.subject, facts.iod), uids, depth=0)
        self._declare(clean, facts, done)
        clean.file_meta = file_meta(clean, facts.syntax)
        clean.preamble = b"\0" * 128
        return clean, Identity(text_of(clean, _STUDY), uids, facts.original)

    def facts_of(
        self,
        ds: Attributes,
        syntax: object,
        *,
        like: Dataset,
        done: frozenset[Option] = frozenset(),
    ) -> Facts:
        """Return what is known of an instance before its attributes are decided on, or refuse it.

        Of the SOP Instance UID it matters only that there is one.

        Parameters
        ----------
        ds : Attributes
            The original's, at the top level.
        syntax : object
            Its transfer syntax; None where the file does not name it.
        like : Dataset
            Empty, in the encoding of `ds`.
        done : frozenset of Option
            As :meth:`deidentify`.

        Raises
        ------
        CannotDeidentify, HeadNotDefaced, NotDicom, UnsupportedTransferSyntax
            As :meth:`deidentify`.
        """
        allowed = self._rules.profile.allowed
        syntax = transfer_syntax_of(syntax, allowed=allowed)
        masked = self._text_is_released or Option.CLEAN_PIXEL_DATA in done
        refuse_what_no_rule_judges(ds, allowed=allowed, masked=masked)
        if Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES not in done:
            self._refuse_face(ds)
        subject = Subject.of(ds, self._rules.key)
        original = OriginalAttributes.of(ds, like)
        return Facts(syntax, iod_of(text_of(ds, _SOP_CLASS)), subject, original)

    def _declare(self, clean: Dataset, facts: Facts, done: frozenset[Option]) -> None:
        """Write into `clean` whose it is now, and what was done to it."""
        little = clean.original_encoding[1] is not False
        for tag, vr, value in named(facts.subject.pseudonym):
            clean[tag] = made(tag, vr, value, little=little)
        declare(clean, self._rules.profile, little=little, done=done)

    def clean(self, file: BinaryIO) -> Clean:
        """Return a file's instance without its identity; nothing is written."""
        ds, pixels = read_header(file)
        done: frozenset[Option] = frozenset()
        if self._passes and (pixels.start < pixels.end or has_pixels(ds)):
            painted, done = self._through_passes(file)
            if painted is not None:
                ds, pixels = painted, Extent(0, 0)
        clean, identity = self.deidentify(ds, done=done)
        return Clean(
            text_of(clean, _PATIENT_ID),
            text_of(clean, _STUDY),
            text_of(clean, _SERIES),
            text_of(clean, _SOP_INSTANCE),
            text_of(clean, _SOP_CLASS),
            encoded(clean),
            pixels,
            identity,
            "careful",
        )

    # --- pixels ---------------------------------------------------------------------------------

    def _refuse_face(self, ds: Attributes) -> None:
        if self._heads is not Heads.KEEP and may_show_a_face(ds):
            raise HeadNotDefaced("the series may show a face, and the project takes none")

    def _through_passes(self, file: BinaryIO) -> tuple[Dataset | None, frozenset[Option]]:
        """Return the whole object where a pass has painted on it, and which passes were done."""
        file.seek(0)
        with quiet_pydicom():
            try:
                whole: Dataset = dcmread(file)
            except PARSER_ERRORS:
                raise NotDicom("the pixels cannot be read") from None
            now = whole
            done: set[Option] = set()
            for option, look in self._passes:
                seen = look(now)
                if isinstance(seen, Undeclared):
                    now = seen.ds
                elif seen is not None:
                    now = seen
                    done.add(option)
        return (None if now is whole else now), frozenset(done)

    # --- one data set ---------------------------------------------------------------------------

    def _cleaned(self, ds: Dataset, at: Place, uids: dict[str, str], *, depth: int) -> Dataset:
        """Return the data set, or the item of a sequence, without its identity."""
        if depth > DEEPEST:
            raise CannotDeidentify(f"sequences are nested more than {DEEPEST} deep")
        clean = empty_like(ds)
        little = ds.original_encoding[1] is not False
        public_code = is_public_scheme(text_of(ds, _SCHEME_DESIGNATOR))
        public = Place(at.subject, at.iod, at.parent, public_code)
        creators = PrivateCreators(ds)
        for tag in sorted(ds.keys()):
            element = ds.get_item(tag)
            if not isinstance(element, RawDataElement | DataElement):
                raise CannotDeidentify("an attribute could not be read")
            here = public
            if tag.is_private and self._rules.profile.keeps_private:
                here = Place(at.subject, at.iod, at.parent, public_code, creators.of(tag))
            action = self._rules.verdict(here, tag, element.VR or "").action
            if action is Action.REMOVE:
                continue
            _refuse_short(element)
            if action is Action.ITEMS:
                if tag.is_private and not is_parsable_sequence(ds, tag):
                    continue
                clean[tag] = self._items(ds, tag, here, uids, depth=depth)
                continue
            decision = decide(self._rules, here, tag, element.VR or "", bytes_of(element))
            uids.update(decision.uids)
            if decision.fate is Fate.SAME:
                clean[tag] = element
            elif decision.fate is Fate.VALUE and decision.vr == "SQ":
                clean[tag] = DataElement(tag, "SQ", Sequence())
            elif decision.fate is Fate.VALUE:
                clean[tag] = made(tag, decision.vr, decision.value, little=little)
        return clean

    def _items(
        self, ds: Dataset, tag: int, at: Place, uids: dict[str, str], *, depth: int
    ) -> DataElement:
        if not is_parsable_sequence(ds, tag):
            raise NotDicom("a sequence cannot be parsed")
        within = Place(at.subject, at.iod, int(tag))
        items = [
            self._cleaned(item, within, uids, depth=depth + 1)
            for item in ds[tag].value or ()
            if not names_the_subject(item)
        ]
        return DataElement(tag, "SQ", Sequence(items))


def _refuse_short(element: Element) -> None:
    """Refuse a value that ends before its length says: the file was cut off."""
    if (
        isinstance(element, RawDataElement)
        and element.length != UNDEFINED_LENGTH
        and element.length != len(element.value or b"")
    ):
        raise NotDicom("the file ends within an attribute")
