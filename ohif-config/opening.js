/*
 * A study opens with its image first: what OHIF does before it, and need not, comes after it or not
 * at all. Its segmentations come next, and then the slices that nobody looks at yet.
 *
 * A run-time extension: the stock build import()s it by its address (see app-config.js).
 */

const CORNERSTONE = '@ohif/extension-cornerstone.utilityModule.common';

// OHIF makes seven contexts for WebGL before it draws anything, for as many viewports at once. Where
// there are fewer, viewports share them.
const CONTEXTS = 2;
const LONGEST_WAIT_MS = 3000; // for an image; segmentations then come without it
const LONGEST_HOLD_MS = 10_000; // for segmentations; other slices then come without them

// What moves while nothing is there yet takes the processor from what is awaited.
const STILL = '*, *::before, *::after { animation: none !important; transition: none !important; }';

let cornerstone = null;
let shown = Promise.resolve();
let ends = [];

/** Resolves when the study that is opening shows an image, or has none to show. */
export function imageShown() {
  return shown;
}

function useFewContexts() {
  const { rendering, ...others } = cornerstone.getConfiguration();
  cornerstone.setConfiguration({
    ...others,
    rendering: { ...rendering, webGlContextCount: CONTEXTS },
  });
}

function firstImage() {
  return new Promise(resolve => {
    const drawn = () => requestAnimationFrame(() => setTimeout(resolve));
    document.addEventListener('CORNERSTONE_STACK_NEW_IMAGE', drawn, { capture: true, once: true });
    setTimeout(resolve, LONGEST_WAIT_MS);
  });
}

/** Let nothing move until the image is there. */
function keepStill() {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STILL);
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  shown.then(() => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter(one => one !== sheet);
  });
}

/**
 * Show the image of a study that opens before its segmentations are loaded. OHIF would load them
 * first; but it adds to an image what comes later.
 */
function showImageFirst({ displaySetService, cornerstoneViewportService, uiNotificationService }) {
  let isOpening = true;
  const wrapped = new WeakSet();
  const wrap = set => {
    const load = set.load;
    let running = null;
    wrapped.add(set);
    set.load = options => {
      if (!isOpening) {
        return load(options);
      }
      if (!running) {
        running = shown.then(() => load(options));
        set.loadingPromise = running; // what OHIF waits for when the image is there
        running.catch(({ message }) =>
          uiNotificationService.show({ title: set.SeriesDescription, message, type: 'error' })
        );
      }
      return Promise.resolve();
    };
  };
  // After all others who listen: one of them may load it in another way.
  const added = ({ displaySetsAdded }) =>
    queueMicrotask(() =>
      displaySetsAdded
        .filter(set => isOpening && set.Modality === 'SEG' && set.load && !wrapped.has(set))
        .forEach(wrap)
    );
  const { DISPLAY_SETS_ADDED } = displaySetService.EVENTS;
  const { VIEWPORT_DATA_CHANGED } = cornerstoneViewportService.EVENTS;
  return [
    displaySetService.subscribe(DISPLAY_SETS_ADDED, added).unsubscribe,
    cornerstoneViewportService.subscribe(VIEWPORT_DATA_CHANGED, () => {
      isOpening = false;
    }).unsubscribe,
  ];
}

/** Fetch no slices ahead until the segmentations are on the image. Returns how to end it. */
function fetchAheadLater({ displaySetService }) {
  const pool = cornerstone.imageLoadPoolManager;
  const most = pool.getMaxSimultaneousRequests('prefetch');
  pool.setMaxSimultaneousRequests('prefetch', 0);
  let isHeld = true;
  const release = () => {
    if (isHeld) {
      isHeld = false;
      pool.setMaxSimultaneousRequests('prefetch', most);
      pool.startGrabbing();
    }
  };
  const loading = () =>
    displaySetService
      .getActiveDisplaySets()
      .filter(set => set.Modality === 'SEG')
      .map(set => set.loadingPromise);
  shown
    .then(() => Promise.allSettled(loading()))
    .then(() => requestIdleCallback(release, { timeout: LONGEST_WAIT_MS }));
  setTimeout(release, LONGEST_HOLD_MS);
  return release;
}

export default {
  id: '@radloop/extension-opening',
  preRegistration({ extensionManager }) {
    ({ cornerstone } = extensionManager
      .getModuleEntry(CORNERSTONE)
      .exports.getCornerstoneLibraries());
    useFewContexts();
  },
  onModeEnter({ servicesManager: { services } }) {
    shown = firstImage();
    keepStill();
    ends = [...showImageFirst(services), fetchAheadLater(services)];
  },
  onModeExit() {
    ends.forEach(end => end());
    ends = [];
  },
};
