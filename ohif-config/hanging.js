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

/** The SEG instances that another segmentation was made from: what it says now counts. */
function corrected(displaySets) {
  const uids = displaySets
    .filter(set => set.Modality === 'SEG')
    .flatMap(set => set.instance?.PredecessorDocumentsSequence ?? [])
    .flatMap(study => study.ReferencedSeriesSequence ?? [])
    .flatMap(series => series.ReferencedSOPSequence ?? [])
    .map(instance => instance.ReferencedSOPInstanceUID);
  return new Set(uids);
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
      'A segmentation of that series that none was made from',
      (set, { displaySets }) => {
        const shown = openingImage(displaySets);
        const isOnIt = set.Modality === 'SEG' && shown !== undefined && refersTo(set, shown);
        return isOnIt && !corrected(displaySets).has(set.SOPInstanceUID);
      }
    );
  },
  getHangingProtocolModule: () => [{ name: protocol.id, protocol }],
};
