/*
 * The parts of OHIF that the radloop panel stands on, each under one name.
 *
 * OHIF gives its managers to an extension once, at registration; everything else is found from them.
 */

import { nearestVoxel } from './geometry.js';
import { t } from './text.js';

const CORNERSTONE = '@ohif/extension-cornerstone.utilityModule.common';
const PANEL = '@radloop/extension-radloop.panelModule.radloop';
const NO_IMAGES = ['SEG', 'SR', 'RTSTRUCT', 'PR', 'KO', 'DOC'];

let managers = null;

/** Keep what OHIF gave at registration. */
export function attach(given) {
  managers = given;
}

/** One of OHIF's services, such as `segmentationService`. */
export function service(name) {
  return managers.servicesManager.services[name];
}

/** Cornerstone's libraries: `{cornerstone, cornerstoneTools}`. */
export function libraries() {
  const { exports } = managers.extensionManager.getModuleEntry(CORNERSTONE);
  return exports.getCornerstoneLibraries();
}

/** Run one of OHIF's commands. */
export function command(name, options = {}) {
  return managers.commandsManager.run(name, options);
}

export function commandsManager() {
  return managers.commandsManager;
}

export function source() {
  return managers.extensionManager.getActiveDataSource()[0];
}

/** Whether the viewer shows the clinical archive: only there is AI to see. */
export function isClinical() {
  return source()?.getConfig?.().name === 'clinical';
}

/** Tells what was said to whoever shows it: the panel's foot, while it is there. */
export const messages = new EventTarget();

/** Tell a person something: at the foot of the panel, or by OHIF while another panel is in front. */
export function say(text, type = 'info', { duration = 8000 } = {}) {
  const said = new CustomEvent('said', { detail: { text, type, duration }, cancelable: true });
  if (messages.dispatchEvent(said)) {
    service('uiNotificationService').show({ title: t('title'), message: text, type, duration });
  }
}

/** Bring our panel to the front. */
export function showPanel() {
  service('panelService').activatePanel(PANEL, true);
}

export function activeViewportId() {
  return service('viewportGridService').getActiveViewportId();
}

/** Cornerstone's viewport of an id, the active one where none is named; null before it is drawn. */
export function viewportOf(id = activeViewportId()) {
  return service('cornerstoneViewportService').getCornerstoneViewport(id) ?? null;
}

export function displaySets() {
  return service('displaySetService').getActiveDisplaySets();
}

export function displaySet(id) {
  return service('displaySetService').getDisplaySetByUID(id);
}

/** The images (a display set) that a viewport shows. */
export function shownImages(viewportId = activeViewportId()) {
  const ids = service('viewportGridService').getDisplaySetsUIDsForViewport(viewportId) ?? [];
  const sets = ids.map(displaySet).filter(Boolean);
  return sets.find(set => isImages(set)) ?? sets.map(imagesUnder).find(Boolean) ?? null;
}

export function isImages(set) {
  return set.imageIds?.length > 0 && !NO_IMAGES.includes(set.Modality);
}

function imagesUnder(set) {
  return set.referencedDisplaySetInstanceUID
    ? displaySet(set.referencedDisplaySetInstanceUID)
    : null;
}

/** The display set of a SEG, by its SOPInstanceUID. */
export function segDisplaySet(sopInstanceUid) {
  return displaySets().find(set => set.Modality === 'SEG' && set.SOPInstanceUID === sopInstanceUid);
}

export function imagesOfSeries(seriesUid) {
  return displaySets().find(set => set.SeriesInstanceUID === seriesUid && isImages(set)) ?? null;
}

/** The study that is open, by its UID; null before one is. */
export function openStudy() {
  return displaySets().find(set => set.StudyInstanceUID)?.StudyInstanceUID ?? null;
}

/**
 * Make a series of the archive known to the viewer, without loading the page again.
 *
 * OHIF keeps a study's metadata under the data source's name and the UID, and does not ask again
 * while it has them.
 */
export async function loadSeries(studyUid, seriesUid) {
  const archive = source();
  const forget = () =>
    archive.deleteStudyMetadataPromise(`${archive.getConfig().name}:${studyUid}`);
  forget();
  await archive.retrieve.series.metadata({
    StudyInstanceUID: studyUid,
    filters: { seriesInstanceUID: [seriesUid] },
    returnPromises: false,
  });
  forget();
  return displaySets().find(set => set.SeriesInstanceUID === seriesUid) ?? null;
}

/** Which image of a series, and which voxel of it, a place in the patient lies in; null outside. */
export function voxelAt(images, world) {
  const { metaData } = libraries().cornerstone;
  const planes = images.imageIds.map(imageId => metaData.get('imagePlaneModule', imageId));
  const found = nearestVoxel(planes, world);
  return found ? { ...instanceOf(images.imageIds[found.index]), ...found } : null;
}

/** `{SOPInstanceUID, frame}` of an image; `frame` counts from 1 and is null in a single image. */
export function instanceOf(imageId) {
  const instance = libraries().cornerstone.metaData.get('instance', imageId);
  const frame = /\/frames\/(\d+)/.exec(imageId);
  return {
    SOPInstanceUID: instance.SOPInstanceUID,
    frame: instance.NumberOfFrames > 1 && frame ? Number(frame[1]) : null,
  };
}
