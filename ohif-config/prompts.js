/*
 * Prompts: a click, a box or a button becomes voxels of the active segment. The node computes them;
 * they lie in the labelmap like strokes of the brush, and can be undone like those.
 */

import { comparison } from './compare.js';
import { h, icon } from './elements.js';
import { activeSegment, segmentToDraw } from './edit.js';
import * as labelmap from './labelmap.js';
import { pack } from './labels.js';
import { only } from './masks.js';
import * as node from './node.js';
import { picking, startPicking, stopPicking } from './picking.js';
import { Section } from './section.js';
import { session } from './session.js';
import { t } from './text.js';
import { attempt } from './trouble.js';
import { say, shownImages } from './viewer.js';

const SLIDER_STEPS = 100;
const WIDEST = 4; // of the slider: times what the node suggests
const LIKE_A_BRUSH = ['refine', 'interpolate']; // goes on with what was drawn over other segments
const SETTLED_MS = 120; // a slider that moves is asked about when it rests

/** Ask the node about the active segment; lay the answer into the labelmap. */
export async function prompt(asked, { isAdded = false } = {}) {
  const { segmentationId, segment } = await segmentToDraw();
  const images = labelmap.imagesOf(segmentationId);
  const drawn = isAdded
    ? { ...shapeOf(segmentationId), layers: [[]], planes: [] }
    : oneLayer(labelmap.read(segmentationId, plane => only(plane, segment.number)));
  const { planes, ...voxels } = drawn;
  const answer = await whileTold(async () =>
    node.post(
      '/api/prompts',
      await pack(
        {
          StudyInstanceUID: images.StudyInstanceUID,
          SeriesInstanceUID: images.SeriesInstanceUID,
          ...voxels,
          segments: [{ number: segment.number, label: segment.label }],
          prompt: { ...asked, segment: segment.number },
        },
        planes
      )
    )
  );
  const laid = labelmap.layMasks(
    segmentationId,
    segment.number,
    { layers: answer.head.layers, planes: answer.planes },
    { replace: !isAdded, takes: isAdded || LIKE_A_BRUSH.includes(asked.kind) }
  );
  return { ...laid, head: answer.head, segmentationId };
}

/** Let the panel's foot tell that the node is at work. */
async function whileTold(work) {
  session.asked += 1;
  session.changed();
  try {
    return await work();
  } finally {
    session.asked -= 1;
    session.changed();
  }
}

function shapeOf(segmentationId) {
  const { rows, columns } = labelmap.layersOf(segmentationId)[0][0].image;
  return { rows, columns, bits: 8 };
}

/** A segment lies in one layer; layers without it are left out. */
function oneLayer(voxels) {
  const layers = voxels.layers.filter(layer => layer.length);
  return { ...voxels, layers: layers.length ? layers : [[]] };
}

function place({ SOPInstanceUID, frame, row, column }) {
  return { SOPInstanceUID, frame, row, column };
}

/** The voxels of a stroke, each once. */
function placesOf(voxels) {
  const places = voxels.map(voxel => [`${voxel.index}/${voxel.row}/${voxel.column}`, place(voxel)]);
  return [...new Map(places).values()];
}

class Prompts extends Section {
  build() {
    this.flat = h(
      'select',
      { 'aria-label': t('prompts.dimensions'), 'data-cy': 'radloop-dimensions' },
      h('option', { value: 3 }, t('prompts.3d')),
      h('option', { value: 2 }, t('prompts.2d'))
    );
    this.tolerance = h('input', {
      type: 'range',
      min: 1,
      max: SLIDER_STEPS,
      value: SLIDER_STEPS / WIDEST,
      disabled: true,
      'aria-label': t('prompts.tolerance'),
      'data-cy': 'radloop-tolerance',
      oninput: () => this.slide(),
    });
    this.range = h('span', { class: 'quiet figure' });
    this.mm = h('input', {
      type: 'number',
      min: 0.5,
      max: 50,
      step: 0.5,
      value: 2,
      'aria-label': t('prompts.mm'),
    });
    this.pickers = {
      grow: this.picker('grow', 'target', { onPoint: voxel => this.grow(voxel) }),
      inside: this.picker('inside', 'plus', {
        onPoint: voxel => this.refine({ positive: [place(voxel)] }),
        onStroke: voxels => this.refine({ positive: placesOf(voxels) }),
      }),
      outside: this.picker('outside', 'minus', {
        onPoint: voxel => this.refine({ negative: [place(voxel)] }),
        onStroke: voxels => this.refine({ negative: placesOf(voxels) }),
      }),
      box: this.picker('box', 'box', { onBox: ([first, last]) => this.box(first, last) }),
    };
    this.hint = h('p', { class: 'quiet hint', hidden: true });
    this.append(
      h('h3', {}, t('prompts.title')),
      h('div', { class: 'line' }, ...Object.values(this.pickers), this.flat),
      this.hint,
      h('div', { class: 'line' }, this.tolerance, this.range),
      h(
        'div',
        { class: 'line' },
        h('span', {}, t('prompts.margin')),
        this.shape('minus', 'prompts.shrink', () => ({
          kind: 'margin',
          mm: -Number(this.mm.value),
        })),
        this.mm,
        h('span', {}, 'mm'),
        this.shape('plus', 'prompts.grow-by', () => ({ kind: 'margin', mm: Number(this.mm.value) }))
      ),
      h(
        'div',
        { class: 'wrap' },
        ...['fill_holes', 'largest', 'smooth', 'interpolate'].map(kind =>
          this.shape(null, `prompts.${kind}`, () => ({ kind }))
        )
      )
    );
    this.seed = null;
    this.isGrowing = false;
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    stopPicking();
  }

