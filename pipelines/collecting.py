"""From a study in the clinical archive to a project's copy of it in the research archive.

The originals are de-identified anew, by the project's own profile and pseudonyms: what the node's
models see is not what a project gets. Each file is looked at a second time before any is stored.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from pathlib import Path

import structlog

from dicom.archive import Archive
from dicom.deid import Engine, Identity
from dicom.errors import InputError
from dicom.profile import Option
from dicom.uids import pseudonym_uid
from dicom.verify import Originals, SecondLook, Tokens
from pipelines.identity import AuditTrail, Vault
from pipelines.looking import tokens_of
from pipelines.projects import Project

log = structlog.get_logger()

_ACTOR = "radloop"


@dataclass(frozen=True, slots=True)
class Copies:
    """What the research archive has now.

    Attributes
    ----------
    study : str
        The study's name in the vault: the project's pseudonym.
    images, labels : tuple of str
        Orthanc ids of the instances.
    left_out : tuple of InputError
        Why a label was not taken, one each.
    """

    study: str
    images: tuple[str, ...]
    labels: tuple[str, ...]
    left_out: tuple[InputError, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Collector:
    """Collects for one project.

    Attributes
    ----------
    project : Project
    engine_for : callable
        Gives the engine of the project's profile and key, for the originals in a folder.
    key : bytes
        The key of its pseudonyms.
    vault : Vault
        The project's own.
    research : Archive
        Where the copies go.
    trail : AuditTrail
        Where it is written down what was collected, and what was refused.
    others_of : callable
        What the node's vault has of the patient's studies, this one and all others: anything of it
        is searched in the copies, too.
    """

    project: Project
    engine_for: Callable[[Path], Engine]
    key: bytes
    vault: Vault
    research: Archive
    trail: AuditTrail
    others_of: Callable[[Identity], Iterable[Identity]]

    def collect(self, series: str, sources: Sequence[Path], folder: Path) -> int:
        """Store a series' copies; return how many, 0 where the project does not take it.

        What the project refuses (a head, a document, a finding of the second look) is written into
        the audit trail with its code, and nothing of the series is stored; the job goes on. Done
        again, it stores the same objects.

        Parameters
        ----------
        series : str
            The node's pseudonym of the series, for the trail.
        sources : sequence of Path
            The series' original files.
        folder : Path
            For the copies while they are looked at; it is removed.
        """
        try:
            return len(self.take(series, sources, folder).images)
        except InputError:
            return 0

    def take(
        self,
        series: str,
        sources: Sequence[Path],
        folder: Path,
        *,
        labels: Sequence[Path] = (),
        actor: str = _ACTOR,
    ) -> Copies:
        """Store a series' copies, with those of what was drawn and measured on it.

        All of it is de-identified by the same keys, so that what refers to an image refers to its
        copy. A label that the project refuses is left out, and told; the images go without it.

        Parameters
        ----------
        labels : sequence of Path
            Original segmentations, structure sets, reports of the same study.
        actor : str
            Who asked for it, for the trail.

        Raises
        ------
        InputError
            When the project does not take the series: nothing of it is stored, and the trail says
            why.
        PeerError
            When the research archive does not answer.
        """
        try:
            copies, drawn, study, left_out = self._copies(sources, labels, folder)
            images = tuple(self.research.store(copy) for copy in copies)
            stored = tuple(self.research.store(copy) for copy in drawn)
        except InputError as error:
            log.warning("not_collected", series=series, code=error.code)
            self._note(series, actor, outcome=error.code)
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._note(series, actor, outcome="ok")
        return Copies(study, images, stored, left_out)

    def _copies(
        self, sources: Sequence[Path], labels: Sequence[Path], folder: Path
    ) -> tuple[list[Path], list[Path], str, tuple[InputError, ...]]:
        """Return clean files of images and labels, the study's name, and what was left out."""
        profile = self.project.profile
        originals = Originals(profile)
        before = [originals.read(path) for path in sources]
        engine = self.engine_for(_linked(sources, folder / "originals"))
        made = [engine.deidentify_file(path, folder) for path in sources]
        identity = Identity.of(one for _, one in made)
        tokens = self._tokens(originals.tokens, identity)
        look = SecondLook(profile, tokens)
        for (instance, _), original in zip(made, before, strict=True):
            look.check(instance.path, original)
        drawn: list[Path] = []
        left_out: list[InputError] = []
        for path in labels:
            try:
                copy, one = self._label(path, folder, engine, tokens)
                identity = identity.merged(one)
            except InputError as error:
                log.warning("label_not_collected", code=error.code)
                left_out.append(error)
            else:
                drawn.append(copy)
        sealed = self._sealed(identity)
        self.vault.seal(sealed)
        images = [instance.path for instance, _ in made]
        return images, drawn, sealed.study_pseudonym, tuple(left_out)

    def _tokens(self, of_series: Tokens, identity: Identity) -> Tokens:
        """Return what must not be found: what the series says, and the patient's studies."""
        profile = self.project.profile
        known = (tokens_of(one, profile) for one in self.others_of(identity))
        return reduce(or_, known, of_series)

    def _label(
        self, path: Path, folder: Path, engine: Engine, of_images: Tokens
    ) -> tuple[Path, Identity]:
        """Return the clean copy of what was drawn or measured, looked at a second time.

        Names, UIDs and dates are searched that it has itself, or the images; texts, only those of
        the images: a report's own (what made it, in which version) stand rightly in other places.
        """
        own = Originals(self.project.profile)
        original = own.read(path)
        instance, identity = engine.deidentify_file(path, folder)
        said = own.tokens
        tokens = of_images | Tokens(words=said.words, uids=said.uids, dates=said.dates)
        SecondLook(self.project.profile, tokens).check(instance.path, original)
        return instance.path, identity

    def _sealed(self, identity: Identity) -> Identity:
        """Return an identity whose row has a pseudonym for its name, also where UIDs are kept."""
        if Option.RETAIN_UIDS not in self.project.profile.options:
            return identity
        name = pseudonym_uid(self.key, identity.study_pseudonym)
        uids = {**identity.uids, name: identity.study_pseudonym}
        return replace(identity, study_pseudonym=name, uids=uids)

    def _note(self, series: str, actor: str, *, outcome: str) -> None:
        self.trail.note(
            actor=actor,
            action="collect",
            object=series,
            outcome=outcome,
            reason=f"project {self.project.name}",
        )


def _linked(sources: Sequence[Path], folder: Path) -> Path:
    """Return a folder with nothing in it but links to the originals."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, source in enumerate(sources):
        (folder / f"{number}.dcm").symlink_to(source.resolve())
    return folder
