"""Models from the shell: what is here, what one is, and how to get more."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from node.commands.common import Config, Data, err, out, settings_for
from node.commands.promoting import card, promote, rollback, stages, withdraw
from node.zoo import Source

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.importing.model import Wish

models_app = typer.Typer(help="The bundles of this node.", no_args_is_help=True)
models_app.command()(promote)
models_app.command()(rollback)
models_app.command()(withdraw)
models_app.command()(card)

_NO_LICENCE = "The licence of the data is not known"  # in what is learnt from data without one
_ZOO_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(@\d[\w.-]*)?")

Name = Annotated[str | None, typer.Option(help="Install it under this name.")]
Version = Annotated[str | None, typer.Option(help="... and this version, such as 1.2.0.")]
Licence = Annotated[str | None, typer.Option("--license", help="Its licence, where it says none.")]
Codes = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="DICOM codes of its classes.")
]


@models_app.command("list")
def list_models(config: Config = None, data: Data = None) -> None:
    """List every bundle: its kind, its licence, its hash, where it is from."""
    from models.registry import SHIPPED, Registry
    from node import wiring

    settings = settings_for("models", config, data)
    registry = Registry(wiring.bundle_folders(settings))
    known = stages(settings)
    table = Table(box=None)
    for name in ("bundle", "stage"):
        table.add_column(name, no_wrap=True, overflow="fold")  # what other commands are given
    for name in ("task", "for", "licence", "sha256", "from"):
        table.add_column(name, overflow="fold")
    for bundle in registry.bundles:
        facts = _provenance(bundle)
        own = "radloop" if bundle.root.parent == SHIPPED else "a folder of this site"
        table.add_row(
            bundle.identity,
            known[bundle.identity].stage if bundle.identity in known else "-",
            _task(bundle),
            "/".join(bundle.modalities),
            facts.get("licence") or _licence(bundle),
            bundle.sha256[:8],
            facts.get("source", own),
        )
    out.print(table)
    for broken in registry.broken:
        err.print(
            f"[yellow]✗[/] {broken.root.name}: {broken.error.message} "
            f"[dim]({broken.error.code})[/]",
            highlight=False,
        )


@models_app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Say all that a bundle says of itself: what it finds, in which codes, and its provenance."""
    from models.registry import Registry
    from node import wiring

    settings = settings_for("models", config, data)
    bundle = Registry(wiring.bundle_folders(settings)).get(name)
    out.print(f"[bold]{bundle.identity}[/]  {bundle.title}", highlight=False)
    if bundle.description:
        out.print(bundle.description, highlight=False)
    facts = {"task": _task(bundle), "modalities": ", ".join(bundle.modalities)}
    facts |= {"inputs": ", ".join(each.name for each in bundle.inputs), "sha256": bundle.sha256}
    facts |= {"licence": _licence(bundle), **_provenance(bundle)}
    for key, value in facts.items():
        out.print(f"  {key:14} {value}", highlight=False, soft_wrap=True)
    table = Table("number", "finds", "code", "side", box=None)
    for segment in bundle.segments:
        side = segment.laterality.meaning if segment.laterality else ""
        code = f"{segment.type.value} {segment.type.scheme} {segment.type.meaning}"
        table.add_row(str(segment.number), segment.label, code, side)
    for finding in bundle.findings:
        code = f"{finding.code.value} {finding.code.scheme} {finding.code.meaning}"
        table.add_row(str(finding.number), finding.label, code, "")
    out.print(table)


