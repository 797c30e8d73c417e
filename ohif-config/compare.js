/*
 * Two results, or a result and its correction: side by side, or where they differ.
 */

import * as labelmap from './labelmap.js';
import { count, dice, difference, ONLY_FIRST, ONLY_SECOND, OTHER_SEGMENT } from './masks.js';
import * as overlays from './overlays.js';
import { session, titleOf } from './session.js';
import { t } from './text.js';
import * as viewer from './viewer.js';

const COLOURS = {
  [ONLY_FIRST]: [230, 80, 70],
  [ONLY_SECOND]: [70, 150, 235],
  [OTHER_SEGMENT]: [235, 200, 70],
};
const TOGETHER = [
  { type: 'imageSlice', id: 'radloop-slice', source: true, target: true },
  { type: 'zoompan', id: 'radloop-zoom', source: true, target: true },
  { type: 'voi', id: 'radloop-voi', source: true, target: true },
];

const SETTLING_MS = 300; // of the viewports: OHIF does it later, and tells nobody
const DRAWING_MS = 30_000; // at most, on a slow machine
const LABELMAP = '-Labelmap';

/** The comparison that is on the screen, and in words what is seen and counted. */
export const comparison = { isOn: false, isDifference: false, lines: [] };

let before = null; // what was on the screen

/**
 * Show two results on the same images, one viewport each; slice, zoom and window go together.
 *
 * `names`: what the two are called in words.
 */
export async function compareBeside(first, second, names) {
  await stopComparing();
  const [firstId, secondId] = await bothOf(first, second, viewer.activeViewportId());
  const images = viewer.imagesOfSeries(first.image_SeriesInstanceUID);
  const slice = viewer.viewportOf().getCurrentImageIdIndex?.() ?? 0;
  layOut(2);
  const [left, right] = await viewportIds(2);
  viewer.service('viewportGridService').setDisplaySetsForViewports(
    [left, right].map(viewportId => ({
      viewportId,
      displaySetInstanceUIDs: [images.displaySetInstanceUID],
      viewportOptions: { viewportType: 'stack', toolGroupId: 'default', syncGroups: TOGETHER },
    }))
  );
  await overlays.until(() =>
    [left, right].every(id => viewer.viewportOf(id)?.getImageIds?.().length)
  );
  await pause(SETTLING_MS); // OHIF lays over a new viewport what lies over the others
  for (const [viewportId, segmentationId] of [
    [left, firstId],
    [right, secondId],
  ]) {
    await viewer.viewportOf(viewportId).setImageIdIndex(slice);
    await drawOnly(viewportId, segmentationId);
  }
  begin(first, [
    { text: t('compare.left', { title: names.first }) },
    { text: t('compare.right', { title: names.second }) },
  ]);
}

/** Draw where two results differ, and nothing else. */
export async function compareDifference(first, second, names) {
  await stopComparing();
  const viewportId = viewer.activeViewportId();
  const [firstId, secondId] = await bothOf(first, second, viewportId);
  const images = labelmap.imagesOf(firstId);
  const segments = [ONLY_FIRST, ONLY_SECOND, OTHER_SEGMENT].map(number => ({
    number,
    label: t(`compare.segment-${number}`, { first: titleOf(first), second: titleOf(second) }),
    colour: COLOURS[number],
  }));
  const id = await labelmap.create(images, {
    label: t('compare.label'),
    segments,
    viewportId,
    id: labelmap.differenceId(),
  });
  const counts = subtract(firstId, secondId, id);
  await overlays.showOnly(viewportId, [id]);
  labelmap.showFullest(id);
  begin(first, toldOf(counts, names), { isDifference: true });
}

function begin(first, lines, { isDifference = false } = {}) {
  Object.assign(comparison, { isOn: true, isDifference, lines });
  session.select(first.id);
}

/** What a difference counts, in words: Dice's coefficient, and a line for each colour. */
function toldOf(counts, { first, second }) {
  const overlap = dice(counts);
  if (overlap === null) {
    return [{ text: t('compare.both-empty') }];
  }
  const line = (number, title) => ({
    colour: COLOURS[number],
    text: t(`compare.count-${number}`, { count: counts[number], title }),
  });
  return [
    { text: t('compare.dice', { dice: share(overlap) }) },
    line(ONLY_FIRST, first),
    line(ONLY_SECOND, second),
    ...(counts[OTHER_SEGMENT] > 0 ? [line(OTHER_SEGMENT)] : []),
  ];
}

/** A share with three places that never says 1 of what differs, nor 0 of what meets. */
export function share(value) {
  if (value > 0.9995 && value < 1) {
    return '> 0.999';
  }
  return value > 0 && value < 0.0005 ? '< 0.001' : value.toFixed(3);
}

/**
 * The segmentations of both: the first with its edits, the second as it is stored; of one result, its
 * edits and what is stored. Loading one can move the edits of the other to an id of their own.
 */
async function bothOf(first, second, viewportId) {
  const held = [first, second].map(result => [result, session.segmentationOf(result)]);
  noteScreen(viewportId);
  const stored = await overlays.showStored(second, viewportId);
  const firstId = session.segmentationOf(first) ?? (await overlays.show(first, viewportId));
  held.forEach(([result, id]) => id && noteMoved(id, session.segmentationOf(result)));
  return [firstId, stored === firstId ? session.segmentationOf(second) : stored];
}

/** Note what is on the screen, so that it can come back. */
function noteScreen(viewportId) {
  before = {
    selected: session.selected,
    visible: representationsIn(viewportId)
      .filter(({ visible }) => visible)
      .map(({ segmentationId }) => segmentationId),
    active: labelmap.activeSegmentation()?.segmentationId ?? null,
    // Where the image lay before it had half the width.
    presentation: viewer.viewportOf(viewportId).getViewPresentation?.() ?? null,
  };
}

