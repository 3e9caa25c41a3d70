// The platform's front ends speak the connection guide and nothing else: its code, unchanged, in a real browser.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { bundle, launch, open, Server, token } from "./support.mjs";

let server, browser, script, conversationId;

before(async () => {
  server = await Server.start();
  conversationId = await server.conversation();
  script = await bundle("guide.jsx", server);
  browser = await launch();
});

afterEach(async () => {
  for (const context of browser.contexts()) await context.close();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

/** The page of a user who has the React hook's conversation open, once it is connected. */
async function chatPage(userId) {
  const page = await open(browser, script, { conversationId, jwtToken: token(userId) });
  await page.getByText("Connection Status: Connected").waitFor();
  return page;
}

async function say(page, text) {
  await page.locator("input").fill(text);
  await page.getByRole("button", { name: "Send" }).click();
}

test("two people chat with the guide's React hook", async () => {
  const [ada, john] = [await chatPage(1), await chatPage(2)];
  await say(ada, "Hello there! 👋");
  for (const page of [ada, john]) await page.getByText("Ada Lovelace: Hello there! 👋").waitFor();
  await say(john, "<b>Hi</b>");
  for (const page of [ada, john]) await page.getByText("John Doe: <b>Hi</b>").waitFor();
});

test("the guide's React hook finds the server again after a crash", async () => {
  const ada = await chatPage(1);
  await server.kill();
  await ada.getByText("Connection Status: Connected").waitFor({ state: "detached" });
  await server.startAgain();
  await ada.getByText("Connection Status: Connected").waitFor();
  await say(ada, "Still there?");
  await ada.getByText("Ada Lovelace: Still there?").waitFor();
});

test("the guide's connectWithRetry finds the server again after a crash", async () => {
  const page = await open(browser, script);
  const url = `ws://${server.address}/ws/chat/${conversationId}/?token=${token(1)}`;
  const connected = () => page.waitForEvent("console", (message) => message.text() === "WebSocket connected");
  await Promise.all([connected(), page.evaluate((url) => void connectWithRetry(url), url)]);
  const closed = page.waitForEvent("console", (message) => message.text().startsWith("WebSocket closed: 1006"));
  await Promise.all([closed, server.kill()]);
  await Promise.all([connected(), server.startAgain()]);
});

test("the guide's plain functions send a message, and receive it and its notification in the guide's shape", async () => {
  const [ada, john] = [await open(browser, script), await open(browser, script)];
  const opened = john.waitForEvent("console", (message) => message.text() === "Notifications WebSocket connected");
  await Promise.all([opened, john.evaluate((token) => void connectToNotificationsWebSocket(2, token), token(2))]);
  await ada.evaluate(
    ([id, token]) => {
      const websocket = connectToChatWebSocket(id, token);
      websocket.addEventListener("open", () => sendMessage(websocket, { message: "Are you there?" }));
    },
    [conversationId, token(1)],
  );

  const isChatMessage = (frame) => frame.type === "chat_message";
  const frame = await firstOf(ada, "chatMessages", isChatMessage);
  const { id, content, sender, timestamp, message_type } = frame.message;
  assert.ok(Number.isSafeInteger(id));
  assert.deepEqual([content, message_type], ["Are you there?", "text"]);
  assert.deepEqual([sender.id, sender.first_name, sender.last_name], [1, "Ada", "Lovelace"]);
  assert.match(timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);

  const { notification } = await firstOf(john, "notifications", (frame) => frame.type === "notification");
  assert.equal(notification.title, "New Message");
  assert.match(notification.message, /from Ada Lovelace$/);
  assert.equal(notification.notification_type, "message");
  assert.equal(notification.is_read, false);
  assert.deepEqual([notification.data.conversation_id, notification.data.sender_id], [conversationId, 1]);
});

test("the browser sees the guide's close codes", async () => {
  const page = await open(browser, script);
  const expired = token(1, { exp: 1 });
  for (const [path, code] of [
    [`chat/${conversationId}/?token=nonsense`, 4001],
    [`chat/${conversationId}/?token=${expired}`, 4002],
    [`chat/${conversationId}/`, 4003],
    [`chat/${conversationId}/?token=${token(3)}`, 4004],
    [`chat/${conversationId + 1}/?token=${token(1)}`, 4004],
    [`notifications/2/?token=${token(1)}`, 4005],
  ]) {
    const seen = await page.evaluate(
      (url) => new Promise((resolve) => (new WebSocket(url).onclose = (event) => resolve(event.code))),
      `ws://${server.address}/ws/${path}`,
    );
    assert.equal(seen, code, path.split("?")[0]);
  }
});

/** Waits until one of what the page has received is the one meant. */
async function firstOf(page, list, isMeant) {
  const test = `window.${list}.find(${isMeant})`;
  return (await page.waitForFunction(test)).jsonValue();
}
