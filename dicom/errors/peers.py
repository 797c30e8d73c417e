"""Errors of other systems: they have to answer again."""

from __future__ import annotations

from dicom.errors.families import PeerError


class PeerUnreachable(PeerError):
    """No connection: host down, port closed, TLS refused, time-out."""

    code = "peer_unreachable"
    advice = "The other system did not answer; it is tried again with back-off."


class PeerRefused(PeerError):
    """The peer answered, and said no (association rejected, HTTP 4xx/5xx, failure status)."""

    code = "peer_refused"
    advice = "The other system refused; check AE titles, permissions and its log."


class DownloadFailed(PeerError):
    """A model could not be fetched from where it is published."""

    code = "download_failed"
    advice = "Check the name and the network, or fetch the model elsewhere and import its folder."


class ArchiveMismatch(PeerError):
    """The archive does not hold, or does not return, what it announced."""

    code = "archive_mismatch"
    advice = "The archive's content changed while it was read; the study is read again."


class ClusterUnreachable(PeerError):
    """The cluster's login node does not answer, or is not the one that is known."""

    code = "cluster_unreachable"
    advice = "Try `ssh` to the login node as the user that radloop runs as; jobs there go on."


class ClusterRefused(PeerError):
    """Slurm took no job, as the settings ask for it; the message is Slurm's."""

    code = "cluster_refused"
    advice = "Change [training.slurm]: partition, account, time or gpus, as the message says."


class ClusterNotReady(PeerError):
    """The cluster answers, and lacks what a training needs there; the message says what."""

    code = "cluster_not_ready"
    advice = (
        "Mend at the cluster, or in [training.slurm], what the message names; "
        "docs/operations.md says what a cluster needs."
    )


class JobNeverStarted(PeerError):
    """A job waited in the cluster's queue for longer than the settings allow."""

    code = "cluster_job_never_started"
    advice = "Look at the reason that Slurm gives; ask for less, for another partition, or later."


class JobCanceled(PeerError):
    """Somebody at the cluster has canceled the job; the last checkpoint is kept here."""

    code = "cluster_job_canceled"
    advice = "Ask who looks after the cluster why; the same training goes on from its checkpoint."


class TransferFailed(PeerError):
    """What arrived at the cluster, or came back, is not what was sent."""

    code = "transfer_failed"
    advice = "Try again: what arrived whole is kept. Look at the disks and the network if it stays."
