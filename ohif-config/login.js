/*
 * Logging in again without leaving the study: the session ended, the edits stay.
 *
 * One dialog for all requests that wait. It goes when a login was taken, here or in another tab.
 */

import { h } from './elements.js';
import { STYLE } from './style.js';
import { t } from './text.js';

let waiting = null;

/** Ask for a login; resolves when somebody is logged in. */
export function logIn() {
  waiting ??= ask().finally(() => {
    waiting = null;
  });
  return waiting;
}

function ask() {
  return new Promise(resolve => {
    const dialog = document.createElement('radloop-login');
    dialog.addEventListener('done', () => {
      dialog.remove();
      resolve();
    });
    document.body.append(dialog);
  });
}

/** Whether the session is one of the person who opened the page. */
async function whoIsThere() {
  const answer = await fetch('/api/me', { credentials: 'same-origin' });
  return answer.ok ? (await answer.json()).name : null;
}

class Login extends HTMLElement {
  connectedCallback() {
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [STYLE];
    const name = window.radloop.user;
    this.name = h('input', { name: 'name', autocomplete: 'username', value: name, required: true });
    this.password = h('input', {
      name: 'password',
      type: 'password',
      autocomplete: 'current-password',
      required: true,
    });
    this.problem = h('p', { class: 'fault', role: 'alert', hidden: true });
    this.button = h('button', { class: 'main', type: 'submit' }, t('login.go'));
    const form = h(
      'form',
      { class: 'dialog', 'data-cy': 'radloop-login' },
      h('h2', {}, t('login.title')),
      h('p', {}, t('login.nothing-lost')),
      h('label', {}, t('login.name'), this.name),
      h('label', {}, t('login.password'), this.password),
      this.problem,
      this.button
    );
    form.addEventListener('submit', event => {
      event.preventDefault();
      this.submit();
    });
    root.addEventListener('keydown', event => event.stopPropagation()); // no shortcuts of the viewer
    root.append(h('div', { class: 'veil' }, form));
    (name ? this.password : this.name).focus();
    window.addEventListener('focus', this);
  }

  disconnectedCallback() {
    window.removeEventListener('focus', this);
  }

  /** Back in this tab: a login in another one counts. */
  handleEvent() {
    this.finish();
  }

  async submit() {
    const form = new URLSearchParams({ name: this.name.value, password: this.password.value });
    this.button.disabled = true;
    this.password.readOnly = true; // what is typed now would go with the answer
    this.problem.hidden = true;
    try {
      await fetch('/login', { method: 'POST', body: form, credentials: 'same-origin' });
      this.password.value = '';
      if (!(await this.finish())) {
        this.say(t('login.wrong'));
      }
    } catch (error) {
      if (!(error instanceof TypeError)) {
        throw error;
      }
      this.say(t('login.unreachable')); // fetch's way to say that no answer came
    } finally {
      this.button.disabled = false;
      this.password.readOnly = false;
      this.password.focus();
    }
  }

  async finish() {
    const name = await whoIsThere();
    if (name === null) {
      return false;
    }
    if (window.radloop.user && name !== window.radloop.user) {
      this.say(t('login.other', { name: window.radloop.user }));
      return true;
    }
    this.dispatchEvent(new Event('done'));
    return true;
  }

  say(text) {
    this.problem.textContent = text;
    this.problem.hidden = false;
  }
}

customElements.define('radloop-login', Login);
