/*
 * A study opens with its image first: what OHIF does before it, and need not, comes after it or not
 * at all. Its segmentations come next, and then the slices that nobody looks at yet.
 *
 * A run-time extension: the stock build import()s it by its address (see app-config.js).
 */

const CORNERSTONE = '@ohif/extension-cornerstone.utilityModule.common';
const SEGMENTATION_RENDERED = 'CORNERSTONE_TOOLS_SEGMENTATION_RENDERED';

// OHIF makes seven contexts for WebGL before it draws anything, for as many viewports at once. Where
// there are fewer, viewports share them.
const CONTEXTS = 1;
const LONGEST_WAIT_MS = 3000; // for an image, where none is on its way
const LONGEST_IMAGE_MS = 10_000; // for one that is: all else then comes without it
const LONGEST_HOLD_MS = 10_000; // for segmentations; other slices then come without them
const SOON_MS = 300; // for labels; the image then comes without them
const LONGEST_BARE_MS = 1000; // for segmentations; panels and tools then come without them

// What is drawn around the image while it is not there yet takes the processor from it, as does what
// moves (app-config.js): without a graphics card more than half of the time until the image.
const PANE = '[data-cy=viewport-pane]';
const VIEWPORT = `${PANE} .cornerstone-viewport-element`;
const BARE = `
  #root *:not(${PANE}, ${PANE} *) { visibility: hidden !important; }
  ${PANE} { visibility: visible !important; }`;
const bare = new CSSStyleSheet();
bare.replaceSync(BARE);

let cornerstone = null;
let source = null;
let shown = Promise.resolve();
let drawn = Promise.resolve();
let ends = [];

/**
 * Resolves when the study that is opening shows its image, with its segmentations where they come
 * soon; or has none to show.
 */
export function imageShown() {
  return drawn;
}

function useFewContexts() {
  const { rendering, ...others } = cornerstone.getConfiguration();
  cornerstone.setConfiguration({
    ...others,
    rendering: { ...rendering, webGlContextCount: CONTEXTS },
  });
}

/**
 * Smooth no edges where a processor does the work of a graphics card: four times the pixels, and a
 * slice has no edges. There is no setting for it: the drawing library asks for a context by itself.
 */
function drawPlainly() {
  if (!cornerstone.getRenderingCapabilities().softwareRasterizer) {
    return;
  }
  const { getContext } = HTMLCanvasElement.prototype;
  HTMLCanvasElement.prototype.getContext = function getPlainContext(kind, options) {
    const isDrawing = kind.startsWith('webgl');
    return getContext.call(this, kind, isDrawing ? { ...options, antialias: false } : options);
  };
}

/**
 * Fill segments without an outline where a processor does the work of a graphics card: the outline
 * is a quarter of each drawing. OHIF's segmentation panel has it.
 */
function fillPlainly({ segmentationService }) {
  if (cornerstone.getRenderingCapabilities().softwareRasterizer) {
    segmentationService.setStyle(
      { type: 'Labelmap' },
      { renderOutline: false, renderOutlineInactive: false }
    );
  }
}

function firstImage({ displaySetService }) {
  return new Promise(resolve => {
    const given = () => requestAnimationFrame(() => setTimeout(resolve));
    for (const name of ['CORNERSTONE_STACK_NEW_IMAGE', 'CORNERSTONE_VOLUME_NEW_IMAGE']) {
      document.addEventListener(name, given, { capture: true, once: true });
    }
    const lookForOne = () => {
      const sets = displaySetService.getActiveDisplaySets();
      const hasImages = sets.some(set => set.numImageFrames > 0 && set.Modality !== 'SEG');
      if (sets.length > 0 && !(hasImages && document.querySelector(VIEWPORT))) {
        resolve(); // documents, videos, slides of a microscope
      }
    };
    setTimeout(lookForOne, LONGEST_WAIT_MS);
    setTimeout(resolve, LONGEST_IMAGE_MS);
  });
}

/** Style the page until that resolves. Returns how to end it. */
function styleUntil(sheet, end) {
  const others = () => document.adoptedStyleSheets.filter(one => one !== sheet);
  document.adoptedStyleSheets = [...others(), sheet];
  const remove = () => {
    document.adoptedStyleSheets = others();
  };
  end.then(remove);
  return remove;
}

