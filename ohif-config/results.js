/*
 * The results of the study: what they are, what they measure, where they stand.
 */

import {
  compareBeside,
  compareDifference,
  comparison,
  onOneImage,
  stopComparing,
} from './compare.js';
import { dot, h, icon } from './elements.js';
import * as overlays from './overlays.js';
import { Section } from './section.js';
import { session, standingOf, titleOf } from './session.js';
import { t } from './text.js';
import { attempt } from './trouble.js';
import { shownImages } from './viewer.js';

class Results extends Section {
  build() {
    this.list = h('div', { class: 'results', role: 'list' });
    this.append(h('h3', {}, t('results.title')), this.list);
  }

  update() {
    const here = session.resultsHere();
    this.list.replaceChildren(
      ...(here.length
        ? here.map(result => row(result))
        : [h('p', { class: 'quiet' }, t(session.isKnown ? 'results.none' : 'results.asking'))])
    );
    const elsewhere = session.results.length - here.length;
    if (elsewhere > 0) {
      this.list.append(h('p', { class: 'quiet' }, t('results.elsewhere', { count: elsewhere })));
    }
  }
}

function row(result) {
  const isSelected = result.id === session.selected;
  const isShown = overlays.isShown(result);
  const id = session.segmentationOf(result);
  const isDirty = id !== null && session.workOn(id).isDirty;
  return h(
    'div',
    {
      class: `result${isSelected ? ' selected' : ''}`,
      role: 'listitem',
      'data-cy': 'radloop-result',
    },
    h(
      'div',
      { class: 'line' },
      h(
        'button',
        {
          class: `toggle${isShown ? ' on' : ''}`,
          title: t(isShown ? 'results.hide' : 'results.show'),
          'aria-pressed': isShown,
          'data-cy': 'radloop-show',
          onclick: attempt(onOneImage(() => overlays.toggle(result))),
        },
        icon(isShown ? 'seen' : 'hidden')
      ),
      h(
        'button',
        {
          class: 'name',
          title: t('results.alone'),
          onclick: attempt(onOneImage(() => overlays.showAlone(result))),
        },
        h('span', {}, titleOf(result)),
        h('small', {}, [kindOf(result), when(result.created_at)].filter(Boolean).join(' · '))
      ),
      h(
        'span',
        { class: `state ${isDirty ? 'editing' : standingOf(result)}` },
        t(`state.${isDirty ? 'editing' : standingOf(result)}`)
      ),
      h(
        'button',
        {
          class: 'toggle',
          title: t('results.edit'),
          'data-cy': 'radloop-edit',
          onclick: attempt(onOneImage(() => overlays.edit(result))),
        },
        icon('edit')
      )
    ),
    isSelected && detail(result)
  );
}

function detail(result) {
  const facts = [
    result.model && result.model !== titleOf(result) && [t('results.model'), result.model],
    result.kind === 'ai' && [t('results.confidence'), confidenceOf(result)],
  ].filter(Boolean);
  const isEmpty = result.segments.every(({ volume_ml: volume }) => volume === 0);
  return h(
    'div',
    { class: 'detail' },
    facts.length > 0 &&
      h('dl', {}, ...facts.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)])),
    result.kind === 'ai' && isEmpty && h('p', {}, t('results.empty')),
    h('table', {}, h('tbody', {}, ...result.segments.map(measured))),
    compare(result)
  );
}

function measured({ label, colour, volume_ml: volume, longest_mm: longest }) {
  return h(
    'tr',
    {},
    h('td', {}, dot(colour), label),
    h('td', { class: 'figure' }, volumeOf(volume)),
    h('td', { class: 'figure' }, longest ? t('results.mm', { mm: longest.toFixed(0) }) : '')
  );
}

function compare(result) {
  if (comparison.isOn) {
    return compared();
  }
  const others = session
    .resultsHere()
    .filter(other => other.id !== result.id)
    .map(other => h('option', { value: other.id }, `${titleOf(other)}, ${when(other.created_at)}`));
  const id = session.segmentationOf(result);
  if (id !== null && session.workOn(id).isDirty) {
    others.unshift(h('option', { value: result.id }, t('compare.as-stored')));
  }
  if (!others.length || !shownImages()) {
    return null;
  }
  const chosen = h(
    'select',
    { 'aria-label': t('compare.with'), 'data-cy': 'radloop-compare' },
    ...others
  );
  const against = () => session.result(chosen.value);
  return h(
    'div',
    { class: 'compare' },
    h('span', {}, t('compare.with')),
    chosen,
    h(
      'button',
      {
        class: 'plain',
        'data-cy': 'radloop-beside',
        onclick: attempt(() => compareBeside(result, against(), namesOf(result, against()))),
      },
      t('compare.beside')
    ),
    h(
      'button',
      {
        class: 'plain',
        'data-cy': 'radloop-difference',
        onclick: attempt(() => compareDifference(result, against(), namesOf(result, against()))),
      },
      t('compare.difference')
    )
  );
}

/** The comparison that is on the screen, and how to end it. */
function compared() {
  return h(
    'div',
    { class: 'compared', 'data-cy': 'radloop-compared' },
    ...comparison.lines.map(({ colour, text }) => h('p', {}, colour ? dot(colour) : null, text)),
    h('button', { class: 'plain', onclick: attempt(stopComparing) }, t('compare.stop'))
  );
}

function namesOf(first, second) {
  if (first.id === second.id) {
    const title = titleOf(first);
    return { first: t('compare.edited', { title }), second: t('compare.stored', { title }) };
  }
  const [one, other] = [first, second].map(each => `${titleOf(each)}, ${when(each.created_at)}`);
  return { first: one, second: other };
}

function kindOf(result) {
  return result.kind === 'correction' ? null : t(`kind.${result.kind}`);
}

function when(text) {
  const date = new Date(text);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday
    ? date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
    : date.toLocaleDateString([], { day: '2-digit', month: 'short', year: 'numeric' });
}

function volumeOf(volume) {
  if (volume === null || volume === undefined) {
    return '–';
  }
  return volume === 0 ? t('results.absent') : millilitres(volume);
}

function millilitres(volume) {
  return t('results.ml', {
    ml: volume < 10 ? volume.toFixed(2) : volume.toFixed(volume < 100 ? 1 : 0),
  });
}

function confidenceOf({ confidence }) {
  const isGiven = confidence !== null && confidence !== undefined;
  return isGiven ? percent(confidence) : t('results.no-confidence');
}

/** In whole percents; 100 is said of nothing that is less. */
function percent(share) {
  const whole = Math.round(share * 100);
  return whole === 100 && share < 1 ? '> 99 %' : `${whole} %`;
}

customElements.define('radloop-results', Results);
