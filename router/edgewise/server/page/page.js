// The page of `edgewise serve`: it talks to its own server only, and keeps nothing.
// Text of the server goes into the page as text, never as HTML.

const $ = (id) => document.getElementById(id);
const body = document.body;
const GENERATE = "/v1/edgewise/generate";
const NAMES = { on_device: "the device", in_cloud: "the cloud" };
const KINDS = { on_device: "device", in_cloud: "cloud" };
const FINISHES = { stop: "the story's end", length: "its length", cancelled: "Stop", error: "an error" };
const PACES = [5, 10, 20, 40, 80, 160, 320, 640, null]; // tokens per second; null: as fast as it can
const BUDGETS = [null, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 2, 5, 10]; // seconds
const NO_BUDGET = 1e6; // seconds: a budget that is taken back in mid-text
const LONGEST = 4096; // tokens of a text with a sliding window
const EVERY = 2000; // ms between two readings of the device

// ---------------------------------------------------------------- words

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const number = (value) => value.toLocaleString("en", { maximumFractionDigits: 0 });

function seconds(value) {
  if (value == null) return "not yet";
  if (value >= 10) return `${number(value)} s`;
  if (value >= 1) return `${value.toFixed(1)} s`;
  return value >= 0.01 ? `${number(value * 1000)} ms` : `${+(value * 1000).toFixed(1)} ms`;
}

function because(decision, why) {
  const { source, vetoes } = decision;
  const other = source === "on_device" ? "in_cloud" : "on_device";
  switch (decision.reason) {
    case "preferred": return "It is preferred, and nothing speaks against it.";
    case "other_vetoed": return `Because ${vetoes[other]?.detail ?? `${NAMES[other]} may not`}.`;
    case "budget": return `It fits the time that is left; ${NAMES[other]} may not.`;
    case "budget_missed": return "Nobody fits the time that is left, and it is the faster one.";
    case "hedged": return "Both were started, and it had the first token.";
    case "last_resort": return `As a last resort: ${why?.detail ?? "both have a veto"}.`;
    default: return "";
  }
}

// ---------------------------------------------------------------- the server

let token = ""; // of this page only

async function ask(path, { method = "GET", content, signal } = {}) {
  const headers = content === undefined ? {} : { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, {
    method, headers, signal, body: content === undefined ? undefined : JSON.stringify(content),
  });
  if (response.status === 401 && (await askForToken())) return ask(path, { method, content, signal });
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  throw Object.assign(new Error(told?.error?.message ?? `the server answered ${response.status}`), { status: response.status, told });
}

let asking = null;
function askForToken() {
  asking ??= new Promise((done) => {
    const dialog = $("token-dialog");
    dialog.addEventListener("close", () => {
      const given = $("token").value.trim();
      asking = null;
      if (given) token = given;
      $("token").value = "";
      done(Boolean(given));
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

// Server-sent events of a POST, which EventSource cannot send.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      let name = "message", data = "";
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) name = line.slice(6).trim();
        if (line.startsWith("data:")) data += line.slice(5).trim();
      }
      if (data && data !== "[DONE]") yield [name, JSON.parse(data)];
    }
  }
}

const problems = { text: "", server: "" }; // of the last text, and of the server now
function complain(of, problem) {
  problems[of] = problem;
  const told = problems.text || problems.server;
  $("notice").hidden = !told;
  const words = told && `${capital(told)}${/[.!?]$/.test(told) ? "" : "."}`;
  if ($("notice").textContent !== words) $("notice").textContent = words; // else it is read out again
}

const say = (text) => { $("status").textContent = text; };

// ---------------------------------------------------------------- what if

let real = {}; // the state of this device
let limits = {};
let forced = false; // every text of this server is private
const assumed = {}; // what was changed of it
const percent = (share) => `${number(share * 100)}%`;

