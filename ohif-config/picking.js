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
const NEAR = 4; // pixels: less than that is a click, not a box or a stroke
const STEP = 3; // pixels between the places of a stroke
const MOST_PLACES = 30; // of a stroke: each is a click to the node

let current = null;

/** What is pointed at now: the `name` that was given to `startPicking`; null when nothing is. */
export function picking() {
  return current?.name ?? null;
}

/**
 * Take clicks until `stopPicking`, Escape, or another one begins.
 *
 * `onPoint(voxel)` gets each click, `onStroke([voxel, ...])` each stroke, `onBox([voxel, voxel])` each
 * box that is drawn; a voxel is `{SOPInstanceUID, frame, index, row, column}`. What lies outside of the
 * images is passed over.
 */
export function startPicking(
  name,
  { onPoint = null, onStroke = null, onBox = null, onStop = null }
) {
  stopPicking();
  current = new Picker(name, { onPoint, onStroke, onBox, onStop });
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
  constructor(name, { onPoint, onStroke, onBox, onStop }) {
    Object.assign(this, { name, onPoint, onStroke, onBox, onStop });
    this.frame = h('div', { class: 'radloop-frame', style: FRAME, hidden: true });
    this.line = document.createElementNS(SVG, 'svg');
    this.line.setAttribute('style', LINE);
    this.line.append(document.createElementNS(SVG, 'polyline'));
    document.body.append(this.frame, this.line);
    EVENTS.forEach(type => window.addEventListener(type, this, { capture: true }));
    window.addEventListener('keydown', this, { capture: true });
    document.documentElement.style.setProperty('cursor', 'crosshair');
  }

  end() {
    EVENTS.forEach(type => window.removeEventListener(type, this, { capture: true }));
    window.removeEventListener('keydown', this, { capture: true });
    document.documentElement.style.removeProperty('cursor');
    this.frame.remove();
    this.line.remove();
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
      this.path = [[event.clientX, event.clientY]];
    } else if (event.type === 'pointermove' && this.from && this.onBox) {
      this.draw(event);
    } else if (event.type === 'pointermove' && this.from && this.onStroke) {
      this.drawOn(event);
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

  drawOn({ clientX, clientY }) {
    const [x, y] = this.path.at(-1);
    if (Math.hypot(clientX - x, clientY - y) >= STEP) {
      this.path.push([clientX, clientY]);
      this.line.firstChild.setAttribute('points', this.path.map(one => one.join(',')).join(' '));
    }
  }

  take(event) {
    const { place, x, y } = this.from;
    this.from = null;
    this.frame.hidden = true;
    this.line.firstChild.removeAttribute('points');
    const first = voxelIn(place, x, y);
    const isBox = Math.hypot(event.clientX - x, event.clientY - y) > NEAR;
    if (this.onStroke && this.path.length > 2) {
      const step = Math.max(1, this.path.length / MOST_PLACES);
      const drawn = this.path
        .filter((_, at) => Math.floor(at / step) !== Math.floor((at - 1) / step))
        .map(([left, top]) => voxelIn(place, left, top))
        .filter(Boolean);
      if (drawn.length) {
        this.onStroke(drawn);
      }
    } else if (isBox && this.onBox) {
      const second = voxelIn(place, event.clientX, event.clientY);
      if (first && second) {
        this.onBox([first, second]);
      }
    } else if (this.onPoint && first) {
      this.onPoint(first);
    }
  }
}

// Light on dark: seen on every image and on every colour.
const SVG = 'http://www.w3.org/2000/svg';
const FRAME =
  'position: fixed; z-index: 1000; border: 1px dashed #e8f4ff; outline: 1px solid #04101f; ' +
  'outline-offset: 0; pointer-events: none; display: block;';
const LINE =
  'position: fixed; inset: 0; width: 100vw; height: 100vh; z-index: 1000; pointer-events: none; ' +
  'fill: none; stroke: #e8f4ff; stroke-width: 2; filter: drop-shadow(0 0 1px #04101f);';

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