/** Edits were moved to an id of their own: it is them that were on the screen. */
function noteMoved(from, to) {
  const moved = id => (id === from && to !== null ? to : id);
  before.visible = before.visible.map(moved);
  before.active = moved(before.active);
}

function representationsIn(viewportId) {
  return viewer.service('segmentationService').getSegmentationRepresentations(viewportId);
}

function subtract(firstId, secondId, id) {
  const planesOf = segmentation => {
    const found = new Map();
    for (const layer of labelmap.layersOf(segmentation)) {
      for (const { image, values } of layer) {
        const key = image.referencedImageId;
        found.set(key, [...(found.get(key) ?? []), values]);
      }
    }
    return found;
  };
  const [first, second] = [planesOf(firstId), planesOf(secondId)];
  const counts = { both: 0, [ONLY_FIRST]: 0, [ONLY_SECOND]: 0, [OTHER_SEGMENT]: 0 };
  const layers = [[]];
  const planes = [];
  for (const [imageId, values] of first) {
    const size = values[0].length;
    const other = second.get(imageId) ?? [new Uint8Array(size)];
    const found = difference(values, other, size);
    count(counts, values, found);
    layers[0].push(viewer.instanceOf(imageId));
    planes.push(found);
  }
  labelmap.fill(id, { head: { layers }, planes });
  return counts;
}

/** Work on the one image: a comparison that is on the screen ends first. */
export function onOneImage(work) {
  return async (...given) => {
    await stopComparing();
    return work(...given);
  };
}

/** Back to one image, with what was shown before. */
export async function stopComparing() {
  if (!comparison.isOn) {
    return;
  }
  Object.assign(comparison, { isOn: false, isDifference: false, lines: [] });
  labelmap.removeDifferences();
  if (viewer.service('viewportGridService').getNumViewportPanes() > 1) {
    const half = viewer.viewportOf().canvas.clientWidth;
    layOut(1);
    await viewportIds(1);
    await zoomAsBefore(half);
  }
  const viewportId = viewer.activeViewportId();
  const isThere = id => labelmap.stateOf(id) !== null;
  await overlays.showOnly(viewportId, before.visible.filter(isThere));
  if (before.active && isThere(before.active)) {
    viewer.service('segmentationService').setActiveSegmentation(viewportId, before.active);
  }
  session.follow();
  session.select(before.selected);
  before = null;
}

/** Give the image the place and size that it had in the whole width. */
async function zoomAsBefore(half) {
  const end = performance.now() + DRAWING_MS;
  do {
    await pause(SETTLING_MS);
  } while (!isWiderThan(half) && performance.now() < end);
  const viewport = viewer.viewportOf();
  viewport.resetCamera();
  if (before.presentation) {
    viewport.setViewPresentation(before.presentation);
  }
  viewport.render();
}

/** Whether the image has taken the width that its place has now. */
function isWiderThan(width) {
  const canvas = viewer.viewportOf()?.canvas;
  const drawn = canvas ? canvas.width / window.devicePixelRatio : 0;
  return drawn > width + 1 && Math.abs(drawn - canvas.clientWidth) <= 1;
}

function layOut(columns) {
  viewer.command('setViewportGridLayout', { numRows: 1, numCols: columns });
}

async function viewportIds(count) {
  const grid = viewer.service('viewportGridService');
  await overlays.until(() => grid.getState().viewports.size === count);
  return [...grid.getState().viewports.keys()];
}

/** Draw one segmentation in a viewport, and see that it is drawn. */
async function drawOnly(viewportId, segmentationId) {
  const segmentations = viewer.service('segmentationService');
  for (const other of representationsIn(viewportId)) {
    if (other.segmentationId !== segmentationId) {
      segmentations.removeRepresentationsFromViewport(viewportId, {
        segmentationId: other.segmentationId,
        type: 'Labelmap',
      });
    }
  }
  await overlays.showOnly(viewportId, [segmentationId]);
  const end = performance.now() + DRAWING_MS;
  do {
    await pause(SETTLING_MS);
    removeStrays(viewportId, segmentationId);
  } while (!isColoured(viewportId, segmentationId) && performance.now() < end);
}

function labelmapActors(viewportId) {
  return viewer
    .viewportOf(viewportId)
    .getActors()
    .filter(({ representationUID: name = '' }) => name.includes(LABELMAP));
}

/** Take out what is still drawn of segmentations that were taken from a viewport meanwhile. */
function removeStrays(viewportId, segmentationId) {
  const strays = labelmapActors(viewportId).filter(
    ({ representationUID: name }) => !name.startsWith(segmentationId + LABELMAP)
  );
  viewer.viewportOf(viewportId).removeActors(strays.map(({ uid }) => uid));
  const { triggerSegmentationRepresentationModified } =
    viewer.libraries().cornerstoneTools.segmentation.triggerSegmentationEvents;
  triggerSegmentationRepresentationModified(viewportId, segmentationId, 'Labelmap');
}

/** Whether a segmentation has its colours: Cornerstone draws one that has none yet in black. */
function isColoured(viewportId, segmentationId) {
  const actors = labelmapActors(viewportId);
  return (
    actors.length > 0 &&
    actors.every(
      ({ actor, representationUID: name }) =>
        name.startsWith(segmentationId + LABELMAP) && actor.getProperty().getRGBTransferFunction(0)
    )
  );
}

function pause(time_ms) {
  return new Promise(resolve => {
    setTimeout(resolve, time_ms);
  });
}
