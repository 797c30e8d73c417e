"""Small nnU-Net v2 results folders with weights of chance, as nnU-Net writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

PATCH = (16, 24, 20)


def plans(**changes: Any) -> dict[str, Any]:
    """The plans.json of a small 3d_fullres network, transposed and not isotropic."""
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(PATCH),
        "median_image_size_in_voxels": [30.0, 40.0, 40.0],
        "spacing": [2.0, 1.5, 1.25],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling(3),
        "resampling_fn_seg_kwargs": {**resampling(1), "is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling(1),
        "batch_dice": False,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": [4, 8, 8],
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3]] * 3,
                "strides": [[1, 1, 1], [2, 2, 2], [1, 2, 2]],
                "n_conv_per_stage": [1, 1, 1],
                "n_conv_per_stage_decoder": [1, 1],
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        **changes,
    }
    intensity = {"mean": 60.0, "std": 45.0, "percentile_00_5": -40.0, "percentile_99_5": 180.0}
    return {
        "dataset_name": "Dataset042_Small",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "experiment_planner_used": "ExperimentPlanner",
        "foreground_intensity_properties_per_channel": {
            "0": {**intensity, "median": 60.0, "min": -100.0, "max": 300.0},
            "1": {**intensity, "mean": 20.0, "median": 60.0, "min": -100.0, "max": 300.0},
        },
    }


def older_plans(**changes: Any) -> dict[str, Any]:
    """The same network as nnU-Net before 2.5 spells it out."""
    document = plans(
        UNet_class_name="PlainConvUNet",
        UNet_base_num_features=4,
        unet_max_num_features=8,
        n_conv_per_stage_encoder=[1, 1, 1],
        n_conv_per_stage_decoder=[1, 1],
        num_pool_per_axis=[1, 2, 2],
        pool_op_kernel_sizes=[[1, 1, 1], [2, 2, 2], [1, 2, 2]],
        conv_kernel_sizes=[[3, 3, 3]] * 3,
        **changes,
    )
    del document["configurations"]["3d_fullres"]["architecture"]
    return document


def resampling(order: int) -> dict[str, Any]:
    return {"is_seg": False, "order": order, "order_z": 0, "force_separate_z": None}


def dataset(**changes: Any) -> dict[str, Any]:
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "spleen": 2, "kidney_left": 3},
        "numTraining": 3,
        "file_ending": ".nii.gz",
        "licence": "CC-BY-4.0",
        **changes,
    }


def write_results(
    folder: Path,
    plans_document: dict[str, Any],
    dataset_document: dict[str, Any],
    *,
    folds: Sequence[str] = ("0",),
    mirror_axes: tuple[int, ...] | None = (0, 1, 2),
    name: str = "Dataset042_Small",
) -> Path:
    """Write a results folder; its networks need dynamic_network_architectures."""
    root = folder / name / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    root.mkdir(parents=True)
    (root / "plans.json").write_text(json.dumps(plans_document))
    (root / "dataset.json").write_text(json.dumps(dataset_document))
    inputs = len(dataset_document["channel_names"])
    order = dataset_document.get("regions_class_order")
    outputs = len(order) if order else len(dataset_document["labels"])
    for number, fold in enumerate(folds):
        torch.manual_seed(number)
        network = network_of(inputs, outputs)
        with torch.no_grad():  # answers that differ from voxel to voxel, no class ahead of others
            for weights in (each for each in network.parameters() if each.ndim == 5):
                weights.normal_(std=0.3)
                if weights.shape[1] > 1:
                    weights -= weights.mean(dim=1, keepdim=True)
        (root / f"fold_{fold}").mkdir()
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": {},
            "logging": {"mean_fg_dice": [0.5]},
            "current_epoch": 1,
            "init_args": {"configuration": "3d_fullres", "fold": 0},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": mirror_axes,
        }
        torch.save(checkpoint, root / f"fold_{fold}" / "checkpoint_final.pth")
    return root


def network_of(inputs: int, outputs: int) -> torch.nn.Module:
    """The network of :func:`plans`."""
    unet = import_module("dynamic_network_architectures.architectures.unet")
    network: torch.nn.Module = unet.PlainConvUNet(
        input_channels=inputs,
        n_stages=3,
        features_per_stage=[4, 8, 8],
        conv_op=torch.nn.Conv3d,
        kernel_sizes=[[3, 3, 3]] * 3,
        strides=[[1, 1, 1], [2, 2, 2], [1, 2, 2]],
        n_conv_per_stage=[1, 1, 1],
        num_classes=outputs,
        n_conv_per_stage_decoder=[1, 1],
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )
    return network
