/*
 * What the panel knows of the study that is open, and what is being edited.
 *
 * One session, for as long as a mode of the viewer is open. Every section of the panel reads it and
 * listens to its `change`.
 */

import { Effort } from './effort.js';
import * as labelmap from './labelmap.js';
import * as node from './node.js';
import { t } from './text.js';
import { displaySet, openStudy, segDisplaySet, service, shownImages } from './viewer.js';

const TOLD_EVERY_MS = 100;

/**
 * What is known of a segmentation in the viewer beyond what the viewer knows.
 *
 * - `predecessor`: the SEG that it came from, `{SeriesInstanceUID, SOPInstanceUID}`, or null;
 * - `origins`: of each segment number, the SegmentNumber in the predecessor, or null;
 * - `terms`: of a new segment's number, the coded term that was chosen for it;
 * - `draft`: the id of what the node keeps of it until it is saved, or null; `kept`: the count of
 *   changes that it has, `keptAt`: when;
 * - `isDirty`: whether anything was changed since it was loaded or saved; `changes` counts;
 * - `effort`: see effort.js.
 */
class Work {
  constructor({ predecessor = null, origins = new Map(), terms = new Map(), draft = null } = {}) {
    this.predecessor = predecessor;
    this.origins = origins;
    this.terms = terms;
    this.draft = draft;
    this.isDirty = false;
    this.changes = 0;
    this.kept = 0;
    this.keptAt = null;
    this.effort = new Effort();
  }
}

class Session extends EventTarget {
  constructor() {
    super();
    this.close();
  }

  /** Forget everything: the viewer left the study. */
  close() {
    this.studyUid = null;
    this.study = null;
    this.user = null;
    this.results = [];
    this.runs = [];
    this.drafts = [];
    this.selected = null;
    this.followed = null;
    this.telling = null;
    this.fault = null;
    this.isKnown = false;
    this.asked = 0; // prompts that the node is at
    this.works = new Map();
    this.changed();
  }

  changed() {
    this.dispatchEvent(new Event('change'));
  }

  /** Ask the node what there is of the open study. */
  async refresh() {
    const studyUid = openStudy();
    if (studyUid === null) {
      return;
    }
    try {
      const found = await node.post('/api/viewer/study', { StudyInstanceUID: studyUid });
      this.study = found.study;
      this.user = found.user;
      this.results = found.results;
      this.runs = found.runs;
      this.drafts = found.drafts;
      this.fault = null;
      this.isKnown = true;
    } catch (error) {
      if (!(error instanceof node.Refused || error instanceof node.Unreachable)) {
        throw error;
      }
      this.fault = error;
    }
    this.studyUid = studyUid;
    if (!this.results.some(result => result.id === this.selected)) {
      this.selected = this.shownResult()?.id ?? this.resultsHere()[0]?.id ?? null;
    }
    this.changed();
  }

  /** The results on the images of the active viewport; on all images where there is none. */
  resultsHere() {
    const images = shownImages();
    return this.results.filter(
      result => !images || result.image_SeriesInstanceUID === images.SeriesInstanceUID
    );
  }

  result(id) {
    return this.results.find(result => result.id === id) ?? null;
  }

  select(id) {
    this.selected = id;
    this.changed();
  }

  /** The result that the active segmentation shows, edited or not. */
  shownResult() {
    const active = labelmap.activeSegmentation();
    const predecessor = active ? this.workOn(active.segmentationId).predecessor : null;
    return predecessor ? this.result(predecessor.SOPInstanceUID) : null;
  }

  /** Select the result that tools draw into, when they begin to draw into another one. */
  follow() {
    const active = labelmap.activeSegmentation()?.segmentationId ?? null;
    if (active !== this.followed) {
      this.followed = active;
      this.selected = this.shownResult()?.id ?? this.selected;
    }
    this.changed();
  }

  /** The segmentation in the viewer that is this result, or was edited from it; null when none. */
  segmentationOf(result) {
    const found = service('segmentationService')
      .getSegmentations()
      .map(({ segmentationId }) => segmentationId)
      .filter(
        id =>
          labelmap.isEditable(id) &&
          this.workOn(id).predecessor?.SOPInstanceUID === result.SOPInstanceUID
      );
    return found.find(id => this.workOn(id).isDirty) ?? found[0] ?? null;
  }

  /** What is known of a segmentation; made when it is asked for first. */
  workOn(segmentationId) {
    if (!this.works.has(segmentationId)) {
      this.works.set(segmentationId, newWork(segmentationId));
    }
    return this.works.get(segmentationId);
  }

  /** Let a copy go on with the work; the segmentation that it was copied from is as it was loaded. */
  giveWork(from, copy, work) {
    this.works.set(copy, work);
    this.works.delete(from);
    this.changed();
  }

  /** Note a change of a segmentation: it is not saved any more. A brush makes many a second. */
  touch(segmentationId) {
    const work = this.workOn(segmentationId);
    work.isDirty = true;
    work.changes += 1;
    this.telling ??= setTimeout(() => {
      this.telling = null;
      this.changed();
    }, TOLD_EVERY_MS);
    return work;
  }

  /** Set what is known of a segmentation that was made here. */
  beginWork(segmentationId, facts) {
    const work = new Work(facts);
    this.works.set(segmentationId, work);
    return work;
  }

  /** Whether anything was drawn that neither the archive nor a draft holds. */
  get isUnkept() {
    return [...this.works.values()].some(work => work.isDirty && work.kept !== work.changes);
  }
}

/**
 * Of a SEG that OHIF loaded: it is its own predecessor, and every segment comes from it. What was
 * drawn here has a display set, too, but comes from nothing.
 */
function newWork(segmentationId) {
  const seg = displaySet(segmentationId);
  if (seg?.Modality !== 'SEG' || seg.madeInClient) {
    return new Work();
  }
  const segments = labelmap.segmentsOf(segmentationId);
  return new Work({
    predecessor: { SeriesInstanceUID: seg.SeriesInstanceUID, SOPInstanceUID: seg.SOPInstanceUID },
    origins: new Map(segments.map(({ number }) => [number, number])),
  });
}

export const session = new Session();

/** What people call a result; a drawing by who made it, for its title repeats the model's. */
export function titleOf({ kind, title, author, predecessor }) {
  if (kind !== 'correction') {
    return title;
  }
  return t(predecessor === null ? 'kind.drawn' : 'kind.correction', { author });
}

/** Where a result stands; a correction that nobody said more of was signed by who saved it. */
export function standingOf(result) {
  return result.kind === 'correction' && result.state === 'ready' ? 'saved' : result.state;
}

/** Whether the viewer knows the SEG of a result already. */
export function isLoaded(result) {
  return Boolean(segDisplaySet(result.SOPInstanceUID));
}
