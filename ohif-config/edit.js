/*
 * Editing by hand: OHIF's own tools at hand, and segments from the coded vocabulary.
 */

import { comparison } from './compare.js';
import { dot, h, icon } from './elements.js';
import * as labelmap from './labelmap.js';
import { Section } from './section.js';
import { session } from './session.js';
import { t } from './text.js';
import { attempt } from './trouble.js';
import * as viewer from './viewer.js';
import './vocabulary.js';

const TOOLS = [
  { name: 'WindowLevel', icon: 'move', key: 'edit.look' },
  { name: 'CircularBrush', icon: 'edit', key: 'edit.brush' },
  { name: 'CircularEraser', icon: 'erase', key: 'edit.eraser' },
  { name: 'ThresholdCircularBrush', icon: 'threshold', key: 'edit.threshold' },
  { name: 'CircleScissor', icon: 'scissors', key: 'edit.scissors' },
];
const START_RADIUS_MM = 8;

/** The segment that tools draw: `{segmentationId, segment}`; null when there is none. */
export function activeSegment() {
  const active = labelmap.activeSegmentation();
  const segment =
    active && viewer.service('segmentationService').getActiveSegment(viewer.activeViewportId());
  return segment
    ? {
        segmentationId: active.segmentationId,
        segment: { number: segment.segmentIndex, label: segment.label },
      }
    : null;
}

/** The same; where there is none, one is made first: a prompt needs no AI result to begin with. */
export async function segmentToDraw() {
  return activeSegment() ?? (await addSegment({ label: t('edit.new-segment') }));
}

/** Add a segment to the active segmentation, or to a new one where there is none. */
export async function addSegment({ label, colour = null, ...term }) {
  const segmentations = viewer.service('segmentationService');
  const viewportId = viewer.activeViewportId();
  let id = labelmap.activeSegmentation()?.segmentationId;
  let number = 1;
  if (id) {
    const numbers = labelmap.segmentsOf(id).map(segment => segment.number);
    number = Math.max(0, ...numbers) + 1;
    segmentations.addSegment(id, {
      segmentIndex: number,
      label,
      ...(colour ? { color: [...colour, 255] } : {}),
    });
  } else {
    const images = viewer.shownImages();
    const segments = [{ number, label, colour }];
    id = await labelmap.create(images, { label: t('edit.new'), segments, viewportId });
    session.beginWork(id, {});
    segmentations.setActiveSegment(id, number);
  }
  const work = session.workOn(id);
  if (term.type) {
    work.terms.set(number, term);
  }
  work.origins.set(number, null);
  session.changed();
  return { segmentationId: id, segment: { number, label } };
}

/** Give a segment that has no term of its own the one that was chosen. */
function renameSegment(segmentationId, number, { label, colour, ...term }) {
  const segmentations = viewer.service('segmentationService');
  segmentations.setSegmentLabel(segmentationId, number, label);
  if (colour) {
    segmentations.setSegmentColor(viewer.activeViewportId(), segmentationId, number, [
      ...colour,
      255,
    ]);
  }
  const work = session.workOn(segmentationId);
  work.terms.set(number, term);
  session.touch(segmentationId);
}

/** Whether a segment has a coded meaning: of its own, or from the predecessor. */
function hasTerm(segmentationId, number) {
  const work = session.workOn(segmentationId);
  return work.terms.has(number) || Boolean(work.origins.get(number));
}

function primaryTool() {
  const group = viewer
    .service('toolGroupService')
    .getToolGroupForViewport(viewer.activeViewportId());
  return group?.getActivePrimaryMouseButtonTool() ?? null;
}

/** Give the left mouse button a tool, in the modes, too, that do not draw by themselves. */
export function useTool(name) {
  const groups = viewer.service('toolGroupService');
  const group = groups.getToolGroupForViewport(viewer.activeViewportId());
  if (group && !group.hasTool(name)) {
    addDrawingTool(group, name);
  }
  viewer.command('setToolActiveToolbar', { toolName: name });
  session.changed();
}

