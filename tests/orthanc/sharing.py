"""A node for datasets: two archives, studies of several patients and their rows, the workflows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom.archive import Archive
from dicom.deid import Deidentifier, Heads, Identity
from dicom.measure import Measured
from dicom.profile import Option
from dicom.sr import ReportUids, SegmentFigures, encode_report
from dicom.study import Series
from dicom.uids import derived_uid
from dicom.volume import describe_series
from node.engines import open_engine
from pipelines.collecting import Collector
from pipelines.custody import Custody
from pipelines.custody.runs import WithdrawalRuns
from pipelines.custody.stores import Stores
from pipelines.drawer import Drawer
from pipelines.identity import Vault
from pipelines.keyring import KeyRing
from pipelines.projects import NODE, Project, project_called
from pipelines.sharing.collecting import CollectionRuns
from pipelines.sharing.exporting import ExportRuns
from pipelines.sharing.files import ExportFiles
from pipelines.store import (
    Collections,
    Database,
    Datasets,
    Exports,
    Held,
    Jobs,
    NewCorrection,
    Picking,
    SealedIdentities,
    SeriesFilter,
    Studies,
    Trail,
    Versions,
    Withdrawals,
)
from tests.orthanc import drawing, servers
from tests.segmentations import ALGORITHM, NOON, bytes_of, segments_of
from tests.series import write_series
from tests.structures import square, structure_set

RING = KeyRing((bytes(range(32)),))
LIVER = Project("liver", heads=Heads.KEEP)
STRICT = Project("strict", heads=Heads.REFUSE)
TRIAL = Project("trial", (Option.RETAIN_UIDS, Option.CLEAN_DESCRIPTORS), heads=Heads.KEEP)
PROJECTS = (LIVER, STRICT, TRIAL)
PATIENTS = {"a": "Novak^Ludmila", "b": "Quist^Per", "c": "Quist^Per", "d": "Ruiz^Ana"}
"""Study by name, and whose it is: b and c are of one patient. The last one is a head."""
SHAPE = (6, 20, 24)


@dataclass
class House:
    """What datasets are made with."""

    clinical: Archive
    research: Archive
    database: Database
    folder: Path
    servers: servers.OrthancPair
    series: dict[str, Series] = field(default_factory=dict)
    reading: drawing.Room | None = None
    projects: tuple[Project, ...] = PROJECTS
    drawn: dict[str, str] = field(default_factory=dict)

    @property
    def room(self) -> drawing.Room:
        """Where study a is drawn on."""
        assert self.reading is not None
        return self.reading

    @property
    def collections(self) -> Collections:
        return Collections(self.database)

    @property
    def exports(self) -> Exports:
        return Exports(self.database)

    @property
    def picking(self) -> Picking:
        return Picking(self.database)

    @property
    def sealed(self) -> SealedIdentities:
        return SealedIdentities(self.database)

    @property
    def trail(self) -> Trail:
        return Trail(self.database, b"audit key")

    @property
    def files(self) -> ExportFiles:
        return ExportFiles(self.folder / "exports")

    def vault(self, project: Project, ring: KeyRing = RING) -> Vault:
        is_withdrawn = Withdrawals(self.database).is_withdrawn
        return Vault(ring, self.sealed, self.trail, project=project.name, is_withdrawn=is_withdrawn)

    @property
    def node_vault(self) -> Vault:
        return Vault(RING, self.sealed, self.trail)

    def collecting(self, ring: KeyRing = RING) -> CollectionRuns:
        return CollectionRuns(
            clinical=self.clinical,
            research=self.research,
            studies=Studies(self.database),
            picking=self.picking,
            collections=self.collections,
            sealed=self.sealed,
            jobs=Jobs(self.database),
            held=Held(self.database),
            collectors={one.name: self._collector(one, ring) for one in self.projects},
            overruled=lambda name, codes: self._collector(
                project_called(name, self.projects), ring, codes
            ),
            work=self.folder / "collecting",
        )

    def exporting(self, ring: KeyRing = RING) -> ExportRuns:
        return ExportRuns(
            research=self.research,
            collections=self.collections,
            exports=self.exports,
            sealed=self.sealed,
            projects=self.projects,
            vaults={one.name: self.vault(one, ring) for one in self.projects},
            files=self.files,
            version="0.0.test",
        )

    @property
    def custody(self) -> Custody:
        return Custody.of(self.database, Drawer(b"audit key"))

    def withdrawing(self) -> WithdrawalRuns:
        return WithdrawalRuns(
            self.custody.withdrawals,
            self.custody.withdrawing,
            Stores(
                research=self.research,
                sealed=self.sealed,
                collections=self.collections,
                exports=self.exports,
                files=self.files,
                datasets=Datasets(self.database),
                versions=Versions(self.database),
            ),
            vault_of=lambda name: Vault(RING, self.sealed, self.trail, project=name),
            projects=lambda: [one.name for one in self.projects],
        )

    def _collector(
        self, project: Project, ring: KeyRing, released: frozenset[str] = frozenset()
    ) -> Collector:
        key = RING.pseudonym_key(project.name)
        return Collector(
            project=project,
            engine_for=lambda source: open_engine(project, key, source=source, released=released),
            key=key,
            vault=self.vault(project, ring),
            research=self.research,
            trail=self.trail,
            others_of=partial(self.node_vault.others_of, actor="worker", reason="second look"),
        )

    def pick(self, name: str, project: Project, wanted: SeriesFilter | None = None) -> str:
        """Begin a collection, as the page does; return its id."""
        wanted = wanted or SeriesFilter()
        return self.collections.begin(
            name,
            project=project.name,
            wanted=wanted,
            series={
                one.id: (one.study_id, one.instance_count) for one in self.picking.series(wanted)
            },
            created_by="rob",
        ).id

    def copies(self, collection: str) -> dict[str, Series]:
        """Return what the research archive has of a collection, by the node's series."""
        found = {}
        for one in self.collections.members(collection):
            if one.orthanc_id:
                held = self.research.series(one.orthanc_id)
                found[one.series_id] = self.research.fetch(held, self.folder / "fetched")
        return found

    def node_series(self, name: str) -> str:
        """Return the node's pseudonym of a study's series."""
        return drawing.pseudonym(self.series[name].series_uid)


