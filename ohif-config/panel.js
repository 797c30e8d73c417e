/*
 * The radloop panel: its sections, and at its foot what is always at hand.
 */

import './drafts.js';
import './edit.js';
import './prompts.js';
import './results.js';
import './run.js';
import { h, icon } from './elements.js';
import { toggleHelp } from './help.js';
import * as labelmap from './labelmap.js';
import { imageShown } from './opening.js';
import { save, savingNow } from './saving.js';
import { Section } from './section.js';
import { session, standingOf, titleOf } from './session.js';
import { accept, reject } from './sign.js';
import { STYLE } from './style.js';
import { t } from './text.js';
import { attempt } from './trouble.js';
import { isClinical, messages } from './viewer.js';

const FIELDS = 'input, select, textarea';
const MOVES_A_SLIDER = /^(Arrow|Home$|End$|Page|Tab$)/;
const SECTIONS = ['drafts', 'results', 'run', 'edit', 'prompts'];
const TICK_MS = 1000; // of the clock of editing

class Panel extends HTMLElement {
  connectedCallback() {
    if (this.shadowRoot) {
      return;
    }
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [STYLE];
    // What is typed here, and what moves a slider, is no shortcut of the viewer; other keys are.
    root.addEventListener('keydown', event => {
      const { target, key } = event;
      if (target.matches('input[type=range]') && !MOVES_A_SLIDER.test(key)) {
        target.blur(); // else the viewer takes the slider for a field that is typed into
      } else if (target.matches(FIELDS)) {
        event.stopPropagation();
      }
    });
    // Who chose with the mouse goes on with the viewer's keys; who chose with the keys, with the list.
    let byKey = false;
    root.addEventListener('keydown', () => {
      byKey = true;
    });
    root.addEventListener('pointerdown', () => {
      byKey = false;
    });
    root.addEventListener('change', ({ target }) => {
      if (target.matches('select') && !byKey) {
        target.blur();
      }
    });
    if (!isClinical()) {
      root.append(h('p', { class: 'quiet pad' }, t('panel.not-clinical')));
      return;
    }
    imageShown().then(() => this.fill()); // which is awaited more
  }

  fill() {
    this.shadowRoot.append(
      h(
        'div',
        { class: 'panel', 'data-cy': 'radloop-panel' },
        document.createElement('radloop-head'),
        h(
          'div',
          { class: 'scroll' },
          ...SECTIONS.map(name => document.createElement(`radloop-${name}`))
        ),
        document.createElement('radloop-foot')
      )
    );
  }
}

class Head extends Section {
  build() {
    this.fault = h('p', { class: 'fault', role: 'alert', hidden: true });
    this.append(
      h(
        'div',
        { class: 'line' },
        h('h2', {}, t('panel.title')),
        h(
          'button',
          {
            class: 'toggle',
            title: t('keys.help'),
            'data-cy': 'radloop-help-button',
            onclick: toggleHelp,
          },
          icon('help')
        )
      ),
      this.fault
    );
  }

  update() {
    this.fault.hidden = session.fault === null;
    this.fault.textContent = session.fault?.message ?? '';
  }
}

class Foot extends Section {
  build() {
    const button = (name, drawing, work) =>
      h(
        'button',
        {
          class: `act ${name}`,
          title: t(`foot.${name}-key`),
          'data-cy': `radloop-${name}`,
          onclick: attempt(work),
        },
        icon(drawing),
        t(`foot.${name}`)
      );
    this.save = button('save', 'save', () => save());
    this.accept = button('accept', 'check', accept);
    this.reject = button('reject', 'cross', reject);
    this.told = h('p', { class: 'quiet', role: 'status', 'data-cy': 'radloop-status' });
    this.message = h('p', {
      class: 'message',
      role: 'alert',
      'data-cy': 'radloop-message',
      hidden: true,
    });
    this.hear = this.hear.bind(this);
    this.append(
      this.message,
      this.told,
      h('div', { class: 'acts' }, this.save, this.accept, this.reject)
    );
  }

  connectedCallback() {
    super.connectedCallback();
    this.clock = setInterval(() => this.update(), TICK_MS);
    messages.addEventListener('said', this.hear);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    clearInterval(this.clock);
    messages.removeEventListener('said', this.hear);
  }

  /** Show a message for as long as it takes to read it. */
  hear(event) {
    event.preventDefault(); // it is told here
    const { text, type, duration } = event.detail;
    this.message.textContent = text;
    this.message.className = `message ${type}`;
    this.message.hidden = false;
    clearTimeout(this.fading);
    this.fading = setTimeout(() => {
      this.message.hidden = true;
    }, duration);
  }

  update() {
    const active = labelmap.activeSegmentation();
    const work = active ? session.workOn(active.segmentationId) : null;
    const selected = session.result(session.selected);
    const held = selected ? session.segmentationOf(selected) : null;
    const isEdited = held !== null && session.workOn(held).isDirty;
    this.save.disabled = !work?.isDirty || savingNow();
    this.accept.disabled = !selected || isEdited || selected.state === 'accepted';
    this.reject.disabled = !selected || isEdited || selected.state === 'rejected';
    this.told.textContent = this.tell(work, selected);
  }

  tell(work, selected) {
    if (savingNow()) {
      return t('foot.saving');
    }
    if (session.asked > 0) {
      return t('foot.drawing');
    }
    if (work?.isDirty) {
      const { active_s: seconds } = work.effort.report();
      return t(work.kept === work.changes ? 'foot.kept' : 'foot.unsaved', { time: clock(seconds) });
    }
    return selected
      ? t('foot.selected', { title: titleOf(selected), state: t(`state.${standingOf(selected)}`) })
      : '';
  }
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

customElements.define('radloop-head', Head);
customElements.define('radloop-foot', Foot);
customElements.define('radloop-panel', Panel);
