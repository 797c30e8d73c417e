"""The command line: `radloop up | check | send | jobs | deid | predict | ...`.

Exit codes: 0 done; 1 something was found wrong; 2 wrong use, settings or data; 3 something was
quarantined; 4 another system failed; 5 this machine lacks something.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from dicom.errors import NotFound, PeerError, RadloopError, ResourceError
from node.commands import alarms, datasets, models, people, seg, vault, volume
from node.commands.common import (
    Config,
    Data,
    err,
    opened_database,
    out,
    progress_bar,
    settings_for,
)
from node.commands.deface import deface
from node.commands.evaluating import evaluate
from node.commands.export import check_export, export
from node.commands.learning import recipes, train
from node.commands.predict import predict
from node.commands.profile import profile
from node.commands.verify import verify
from node.commands.withdraw import withdraw
from node.commands.worklist import worklist_app
from node.settings import load_settings

app = typer.Typer(
    help="radloop: an AI node beside a hospital's PACS.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
routes_app = typer.Typer(help="Routing rules.", no_args_is_help=True)
app.add_typer(routes_app, name="routes")
app.add_typer(people.token_app, name="token")
app.add_typer(people.user_app, name="user")
app.add_typer(people.audit_app, name="audit")
app.add_typer(vault.vault_app, name="vault")
app.add_typer(models.models_app, name="models")
app.add_typer(alarms.alarms_app, name="alarms")
app.add_typer(datasets.datasets_app, name="datasets")
app.add_typer(volume.volume_app, name="volume")
app.add_typer(seg.seg_app, name="seg")
app.add_typer(worklist_app, name="worklist")

_FAMILIES: tuple[tuple[type[RadloopError], int], ...] = ((PeerError, 4), (ResourceError, 5))


def main() -> None:
    """Run the command line; every expected error ends as one plain sentence and a code."""
    try:
        app()
    except RadloopError as error:
        said = escape(error.message)  # it may name a table of the settings, such as [training]
        err.print(f"[bold red]✗[/] {said} [dim]({error.code})[/]", highlight=False)
        if error.advice and error.advice != error.message:
            err.print(f"  {escape(error.advice)}", highlight=False)
        sys.exit(next((code for family, code in _FAMILIES if isinstance(error, family)), 2))


# --- the node -----------------------------------------------------------------------------------


@app.command()
def up(config: Config = None, data: Data = None) -> None:
    """Start and supervise the whole node: two archives, front, worker."""
    from node.up import run

    settings = settings_for("up", config, data)
    run(settings, config)


@app.command()
def worker(config: Config = None, data: Data = None) -> None:
    """Run one worker (`radloop up` does; a site with several starts more)."""
    from node.house import open_worker

    settings = settings_for("worker", config, data)
    with open_worker(settings) as (work, listener):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: work.end())
        listener.start()
        work.run()
        listener.stop()


@app.command()
def front(config: Config = None, data: Data = None) -> None:
    """Run the web face (`radloop up` does)."""
    from node.front import serve

    serve(settings_for("front", config, data))


@app.command()
def migrate(
    config: Config = None,
    data: Data = None,
    revision: Annotated[str, typer.Option(help="A schema revision; base removes all.")] = "head",
) -> None:
    """Bring the database's schema to this version of radloop."""
    from node import wiring
    from pipelines.store import Database

    settings = settings_for("migrate", config, data)
    settings.data.mkdir(parents=True, exist_ok=True)
    database = Database(wiring.database_url(settings))
    database.migrate(revision)
    out.print(f"the database is at [bold]{revision}[/]")