const SLIDERS = {
  battery: {
    field: "battery", factor: 100, rest: 100, say: percent, none: "none found",
    low: () => limits.min_battery * 100,
    beyond: (value, state) => value < limits.min_battery && !state.charging,
    why: () => `the minimum is ${percent(limits.min_battery)}`,
  },
  memory: {
    field: "memory_pressure", factor: 100, rest: 0, say: (share) => `stalls ${percent(share)}`, none: "unknown",
    high: () => limits.max_memory_pressure * 100,
    beyond: (value) => value > limits.max_memory_pressure,
    why: () => `the limit is ${percent(limits.max_memory_pressure)}`,
  },
  temperature: {
    field: "temperature", factor: 1, rest: 40, say: (degrees) => `${number(degrees)} °C`, none: "unknown",
    high: () => (hottest() / 120) * 100,
    beyond: (value) => value > hottest(),
    why: () => `the limit is ${number(hottest())} °C`,
  },
};
const SWITCHES = { charging: "charging", network: "network", "low-power": "low_power_mode" };
const USUAL = { charging: false, network: true, "low-power": false }; // where it is unknown
const BUDGET_SLIDERS = { "first-token-budget": "first_token_budget", "latency-budget": "latency_budget" };
const hottest = () => limits.max_temperature ?? real.temperature_limit ?? 90;
const device = () => ({ ...real, ...assumed });
const budget = (id) => BUDGETS[$(id).valueAsNumber];

function showControls() {
  const state = device();
  for (const [id, slider] of Object.entries(SLIDERS)) {
    const value = state[slider.field];
    const known = value != null;
    const beyond = known && slider.beyond(value, state);
    if (!(slider.field in assumed)) $(id).value = known ? value * slider.factor : slider.rest;
    $(`${id}-value`).textContent = known ? slider.say(value) : slider.none;
    $(id).setAttribute("aria-valuetext", known ? `${slider.say(value)}; ${slider.why()}` : slider.none);
    if (slider.low) $(id).style.setProperty("--low", `${slider.low() || 0}%`);
    if (slider.high) $(id).style.setProperty("--high", `${slider.high() || 100}%`);
    const control = $(id).closest(".control").classList;
    control.toggle("changed", slider.field in assumed);
    control.toggle("beyond", beyond);
  }
  for (const [id, field] of Object.entries(SWITCHES)) $(id).checked = state[field] ?? USUAL[id];
  for (const id of Object.keys(BUDGET_SLIDERS)) describe(id, budget(id) == null ? "no limit" : seconds(budget(id)));
  describe("pace", pace() == null ? "as fast as it can" : `${pace()} tokens/s`);
  describe("max-tokens", `${$("max-tokens").value} tokens`);
  body.classList.toggle("private", $("private").checked);
  $("reset").disabled = !Object.keys(assumed).length && (forced || !$("private").checked) && !Object.keys(BUDGET_SLIDERS).some(budget);
}

function describe(id, words) {
  $(`${id}-value`).textContent = words;
  $(id).setAttribute("aria-valuetext", words);
}

const pace = () => PACES[$("pace").valueAsNumber];

function options() {
  return {
    prompt: $("prompt").value,
    mode: $("mode").value,
    max_tokens: $("max-tokens").valueAsNumber,
    sliding_window: $("sliding-window").checked,
    privacy: $("private").checked ? "private" : "allow_cloud",
    first_token_budget: budget("first-token-budget") ?? undefined,
    latency_budget: budget("latency-budget") ?? undefined,
    device: assumed,
  };
}

function reset() {
  for (const field of Object.keys(assumed)) delete assumed[field];
  for (const id of Object.keys(BUDGET_SLIDERS)) $(id).value = 0;
  if (!forced && !writing?.private) $("private").checked = false;
  changed();
}

function changed() {
  if (!writing) body.dataset.state = "idle"; // from here on the page shows what the next text would be
  act();
}

// Tell the server what changed: of the text that is being written, or for what would be decided.
let sending = false, stale = false;
async function act() {
  showControls();
  if (sending) { stale = true; return; }
  sending = true;
  do {
    stale = false;
    try {
      await (writing ? change() : preview());
      complain("server", "");
    } catch (error) {
      complain("server", reached(error));
    }
  } while (stale);
  sending = false;
}

