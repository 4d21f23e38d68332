// Shows the messages of a flow as they come. What agents say goes into the page as text.
"use strict";

const MAX_SHOWN = 100_000;

const node = (message) => {
  const known = document.getElementById(`node-${message.node}`);
  if (known) return known;
  const item = document.createElement("li");
  item.id = `node-${message.node}`;
  const heading = document.createElement("h2");
  heading.textContent = `${message.node}: ${message.agent}`;
  const state = document.createElement("p");
  state.className = "state";
  const said = document.createElement("pre");
  // It scrolls, which is for the keyboard, too.
  said.tabIndex = 0;
  said.setAttribute("aria-label", `what ${message.node} says`);
  said.setAttribute("role", "region");
  item.append(heading, state, said);
  document.getElementById("nodes").append(item);
  return item;
};

const show = {
  flow: (message) => {
    document.getElementById("name").textContent = message.name;
    document.getElementById("state").textContent = message.state;
  },
  node: (message) => {
    const state = node(message).querySelector(".state");
    state.textContent = message.state;
    if (message.console) {
      const link = document.createElement("a");
      link.href = message.console;
      link.textContent = "in the console";
      state.append(" (", link, ")");
    }
  },
  said: (message) => {
    const said = node(message).querySelector("pre");
    if (said.textContent.length < MAX_SHOWN) said.append(message.text);
  },
  output: (message) => {
    node(message).querySelector("pre").textContent = message.text.slice(0, MAX_SHOWN);
  },
};

const events = new EventSource("/events");
events.onmessage = (event) => {
  const message = JSON.parse(event.data);
  show[message.type](message);
  if (message.type === "flow" && message.last) events.close();
};
