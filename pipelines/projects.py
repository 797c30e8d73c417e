"""Projects: for whom data is de-identified, and how far.

Each project has a profile of its own and, by its name, keys of its own (:mod:`pipelines.keyring`):
the same patient has the same pseudonym within a project, and nobody without the master key can link
it to the one in another. The node itself works by the project :data:`NODE`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dicom.deid import Heads
from dicom.errors import ConflictingOptions, InvalidSettings, NotFound
from dicom.profile import METHOD_CODES, PIXEL_OPTIONS, ObjectType, Option, Profile
from pipelines.keyring import NODE_PROJECT

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
_FACES: Final = Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES


@dataclass(frozen=True, slots=True)
class Project:
    """One project: what its data keeps, what it refuses, whether it is collected.

    Attributes
    ----------
    name : str
        How routes, people and keys call it. To change it is to start another: the pseudonyms
        are no longer the same.
    options : tuple of str
        Options of the profile (PS3.15 E.3); two that exclude each other are an error.
    objects : tuple of str
        Objects that are taken although nobody looks into them; refused otherwise.
    heads : str
        What becomes of volumes of CT, MR, PET that may show a face.
    side_markers : bool
        Where text in pixels is masked, words that name a side or a view (L, R, PA) stay.
    collect : bool
        Whether the series of its routes go to the research archive.
    """

    name: str
    options: tuple[Option, ...] = (Option.CLEAN_DESCRIPTORS, Option.RETAIN_MODIFIED_DATES)
    objects: tuple[ObjectType, ...] = ()
    heads: Heads = Heads.REFUSE
    side_markers: bool = False
    collect: bool = True

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidSettings(
                f"a project's name has 1 to 32 letters, digits and . _ -, not {self.name!r}"
            )
        if _FACES in self.options and self.heads is Heads.KEEP:
            raise ConflictingOptions(f'{_FACES.value} and heads = "keep": faces go or stay')
        _ = self.profile  # options that exclude each other

    @property
    def profile(self) -> Profile:
        """What happens to each attribute."""
        options = frozenset(self.options)
        if self.heads is Heads.DEFACE:
            options |= {_FACES}
        return Profile(options, frozenset(self.objects))

    def in_words(self) -> str:
        """Return the profile in one sentence."""
        profile = self.profile
        codes = sorted(METHOD_CODES[option] for option in (None, *profile.options))
        said = "; ".join(f"{meaning} ({code})" for code, meaning in codes)
        taken = ", ".join(f"{kind.value}s" for kind in self.objects)
        heads = {
            Heads.REFUSE: "heads are refused",
            Heads.DEFACE: "heads are defaced",
            Heads.KEEP: "heads are kept as they are",
        }
        return (
            f"PS3.15 {profile.edition}: {said}; {heads[self.heads]}"
            + (f"; {taken} are taken unread" if taken else "")
            + "."
        )

    @property
    def looks_at_pixels(self) -> frozenset[Option]:
        """The passes over the pixels that it needs."""
        return self.profile.options & PIXEL_OPTIONS


NODE: Final = Project(NODE_PROJECT, heads=Heads.KEEP, collect=False)
"""What the node itself works with: a model sees heads as they are."""


def project_called(name: str, projects: Sequence[Project]) -> Project:
    """Return a project by its name; the node's own is always there.

    Raises
    ------
    NotFound
        When there is none of that name.
    """
    for project in (NODE, *projects):
        if project.name == name:
            return project
    raise NotFound(f"there is no [[project]] {name!r}")
