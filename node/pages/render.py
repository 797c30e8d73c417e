"""Templates to pages: words for states, steps and times, in one place."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from node.views import Job, Step

STATIC = Path(__file__).parent / "static"
_TEMPLATES = Path(__file__).parent / "templates"

_STEPS = {  # name in the rows: as a noun, and while it runs
    "fetch": ("Fetch", "Fetching the images"),
    "deidentify": ("De-identify", "Taking the identity off"),
    "route": ("Route", "Asking the rules"),
    "collect": ("Collect", "Copying to the research archive"),
    "volume": ("Volume", "Building the volume"),
    "predict": ("Predict", "The model is at work"),
    "encode": ("Encode", "Writing DICOM"),
    "relink": ("Relink", "Pointing the result at its study"),
    "gate": ("Check", "Seeing that it lies where it should"),
    "deliver": ("Deliver", "Storing the result"),
}
_FORMATS = {
    "dicom": ("DICOM", "files with a DICOMDIR; segmentations and reports with their images"),
    "nifti": ("NIfTI", "with sidecars, as BIDS where the images are MR"),
    "nnunet": ("nnU-Net v2", "to train nnU-Net: one modality, every case labelled"),
    "decathlon": ("MONAI datalist", "Medical Segmentation Decathlon's layout"),
}
_ACTS = {
    "person": "needs a person",
    "peer": "another system",
    "machine": "this machine",
    "developer": "an error in radloop",
}


def render(template: str, **context: object) -> HTMLResponse:
    """Return a page; every value that goes in is escaped."""
    return HTMLResponse(_ENVIRONMENT.get_template(template).render(context))


def step_name(name: str) -> str:
    """Return a step's name as people read it."""
    return _STEPS[name][0] if name in _STEPS else name.replace("_", " ").capitalize()


def step_doing(name: str) -> str:
    """Return what goes on in a step."""
    return _STEPS[name][1] if name in _STEPS else step_name(name)


def standing(job: Job) -> str:
    """Return one word for how a job stands; also the name of its colour."""
    if job.state == "completed" and job.left_out and not job.tasks:
        return "left out"
    if job.state == "canceled":
        return "failed" if job.has_failed else "canceled"
    if job.is_open and job.cancel_requested:
        return "canceling"
    return {"scheduled": "waiting", "in_progress": "running", "completed": "done"}[job.state]


def steps_in_short(job: Job) -> list[tuple[str, float | None, bool]]:
    """Return (name, seconds or None while it runs, failed) a step: its last run, tasks added up."""
    last: dict[tuple[str, str | None], Step] = {(s.name, s.task): s for s in job.steps}
    found: dict[str, tuple[float | None, bool]] = {}
    for (name, _task), step in last.items():
        seconds, failed = found.get(name, (0.0, False))
        both = None if seconds is None or step.seconds is None else seconds + step.seconds
        found[name] = (both, failed or step.fault is not None)
    return [(name, seconds, failed) for name, (seconds, failed) in found.items()]


def seconds(value: float | None) -> str:
    """Return seconds with as many digits as help."""
    if value is None:
        return "…"
    if value < 0.95:
        return f"{value:.2f} s"
    if value < 59.5:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def minutes(value: float) -> str:
    """Return seconds as people say them: `42 s`, `3 min 5 s`, `21 min`."""
    whole = round(abs(value))
    if whole < 60:
        return f"{whole} s"
    rest = f" {whole % 60} s" if whole < 600 and whole % 60 else ""
    return f"{whole // 60 if rest else round(whole / 60)} min{rest}"


def took(job: Job) -> float | None:
    """Return a job's seconds from being made to its end; None while it is open."""
    return (job.ended_at - job.created_at).total_seconds() if job.ended_at else None


def utc(time: datetime) -> str:
    """Return a time for those without JavaScript; the others see their own zone."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def dicom_name(name: str) -> str:
    """Return a PN value (PS3.5 6.2) as a worklist writes it: family name, then the rest."""
    parts = [part.strip() for part in name.partition("=")[0].split("^")]
    return ", ".join(part for part in (parts[0], " ".join(filter(None, parts[1:3]))) if part)


def dicom_date(date: str) -> str:
    """Return a DA value as 2026-11-21; what is no date stays as it is."""
    if len(date) == 8 and date.isdigit():
        return f"{date[:4]}-{date[4:6]}-{date[6:]}"
    return date


def short_uid(uid: str) -> str:
    """Return a pseudonym's end, enough to tell two on one page apart."""
    return f"…{uid[-8:]}" if len(uid) > 12 else uid


def percent(value: object) -> str:
    """Return a probability for people: 0.934 -> 93 %."""
    return f"{float(str(value)):.0%}".replace("%", " %")


def millilitres(value: object) -> str:
    """Return a volume in ml, or a text as it is."""
    if isinstance(value, int | float):
        return f"{value:,.0f} ml" if value >= 100 else f"{value:.1f} ml"
    return str(value)


def mebibytes(value: int) -> str:
    """Return bytes of memory with as many digits as help."""
    if value < 1 << 20:
        return f"{value / (1 << 10):.0f} KiB"
    if value < 10 << 30:
        return f"{value / (1 << 20):,.0f} MiB"
    return f"{value / (1 << 30):,.1f} GiB"


def destination(name: str) -> str:
    """Return where a result goes, as people call it."""
    return "clinical archive" if name == "archive" else name


def size(count: int) -> str:
    """Return bytes for people: 1,234,567 -> 1.2 MB."""
    value, unit = float(count), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"


def format_title(name: str) -> str:
    """Return an export format's name as its users write it."""
    return _FORMATS[name][0] if name in _FORMATS else name


def format_words(name: str) -> str:
    """Return what an export format is for."""
    return _FORMATS[name][1] if name in _FORMATS else ""


def sentence(text: str) -> str:
    """Return a message as a sentence: errors begin in lower case and end without a full stop."""
    ended = text if text.endswith((".", "!", "?")) else f"{text}."
    return ended[:1].upper() + ended[1:]


def with_code(text: str) -> Markup:
    """Return a text with what stands between back-ticks as code."""
    pieces = enumerate(text.split("`"))
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if place % 2 else escape(piece)
        for place, piece in pieces
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "destination": destination,
        "dicom_date": dicom_date,
        "dicom_name": dicom_name,
        "format_title": format_title,
        "format_words": format_words,
        "mebibytes": mebibytes,
        "millilitres": millilitres,
        "percent": percent,
        "seconds": seconds,
        "minutes": minutes,
        "short_uid": short_uid,
        "sentence": sentence,
        "size": size,
        "standing": standing,
        "step_doing": step_doing,
        "step_name": step_name,
        "steps_in_short": steps_in_short,
        "took": took,
        "utc": utc,
        "with_code": with_code,
        "who_acts": lambda acts: _ACTS[acts],
    }
    return environment


_ENVIRONMENT = _environment()
