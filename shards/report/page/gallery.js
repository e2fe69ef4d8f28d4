"use strict";
/* The page holds its data: `set` says what there is, and each picture is a block of base64 of its own further down, so
   that the first pictures are shown while the browser still reads the others. Texts of others are only ever set as
   text. */
const set = JSON.parse(document.getElementById("set").textContent);
const { frames, items, labels, sources } = set;
const $ = (id) => document.getElementById(id);
/* Okabe and Ito: told apart with any common kind of colour blindness */
const COLORS = [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [213, 94, 0], [204, 121, 167], [0, 114, 178], [255, 255, 255]];
const FILTERS = ["modality", "source", "label", "split", "licence", "plane"];
/* What looks wrong, if anybody looked: a finding is a filter too. */
const findings = set.findings ? set.findings.findings : [];
if (findings.length) FILTERS.push("finding");
const state = { open: -1, frame: 0, only: null, chosen: Object.fromEntries(FILTERS.map((name) => [name, ""])), search: "", from: null };

/* --- pictures --------------------------------------------------------------------------------------------------- */

/* The two parts of a picture; waits for the part of the page that has them. */
function parts(number) {
  return new Promise((done) => {
    const look = () => {
      const block = $(`p${number}`);
      /* a block is whole once something follows it */
      if (block && (block.nextElementSibling || document.readyState !== "loading")) done(block.textContent.split(" "));
      else setTimeout(look, 20);
    };
    look();
  });
}

function decoded(address) {
  const image = new Image();
  image.src = address;
  return image.decode().then(() => image);
}

/* The numbers of a label map, a layer below the other. */
async function numbersOf(number) {
  const frame = frames[number];
  const image = await decoded(`data:image/png;base64,${(await parts(number))[1]}`);
  const canvas = document.createElement("canvas");
  canvas.width = frame.width;
  canvas.height = frame.height * frame.layers;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height).data;
}

/* Beyond these, hues at steps of the golden section stay apart, however many there are; pale and full take turns. */
function colorAt(at) {
  if (at < COLORS.length) return COLORS[at];
  const hue = ((at * 0.618034) % 1) * 6, pale = at % 2 ? 0.95 : 0.45;
  return [5, 3, 1].map((shift) => {
    const turn = (shift + hue) % 6;
    return Math.round(255 * 0.95 * (1 - pale * Math.max(0, Math.min(turn, 4 - turn, 1))));
  });
}

/* Colours of the classes of a sample, in the order of its masks; in all slices of a volume they are the same. */
const itemByFrame = new Map(items.flatMap((item, at) => item.map((number) => [number, at])));
function colorsOf(number) {
  const found = new Map();
  for (const other of items[itemByFrame.get(number)]) {
    for (const [, , label] of frames[other].masks) if (!found.has(label)) found.set(label, colorAt(found.size));
  }
  return found;
}

async function paint(canvas, number, only) {
  const frame = frames[number], numbers = await numbersOf(number), colors = colorsOf(number);
  const { width, height, layers } = frame, outlines = $("outlines").checked;
  const byPlace = new Map(frame.masks.map(([layer, id, label]) => [layer * 256 + id, label]));
  const pixels = new ImageData(width, height), out = pixels.data;
  /* thick enough to be seen in a picture that is shown smaller */
  const reach = Math.max(1, Math.round(Math.max(width, height) / 320));
  for (let layer = 0; layer < layers; layer++) {
    const at = layer * height * width;
    const id = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : numbers[(at + y * width + x) * 4]);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const own = numbers[(at + y * width + x) * 4];
        if (!own) continue;
        const label = byPlace.get(layer * 256 + own);
        if (label === undefined || (only !== null && only !== label)) continue;
        if (outlines && id(x - reach, y) === own && id(x + reach, y) === own && id(x, y - reach) === own && id(x, y + reach) === own) continue;
        const color = colors.get(label), to = (y * width + x) * 4;
        out[to] = color[0]; out[to + 1] = color[1]; out[to + 2] = color[2]; out[to + 3] = 255;
      }
    }
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  canvas.dataset.frame = number;
  canvas.dataset.kind = outlines ? "outlines" : "fills";
  canvas.dataset.only = only === null ? "" : labels[only][0];
}

