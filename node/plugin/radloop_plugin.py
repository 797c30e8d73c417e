# SPDX-License-Identifier: AGPL-3.0-or-later
#
# radloop's plugin for Orthanc.
#
# This file runs inside Orthanc and links with it, so it is free software under the GNU Affero
# General Public License as published by the Free Software Foundation, version 3 or (at your
# option) any later version; see LICENSE beside it. It comes without any warranty. The rest of
# radloop speaks to Orthanc by HTTP only and stands under the Apache License 2.0.
"""Wake radloop when the archive has something new, and keep unknown senders out.

The plugin carries no data: it rings, and the worker then reads Orthanc's change feed from its own
saved cursor. A ring that is lost therefore costs seconds, never a study. Nothing here may hold up
the reception of images or call Orthanc's REST API (which would hold Python's lock meanwhile).

Orthanc's configuration holds what the plugin needs::

    "Radloop": {"WakeUrl": "http://127.0.0.1:8001/wake", "WakeToken": "..."}
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.request
from typing import Any

import orthanc

COALESCE_S = 0.1
TIMEOUT_S = 2.0
COMPLAIN_EVERY_S = 60.0

# PS3.4 B.2.3: Refused, out of resources. Orthanc has no status of its own for "not authorised"
# that senders treat as a failure as reliably as this one.
REFUSED = 0xA700

RINGING_CHANGES = frozenset(
    {
        orthanc.ChangeType.ORTHANC_STARTED,
        orthanc.ChangeType.NEW_INSTANCE,
        orthanc.ChangeType.DELETED,
    }
)


class Bell:
    """Tell one URL that something changed; many changes within 100 ms are one ring."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token
        self._changed = threading.Event()
        self._complained_at = float("-inf")
        # The machine's proxy settings are not for a loop-back address.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def start(self) -> None:
        """Wait for changes on a thread that ends with Orthanc."""
        threading.Thread(target=self._run, name="radloop-bell", daemon=True).start()

    def touch(self) -> None:
        """Note that something changed; returns at once."""
        self._changed.set()

    def _run(self) -> None:
        while True:
            self._changed.wait()
            time.sleep(COALESCE_S)
            self._changed.clear()  # before the ring: a change during it rings once more
            self._ring()

    def _ring(self) -> None:
        request = urllib.request.Request(  # noqa: S310  (the scheme was checked in `start_bell`)
            self._url,
            data=b"",
            method="POST",
            headers={"Authorization": f"Bearer {self._token}"},
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                answer.read()
        except (OSError, http.client.HTTPException) as error:  # URLError, time-outs: OSError
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        # A worker that is down must not fill Orthanc's log at ten lines a second.
        if time.monotonic() - self._complained_at < COMPLAIN_EVERY_S:
            return
        self._complained_at = time.monotonic()
        orthanc.LogWarning(f"radloop: nobody answers the bell ({type(error).__name__})")


def permitted_senders(configuration: dict[str, Any]) -> frozenset[str]:
    """Return the AE titles of `DicomModalities` that may store here.

    Parameters
    ----------
    configuration : dict
        Orthanc's whole configuration; modalities in the object form that radloop writes.
    """
    modalities = configuration.get("DicomModalities", {}).values()
    return frozenset(entry["AET"] for entry in modalities if entry.get("AllowStore", True))


def guard(senders: frozenset[str]) -> None:
    """Refuse each C-STORE of an AE title that is not among `senders`.

    Orthanc's own settings refuse such an association already; this holds when somebody loosens
    them (`DicomAlwaysAllowStore`) or adds a modality at run time.
    """

    def judge(instance: orthanc.DicomInstance) -> int:
        if instance.GetInstanceOrigin() != orthanc.InstanceOrigin.DICOM_PROTOCOL:
            return 0
        if instance.GetInstanceRemoteAet() in senders:
            return 0
        orthanc.LogWarning("radloop: a C-STORE from an AE title that is not permitted was refused")
        return REFUSED

    orthanc.RegisterIncomingCStoreInstanceFilter(judge)


def start_bell(url: str, token: str) -> None:
    """Ring `url` on each change of the archive's content."""
    if not url.startswith(("http://", "https://")):
        orthanc.LogError("radloop: Radloop.WakeUrl must be an http(s) address; the bell is off")
        return
    bell = Bell(url, token)
    bell.start()

    def on_change(change: int, level: int, resource: str) -> None:
        if change in RINGING_CHANGES:
            bell.touch()

    orthanc.RegisterOnChangeCallback(on_change)


def main() -> None:
    """Read Orthanc's configuration and register the callbacks."""
    configuration = json.loads(orthanc.GetConfiguration())
    guard(permitted_senders(configuration))
    section = configuration.get("Radloop", {})
    if "WakeUrl" in section:
        start_bell(section["WakeUrl"], section.get("WakeToken", ""))
    orthanc.LogWarning("radloop: plugin is ready")


main()
