// The demo's page in a real browser: one chats on it, and nothing is lost or doubled whatever happens to the connection.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { launch, Process } from "./support.mjs";

let demo, browser;

before(async () => {
  demo = await Process.start("demo", { TIDINGS_ADMIN_LISTEN: "off" });
  browser = await launch();
});

afterEach(async () => {
  for (const context of browser.contexts()) await context.close();
});

after(async () => {
  await browser?.close();
  await demo?.end();
});

/** The page, once both users are online; it fails the test when something is wrong in the console. */
async function open(viewport = { width: 1400, height: 900 }) {
  const page = await browser.newPage({ viewport });
  page.setDefaultTimeout(15_000);
  page.problems = [];
  page.on("console", (message) => {
    // What breaks because the test breaks it is told by the browser as an error of the network.
    if (message.type() === "error" && !/net::ERR|WebSocket/.test(message.text())) page.problems.push(message.text());
  });
  page.on("pageerror", (error) => page.problems.push(String(error)));
  await page.goto(`http://${demo.address}/`);
  return page;
}

const side = (page, name) => page.getByRole("region", { name }).first();
const texts = (pane) => pane.locator(".message .text").allTextContents();

async function online(pane) {
  await pane.locator('.connection[data-state="open"]').waitFor();
}

async function openConversation(pane, title) {
  await pane.getByRole("navigation").getByRole("button", { name: title }).click();
  await pane.getByRole("heading", { name: title }).waitFor();
}

async function say(pane, text) {
  await pane.getByLabel("Message", { exact: true }).fill(text);
  await pane.getByRole("button", { name: "Send" }).click();
}

function once(list, text) {
  assert.equal(list.filter((one) => one === text).length, 1, `${text} in ${JSON.stringify(list)}`);
}

test("the bot answers, after typing, and what was sent is shown as read", async () => {
  const page = await open();
  const ada = side(page, "Ada Lovelace");
  await online(ada);
  await say(ada, "How do I resume?");
  await ada.getByText("Tidings is typing …").waitFor();
  await ada.locator(".message .text", { hasText: "?since=<event_id>" }).waitFor();
  await ada.locator(".message", { hasText: "How do I resume?" }).locator('.ticks[data-status="read"]').waitFor();
  once(await texts(ada), "How do I resume?");
  assert.deepEqual(page.problems, []);
});

test("what one does, the other sees: message, markup as text, reaction, reply, edit, deletion", async () => {
  const page = await open();
  const [ada, grace] = [side(page, "Ada Lovelace"), side(page, "Grace Hopper")];
  await online(ada);
  await online(grace);
  await openConversation(ada, "Grace Hopper");
  await openConversation(grace, "Ada Lovelace");
  const markup = "<img src=x onerror=alert(1)> 👩‍💻 שלום";
  await say(ada, markup);
  const heard = grace.locator(".message", { hasText: markup });
  await heard.hover();
  await heard.getByRole("button", { name: "love" }).click();
  const own = ada.locator(".message.is-own", { hasText: markup });
  await own.getByRole("button", { name: "❤️ 1" }).waitFor();

  await heard.getByRole("button", { name: "Reply" }).click();
  await say(grace, "A reply");
  await ada.locator(".message", { hasText: "A reply" }).locator("blockquote", { hasText: "onerror" }).waitFor();

  await own.hover();
  await own.getByRole("button", { name: "Edit" }).click();
  await ada.getByLabel("Message", { exact: true }).fill("Edited by Ada");
  await ada.getByRole("button", { name: "Save" }).click();
  const edited = grace.locator(".message", { hasText: "Edited by Ada" }).filter({ hasText: "· edited" });
  await edited.waitFor();

  const last = ada.locator(".message.is-own", { hasText: "· edited" });
  await last.hover();
  await last.getByRole("button", { name: "Delete" }).click();
  await grace.locator(".is-deleted").waitFor();
  assert.deepEqual(page.problems, []);
});

test("nothing is lost or doubled by going offline, by a reload, or by both", async () => {
  const page = await open();
  let [ada, grace] = [side(page, "Ada Lovelace"), side(page, "Grace Hopper")];
  await online(ada);
  await online(grace);
  await openConversation(ada, "Grace Hopper");
  await openConversation(grace, "Ada Lovelace");

  await ada.getByRole("button", { name: "Go offline", exact: true }).click();
  for (let n = 1; n <= 5; n++) await say(grace, `While you were away ${n}`);
  await say(ada, "Written offline");
  await ada.locator(".is-pending", { hasText: "Written offline" }).waitFor();
  await page.reload();

  [ada, grace] = [side(page, "Ada Lovelace"), side(page, "Grace Hopper")];
  await online(ada);
  await openConversation(ada, "Grace Hopper");
  await openConversation(grace, "Ada Lovelace");
  await grace.locator(".message", { hasText: "Written offline" }).waitFor();
  await ada.locator(".is-pending").waitFor({ state: "detached" });

  await ada.getByRole("button", { name: "Go offline", exact: true }).click();
  for (let n = 6; n <= 10; n++) await say(grace, `While you were away ${n}`);
  await grace.locator(".is-pending").first().waitFor({ state: "detached" });
  await ada.getByRole("button", { name: "Go online", exact: true }).click();
  await ada.locator(".message .text", { hasText: /^While you were away 10$/ }).waitFor();

  for (const pane of [ada, grace]) {
    const shown = await texts(pane);
    const wanted = Array.from({ length: 10 }, (_, n) => `While you were away ${n + 1}`);
    assert.deepEqual(shown.filter((text) => text.startsWith("While you")), wanted);
    once(shown, "Written offline");
  }
  assert.deepEqual(page.problems, []);
});

test("a notification rings the bell", async () => {
  const page = await open();
  const ada = side(page, "Ada Lovelace");
  await online(ada);
  const line = demo.output.match(/^curl .*\/notifications.*$/m)[0];
  const [url, , authorization, body] = [...line.matchAll(/'([^']*)'/g)].map((found) => found[1]);
  const headers = { "content-type": "application/json", authorization: authorization.split(": ")[1] };
  assert.equal((await fetch(url, { method: "POST", headers, body })).status, 201);
  await ada.getByRole("button", { name: /^Notifications, [1-9]/ }).click();
  await ada.getByText("Hello from the platform").waitFor();
  await ada.getByRole("button", { name: "Mark all read" }).click();
  await ada.getByRole("button", { name: "Notifications, 0 unread" }).waitFor();
  assert.deepEqual(page.problems, []);
});

test("on a phone one side is shown, the list first, and the keyboard suffices", async () => {
  const page = await open({ width: 390, height: 780 });
  const ada = side(page, "Ada Lovelace");
  await online(ada);
  assert.equal(await side(page, "Grace Hopper").isVisible(), false);
  await ada.getByRole("navigation").getByRole("button", { name: "Tidings Bot" }).press("Enter");
  const input = ada.getByLabel("Message", { exact: true });
  await input.pressSequentially("Hello");
  await input.press("Enter");
  await ada.locator(".message", { hasText: 'Hello Ada! Say "help"' }).waitFor();
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  assert.equal(wide, false, "the page scrolls sideways");
  await ada.getByRole("button", { name: "Back to the conversations" }).press("Enter");
  await page.getByRole("button", { name: "Grace", exact: true }).press("Enter");
  await online(side(page, "Grace Hopper"));
  assert.deepEqual(page.problems, []);
});