/* --- the grid --------------------------------------------------------------------------------------------------- */

const middle = (item) => items[item][Math.floor(items[item].length / 2)];
const tiles = [];

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function tile(item) {
  const frame = frames[middle(item)], button = element("button", "tile");
  button.type = "button";
  button.dataset.item = item;
  const thumb = element("span", "thumb"), words = element("span", "words");
  if (items[item].length > 1) thumb.append(element("span", "badge", `${items[item].length} slices`));
  const names = [...new Set(items[item].flatMap((one) => frames[one].masks.map((mask) => labels[mask[2]][0])))];
  words.append(element("span", "classes", names.join(", ") || "no mask"));
  words.append(element("span", "place", `${frame.about.modality} · ${frame.about.source}`));
  button.title = `${names.join(", ") || "no mask"}\n${frame.about.key}`;
  button.append(thumb, words);
  button.addEventListener("click", () => open(item));
  return button;
}

/* Which sample a button shows: that of an example, or the middle one of a volume. */
const frameOf = (button) => (button.dataset.frame === undefined ? middle(Number(button.dataset.item)) : Number(button.dataset.frame));

async function show(button) {
  if (button.dataset.shown) return;
  button.dataset.shown = "1";
  const number = frameOf(button), thumb = button.firstElementChild;
  const image = new Image(), canvas = document.createElement("canvas");
  image.alt = "";
  image.src = `data:image/webp;base64,${(await parts(number))[0]}`;
  thumb.prepend(image, canvas);
  await paint(canvas, number, null);
}

/* Pictures that are far away are let go: a thousand of them would take a gigabyte. */
function forget(button) {
  if (!button.dataset.shown) return;
  delete button.dataset.shown;
  for (const part of button.firstElementChild.querySelectorAll("img, canvas")) part.remove();
}

const near = new IntersectionObserver(
  (seen) => { for (const one of seen) (one.isIntersecting ? show : forget)(one.target); },
  { rootMargin: "400px" },
);

/* --- what looks wrong ------------------------------------------------------------------------------------------- */

const frameByKey = new Map(frames.map((frame, number) => [frame.about.key, number]));
const examples = [];
const checksByKey = new Map();
for (const one of findings) {
  for (const key of one.examples) checksByKey.set(key, [...(checksByKey.get(key) || []), one.check]);
}

const short = (value) => String(Number(value.toPrecision(3)));
const counted = (count, thing) => `${count.toLocaleString("en")} ${thing}${count === 1 ? "" : "s"}`;

function example(number) {
  const button = element("button", "example"), item = itemByFrame.get(number);
  button.type = "button";
  button.dataset.frame = number;
  button.title = frames[number].about.key;
  button.setAttribute("aria-label", frames[number].about.key);
  button.append(element("span", "thumb"));
  button.addEventListener("click", () => { open(item, items[item].indexOf(number)); state.from = button; });
  examples.push(button);
  return button;
}

function finding(one) {
  const box = element("article", "finding"), head = element("h2", "", one.source), shown = element("div", "examples");
  head.append(element("span", "", [one.check.replaceAll("_", " "), one.of].filter(Boolean).join(", ")));
  const measured = `${short(one.measure)}, threshold ${short(one.threshold)}, in ${one.found.toLocaleString("en")} of ${counted(one.looked_at, "image")}.`;
  const how = `Measured: ${one.meaning}. The threshold: ${one.reason}.`;
  shown.append(...one.examples.map((key) => frameByKey.get(key)).filter((number) => number !== undefined).map(example));
  box.append(head, element("p", "", `${one.sentence}.`), element("p", "", `Measure ${measured}`), element("p", "how", how), shown);
  return box;
}

