/*
 * The radloop panel of the viewer: results, models, prompts, corrections, signatures.
 *
 * A run-time extension: the stock build import()s it by its address (see app-config.js). It needs no
 * React: a React element is a plain object, and the panel a web component.
 */

import './panel.js';
import { onOneImage } from './compare.js';
import { keeper } from './drafts.js';
import { toggleHelp } from './help.js';
import { bindings } from './keys.js';
import * as labelmap from './labelmap.js';
import { logIn } from './login.js';
import { imageShown } from './opening.js';
import * as overlays from './overlays.js';
import { stopPicking } from './picking.js';
import { follower, run } from './run.js';
import { save, takeOverExport } from './saving.js';
import { session } from './session.js';
import { accept, nextUnsigned, reject } from './sign.js';
import { takeOver } from './stored.js';
import { t } from './text.js';
import { attempt } from './trouble.js';
import * as viewer from './viewer.js';

const ID = '@radloop/extension-radloop';
const OTHER_PANEL = 'panelSegmentationWithToolsLabelMap';
const SIGNS_OF_A_HAND = ['pointerdown', 'pointermove', 'wheel', 'keydown'];

let unsubscribe = [];

const panelElement = {
  $$typeof: Symbol.for('react.element'),
  type: 'radloop-panel',
  key: null,
  ref: null,
  props: { style: { display: 'flex', flex: '1 1 0', minHeight: 0 } },
  _owner: null,
};

const COMMANDS = {
  radloopRun: () => panelPart('radloop-run')?.go(),
  radloopNext: onOneImage(next),
  radloopToggle: onOneImage(() => {
    const result = session.result(session.selected);
    return result && overlays.toggle(result);
  }),
  radloopSave: () => save(),
  radloopAccept: accept,
  radloopReject: reject,
  radloopGrow: () => panelPart('radloop-prompts')?.pickers.grow.click(),
  radloopHelp: toggleHelp,
};

/** A section of the panel; null while another panel is in front. */
function panelPart(name) {
  const panel = document.querySelector('radloop-panel');
  if (!panel) {
    viewer.showPanel();
  }
  return panel?.shadowRoot?.querySelector(name) ?? null;
}

async function next() {
  const result = nextUnsigned(session.resultsHere(), session.selected);
  if (result) {
    await overlays.showAlone(result);
  }
}

function listen() {
  const segmentations = viewer.service('segmentationService');
  const displaySets = viewer.service('displaySetService');
  const grid = viewer.service('viewportGridService');
  const changed = () => session.follow();
  const on = (service, name, heard) => service.subscribe(service.EVENTS[name], heard).unsubscribe;
  const opened = () => {
    if (viewer.openStudy() !== session.studyUid) {
      session.studyUid = viewer.openStudy();
      // It asks what there is; after the image, which is awaited more.
      imageShown().then(() => session.studyUid && follower.start());
    }
  };
  unsubscribe = [
    labelmap.onDrawn(noteChange),
    on(segmentations, 'SEGMENTATION_MODIFIED', changed),
    on(segmentations, 'SEGMENTATION_REPRESENTATION_MODIFIED', changed),
    on(segmentations, 'SEGMENTATION_REMOVED', ({ segmentationId }) => {
      session.works.delete(segmentationId);
      changed();
    }),
    on(grid, 'ACTIVE_VIEWPORT_ID_CHANGED', changed),
    on(grid, 'GRID_STATE_CHANGED', changed),
    on(displaySets, 'DISPLAY_SETS_ADDED', ({ displaySetsAdded }) => {
      takeOver(displaySetsAdded);
      opened();
    }),
    keepPanel(),
  ];
  takeOver(viewer.displaySets());
  opened();
}

/**
 * Keep our panel where it is when a segmentation appears: OHIF would bring its own to the front, and
 * ours, which has the same tools, would begin anew. Who wants the other one clicks on it.
 */
function keepPanel() {
  const panels = viewer.service('panelService');
  const { activatePanel } = panels;
  panels.activatePanel = (panelId, ...rest) => {
    if (!panelId.includes(OTHER_PANEL)) {
      activatePanel.call(panels, panelId, ...rest);
    }
  };
  return () => {
    delete panels.activatePanel; // the method of the class is behind it
  };
}

/** A labelmap was drawn into: by a tool of OHIF, or by a prompt. */
function noteChange(segmentationId) {
  if (isLoading(segmentationId)) {
    return;
  }
  const work = session.touch(segmentationId);
  if (!isDrawing) {
    work.effort.stroke();
  } else {
    drawn = work;
  }
  keeper.noteChange();
}

function isLoading(segmentationId) {
  return viewer.displaySet(segmentationId)?.loading === true;
}

// One stroke of a brush is many changes: it counts when the hand lets go.
let isDrawing = false;
let drawn = null;

function noteHand(event) {
  if (event.type === 'pointerdown') {
    isDrawing = true;
  }
  for (const work of session.works.values()) {
    if (work.isDirty) {
      work.effort.touch();
    }
  }
}

function noteRelease() {
  isDrawing = false;
  drawn?.effort.stroke();
  drawn = null;
}

function noteHidden() {
  if (document.visibilityState === 'hidden') {
    keeper.flush();
  }
}

function warnOfLoss(event) {
  if (session.isUnkept) {
    keeper.flush(); // the person's answer gives it the time that it needs
    event.preventDefault();
  }
}

const DOCUMENT_EVENTS = [
  ...SIGNS_OF_A_HAND.map(type => [window, type, noteHand]),
  [window, 'pointerup', noteRelease],
  [window, 'pointercancel', noteRelease],
  [document, 'visibilitychange', noteHidden],
  [window, 'beforeunload', warnOfLoss],
];

export default {
  id: ID,

  preRegistration(managers) {
    viewer.attach(managers);
  },

  onModeEnter() {
    if (!viewer.isClinical()) {
      return;
    }
    window.radloop.logIn = logIn; // app-config.js: a 401 of the archive asks in place, too
    takeOverExport();
    listen();
    const options = { capture: true, passive: true };
    DOCUMENT_EVENTS.forEach(([target, type, heard]) =>
      target.addEventListener(type, heard, type === 'beforeunload' ? undefined : options)
    );
  },

  onModeExit() {
    keeper.flush();
    keeper.stop();
    stopPicking();
    follower.stop();
    unsubscribe.forEach(end => end());
    unsubscribe = [];
    DOCUMENT_EVENTS.forEach(([target, type, heard]) =>
      target.removeEventListener(type, heard, { capture: true })
    );
    window.removeEventListener('beforeunload', warnOfLoss);
    delete window.radloop.logIn;
    session.close();
  },

  getCommandsModule: () => ({
    defaultContext: 'DEFAULT',
    definitions: Object.fromEntries(
      Object.entries(COMMANDS).map(([name, work]) => [name, { commandFn: attempt(() => work()) }])
    ),
  }),

  getPanelModule: () => [
    {
      name: 'radloop',
      iconName: 'icon-tool-click-segment',
      iconLabel: t('title'),
      label: t('title'),
      component: () => panelElement,
    },
  ],

  getCustomizationModule: () => [
    { name: 'default', value: { 'ohif.hotkeyBindings': { $push: bindings() } } },
  ],
};
