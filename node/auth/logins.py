"""Users and their passwords, sessions, API tokens."""

from __future__ import annotations

import hashlib
import secrets
import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY
from fastapi import Request, Response

from dicom.errors import Conflict, InvalidRequest, LoginNeeded, WrongPassword
from node.auth.callers import Caller
from node.auth.throttle import Throttle, network_of
from pipelines.store import Access, Role, User

COOKIE = "radloop"
TOKEN_PREFIX = "radloop_"  # noqa: S105 - lets a scanner of repositories find a leaked token
SHORTEST_PASSWORD = 12
FIRST_ADMIN = "admin"

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-@")
_HASHES_AT_ONCE = 2  # 64 MiB each: guessing must not take the machine's memory


class Auth:
    """Logins, tokens and users, on the rows of `access`.

    Parameters
    ----------
    access : Access
        Users, sessions, tokens.
    lifetime, idle : timedelta
        A login ends after `lifetime`, or after `idle` without a request.
    public_url : str
        What browsers type, where a reverse proxy is in front; else empty.
    hasher : PasswordHasher, optional
        argon2id with the parameters of RFC 9106 for little memory by default.
    """

    def __init__(
        self,
        access: Access,
        *,
        lifetime: timedelta = timedelta(hours=12),
        idle: timedelta = timedelta(minutes=60),
        public_url: str = "",
        hasher: PasswordHasher | None = None,
    ) -> None:
        self._access = access
        self._lifetime = lifetime
        self._idle = idle
        self._public = urlsplit(public_url)
        self._hasher = hasher or PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._hashing = threading.BoundedSemaphore(_HASHES_AT_ONCE)
        self._nobody_hash = self._hasher.hash(secrets.token_urlsafe())
        self._per_user = Throttle(free_tries=5)
        self._per_address = Throttle(free_tries=50)

    # --- users ---------------------------------------------------------------------------------

    def first_admin(self, password: str = "") -> str | None:
        """Make the user `admin` where there is no user yet.

        Parameters
        ----------
        password : str
            Its password; empty: one is made up.

        Returns
        -------
        str or None
            The password that was made up, to be shown once and kept nowhere; None when there
            are users already, or `password` was given.
        """
        if self._access.users():
            return None
        chosen = password or secrets.token_urlsafe(15)
        self._access.put_user(FIRST_ADMIN, role="admin", password_hash=self._hash(chosen))
        return None if password else chosen

    def add_user(self, name: str, *, role: Role, password: str) -> None:
        """Add a user.

        Raises
        ------
        InvalidRequest
            When the name has other characters than a-z, 0-9 and ._-@, or the password is short.
        Conflict
            When the name is taken.
        """
        if self._access.user(name) is not None:
            raise Conflict("there is a user of that name already")
        self.set_user(name, role=role, password=password)

    def set_user(self, name: str, *, role: Role, password: str) -> None:
        """Add a user, or give a known one this role and password; its old logins end.

        Raises
        ------
        InvalidRequest
            When the name has other characters than a-z, 0-9 and ._-@, or the password is short.
        """
        check_name(name)
        check_password(password)
        self._access.put_user(name, role=role, password_hash=self._hash(password))

    def set_password(self, user: User, password: str) -> None:
        """Give a user a new password, and enable it; its logins end.

        Raises
        ------
        InvalidRequest
            When the password is short.
        """
        self.set_user(user.name, role=user.role, password=password)

    # --- logins --------------------------------------------------------------------------------

    def login(self, name: str, password: str, *, address: str) -> str:
        """Return the secret of a new session.

        An unknown name takes as long as a wrong password, and gets the same answer.

        Raises
        ------
        WrongPassword
        TooManyTries
            After too many wrong passwords from that address, for that name or for many.
        """
        user = self.check(name, password, address=address)
        secret = secrets.token_urlsafe(32)
        self._access.open_session(_sha256(secret), user.name, lifetime=self._lifetime)
        return secret

    def check(self, name: str, password: str, *, address: str) -> User:
        """Return the user whose password that is.

        Raises
        ------
        WrongPassword
        TooManyTries
        """
        place = network_of(address)
        pair = f"{place} {name}"
        self._per_address.begin(place)
        self._per_user.begin(pair)
        user = self._access.user(name)
        known = user if user and not user.disabled else None
        fits = self._fits(known.password_hash if known else self._nobody_hash, password)
        if known is None or not fits:
            raise WrongPassword
        self._per_user.passed(pair, forgive=True)
        self._per_address.passed(place, forgive=False)
        if self._hasher.check_needs_rehash(known.password_hash):
            self._access.rehash(name, self._hash(password))
        return known

    def logout(self, secret: str) -> None:
        """End a session."""
        self._access.close_session(_sha256(secret))

    def set_cookie(self, request: Request, answer: Response, secret: str) -> None:
        """Give the browser its session."""
        answer.set_cookie(
            COOKIE,
            secret,
            max_age=int(self._lifetime.total_seconds()),
            path="/",
            httponly=True,
            samesite="lax",  # Lax: a link from the RIS opens a study without a second login
            secure=self.is_https(request),
        )

    def drop_cookie(self, request: Request, answer: Response) -> None:
        """Let the browser forget its session."""
        answer.delete_cookie(
            COOKIE, path="/", httponly=True, samesite="lax", secure=self.is_https(request)
        )

    # --- tokens --------------------------------------------------------------------------------

    def add_token(self, name: str, *, user: str, lifetime: timedelta | None) -> str:
        """Return the secret of a new API token, which is shown once and kept nowhere.

        Raises
        ------
        Conflict
            When a token of that name is in use.
        NotFound
            When there is no such user.
        """
        check_name(name)
        now = datetime.now(UTC)
        for token in self._access.tokens():
            ended = token.revoked or (token.expires_at is not None and token.expires_at <= now)
            if token.name == name and not ended:
                raise Conflict("a token of that name is in use; revoke it first")
        secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
        self._access.add_token(
            _sha256(secret), name=name, user=user, expires_at=now + lifetime if lifetime else None
        )
        return secret

    def token_caller(self, secret: str) -> Caller | None:
        """Return whose API token that is; None for one that is unknown, revoked or has ended."""
        user = self._access.token_user(_sha256(secret))
        return Caller(user.name, user.role, "token") if user else None

    # --- requests ------------------------------------------------------------------------------

    def caller(self, request: Request, *, note_use: bool = True) -> Caller | None:
        """Return who sends a request, by its token or its session; None when nobody is known.

        Parameters
        ----------
        note_use : bool
            Whether the session counts as used by this.

        Raises
        ------
        LoginNeeded
            When an Authorization header is there and holds no valid token: a cookie beside it
            is not looked at.
        """
        authorization = request.headers.get("authorization")
        if authorization is not None:
            scheme, _, secret = authorization.partition(" ")
            if scheme.lower() != "bearer" or not secret:
                raise LoginNeeded("only `Authorization: Bearer TOKEN` is understood")
            found = self.token_caller(secret.strip())
            if found is None:
                raise LoginNeeded("the API token is unknown, revoked or has ended")
            return found
        secret = request.cookies.get(COOKIE, "")
        if not secret:
            return None
        user = self._access.session_user(_sha256(secret), idle=self._idle, note_use=note_use)
        return Caller(user.name, user.role, "session") if user else None

    def from_own_page(self, request: Request) -> bool | None:
        """Whether a browser says that one of our pages sent this; None when it says nothing."""
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            return site == "same-origin"
        origin = request.headers.get("origin")
        if origin is not None:
            return origin.lower() in self._own_origins(request)
        return None

    @property
    def is_public_https(self) -> bool:
        """Whether browsers reach us by TLS alone."""
        return self._public.scheme == "https"

    def is_https(self, request: Request) -> bool:
        """Whether the browser speaks TLS with us, or with the proxy in front."""
        return request.url.scheme == "https" or self.is_public_https

    def _own_origins(self, request: Request) -> set[str]:
        origins = {f"{request.url.scheme}://{request.headers.get('host', '')}".lower()}
        if self._public.netloc:
            origins.add(f"{self._public.scheme}://{self._public.netloc}".lower())
        return origins

    def _hash(self, password: str) -> str:
        with self._hashing:
            return self._hasher.hash(password)

    def _fits(self, password_hash: str, password: str) -> bool:
        with self._hashing:
            try:
                return self._hasher.verify(password_hash, password)
            except (VerificationError, InvalidHashError):
                return False


def check_name(name: str) -> None:
    """Check the name of a user or a token.

    Raises
    ------
    InvalidRequest
    """
    if not 1 <= len(name) <= 64 or not set(name) <= _NAME_CHARACTERS:
        raise InvalidRequest("a name has 1 to 64 of the characters a-z, 0-9 and ._-@")


def check_password(password: str) -> None:
    """Check a password that a person chose.

    Raises
    ------
    InvalidRequest
    """
    if not SHORTEST_PASSWORD <= len(password) <= 1024:
        raise InvalidRequest(f"a password has at least {SHORTEST_PASSWORD} characters")


def _sha256(secret: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()
