// The console: which view is shown, and what is in it. What follows `#/` names the view, so that every one has an address.

import { Refused, follow, forgetKey, get, getKey, keepKey, path, post, sleep } from "./server.js";
import { StreamView } from "./stream.js";
import {
  badge, byId, bytes, chunks, describe, digest, duration, element, exit, lines, link, number, plain, row, time,
} from "./text.js";

const LOOK_EVERY_MS = 2000;
const ROWS_OF_A_PAGE = 100;
/** Agents of a page: all versions of one are wanted together. */
const AGENTS_OF_A_PAGE = 1000;
/** Searches for the record of an end: it is written a moment after what it is about. */
const TRIES_FOR_THE_END = 4;
/** Characters of an output that are shown. */
const LONGEST_OUTPUT = 200_000;

const views = { agents, agent, executions, execution };

/** Ends what the view that is left still does. */
let leave = new AbortController();
let isFirst = true;

async function show() {
  // A link within the page is none to a view.
  if (location.hash !== "" && !location.hash.startsWith("#/")) return;
  leave.abort(new DOMException("the view was left", "AbortError"));
  leave = new AbortController();
  const { signal } = leave;
  const [name, ...names] = nameParts();
  const view = name === "agents" && names.length > 0 ? "agent" : name === "executions" && names.length > 0 ? "execution" : name;
  tell("");
  if (view === "agent") byId("agent-title").textContent = plain(names[0]);
  reveal(view in views ? view : "agents");
  await guarded(signal, () => (views[view] ?? agents)(signal, ...names));
}

function nameParts() {
  try {
    return location.hash.slice(2).split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return ["agents"];
  }
}

/** Does something for a view; what goes wrong is told, and where a key is wanted it is asked for. */
async function guarded(signal, work) {
  try {
    await work();
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Refused && error.status === 401) askForKey(error);
    else tell(error instanceof Refused ? `${error.reason}: ${error.message}` : `The server cannot be reached: ${error.message}`);
  }
}

function tell(problem) {
  byId("problem").hidden = problem === "";
  byId("problem").textContent = plain(problem);
}

function reveal(id) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
  for (const anchor of document.querySelectorAll("nav a")) {
    const isHere = id.startsWith(anchor.dataset.view.slice(0, -1));
    if (isHere) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  byId("forget-key").hidden = getKey() === null;
  const title = byId(`${id}-title`);
  document.title = `${title.textContent || "Agent"} · Mentat console`;
  // Who uses the keyboard or hears the page is taken to what has changed; not when it is opened.
  if (!isFirst) title.focus();
  isFirst = false;
}

function askForKey(refused) {
  const hadKey = getKey() !== null;
  forgetKey();
  reveal("key");
  tell(hadKey ? `The key is not accepted: ${refused.message}` : "");
  byId("key-text").value = "";
  byId("key-text").focus();
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(byId("key-text").value.trim());
  byId("key-text").value = "";
  show();
});

byId("forget-key").addEventListener("click", () => {
  forgetKey();
  // With all that was shown by it.
  location.reload();
});

/** Makes rows be those of a list, without touching those that are there: the focus stays where it is. */
function reconcile(body, items, keyOf, cellsOf) {
  const known = new Map([...body.children].map((made) => [made.dataset.key, made]));
  items.forEach((item, index) => {
    const made = row(cellsOf(item));
    made.dataset.key = keyOf(item);
    let there = known.get(made.dataset.key);
    known.delete(made.dataset.key);
    if (there === undefined) there = made;
    [...there.children].forEach((cell, column) => {
      const wanted = made.children[column];
      if (!cell.isEqualNode(wanted)) cell.replaceWith(wanted);
    });
    if (body.children[index] !== there) body.insertBefore(there, body.children[index] ?? null);
  });
  for (const gone of known.values()) gone.remove();
}

// ── Agents ──

async function agents(signal) {
  const [body, more] = [byId("agents-table").tBodies[0], byId("agents-more")];
  const all = new Map();
  const load = async (token) => {
    const asked = { page_size: AGENTS_OF_A_PAGE, page_token: token };
    const page = await get(path(["v1", "agents"], asked), signal);
    for (const version of page.agents) {
      const versions = all.get(version.agent_id) ?? [];
      all.set(version.agent_id, [...versions, version]);
    }
    reconcile(body, [...all.entries()], ([id]) => id, agentCells);
    byId("agents-table").hidden = all.size === 0;
    byId("agents-none").hidden = all.size > 0;
    more.hidden = page.next_page_token === undefined;
    more.onclick = () => guarded(signal, () => load(page.next_page_token));
  };
  await load();
}