  update() {
    const now = picking();
    for (const [name, button] of Object.entries(this.pickers)) {
      button.classList.toggle('on', now === name);
      button.setAttribute('aria-pressed', String(now === name));
    }
    this.hint.hidden = !(now in this.pickers);
    this.hint.textContent = this.hint.hidden ? '' : t(`prompts.${now}-now`);
    const isUsable = shownImages() !== null && !comparison.isDifference;
    this.querySelectorAll('button').forEach(button => {
      button.disabled = !isUsable;
    });
    this.tolerance.disabled = !this.isFresh();
    if (!this.isFresh()) {
      this.range.textContent = '';
    }
  }

  /** Whether nothing was drawn since the growing: only then can the slider take it back. */
  isFresh() {
    const { seed } = this;
    return seed !== null && (this.isGrowing || seed.changes === changesOf(seed.segmentationId));
  }

  picker(name, drawing, { onPoint = null, onStroke = null, onBox = null }) {
    const button = h(
      'button',
      {
        class: 'tool',
        title: t(`prompts.${name}`),
        'data-cy': `radloop-pick-${name}`,
        onclick: () => {
          if (picking() === name) {
            stopPicking();
          } else {
            warm();
            startPicking(name, {
              onPoint: onPoint && attempt(onPoint),
              onStroke: onStroke && attempt(onStroke),
              onBox: onBox && attempt(onBox),
            });
          }
        },
      },
      icon(drawing)
    );
    return button;
  }

  shape(drawing, key, ask) {
    return h(
      'button',
      {
        class: drawing ? 'tool' : 'plain',
        title: t(`${key}-hint`),
        'data-cy': key,
        onclick: attempt(async () => {
          if (activeSegment() === null) {
            say(t('prompts.no-segment'), 'warning');
            return;
          }
          const dimensions = ask().kind === 'interpolate' ? 3 : Number(this.flat.value);
          this.told(await prompt({ ...ask(), dimensions }));
        }),
      },
      drawing ? icon(drawing) : t(key)
    );
  }

  async refine(clicks) {
    const dimensions = Number(this.flat.value);
    this.told(
      await prompt({ kind: 'refine', positive: [], negative: [], box: null, ...clicks, dimensions })
    );
  }

  async box(first, last) {
    const corners = { first: place(first), last: place(last) };
    stopPicking();
    this.told(
      await prompt(
        {
          kind: 'refine',
          positive: [],
          negative: [],
          box: corners,
          dimensions: Number(this.flat.value),
        },
        { isAdded: true }
      )
    );
  }

  /** Grow from a voxel, by what the node suggests; the slider widens and narrows it. */
  async grow(voxel) {
    this.seed = null;
    const seed = { place: place(voxel), dimensions: Number(this.flat.value) };
    await this.growAgain(seed, null);
    this.tolerance.value = SLIDER_STEPS / WIDEST;
    session.changed();
  }

  async growAgain(seed, tolerance) {
    const grown = await prompt(
      { kind: 'grow', seed: seed.place, tolerance, dimensions: seed.dimensions },
      { isAdded: true }
    );
    const { low, high, unit } = grown.head;
    const [from, to] = [low, high].map(Math.round);
    this.range.textContent = t('prompts.range', { low: from, high: to, unit }).trim();
    this.seed = {
      ...seed,
      suggested: seed.suggested ?? (high - low) / 2,
      undo: grown.undo,
      segmentationId: grown.segmentationId,
      changes: changesOf(grown.segmentationId),
    };
    this.told(grown);
  }

  slide() {
    clearTimeout(this.settling);
    this.settling = setTimeout(
      attempt(() => this.regrow()),
      SETTLED_MS
    );
  }

  async regrow() {
    if (this.isGrowing || !this.isFresh()) {
      return;
    }
    this.isGrowing = true;
    const wanted = this.tolerance.value;
    try {
      this.seed.undo();
      await this.growAgain(this.seed, (this.seed.suggested * wanted * WIDEST) / SLIDER_STEPS);
    } finally {
      this.isGrowing = false;
      session.changed();
    }
    if (this.tolerance.value !== wanted) {
      this.slide();
    }
  }

  told({ changed }) {
    if (changed === 0) {
      say(t('prompts.nothing-changed'));
    }
  }
}

/** Let the node read the images before the first click needs them. */
function warm() {
  const images = shownImages();
  if (images) {
    const { StudyInstanceUID, SeriesInstanceUID } = images;
    attempt(() => node.post('/api/prompts/warm', { StudyInstanceUID, SeriesInstanceUID }))();
  }
}

function changesOf(segmentationId) {
  return session.workOn(segmentationId).changes;
}

customElements.define('radloop-prompts', Prompts);
