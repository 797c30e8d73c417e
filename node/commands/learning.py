"""`radloop train` and `radloop recipes`: learning, without any server."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from dicom.errors import Conflict, InvalidGraph, InvalidPlan, InvalidRequest
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
    from models.learning.cases import DatasetFolder
    from models.learning.graph import Graph
    from models.learning.orders import TrainOrder
    from models.learning.planning import Plan
    from models.learning.recipe import TrainingRecipe
    from models.learning.run import Epoch
    from models.registry import Registry
    from node.settings import Settings
    from pipelines.datasets import Shelf


def train(
    dataset: Annotated[str, typer.Option(help="NAME or NAME@VERSION.")],
    name: Annotated[
        str, typer.Option(help="What the bundle will be called; else as the dataset is.")
    ] = "",
    version: Annotated[
        str, typer.Option(help="... and its version; else the one after the highest there is.")
    ] = "",
    task: Annotated[
        str,
        typer.Option(
            help="What it shall learn: segmentation (-2d, -3d), classification, detection, "
            "multi-label; refused where the dataset is for another."
        ),
    ] = "",
    recipe: Annotated[
        str,
        typer.Option(
            help="How such a model learns: radloop recipes lists them. Else the one by which the "
            "dataset was imported; none: by no recipe. A cascade's trains both its models."
        ),
    ] = "",
    augment: Annotated[
        Path | None,
        typer.Option(
            help="A graph's file; or the name of a shipped one, such as retina, or of a recipe."
        ),
    ] = None,
    start_from: Annotated[
        str | None, typer.Option("--from", help="A bundle of the same network to begin with.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="About how long.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help='"field=JSON" of the plan: patch=[256,256]; repeatable. Of a cascade first.rate '
            "and second.rate are for one of both.",
        ),
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

    from models.learning.beginning import cascade_of, check_task, recipe_of
    from models.learning.recipe import get_recipe
    from node import wiring
    from pipelines.datasets import Shelf
    from pipelines.learning import check_model_name

    settings = settings_for("train", config, data)
    shelf = Shelf(wiring.datasets_folder(settings))
    folder = shelf.get(dataset)
    if task:
        check_task(folder.dataset, task)
    if threads is not None:
        torch.set_num_threads(threads)
    name = name or folder.dataset.name.lower()
    check_model_name(name)
    chosen, cascade = None, None
    if recipe not in ("", "none"):
        chosen = get_recipe(recipe)
        if chosen.first is not None and folder.dataset.after is None:
            cascade = chosen
    elif not recipe:
        chosen, cascade = recipe_of(folder.dataset), cascade_of(folder.dataset)
    lesson = _Lesson(
        name=name,
        version=version or _next_version(name, settings),
        recipe=chosen,
        graph=_graph(augment),
        start_from=None if start_from is None else _registry(settings).get(start_from),
        minutes=minutes,
        changes=_changes(change or []),
        seed=seed,
        device=device,
        threads=threads,
        launcher=launcher,
        plan_only=plan_only,
    )
    if cascade is None:
        _learn(folder, lesson, settings)
    else:
        _learn_both(shelf, folder, cascade, lesson, settings)


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What is to be learnt, and how, as the shell says it."""

    name: str
    version: str
    recipe: TrainingRecipe | None
    graph: Graph | None
    start_from: Bundle | None
    minutes: float | None
    changes: Mapping[str, Any]
    seed: int
    device: str
    threads: int | None
    launcher: str
    plan_only: bool

    @property
    def identity(self) -> str:
        """Of the bundle that will be made."""
        return f"{self.name}@{self.version}"


def _learn_both(
    shelf: Shelf,
    folder: DatasetFolder,
    cascade: TrainingRecipe,
    lesson: _Lesson,
    settings: Settings,
) -> None:
    """Learn a cascade's models in their order; one that is there already is not learnt again."""
    from models.learning.cascades import (
        first_name,
        for_first,
        for_second,
        of_each,
        plan_first,
        plan_second,
    )
    from models.learning.recipe import get_recipe

    if cascade.first is None or lesson.start_from is not None:
        raise InvalidRequest("a cascade begins from scratch: train one of its models with --from")
    look = get_recipe(cascade.first.recipe)
    half = None if lesson.minutes is None else lesson.minutes / 2
    one, other = of_each(lesson.changes)
    first = replace(lesson, name=first_name(lesson.name), recipe=look, minutes=half, changes=one)
    second = replace(lesson, recipe=cascade, minutes=half, changes=other)
    how_long: dict[str, Any] = {"minutes": half, "seed": lesson.seed, "device": lesson.device}
    plans = (
        plan_first(folder, cascade, changes=one, **how_long),
        plan_second(folder, cascade, changes=other, **how_long),
    )  # also before anything runs: the second may not fit
    if lesson.plan_only:
        for each, plan in zip((first, second), plans, strict=True):
            out.print(f"[bold]{each.identity}[/]", highlight=False)
            _print_plan(plan)
        return
    kits = folder.dataset.name
    known = {bundle.identity for bundle in _registry(settings).bundles}
    if first.identity in known:
        out.print(f"{first.identity} is there already", highlight=False)
    else:
        out.print(f"First {first.identity}: {look.title}", highlight=False)
        organ = shelf.derive(folder, f"{kits}_{look.name}"[:64], for_first(cascade))
        _learn(organ, first, settings)
    out.print(f"Then {lesson.identity}: {cascade.title}", highlight=False)
    how = for_second(cascade, first.identity)
    parts = shelf.derive(folder, f"{kits}_{lesson.name}_parts"[:64], how)
    _learn(parts, second, settings)


