/*
 * Running a model on what is shown, and following it to its result.
 *
 * One stream of events tells of all jobs; those of this study are kept. The browser opens the stream
 * again when the node was away, and what was missed meanwhile is asked for.
 */

import { comparison, onOneImage } from './compare.js';
import { h } from './elements.js';
import { boxAround } from './geometry.js';
import * as node from './node.js';
import { logIn } from './login.js';
import * as overlays from './overlays.js';
import { pickBox, picking, stopPicking } from './picking.js';
import { Section } from './section.js';
import { session } from './session.js';
import { t } from './text.js';
import { attempt, tell } from './trouble.js';
import { say, shownImages } from './viewer.js';

const ENDED = ['completed', 'canceled'];
const REGION = 'region';
const AGAIN_MS = 3000;

/** Follows the jobs of the study that is open. */
class Follower {
  missing = null;

  start() {
    this.stop();
    this.stream = new EventSource('/api/events');
    // Asked when the stream is open, so that nothing falls between; also when it was away.
    this.stream.addEventListener('open', () => {
      this.waitNoMore();
      this.catchUp().catch(tell);
    });
    this.stream.addEventListener('error', () => this.miss().catch(tell));
    this.stream.addEventListener('job', event => this.hear(JSON.parse(event.data)));
    this.stream.addEventListener('logout', () => this.comeBack());
  }

  stop() {
    this.waitNoMore();
    this.stream?.close();
    this.stream = null;
  }

  /**
   * The stream broke. The browser opens it again where the node is away; not where something in front
   * of it answered with an error, or the session has ended.
   */
  async miss() {
    const { stream } = this;
    if (stream?.readyState === EventSource.CLOSED) {
      this.waitNoMore();
      await session.refresh(); // it asks for a login where that is what is missing
      if (this.stream === stream) {
        this.missing = setTimeout(() => this.start(), AGAIN_MS);
      }
    } else {
      this.missing ??= setTimeout(() => {
        session.fault = new node.Unreachable();
        session.changed();
      }, AGAIN_MS);
    }
  }

  waitNoMore() {
    clearTimeout(this.missing);
    this.missing = null;
  }

  async comeBack() {
    this.stop();
    await logIn();
    this.start();
  }

  async hear(job) {
    if (job.study !== session.study) {
      return;
    }
    const known = session.runs.find(run => run.job === job.id);
    if (known) {
      known.state = job.state;
      known.progress = job.progress;
      known.error = job.fault;
      session.changed();
    }
    if (ENDED.includes(job.state)) {
      await this.bring(job).catch(tell);
    }
  }

  /** List what a job made; show it, if it was asked for here. */
  async bring({ id, fault }) {
    await session.refresh();
    const wish = asked.get(id);
    asked.delete(id);
    if (canceling.delete(id) && fault?.code === 'canceled') {
      say(t('run.canceled'));
    } else if (wish && fault && fault.code !== 'canceled') {
      say(node.inWords(fault), 'error', { duration: 20000 });
    } else if (wish) {
      await showMade(wish);
    }
  }

  /** What ended while the node, or the way to it, was away. */
  async catchUp() {
    await session.refresh();
    if (session.fault) {
      return;
    }
    for (const id of [...asked.keys()]) {
      const listed = session.runs.find(one => one.job === id);
      if (!listed || ENDED.includes(listed.state)) {
        await this.bring({ id, fault: listed?.error });
      }
    }
  }
}

export const follower = new Follower();
const asked = new Map(); // jobs that this page started, and what there was before them
const canceling = new Set(); // jobs that it wants to end

async function showMade({ bundle, before }) {
  const made = session.results.find(
    result => !before.has(result.id) && `${result.bundle}@${result.version}` === bundle
  );
  if (made) {
    if (!comparison.isOn) {
      await overlays.showAlone(made);
    }
    say(t('run.ready', { title: made.title }), 'success');
  }
}

/** Run a model on the series that is shown; on a region of it where one is given. */
export async function run(bundle, region = null) {
  const images = shownImages();
  const { job } = await node.post('/api/viewer/runs', {
    StudyInstanceUID: images.StudyInstanceUID,
    SeriesInstanceUID: images.SeriesInstanceUID,
    bundle,
    region,
  });
  const before = new Set(session.results.map(result => result.id));
  asked.set(job, { bundle, before });
  await session.refresh();
  if (!session.runs.some(one => one.job === job)) {
    asked.delete(job);
    await showAgain(bundle); // the same wish is the same job, and it is done
  }
}