async function change() {
  if (!writing.id) { writing.late = true; return; } // it is told once it has started
  const content = { device: assumed };
  if ($("private").checked) content.privacy = "private";
  for (const [id, field] of Object.entries(BUDGET_SLIDERS)) {
    if (budget(id) != null || writing[field]) content[field] = budget(id) ?? NO_BUDGET;
    writing[field] ||= budget(id) != null;
  }
  writing.private ||= $("private").checked;
  $("private").disabled = forced || writing.private; // a text that is private stays so
  const id = writing.id;
  await ask(`/v1/edgewise/generations/${encodeURIComponent(id)}`, { method: "PATCH", content })
    .catch((error) => { if (error.status !== 404) throw error; }); // it has ended meanwhile
}

async function preview() {
  if (body.dataset.state === "done") return;
  const response = await ask("/v1/edgewise/route", { method: "POST", content: options() });
  const decision = await response.json();
  if (!writing) showDecision(decision, "idle");
}

const reached = (error) => error instanceof TypeError ? "the server does not answer; is `edgewise serve` still running?" : error.message;

// ---------------------------------------------------------------- the decision

function showDecision(decision, state, why) {
  const { source } = decision;
  const refused = !source;
  body.dataset.state = refused ? "refused" : state;
  body.dataset.source = source ?? "";
  const verb = state === "idle" ? "would write" : "writes";
  $("verdict").textContent = refused ? "Nobody may write" : `${capital(NAMES[source])} ${verb}`;
  $("because").textContent = refused ? "Each has a veto; see below." : because(decision, why);
  body.classList.toggle("no-cloud", decision.vetoes?.in_cloud?.code === "no_address");
  for (const [name, kind] of Object.entries(KINDS)) {
    showSource($(kind), decision.vetoes?.[name], decision.predicted?.[name]);
    $(kind).classList.toggle("active", name === source);
  }
}

function showSource(section, veto, predicted) {
  const line = section.querySelector(".veto");
  line.className = `veto ${veto ? (veto.soft ? "soft" : "hard") : ""}`;
  line.textContent = veto
    ? `${veto.soft ? "Rather not" : "May not"}: ${veto.detail}.`
    : "May write: nothing speaks against it.";
  fill(section, "predicted", {
    first: seconds(predicted?.first_token),
    rate: predicted?.gap ? number(1 / predicted.gap) : "not yet",
    total: seconds(predicted?.total),
  });
}

function fill(section, column, values) {
  for (const [row, value] of Object.entries(values)) section.querySelector(`.${column}.${row}`).textContent = value;
}

function made(tag, kind, text = "") {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.textContent = text;
  return element;
}

function logChange(tokens, words, why) {
  const entry = made("li", "");
  const what = made("span", "");
  what.append(made("b", "", `${capital(words)}. `), why);
  entry.append(made("span", "at", tokens ? `token ${number(tokens)}` : "start"), what);
  $("changes").append(entry);
  $("changes").scrollTop = $("changes").scrollHeight;
}

// ---------------------------------------------------------------- the text

let writing = null; // the text that is being written

class Text {
  constructor(prompt) {
    this.abort = new AbortController();
    this.started = performance.now();
    this.tokens = 0;
    this.source = null;
    this.parts = []; // {source, tokens, first, last}: one for each run of a source
    this.pending = ""; // not in the page yet
    this.asked = $("max-tokens").valueAsNumber;
    $("answer").replaceChildren(made("span", "prompt", prompt));
    $("rate-name").textContent = pace() ? "Tokens/s, paced" : "Tokens/s";
    $("changes").replaceChildren();
    $("bar").replaceChildren(made("i", "rest"));
    this.measure();
  }

  decide(decision) {
    this.decided = performance.now();
    showDecision(decision, "writing", this.why);
    const words = decision.source ? `${NAMES[decision.source]} ${decision.tokens ? "goes on" : "writes"}` : "nobody may write";
    const reason = because(decision, this.why);
    logChange(decision.tokens, words, reason);
    say(`${capital(words)}. ${reason}`);
  }

