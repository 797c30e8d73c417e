"""`radloop predict`: a bundle on files, without any server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom.errors import InvalidRequest
from node.commands.common import Config, Device, out, progress_bar, settings_for

if TYPE_CHECKING:
    from models.model import Model, Result
    from models.sources import Source, Unfit


def predict(
    bundle: Annotated[str, typer.Argument(help="NAME, NAME@VERSION, or a bundle's folder.")],
    source: Annotated[
        Path, typer.Argument(exists=True, help="A DICOM folder or file, or a NIfTI file.")
    ],
    target: Annotated[
        Path | None, typer.Argument(help="A folder; made when absent. Not for --check.")
    ] = None,
    device: Device = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH: a further input of a model that needs several files."),
    ] = None,
    allow_code: Annotated[
        list[str] | None,
        typer.Option(help="sha256 of a bundle's own code that may run; read it first."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what it needs, and whether IN fits.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document, for scripts.")
    ] = False,
    config: Config = None,
) -> None:
    """Run a bundle on files, without any server.

    Of a DICOM folder every series that fits is taken. Out come DICOM SEG and NIfTI labels, or JSON
    of findings. Exit code 0: at least one image was predicted; 1: `--check` found that none fits;
    2: none fits, or wrong use; 5: this machine lacks something.
    """
    from models.model import load
    from node import wiring

    settings = settings_for("predict", config, None)
    model = load(
        bundle,
        folders=wiring.bundle_folders(settings),
        device=device,
        threads=threads,
        allow_code=allow_code or (),
    )
    given = _source(model, source, also or [])
    if check:
        _check(model, given, as_json)
    if target is None:
        raise InvalidRequest("say OUT, the folder for the results")
    results: list[Result | Unfit] = []
    with progress_bar() as bar:

        def watch(name: str) -> Callable[[float], None]:
            task = bar.add_task(name, total=1.0)
            return lambda share: bar.update(task, completed=share)

        for each in model.predict_each(given, save_path=target, progress=watch):
            results.append(each)
    if as_json:
        print(json.dumps([_plain(each) for each in results], indent=2))  # noqa: T201 - for scripts
    else:
        _show(results)
    raise typer.Exit(0 if any(_is_result(each) for each in results) else 2)


def _source(model: Model, source: Path, also: Iterable[str]) -> Source:
    """Return what the model is given: one path, or one for each named input."""
    named: dict[str, str | Path] = {}
    for pair in also:
        name, equals, path = pair.partition("=")
        if not equals or not Path(path).exists():
            raise InvalidRequest("--also wants NAME=PATH, of a path that exists")
        named[name] = Path(path)
    return {model.bundle.inputs[0].name: source, **named} if named else source


def _check(model: Model, source: Source, as_json: bool) -> None:
    found = model.check(source)
    if as_json:
        from dataclasses import asdict

        print(json.dumps(asdict(found), indent=2))  # noqa: T201 - for scripts
    else:
        out.print(str(found), highlight=False, markup=False)
    raise typer.Exit(0 if found.fits else 1)


def _is_result(each: Result | Unfit) -> bool:
    from models.model import Result

    return isinstance(each, Result)


def _show(results: Iterable[Result | Unfit]) -> None:
    from models.sources import Unfit

    for each in results:
        if isinstance(each, Unfit):
            why = f"{each.error.message} [dim]({each.error.code})[/]"
            out.print(f"[yellow]-[/] {each.name}: {why}", highlight=False)
            continue
        names = ", ".join(path.name for path in each.files)
        found = [f"{label} {ml:.1f} ml" for label, ml in each.millilitres.items()]
        found += [_sentence(finding) for finding in each.findings]
        out.print(f"[green]✓[/] {each.name}: {names}  {', '.join(found)}", highlight=False)


def _sentence(finding: dict[str, object]) -> str:
    value = finding.get("probability", finding.get("score"))
    return f"{finding['label']} {value:.2f}" if isinstance(value, float) else str(finding["label"])


def _plain(each: Result | Unfit) -> dict[str, object]:
    """Return a result as plain values; no key is ever left out."""
    from models.sources import Unfit

    if isinstance(each, Unfit):
        error = {"code": each.error.code, "message": each.error.message}
        return {"name": each.name, "error": error}
    return {
        "name": each.name,
        "error": None,
        "files": [str(path) for path in each.files],
        "millilitres": each.millilitres,
        "findings": list(each.findings),
        "device": each.prediction.device,
        "forward_s": round(each.prediction.forward_s, 3),
        "total_s": round(each.prediction.total_s, 3),
        "bundle_sha256": each.prediction.bundle_sha256,
    }
