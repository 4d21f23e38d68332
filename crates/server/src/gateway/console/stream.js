// What an execution says, as it arrives: one line for each event, and chunks of one stream that follow each other in one.
// Bounded, whatever an agent writes: the oldest lines go, and it is said how many.

import { byId, bytes, chunks, clock, element, lines, plain } from "./text.js";

const MOST_LINES = 1000;
/** Characters of one line; more begins another one. */
const LONGEST_LINE = 20_000;
/** Streams that can be chosen; an agent may begin any number. */
const MOST_SOURCES = 100;
/** Events that come in one moment are shown together. */
const SHOWN_EVERY_MS = 50;

export class StreamView {
  #list = byId("stream");
  #source = byId("source");
  #waiting = [];
  #timer;
  #leftOut = 0;
  /** The line that the next chunk of its stream goes on with. */
  #open;
  /** Whether what is told was published from elsewhere, and may be anything. */
  isPublished = false;

  constructor() {
    this.#list.replaceChildren();
    this.#source.replaceChildren(element("option", { value: "" }, "Everything"));
    this.#source.onchange = () => this.#filter();
    this.#tellLeftOut();
  }

  /** Shows a message of the stream, in a moment. */
  add(message) {
    this.#waiting.push(message);
    this.#timer ??= setTimeout(() => this.#flush(), SHOWN_EVERY_MS);
  }

  close() {
    clearTimeout(this.#timer);
    this.#waiting = [];
  }

  #flush() {
    this.#timer = undefined;
    const wasAtEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 40;
    for (const message of this.#waiting.splice(0)) this.#show(message);
    while (this.#list.childElementCount > MOST_LINES) {
      this.#list.firstElementChild.remove();
      this.#leftOut += 1;
    }
    this.#tellLeftOut();
    // Who has scrolled back to read something stays there.
    if (wasAtEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }

  #show({ type, data, timestamp }) {
    const at = timestamp;
    if (type === "stream_missed") {
      return this.#line(at, "", "missed", `events ${data.first} to ${data.last} are not kept any more`, "missed");
    }
    if (this.isPublished && type === "stream_data") {
      return this.#line(at, "published", "published", JSON.stringify(data));
    }
    switch (data.kind) {
      case "log":
        return this.#line(at, "log", data.level, data.message, `log ${data.level}`);
      case "start":
        return this.#line(at, `stream ${data.stream}`, data.stream, "begins", "note");
      case "chunk":
        return this.#chunk(at, data);
      case "end": {
        const how = data.whole ? "ends" : "is cut off";
        return this.#line(at, `stream ${data.stream}`, data.stream, `${how} after ${chunks(data.total_chunks)}`, "note");
      }
      case "metric":
        return this.#line(at, "metric", "metric", `${data.name} = ${data.value}`);
      case "closed":
        return this.#line(at, "", "end", data.whole ? "ended" : "given up: nothing was published any more", "note");
      case "finished":
        return this.#line(at, "", "end", `finished with exit code ${data.exit_code}`, "note");
      case "failed":
        return this.#line(at, "", "end", `${data.reason}: ${data.message}`, "log error");
      default: {
        const said = [data.message, data.data === undefined ? undefined : JSON.stringify(data.data)];
        return this.#line(at, "reports", data.kind ?? "?", said.filter((text) => text !== undefined).join(" "));
      }
    }
  }

  #chunk(at, { stream, text, base64 }) {
    // Bytes that are no text are counted, not shown: nobody reads base64.
    const shown = text === undefined ? `[${bytes(sizeOf(base64))} that are no text]\n` : lines(text);
    if (this.#open?.stream === stream && this.#open.node.length + shown.length < LONGEST_LINE) {
      this.#open.node.appendData(shown);
      return;
    }
    for (let from = 0; from === 0 || from < shown.length; from += LONGEST_LINE) {
      const node = document.createTextNode(shown.slice(from, from + LONGEST_LINE));
      this.#line(at, `stream ${stream}`, stream, node, "chunk");
      this.#open = { stream, node };
    }
  }

  #line(at, source, name, content, kind = "") {
    this.#open = undefined;
    const said = content instanceof Node ? content : lines(content);
    const made = element(
      "li",
      { class: kind, "data-source": plain(source) },
      clock(at),
      element("span", { class: "name" }, name),
    );
    const text = element("span", { class: "text" });
    text.append(said);
    made.append(text);
    this.#offer(plain(source));
    made.hidden = this.#isHidden(made);
    this.#list.append(made);
  }

  #offer(source) {
    const known = [...this.#source.options].some((option) => option.value === source);
    if (!known && this.#source.length < MOST_SOURCES) {
      this.#source.append(element("option", { value: source }, source));
    }
  }

  #isHidden(made) {
    // What belongs to nobody (the end, what is missing) belongs to all.
    const { source } = made.dataset;
    return this.#source.value !== "" && source !== "" && source !== this.#source.value;
  }

  #filter() {
    for (const made of this.#list.children) made.hidden = this.#isHidden(made);
  }

  #tellLeftOut() {
    const told = byId("stream-left-out");
    told.hidden = this.#leftOut === 0;
    told.textContent = `${this.#leftOut} earlier lines are not shown any more.`;
  }
}

const sizeOf = (base64) => Math.floor((base64.replace(/=+$/, "").length * 3) / 4);