function agentCells([id, versions]) {
  const active = versions.find((version) => version.active) ?? versions.at(-1);
  const others = versions.filter((version) => version !== active).map((version) => version.version);
  return [
    ["Agent", link(["agents", id], id)],
    ["Active version", active.active ? active.version : "none"],
    ["Other versions", others.length > 0 ? others.join(", ") : "—"],
    ["Module", digest(active.module_hash)],
    ["Loaded", time(active.loaded_at_ms)],
  ];
}

async function agent(signal, id) {
  byId("execute-form").onsubmit = (event) => {
    event.preventDefault();
    guarded(signal, () => execute(signal, id));
  };
  const [found, page] = await Promise.all([
    get(path(["v1", "agents", id]), signal),
    get(path(["v1", "agents"], { page_size: AGENTS_OF_A_PAGE }), signal),
  ]);
  const others = page.agents.filter((other) => other.agent_id === id && !other.active).map((other) => other.version);
  byId("execute-version").replaceChildren(
    element("option", { value: "" }, `${found.version} (active)`),
    ...others.map((version) => element("option", { value: version }, version)),
  );
  describe(byId("agent-facts"), [
    ["Active version", found.version],
    ["Other versions", others.join(", ")],
    ["Shape", found.shape],
    ["Module", element("code", { class: "whole" }, found.module_hash)],
    ["Size", bytes(found.module_bytes)],
    ["Loaded", time(found.loaded_at_ms)],
    ...signatureFacts(found.signature),
  ]);
  const capabilities = found.capabilities_required ?? [];
  byId("capabilities").replaceChildren(
    ...capabilities.map((text) => element("li", {}, element("code", {}, text))),
  );
  byId("capabilities-none").hidden = capabilities.length > 0;
  byId("manifest").textContent = lines(found.manifest ?? "");
}

/** Who signed an agent, and whether it may run by that. */
function signatureFacts({ trust, signer, refused, message }) {
  const facts = [["Trust", refused === undefined ? trust : `refused (${refused})`]];
  if (message !== undefined) facts.push(["Because", plain(message)]);
  if (signer === undefined) return facts;
  return [
    ...facts,
    ["Signed by", plain(signer.name)],
    ["Certified by", plain(signer.issuer)],
    ["Certificate", element("code", { class: "whole" }, signer.fingerprint)],
    ["Valid until", time(signer.not_after_ms)],
    ["Signed", time(signer.signed_at_ms)],
  ];
}

async function execute(signal, id) {
  const content = { input: byId("execute-input").value, detach: true };
  const version = byId("execute-version").value;
  if (version !== "") content.version = version;
  const started = await post(path(["v1", "agents", id, "execute"]), content, signal);
  location.hash = `#/executions/${encodeURIComponent(started.execution_id)}`;
}

// ── Executions ──

async function executions(signal) {
  const [state, more] = [byId("state"), byId("executions-more")];
  let shown = [];
  let isLong = false;
  const page = (token) => {
    const asked = { state: state.value, page_size: ROWS_OF_A_PAGE, page_token: token };
    return get(path(["v1", "executions"], asked), signal);
  };
  const fill = ({ executions: found, next_page_token: next }, before) => {
    shown = [...before, ...found];
    isLong = before.length > 0;
    reconcile(byId("executions-table").tBodies[0], shown, (one) => one.execution_id, executionCells);
    byId("executions-table").hidden = shown.length === 0;
    byId("executions-none").hidden = shown.length > 0;
    more.hidden = next === undefined;
    more.onclick = () => guarded(signal, async () => fill(await page(next), shown));
  };
  state.onchange = () => guarded(signal, async () => fill(await page(), []));
  fill(await page(), []);
  await listPublished(signal);
  for (;;) {
    await sleep(LOOK_EVERY_MS, signal);
    // Who has gone back to older ones reads them in peace.
    if (byId("refresh").checked && !document.hidden && !isLong) fill(await page(), []);
    if (byId("refresh").checked && !document.hidden) await listPublished(signal);
  }
}

/** The open streams of agents elsewhere, the latest first. */
async function listPublished(signal) {
  const { streams } = await get(path(["api", "v1", "streams"]), signal);
  const shown = streams.slice(-ROWS_OF_A_PAGE).reverse();
  const items = shown.map((one) =>
    element("li", {}, link(["executions", one.stream_id], one.agent_id), ` ${one.pin_name}, `, time(one.last_activity)),
  );
  const list = byId("published");
  // Who stands on one of them stays there.
  const isSame = items.length === list.children.length && items.every((item, at) => item.isEqualNode(list.children[at]));
  if (!isSame) list.replaceChildren(...items);
  byId("published-part").hidden = items.length === 0;
}

