"""Every error of radloop, in three families by who acts next.

========================  =====================================  ==============
Family                    Who acts                               Retried
========================  =====================================  ==============
:class:`InputError`       a person mends the study or setting    never
:class:`PeerError`        another system has to answer again     with back-off
:class:`ResourceError`    this machine lacks something           later
========================  =====================================  ==============

A new one goes into the file that its subject names; it is imported from here, and needs no other
line than its own:

============  ====================================================================================
`families`    the three above
`studies`     input: files, series, geometry; what de-identification and the second look refuse
`results`     input: segmentations and reports, whether ours or another's
`bundles`     input: models, their import, and what they ask of a study
`requests`    input: settings, log-ins, requests, keys and jobs
`learning`    input: datasets, plans, training
`peers`       other systems
`machine`     memory, disk, programs, processes
============  ====================================================================================

Each class has a stable ``code`` (shown on the job, in the API and in ``docs/errors.md``) and an
``advice`` in plain words. Messages carry counts, codes and pseudonymised UIDs; never a patient's
name, id, date or an original UID. All are picklable: they cross the process boundary of the
predictor and the rows of the durable engine.
"""

# Whole files are imported, so that an error is added in one place.
# ruff: noqa: F403, F405

from __future__ import annotations

from collections.abc import Iterator

from dicom.errors.bundles import *
from dicom.errors.families import *
from dicom.errors.learning import *
from dicom.errors.machine import *
from dicom.errors.peers import *
from dicom.errors.requests import *
from dicom.errors.results import *
from dicom.errors.studies import *


def every_error() -> Iterator[type[RadloopError]]:
    """Yield every concrete error class that has a code, in order of definition."""
    waiting: list[type[RadloopError]] = [InputError, PeerError, ResourceError]
    while waiting:
        error = waiting.pop(0)
        if error.code:
            yield error
        waiting.extend(error.__subclasses__())


def error_of(code: str, message: str) -> RadloopError:
    """Return the error that `code` names, for one that crossed a process or a database.

    Raises
    ------
    KeyError
        When no error class has that code: a bug, not bad input.
    """
    return {error.code: error for error in every_error()}[code](message)
