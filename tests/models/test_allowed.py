"""A bundle's configuration may predict, and do nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dicom.errors import InvalidBundle
from models.allowed import allowed_configuration, find_class
from tests.bundles import inference


def configuration(**parts: Any) -> str:
    return json.dumps({**inference(), **parts})


def with_value(value: Any) -> str:
    return configuration(inferer={"_target_": "SimpleInferer", "value": value})


def test_what_a_prediction_does_not_need_is_dropped_unread() -> None:
    kept = allowed_configuration(configuration(imports=["$import os"], evil="$os.system('true')"))
    assert set(kept) == {"preprocessing", "network_def", "inferer", "postprocessing"}


def test_what_is_referred_to_is_kept_and_checked() -> None:
    kept = allowed_configuration(configuration(inferer="@chosen", chosen={"_target_": "X"}))
    assert "chosen" in kept
    with pytest.raises(InvalidBundle, match="evil"):
        allowed_configuration(configuration(inferer="@chosen", chosen="@evil", evil="$exec('1')"))


def test_loading_and_saving_steps_are_taken_out() -> None:
    text = json.dumps(allowed_configuration(json.dumps(inference())))
    assert "LoadImage" not in text
    assert "SaveImage" not in text


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "subprocess.Popen", "builtins.eval", "eval", "pathlib.Path"),
        *("torch.load", "torch.hub.load", "torch.jit.load", "torch.serialization.Load"),
        *("monai.bundle.run", "monai.bundle.ConfigParser", "monai.apps.download_url"),
        *("monai.data.Dataset", "monai.transforms.io.array.os.system"),
        *("monai.transforms.LoadImage", "SaveImaged", "monai.transforms.WriteFileMappingd"),
        *("TorchVisiond", "RandTorchIOd", "CuCIMd", "PatchInferer", "Transchex"),
        *("monai.networks.trt_compiler.TrtCompiler", "ZarrAvgMerger", "WSISlidingWindowSplitter"),
        *("monai.networks.nets.TorchVisionFCModel", "$@network_def", "@network_def", "", 3),
        *("monai.transforms.", ".Compose", "Compose ", "Comp\nose", "monai.transforms..Compose"),
    ],
)
def test_a_class_outside_the_packages_is_refused_by_name(target: object) -> None:
    with pytest.raises(InvalidBundle, match=r"configs/inference.json: inferer._target_"):
        allowed_configuration(configuration(inferer={"_target_": target}))


@pytest.mark.parametrize(
    "expression",
    [
        *("__import__('os').system('true')", "open('/etc/passwd').read()", "exec('1')"),
        *("import os", "from os import system", "os.system('true')", "torch.load('x')"),
        *("@network_def.__class__", "@network_def.to('cpu')", "().__class__.__mro__"),
        *("lambda: 1", "[x for x in (1, 2)]", "(x := 3)", "f'{1}'", "2 ** 9", "1; 2", ""),
        *(
            "'@network_def'",
            "'a' + '@x::y'",
            "1 # @x",
            "torch.float32.__class__",
            "getattr(1, 'x')",
        ),
        *("(range)(3)(4)", "print", "b'x'", "not_there", "*[1]"),
    ],
)
def test_an_expression_beyond_arithmetic_is_refused(expression: str) -> None:
    with pytest.raises(InvalidBundle, match=r"inferer.value"):
        allowed_configuration(with_value(f"${expression}"))


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("1 + 2 * @number", 9),
        ("[@number, -1]", [4, -1]),
        ("@numbers[1:]", [6, 7]),
        ("3 if @number > 2 else 1", 3),
        ("list(range(@number))", [0, 1, 2, 3]),
        ("max(@numbers) // 2", 3),
        ("@numbers::1", 6),
    ],
)
def test_small_expressions_mean_what_they_say(expression: str, result: object) -> None:
    from monai.bundle import ConfigParser

    text = configuration(inferer={"value": f"${expression}"}, number=4, numbers=[5, 6, 7])
    parser = ConfigParser(dict(allowed_configuration(text)))
    assert parser.get_parsed_content("inferer")["value"] == result


def test_number_types_are_allowed() -> None:
    import torch
    from monai.bundle import ConfigParser

    kept = allowed_configuration(configuration(inferer={"value": "$torch.float32"}))
    assert ConfigParser(dict(kept)).get_parsed_content("inferer")["value"] is torch.float32


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("%/etc/secrets.json", "macros"),
        ("%network_def", "macros"),
        ("@#near", "relative"),
        ("@::near", "relative"),
        ({"_target_": "Compose", "_mode_": "debug"}, "_mode_"),
        ({"_target_": "Compose", "_debug_": True}, "_debug_"),
        ({"_target_": "resnet.ResNet"}, "is not of"),
        ({"_target_": "SwinUNETR", "pretrained": True}, "download"),
        ({"_target_": "Compose", "_requires_": ["$exec('1')"]}, "not allowed"),
        ("@absent", "absent"),
        ("$@absent + 1", "absent"),
    ],
)
def test_other_ways_out_are_closed(value: object, reason: str) -> None:
    with pytest.raises(InvalidBundle, match=reason):
        allowed_configuration(with_value(value))


def test_the_device_is_given_by_us() -> None:
    kept = allowed_configuration(configuration(inferer="@device", device="$torch.device('cuda')"))
    assert "device" not in kept


@pytest.mark.parametrize(
    "target",
    ["UNet", "monai.networks.nets.unet.UNet", "Compose", "SlidingWindowInferer", "torch.nn.Conv3d"],
)
def test_classes_are_found_where_they_live(target: str) -> None:
    assert find_class(target).__name__ == target.rpartition(".")[2]


@pytest.mark.parametrize(
    "target",
    ["NoSuchThing", "monai.transforms.io.array.Path", "monai.networks.nets.no_such.UNet"],
)
def test_a_name_that_leads_elsewhere_is_refused(target: str) -> None:
    with pytest.raises(InvalidBundle, match="no class"):
        find_class(target)


def test_a_class_that_downloads_unless_told_not_to_must_be_told() -> None:
    with pytest.raises(InvalidBundle, match="pretrained: false"):
        find_class("EfficientNetBN", {"model_name", "spatial_dims"})
    assert find_class("EfficientNetBN", {"model_name", "pretrained"}).__name__ == "EfficientNetBN"
