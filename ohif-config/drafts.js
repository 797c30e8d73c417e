/*
 * Drafts: work that is not saved yet is kept in the node, every few seconds of activity, and offered
 * again when the study is opened after a closed tab or a session that ran out.
 */

import { h } from './elements.js';
import * as labelmap from './labelmap.js';
import * as node from './node.js';
import * as overlays from './overlays.js';
import { documentOf } from './saving.js';
import { Section } from './section.js';
import { session, titleOf } from './session.js';
import { t } from './text.js';
import { attempt, tell } from './trouble.js';
import * as viewer from './viewer.js';

const SETTLED_MS = 2000; // after the last stroke
const LONGEST_MS = 8000; // while strokes follow each other

/** Puts work off until it is quiet, but not for ever. */
export class Debounce {
  constructor(work, { settledMs, longestMs, now = () => performance.now() }) {
    Object.assign(this, { work, settledMs, longestMs, now });
    this.since = null;
    this.timer = null;
  }

  ask() {
    this.since ??= this.now();
    const left = this.longestMs - (this.now() - this.since);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), Math.max(0, Math.min(this.settledMs, left)));
  }

  flush() {
    clearTimeout(this.timer);
    if (this.since !== null) {
      this.since = null;
      this.work();
    }
  }

  drop() {
    clearTimeout(this.timer);
    this.since = null;
  }
}

/** Keeps what is not saved, one request at a time. */
class Keeper {
  constructor() {
    this.waiting = new Debounce(() => this.keep(), {
      settledMs: SETTLED_MS,
      longestMs: LONGEST_MS,
    });
    this.isKeeping = false;
  }

  noteChange() {
    this.waiting.ask();
  }

  flush() {
    this.waiting.flush();
  }

  stop() {
    this.waiting.drop();
  }

  async keep() {
    if (this.isKeeping) {
      this.waiting.ask();
      return;
    }
    this.isKeeping = true;
    try {
      for (const [id, work] of session.works) {
        if (work.isDirty && work.kept !== work.changes && labelmap.stateOf(id)) {
          await keepOne(id, work);
        }
      }
    } catch (error) {
      if (!(error instanceof node.Unreachable)) {
        tell(error);
      }
      this.waiting.ask(); // the node is away for a moment: the next try has more to keep
    } finally {
      this.isKeeping = false;
      session.changed();
    }
  }
}

async function keepOne(id, work) {
  const { changes } = work;
  const content = await documentOf(id, { effort: work.effort.report() });
  const { id: draft, saved_at: savedAt } = await node.put('/api/drafts', content);
  if (!work.isDirty) {
    await node.remove(`/api/drafts/${encodeURIComponent(draft)}`); // it was saved meanwhile
    return;
  }
  work.draft = draft;
  work.kept = changes;
  work.keptAt = new Date(savedAt);
}

export const keeper = new Keeper();

/** Take a draft up again: as a segmentation of its own, as it was left. */
export async function open(draft) {
  const images = viewer.imagesOfSeries(draft.SeriesInstanceUID);
  const viewportId = viewer.activeViewportId();
  if (viewer.shownImages(viewportId) !== images) {
    viewer.service('viewportGridService').setDisplaySetsForViewport({
      viewportId,
      displaySetInstanceUIDs: [images.displaySetInstanceUID],
    });
    await overlays.until(
      () => viewer.shownImages(viewportId) === images && viewer.viewportOf(viewportId)
    );
  }
  const found = await node.post(`/api/drafts/${encodeURIComponent(draft.id)}/open`);
  const { head } = found;
  const before = session.result(head.predecessor?.SOPInstanceUID);
  const id = await labelmap.create(images, {
    label: before ? t('edit.edited', { title: titleOf(before) }) : t('edit.new'),
    segments: head.segments,
    layers: Math.max(1, head.layers.length),
    viewportId,
  });
  overlays.hideOthers(viewportId, id);
  const work = session.beginWork(id, {
    predecessor: head.predecessor,
    origins: new Map(head.segments.map(({ number, origin }) => [number, origin])),
    terms: new Map(head.segments.filter(one => one.type).map(one => [one.number, one])),
    draft: draft.id,
  });
  work.effort.resume(head.effort);
  labelmap.fill(id, found);
  work.isDirty = true;
  work.kept = work.changes;
  labelmap.showFullest(id);
  session.drafts = session.drafts.filter(one => one.id !== draft.id);
  session.select(before?.id ?? session.selected);
}

let discarding = null; // the draft that a second press throws away: nothing brings it back

async function dropIfMeant(draft) {
  if (discarding === draft.id) {
    await drop(draft);
  } else {
    discarding = draft.id;
    session.changed();
  }
}

async function drop(draft) {
  await node.remove(`/api/drafts/${encodeURIComponent(draft.id)}`);
  session.drafts = session.drafts.filter(one => one.id !== draft.id);
  session.changed();
}

class Drafts extends Section {
  update() {
    const held = new Set([...session.works.values()].map(work => work.draft));
    const offered = session.drafts.filter(draft => !held.has(draft.id));
    this.hidden = !offered.length;
    this.replaceChildren(
      ...offered.map(draft =>
        h(
          'div',
          { class: 'offer', 'data-cy': 'radloop-draft' },
          h(
            'p',
            {},
            t('drafts.offer', {
              time: new Date(draft.saved_at).toLocaleString([], {
                dateStyle: 'short',
                timeStyle: 'short',
              }),
            })
          ),
          h('p', { class: 'quiet' }, draft.segments.join(', ')),
          h(
            'div',
            { class: 'line end' },
            h(
              'button',
              {
                class: discarding === draft.id ? 'plain warn' : 'plain',
                'data-cy': 'radloop-draft-drop',
                onclick: attempt(() => dropIfMeant(draft)),
              },
              t(discarding === draft.id ? 'drafts.really' : 'drafts.drop')
            ),
            h(
              'button',
              {
                class: 'main',
                'data-cy': 'radloop-draft-open',
                onclick: attempt(() => open(draft)),
              },
              t('drafts.open')
            )
          )
        )
      )
    );
  }
}

customElements.define('radloop-drafts', Drafts);
