/*
 * Arithmetic on label planes: typed arrays of segment numbers, one a slice. Nothing of the viewer.
 */

/** Whether no voxel is set. */
export function isEmpty(plane) {
  return !plane.some(value => value !== 0);
}

/** A copy that keeps one segment and nothing else. */
export function only(plane, segment) {
  return plane.map(value => (value === segment ? segment : 0));
}

/**
 * Lay a mask on a plane, in place; return how many voxels changed.
 *
 * `replace`: the segment becomes the mask. Otherwise the mask is added to it. Voxels of another
 * segment stay as they are, unless it is one that `mayTake(number)` allows.
 */
export function lay(plane, mask, segment, { replace, mayTake = () => false }) {
  let changed = 0;
  for (let at = 0; at < plane.length; at += 1) {
    const old = plane[at];
    let value = old;
    if (mask[at] !== 0) {
      value = old === 0 || mayTake(old) ? segment : old;
    } else if (replace && old === segment) {
      value = 0;
    }
    if (value !== old) {
      plane[at] = value;
      changed += 1;
    }
  }
  return changed;
}

export const ONLY_FIRST = 1;
export const ONLY_SECOND = 2;
export const OTHER_SEGMENT = 3;

/**
 * Where two labellings differ: a plane of ONLY_FIRST, ONLY_SECOND, OTHER_SEGMENT or 0.
 *
 * `first` and `second` are lists of planes of one slice, a layer each.
 */
export function difference(first, second, size) {
  const found = new Uint8Array(size);
  const isPlain = first.length === 1 && second.length === 1;
  const oneAt = isPlain ? at => first[0][at] : at => numbersAt(first, at);
  const otherAt = isPlain ? at => second[0][at] : at => numbersAt(second, at);
  for (let at = 0; at < size; at += 1) {
    const one = oneAt(at);
    const other = otherAt(at);
    if (one !== other) {
      found[at] = one ? (other ? OTHER_SEGMENT : ONLY_FIRST) : ONLY_SECOND;
    }
  }
  return found;
}

/** The numbers at a voxel of planes that overlap, as a text; empty where there is none. */
function numbersAt(planes, at) {
  const numbers = new Set(planes.map(plane => plane[at]).filter(Boolean));
  return [...numbers].sort((a, b) => a - b).join('+');
}

/** Add to `counts` what a plane of differences holds; `both`: voxels that both say are something. */
export function count(counts, first, differences) {
  for (let at = 0; at < differences.length; at += 1) {
    const kind = differences[at];
    if (kind !== 0) {
      counts[kind] += 1;
    }
    if (kind === OTHER_SEGMENT || (kind === 0 && first.some(plane => plane[at] !== 0))) {
      counts.both += 1;
    }
  }
}

/**
 * Dice's coefficient of a difference, from counts, whatever the segments are called; null where both
 * are empty.
 */
export function dice(counts) {
  const sum = 2 * counts.both + counts[ONLY_FIRST] + counts[ONLY_SECOND];
  return sum === 0 ? null : (2 * counts.both) / sum;
}