/** Resolves when the image is there and its segmentations are loaded, as far as they are awaited. */
function allLoaded({ displaySetService }) {
  const loading = () =>
    displaySetService
      .getActiveDisplaySets()
      .filter(set => set.Modality === 'SEG')
      .flatMap(set => set.loadingPromise ?? []);
  return shown.then(() => Promise.allSettled(loading()));
}

/** Resolves when segmentations are drawn that were loaded; at once where there are none. */
function segmentationsDrawn(loaded) {
  if (!loaded.some(({ status }) => status === 'fulfilled')) {
    return undefined;
  }
  return new Promise(resolve => {
    const end = () => {
      cornerstone.eventTarget.removeEventListener(SEGMENTATION_RENDERED, end);
      requestAnimationFrame(resolve);
    };
    cornerstone.eventTarget.addEventListener(SEGMENTATION_RENDERED, end);
  });
}

function after(ms) {
  return new Promise(resolve => {
    setTimeout(resolve, ms);
  });
}

/**
 * Show the image of a study that opens before its segmentations are loaded. OHIF would load them
 * first; but it adds to an image what comes later. Labels that the node has ready are laid out while
 * the image is on its way.
 */
function showImageFirst({ displaySetService, cornerstoneViewportService, uiNotificationService }) {
  let isOpening = true;
  let soon = null;
  const wrapped = new WeakSet();
  const wrap = set => {
    const load = set.load;
    let running = null;
    let laidOut = null;
    wrapped.add(set);
    set.load = options => {
      if (!isOpening) {
        return load(options);
      }
      if (!running) {
        soon ??= after(SOON_MS);
        const images = displaySetService.getDisplaySetByUID(set.referencedDisplaySetInstanceUID);
        fetchMiddleOf(images);
        const ready = Promise.race([set.prepare?.() ?? false, soon.then(() => false)]);
        running = ready.then(isReady => isReady || shown).then(() => load(options));
        laidOut = ready
          .then(isReady => isReady && Promise.race([running, soon]))
          .catch(() => {}); // it is told below
        set.loadingPromise = running; // what OHIF waits for when the image is there
        running.catch(({ message }) =>
          uiNotificationService.show({ title: set.SeriesDescription, message, type: 'error' })
        );
      }
      return laidOut;
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

/** Fetch the slice that a study opens with, while its segmentations are on their way. */
function fetchMiddleOf(images) {
  const imageIds = images.imageIds ?? source().getImageIdsForDisplaySet(images);
  const middle = imageIds[Math.floor(imageIds.length / 2)];
  cornerstone.imageLoader
    .loadAndCacheImage(middle, { requestType: 'interaction', preScale: { enabled: true } })
    .catch(() => {}); // the viewport asks again, and tells
}

/** Fetch no slices ahead until the segmentations are on the image. Returns how to end it. */
function fetchAheadLater(loaded) {
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
  loaded.then(() => requestIdleCallback(release, { timeout: LONGEST_WAIT_MS }));
  setTimeout(release, LONGEST_HOLD_MS);
  return release;
}

export default {
  id: '@radloop/extension-opening',
  preRegistration({ extensionManager }) {
    ({ cornerstone } = extensionManager
      .getModuleEntry(CORNERSTONE)
      .exports.getCornerstoneLibraries());
    source = () => extensionManager.getActiveDataSource()[0];
    useFewContexts();
    drawPlainly();
  },
  onModeEnter({ servicesManager: { services } }) {
    fillPlainly(services);
    shown = firstImage(services);
    const loaded = allLoaded(services);
    drawn = Promise.race([
      loaded.then(segmentationsDrawn),
      shown.then(() => after(LONGEST_BARE_MS)),
    ]);
    ends = [
      styleUntil(window.radloop.still, shown),
      styleUntil(bare, drawn),
      ...showImageFirst(services),
      fetchAheadLater(loaded),
    ];
  },
  onModeExit() {
    ends.forEach(end => end());
    ends = [];
  },
};
