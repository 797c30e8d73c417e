"""A bundle's configuration may predict, and do nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dicom.errors import InvalidBundle
from models.allowed import (
    allowed_configuration,
    calls_own_code,
    find_class,
    pretrained_arguments,
)
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
        *("monai.networks.nets.MILModel", "$@network_def", "@network_def", "", 3),
        *("scripts", "scripts.", "other.code.Thing", "SaveClassificationd"),
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
        ({"_target_": "SwinUNETR", "pretrained": "/etc/model.pt"}, "not the bundle's"),
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


def test_weights_are_the_bundles_own_and_none_are_fetched() -> None:
    kept = allowed_configuration(with_value({"_target_": "FlexibleUNet", "pretrained": True}))
    assert kept["inferer"]["value"]["pretrained"] is False  # type: ignore[index, call-overload]
    assert pretrained_arguments(find_class("EfficientNetBN")) == {"pretrained": False}


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("(lambda x: x[1:])(@numbers)", None),  # a lambda is given to MONAI, not called here
        ("lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, 0))", [[4], [1], [0]]),
        ("lambda x: torch.nan_to_num(x, nan=255)", [[0, 0, 7], [5, 0, 0], [0, 0, 0]]),
    ],
)
def test_a_lambda_may_turn_tensors_into_tensors(expression: str, result: object) -> None:
    import torch
    from monai.bundle import ConfigParser

    text = configuration(inferer={"value": f"${expression}"}, numbers=[5, 6, 7])
    if result is None:
        with pytest.raises(InvalidBundle, match="not allowed"):
            allowed_configuration(text)
        return
    function = ConfigParser(dict(allowed_configuration(text))).get_parsed_content("inferer")
    given = torch.tensor([[0.0, 5.0, 0.0], [0.0, 0.0, 0.0], [7.0, 0.0, 0.0]])
    assert function["value"](given).T.tolist() == result


@pytest.mark.parametrize(
    "expression",
    [
        *("lambda x: x.__class__", "lambda x: open(x)", "lambda x, y=exec: y(x)", "lambda *x: x"),
        *("lambda x: torch.load(x)", "lambda x: torch.ops.load(x)", "lambda len: len(1)"),
        *("lambda reference_: reference_", "@network_def.eval()", "torch.load(@x)"),
        *(
            "@network_def.to('cpu')",
            "@network_def.save('/tmp/x')",
            "monai.utils.set_determinism(1)",
        ),
    ],
)
def test_a_lambda_or_a_call_reaches_nothing_else(expression: str) -> None:
    with pytest.raises(InvalidBundle, match=r"inferer.value"):
        allowed_configuration(with_value(f"${expression}"))


def test_a_file_is_loaded_from_the_bundles_own_models_only() -> None:
    architecture = "$torch.load(@path, map_location=torch.device('cuda'))"
    parts = {"inferer": {"value": "$@arch['node_a']"}, "arch": architecture}
    kept = allowed_configuration(configuration(path="$@bundle_root + '/models/search.pt'", **parts))
    assert kept["arch"] == "$radloop_load('models/search.pt')"
    for path in (
        "/etc/passwd",
        "$@bundle_root + '/models/../../x'",
        "$@bundle_root + '/x.pt'",
        None,
    ):
        with pytest.raises(InvalidBundle, match="models/ only"):
            allowed_configuration(configuration(path=path, **parts))


def test_a_yaml_configuration_is_read_as_plain_data() -> None:
    text = "inferer: {_target_: SimpleInferer}\npreprocessing: {_target_: Compose}\n"
    assert set(allowed_configuration(text, "configs/inference.yaml")) == {
        "inferer",
        "preprocessing",
    }
    with pytest.raises(InvalidBundle, match=r"inference.yaml is not YAML"):
        allowed_configuration("!!python/object/apply:os.system [x]", "configs/inference.yaml")


def test_the_bundles_own_code_is_known_as_such() -> None:
    own = {"_target_": "scripts.nets.blocks.Own"}
    assert calls_own_code(allowed_configuration(configuration(network_def=own)))
    assert not calls_own_code(allowed_configuration(configuration()))
    with pytest.raises(InvalidBundle, match=r"not the name of a class|is not of"):
        find_class("scripts.nets.blocks.Own")


def test_a_device_is_always_the_one_that_was_chosen() -> None:
    text = with_value("$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')")
    assert allowed_configuration(text)["inferer"] == {
        "_target_": "SimpleInferer",
        "value": "@device",
    }


def test_a_hash_after_a_name_is_a_place_in_it() -> None:
    from monai.bundle import ConfigParser

    text = configuration(
        inferer={"value": "$[1.5] if @shown#fine else [3.0]"}, shown={"fine": True}
    )
    parser = ConfigParser(dict(allowed_configuration(text)))
    assert parser.get_parsed_content("inferer")["value"] == [1.5]
