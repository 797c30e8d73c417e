/*
 * The labelmaps that OHIF holds: read as they are drawn, written into, copied.
 *
 * One labelmap image lies over one image of the series. Segments that overlap lie in layers: OHIF's
 * plain viewports keep them one after the other in one list, so that an image of the series comes
 * as often as there are layers; where Cornerstone keeps layers apart, a layer may call a segment by
 * another value (`segmentBindings`).
 */

import { isEmpty, lay } from './masks.js';
import { command, displaySet, instanceOf, libraries, service, viewportOf } from './viewer.js';

const OURS = 'radloop:'; // ids of segmentations that no SEG of the archive was loaded into
const DIFFERENCE = 'radloop-difference:';
const QUIET_MS = 500;

/** Cornerstone's state of a segmentation; null when there is none. */
export function stateOf(segmentationId) {
  const { state } = libraries().cornerstoneTools.segmentation;
  return state.getSegmentation(segmentationId) ?? null;
}

/** Whether a segmentation may be edited and saved: a labelmap that is no picture of a difference. */
export function isEditable(segmentationId) {
  const labelmap = stateOf(segmentationId)?.representationData?.Labelmap;
  return Boolean(labelmap) && !isDifference(segmentationId);
}

export function isDifference(segmentationId) {
  return segmentationId.startsWith(DIFFERENCE);
}

/** The segmentation that tools draw into, in the active viewport; null when there is none. */
export function activeSegmentation() {
  const segmentations = service('segmentationService');
  const viewportId = service('viewportGridService').getActiveViewportId();
  const active = segmentations.getActiveSegmentation(viewportId);
  return active && isEditable(active.segmentationId) ? active : null;
}

/** The images (a display set) that a segmentation was made on. */
export function imagesOf(segmentationId) {
  const { referencedImageIds, imageIds } = stateOf(segmentationId).representationData.Labelmap;
  const { cache } = libraries().cornerstone;
  const first = referencedImageIds?.[0] ?? cache.getImage(imageIds[0])?.referencedImageId;
  return service('displaySetService')
    .getActiveDisplaySets()
    .find(set => set.imageIds?.includes(first));
}

/** All planes of a segmentation, layer by layer: `{image, values, toSegment}`. */
export function layersOf(segmentationId) {
  const { Labelmap } = stateOf(segmentationId).representationData;
  const { cache } = libraries().cornerstone;
  const kept = Object.values(Labelmap.labelmaps ?? {}).filter(one => one.imageIds?.length);
  const stored = kept.length ? kept : [{ imageIds: Labelmap.imageIds }];
  const layers = [];
  for (const { labelmapId, imageIds } of stored) {
    const toSegment = valuesToSegments(Labelmap.segmentBindings, labelmapId);
    const seen = new Map();
    const first = layers.length;
    for (const imageId of imageIds) {
      const image = cache.getImage(imageId);
      const layer = first + (seen.get(image.referencedImageId) ?? 0);
      seen.set(image.referencedImageId, layer - first + 1);
      (layers[layer] ??= []).push({ image, values: image.voxelManager.getScalarData(), toSegment });
    }
  }
  return layers;
}

function valuesToSegments(bindings, labelmapId) {
  const other = Object.entries(bindings ?? {})
    .filter(([segment, bound]) => bound.labelmapId === labelmapId && bound.labelValue !== +segment)
    .map(([segment, bound]) => [bound.labelValue, Number(segment)]);
  return other.length ? new Map(other) : null;
}

/** The numbers of the segments in a plane. */
function numbers({ values, toSegment }) {
  return toSegment ? values.map(value => toSegment.get(value) ?? value) : values;
}

/**
 * What a labels document says of the voxels: `{rows, columns, bits, layers, planes}`.
 *
 * `pick` makes what is sent of a plane (a copy); planes without a voxel are left out.
 */