async function showAgain(bundle) {
  const made = session
    .resultsHere()
    .find(result => result.kind === 'ai' && `${result.bundle}@${result.version}` === bundle);
  if (made) {
    await onOneImage(overlays.showAlone)(made);
    say(t('run.again', { title: made.title }));
  }
}

class Run extends Section {
  build() {
    this.models = h('select', { 'aria-label': t('run.model'), 'data-cy': 'radloop-models' });
    this.start = h(
      'button',
      {
        class: 'main',
        'data-cy': 'radloop-run',
        title: t('run.go-key'),
        onclick: attempt(() => this.go()),
      },
      t('run.go')
    );
    this.region = h(
      'button',
      { class: 'plain', title: t('run.region-hint'), onclick: attempt(() => this.goInRegion()) },
      t('run.region')
    );
    this.others = h('details', { class: 'others', hidden: true });
    this.hint = h('p', { class: 'quiet hint', 'data-cy': 'radloop-region-hint' }, t('run.draw-box'));
    this.runs = h('div', { class: 'runs' });
    this.append(
      h('h3', {}, t('run.title')),
      h('div', { class: 'line' }, this.models),
      h('div', { class: 'line' }, this.start, this.region),
      this.hint,
      this.runs,
      this.others
    );
    this.series = null;
  }

  update() {
    const images = shownImages();
    if (images && session.isKnown && this.series !== images.SeriesInstanceUID) {
      this.series = images.SeriesInstanceUID;
      this.ask(images).catch(tell);
    }
    const isPicking = picking() === REGION;
    this.hint.hidden = !isPicking;
    this.region.classList.toggle('on', isPicking);
    this.runs.replaceChildren(...session.runs.filter(one => !isPast(one)).map(progress));
  }

  /** Which models fit the series, and why others do not. */
  async ask({ StudyInstanceUID, SeriesInstanceUID }) {
    this.models.replaceChildren(h('option', {}, t('run.asking')));
    const { fits, others } = await node.post('/api/viewer/models', {
      StudyInstanceUID,
      SeriesInstanceUID,
    });
    if (this.series !== SeriesInstanceUID) {
      return; // another series is shown meanwhile
    }
    this.models.replaceChildren(
      ...fits.map(model =>
        h(
          'option',
          { value: model.bundle, title: model.description },
          model.is_current ? model.title : t('run.not-current', { title: model.title })
        )
      )
    );
    if (!fits.length) {
      this.models.append(h('option', {}, t('run.none')));
    }
    [this.models, this.start, this.region].forEach(one => {
      one.disabled = !fits.length;
    });
    this.others.hidden = !others.length;
    this.others.replaceChildren(
      h('summary', {}, t('run.others', { count: others.length })),
      ...others.map(({ title, reason }) =>
        h('p', {}, h('b', {}, title), `: ${node.inSentences(reason)}`)
      )
    );
  }

  async go() {
    if (!this.start.disabled) {
      await run(this.models.value);
    }
  }

  async goInRegion() {
    if (picking() === REGION) {
      stopPicking();
      return;
    }
    const corners = await pickBox(REGION);
    if (corners) {
      const { from, to } = boxAround(corners);
      const last = shownImages().imageIds.length - 1;
      // A box that is drawn on one slice means all slices; [i, j, k] is column, row, slice.
      await run(this.models.value, {
        from: [from[2], from[1], 0],
        to: [to[2], to[1], last],
      });
    }
  }
}

function isPast(one) {
  return one.state === 'completed' || one.error?.code === 'canceled';
}

/** Ask for the end of a run; the model stops at its next step. */
async function cancel(job) {
  canceling.add(job);
  session.changed();
  try {
    await node.post(`/api/jobs/${encodeURIComponent(job)}/cancel`);
  } catch (error) {
    canceling.delete(job);
    session.changed();
    throw error;
  }
}

function progress(one) {
  const isOpen = !ENDED.includes(one.state);
  return h(
    'div',
    { class: 'run', 'data-cy': 'radloop-progress' },
    h('span', { class: 'name' }, one.title),
    isOpen
      ? h('progress', { max: 1, value: one.progress })
      : h(
          'span',
          { class: 'fault' },
          one.error ? node.inWords(one.error) : t('run.failed')
        ),
    isOpen &&
      h(
        'button',
        { class: 'plain', disabled: canceling.has(one.job), onclick: attempt(() => cancel(one.job)) },
        t(canceling.has(one.job) ? 'run.canceling' : 'run.cancel')
      )
  );
}

customElements.define('radloop-run', Run);