@app.command()
def prepare(
    archives: Annotated[
        Path | None,
        typer.Option(help="Write clinical.json and research.json there, for Orthancs elsewhere."),
    ] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Make what the processes need before they start one by one (`radloop up` does it itself).

    The schema, the key of the identity vault, the first admin; a second time changes nothing.
    """
    from node import wiring
    from node.keys import open_secrets
    from node.orthanc import write_for_elsewhere
    from node.up import prepare_database

    settings = settings_for("prepare", config, data)
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    secrets = open_secrets(settings)
    prepare_database(settings, secrets)
    if archives is not None:
        write_for_elsewhere(wiring.clinical_config(settings, secrets), archives / "clinical.json")
        write_for_elsewhere(wiring.research_config(settings, secrets), archives / "research.json")
    out.print("ready to start", highlight=False)


@app.command()
def check(config: Config = None, data: Data = None) -> None:
    """Look for mistakes in settings and bundles, and call every peer (C-ECHO)."""
    from node.check import check as look

    settings = settings_for("check", config, data)
    settings.data.mkdir(parents=True, exist_ok=True)
    wrong = 0
    for finding in look(settings):
        if finding.error is None:
            out.print(f"[green]✓[/] {finding.what}", highlight=False)
            continue
        wrong += 1
        out.print(
            f"[bold red]✗[/] {finding.what}: {escape(finding.error.message)} "
            f"[dim]({finding.error.code})[/]\n  {escape(finding.error.advice)}",
            highlight=False,
        )
    out.print("all is well" if not wrong else f"{wrong} to mend", highlight=False)
    raise typer.Exit(1 if wrong else 0)


# --- studies and jobs ---------------------------------------------------------------------------


@app.command()
def send(
    folder: Annotated[Path, typer.Argument(exists=True, help="Every DICOM file below it.")],
    config: Config = None,
    data: Data = None,
    peer: Annotated[str, typer.Option(help="To this [[peer]] instead of this node.")] = "",
) -> None:
    """Send a folder by C-STORE, to this node or to a peer."""
    from dicom.dimse import send_folder
    from node import wiring

    settings = settings_for("send", config, data)
    target = wiring.peers(settings).get(peer) if peer else wiring.ourselves(settings)
    if target is None:
        raise NotFound(f"there is no [[peer]] {peer!r}")
    with progress_bar() as bar:
        task = bar.add_task("sending")
        sent = send_folder(
            target,
            folder,
            calling_aet=settings.dicom.aet,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    out.print(f"sent {len(sent)} instances to {target.aet}", highlight=False)


@app.command()
def jobs(
    config: Config = None,
    data: Data = None,
    state: Annotated[
        Literal["scheduled", "in_progress", "completed", "canceled"] | None,
        typer.Option(help="Only these."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
) -> None:
    """List jobs, the newest first."""
    from pipelines.store import Jobs

    with opened_database(settings_for("jobs", config, data)) as database:
        found = Jobs(database).jobs(state=state, limit=limit)
    table = Table("job", "study", "state", "step", "models", "seconds", "reason", box=None)
    for job in found:
        step = job.current_step
        seconds = f"{(job.ended_at - job.created_at).total_seconds():.1f}" if job.ended_at else ""
        table.add_row(
            job.id,
            job.study_id[-12:],
            job.state,
            step.name if step else "",
            ", ".join(task.bundle for task in job.tasks),
            seconds,
            job.error_code or ", ".join({s.reason_code for s in job.series if s.reason_code}),
        )
    out.print(table if found else "no jobs yet; send a study: radloop send FOLDER")


@routes_app.command()
def explain(study_uid: str, config: Config = None, data: Data = None) -> None:
    """Say for each rule and each series of a study why it matched, or why not.

    STUDY_UID is the study's own StudyInstanceUID or its pseudonym.
    """
    from dicom.volume import SeriesFacts
    from node import wiring
    from pipelines.routing import explain as explain_route
    from pipelines.store import Studies

    settings = settings_for("routes", config, data)
    with opened_database(settings) as database:
        studies = Studies(database)
        series = studies.series_of(study_uid) or studies.series_of(
            wiring.study_pseudonym(settings, study_uid)
        )
    if not series:
        raise NotFound("no such study")
    for view in series:
        out.print(f"[bold]{view.modality}[/], {view.instance_count} instances", highlight=False)
        if view.facts is None:
            note = "a result of this node" if view.ours else "not de-identified yet"
            out.print(f"  {note}: no rule looked at it", highlight=False)
            continue
        names = {field.name for field in fields(SeriesFacts)}
        known: dict[str, Any] = {k: _frozen(v) for k, v in view.facts.items() if k in names}
        for route in settings.route:
            explanation = explain_route(SeriesFacts(**known), route)
            mark = "[green]✓ matched[/]" if explanation.matched else "[yellow]✗ did not match[/]"
            out.print(f"  {route.name}: {mark}", highlight=False)
            for each in explanation.checks:
                sign = "[green]✓[/]" if each.holds else "[red]✗[/]"
                out.print(
                    f"    {sign} {each.condition} [dim](is: {each.found})[/]", highlight=False
                )


# --- without a server ---------------------------------------------------------------------------


@app.command()
def deid(
    source: Annotated[Path, typer.Argument(exists=True, help="A DICOM file or folder.")],
    target: Annotated[Path, typer.Argument(help="A folder; made when absent.")],
    key: Annotated[
        Path | None,
        typer.Option(help="Key file (made when absent), for the same pseudonyms another time."),
    ] = None,
    project: Annotated[
        str, typer.Option(help="By the profile of this [[project]]; its pseudonyms are its own.")
    ] = "node",
    engine: Annotated[
        Literal["auto", "fast", "careful"],
        typer.Option(help="Who does it; what comes out is the same."),
    ] = "auto",
    clean_pixels: Annotated[
        bool,
        typer.Option("--clean-pixels", help="Mask text in pixels, also without a project."),
    ] = False,
    config: Config = None,
) -> None:
    """De-identify a file or folder, without any server; exit code 3: some were held back."""
    from dicom.deid import Quarantined
    from dicom.fast import EngineChoice
    from dicom.profile import Option
    from node.offline import deidentify
    from pipelines.projects import project_called

    chosen = project_called(project, load_settings(config).project)
    if clean_pixels:
        chosen = replace(chosen, options=(*chosen.options, Option.CLEAN_PIXEL_DATA))

    done: Counter[str] = Counter()
    held: Counter[tuple[str, str]] = Counter()
    with progress_bar("{task.completed} files") as bar:
        task = bar.add_task("de-identifying", total=None)
        choice = EngineChoice(engine)
        for each in deidentify(source, target, project=chosen, key_file=key, choice=choice):
            bar.advance(task)
            if isinstance(each, Quarantined):
                held[each.error.code, each.error.message] += 1
            else:
                done[each.engine] += 1
    ways = ", ".join(f"{count} by the {name} engine" for name, count in done.most_common())
    told = f"{done.total()} files de-identified" + (f" ({ways})" if ways else "")
    out.print(f"{told}, {held.total()} held back", highlight=False)
    for (code, message), count in held.most_common():
        out.print(f"  {count} x {code}: {message}", highlight=False)
    raise typer.Exit(3 if held else 0)


app.command()(predict)
app.command()(profile)
app.command()(verify)
app.command()(deface)
app.command()(export)
app.command()(check_export)
app.command()(withdraw)
app.command()(train)
app.command()(evaluate)
app.command()(recipes)


# --- the demonstration --------------------------------------------------------------------------


@app.command()
def demo(
    study: Annotated[Path | None, typer.Option(exists=True, help="A folder to send.")] = None,
    once: Annotated[bool, typer.Option(help="Stop after the check.")] = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Start the node, send a study, wait for its SEG, show the way to it."""
    from node.demo import run

    settings = settings_for("demo", config, data)
    raise typer.Exit(run(settings, config, study=study, once=once, console=out))


# --- small things -------------------------------------------------------------------------------


def _frozen(value: Any) -> Any:  # noqa: ANN401 - what JSON gives
    return tuple(value) if isinstance(value, list) else value
