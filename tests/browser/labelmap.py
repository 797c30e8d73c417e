"""The labelmap that the viewer's tools see and edit, voxel by voxel."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page

from dicom.study import Series

# Each labelmap image lies over the image that it refers to; that one has the SOP Instance UID.
_READ = """() => {
    const { cache, metaData } = window.cornerstone;
    const { segmentationService, viewportGridService } = window.services;
    const active = viewportGridService.getActiveViewportId();
    const segmentation = segmentationService.getActiveSegmentation(active);
    if (!segmentation) return null;
    const { representationData } = segmentation;
    const found = [];
    for (const imageId of representationData.Labelmap.imageIds) {
        const image = cache.getImage(imageId);
        if (!image) return null;
        const instance = metaData.get('instance', image.referencedImageId);
        const values = Uint8Array.from(image.voxelManager.getScalarData());
        let text = '';
        for (const value of values) text += String.fromCharCode(value);
        found.push({ sop: instance.SOPInstanceUID, rows: image.rows, columns: image.columns,
                     values: btoa(text) });
    }
    return found;
}"""


def read_labelmap(page: Page, series: Series) -> NDArray[np.uint8]:
    """Return the active segmentation, shape (instances, rows, columns), in the series' order."""
    page.wait_for_function(f"() => ({_READ})()?.length")
    found: list[dict[str, Any]] = page.evaluate(_READ)
    planes = {
        each["sop"]: np.frombuffer(base64.b64decode(each["values"]), np.uint8).reshape(
            each["rows"], each["columns"]
        )
        for each in found
    }
    assert len(planes) == len(found)
    shape = found[0]["rows"], found[0]["columns"]
    empty = np.zeros(shape, np.uint8)
    order = [instance.sop_instance_uid for instance in series.instances]
    assert planes.keys() <= set(order)
    return np.stack([planes.get(uid, empty) for uid in order])
