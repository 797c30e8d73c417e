/*
 * Saving: what was drawn goes to the node as a labels document, and comes back as a DICOM SEG of the
 * archive, with codes, tracking and predecessor.
 *
 * OHIF 3.13.2 would write a SEG of its own: without all that, and from the second one of a session
 * on with other voxels than were painted. Its Export -> DICOM SEG therefore leads here; RTSTRUCT and
 * CSV are left as they are. What comes past this all the same is refused by the node's proxy.
 */

import { leadExport } from './exporting.js';
import { pack } from './labels.js';
import * as labelmap from './labelmap.js';
import * as node from './node.js';
import { session, titleOf } from './session.js';
import { t } from './text.js';
import { commandsManager, loadSeries, say } from './viewer.js';

const LONGEST_LABEL = 64; // LO, PS3.5 6.2
let isSaving = false;

/** Lead OHIF's own export of a SEG here. */
export function takeOverExport() {
  leadExport(commandsManager(), 'panel', options => save(options?.segmentationId));
}

/** The labels document of a segmentation, as a Blob; `fields` are added to its head. */
export async function documentOf(segmentationId, fields) {
  const work = session.workOn(segmentationId);
  const images = labelmap.imagesOf(segmentationId);
  const { planes, ...voxels } = labelmap.read(segmentationId);
  const head = {
    StudyInstanceUID: images.StudyInstanceUID,
    SeriesInstanceUID: images.SeriesInstanceUID,
    ...voxels,
    segments: labelmap.segmentsOf(segmentationId).map(segment => described(segment, work)),
    predecessor: work.predecessor,
    ...fields,
  };
  return pack(head, planes);
}

function described({ number, label, colour }, work) {
  const term = work.terms.get(number);
  return {
    number,
    label: label.slice(0, LONGEST_LABEL),
    category: term?.category ?? null,
    type: term?.type ?? null,
    region: term?.region ?? null,
    laterality: term?.laterality ?? null,
    colour,
    tracking_id: null,
    tracking_uid: null,
    origin: work.origins.get(number) ?? null,
  };
}

/**
 * Save a segmentation, the active one where none is named; return the node's answer.
 *
 * What is saved is the predecessor of what is saved next.
 */
export async function save(segmentationId = labelmap.activeSegmentation()?.segmentationId) {
  if (!segmentationId || !labelmap.isEditable(segmentationId)) {
    say(t('save.nothing'), 'warning');
    return null;
  }
  if (isSaving) {
    return null;
  }
  isSaving = true;
  session.changed();
  const work = session.workOn(segmentationId);
  const drawn = labelmap.fingerprint(segmentationId);
  const { draft } = work;
  const numbers = labelmap.segmentsOf(segmentationId).map(segment => segment.number);
  try {
    const saved = await node.post(
      '/api/corrections',
      await documentOf(segmentationId, {
        effort: work.effort.report(),
        comment: null,
        draft,
      })
    );
    await goOnFrom(saved, work, { numbers, segmentationId, drawn, draft });
    return saved;
  } catch (error) {
    if (!(error instanceof node.Refused || error instanceof node.Unreachable)) {
      throw error;
    }
    say(t('save.failed', { reason: error.message }), 'error', { duration: 20000 });
    return null;
  } finally {
    isSaving = false;
    session.changed();
  }
}

export function savingNow() {
  return isSaving;
}

async function goOnFrom(saved, work, { numbers, segmentationId, drawn, draft }) {
  work.predecessor = {
    SeriesInstanceUID: saved.SeriesInstanceUID,
    SOPInstanceUID: saved.SOPInstanceUID,
  };
  // The node numbers segments from 1 in the order of the document (PS3.3 C.8.20.4.1).
  work.origins = new Map(numbers.map((number, index) => [number, index + 1]));
  const leftOver = work.draft === draft ? null : work.draft; // kept while it was saved
  work.draft = null;
  // Somebody may draw while it is being saved; a brush also tells of changes when it is lifted.
  work.isDirty = labelmap.fingerprint(segmentationId) !== drawn;
  work.effort.restart();
  if (leftOver) {
    await forgetDraft(leftOver);
  }
  await loadSeries(session.studyUid, saved.SeriesInstanceUID);
  await session.refresh();
  session.select(saved.SOPInstanceUID);
  if (saved.stale) {
    const who = saved.others.map(name => (name === session.user ? t('save.you') : name)).join(', ');
    say(t('save.stale', { who }), 'warning', { duration: 20000 });
  } else {
    const made = session.result(saved.SOPInstanceUID);
    say(t('save.done', { title: made ? titleOf(made) : saved.SeriesDescription }), 'success');
  }
}

/** Drop a draft; one that stays all the same is offered again, which does no harm. */
async function forgetDraft(id) {
  try {
    await node.remove(`/api/drafts/${encodeURIComponent(id)}`);
  } catch (error) {
    if (!(error instanceof node.Refused || error instanceof node.Unreachable)) {
      throw error;
    }
  }
}