const shortId = (id) => `…${id.slice(-12)}`;

function stateOf({ state, exit_code: code, error_reason: reason }) {
  if (state === "failed") return badge("failed", `failed: ${reason}`);
  return state === "finished" ? exit(code, code === 0 ? "finished" : `finished: exit code ${code}`) : badge(state);
}

function executionCells(one) {
  return [
    ["Execution", link(["executions", one.execution_id], shortId(one.execution_id), { class: "code" })],
    ["Agent", element("span", {}, link(["agents", one.agent_id], one.agent_id), ` ${one.version}`)],
    ["State", stateOf(one)],
    ["Began", time(one.started_at_ms)],
    ["Took", duration(one.duration_us) ?? "—"],
    ["Fuel", number(one.metrics?.fuel_consumed) ?? "—"],
  ];
}

async function execution(signal, id) {
  const [output, status] = [byId("output-part"), byId("stream-status")];
  byId("execution-id").textContent = plain(id);
  document.title = `Execution ${plain(shortId(id))} · Mentat console`;
  output.hidden = true;
  byId("remembered").hidden = false;
  byId("forgotten").hidden = true;
  status.textContent = "";
  byId("trail-status").textContent = "";
  byId("trail-part").hidden = false;
  byId("trail-table").hidden = true;
  byId("trail-table").tBodies[0].replaceChildren();
  byId("trail-more").hidden = true;
  byId("execution-facts").replaceChildren();
  byId("execution-state").replaceChildren();
  byId("cancel").hidden = true;
  byId("cancel").onclick = () =>
    guarded(signal, async () => {
      // Before it is asked for: the end may be here sooner than the answer.
      status.textContent = "Cancelling …";
      await post(path(["v1", "executions", id, "cancel"]), undefined, signal);
    });
  const view = new StreamView();
  signal.addEventListener("abort", () => view.close());
  const look = async () => {
    const record = await get(path(["v1", "executions", id]), signal);
    describeExecution(record);
    return record;
  };
  try {
    const soFar = (await look()).state === "running" ? trail(signal, id, 0) : undefined;
    await guarded(signal, () => followInto(view, id, signal, status));
    await guarded(signal, look);
    await soFar;
  } catch (error) {
    if (!(error instanceof Refused && error.status === 404)) throw error;
    if (await published(signal, id, view, status)) return;
    // The audit log knows executions for longer than the server remembers them.
    byId("remembered").hidden = true;
    byId("forgotten").hidden = false;
  }
  await trail(signal, id, TRIES_FOR_THE_END);
}

/** Shows what an agent elsewhere publishes, if the id is that of such a stream; answers whether it is. */
async function published(signal, id, view, status) {
  const stream = await get(path(["api", "v1", "streams", id]), signal).catch((error) => {
    if (error instanceof Refused && error.status === 404) return undefined;
    throw error;
  });
  if (stream === undefined) return false;
  byId("execution-state").replaceChildren(badge("running", "published from elsewhere"));
  describe(byId("execution-facts"), [
    ["Agent", plain(stream.agent_id)],
    ["Pin", plain(stream.pin_name)],
    ["Opened", time(stream.created_at)],
  ]);
  // The audit log is about what is executed here.
  byId("trail-part").hidden = true;
  view.isPublished = true;
  await followInto(view, id, signal, status);
  return true;
}

async function followInto(view, id, signal, status) {
  const connection = (state) => {
    status.replaceChildren(state === "live" ? badge("running", "live") : badge("failed", "cut off, trying again …"));
  };
  for await (const message of follow(id, signal, connection)) {
    if (message.type === "stream_start" || message.type === "heartbeat") continue;
    view.add(message);
    if (message.type === "stream_data" || message.type === "stream_missed") continue;
    const { data } = message;
    if (data.kind === "closed") {
      status.replaceChildren(badge("finished", data.whole ? "ended" : "given up"), ` ${chunks(data.total_chunks)}`);
      return;
    }
    const isFinished = data.kind === "finished";
    const how = isFinished ? exit(data.exit_code, `ended with exit code ${data.exit_code}`) : badge("failed", `ended: ${data.reason}`);
    status.replaceChildren(how, ` ${chunks(data.total_chunks)}`);
    showOutput(data);
    byId("cancel").hidden = true;
  }
}