class InTurn:
    """Steps that are run one after the other, without the engine."""

    def run(self, name: str, function: Callable[[], object], *, retries: object = None) -> object:
        return function()


@contextmanager
def sharing_house(folder: Path, *, labels: bool = True) -> Iterator[House]:
    """Start the archives with four studies of three patients, all worked through."""
    series = {name: _written(folder, name) for name in PATIENTS}
    with (
        servers.running(
            servers.clinical_config(folder / "orthanc-clinical"),
            servers.research_config(folder / "orthanc-research"),
        ) as (first, second),
        drawing.reading_room(folder, first, series=series["a"]) as room,
        second.archive() as research,
    ):
        pair = servers.OrthancPair(first, second)
        house = House(room.archive, research, room.database, folder, pair, series, room)
        for name in list(PATIENTS)[1:]:
            for instance in series[name].instances:
                room.archive.store(instance.path)
        if labels:
            draw(house)
        room.intake(quiet_s=0).look()
        for each in series.values():
            _worked_through(house, each)
        yield house


def _written(folder: Path, name: str) -> Series:
    def edit(_: int, ds: Dataset) -> None:
        ds.PatientName, ds.PatientID = PATIENTS[name], f"{PATIENTS[name][:4]}-88213"
        ds.BodyPartExamined = "HEAD" if name == "d" else "LIVER"
        ds.SeriesDescription = "portal venous 3mm"
        ds.Manufacturer, ds.ManufacturerModelName = "Maker", "Model 7"

    return write_series(folder / f"images {name}", shape_kji=SHAPE, name=name, edit=edit)


def draw(house: House) -> None:
    """On study a: a model's result with its report, a correction of it, contours from elsewhere."""
    room = house.room
    labels_kji = drawing.blobs(room.grid, count=2)
    result = room.result(labels_kji, "liver", "spleen")
    report = _report(house, result)
    changed_kji = labels_kji.copy()
    changed_kji[0, :3, :4] = 1
    plain = {"type": None, "category": None, "colour": [255, 0, 0]}
    segments = [{**plain, "origin": number} for number in (1, 2)]
    saved = room.desk.save(
        room.document(changed_kji, segments=segments, before=result), author="rita"
    )
    room.corrections.assess(result, verdict="accepted", reason=None, comment=None, author="rita")
    contours = structure_set(room.grid, {"PTV": [(2, square(4, 9))]})
    orthanc_id = room.archive.store(bytes_of(contours))
    view = room.images
    room.corrections.begin(
        NewCorrection(
            id=drawing.pseudonym(contours.SOPInstanceUID),
            series_uid=drawing.pseudonym(contours.SeriesInstanceUID),
            study_id=view.study_id,
            series_id=view.id,
            source="elsewhere",
            predecessor_id=None,
            result_id=None,
            bundle=None,
            author="",
            title="PLAN",
            segments=(),
            orthanc_id=orthanc_id,
        ),
        first_series_number=1,
    )
    room.corrections.stored(drawing.pseudonym(contours.SOPInstanceUID), orthanc_id=orthanc_id)
    house.drawn |= {
        "result": result,
        "report": report,
        "correction": saved.id,
        "contours": str(contours.SOPInstanceUID),
    }


def _report(house: House, result: str) -> str:
    """Store the report of a result's figures, as the same run of the model makes it."""
    room = house.room
    seg = dcmread(BytesIO(room.archive.instance_bytes(result)))
    figures = [
        SegmentFigures(
            segment,
            Measured(segment.number, 126, 0.7, 12.0, 14.0, None, None, None, None, ""),
            str(item.TrackingUID),
        )
        for segment, item in zip(segments_of("liver", "spleen"), seg.SegmentSequence, strict=True)
    ]
    ds = encode_report(
        figures,
        room.grid,
        segmentation=seg,
        algorithm=ALGORITHM,
        uids=ReportUids(*(derived_uid("report", word) for word in ("series", "sop", "device"))),
        series_number=1001,
        series_description="AI: organs, report",
        created=NOON,
    )
    room.jobs.keep_result(
        "task-job",
        sop_instance_uid=ds.SOPInstanceUID,
        series_uid=ds.SeriesInstanceUID,
        sop_class_uid=ds.SOPClassUID,
        summary={},
        destinations=(),
    )
    room.archive.store(bytes_of(ds))
    return str(ds.SOPInstanceUID)


def _worked_through(house: House, series: Series) -> None:
    """Do what the worker's job does to the rows: seal the identity, keep the facts."""
    folder = house.folder / "clean"
    engine = Deidentifier(NODE.profile, RING.pseudonym_key())
    made = [engine.deidentify_file(one.path, folder) for one in series.instances]
    identity = Identity.of(found for _, found in made)
    node_study = drawing.pseudonym(identity.uids[identity.study_pseudonym])
    uids = {**identity.uids, node_study: identity.uids[identity.study_pseudonym]}
    house.vault(NODE).seal(replace(identity, study_pseudonym=node_study, uids=uids))
    clean = replace(series, instances=tuple(instance for instance, _ in made))
    facts = asdict(describe_series(clean))
    Studies(house.database).keep_facts(drawing.pseudonym(series.series_uid), facts)
