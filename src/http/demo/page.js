
// The page: two panes side by side, or one of them where there is little room, and the inspector.

const FRAMES_MAX = 200;
const settings = JSON.parse(document.querySelector("#settings").textContent);
const inspector = document.querySelector(".inspector");
const toggle = document.querySelector(".toggle");
const pause = document.querySelector(".pause");
const frames = document.querySelector(".frames");

function trace(user, direction, data) {
  if (pause.getAttribute("aria-pressed") === "true") return;
  const arrow = { in: "↓", out: "↑", note: "·" }[direction];
  const isNote = direction === "note";
  const { type, ...rest } = isNote ? { type: data } : data;
  const label = { in: "received by", out: "sent by", note: "about" }[direction];
  const head = [
    element("time", {}, new Date().toLocaleTimeString([], { hour12: false })),
    element("span", { className: "whose", data: { user: user.id } }, user.first_name),
    element("span", { className: "arrow", title: `${label} ${user.first_name}` }, arrow),
    element("span", { className: "type" }, type),
    !isNote && element("span", { className: "brief" }, JSON.stringify(rest)),
  ];
  const body = isNote
    ? element("div", { className: "summary" }, ...head)
    : element("details", {}, element("summary", {}, ...head), element("pre", {}, JSON.stringify(data, null, 2)));
  frames.prepend(element("li", { data: { direction } }, body));
  while (frames.childElementCount > FRAMES_MAX) frames.lastElementChild.remove();
}

function showInspector(isShown) {
  inspector.hidden = !isShown;
  toggle.setAttribute("aria-expanded", String(isShown));
}

toggle.onclick = () => showInspector(inspector.hidden);
pause.onclick = () => {
  const isPaused = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", String(isPaused));
  pause.textContent = isPaused ? "Go on" : "Pause";
};
document.querySelector(".clear").onclick = () => frames.replaceChildren();
showInspector(matchMedia("(min-width: 60rem) and (min-height: 44rem)").matches);

const panes = settings.users.map((user) => new Pane(user, settings, (direction, data) => trace(user, direction, data)));
document.querySelector(".panes").append(...panes.map((pane) => pane.element));

function show(index) {
  panes.forEach((pane, at) => pane.element.classList.toggle("is-shown", at === index));
  tabs.forEach((tab, at) => tab.setAttribute("aria-pressed", String(at === index)));
  dispatchEvent(new Event("resize"));
}

const tabs = settings.users.map((user, at) => element("button", { type: "button", onclick: () => show(at) }, user.first_name));
document.querySelector(".tabs").append(...tabs);
addEventListener("resize", () => panes.forEach((pane) => pane.resized()));
show(0);
