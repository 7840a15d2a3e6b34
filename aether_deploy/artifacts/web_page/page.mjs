// Takes a photo from the person, has the worker upscale it tile by tile, and shows both.
const element = (id) => document.getElementById(id);
const settings = await (await fetch("settings.json")).json();
const worker = new Worker("worker.mjs", { type: "module" });
let running = false;
let ran = "";
let receive = () => {};
worker.onmessage = ({ data }) => {
  if (data.ran) ran = data.ran;
  if (data.ran && !running) say(`Ready: ${ran} will run the network.`);
  if (running) receive(data);
};

element("about").textContent = `${settings.name}, ${settings.scale} times as large, ${settings.precision}.`;

function say(text, bad = false) {
  element("status").textContent = text;
  element("status").classList.toggle("bad", bad);
}

function stop(text) {
  running = false;
  element("progress").hidden = true;
  say(text, true);
}

// Browsers refuse larger canvases, and some give an empty one instead of an error.
const LARGEST_SIDE = 16384;
const LARGEST_AREA = 2 ** 28;

async function upscale(file) {
  if (running || !file) return;
  running = true;
  element("result").hidden = true;
  say("Reading the photo ...");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return stop(`${file.name || "This"} is no picture that the browser can read; choose a PNG, JPEG or WebP.`);
  }
  const { width, height } = bitmap;
  const [w, h] = [width * settings.scale, height * settings.scale];
  if (Math.max(w, h) > LARGEST_SIDE || w * h > LARGEST_AREA) {
    return stop(`${width}x${height} would become ${w}x${h}, more than a browser can show; choose a smaller photo.`);
  }
  const source = new OffscreenCanvas(width, height).getContext("2d");
  source.drawImage(bitmap, 0, 0);
  const pixels = source.getImageData(0, 0, width, height);
  const target = new OffscreenCanvas(w, h).getContext("2d");
  const began = performance.now();
  element("progress").hidden = false;
  element("progress").value = 0;
  say(ran ? "Upscaling ..." : "Loading the network ...");
  receive = async (data) => {
    if (data.error) return stop(data.error);
    if (!data.tile) return;
    target.putImageData(data.tile, data.x, data.y);
    element("progress").value = data.done / data.total;
    const left = ((performance.now() - began) / data.done) * (data.total - data.done);
    say(`${data.done} of ${data.total} tiles, about ${Math.ceil(left / 1000)} s left (${ran})`);
    if (data.done < data.total) return;
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    const blob = await target.canvas.convertToBlob({ type: "image/png" });
    show(file, blob, `${width}x${height} became ${w}x${h} in ${seconds} s`);
    say(`Done. ${ran} ran the network.`);
    element("progress").hidden = true;
    running = false;
  };
  worker.postMessage({ pixels }, [pixels.data.buffer]);
}

function show(file, blob, size) {
  for (const [id, content] of [["before", file], ["after", blob]]) {
    URL.revokeObjectURL(element(id).src);
    element(id).src = URL.createObjectURL(content);
  }
  const save = element("save");
  save.href = element("after").src;
  save.download = `${(file.name || "photo").replace(/\.[^.]*$/, "")}_${settings.scale}x.png`;
  element("size").textContent = size;
  element("result").hidden = false;
}

worker.onerror = (event) => stop(`The network cannot be loaded (${event.message || "no module workers here"}).`);
element("file").addEventListener("change", (event) => {
  upscale(event.target.files[0]);
  event.target.value = "";
});
element("at").addEventListener("input", (event) => element("slider").style.setProperty("--at", `${event.target.value}%`));
document.addEventListener("paste", (event) => upscale([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") upscale(event.dataTransfer.files[0]);
  });
}