@models_app.command("import")
def import_(
    what: Annotated[
        str,
        typer.Argument(
            metavar="PATH|NAME",
            help="A bundle, an nnU-Net or TotalSegmentator results folder, a zip of one, a .ts or"
            " .onnx file; or a NAME of MONAI's model zoo.",
        ),
    ],
    name: Name = None,
    version: Version = None,
    licence: Licence = None,
    codes: Codes = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="You have read the code that it brings.")
    ] = False,
    sha256: Annotated[
        str | None, typer.Option(help="Of the file, as its publisher says; else it is refused.")
    ] = None,
    modality: Annotated[
        list[str] | None, typer.Option(help="For which it is, where it does not say: CT, MR ...")
    ] = None,
    axes: Annotated[
        str | None, typer.Option(help="Which way nnU-Net's training images lay: RAS, LPS ...")
    ] = None,
    fold: Annotated[list[str] | None, typer.Option(help="Of nnU-Net; all by default.")] = None,
    mirroring: Annotated[bool, typer.Option(help="nnU-Net's mirrored copies.")] = True,
    source: Annotated[Source, typer.Option(help="Where a NAME is fetched.")] = "monaihosting",
    repository: Annotated[
        str | None, typer.Option(help="Its repository there, other than the zoo's own.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="A zip archive of NAME, on a mirror of your own.")
    ] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Check a model from elsewhere and install it as a bundle of this node."""
    from models.importing.model import Wish, import_model
    from node import wiring
    from node.zoo import download

    settings = settings_for("models", config, data)
    wish = Wish(
        name=name,
        version=version,
        licence=licence,
        codes=codes,
        allow_code=allow_code,
        sha256=sha256,
        modalities=tuple(modality or ()),
        axes=axes,
        folds=tuple(fold or ()),
        mirroring=mirroring,
    )
    site = wiring.imported_bundles(settings)
    path = Path(what)
    if path.exists() or not _ZOO_NAME.fullmatch(what):
        _installed(import_model(path, site, wish))
        return
    zoo_name, _, zoo_version = what.partition("@")
    with tempfile.TemporaryDirectory(prefix="radloop-zoo-") as folder:
        fetched = download(
            zoo_name,
            Path(folder),
            version=zoo_version or None,
            source=source,
            repository=repository,
            url=url,
            sha256=sha256,
        )
        _installed(import_model(fetched, site, _from_zoo(wish, zoo_name, url or source)))


@models_app.command("import-meshnet")
def import_meshnet(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="With model.json and its weights.")
    ],
    name: Name = None,
    version: Version = None,
    licence: Licence = None,
    codes: Codes = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Make a bundle of a brainchop MeshNet (a TensorFlow.js layers model)."""
    from models.importing.model import Wish
    from models.importing.model import import_meshnet as import_it
    from node import wiring

    settings = settings_for("models", config, data)
    wish = Wish(name=name, version=version, licence=licence, codes=codes)
    _installed(import_it(folder, wiring.imported_bundles(settings), wish))


def _from_zoo(wish: Wish, name: str, place: str) -> Wish:
    from dataclasses import replace

    return replace(wish, source=f"MONAI model zoo: {name}", notes={"fetched_from": place})


def _installed(bundle: Bundle) -> None:
    out.print(
        f"[green]✓[/] [bold]{bundle.identity}[/] is installed: {_task(bundle)} of "
        f"{len(bundle.segments) or len(bundle.findings)} kinds on {'/'.join(bundle.modalities)}, "
        f"sha256 {bundle.sha256[:12]}",
        highlight=False,
    )
    out.print("  Routes see it after a restart of the node.", highlight=False)


def _task(bundle: Bundle) -> str:
    words = re.findall(r"[A-Z][a-z]+", type(bundle.task).__name__)
    return f"{bundle.dimensions.upper()} {' '.join(words).lower()}"


def _licence(bundle: Bundle) -> str:
    from dicom.errors import UnknownLicence
    from models.importing.licences import licence_of

    try:
        found = licence_of([bundle.root], None)[0]
        return "unknown" if found.startswith(_NO_LICENCE) else found
    except UnknownLicence:
        return "unknown"


def _provenance(bundle: Bundle) -> dict[str, str]:
    from models.importing.draft import read_provenance

    return read_provenance(bundle.root)