function findingsList() {
  if (!set.findings) return;
  const { images, of, sources: count } = set.findings;
  const said = findings.length ? `${counted(findings.length, "finding")}, to be looked at` : "Nothing looks wrong";
  $("found").textContent = `${said}: ${images.toLocaleString("en")} of ${counted(of, "image")} in ${counted(count, "source")} looked at`;
  $("list").append(...findings.map(finding));
  $("findings").hidden = false;
  $("findings").open = items.length > 0 && items.every((item) => item.every((number) => checksByKey.has(frames[number].about.key)));
}

/* --- filters ---------------------------------------------------------------------------------------------------- */

const values = {
  modality: (frame) => [frame.about.modality],
  source: (frame) => [frame.about.source],
  label: (frame) => frame.masks.map((mask) => labels[mask[2]][0]),
  split: (frame) => [frame.about.split],
  licence: (frame) => [frame.about.license],
  plane: (frame) => [frame.about.plane],
  finding: (frame) => checksByKey.get(frame.about.key) || [],
};
const facts = items.map((item) => Object.fromEntries(FILTERS.map((name) => [name, new Set(item.flatMap((one) => values[name](frames[one])))])));
const texts = items.map((item) => item.map((one) => `${frames[one].about.key} ${frames[one].about.case} ${(sources[frames[one].about.source] || {}).title || ""}`).join(" ").toLowerCase());

function passes(item, but) {
  if (state.search && !texts[item].includes(state.search)) return false;
  return FILTERS.every((name) => name === but || !state.chosen[name] || facts[item][name].has(state.chosen[name]));
}

function filterBoxes() {
  for (const name of FILTERS) {
    const label = element("label", "", name), select = document.createElement("select");
    select.id = `by-${name}`;
    select.addEventListener("change", () => { state.chosen[name] = select.value; filter(); });
    label.append(select);
    $("filters").append(label);
  }
  const label = element("label", "", "key, case or title"), search = document.createElement("input");
  search.type = "search";
  search.id = "search";
  search.addEventListener("input", () => { state.search = search.value.trim().toLowerCase(); filter(); });
  label.append(search);
  $("filters").append(label);
}

function filter() {
  for (const name of FILTERS) {
    const counts = new Map();
    for (let item = 0; item < items.length; item++) {
      if (passes(item, name)) for (const value of facts[item][name]) counts.set(value, (counts.get(value) || 0) + 1);
    }
    const select = $(`by-${name}`), options = [new Option("all", "")];
    if (state.chosen[name] && !counts.has(state.chosen[name])) counts.set(state.chosen[name], 0);
    for (const value of [...counts.keys()].sort()) options.push(new Option(`${value} (${counts.get(value)})`, value));
    select.replaceChildren(...options);
    select.value = state.chosen[name];
  }
  let count = 0;
  for (let item = 0; item < items.length; item++) {
    const shown = passes(item);
    tiles[item].hidden = !shown;
    count += shown;
  }
  $("count").textContent = count === items.length ? `${count} shown` : `${count} of ${items.length} shown`;
  $("nothing").hidden = count > 0 || !items.length;
}

function reset() {
  for (const name of FILTERS) state.chosen[name] = "";
  state.search = $("search").value = "";
  filter();
}

/* --- one sample -------------------------------------------------------------------------------------------------- */

const view = $("view");

function open(item, frame) {
  state.open = item;
  state.only = null;
  state.frame = frame === undefined ? Math.floor(items[item].length / 2) : frame;
  if (!view.open) view.showModal();
  const many = items[item].length > 1;
  $("slices").hidden = !many;
  $("slider").max = items[item].length - 1;
  draw();
}

