"""Whether anything at all came into an archive or left it, asked in a third of a millisecond.

Orthanc numbers what it stores, in its change feed, and counts what it holds. What is deleted leaves
the feed, too, and no number is given twice: where the last number is what it was, nothing is there
that came since, and where the count is as well, nothing is missing.

A viewer asks for hundreds of series one after the other, and mostly nothing has changed between two
of them: the question is as small as the protocol allows, on a connection of its own, since a
general client takes four times as long as the archive itself.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode

import httpx

_PATIENCE_S = 10.0
_SILENT = (OSError, asyncio.IncompleteReadError)  # a timeout is an OSError
_MOST_BYTES = 1 << 16  # of an answer: a few numbers


class ArchiveState:
    """The state of one archive, for one event loop.

    Parameters
    ----------
    url : str
        Root of the archive's REST API.
    user, password : str
        Its one account.
    """

    def __init__(self, url: str, *, user: str, password: str) -> None:
        self._root = httpx.URL(url)
        self._path = self._root.path.rstrip("/")
        self._account = b64encode(f"{user}:{password}".encode()).decode("ascii")
        self._line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def now(self) -> str | None:
        """Return a text that is the same only where the same instances are there; or None.

        Not for several tasks at once: there is one connection.
        """
        try:
            async with asyncio.timeout(_PATIENCE_S):
                before = await self._told("changes?last")
                held = await self._told("statistics")
                after = await self._told("changes?last")
        except (*_SILENT, ValueError, LookupError, asyncio.LimitOverrunError):
            self.close()
            return None
        except asyncio.CancelledError:  # an answer may be half read
            self.close()
            raise
        if before != after:  # something came meanwhile: whether it is counted cannot be told
            return None
        numbers = json.loads(held)
        counts = (json.loads(after)["Last"], numbers["CountInstances"], numbers["TotalDiskSize"])
        return " ".join(map(str, counts))

    def close(self) -> None:
        """End the connection; the next question opens another."""
        if self._line is not None:
            self._line[1].close()
            self._line = None

    async def _told(self, path: str) -> bytes:
        """Ask; once more on a new connection where the archive has closed an idle one."""
        if self._line is not None:
            try:
                return await self._ask(path)
            except _SILENT:
                self.close()
        is_tls = self._root.scheme == "https"
        port = self._root.port or (443 if is_tls else 80)
        self._line = await asyncio.open_connection(self._root.host, port, ssl=is_tls or None)
        return await self._ask(path)

    async def _ask(self, path: str) -> bytes:
        if self._line is None:
            raise ConnectionResetError
        reader, writer = self._line
        writer.write(
            f"GET {self._path}/{path} HTTP/1.1\r\nHost: {self._root.netloc.decode()}\r\n"
            f"Authorization: Basic {self._account}\r\n\r\n".encode("ascii")
        )
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        size = int(headers["content-length"])
        if status.split(" ")[1] != "200" or size > _MOST_BYTES:
            raise ValueError(status)
        return await reader.readexactly(size)