export function read(segmentationId, pick = plane => plane.slice()) {
  const planes = [];
  let shape = null;
  const layers = layersOf(segmentationId).map(layer => {
    const named = [];
    for (const plane of layer) {
      shape ??= { rows: plane.image.rows, columns: plane.image.columns };
      if (isEmpty(plane.values)) {
        continue;
      }
      const picked = pick(numbers(plane));
      if (!isEmpty(picked)) {
        named.push(instanceOf(plane.image.referencedImageId));
        planes.push(picked);
      }
    }
    return named;
  });
  const bits = planes.some(plane => plane.BYTES_PER_ELEMENT > 1) ? 16 : 8;
  return { ...shape, bits, layers, planes };
}

/** How `lay` reaches a named slice: its planes, one of each layer. */
function planesBySlice(segmentationId) {
  const found = new Map();
  for (const layer of layersOf(segmentationId)) {
    for (const plane of layer) {
      const key = keyOf(instanceOf(plane.image.referencedImageId));
      found.set(key, [...(found.get(key) ?? []), plane]);
    }
  }
  return found;
}

/**
 * Lay masks of one segment into a segmentation, as one step that can be undone.
 *
 * `layers` and `planes` as in a labels document, any value but 0 is within the mask. `takes`: like a
 * brush, it takes voxels of other segments that are not locked. Returns how many voxels changed, and a
 * function that takes it back.
 */
export function layMasks(segmentationId, segment, { layers, planes }, { replace, takes }) {
  const slices = planesBySlice(segmentationId);
  const layerOfSegment = segmentLayer(slices, segment);
  const { segments } = stateOf(segmentationId);
  const mayTake = number => takes && !segments[number]?.locked;
  const before = new Map();
  let changed = 0;
  layers.flat().forEach((name, index) => {
    const plane = slices.get(keyOf(name))?.[layerOfSegment];
    if (!plane) {
      return;
    }
    if (!before.has(plane)) {
      before.set(plane, plane.values.slice());
    }
    changed += lay(plane.values, planes[index], segment, { replace, mayTake });
  });
  const touched = [...before].filter(([plane, old]) => !same(plane.values, old));
  const after = new Map(touched.map(([plane]) => [plane, plane.values.slice()]));
  const put = values => {
    values.forEach((old, plane) => plane.values.set(old));
    tellChanged(segmentationId, [...values.keys()]);
  };
  const undo = () => put(new Map(touched));
  if (touched.length) {
    put(after);
    remember({ undo, redo: () => put(after) });
  }
  return { changed, undo };
}

/** The layer that holds a segment: the first that has a voxel of it. */
function segmentLayer(slices, segment) {
  for (const planes of slices.values()) {
    const found = planes.findIndex(plane => planes.length > 1 && plane.values.includes(segment));
    if (found > 0) {
      return found;
    }
  }
  return 0;
}

/** Put a labels document's voxels into a new, empty segmentation that has its layers. */
export function fill(segmentationId, { head, planes }) {
  const layers = layersOf(segmentationId);
  let at = 0;
  head.layers.forEach((named, index) => {
    const slices = new Map(
      layers[index].map(plane => [keyOf(instanceOf(plane.image.referencedImageId)), plane])
    );
    for (const name of named) {
      slices.get(keyOf(name))?.values.set(planes[at]);
      at += 1;
    }
  });
  tellChanged(segmentationId, layers.flat());
}

/**
 * Make an empty segmentation on images, show it in a viewport, and make it the active one.
 *
 * `segments`: `[{number, label, colour}]`.
 */
export async function create(images, { label, segments, layers = 1, viewportId, id = newId() }) {
  const { cornerstone } = libraries();
  const made = [];
  for (let layer = 0; layer < layers; layer += 1) {
    const { imageLoader } = cornerstone;
    made.push(...(await imageLoader.createAndCacheDerivedLabelmapImages(images.imageIds)));
  }
  const imageIds = made.map(image => image.imageId);
  await register(id, { label, segments, imageIds, images, viewportId });
  return id;
}

