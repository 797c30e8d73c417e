"""`radloop train` and `radloop evaluate`: learning and measuring, without any server."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from dicom.errors import Conflict, InvalidPlan
from node.commands.common import (
    Config,
    Data,
    Device,
    opened_database,
    out,
    person_at_the_shell,
    progress_bar,
    settings_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.bundle import Bundle
    from models.learning.cases import DatasetFolder, Split
    from models.learning.evaluating import Evaluation
    from models.learning.graph import Graph
    from models.learning.orders import TrainOrder
    from models.learning.planning import Plan
    from models.learning.trainer import Epoch
    from models.registry import Registry
    from node.settings import Settings


def train(
    dataset: Annotated[str, typer.Option(help="NAME or NAME@VERSION.")],
    name: Annotated[
        str, typer.Option(help="What the bundle will be called; else as the dataset is.")
    ] = "",
    version: Annotated[
        str, typer.Option(help="... and its version; else the one after the highest there is.")
    ] = "",
    recipe: Annotated[
        str, typer.Option(help="How such a model learns: radloop recipes lists them.")
    ] = "",
    augment: Annotated[
        Path | None,
        typer.Option(help="An augmentation graph; or the name of a shipped one, such as retina."),
    ] = None,
    start_from: Annotated[
        str | None, typer.Option("--from", help="A bundle of the same network to begin with.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="About how long.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help='"field=JSON" of the plan: patch=[256,256]; repeatable.'),
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Only say what would be done, and why.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Device = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    launcher: Annotated[
        str, typer.Option(help="local or slurm; by itself where the settings say.")
    ] = "",
    config: Config = None,
    data: Data = None,
) -> None:
    """Learn from a dataset: plan, train, write a bundle. Stopped in between, it goes on."""
    import torch

    from models.building import device_of
    from models.greys import taught_by, write_taught
    from models.learning.beginning import begin_plan, recipe_of
    from models.learning.bundling import Title, write_bundle
    from models.learning.cases import first_channels
    from models.learning.orders import TrainOrder
    from models.learning.recipe import get_recipe
    from models.learning.trainer import train as learn
    from node import wiring
    from pipelines.datasets import Shelf
    from pipelines.learning import check_model_name

    settings = settings_for("train", config, data)
    folder = Shelf(wiring.datasets_folder(settings)).get(dataset)
    if threads is not None:
        torch.set_num_threads(threads)
    name = name or folder.dataset.name.lower()
    check_model_name(name)
    version = version or _next_version(name, settings)
    if (wiring.imported_bundles(settings) / f"{name}@{version}").exists():
        raise Conflict(f"{name}@{version} is there already: versions are not written over")
    beginning = None if start_from is None else _registry(settings).get(start_from)
    chosen = get_recipe(recipe) if recipe else recipe_of(folder.dataset)
    plan = begin_plan(
        folder,
        recipe=chosen,
        start_from=beginning,
        minutes=minutes,
        seed=seed,
        changes=_changes(change or []),
    )
    if plan_only:
        _print_plan(plan)
        return
    graph = chosen.graph if chosen is not None and augment is None else _graph(augment)
    run = wiring.runs_folder(settings) / f"{name}@{version}"
    is_local = (launcher or settings.training.launcher) == "local"
    turn = only_one(wiring.runs_folder(settings)) if is_local else nullcontext()
    with turn, progress_bar() as progress:
        bar = progress.add_task("learning", total=1.0)

        def told(epoch: Epoch) -> None:
            progress.update(bar, completed=min(1.0, epoch.step / plan.steps))
            progress.console.print(_line(epoch), highlight=False)

        if not is_local:
            order = TrainOrder(
                dataset=folder.root,
                cache=wiring.prepared_folder(settings),
                bundles=None,
                plan=plan,
                name=name,
                version=version,
                graph=None if graph is None else graph.model_dump(mode="json", by_alias=True),
                start_from=None if beginning is None else beginning.weights,
                minutes=minutes,
                device=device,
                threads=threads,
            )
            _bring_from_cluster(launcher, settings, run, order, told)
        done = learn(
            folder,
            plan,
            run,
            cache=wiring.prepared_folder(settings),
            graph=graph,
            device=device_of(device),
            start_from=None if beginning is None else _weights(beginning),
            minutes=minutes,
            told=told,
        )
    bundle = write_bundle(
        wiring.imported_bundles(settings), done, folder.dataset, Title(name, version)
    )
    write_taught(bundle.root / "docs", taught_by(first_channels(folder)))
    _sign(bundle, folder.dataset.identity, settings)
    score = done.best.scores.mean
    out.print(
        f"{bundle.identity}  epoch {done.best_epoch} of {len(done.epochs)}, "
        f"{score:.3f} on the validation split",
        highlight=False,
    )
    out.print(
        f"How good it is:  radloop evaluate {bundle.identity} --dataset {folder.dataset.identity}\n"
        f"To use it:       radloop models promote {bundle.identity} --why ...",
        highlight=False,
        soft_wrap=True,
    )


def _bring_from_cluster(
    launcher: str,
    settings: Settings,
    run: Path,
    order: TrainOrder,
    told: Callable[[Epoch], None],
) -> None:
    """Let a cluster learn, and say what it says; stopped in between, its job goes on."""
    from dicom.errors import InvalidRequest
    from models.learning.trainer import read_curve
    from node import wiring
    from pipelines.launching import Place, Watch

    cluster = wiring.slurm(settings)
    if launcher not in ("", "slurm") or cluster is None:
        raise InvalidRequest(
            f"nothing learns on {launcher or 'slurm'} here: --launcher is local or slurm, "
            "and the second needs [training.slurm]"
        )
    said, shown = "", len(read_curve(run))

    def looked(stopped: bool, place: Place) -> None:
        nonlocal said, shown
        if str(place) != said and str(place):
            said = str(place)
            out.print(said, highlight=False)
        epochs = read_curve(run)
        for epoch in epochs[shown:]:
            told(epoch)
        shown = len(epochs)

    cluster.bring(run, order, Watch(lambda: False, lambda used_s: None, looked))


def recipes() -> None:
    """List the recipes: what each learns, from which data, and what it writes."""
    from models.learning.recipe import get_recipe, recipe_names

    table = Table("recipe", "what", "task", "data", "writes", box=None)
    for each in recipe_names():
        found = get_recipe(each)
        task = f"{found.task}, {found.dimensions}D"
        table.add_row(each, found.title, task, found.needs, ", ".join(found.output).upper())
    out.print(table)


def _next_version(name: str, settings: Settings) -> str:
    """Return the version after the highest that is installed; one that is half learnt goes on."""
    from models.bundle import version_key

    found = [bundle.version for bundle in _registry(settings).bundles if bundle.name == name]
    if not found:
        return "0.1.0"
    major, minor, *_ = version_key(max(found, key=version_key))
    return f"{major}.{minor + 1}.0"


@contextmanager
def only_one(runs: Path) -> Iterator[None]:
    """Wait until neither the node nor another shell learns: never two at once."""
    from models.learning.child import LOCK

    runs.mkdir(parents=True, exist_ok=True)
    with (runs / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            out.print("Another training runs here; this one begins when it has ended.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sign(bundle: Bundle, dataset: str, settings: Settings) -> None:
    """Let the node know it as a candidate: routes take it once it was promoted, not before."""
    from node import wiring
    from node.keys import open_secrets
    from pipelines.learning import sign

    with opened_database(settings) as database:
        school = wiring.school(settings, open_secrets(settings), database)
        sign(school, bundle, by=person_at_the_shell(), dataset=dataset)


def evaluate(
    bundle: Annotated[str, typer.Argument(help="NAME, NAME@VERSION, or a bundle's folder.")],
    dataset: Annotated[str, typer.Option(help="NAME or NAME@VERSION.")],
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    against: Annotated[
        str | None, typer.Option(help="Another bundle: by how much this one is better.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures there.")
    ] = None,
    device: Device = "auto",
    config: Config = None,
    data: Data = None,
) -> None:
    """Measure a bundle on a dataset's split, on the images' own grid, with confidence intervals."""
    from models.learning.evaluating import gain
    from node import wiring
    from pipelines.datasets import Shelf

    settings = settings_for("evaluate", config, data)
    folder = Shelf(wiring.datasets_folder(settings)).get(dataset)
    found = [
        _evaluated(each, settings, folder, split, device)
        for each in ([bundle] if against is None else [bundle, against])
    ]
    first = found[0]
    for evaluation in found:
        _print_evaluation(evaluation, dict(folder.dataset.classes))
    better = gain(first, found[1]) if against is not None else None
    if better is not None:
        out.print(
            f"gain in Dice  {better.mean:+.4f}  (95 %: {better.low:+.4f} to {better.high:+.4f}, "
            f"{better.patients} patients)",
            highlight=False,
        )
    if json_file is not None:
        content = {
            "evaluations": [_as_json(one) for one in found],
            "gain": None if better is None else asdict(better),
        }
        json_file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _evaluated(
    name: str,
    settings: Settings,
    folder: DatasetFolder,
    split: str,
    device: str,
) -> Evaluation:
    from dicom.errors import InvalidRequest
    from models.bundle import read_bundle
    from models.learning.evaluating import evaluate as measure
    from models.predictor import open_predictor
    from models.registry import Registry
    from node import wiring

    if split not in ("train", "validation", "test"):
        raise InvalidRequest(f"there is no split {split!r}")
    chosen: Split = split  # type: ignore[assignment]
    registry = Registry(wiring.bundle_folders(settings))
    bundle = read_bundle(Path(name)) if Path(name).is_dir() else registry.get(name)
    with progress_bar("{task.completed}/{task.total}") as progress:
        bar = progress.add_task(bundle.identity, total=None)
        return measure(
            open_predictor(bundle, lambda: registry, device=device),
            folder,
            split=chosen,
            told=lambda done, of: progress.update(bar, completed=done, total=of),
        )


def _changes(words: list[str]) -> dict[str, Any]:
    """Return the fields of a plan that are set by ``--set``."""
    fields: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise InvalidPlan(f"--set is field=value, not {word!r}")
        try:
            fields[key] = json.loads(text)
        except json.JSONDecodeError:
            fields[key] = text
    return fields


def _graph(name: Path | None) -> Graph | None:
    from importlib.resources import files

    from models.learning.graph import read_graph

    if name is None:
        return None
    shipped = files("models.learning") / "graphs" / f"{name}.toml"
    if not name.exists() and shipped.is_file():
        return read_graph(shipped.read_text(encoding="utf-8"))
    return read_graph(name)


def _weights(bundle: Bundle) -> Any:  # noqa: ANN401 - torch is loaded late
    import torch

    return torch.load(bundle.weights, map_location="cpu", weights_only=True)


def _registry(settings: Settings) -> Registry:
    """Return all bundles, also those of this shell's own trainings that nobody promoted."""
    from models.registry import Registry
    from node import wiring

    return Registry(wiring.bundle_folders(settings))


