"use strict";
// Numbers of a case: from base64 to maps, and what is computed of them. Nothing here touches the page.

/** @param {string} text */
function decodeBase64(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

/** @param {Uint8Array<ArrayBuffer>} bytes */
async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// Returns the map of each word as numbers: value = whole number * scale of the word / (2 ** bits - 1); with a sign, one
// bit less.
/** @param {ArrayBuffer} buffer @param {MapItem} item @param {number} words @param {number} patches @param {boolean} signed */
function mapValues(buffer, item, words, patches, signed) {
  const [narrow, wide] = signed ? [Int8Array, Int16Array] : [Uint8Array, Uint16Array];
  const kind = item.bits === 8 ? narrow : wide, size = item.bits / 8, steps = 2 ** (item.bits - (signed ? 1 : 0)) - 1;
  // A copy: 16-bit numbers may begin at an odd byte, where no Uint16Array can be laid over the buffer.
  const whole = new kind(buffer.slice(item.offset, item.offset + words * patches * size));
  return item.scale.map((scale, w) => Float64Array.from(whole.subarray(w * patches, (w + 1) * patches), (q) => (q * scale) / steps));
}

// Returns the mean over the tokens of the chosen words.
/** @param {ArrayLike<number>[]} values @param {Word[]} words @param {number[]} chosen */
function meanOfWords(values, words, chosen) {
  const mean = new Float64Array(values[0].length);
  let total = 0;
  for (const w of chosen) {
    total += words[w].tokens;
    for (let p = 0; p < mean.length; p++) mean[p] += words[w].tokens * values[w][p];
  }
  return mean.map((value) => value / total);
}

// Returns a - b; without a unit both are first brought to sizes that sum to one.
/** @param {Float64Array} a @param {Float64Array} b @param {boolean} normalise */
function difference(a, b, normalise) {
  const total = (/** @type {Float64Array} */ values) => (normalise ? values.reduce((sum, value) => sum + Math.abs(value), 0) || 1 : 1);
  const [first, second] = [total(a), total(b)];
  return a.map((value, p) => value / first - b[p] / second);
}

/** @param {Float64Array} values @returns {number} */
function largest(values) {
  return values.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
}

/** @param {Iterable<number> & ArrayLike<number>} values @param {Iterable<number> | null} patches */
function sumOver(values, patches) {
  let sum = 0;
  if (patches === null) for (const value of values) sum += value;
  else for (const p of patches) sum += values[p];
  return sum;
}

// Share of the map's mass inside the mask, and whether its hottest patch is mostly inside.
/** @param {number[]} coverage @param {Float64Array} values */
function against(coverage, values) {
  let inside = 0, total = 0, hottest = 0, area = 0;
  for (let p = 0; p < values.length; p++) {
    inside += coverage[p] * values[p];
    total += values[p];
    area += coverage[p];
    if (values[p] > values[hottest]) hottest = p;
  }
  return total > 0 ? { mass: inside / total, area: area / values.length, hottest: coverage[hottest] } : null;
}

const LOG_RANGE = 1000; // a logarithmic scale tells values apart down to this part of its end

// Returns the number of the colour: of 0 to limit, or with a sign of -limit to limit.
/** @param {number} value @param {number} limit @param {boolean} signed */
function colourIndex(value, limit, signed, log = false) {
  let share = limit > 0 ? Math.min(1, Math.max(-1, value / limit)) : 0;
  if (log) share = (Math.sign(share) * Math.log1p(LOG_RANGE * Math.abs(share))) / Math.log1p(LOG_RANGE);
  return Math.min(255, Math.max(0, Math.floor((signed ? (share + 1) / 2 : share) * 256)));
}

// Returns how many of a map's patches a robust scale leaves out: one in fifty, at least one.
/** @param {number} patches */
const hotPatches = (patches) => Math.min(patches - 1, Math.ceil(0.02 * patches));

// Returns the end of a scale that the hottest patches of each map do not decide; of all, where nothing else is above 0.
/** @param {Float64Array[]} maps */
function robustLimit(maps) {
  const ends = maps.map((values) => [...values].map(Math.abs).sort((a, b) => b - a)[hotPatches(values.length)]);
  return Math.max(0, ...ends) || Math.max(0, ...maps.map(largest));
}

// Returns the image with the grey levels of a window stretched over all levels.
/** @param {ImageData} pixels @param {number} centre @param {number} width */
function windowPixels(pixels, centre, width) {
  const level = new Uint8ClampedArray(256), low = centre - width / 2;
  for (let v = 0; v < 256; v++) level[v] = (255 * (v - low)) / width;
  const found = new ImageData(pixels.width, pixels.height);
  for (let i = 0; i < pixels.data.length; i++) found.data[i] = i % 4 === 3 ? 255 : level[pixels.data[i]];
  return found;
}

// Returns how far a colour is from that of 0, from 0 to 1.
/** @param {number} index @param {boolean} signed */
function strength(index, signed) {
  return signed ? Math.abs((2 * index) / 255 - 1) : index / 255;
}

// Writes image and map, blended, into `target`. The image was squashed to a square of grid x grid patches, so patch
// (i, j) is the rectangle of rows i h / grid to (i + 1) h / grid and columns j w / grid to (j + 1) w / grid.
// With `fade` the opacity grows with the value, from none at 0.
/**
 * @param {ImageData} target @param {ImageData} image @param {Float64Array} values
 * @param {{grid: number, limit: number, signed: boolean, log: boolean, opacity: number, fade: boolean, table: Uint8Array}} options
 */
function blend(target, image, values, { grid, limit, signed, log, opacity, fade, table }) {
  const { width, height } = image, column = new Int32Array(width);
  for (let x = 0; x < width; x++) column[x] = Math.floor(((x + 0.5) * grid) / width);
  const colour = Int32Array.from(values, (value) => 3 * colourIndex(value, limit, signed, log));
  const weight = Float64Array.from(colour, (from) => (fade ? opacity * strength(from / 3, signed) : opacity));
  for (let y = 0, at = 0; y < height; y++) {
    const row = Math.floor(((y + 0.5) * grid) / height) * grid;
    for (let x = 0; x < width; x++, at += 4) {
      const from = colour[row + column[x]], alpha = weight[row + column[x]];
      for (let c = 0; c < 3; c++) target.data[at + c] = Math.round((1 - alpha) * image.data[at + c] + alpha * table[from + c]);
      target.data[at + 3] = 255;
    }
  }
}

// Returns the patches of the rectangle with these two corners.
/** @param {number} a @param {number} b @param {number} grid */
function rectangle(a, b, grid) {
  const rows = [Math.floor(a / grid), Math.floor(b / grid)].sort((x, y) => x - y);
  const columns = [a % grid, b % grid].sort((x, y) => x - y), found = [];
  for (let i = rows[0]; i <= rows[1]; i++) for (let j = columns[0]; j <= columns[1]; j++) found.push(i * grid + j);
  return found;
}

/** @param {number} share */
function percent(share) {
  return Math.abs(share) >= 0.0995 || share === 0 ? `${Math.round(100 * share)} %` : `${(100 * share).toPrecision(2)} %`;
}

/** @param {number} value */
function number(value) {
  return value === 0 ? "0" : String(Number(value.toPrecision(3)));
}
