/*
 * The labels document: how a labelmap travels between viewer and node.
 *
 *     uint32, little endian: bytes of the head | the head, JSON in UTF-8 | the planes, gzipped
 *
 * The head names each plane's image in `layers`; the planes follow in that order, row by row, 8 or
 * 16 bits little endian a voxel, the segment's number or 0. Planes without a voxel are left out.
 */

export const MEDIA_TYPE = 'application/vnd.radloop.labels';

const LENGTH_BYTES = 4;

/**
 * Return the document as a Blob.
 *
 * `head.layers` lists what `planes` (typed arrays, one a listed slice, layer by layer) hold.
 */
export async function pack(head, planes) {
  const listed = head.layers.reduce((sum, layer) => sum + layer.length, 0);
  if (listed !== planes.length) {
    throw new RangeError(`${planes.length} planes for ${listed} slices`);
  }
  const text = new TextEncoder().encode(JSON.stringify(head));
  const length = new DataView(new ArrayBuffer(LENGTH_BYTES));
  length.setUint32(0, text.length, true);
  const payload = new Blob(planes.map(plane => voxelBytes(plane, head.bits)));
  const zipped = await through(payload, new CompressionStream('gzip'));
  return new Blob([length.buffer, text, zipped], { type: MEDIA_TYPE });
}

/** Return `{head, planes}` of a document in an ArrayBuffer; planes as `pack` takes them. */
export async function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const end = LENGTH_BYTES + length;
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, LENGTH_BYTES, length)));
  const slices = head.layers.reduce((sum, layer) => sum + layer.length, 0);
  const size = head.rows * head.columns;
  if (slices === 0) {
    return { head, planes: [] };
  }
  const voxels = await through(new Blob([buffer.slice(end)]), new DecompressionStream('gzip'));
  if (voxels.byteLength !== (slices * size * head.bits) / 8) {
    throw new RangeError(`${voxels.byteLength} bytes for ${slices} slices`);
  }
  const Planes = head.bits === 16 ? Uint16Array : Uint8Array;
  const planes = Array.from(
    { length: slices },
    (_, index) => new Planes(voxels, index * size * Planes.BYTES_PER_ELEMENT, size)
  );
  return { head, planes };
}

function voxelBytes(plane, bits) {
  const Planes = bits === 16 ? Uint16Array : Uint8Array;
  return plane instanceof Planes ? plane : Planes.from(plane);
}

function through(blob, transform) {
  return new Response(blob.stream().pipeThrough(transform)).arrayBuffer();
}
