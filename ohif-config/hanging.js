/*
 * How a study opens: its image series on the middle slice, with the segmentations on it; of one that
 * was corrected, the correction.
 *
 * A run-time extension: the stock build import()s it by its address (see app-config.js).
 */

const MOST_SEGMENTATIONS = 4; // laid over the image at once; more can be added by hand

/** Whether a segmentation was made on this image series. */
function refersTo(segmentation, image) {
  const instance = segmentation.instance ?? segmentation.instances?.[0];
  const series = [instance?.ReferencedSeriesSequence ?? []].flat();
  return series.some(item => item.SeriesInstanceUID === image.SeriesInstanceUID);
}

/** The SEG instances that a segmentation was made from. */
function predecessors(set) {
  return [set.instance?.PredecessorDocumentsSequence ?? []]
    .flat()
    .flatMap(study => study.ReferencedSeriesSequence ?? [])
    .flatMap(series => series.ReferencedSOPSequence ?? [])
    .map(instance => instance.ReferencedSOPInstanceUID);
}

/** What counts now: of all that was made from one segmentation, step by step, what was made last. */
function current(displaySets) {
  const segmentations = displaySets.filter(set => set.Modality === 'SEG');
  const known = new Map(segmentations.map(set => [set.SOPInstanceUID, set]));
  const origin = set => {
    const seen = new Set();
    let uid = set.SOPInstanceUID;
    while (known.has(uid) && !seen.has(uid) && predecessors(known.get(uid)).length) {
      seen.add(uid);
      [uid] = predecessors(known.get(uid));
    }
    return uid;
  };
  const last = new Map();
  for (const set of segmentations) {
    const from = origin(set);
    if (!last.has(from) || madeAt(last.get(from)) < madeAt(set)) {
      last.set(from, set);
    }
  }
  return new Set(last.values());
}

/** When a segmentation was made: sorts as text. */
function madeAt({ instance = {} }) {
  const { ContentDate: date = '', ContentTime: time = '', SeriesNumber: number = 0 } = instance;
  return `${date}${String(time).padEnd(13, '0')} ${String(number).padStart(9, '0')}`;
}

/** The image series that a study opens with: the one of the address, else the segmented one. */
function openingImage(displaySets) {
  const images = displaySets.filter(set => set.numImageFrames > 0 && set.Modality !== 'SEG');
  const segmentations = displaySets.filter(set => set.Modality === 'SEG');
  const parameters = new URLSearchParams(window.location.search);
  const asked = [...parameters]
    .filter(([name]) => name.toLowerCase() === 'initialseriesinstanceuid')
    .flatMap(([, value]) => value.split(','));
  const isAsked = set => asked.includes(set.SeriesInstanceUID);
  return (
    images.find(isAsked) ??
    images.find(image => segmentations.some(one => isAsked(one) && refersTo(one, image))) ??
    images.find(image => segmentations.some(one => refersTo(one, image))) ??
    images[0]
  );
}

const image = {
  seriesMatchingRules: [
    { weight: 10, attribute: 'numImageFrames', constraint: { greaterThan: { value: 0 } } },
    { weight: 20, attribute: 'isOpeningImage', constraint: { equals: { value: true } } },
  ],
};
const segmentation = {
  seriesMatchingRules: [
    {
      weight: 1,
      attribute: 'liesOnOpeningImage',
      constraint: { equals: { value: true } },
      required: true,
    },
  ],
};
const overlays = Array.from({ length: MOST_SEGMENTATIONS }, (_, index) => ({
  id: 'segmentation',
  matchedDisplaySetsIndex: index,
}));
const sameFrame = { type: 'hydrateseg', id: 'sameFORId', source: true, target: true };

const protocol = {
  id: 'radloop',
  name: 'Image with its segmentations',
  locked: true,
  protocolMatchingRules: [],
  toolGroupIds: ['default'],
  numberOfPriorsReferenced: 0,
  defaultViewport: {
    viewportOptions: {
      viewportType: 'stack',
      toolGroupId: 'default',
      allowUnmatchedView: true,
      syncGroups: [{ ...sameFrame, options: { matchingRules: ['sameFOR'] } }],
    },
    displaySets: [{ id: 'image', matchedDisplaySetsIndex: -1 }],
  },
  displaySetSelectors: { image, segmentation },
  stages: [
    {
      name: 'one',
      viewportStructure: { layoutType: 'grid', properties: { rows: 1, columns: 1 } },
      viewports: [
        {
          viewportOptions: {
            viewportId: 'default',
            viewportType: 'stack',
            toolGroupId: 'default',
            allowUnmatchedView: true,
            initialImageOptions: { preset: 'middle' },
            syncGroups: [sameFrame],
          },
          displaySets: [{ id: 'image' }, ...overlays],
        },
      ],
    },
  ],
};

export default {
  id: '@radloop/extension-hanging',
  preRegistration({ servicesManager }) {
    const { hangingProtocolService } = servicesManager.services;
    hangingProtocolService.addCustomAttribute(
      'isOpeningImage',
      'The image series that the study opens with',
      (set, { displaySets }) => set === openingImage(displaySets)
    );
    hangingProtocolService.addCustomAttribute(
      'liesOnOpeningImage',
      'A segmentation of that series, as it was corrected last',
      (set, { displaySets }) => {
        const shown = openingImage(displaySets);
        const isOnIt = set.Modality === 'SEG' && shown !== undefined && refersTo(set, shown);
        const isCurrent = isOnIt && current(displaySets).has(set);
        if (isCurrent) {
          set.prepare?.(); // it is about to be loaded: see stored.js
        }
        return isCurrent;
      }
    );
  },
  getHangingProtocolModule: () => [{ name: protocol.id, protocol }],
};
