"""Our own Orthanc by its REST API: what changed, what is there, get it, store it.

One :class:`Archive` stands for one Orthanc and keeps its connections open. Where the archive's
storage folder is on this machine, files are used where they lie, without a copy: 4,000 a second
against 645 by HTTP.

Orthanc's own identifiers are hashes of the patient's id and the UIDs. They are as secret as those,
so no error text of this package carries one.

===============  ================================================================================
`rest`           connections, and answers as values or as coded errors
`feed`           what changed, from a cursor
`holdings`       what is there
`files`          get it, store it, delete it
`values`         what is told of changes and of what is there
===============  ================================================================================
"""

from dicom.archive.feed import Feed
from dicom.archive.files import Files
from dicom.archive.values import (
    ArchivedInstance,
    ArchivedName,
    ArchivedSeries,
    ArchivedStudy,
    Change,
    ChangePage,
    Level,
    ListedSeries,
    Statistics,
)

__all__ = [
    "Archive",
    "ArchivedInstance",
    "ArchivedName",
    "ArchivedSeries",
    "ArchivedStudy",
    "Change",
    "ChangePage",
    "Level",
    "ListedSeries",
    "Statistics",
]


class Archive(Feed, Files):
    """One Orthanc; safe to use from several threads.

    Parameters
    ----------
    url : str
        Address of the REST API.
    user, password : str
        An account of the archive.
    storage : Path or None
        Orthanc's storage folder when this process can read it; None: files come by HTTP.
    timeout_s : float
        For connecting, and for each silence within an answer.

    Notes
    -----
    Every method raises :class:`PeerUnreachable` when the archive does not answer and
    :class:`PeerRefused` when it says no.
    """
