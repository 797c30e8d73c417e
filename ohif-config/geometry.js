/*
 * Where voxels lie in the patient: DICOM's image planes (PS3.3 C.7.6.2), millimetres, LPS.
 */

/**
 * The voxel that a place lies in: `{index, row, column}`, `index` into `planes`; null outside.
 *
 * `planes` are Cornerstone's image planes. The position of a plane is the middle of its first voxel.
 */
export function nearestVoxel(planes, world) {
  let found = null;
  planes.forEach((plane, index) => {
    const from = minus(world, plane.imagePositionPatient);
    const distance = Math.abs(dot(from, cross(plane.rowCosines, plane.columnCosines)));
    if (found === null || distance < found.distance) {
      // PixelSpacing's first value is the step from row to row, its second from column to column.
      const row = Math.round(dot(from, plane.columnCosines) / plane.rowPixelSpacing);
      const column = Math.round(dot(from, plane.rowCosines) / plane.columnPixelSpacing);
      found = { index, row, column, distance };
    }
  });
  if (found === null) {
    return null;
  }
  const { index, row, column } = found;
  const { rows, columns } = planes[index];
  const isInside = row >= 0 && column >= 0 && row < rows && column < columns;
  return isInside ? { index, row, column } : null;
}

/** The corners `{from, to}` of the box around some voxels, each `[index, row, column]`. */
export function boxAround(voxels) {
  const axis = pick => voxels.map(pick);
  const all = [axis(v => v.index), axis(v => v.row), axis(v => v.column)];
  return {
    from: all.map(values => Math.min(...values)),
    to: all.map(values => Math.max(...values)),
  };
}

function cross(a, b) {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

function minus(a, b) {
  return [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
}