def _print_plan(plan: Plan) -> None:
    table = Table("field", "value", "why", box=None)
    for field, value in plan.model_dump(exclude={"why"}).items():
        table.add_row(field, json.dumps(value), plan.why.get(field, ""))
    out.print(table)


def _line(epoch: Epoch) -> str:
    return (
        f"epoch {epoch.number:4}  step {epoch.step:6}  loss {epoch.loss:.4f}  "
        f"score {epoch.scores.mean:.4f}  {epoch.seconds:.0f} s, "
        f"{epoch.waited_s / epoch.seconds:.0%} waiting for data"
    )


def _print_evaluation(found: Evaluation, classes: dict[int, str]) -> None:
    out.print(
        f"[bold]{found.bundle}[/] on {found.dataset}, {found.split}: {len(found.cases)} cases",
        highlight=False,
    )
    if found.cases[0].probability is not None:
        right = found.interval("correct")
        assert right is not None  # every case has an answer
        out.print(f"  accuracy {_spread(right)}", highlight=False)
        return
    names = _FIGURES if found.cases[0].boxes is None else _OF_BOXES
    table = Table("class", *names, box=None)
    for number, name in (*classes.items(), (None, "all")):
        figures = [found.interval(figure, number) for figure in names.values()]
        table.add_row(name, *("-" if one is None else _spread(one) for one in figures))
    out.print(table)


_FIGURES = {
    "Dice": "dice",
    "surface Dice": "surface_dice",
    "HD95 mm": "hausdorff95_mm",
    "volume error": "volume_error",
    "added path mm": "added_path_mm",
}


_OF_BOXES = {"average precision": "ap50", "found": "found", "right": "right"}


def _spread(one: Any) -> str:  # noqa: ANN401 - an Interval, loaded late
    return f"{one.mean:.3f} ({one.low:.3f} to {one.high:.3f})"


def _as_json(found: Evaluation) -> dict[str, Any]:
    content = asdict(found)
    for score, case in zip(found.cases, content["cases"], strict=True):
        case["case"] = score.case.id
        case["patient"] = score.case.patient
    first = found.cases[0]
    of_masks = _FIGURES if first.boxes is None else _OF_BOXES
    figures = ["correct"] if first.probability is not None else list(of_masks.values())
    intervals = {figure: found.interval(figure) for figure in figures}
    content["intervals"] = {
        figure: None if one is None else asdict(one) for figure, one in intervals.items()
    }
    return content