async function draw() {
  const number = items[state.open][state.frame], frame = frames[number];
  $("name").textContent = frame.about.key;
  $("slider").value = state.frame;
  $("slice").textContent = `slice ${frame.about.index} (${state.frame + 1} of ${items[state.open].length} shown)`;
  const canvas = document.createElement("canvas"), data = (await parts(number))[0];
  const image = await decoded(`data:image/webp;base64,${data}`);
  image.alt = `${frame.about.modality}: ${frame.about.key}`;
  image.className = Math.max(frame.width, frame.height) < 200 ? "crisp" : "";
  await paint(canvas, number, state.only);
  if (number !== items[state.open]?.[state.frame]) return; /* another one was asked for meanwhile */
  $("stage").replaceChildren(image, canvas);
  legend(number);
  about(frame);
  history.replaceState(null, "", `#${encodeURIComponent(frame.about.key)}`);
}

function legend(number) {
  const frame = frames[number], colors = colorsOf(number), rows = [];
  for (const label of new Set(frame.masks.map((mask) => mask[2]))) {
    const own = frame.masks.filter((mask) => mask[2] === label), button = element("button"), swatch = element("i");
    button.type = "button";
    button.setAttribute("aria-pressed", String(state.only === label));
    swatch.style.background = `rgb(${colors.get(label).join(",")})`;
    const area = own.reduce((sum, mask) => sum + mask[3], 0), share = (100 * area) / (frame.about.height * frame.about.width);
    button.append(swatch, labels[label][0], element("small", "", `${own.length} × · ${share.toPrecision(2)} %`));
    button.title = `${labels[label][2]}${labels[label][1] ? `, ${labels[label][1]}` : ""}: show this class alone`;
    button.addEventListener("click", () => { state.only = state.only === label ? null : label; draw(); });
    const row = element("li");
    row.append(button);
    rows.push(row);
  }
  $("legend").replaceChildren(...(rows.length ? rows : [element("li", "", "none")]));
}

function link(address, text) {
  const made = element("a", "", text);
  made.href = address;
  made.rel = "noreferrer";
  return made;
}

/* A value of the metadata in words; fractions without the digits that say nothing. */
function inWords(value) {
  if (Array.isArray(value)) return value.map(inWords).join(", ");
  if (value && typeof value === "object") return Object.entries(value).map(([key, one]) => `${key} ${inWords(one)}`).join(", ");
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : String(value);
}

function about(frame) {
  const source = sources[frame.about.source] || {}, rows = [];
  const add = (name, ...content) => {
    const row = element("tr"), cell = element("td");
    cell.append(...content);
    row.append(element("th", "", name), cell);
    rows.push(row);
  };
  add("link", link(`#${encodeURIComponent(frame.about.key)}`, "to this sample"));
  if (source.title) add("title", source.homepage ? link(source.homepage, source.title) : source.title);
  add("licence", source.evidence ? link(source.evidence, frame.about.license) : frame.about.license);
  if (source.citation) add("cite", source.citation);
  for (const [name, value] of Object.entries(frame.about)) {
    if (name === "license" || value === null || (Array.isArray(value) && !value.length)) continue;
    add(name, inWords(value));
  }
  if (frame.width !== frame.about.width) add("shown at", `${frame.height} × ${frame.width}`);
  $("about").replaceChildren(...rows);
}

function shownItems() {
  return tiles.filter((button) => !button.hidden).map((button) => Number(button.dataset.item));
}

function step(by) {
  state.from = null;
  const shown = shownItems(), at = shown.indexOf(state.open), next = shown[at < 0 ? 0 : at + by];
  if (next !== undefined) open(next);
}

function slice(by) {
  const next = state.frame + by;
  if (next >= 0 && next < items[state.open].length) { state.frame = next; draw(); }
}

function byHash() {
  const key = decodeURIComponent(location.hash.slice(1));
  const number = frames.findIndex((frame) => frame.about.key === key);
  if (number < 0) return;
  const item = items.findIndex((one) => one.includes(number));
  if (item !== state.open || items[item][state.frame] !== number || !view.open) open(item, items[item].indexOf(number));
}

/* --- tools and keys ---------------------------------------------------------------------------------------------- */

