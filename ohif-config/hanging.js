/*
 * How a study opens: its image series on the middle slice, with every segmentation on it.
 *
 * A run-time extension: the stock build import()s it by its address (see app-config.js).
 */

const MOST_SEGMENTATIONS = 4; // laid over the image at once; more can be added by hand

const image = {
  seriesMatchingRules: [
    { weight: 10, attribute: 'numImageFrames', constraint: { greaterThan: { value: 0 } } },
    { weight: 20, attribute: 'isDisplaySetFromUrl', constraint: { equals: true } },
  ],
};
const segmentation = {
  seriesMatchingRules: [
    { weight: 1, attribute: 'Modality', constraint: { equals: { value: 'SEG' } }, required: true },
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
  getHangingProtocolModule: () => [{ name: protocol.id, protocol }],
};
