/*
 * Pointing at places of the image: clicks and boxes that the drawing tools do not see.
 */

import { h } from './elements.js';
import { session } from './session.js';
import * as viewer from './viewer.js';

const EVENTS = [
  'pointerdown',
  'pointermove',
  'pointerup',
  'mousedown',
  'mousemove',
  'mouseup',
  'click',
  'dblclick',
];
const NEAR = 4; // pixels: less than that is a click, not a box

let current = null;

/** What is pointed at now: the `name` that was given to `startPicking`; null when nothing is. */
export function picking() {
  return current?.name ?? null;
}

/**
 * Take clicks until `stopPicking`, Escape, or another one begins.
 *
 * `onPoint(voxel)` gets each click, `onBox([voxel, voxel])` each box that is drawn; a voxel is
 * `{SOPInstanceUID, frame, index, row, column}`. What lies outside of the images is passed over.
 */
export function startPicking(name, { onPoint = null, onBox = null, onStop = null }) {
  stopPicking();
  current = new Picker(name, { onPoint, onBox, onStop });
  session.changed();
}

export function stopPicking() {
  const ending = current;
  current = null;
  if (ending) {
    ending.end();
    session.changed();
  }
}

/** One box: two voxels at opposite corners; null when the person gave up. */
export function pickBox(name) {
  return new Promise(resolve => {
    startPicking(name, {
      onBox: corners => {
        resolve(corners);
        stopPicking();
      },
      onStop: () => resolve(null),
    });
  });
}

class Picker {
  constructor(name, { onPoint, onBox, onStop }) {
    Object.assign(this, { name, onPoint, onBox, onStop });
    this.frame = h('div', { class: 'radloop-frame', style: FRAME, hidden: true });
    document.body.append(this.frame);
    EVENTS.forEach(type => window.addEventListener(type, this, { capture: true }));
    window.addEventListener('keydown', this, { capture: true });
    document.documentElement.style.setProperty('cursor', 'crosshair');
  }

  end() {
    EVENTS.forEach(type => window.removeEventListener(type, this, { capture: true }));
    window.removeEventListener('keydown', this, { capture: true });
    document.documentElement.style.removeProperty('cursor');
    this.frame.remove();
    this.onStop?.();
  }

  handleEvent(event) {
    if (event.type === 'keydown') {
      if (event.key === 'Escape') {
        event.stopImmediatePropagation();
        stopPicking();
      }
      return;
    }
    const place = this.from?.place ?? placeOf(event);
    if (event.button > 0 || (!place && !this.from)) {
      return; // another button still pans and zooms; outside of the images nothing is meant
    }
    event.stopImmediatePropagation();
    event.preventDefault();
    if (event.type === 'pointerdown') {
      this.from = { place, x: event.clientX, y: event.clientY };
    } else if (event.type === 'pointermove' && this.from && this.onBox) {
      this.draw(event);
    } else if (event.type === 'pointerup' && this.from) {
      this.take(event);
    }
  }

  draw(event) {
    const [left, right] = [this.from.x, event.clientX].sort((a, b) => a - b);
    const [top, bottom] = [this.from.y, event.clientY].sort((a, b) => a - b);
    this.frame.hidden = false;
    Object.assign(this.frame.style, {
      left: `${left}px`,
      top: `${top}px`,
      width: `${right - left}px`,
      height: `${bottom - top}px`,
    });
  }

  take(event) {
    const { place, x, y } = this.from;
    this.from = null;
    this.frame.hidden = true;
    const first = voxelIn(place, x, y);
    const isBox = Math.hypot(event.clientX - x, event.clientY - y) > NEAR;
    if (isBox && this.onBox) {
      const second = voxelIn(place, event.clientX, event.clientY);
      if (first && second) {
        this.onBox([first, second]);
      }
    } else if (this.onPoint && first) {
      this.onPoint(first);
    }
  }
}

const FRAME =
  'position: fixed; z-index: 1000; border: 1px dashed #f5b942; pointer-events: none; display: block;';

/** The viewport under the pointer; null where there is none. */
function placeOf(event) {
  const pane = event.target instanceof Element ? event.target.closest('[data-viewport-uid]') : null;
  return pane;
}

function voxelIn(pane, x, y) {
  const viewportId = pane.getAttribute('data-viewport-uid');
  const viewport = viewer.viewportOf(viewportId);
  const images = viewer.shownImages(viewportId);
  if (!viewport || !images) {
    return null;
  }
  const box = viewport.canvas.getBoundingClientRect();
  return viewer.voxelAt(images, viewport.canvasToWorld([x - box.left, y - box.top]));
}