  add({ text, source, token_ids: ids }) {
    if (source !== this.source) this.begin(source);
    const part = this.parts.at(-1);
    part.last = performance.now();
    part.first ??= part.last;
    part.tokens += ids.length;
    this.tokens += ids.length;
    this.pending += text;
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  begin(source) {
    this.flush();
    if (this.source) this.mark(source);
    this.parts.push({ source, tokens: 0, from: this.decided, bare: true, bar: made("i", KINDS[source]) });
    $("bar").lastChild.before(this.parts.at(-1).bar);
    this.source = source;
  }

  mark(to) {
    const mark = made("span", "handoff", `${to === "in_cloud" ? "→" : "←"} ${NAMES[to]} goes on`);
    mark.dataset.to = to;
    mark.title = `from token ${number(this.tokens)}`;
    $("answer").append(mark);
    body.dataset.handoff = to;
  }

  draw() {
    this.frame = cancelAnimationFrame(this.frame); // it may be the end, before the frame
    const box = $("answer");
    const following = box.scrollHeight - box.scrollTop - box.clientHeight < 60;
    this.flush();
    if (following) box.scrollTop = box.scrollHeight;
    this.measure();
  }

  flush() { // one span for what came since the last frame
    if (!this.pending) return;
    const space = this.pending.startsWith(" ") && this.parts.at(-1).bare ? " " : ""; // looks odd underlined
    this.parts.at(-1).bare = false;
    $("answer").append(space, made("span", KINDS[this.source], this.pending.slice(space.length)));
    this.pending = "";
  }

  measure() {
    const now = performance.now();
    $("tokens").textContent = number(this.tokens);
    $("total").textContent = seconds((now - this.started) / 1000);
    const first = this.parts[0]?.first;
    if (first) {
      $("first-token").textContent = seconds((first - this.started) / 1000);
      const rate = (this.tokens - 1) / ((now - first) / 1000);
      if (now - first > 200) $("rate").textContent = number(rate);
    }
    for (const part of this.parts) part.bar.style.flexGrow = part.tokens;
    $("bar").lastChild.style.flexGrow = Math.max(0, this.asked - this.tokens);
    $("bar").setAttribute("aria-label", this.parts.map((part) => `${NAMES[part.source]} ${part.tokens} tokens`).join(", ") || "No tokens yet");
    for (const [source, kind] of Object.entries(KINDS)) this.measureSource(source, $(kind));
  }

  measureSource(source, section) {
    const parts = this.parts.filter((part) => part.source === source && part.first);
    const tokens = parts.reduce((sum, part) => sum + part.tokens, 0);
    const time = parts.reduce((sum, part) => sum + part.last - part.first, 0) / 1000;
    fill(section, "measured", {
      first: parts.length ? seconds((parts[0].first - parts[0].from) / 1000) : "–",
      rate: time > 0.2 ? number((tokens - parts.length) / time) : "–",
      total: tokens ? seconds(parts.reduce((sum, part) => sum + part.last - part.from, 0) / 1000) : "–",
    });
  }

  end(generation) {
    this.draw();
    const { timings, usage } = generation;
    body.dataset.state = "done";
    $("tokens").textContent = number(usage.completion_tokens);
    $("first-token").textContent = timings.time_to_first_token == null ? "–" : seconds(timings.time_to_first_token);
    $("rate").textContent = timings.tokens_per_second == null ? "–" : number(timings.tokens_per_second);
    $("total").textContent = seconds(timings.total);
    $("finish").textContent = FINISHES[generation.finish_reason] ?? generation.finish_reason;
    $("bar").lastChild.style.flexGrow = 0;
    const wrote = generation.segments.map((part) => `${NAMES[part.source]} wrote ${number(part.tokens)} tokens`).join(", then ");
    $("verdict").textContent = capital(generation.segments.length ? `${NAMES[generation.source]} wrote${generation.segments.length > 1 ? " the end" : " it"}` : "nothing was written");
    say(`The text ends. ${capital(wrote)}.`);
  }
}

async function generate() {
  if (writing) return;
  const content = { ...options(), pace: pace() ?? undefined };
  const text = (writing = new Text(content.prompt));
  text.private = $("private").checked;
  for (const [id, field] of Object.entries(BUDGET_SLIDERS)) text[field] = budget(id) != null;
  busy(true);
  complain("text", "");
  try {
    const response = await ask(GENERATE, { method: "POST", content, signal: text.abort.signal });
    for await (const [name, data] of events(response)) {
      if (name === "started") { text.id = data.id; if (text.late) act(); }
      if (name === "handoff") text.why = data.why; // its decision follows
      if (name === "decision") text.decide(data);
      if (name === "text") text.add(data);
      if (name === "end") text.end(data);
      if (name === "error") throw new Error(data.error?.message ?? data.message);
    }
  } catch (error) {
    text.draw();
    if (error.name !== "AbortError") {
      complain("text", reached(error));
      if (!text.tokens) body.dataset.state = "idle";
    }
  } finally {
    writing = null;
    busy(false);
    if (body.dataset.state === "writing") body.dataset.state = "done";
    delete body.dataset.handoff;
  }
}

// The server ends the compute and sends what there is; where it does not answer, the page ends the stream.
async function stop() {
  const text = writing;
  if (!text) return;
  $("stop").disabled = true;
  const patience = setTimeout(() => text.abort.abort(), 1000);
  try {
    if (!text.id) throw new Error("not started");
    await ask(`/v1/edgewise/generations/${encodeURIComponent(text.id)}`, { method: "DELETE" });
  } catch {
    text.abort.abort();
    clearTimeout(patience);
  }
}

function busy(now) {
  $("answer").setAttribute("aria-busy", String(now));
  $("generate").disabled = now;
  $("stop").disabled = !now;
  $("private").disabled = forced || (now && $("private").checked);
  $("mode").disabled = now;
  if (now) {
    body.dataset.state = "writing";
    $("finish").textContent = $("rate").textContent = $("first-token").textContent = "–";
  }
}

// ---------------------------------------------------------------- the device and its model

async function readDevice() {
  const told = await (await ask("/v1/edgewise/device")).json();
  real = told.state;
  limits = told.limits;
  if (told.model) showModel(told.model);
  $("update").textContent = updates(told.availability, told.update);
  if (first) start(told);
  showControls();
}

let first = true;
const chosen = new Set(); // what was set here before the server's defaults were known
function start({ mode, default_privacy: privacy, private: always }) {
  first = false;
  if (!chosen.has("mode")) $("mode").value = mode;
  if (always || !chosen.has("private")) $("private").checked = privacy === "private";
  forced = always;
  $("private").disabled = always;
}

function showModel(model) {
  $("model-name").textContent = model.name;
  $("revision").textContent = model.revision;
  $("size").textContent = `${number(model.size / 1e6)} MB`;
  $("window").textContent = `${number(model.context_window)} tokens`;
  $("max-tokens").max = $("sliding-window").checked ? LONGEST : model.context_window;
}

function updates({ status, done, total }, { staged, probation }) {
  switch (status) {
    case "staged": return `revision ${staged} writes the next text`;
    case "downloading": return total ? `downloading, ${number((done / total) * 100)}%` : "a new revision is downloaded";
    case "downloadable": return "it can be downloaded";
    case "unavailable": return "it is not on this device";
    default: return probation ? `new: on probation for ${number(probation)} more texts` : "no update waits";
  }
}

async function watchDevice() {
  if (document.visibilityState === "visible") {
    try {
      await readDevice();
      if (!writing) act();
    } catch (error) { complain("server", reached(error)); }
  }
  setTimeout(watchDevice, EVERY);
}

// ---------------------------------------------------------------- start

for (const [id, slider] of Object.entries(SLIDERS)) {
  $(id).addEventListener("input", () => { assumed[slider.field] = $(id).valueAsNumber / slider.factor; changed(); });
}
for (const [id, field] of Object.entries(SWITCHES)) {
  $(id).addEventListener("change", () => { assumed[field] = $(id).checked; changed(); });
}
for (const id of ["private", "mode", "sliding-window", "max-tokens", "prompt", ...Object.keys(BUDGET_SLIDERS)]) {
  $(id).addEventListener("input", changed);
}
for (const id of ["private", "mode"]) $(id).addEventListener("input", () => chosen.add(id));
$("pace").addEventListener("input", showControls);
$("sliding-window").addEventListener("change", readDevice);
$("reset").addEventListener("click", reset);
$("stop").addEventListener("click", stop);
$("compose").addEventListener("submit", (event) => { event.preventDefault(); generate(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); generate(); }
  if (event.key === "Escape" && writing) stop();
});
showControls();
watchDevice();