def _learn(folder: DatasetFolder, lesson: _Lesson, settings: Settings) -> None:
    """Learn one model, and sign it as a candidate."""
    from models.building import device_of
    from models.greys import taught_by, write_taught
    from models.learning.beginning import begin_plan, check_codes
    from models.learning.bundling import Title, write_bundle
    from models.learning.cases import first_channels
    from models.learning.trainer import train as learn
    from node import wiring

    if (wiring.imported_bundles(settings) / lesson.identity).exists():
        raise Conflict(f"{lesson.identity} is there already: versions are not written over")
    plan = begin_plan(
        folder,
        recipe=lesson.recipe,
        start_from=lesson.start_from,
        minutes=lesson.minutes,
        seed=lesson.seed,
        changes=lesson.changes,
        device=lesson.device,
    )
    if lesson.plan_only:
        _print_plan(plan)
        return
    check_codes(folder.dataset)
    graph = lesson.graph
    if graph is None and lesson.recipe is not None:
        graph = lesson.recipe.graph
    run = wiring.runs_folder(settings) / lesson.identity
    is_local = (lesson.launcher or settings.training.launcher) == "local"
    turn = only_one(wiring.runs_folder(settings)) if is_local else nullcontext()
    with turn, progress_bar() as progress:
        bar = progress.add_task("learning", total=1.0)

        def told(epoch: Epoch) -> None:
            progress.update(bar, completed=min(1.0, epoch.step / plan.steps))
            progress.console.print(_line(epoch), highlight=False)

        if not is_local:
            order = _order(folder, plan, graph, lesson, settings)
            _bring_from_cluster(lesson.launcher, settings, run, order, told)
        done = learn(
            folder,
            plan,
            run,
            cache=wiring.prepared_folder(settings),
            graph=graph,
            device=device_of(lesson.device),
            start_from=None if lesson.start_from is None else _weights(lesson.start_from),
            minutes=lesson.minutes,
            told=told,
        )
    bundle = write_bundle(
        wiring.imported_bundles(settings),
        done,
        folder.dataset,
        Title(lesson.name, lesson.version),
    )
    write_taught(bundle.root / "docs", taught_by(first_channels(folder)))
    _sign(bundle, folder.dataset.identity, settings)
    out.print(
        f"{bundle.identity}  epoch {done.best_epoch} of {len(done.epochs)}, "
        f"{done.best.scores.mean:.3f} on the validation split",
        highlight=False,
    )
    out.print(
        f"How good it is:  radloop evaluate {bundle.identity} --dataset {folder.dataset.identity}\n"
        f"To use it:       radloop models promote {bundle.identity} --why ...",
        highlight=False,
        soft_wrap=True,
    )


def _order(
    folder: DatasetFolder, plan: Plan, graph: Graph | None, lesson: _Lesson, settings: Settings
) -> TrainOrder:
    """Return what a cluster is told."""
    from models.learning.orders import TrainOrder
    from node import wiring

    return TrainOrder(
        dataset=folder.root,
        cache=wiring.prepared_folder(settings),
        bundles=None,
        plan=plan,
        name=lesson.name,
        version=lesson.version,
        graph=None if graph is None else graph.model_dump(mode="json", by_alias=True),
        start_from=None if lesson.start_from is None else lesson.start_from.weights,
        minutes=lesson.minutes,
        device=lesson.device,
        threads=lesson.threads,
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
    from models.learning.run import read_curve
    from node import wiring
    from pipelines.launching import Place, Watch

    cluster = wiring.slurm(settings)
    if launcher not in ("", "slurm") or cluster is None:
        raise InvalidRequest(
            f"nothing learns on {launcher or 'slurm'} here: --launcher is local or slurm, "
            "and the second needs [training.slurm]"
        )
    said, shown = "", len(read_curve(run))

    def tell() -> None:
        nonlocal shown
        epochs = read_curve(run)
        for epoch in epochs[shown:]:
            told(epoch)
        shown = len(epochs)

    def looked(stopped: bool, place: Place) -> None:
        nonlocal said
        if str(place) != said and str(place):
            said = str(place)
            out.print(said, highlight=False, markup=False)
        tell()

    cluster.bring(run, order, Watch(lambda: False, lambda used_s: None, looked))
    tell()  # of the epochs after the last look


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
    from models.learning.graph import read_graph
    from models.learning.graphing import shipped_graphs

    if name is None:
        return None
    if name.is_file():
        return read_graph(name)
    shipped = shipped_graphs()
    if str(name) not in shipped:
        raise InvalidGraph(
            f"there is no file {name}, and no shipped graph of that name; there are: "
            f"{', '.join(shipped)}"
        )
    return read_graph(shipped[str(name)])


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