/** Make a segmentation as `create` does, with the voxels of a labels document: none of it is an edit. */
export async function createFilled(images, options, found) {
  const id = newId();
  untold.add(id);
  try {
    await create(images, { ...options, layers: Math.max(1, found.head.layers.length), id });
    fill(id, found);
  } finally {
    untold.delete(id);
  }
  return id;
}

async function register(id, { label, segments, imageIds, images, viewportId }) {
  const segmentations = service('segmentationService');
  segmentations.addOrUpdateSegmentation({
    segmentationId: id,
    representation: { type: 'Labelmap', data: { imageIds, referencedImageIds: images.imageIds } },
    config: {
      label,
      fallbackLabel: label,
      segments: Object.fromEntries(
        segments.map(({ number, label: name }, index) => [
          number,
          { segmentIndex: number, label: name, locked: false, active: index === 0 },
        ])
      ),
    },
  });
  await segmentations.addSegmentationRepresentation(viewportId, {
    segmentationId: id,
    type: 'Labelmap',
  });
  for (const { number, colour } of segments) {
    if (colour) {
      segmentations.setSegmentColor(viewportId, id, number, [...colour, 255]);
    }
  }
  segmentations.setActiveSegmentation(viewportId, id);
}

/**
 * Copy what was edited of a loaded SEG to a segmentation of its own, and load the SEG as it is stored
 * into the one that OHIF knows it by. Returns the id of the copy.
 *
 * Nothing is removed: OHIF would clear the viewport of a segmentation that goes.
 */
export async function putAside(segmentationId, { label, viewportId }) {
  const id = newId();
  const both = [segmentationId, id];
  both.forEach(one => untold.add(one));
  try {
    await copyAside(segmentationId, id, { label, viewportId });
  } finally {
    both.forEach(one => untold.delete(one));
  }
  return id;
}

const untold = new Set(); // segmentations whose changes are no edits

async function copyAside(segmentationId, id, { label, viewportId }) {
  const set = displaySet(segmentationId);
  const drawn = read(segmentationId);
  await create(imagesOf(segmentationId), {
    label,
    segments: segmentsOf(segmentationId),
    layers: Math.max(1, drawn.layers.length),
    viewportId,
    id,
  });
  fill(id, { head: { layers: drawn.layers }, planes: drawn.planes });
  set.isLoaded = false;
  await set.load({ headers: service('userAuthenticationService').getAuthorizationHeader() });
  const stored = new Map();
  for (const image of set.labelMapImages.flat()) {
    const values = image.voxelManager.getScalarData();
    stored.set(image.referencedImageId, [...(stored.get(image.referencedImageId) ?? []), values]);
  }
  const layers = layersOf(segmentationId);
  layers.forEach((layer, index) => {
    for (const { image, values } of layer) {
      values.set(stored.get(image.referencedImageId)[index]);
    }
  });
  tellChanged(segmentationId, layers.flat());
}

/** The segments of a segmentation: `[{number, label, colour}]`, by number. */
export function segmentsOf(segmentationId) {
  const segmentations = service('segmentationService');
  const [viewportId] = segmentations.getViewportIdsWithSegmentation(segmentationId);
  return Object.values(stateOf(segmentationId).segments)
    .filter(segment => segment?.segmentIndex > 0)
    .map(({ segmentIndex, label }) => ({
      number: segmentIndex,
      label,
      colour: viewportId
        ? [...segmentations.getSegmentColor(viewportId, segmentationId, segmentIndex)].slice(0, 3)
        : null,
    }));
}

/** Take segmentations of a kind out of the viewer. */
export function removeDifferences() {
  const segmentations = service('segmentationService');
  segmentations
    .getSegmentations()
    .map(one => one.segmentationId)
    .filter(isDifference)
    .forEach(id => segmentations.remove(id));
}

export function newId() {
  return OURS + crypto.randomUUID();
}

export function differenceId() {
  return DIFFERENCE + crypto.randomUUID();
}

