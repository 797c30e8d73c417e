"""Errors of what the node was asked or told: settings, log-ins, requests, keys, jobs."""

from __future__ import annotations

from dicom.errors.families import InputError


class InvalidSettings(InputError):
    """radloop.toml or a RADLOOP_ variable is misspelt or impossible."""

    code = "invalid_settings"
    advice = "Mend the named setting; `radloop check` shows all of them."


class NotFound(InputError):
    """A study, series, job or user of that identifier is not here."""

    code = "not_found"
    advice = "Check the identifier; `radloop jobs` and the studies page list what is here."


class WrongPassword(InputError):
    """User name and password do not fit."""

    code = "wrong_password"
    advice = "User name or password is wrong."


class LoginNeeded(InputError):
    """Nobody is logged in, or the login or token has ended."""

    code = "login_needed"
    advice = "Log in again, or send a valid API token."


class NotAllowed(InputError):
    """The role of this user does not reach that far."""

    code = "not_allowed"
    advice = "Your role does not allow this; ask an administrator of the node."


class CrossSite(InputError):
    """A write that did not come from one of the node's own pages."""

    code = "cross_site"
    advice = "Use the node's own pages, or an API token; check front.public_url behind a proxy."


class TooManyTries(InputError):
    """Too many wrong passwords in a row from one place."""

    code = "too_many_tries"
    advice = "Wait a little before the next try; every wrong password doubles the wait."
    wait_s: int = 0

    @classmethod
    def wait(cls, seconds: int) -> TooManyTries:
        """Return the error with the seconds until the next try."""
        error = cls(f"too many wrong passwords; try again in {seconds} s")
        error.wait_s = seconds
        return error


class InvalidRequest(InputError):
    """A request with a missing, misspelt or impossible value."""

    code = "invalid_request"
    advice = "Mend the named value; /api/docs describes each request."


class Conflict(InputError):
    """What is asked for does not fit what is there (a job that has ended, a name that is taken)."""

    code = "conflict"
    advice = "Look at the present state, and decide again."


class TooLarge(InvalidRequest):
    """The body of a request is larger than the node takes at once."""

    code = "too_large"
    advice = "Send the study in several requests, or by C-STORE."


class InvalidLabels(InvalidRequest):
    """Labels that a viewer sent, and that do not hold what their head announces."""

    code = "invalid_labels"
    advice = "Nothing was stored; reload the viewer, and open the draft that it kept."


class NotTakenIn(Conflict):
    """A study of the archive that the node has not read yet."""

    code = "not_taken_in"
    advice = "The study has just arrived; wait some seconds, and try again. The draft is kept."


class UnsafeSegmentation(Conflict):
    """A segmentation that the viewer exported by itself: it can hold other voxels than painted."""

    code = "unsafe_segmentation"
    advice = "Nothing was stored; the segmentation is still open in the viewer as you edited it."


class VaultLocked(InputError):
    """The identity vault's key is absent or not the one that its rows were sealed with."""

    code = "vault_locked"
    advice = "Put the key file that belongs to this database back into the secrets folder."


class DrawerLocked(InputError):
    """A draft or a comment was sealed with another key than the node has now."""

    code = "drawer_locked"
    advice = "The node's audit key was changed; put the old one back, or delete the draft."


class AuditBroken(InputError):
    """An event of the audit trail was changed, removed or slipped in."""

    code = "audit_broken"
    advice = "Somebody wrote to the database by another way; compare with a backup."


class NoRoute(InputError):
    """No route matched a series; nothing was asked of it."""

    code = "no_route"
    advice = "No rule wants this series; that is right, or a [[route]] has to be mended."


class Canceled(InputError):
    """A person canceled the job; what it had begun is dropped."""

    code = "canceled"
    advice = "The job was canceled by a person; start it again when it is wanted."


class InternalError(InputError):
    """A fault of radloop itself; the traceback is in the log under the job's id."""

    code = "internal_error"
    advice = "radloop made a mistake; please report it with the log lines of this job."
