/*
 * Segmentations of the archive, loaded through the node.
 *
 * OHIF reads a SEG frame by frame: twenty structures on a hundred slices are two thousand frames. The
 * node gives the same voxels as one small labels document. What such a document cannot hold (shares,
 * segments that overlap, more than 255) is loaded by OHIF as ever.
 */

import * as labelmap from './labelmap.js';
import * as node from './node.js';
import { displaySet, instanceOf, libraries, source } from './viewer.js';

const taken = new WeakSet();

/**
 * Let the node give the voxels of these display sets, as far as they are segmentations.
 *
 * Each gets `prepare()`, too: it asks for them before they are to be loaded, and resolves when they
 * are here: whether the node could give them.
 */
export function takeOver(sets) {
  sets.filter(set => set.Modality === 'SEG' && set.load && !taken.has(set)).forEach(takeOverOne);
}

function takeOverOne(set) {
  taken.add(set);
  const stock = set.load;
  let running = null;
  let asked = null;
  set.prepare = () => {
    asked ??= ask(set);
    return asked.then(
      () => true,
      () => false // who loads it hears of it
    );
  };
  const load = async options => {
    try {
      set.prepare();
      const answer = asked;
      asked = null; // the next one hears what is stored then
      await fill(set, await answer);
    } catch (error) {
      if (!(error instanceof node.Refused)) {
        console.warn('radloop: loaded by the viewer itself', error);
      }
      set.segments = {}; // OHIF parses what has none
    }
    await stock(options);
  };
  set.load = options => {
    if (set.isLoaded && labelmap.stateOf(set.displaySetInstanceUID)) {
      return stock(options);
    }
    running ??= load(options).finally(() => {
      running = null;
    });
    set.loadingPromise = running;
    return running;
  };
}

/** Ask the node for the labels of a segmentation. */
async function ask(set) {
  return node.post('/api/viewer/labels', {
    StudyInstanceUID: set.StudyInstanceUID,
    SeriesInstanceUID: displaySet(set.referencedDisplaySetInstanceUID).SeriesInstanceUID,
    SOPInstanceUID: set.SOPInstanceUID,
  });
}

/** Put into the display set what OHIF's own parser would; OHIF goes on from there. */
async function fill(set, { head, planes }) {
  const images = displaySet(set.referencedDisplaySetInstanceUID);
  const imageIds = images.imageIds ?? source().getImageIdsForDisplaySet(images);
  const { imageLoader } = libraries().cornerstone;
  const slices = new Map(imageIds.map((imageId, k) => [keyOf(instanceOf(imageId)), k]));
  const places = head.layers.flat().map(name => slices.get(keyOf(name)));
  if (places.includes(undefined)) {
    throw new RangeError('labels on slices that the viewer does not show');
  }
  images.imageIds ??= imageIds;
  const made = await imageLoader.createAndCacheDerivedLabelmapImages(imageIds);
  places.forEach((k, at) => made[k].voxelManager.getScalarData().set(planes[at]));
  const described = [set.instance.SegmentSequence].flat();
  const data = [undefined];
  for (const { number, colour } of head.segments) {
    const segment = described.find(one => Number(one.SegmentNumber) === number);
    data.push({ ...segment, SegmentNumber: number, rgba: [...colour, 255] });
  }
  const middles = middlesOf(places, planes, head.columns);
  Object.assign(set, {
    referencedImageIds: imageIds,
    labelMapImages: [made],
    segMetadata: { data, seriesInstanceUid: set.SeriesInstanceUID },
    segments: Object.fromEntries(head.segments.map(({ number }) => [number, {}])),
    centroids: new Map(
      head.segments.map(({ number }, at) => [at + 1, placed(middles.get(number), imageIds)])
    ),
    overlappingSegments: false,
  });
}

/** The mean column, row and slice of each number. */
function middlesOf(places, planes, columns) {
  const sums = new Map();
  places.forEach((k, at) => {
    const plane = planes[at];
    for (let index = 0; index < plane.length; index += 1) {
      const number = plane[index];
      if (number !== 0) {
        let sum = sums.get(number);
        if (!sum) {
          sum = { x: 0, y: 0, z: 0, count: 0 };
          sums.set(number, sum);
        }
        sum.x += index % columns;
        sum.y += (index / columns) | 0;
        sum.z += k;
        sum.count += 1;
      }
    }
  });
  return sums;
}

/** Where the middle of a segment is, in the images and in the patient, as OHIF tells it. */
function placed(sum, imageIds) {
  if (!sum) {
    return undefined;
  }
  const [x, y, z] = [sum.x, sum.y, sum.z].map(total => Math.round(total / sum.count));
  const { metaData, utilities } = libraries().cornerstone;
  const plane = metaData.get('imagePlaneModule', imageIds[z]);
  const world = plane?.imagePositionPatient
    ? utilities.imageToWorldCoords(imageIds[z], [x, y])
    : [0, 0, 0];
  return {
    image: { x, y, z },
    world: { x: world[0], y: world[1], z: world[2] },
    count: sum.count,
  };
}

function keyOf({ SOPInstanceUID, frame }) {
  return `${SOPInstanceUID}/${frame ?? 1}`;
}
