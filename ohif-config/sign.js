/*
 * Signing: what a person thinks of a result. Accepted as it is, or rejected for a coded reason; a
 * result that was changed is signed by saving the correction.
 */

import { h } from './elements.js';
import * as node from './node.js';
import { save } from './saving.js';
import { session, standingOf, titleOf } from './session.js';
import { STYLE } from './style.js';
import { t, translated } from './text.js';
import { say } from './viewer.js';

/** Accept the selected result as it is stored; one that was edited is saved and signed as modified. */
export async function accept() {
  const result = session.result(session.selected);
  if (!result) {
    say(t('sign.nothing'), 'warning');
    return;
  }
  const held = session.segmentationOf(result);
  if (held !== null && session.workOn(held).isDirty) {
    say(t('sign.edited'), 'warning');
    return;
  }
  await judge(result, 'accepted');
}

/** Save the edits of the selected result, and sign it as modified. */
export async function modify() {
  const result = session.result(session.selected);
  const held = result ? session.segmentationOf(result) : null;
  return save(held ?? undefined);
}

/** Ask why, and reject the selected result. */
export async function reject() {
  const result = session.result(session.selected);
  if (!result) {
    say(t('sign.nothing'), 'warning');
    return;
  }
  const reasons = await node.get('/api/assessments/reasons');
  const answer = await askReason(result, reasons);
  if (answer) {
    await judge(result, 'rejected', answer);
  }
}

async function judge(result, verdict, { reason = null, comment = null } = {}) {
  await node.post('/api/assessments', { result: result.id, verdict, reason, comment });
  await session.refresh();
  say(t(`sign.${verdict}`, { title: titleOf(result) }), 'success');
}

/** Go to the next result that nobody has signed, after the selected one. */
export function nextUnsigned(results, selected) {
  const at = results.findIndex(result => result.id === selected);
  const order = [...results.slice(at + 1), ...results.slice(0, at + 1)];
  return order.find(result => standingOf(result) === 'ready') ?? order[0] ?? null;
}

function askReason(result, reasons) {
  return new Promise(resolve => {
    const dialog = document.createElement('radloop-reason');
    Object.assign(dialog, { result, reasons });
    dialog.addEventListener('done', ({ detail }) => {
      dialog.remove();
      resolve(detail);
    });
    document.body.append(dialog);
  });
}

class Reason extends HTMLElement {
  connectedCallback() {
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [STYLE];
    root.addEventListener('keydown', event => {
      event.stopPropagation();
      if (event.key === 'Escape') {
        this.finish(null);
      }
    });
    this.comment = h('textarea', {
      rows: 2,
      maxlength: 1000,
      'aria-label': t('sign.comment'),
      placeholder: t('sign.comment'),
    });
    const choices = this.reasons.map(({ value, meaning }) =>
      h(
        'label',
        { class: 'choice' },
        h('input', { type: 'radio', name: 'reason', value, required: true }),
        translated(`reason.${value}`) ?? meaning
      )
    );
    this.form = h(
      'form',
      { class: 'dialog', 'data-cy': 'radloop-reason' },
      h('h2', {}, t('sign.why', { title: titleOf(this.result) })),
      ...choices,
      this.comment,
      h(
        'div',
        { class: 'line end' },
        h(
          'button',
          { class: 'plain', type: 'button', onclick: () => this.finish(null) },
          t('sign.back')
        ),
        h('button', { class: 'main danger', type: 'submit' }, t('sign.reject'))
      )
    );
    this.form.addEventListener('submit', event => {
      event.preventDefault();
      const reason = new FormData(this.form).get('reason');
      this.finish({ reason, comment: this.comment.value.trim() || null });
    });
    root.append(h('div', { class: 'veil' }, this.form));
    this.form.querySelector('input')?.focus();
  }

  finish(answer) {
    this.dispatchEvent(new CustomEvent('done', { detail: answer }));
  }
}

customElements.define('radloop-reason', Reason);