const STRATEGIES = {
  CircularBrush: 'FILL_INSIDE_CIRCLE',
  CircularEraser: 'ERASE_INSIDE_CIRCLE',
  ThresholdCircularBrush: 'THRESHOLD_INSIDE_CIRCLE',
};

function addDrawingTool(group, name) {
  if (name in STRATEGIES) {
    group.addToolInstance(name, 'Brush', { activeStrategy: STRATEGIES[name] });
  } else {
    group.addTool(name);
  }
}

class Edit extends Section {
  build() {
    this.tools = TOOLS.map(({ name, icon: drawing, key }) =>
      h(
        'button',
        {
          class: 'tool',
          title: t(key),
          'data-cy': `radloop-tool-${name}`,
          'data-name': name,
          onclick: attempt(() => this.take(name)),
        },
        icon(drawing)
      )
    );
    this.radius = h('input', {
      type: 'range',
      min: 0.5,
      max: 40,
      step: 0.5,
      value: START_RADIUS_MM,
      'aria-label': t('edit.radius'),
      title: t('edit.radius'),
      oninput: () => viewer.command('setBrushSize', { value: this.radius.value }),
    });
    this.segments = h('div', {
      class: 'segments',
      role: 'listbox',
      'aria-label': t('edit.segments'),
    });
    this.vocabulary = document.createElement('radloop-vocabulary');
    this.vocabulary.addEventListener(
      'chosen',
      attempt(({ detail }) => this.chosen(detail))
    );
    this.append(
      h('h3', {}, t('edit.title')),
      h('div', { class: 'line' }, ...this.tools, this.radius),
      this.segments,
      this.vocabulary
    );
    this.termFor = null;
  }

  update() {
    const tool = primaryTool();
    const active = labelmap.activeSegmentation();
    for (const button of this.tools) {
      button.classList.toggle('on', button.dataset.name === tool);
      button.disabled = !active && button.dataset.name !== 'WindowLevel';
    }
    const number = activeSegment()?.segment.number;
    const id = active?.segmentationId;
    this.segments.replaceChildren(
      ...(id
        ? labelmap.segmentsOf(id).map(segment => this.row(id, segment, segment.number === number))
        : [])
    );
    if (!id) {
      const why = comparison.isDifference ? 'edit.compared' : 'edit.none';
      this.segments.append(h('p', { class: 'quiet' }, t(why)));
    }
    this.vocabulary.hidden = comparison.isDifference;
  }

  row(id, { number, label, colour }, isActive) {
    return h(
      'div',
      { class: `segment line${isActive ? ' on' : ''}`, role: 'option', 'aria-selected': isActive },
      h(
        'button',
        {
          class: 'name',
          'data-cy': 'radloop-segment',
          onclick: () => {
            viewer.service('segmentationService').setActiveSegment(id, number);
            session.changed();
          },
        },
        dot(colour),
        label
      ),
      !hasTerm(id, number) &&
        h(
          'button',
          {
            class: 'plain warn',
            title: t('edit.term-hint'),
            onclick: () => this.askTerm(id, number),
          },
          t('edit.term')
        )
    );
  }

  take(name) {
    useTool(name);
    if (name !== 'WindowLevel') {
      viewer.command('setBrushSize', { value: this.radius.value });
    }
  }

  askTerm(id, number) {
    this.termFor = { id, number };
    this.vocabulary.ask(t('edit.term-for', { number }));
  }

  async chosen(term) {
    if (this.termFor) {
      renameSegment(this.termFor.id, this.termFor.number, term);
      this.termFor = null;
    } else {
      await addSegment(term);
    }
    if (primaryTool() === 'WindowLevel') {
      this.take('CircularBrush');
    }
  }
}

customElements.define('radloop-edit', Edit);
