/*
 * Running a model on what is shown, and following it to its result.
 *
 * One stream of events tells of all jobs; those of this study are kept. The browser opens the stream
 * again when the node was away, and what was missed meanwhile is asked for.
 */

import { h } from './elements.js';
import { boxAround } from './geometry.js';
import * as node from './node.js';
import { logIn } from './login.js';
import * as overlays from './overlays.js';
import { pickBox } from './picking.js';
import { Section } from './section.js';
import { session } from './session.js';
import { t } from './text.js';
import { attempt, tell } from './trouble.js';
import { say, shownImages } from './viewer.js';

const ENDED = ['completed', 'canceled'];

/** Follows the jobs of the study that is open. */
class Follower {
  start() {
    this.stop();
    this.stream = new EventSource('/api/events');
    // Asked when the stream is open, so that nothing falls between; also when it was away.
    this.stream.addEventListener('open', () => session.refresh().catch(tell));
    this.stream.addEventListener('error', () => session.isKnown || session.refresh().catch(tell));
    this.stream.addEventListener('job', event => this.hear(JSON.parse(event.data)));
    this.stream.addEventListener('logout', () => this.comeBack());
  }

  stop() {
    this.stream?.close();
    this.stream = null;
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

  /** Show what a job made, if it was asked for here; list it in any case. */
  async bring(job) {
    const before = new Set(session.results.map(result => result.id));
    const isOurs = asked.delete(job.id);
    await session.refresh();
    const made = session.results.filter(result => !before.has(result.id));
    if (job.fault && isOurs && job.fault.code !== 'canceled') {
      say(node.inSentences(job.fault.message, job.fault.advice), 'error', { duration: 20000 });
    } else if (made.length && isOurs) {
      await overlays.showAlone(made[0]);
      say(t('run.ready', { title: made[0].title }), 'success');
    }
  }
}

export const follower = new Follower();
const asked = new Set(); // jobs that this page started

/** Run a model on the series that is shown; on a region of it where one is given. */
export async function run(bundle, region = null) {
  const images = shownImages();
  const { job } = await node.post('/api/viewer/runs', {
    StudyInstanceUID: images.StudyInstanceUID,
    SeriesInstanceUID: images.SeriesInstanceUID,
    bundle,
    region,
  });
  asked.add(job);
  await session.refresh();
  if (!session.runs.some(one => one.job === job)) {
    await showAgain(bundle); // the same wish is the same job, and it is done
  }
}

async function showAgain(bundle) {
  const made = session
    .resultsHere()
    .find(result => result.kind === 'ai' && `${result.bundle}@${result.version}` === bundle);
  if (made) {
    await overlays.showAlone(made);
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
    this.runs = h('div', { class: 'runs' });
    this.append(
      h('h3', {}, t('run.title')),
      h('div', { class: 'line' }, this.models, this.start, this.region),
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
        h('option', { value: model.bundle, title: model.description }, model.title)
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
      ...others.map(({ title, reason }) => h('p', {}, h('b', {}, title), ` ${reason}`))
    );
  }

  async go() {
    if (!this.start.disabled) {
      await run(this.models.value);
    }
  }

  async goInRegion() {
    const corners = await pickBox(t('run.draw-region'));
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

function progress(one) {
  const isOpen = !ENDED.includes(one.state);
  return h(
    'div',
    { class: 'run', 'data-cy': 'radloop-progress' },
    h('span', { class: 'name' }, one.bundle ?? t('run.job')),
    isOpen
      ? h('progress', { max: 1, value: one.progress })
      : h(
          'span',
          { class: 'fault', title: one.error?.advice },
          one.error?.message ?? t('run.failed')
        ),
    isOpen &&
      h(
        'button',
        {
          class: 'plain',
          onclick: attempt(() => node.post(`/api/jobs/${encodeURIComponent(one.job)}/cancel`)),
        },
        t('run.cancel')
      )
  );
}

customElements.define('radloop-run', Run);
