// Calls of the server that this page came from, and of no other.

/**
 * The key is kept for this tab alone: so that a reload does not ask again, and that nothing is left when the tab is closed.
 * No other script can read it there, since this server serves none but these files.
 */
const KEY = "mentat-api-key";

export const getKey = () => sessionStorage.getItem(KEY);
export const keepKey = (text) => sessionStorage.setItem(KEY, text);
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** An answer that is an error. */
export class Refused extends Error {
  constructor(status, reason, message) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

async function call(path, { method = "GET", headers = {}, body, signal } = {}) {
  const key = getKey();
  const credential = key === null ? {} : { authorization: `Bearer ${key}` };
  const response = await fetch(path, {
    method,
    body,
    signal,
    headers: { ...headers, ...credential },
    cache: "no-store",
    redirect: "error",
    referrerPolicy: "no-referrer",
  });
  if (response.ok) return response;
  let told = {};
  try {
    told = (await response.json()).error;
  } catch {
    // Something between us and the server answered in its own way.
  }
  throw new Refused(response.status, told.reason ?? "", told.message ?? `the server answered ${response.status}`);
}

/** A path of parts that strangers named, and what is asked there. */
export function path(parts, query = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  const text = asked.size > 0 ? `?${asked}` : "";
  return `/${parts.map(encodeURIComponent).join("/")}${text}`;
}

export const get = async (where, signal) => (await call(where, { signal })).json();

export async function post(where, content, signal) {
  const body = content === undefined ? undefined : JSON.stringify(content);
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  return (await call(where, { method: "POST", headers, body, signal })).json();
}

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

/**
 * What an execution says, to its end. A connection that is cut off is made anew, and goes on behind the last event that came;
 * `tell` hears of it. (`EventSource` does the same, but cannot send a key.)
 */
export async function* follow(id, signal, tell) {
  let last;
  let pause = FIRST_PAUSE_MS;
  for (;;) {
    try {
      const headers = { accept: "text/event-stream", ...(last === undefined ? {} : { "last-event-id": last }) };
      const response = await call(path(["api", "v1", "streams", id, "sse"]), { headers, signal });
      if (response.status === 204) return;
      tell("live");
      for await (const event of events(response.body)) {
        pause = FIRST_PAUSE_MS;
        last = event.id ?? last;
        const message = JSON.parse(event.data);
        yield message;
        if (message.type === "stream_end" || message.type === "stream_error") return;
      }
    } catch (error) {
      // A refusal stays one, but for a server that is too busy.
      if (signal.aborted || (error instanceof Refused && error.status < 500)) throw error;
    }
    tell("cut off");
    await sleep(pause, signal);
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
}

/** Server-sent events: their ids and what they carry. One that is cut off is none. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let begun = "";
  let id;
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = value.split("\n");
      parts[0] = begun + parts[0];
      begun = parts.pop();
      for (const part of parts) {
        const line = part.endsWith("\r") ? part.slice(0, -1) : part;
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        else if (line.startsWith("id:")) id = line.slice(3).trim();
        else if (line === "" && data.length > 0) {
          yield { id, data: data.join("\n") };
          [id, data] = [undefined, []];
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Waits, unless that is given up. */
export const sleep = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
