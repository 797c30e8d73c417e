/*
 * Results on the image: shown as they are stored, hidden, taken up for editing.
 */

import * as labelmap from './labelmap.js';
import * as node from './node.js';
import { session, titleOf } from './session.js';
import { t } from './text.js';
import * as viewer from './viewer.js';

const LOADING_MS = 120_000; // twenty segments on a slow line
const LOOK_MS = 50;

/** Whether a result is drawn in the active viewport. */
export function isShown(result) {
  const id = session.segmentationOf(result);
  return id !== null && representationIn(viewer.activeViewportId(), id)?.visible === true;
}

function representationIn(viewportId, segmentationId) {
  const segmentations = viewer.service('segmentationService');
  return segmentations.getSegmentationRepresentations(viewportId, { segmentationId })[0];
}

/** Show a result on its images, in the active viewport or another; return its segmentation's id. */
export async function show(result, viewportId = viewer.activeViewportId()) {
  await showImages(result, viewportId);
  const held = session.segmentationOf(result);
  const id = held ?? (await loadStored(result, viewportId));
  await drawIn(viewportId, id);
  makeActive(viewportId, id);
  session.select(result.id);
  return id;
}

/** Show a result as the archive holds it, also while edits of it are open; return its id. */
export async function showStored(result, viewportId = viewer.activeViewportId()) {
  const held = session.segmentationOf(result);
  if (held === null || !session.workOn(held).isDirty) {
    return show(result, viewportId);
  }
  const own = viewer.segDisplaySet(result.SOPInstanceUID)?.displaySetInstanceUID;
  if (held === own) {
    await moveAside(own, viewportId);
  }
  const isThere = own && labelmap.stateOf(own) !== null && !session.workOn(own).isDirty;
  const id = isThere ? own : await loadStored(result, viewportId);
  await drawIn(viewportId, id);
  return id;
}

/** Hide a result in the active viewport, or show it again. */
export async function toggle(result) {
  const id = session.segmentationOf(result);
  const viewportId = viewer.activeViewportId();
  if (id === null || !representationIn(viewportId, id)) {
    await show(result);
    return;
  }
  const drawn = representationIn(viewportId, id);
  const isWanted = !drawn.visible;
  turn(viewportId, drawn, isWanted);
  if (isWanted) {
    makeActive(viewportId, id);
  }
  session.select(result.id);
}

/** Show a result, and no other one with it. */
export async function showAlone(result) {
  const id = await show(result);
  hideOthers(viewer.activeViewportId(), id);
  return id;
}

/** Hide what else is drawn in a viewport. */
export function hideOthers(viewportId, ...ids) {
  viewer
    .service('segmentationService')
    .getSegmentationRepresentations(viewportId)
    .filter(({ segmentationId }) => !ids.includes(segmentationId))
    .forEach(other => turn(viewportId, other, false));
}

/** Show these segmentations in a viewport, and no others. */
export async function showOnly(viewportId, ids) {
  for (const id of ids) {
    await drawIn(viewportId, id);
  }
  hideOthers(viewportId, ...ids);
}

function turn(viewportId, { segmentationId, type, visible }, isWanted) {
  if (visible !== isWanted) {
    viewer
      .service('segmentationService')
      .toggleSegmentationRepresentationVisibility(viewportId, { segmentationId, type });
  }
}

/** Take a result up for editing: alone, on the slice where most of it lies. */
export async function edit(result) {
  const id = await showAlone(result);
  labelmap.showFullest(id);
  return id;
}

function makeActive(viewportId, id) {
  viewer.service('segmentationService').setActiveSegmentation(viewportId, id);
}

async function showImages(result, viewportId) {
  const images = viewer.imagesOfSeries(result.image_SeriesInstanceUID);
  if (!images || viewer.shownImages(viewportId) === images) {
    return;
  }
  viewer.service('viewportGridService').setDisplaySetsForViewport({
    viewportId,
    displaySetInstanceUIDs: [images.displaySetInstanceUID],
  });
  await until(() => viewer.viewportOf(viewportId)?.getImageIds?.().length > 0);
}

/** Load the SEG of a result; what was edited under its id keeps its voxels under another one. */
async function loadStored(result, viewportId) {
  const known = viewer.segDisplaySet(result.SOPInstanceUID);
  const set = known ?? (await viewer.loadSeries(session.studyUid, result.SeriesInstanceUID));
  if (!set) {
    throw new Error(t('results.not-loaded'));
  }
  if (set.Modality === 'RTSTRUCT') {
    return loadContours(result, viewportId);
  }
  const id = set.displaySetInstanceUID;
  if (labelmap.stateOf(id)) {
    await moveAside(id, viewportId); // this loads it, too
    return id;
  }
  await set.load({ headers: viewer.service('userAuthenticationService').getAuthorizationHeader() });
  await drawIn(viewportId, id);
  return id;
}

/** Load contours as voxels, which the node makes of them: they are edited, and saved as a SEG. */
async function loadContours(result, viewportId) {
  const images = viewer.imagesOfSeries(result.image_SeriesInstanceUID);
  const found = await node.post('/api/viewer/labels', {
    StudyInstanceUID: images.StudyInstanceUID,
    SeriesInstanceUID: images.SeriesInstanceUID,
    SOPInstanceUID: result.SOPInstanceUID,
  });
  const { segments, predecessor } = found.head;
  const label = titleOf(result);
  const id = await labelmap.createFilled(images, { label, segments, viewportId }, found);
  session.beginWork(id, { predecessor });
  return id;
}

/** Let a copy go on with what was edited under a SEG's id. */
async function moveAside(id, viewportId) {
  const work = session.workOn(id);
  const before = session.result(work.predecessor?.SOPInstanceUID);
  const title = before ? titleOf(before) : labelmap.stateOf(id).label;
  const copy = await labelmap.putAside(id, { label: t('edit.edited', { title }), viewportId });
  session.giveWork(id, copy, work);
}

async function drawIn(viewportId, id) {
  await until(() => labelmap.stateOf(id) !== null);
  const drawn = representationIn(viewportId, id);
  if (drawn) {
    turn(viewportId, drawn, true);
  } else {
    await viewer.service('segmentationService').addSegmentationRepresentation(viewportId, {
      segmentationId: id,
      type: 'Labelmap',
    });
  }
}

/** Wait for the viewer to get somewhere that it tells nobody about. */
export async function until(isThere) {
  const end = performance.now() + LOADING_MS;
  while (!isThere()) {
    if (performance.now() > end) {
      throw new Error(t('results.not-loaded'));
    }
    await new Promise(resolve => {
      setTimeout(resolve, LOOK_MS);
    });
  }
}
