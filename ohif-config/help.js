/*
 * The help sheet: the keys, and how the work goes, on one screen.
 */

import { h } from './elements.js';
import { KEYS, STOCK_KEYS } from './keys.js';
import { STYLE } from './style.js';
import { t } from './text.js';

const STEPS = ['help.see', 'help.mend', 'help.sign', 'help.kept'];

/** Open the sheet, or close it when it is open. */
export function toggleHelp() {
  const open = document.querySelector('radloop-help');
  if (open) {
    open.remove();
  } else {
    document.body.append(document.createElement('radloop-help'));
  }
}

/** A key as it stands on the keyboard. */
function capital(name) {
  return name.length === 1 ? name.toUpperCase() : name;
}

class Help extends HTMLElement {
  connectedCallback() {
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [STYLE];
    const key = (name, text) => [h('dt', {}, h('kbd', {}, capital(name))), h('dd', {}, t(text))];
    const close = h('button', { class: 'plain', onclick: () => this.remove() }, t('help.close'));
    root.append(
      h(
        'div',
        { class: 'veil', onclick: event => event.target === event.currentTarget && this.remove() },
        h(
          'section',
          { class: 'dialog wide', 'data-cy': 'radloop-help' },
          h('h2', {}, t('help.title')),
          h('ol', {}, ...STEPS.map(step => h('li', {}, t(step)))),
          h(
            'div',
            { class: 'columns' },
            h('dl', { class: 'keys' }, ...KEYS.flatMap(one => key(one.key, one.text))),
            h('dl', { class: 'keys' }, ...STOCK_KEYS.flatMap(([name, text]) => key(name, text)))
          ),
          h('div', { class: 'line end' }, close)
        )
      )
    );
    root.addEventListener('keydown', event => {
      if (event.key === 'Escape') {
        this.remove();
      }
    });
    close.focus();
  }
}

customElements.define('radloop-help', Help);
