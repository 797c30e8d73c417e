/*
 * Choosing a structure from the coded vocabulary: type a few letters, take one. Sides are part of it.
 */

import { h } from './elements.js';
import * as node from './node.js';
import { t } from './text.js';
import { tell } from './trouble.js';

const SETTLED_MS = 150;
const SIDES = {
  left: { value: '7771000', scheme: 'SCT', meaning: 'Left' },
  right: { value: '24028007', scheme: 'SCT', meaning: 'Right' },
};

/** A field with suggestions; `chosen` is dispatched with `{label, category, type, ..., colour}`. */
class Vocabulary extends HTMLElement {
  connectedCallback() {
    if (this.field) {
      return;
    }
    this.field = h('input', {
      type: 'search',
      placeholder: t('vocabulary.add'),
      autocomplete: 'off',
      'data-cy': 'radloop-vocabulary',
      'aria-label': t('vocabulary.add'),
      oninput: () => this.settle(),
    });
    this.field.addEventListener('keydown', event => {
      if (event.key === 'Enter') {
        this.found.querySelector('button')?.click();
      } else if (event.key === 'Escape') {
        this.clear();
      }
    });
    this.found = h('div', { class: 'suggestions' });
    this.append(this.field, this.found);
  }

  /** Ask for a term, with another prompt in the field. */
  ask(prompt) {
    this.field.placeholder = prompt;
    this.field.focus();
  }

  settle() {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.look().catch(tell), SETTLED_MS);
  }

  async look() {
    const asked = this.field.value.trim();
    if (!asked) {
      this.found.replaceChildren();
      return;
    }
    const terms = await node.get('/api/vocabulary', { q: asked });
    if (this.field.value.trim() !== asked) {
      return; // more was typed meanwhile
    }
    this.found.replaceChildren(
      ...terms.map(term => this.suggestion(term)),
      ...(terms.length ? [] : [h('p', { class: 'quiet' }, t('vocabulary.none'))])
    );
  }

  suggestion(term) {
    const { laterality_allowed: hasSides, ...plain } = term;
    return h(
      'div',
      { class: 'line' },
      h(
        'button',
        { class: 'name', title: term.type.value, onclick: () => this.take(plain) },
        term.label
      ),
      hasSides &&
        Object.keys(SIDES).map(side =>
          h(
            'button',
            {
              class: 'plain',
              'data-cy': `radloop-${side}`,
              onclick: () =>
                this.take({
                  ...plain,
                  label: `${term.label}, ${t(`vocabulary.${side}`)}`,
                  laterality: SIDES[side],
                }),
            },
            t(`vocabulary.${side}`)
          )
        )
    );
  }

  take(term) {
    this.clear();
    this.dispatchEvent(new CustomEvent('chosen', { detail: term }));
  }

  clear() {
    this.field.value = '';
    this.field.placeholder = t('vocabulary.add');
    this.found.replaceChildren();
    this.field.blur();
  }
}

customElements.define('radloop-vocabulary', Vocabulary);
