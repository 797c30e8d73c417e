"""What a bundle's table declares, as typed values: its task, its images, its clicks.

Each is held against the channels that the bundle's metadata gives its network.
"""

from __future__ import annotations

from dicom.errors import InvalidBundle
from dicom.seg import Segment
from models.table import METADATA, Channels, Table
from models.tasks import (
    Classification,
    Detection,
    Input,
    InstanceSegmentation,
    Prompted,
    Segmentation,
    Task,
)

_BACKGROUND = "background"


def declared_inputs(table: Table, given: dict[str, Channels]) -> tuple[Input, ...]:
    """Return the images that are needed; their channels are as many as the network's.

    Parameters
    ----------
    given : dict
        What the metadata says of each input of the network.

    Raises
    ------
    InvalidBundle
    """
    first = next(iter(given))
    if table.inputs:
        rows = tuple(row.input(first) for row in table.inputs)
    else:
        rows = tuple(Input(key, key) for key in given)
    if len({row.name.casefold() for row in rows}) < len(rows):
        raise InvalidBundle("radloop.inputs: the same name twice")
    each = 2 * table.neighbours + 1 if table.dimensions == "2.5d" else 1
    keys = [row.key for row in rows]
    known = set(keys) <= set(given)  # else the bundle's own transforms put them together
    for key in given if known else [first]:
        channels = sum(
            each * (3 if row.colour else 1) for row in rows if not known or row.key == key
        )
        if channels != given[key].num_channels:
            raise InvalidBundle(
                f"{METADATA}: network_data_format.inputs.{key}.num_channels: "
                f"{given[key].num_channels}, but radloop.inputs give {channels}"
            )
    return rows


def declared_prompts(table: Table, given: dict[str, Channels]) -> Prompted | None:
    """Return which inputs are made of clicks; one is left, the image.

    Raises
    ------
    InvalidBundle
    """
    if table.prompts is None:
        return None
    prompted = table.prompts.prompted()
    named = (prompted.positive, prompted.negative, prompted.previous, prompted.box)
    made = [name for name in named if name]
    names = [each.name for each in declared_inputs(table, given)]
    if len(set(made)) < len(made) or not set(made) <= set(names):
        raise InvalidBundle("radloop.prompts: names that are not those of different inputs")
    if len(names) != len(made) + 1:
        raise InvalidBundle("radloop.prompts: besides them there is one input, the image")
    if table.task != "segmentation" or len(table.segments) != 1 or table.dimensions != "3d":
        raise InvalidBundle("radloop.prompts: only a 3d segmentation of one segment takes clicks")
    if table.after is not None:
        raise InvalidBundle("radloop.prompts: no other bundle looks first where clicks say where")
    return prompted


def declared_task(table: Table, outputs: dict[str, Channels], place: str) -> Task:
    """Return the kind of task, with what belongs to it and nothing else.

    Parameters
    ----------
    outputs : dict
        What the metadata says of each output of the network.
    place : str
        Where the table stands, for messages.

    Raises
    ------
    InvalidBundle
    """
    segmenting = table.task in ("segmentation", "instances")
    wanted, other = ("segments", "findings") if segmenting else ("findings", "segments")
    if not getattr(table, wanted):
        raise InvalidBundle(f"{place}.{wanted}: a {table.task} needs at least one")
    if getattr(table, other):
        raise InvalidBundle(f"{place}.{other}: a {table.task} has none")
    output_name, output = next(iter(outputs.items()))
    if not segmenting and table.background is not None:
        raise InvalidBundle(f"{place}.background: a {table.task} has none")
    if not segmenting:
        return _finding_task(table, output, place)
    segments = _segments(table, place)
    if table.background is not None and (table.task != "segmentation" or table.overlapping):
        raise InvalidBundle(
            f"{place}.background: only a segmentation whose segments do not overlap has it"
        )
    if table.task == "segmentation" and table.values is not None:
        values = _value_numbers(table.values, segments, place)
        return Segmentation(segments, (), values, background=table.background)
    channels = _channel_numbers(table, output_name, output, segments)
    if table.task == "instances":
        return InstanceSegmentation(
            segments,
            channels,
            map_name=table.instances.map or "",
            kinds_name=table.instances.kinds or "",
            min_voxels=table.instances.min_voxels,
        )
    return Segmentation(
        segments, channels, overlapping=table.overlapping, background=table.background
    )


def _finding_task(table: Table, output: Channels, place: str) -> Classification | Detection:
    findings = tuple(row.finding() for row in table.findings)
    numbers = [finding.number for finding in findings]
    if len(set(numbers)) < len(numbers):
        raise InvalidBundle(f"{place}.findings: the same number twice")
    if table.task == "detection":
        return Detection(findings, table.min_score)
    if sorted(numbers) != list(range(output.num_channels)):
        raise InvalidBundle(
            f"{place}.findings: not one for each of the network's {output.num_channels} classes"
        )
    ordered = tuple(sorted(findings, key=lambda finding: finding.number))
    return Classification(ordered, table.activation, table.over_slices, table.question)


def _segments(table: Table, place: str) -> tuple[Segment, ...]:
    for field, values in (
        ("number", [row.number for row in table.segments]),
        ("label", [row.label.casefold() for row in table.segments]),
    ):
        if len(set(values)) < len(values):
            raise InvalidBundle(f"{place}.segments: the same {field} twice")
    return tuple(
        Segment(
            number=row.number,
            label=row.label,
            category=row.category,
            type=row.type,
            region=row.region,
            laterality=row.laterality,
            rgb=row.rgb,
        )
        for row in table.segments
    )


def _value_numbers(
    values: dict[str, str], segments: tuple[Segment, ...], place: str
) -> dict[int, int]:
    """Return the segment number of each value of a map that holds no channel indices."""
    number_of = {segment.label.casefold(): segment.number for segment in segments}
    numbers = {0: 0}
    for value, label in values.items():
        if label.casefold() not in number_of:
            raise InvalidBundle(f"{place}.values.{value}: {label!r} is no segment")
        numbers[int(value)] = number_of[label.casefold()]
    for segment in segments:
        if segment.number not in numbers.values():
            raise InvalidBundle(f"{place}.values: none for the segment {segment.label!r}")
    return numbers


def _channel_numbers(
    table: Table, output_name: str, output: Channels, segments: tuple[Segment, ...]
) -> tuple[int, ...]:
    """Return the segment number of each channel; each segment has exactly one channel."""
    place = f"{METADATA}: network_data_format.outputs.{output_name}.channel_def"
    channels = output.channel_def
    if table.channels is not None:
        place, channels = "radloop.channels", table.channels
    names = {int(channel): label.casefold() for channel, label in channels.items()}
    if sorted(names) != list(range(len(names))) or not names:
        raise InvalidBundle(f"{place}: channels are not numbered 0, 1, 2 ...")
    if table.channels is None and output.num_channels != len(names):
        raise InvalidBundle(f"{place}: {len(names)} channels, but num_channels says otherwise")
    number_of = {segment.label.casefold(): segment.number for segment in segments}
    number_of[_BACKGROUND] = 0
    for channel, label in sorted(names.items()):
        if label not in number_of:
            raise InvalidBundle(f"{place}.{channel}: {label!r} has no entry in radloop.segments")
    numbers = tuple(number_of[names[channel]] for channel in range(len(names)))
    if len(set(numbers)) < len(numbers):
        raise InvalidBundle(f"{place}: two channels of one name")
    for segment in segments:
        if segment.number not in numbers:
            raise InvalidBundle(f"{place}: no channel for the segment {segment.label!r}")
    return numbers