function describeExecution(record) {
  const isRunning = record.state === "running";
  byId("execution-state").replaceChildren(stateOf(record));
  byId("cancel").hidden = !isRunning;
  describe(byId("execution-facts"), [
    ["Agent", link(["agents", record.agent_id], record.agent_id)],
    ["Version", record.version],
    ["Began", time(record.started_at_ms)],
    ["Took", duration(record.duration_us)],
    ["Exit code", record.exit_code === undefined ? undefined : String(record.exit_code)],
    ["Reason", record.error_reason],
    ["Message", record.error_message],
    ["Fuel", number(record.metrics?.fuel_consumed)],
    ["Peak memory", bytes(record.metrics?.peak_memory_bytes)],
    ["Executing", duration(record.metrics?.execution_us)],
    ["Instantiating", duration(record.metrics?.instantiation_us)],
    ["Waiting for a place", duration(record.metrics?.queued_us)],
  ]);
}

function showOutput({ output, output_base64: encoded, output_left_out: isLeftOut, kind }) {
  if (kind !== "finished") return;
  const text = output === undefined ? (encoded ?? "") : lines(output);
  const hints = [];
  if (isLeftOut) hints.push("It is too much to be kept with the stream, or not kept any more.");
  if (encoded !== undefined) hints.push("It is no text; here it is in base64.");
  if (text.length > LONGEST_OUTPUT) hints.push(`These are the first ${number(LONGEST_OUTPUT)} of ${number(text.length)} characters.`);
  if (text === "" && !isLeftOut) hints.push("Empty.");
  byId("output-hint").textContent = hints.join(" ");
  byId("output-hint").hidden = hints.length === 0;
  byId("output").textContent = text.slice(0, LONGEST_OUTPUT);
  byId("output").hidden = text === "";
  byId("output-part").hidden = false;
}

// ── Audit trail ──

async function trail(signal, id, triesForTheEnd) {
  const [table, status, more] = [byId("trail-table"), byId("trail-status"), byId("trail-more")];
  const records = [];
  const search = async (token) => {
    status.textContent = "Searching the audit log …";
    const where = path(["v1", "executions", id, "audit"], { page_token: token });
    let page = await get(where, signal);
    for (let tries = 1; tries < triesForTheEnd && !page.next_page_token && !hasEnd(page.records); tries += 1) {
      await sleep(500, signal);
      page = await get(where, signal);
    }
    records.push(...page.records);
    const found = ["No record", "One record"][records.length] ?? `${number(records.length)} records`;
    const soFar = hasEnd(records) ? "" : " so far";
    const rest = page.next_page_token ? "; the search was cut off before the end of the log" : soFar;
    status.textContent = `${found}${rest}.`;
    table.hidden = records.length === 0;
    more.hidden = page.next_page_token === undefined;
    more.onclick = () => guarded(signal, () => search(page.next_page_token));
    reconcile(table.tBodies[0], records, (record) => String(record.sequence), recordCells);
  };
  await guarded(signal, () => search());
  if (!byId("problem").hidden) {
    status.textContent = "";
    byId("forgotten").hidden = true;
    byId("trail-part").hidden = records.length === 0;
  }
}

const hasEnd = (records) => records.some((record) => record.event_type === "execution");

function recordCells(record) {
  const { decision, capability_denials: denials } = record.security ?? {};
  const { result, exit_code: code, host_calls: calls = {} } = record.execution ?? {};
  const made = Object.entries(calls).map(([kind, count]) => `${kind} ${count}`).join(", ");
  const refused = denials === 1 ? "; one denial" : denials > 1 ? `; ${number(denials)} denials` : "";
  const about = decision
    ? element("code", {}, decision.capability)
    : `end of the execution${refused}${made === "" ? "" : `; calls of the host: ${made}`}`;
  const verdict = decision
    ? badge(decision.granted ? "granted" : "denied", decision.granted ? "granted" : `denied: ${decision.reason}`)
    : result === "success" ? exit(code) : badge("failed", result);
  const whole = element(
    "details",
    {},
    element("summary", { "aria-label": `whole record ${record.sequence}` }, "whole record"),
  );
  const text = element("pre", { tabindex: "0", "aria-label": `Record ${record.sequence}` });
  text.textContent = lines(JSON.stringify(record, null, 2));
  whole.append(text);
  return [
    ["Record", String(record.sequence)],
    ["Time", time(record.timestamp)],
    ["What", element("div", {}, about, whole)],
    ["Result", verdict],
    ["Policies", decision?.policies.join(", ") || "—"],
  ];
}

addEventListener("hashchange", show);
show();