function repaint() {
  document.body.classList.toggle("outlined", $("outlines").checked);
  for (const button of [...tiles, ...examples]) {
    const canvas = button.dataset.shown && button.querySelector("canvas");
    if (canvas) paint(canvas, frameOf(button), null);
  }
  if (view.open) draw();
}

function tools() {
  const opacity = () => document.documentElement.style.setProperty("--opacity", $("opacity").value / 100);
  $("opacity").addEventListener("input", opacity);
  opacity();
  $("outlines").addEventListener("change", repaint);
  $("masks").addEventListener("change", () => document.body.classList.toggle("plain", !$("masks").checked));
  $("reset").addEventListener("click", reset);
  $("reset2").addEventListener("click", reset);
  $("keys").addEventListener("click", () => {
    $("help").hidden = !$("help").hidden;
    $("keys").setAttribute("aria-expanded", String(!$("help").hidden));
  });
  $("before").addEventListener("click", () => step(-1));
  $("after").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => view.close());
  $("slider").addEventListener("input", () => { state.frame = Number($("slider").value); draw(); });
  $("stage").addEventListener("wheel", (event) => {
    if (items[state.open].length > 1) { event.preventDefault(); slice(Math.sign(event.deltaY)); }
  }, { passive: false });
  view.addEventListener("click", (event) => { if (event.target === view) view.close(); });
  view.addEventListener("close", () => {
    const last = state.from || tiles[state.open];
    state.open = -1;
    state.from = null;
    history.replaceState(null, "", location.pathname + location.search);
    if (last && !last.hidden) last.focus();
  });
  window.addEventListener("hashchange", byHash);
}

function toggle(id) {
  $(id).checked = !$(id).checked;
  $(id).dispatchEvent(new Event("change"));
}

/* Tiles in the row above or below: those whose middle is nearest. */
function beside(button, key) {
  const shown = tiles.filter((one) => !one.hidden), at = shown.indexOf(button);
  if (key === "ArrowLeft" || key === "ArrowRight") return shown[at + (key === "ArrowRight" ? 1 : -1)];
  const place = button.getBoundingClientRect(), columns = shown.filter((one) => Math.abs(one.getBoundingClientRect().top - place.top) < 2).length;
  return shown[at + (key === "ArrowDown" ? columns : -columns)];
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=search], select"), sliding = event.target.matches("input[type=range]");
  if (event.key === "Escape" && typing) { event.target.blur(); return; }
  if (typing) return;
  const act = {
    m: () => toggle("masks"),
    o: () => toggle("outlines"),
    "+": () => { $("opacity").value = Number($("opacity").value) + 10; $("opacity").dispatchEvent(new Event("input")); },
    "-": () => { $("opacity").value = Number($("opacity").value) - 10; $("opacity").dispatchEvent(new Event("input")); },
    "/": () => { if (!view.open) { $("choice").open = true; $("search").focus(); } },
  }[event.key];
  if (act) { event.preventDefault(); act(); return; }
  if (!event.key.startsWith("Arrow") || sliding) return;
  if (view.open) {
    event.preventDefault();
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") step(event.key === "ArrowRight" ? 1 : -1);
    else slice(event.key === "ArrowUp" ? 1 : -1);
    return;
  }
  const from = event.target.closest(".tile"), to = from ? beside(from, event.key) : tiles.find((one) => !one.hidden);
  if (to && (from || document.activeElement === document.body)) { event.preventDefault(); to.focus(); }
}

filterBoxes();
for (let item = 0; item < items.length; item++) tiles.push(tile(item));
$("grid").append(...tiles);
findingsList();
filter();
tools();
for (const part of document.querySelectorAll("#choice, .tools")) part.hidden = !items.length;
if (set.notice) { $("notice").textContent = set.notice; $("notice").hidden = false; }
if (window.matchMedia("(max-width: 760px)").matches) $("choice").open = false;
for (const button of [...tiles, ...examples]) near.observe(button);
document.addEventListener("keydown", onKey);
byHash();
