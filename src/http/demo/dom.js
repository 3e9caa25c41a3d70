// What draws elements: made with text and never with markup, and kept where nothing about them has changed.

/** An element with properties and children; text becomes text, never markup. */
function element(tag, properties = {}, ...children) {
  const { data = {}, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  Object.assign(made.dataset, data);
  made.append(...children.filter((child) => child !== null && child !== false));
  return made;
}

const fullName = (person) => `${person.first_name} ${person.last_name}`.trim() || person.username || "Someone";
const initials = (person) => [...fullName(person).matchAll(/(?:^|\s)(\S)/gu)].slice(0, 2).map((found) => found[1]).join("");
const clockTime = (time) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** Shows rows in order; one whose facts are as before keeps its node, and with it focus and scroll. */
function replaceRows(list, known, rows) {
  const nodes = rows.map(({ key, facts, make }) => {
    const signature = JSON.stringify(facts);
    const row = known.get(key);
    if (row?.signature === signature) return row.node;
    const node = make();
    const focused = row?.node.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
    known.set(key, { signature, node });
    if (focused) queueMicrotask(() => node.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus());
    return node;
  });
  const current = [...list.children];
  if (current.length === nodes.length && current.every((node, at) => node === nodes[at])) return;
  nodes.forEach((node, at) => list.children[at] === node || list.insertBefore(node, list.children[at] ?? null));
  while (list.children.length > nodes.length) list.lastElementChild.remove();
}

function groupBy(reactions) {
  const groups = new Map();
  for (const one of reactions) groups.set(one.reaction, [...(groups.get(one.reaction) ?? []), one]);
  return groups;
}

/** The message that a reply answers. */
function quote(reply) {
  const text = reply.content || "Message deleted";
  return element("blockquote", {}, element("strong", {}, fullName(reply.sender)), element("span", { dir: "auto" }, text));
}

/** A file of a message: its thumbnail, or its name. */
function attachment(file) {
  const link = element("a", { className: "attachment", href: file.url, target: "_blank", rel: "noreferrer" });
  if (file.thumbnail_url) link.append(element("img", { src: file.thumbnail_url, alt: file.filename, loading: "lazy" }));
  else link.append(`📄 ${file.filename} · ${Math.ceil(file.size / 1024)} KiB`);
  return link;
}

/** One tick: sent. Two: delivered; in colour: read. */
function ticks({ status, people }) {
  const names = people.map(fullName).join(", ");
  const title = people.length ? `${status} (${names})` : status;
  const shown = element("span", { className: "ticks", title, data: { status } }, status === "sent" ? "✓" : "✓✓");
  shown.setAttribute("role", "img");
  shown.setAttribute("aria-label", title);
  return shown;
}

