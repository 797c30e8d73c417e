/*
 * A part of the panel: built once, brought up to date whenever the session changes.
 */

import { session } from './session.js';

export class Section extends HTMLElement {
  connectedCallback() {
    if (!this.isBuilt) {
      this.isBuilt = true;
      this.build();
    }
    session.addEventListener('change', this);
    this.update();
  }

  disconnectedCallback() {
    session.removeEventListener('change', this);
  }

  handleEvent() {
    this.update();
  }

  /** Put in what stays. */
  build() {}

  /** Bring it up to date. */
  update() {}
}
