/*
 * A study opens with its image first: what OHIF does before it, and need not, comes after it or not
 * at all.
 *
 * A run-time extension: the stock build import()s it by its address (see app-config.js).
 */

const CORNERSTONE = '@ohif/extension-cornerstone.utilityModule.common';

// OHIF makes seven contexts for WebGL before it draws anything, for as many viewports at once. Where
// there are fewer, viewports share them.
const CONTEXTS = 2;
const LONGEST_WAIT_MS = 3000; // for an image; segmentations then come without it

function useFewContexts(extensionManager) {
  const { cornerstone } = extensionManager
    .getModuleEntry(CORNERSTONE)
    .exports.getCornerstoneLibraries();
  const { rendering, ...others } = cornerstone.getConfiguration();
  cornerstone.setConfiguration({
    ...others,
    rendering: { ...rendering, webGlContextCount: CONTEXTS },
  });
}

/** Resolves when an image has been drawn. */
function firstImage() {
  return new Promise(resolve => {
    const drawn = () => requestAnimationFrame(() => setTimeout(resolve));
    document.addEventListener('CORNERSTONE_STACK_NEW_IMAGE', drawn, { capture: true, once: true });
    setTimeout(resolve, LONGEST_WAIT_MS);
  });
}

/**
 * Show the image of a study that opens before its segmentations are loaded. OHIF would load them
 * first; but it adds to an image what comes later. Returns how to stop.
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
        running = firstImage().then(() => load(options));
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
  const ends = [
    displaySetService.subscribe(DISPLAY_SETS_ADDED, added).unsubscribe,
    cornerstoneViewportService.subscribe(VIEWPORT_DATA_CHANGED, () => {
      isOpening = false;
    }).unsubscribe,
  ];
  return () => ends.forEach(end => end());
}

let stop = () => {};

export default {
  id: '@radloop/extension-opening',
  preRegistration({ extensionManager }) {
    useFewContexts(extensionManager);
  },
  onModeEnter({ servicesManager }) {
    stop = showImageFirst(servicesManager.services);
  },
  onModeExit() {
    stop();
  },
};
