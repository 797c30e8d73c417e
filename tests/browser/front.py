"""A whole front for a browser: real archives with a head and its segmentation, real logins."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom.codes import ARTIFICIAL_INTELLIGENCE, STRUCTURES
from dicom.phantom import WrittenHead, write_head_study
from dicom.seg import BY_CONTENT, Algorithm, ResultUids, Segment, encode_seg
from dicom.uids import derived_uid
from dicom.volume import read_grid
from models.process import PredictorProcess
from models.registry import Registry
from node import wiring
from node.app import create_app
from node.auth import Auth
from node.parts import DicomAddress, FrontParts, WorkerBell
from node.proxy import Upstream
from pipelines.corrections import Desk
from pipelines.custody import Custody
from pipelines.drawer import Drawer
from pipelines.intake import Intake
from pipelines.reading import ReadingRoom
from pipelines.sharing.files import ExportFiles
from pipelines.store import (
    Access,
    AskedRuns,
    Collections,
    Corrections,
    Database,
    Drafts,
    Exports,
    Jobs,
    Labelled,
    Picking,
    Studies,
    Trail,
)
from pipelines.warm import WarmImages
from tests.learning import school_in
from tests.node.serving import serving
from tests.orthanc import servers

ROOT = Path(__file__).resolve().parent.parent.parent
OHIF_DIST = ROOT / ".ohif" / "dist"
PASSWORD = "a-long-enough-password"
SEGMENT = "Brain"


@dataclass(frozen=True)
class SeenNode:
    """What a browser can be pointed at.

    `head` lies in the clinical archive, with a segmentation of its brain, after a localiser of
    three slices in the same study; `research_head`, without a segmentation, in the research one.
    """

    base: str
    orthanc: servers.OrthancPair
    head: WrittenHead
    research_head: WrittenHead
    seg_series_uid: str
    seg_rgb: tuple[int, int, int]

    def link(self, study_uid: str, *, mode: str = "viewer") -> str:
        """Return the address that opens a study."""
        return f"{self.base}/ohif/{mode}?StudyInstanceUIDs={study_uid}"


def localiser(head: WrittenHead) -> Iterator[bytes]:
    """Yield three slices as another series of the study, in another frame of reference."""
    for number, one in enumerate(head.series.instances[:3], 1):
        ds = dcmread(one.path)
        ds.SOPInstanceUID = derived_uid(ds.SOPInstanceUID, "localiser")
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.SeriesInstanceUID = derived_uid(head.series.series_uid, "localiser")
        ds.FrameOfReferenceUID = derived_uid(head.series.series_uid, "localiser frame")
        ds.SeriesNumber, ds.InstanceNumber, ds.SeriesDescription = 1, number, "Localiser"
        yield as_bytes(ds)


def as_bytes(ds: Dataset) -> bytes:
    """Return the Part 10 file."""
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def brain_seg(head: WrittenHead) -> tuple[bytes, str, tuple[int, int, int]]:
    """Return a SEG of the phantom's true brain: its bytes, series UID and colour."""
    structure = STRUCTURES["brain"]
    segment = Segment(1, SEGMENT, structure.category, structure.type, None, None, structure.rgb)
    parts = (head.study.study_uid, "brain")
    uids = ResultUids(
        derived_uid(*parts, "series"),
        derived_uid(*parts, "instance"),
        (derived_uid(*parts, "tracking"),),
    )
    seg = encode_seg(
        head.head.brain_kji,
        read_grid(head.series),
        (segment,),
        algorithm=Algorithm("phantom", "1", "radloop", ARTIFICIAL_INTELLIGENCE),
        uids=uids,
        series_number=901,
        series_description="Brain (radloop)",
        content_label="BRAIN",
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    return as_bytes(seg), uids.series_uid, structure.rgb


@contextmanager
def seen_node(folder: Path, *, slices: int = 32, size: int = 128) -> Iterator[SeenNode]:
    """Start the archives and the front, fill them, and stop all when the block ends."""
    head = write_head_study(folder / "head", slices=slices, size=size, plane="axial")
    research = write_head_study(folder / "research", slices=8, size=64, seed=8)
    seg, series_uid, rgb = brain_seg(head)
    clinical_config = servers.clinical_config(folder / "orthanc-clinical")
    research_config = servers.research_config(folder / "orthanc-research")
    with servers.running(clinical_config, research_config) as (first, second):
        with first.archive() as archive:
            for one in head.series.instances:
                archive.store(one.path)
            for content in (seg, *localiser(head)):
                archive.store(content)
        with second.archive() as archive:
            for one in research.series.instances:
                archive.store(one.path)
        pair = servers.OrthancPair(first, second)
        with serving(create_app(parts_of_site(folder, pair))) as base:
            yield SeenNode(base, pair, head, research, series_uid, rgb)


def parts_of_site(folder: Path, pair: servers.OrthancPair) -> FrontParts:
    """Return a front's parts, with the rows of what lies in the archive."""
    database = Database(f"sqlite:///{folder / 'radloop.db'}")
    database.migrate()
    access = Access(database)
    auth = Auth(access)
    auth.add_user("rita", role="radiologist", password=PASSWORD)
    auth.add_user("rolf", role="researcher", password=PASSWORD)
    listener = pair.clinical.config.listener
    assert listener is not None
    clinical = pair.clinical.archive()
    # As the worker does: the rows of what lies in the archive.
    studies, jobs = Studies(database), Jobs(database)
    Intake(clinical, studies, jobs, pseudonym=lambda uid: derived_uid("p", uid), quiet_s=1).look()
    desk = Desk(
        clinical,
        Studies(database),
        Corrections(database),
        Drafts(database),
        Drawer(b"audit key"),
        form=BY_CONTENT,
    )
    return FrontParts(
        version="test",
        auth=auth,
        studies=Studies(database),
        jobs=Jobs(database),
        access=access,
        trail=Trail(database, b"audit key"),
        clinical=clinical,
        asked=AskedRuns(database),
        picking=Picking(database),
        collections=Collections(database),
        exports=Exports(database),
        export_files=ExportFiles(folder / "exports"),
        corrections=Corrections(database),
        desk=desk,
        elsewhere=wiring.elsewhere(database, clinical, desk),
        custody=Custody.of(database, Drawer(b"audit key")),
        reading=ReadingRoom(
            database,
            clinical,
            desk.grids,
            Drawer(b"audit key"),
            lease=timedelta(minutes=15),
            tolerance_mm=1.0,
        ),
        warm=WarmImages(clinical, most_bytes=256 << 20),
        clinical_web=_upstream(pair.clinical),
        research_web=_upstream(pair.research),
        registry=Registry(()),
        routes=(),
        dicom=DicomAddress(listener.aet, listener.port),
        labelled=Labelled(database),
        predictor=PredictorProcess((), device="cpu", threads=1),
        school=school_in(folder, database),
        policies={},
        bell=WorkerBell(f"http://127.0.0.1:{servers.free_port()}/wake", "nobody"),
        ohif_dist=OHIF_DIST,
        ohif_config=ROOT / "ohif-config",
    )


def _upstream(orthanc: servers.RunningOrthanc) -> Upstream:
    config = orthanc.config
    return Upstream(f"{config.url}/dicom-web", config.user, config.password)