/** Show that voxels were changed, and tell everybody who listens. */
function tellChanged(segmentationId, planes) {
  const { cornerstoneTools } = libraries();
  for (const { image, values } of planes) {
    image.voxelManager.setScalarData(values);
  }
  const { imageIds } = stateOf(segmentationId).representationData.Labelmap;
  const slices = planes.map(({ image }) => imageIds.indexOf(image.imageId));
  const { triggerSegmentationDataModified } =
    cornerstoneTools.segmentation.triggerSegmentationEvents;
  triggerSegmentationDataModified(segmentationId, slices);
}

/** A number that differs, but for chance, when any voxel does. */
export function fingerprint(segmentationId) {
  let sum = 0;
  layersOf(segmentationId).forEach((layer, index) => {
    layer.forEach(({ values }, slice) => {
      for (let at = 0; at < values.length; at += 1) {
        if (values[at] !== 0) {
          sum = (Math.imul(sum, 31) + Math.imul(at + 1, values[at]) + slice + index) | 0;
        }
      }
    });
  });
  return sum;
}

/**
 * Call `heard(segmentationId)` when voxels were changed, by a tool or by us; return how to stop.
 *
 * Cornerstone tells the same when it only draws a labelmap, so at each slice that is turned to. It
 * names the slices that a tool changed; where it does not, the voxels themselves are looked at, when
 * it is quiet.
 */
export function onDrawn(heard) {
  const { cornerstone, cornerstoneTools } = libraries();
  const name = cornerstoneTools.Enums.Events.SEGMENTATION_DATA_MODIFIED;
  const known = new Map();
  const looking = new Map();
  const look = id => {
    if (!stateOf(id)) {
      return;
    }
    const before = known.get(id);
    known.set(id, fingerprint(id));
    if (before !== undefined && before !== known.get(id)) {
      heard(id);
    }
  };
  const listener = ({ detail: { segmentationId: id, modifiedSlicesToUse: slices } }) => {
    if (!stateOf(id) || !isEditable(id)) {
      return;
    }
    if (untold.has(id)) {
      known.delete(id);
    } else if (slices?.length) {
      known.delete(id);
      heard(id);
    } else {
      clearTimeout(looking.get(id));
      looking.set(id, setTimeout(look, QUIET_MS, id));
    }
  };
  cornerstone.eventTarget.addEventListener(name, listener);
  return () => {
    cornerstone.eventTarget.removeEventListener(name, listener);
    looking.forEach(timer => clearTimeout(timer));
  };
}

/** Put a step on OHIF's own list of what can be undone (Ctrl+Z). */
function remember({ undo, redo }) {
  const { DefaultHistoryMemo } = libraries().cornerstone.utilities.HistoryMemo;
  DefaultHistoryMemo.push({
    id: crypto.randomUUID(),
    operationType: 'labelmap',
    restoreMemo: isUndo => (isUndo ? undo() : redo()),
  });
}

function keyOf({ SOPInstanceUID, frame }) {
  return `${SOPInstanceUID}/${frame ?? 1}`;
}

function same(a, b) {
  return a.every((value, at) => value === b[at]);
}

/** Jump to the slice on which most of a segmentation lies. */
export function showFullest(segmentationId) {
  const counts = new Map();
  for (const layer of layersOf(segmentationId)) {
    for (const { image, values } of layer) {
      const count = values.reduce((sum, value) => sum + (value === 0 ? 0 : 1), 0);
      counts.set(image.referencedImageId, (counts.get(image.referencedImageId) ?? 0) + count);
    }
  }
  const [fullest] = [...counts].sort((a, b) => b[1] - a[1])[0] ?? [];
  const images = imagesOf(segmentationId);
  if (fullest && counts.get(fullest) > 0) {
    command('jumpToImage', {
      imageIndex: images.imageIds.indexOf(fullest),
      viewport: viewportOf(),
    });
  }
}
