"""From a study in the clinical archive to a project's copy of it in the research archive.

The originals are de-identified anew, by the project's own profile and pseudonyms: what the node's
models see is not what a project gets. Each file is looked at a second time before any is stored.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from dicom.archive import Archive
from dicom.deid import Engine, Identity
from dicom.errors import InputError
from dicom.profile import Option
from dicom.uids import pseudonym_uid
from dicom.verify import Originals, SecondLook
from pipelines.identity import AuditTrail, Vault
from pipelines.projects import Project

log = structlog.get_logger()

_ACTOR = "radloop"


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
    """

    project: Project
    engine_for: Callable[[Path], Engine]
    key: bytes
    vault: Vault
    research: Archive
    trail: AuditTrail

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
            copies = self._copies(sources, folder)
            for copy in copies:
                self.research.store(copy)
        except InputError as error:
            log.warning("not_collected", series=series, code=error.code)
            self._note(series, outcome=error.code)
            return 0
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._note(series, outcome="ok")
        return len(copies)

    def _copies(self, sources: Sequence[Path], folder: Path) -> list[Path]:
        profile = self.project.profile
        originals = Originals(profile)
        before = [originals.read(path) for path in sources]
        engine = self.engine_for(_linked(sources, folder / "originals"))
        made = [engine.deidentify_file(path, folder) for path in sources]
        look = SecondLook(profile, originals.tokens)
        for (instance, _), original in zip(made, before, strict=True):
            look.check(instance.path, original)
        self.vault.seal(self._sealed(Identity.of(identity for _, identity in made)))
        return [instance.path for instance, _ in made]

    def _sealed(self, identity: Identity) -> Identity:
        """Return an identity whose row has a pseudonym for its name, also where UIDs are kept."""
        if Option.RETAIN_UIDS not in self.project.profile.options:
            return identity
        name = pseudonym_uid(self.key, identity.study_pseudonym)
        uids = {**identity.uids, name: identity.study_pseudonym}
        return replace(identity, study_pseudonym=name, uids=uids)

    def _note(self, series: str, *, outcome: str) -> None:
        self.trail.note(
            actor=_ACTOR,
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
