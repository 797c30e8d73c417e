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
