// Runs the network on tiles of a photo, with WebGPU where there is, else with WebAssembly.
import * as ort from "./ort.webgpu.bundle.min.mjs";

ort.env.wasm.wasmPaths = { wasm: new URL("./ort-wasm-simd-threaded.asyncify.wasm", import.meta.url).href };
ort.env.logLevel = "error";


// At once, so that the page works without a connection from then on.
let opened = open();
opened.then(({ ran }) => postMessage({ ran }), () => {});

async function open() {
  const settings = await (await fetch("settings.json")).json();
  const model = new Uint8Array(await (await fetch(settings.model)).arrayBuffer());
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  if (adapter) {
    try {
      const session = await ort.InferenceSession.create(model, { executionProviders: ["webgpu"] });
      return { settings, session, ran: "WebGPU" };
    } catch (error) {
      console.warn(`WebGPU does not run the network: ${error}`);
    }
  }
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const threads = ort.env.wasm.numThreads || 1;
  return { settings, session, ran: `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}` };
}

// Where tiles of at most `tile` begin and end along one side, each with `margin` more on its inner edges.
function cuts(length, tile, margin) {
  if (length <= tile) return [{ begin: 0, end: length, from: 0, to: length }];
  const inner = tile - 2 * margin;
  const count = Math.ceil(length / inner);
  return Array.from({ length: count }, (_, index) => {
    const begin = Math.floor((index * length) / count);
    const end = Math.floor(((index + 1) * length) / count);
    return { begin, end, from: Math.max(0, begin - margin), to: Math.min(length, end + margin) };
  });
}

// (1, 3, height, width) of three channels of a part of RGBA pixels, 0 to 1.
function planes(pixels, rows, columns, channels) {
  const [height, width] = [rows.to - rows.from, columns.to - columns.from];
  const values = new Float32Array(3 * height * width);
  for (let y = 0, at = 0; y < height; y++) {
    let from = 4 * ((rows.from + y) * pixels.width + columns.from);
    for (let x = 0; x < width; x++, at++, from += 4) {
      for (let c = 0; c < 3; c++) values[c * height * width + at] = pixels.data[from + channels[c]] / 255;
    }
  }
  return new ort.Tensor("float32", values, [1, 3, height, width]);
}

async function run(session, pixels, rows, columns, channels) {
  const given = planes(pixels, rows, columns, channels);
  const { output } = await session.run({ input: given });
  const data = await output.getData(true);
  return { data, height: output.dims[2], width: output.dims[3] };
}

async function upscale(pixels) {
  opened ??= open();
  const { settings, session } = await opened;
  const { scale, margin, tile } = settings;
  const opaque = !pixels.data.some((value, index) => index % 4 === 3 && value !== 255);
  const places = cuts(pixels.height, tile, margin).flatMap((rows) =>
    cuts(pixels.width, tile, margin).map((columns) => ({ rows, columns })));
  for (const [index, { rows, columns }] of places.entries()) {
    const colour = await run(session, pixels, rows, columns, [0, 1, 2]);
    const alpha = opaque ? null : await run(session, pixels, rows, columns, [3, 3, 3]);
    const [height, width] = [(rows.end - rows.begin) * scale, (columns.end - columns.begin) * scale];
    const [top, left] = [(rows.begin - rows.from) * scale, (columns.begin - columns.from) * scale];
    const result = new ImageData(width, height);
    const area = colour.height * colour.width;
    for (let y = 0, to = 0; y < height; y++) {
      let at = (top + y) * colour.width + left;
      for (let x = 0; x < width; x++, at++, to += 4) {
        // The array clamps and rounds.
        for (let c = 0; c < 3; c++) result.data[to + c] = colour.data[c * area + at] * 255;
        result.data[to + 3] = alpha ? ((alpha.data[at] + alpha.data[area + at] + alpha.data[2 * area + at]) / 3) * 255 : 255;
      }
    }
    const place = { x: columns.begin * scale, y: rows.begin * scale, done: index + 1, total: places.length };
    postMessage({ tile: result, ...place }, [result.data.buffer]);
  }
}

self.onmessage = async ({ data }) => {
  try {
    await upscale(data.pixels);
  } catch (error) {
    opened = undefined;
    postMessage({ error: `The network failed (${error.message ?? error}); try a smaller photo.` });
  }
};
