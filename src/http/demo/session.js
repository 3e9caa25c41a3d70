// One user's connection, and all that is known through it. Knows no element of the page.

/** Close codes: what each means, and whether to connect again ("yes", "no", or "token": with a fresh one). */
const CLOSE_CODES = {
  1000: ["normal", "The connection was ended in good order.", "no"],
  1001: ["going away", "The server is going down.", "yes"],
  1002: ["protocol error", "A frame broke the WebSocket protocol.", "yes"],
  1005: ["no code", "The connection ended without a reason.", "yes"],
  1006: ["no close frame", "The connection broke, or the server cannot be reached.", "yes"],
  1007: ["not UTF-8", "A text frame was not UTF-8.", "yes"],
  1009: ["frame too large", "A frame was larger than the server takes.", "no"],
  1011: ["internal error", "The server failed.", "yes"],
  1012: ["service restart", "The server restarts; the reason says how long to wait.", "yes"],
  1013: ["try again later", "The server cannot reach its store at the moment.", "yes"],
  4001: ["invalid token", "The token is not one that this server trusts: reload the page.", "no"],
  4002: ["token expired", "A fresh token is needed: reload the page.", "token"],
  4003: ["missing token", "No token arrived.", "no"],
  4004: ["access denied", "The user does not take part, or there is no such conversation.", "no"],
  4005: ["user mismatch", "The address names another user than the token.", "no"],
  4006: ["session revoked", "The platform has revoked the session; a fresh token is needed.", "token"],
  4007: ["too many connections", "The user has as many connections as are allowed.", "no"],
  4008: ["rate limited", "Far more was sent than is allowed.", "yes"],
  4009: ["slow consumer", "Frames were read too slowly; what was missed is resumed.", "yes"],
  4010: ["heartbeat timeout", "The server had no sign of life for two heartbeats.", "yes"],
};

const closeCode = (code) => CLOSE_CODES[code] ?? ["unknown", "The contract does not name this code.", "yes"];

const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 30_000;
/** After this long without a frame the client asks for one, and after this much longer the link counts as dead. */
const SILENCE_MS_MAX = 25_000;
const ANSWER_MS_MAX = 10_000;
/** Somebody who is shown typing stops by themselves, should the server's word get lost. */
const TYPING_MS_MAX = 8_000;
const HISTORY_PAGE = 50;

class Session {
  /** Where the connection stands; its `name` is one of loading, connecting, resuming, open, waiting, offline, closed. */
  state = { name: "loading" };
  conversations = new Map();
  notifications = new Map();
  presence = new Map();
  /** Commands without an answer yet, by client_id, in the order they were given. They survive a reload. */
  pending = new Map();

  #socket = null;
  #attempt = 0;
  #timer = 0;
  #heardAt = 0;
  #isAsked = false;
  #notificationCursor = 0;
  /** Conversations being loaded, with the frames that come meanwhile. */
  #loading = new Map();
  #storageKey;

  /** `changed(what, id)` is called after every change, `traced(direction, data)` for every frame and turn. */
  constructor(user, run, changed, traced) {
    Object.assign(this, { user, changed, traced });
    this.#storageKey = `tidings-demo/${run}/${user.id}`;
    const kept = JSON.parse(sessionStorage.getItem(this.#storageKey) ?? "[]");
    for (const command of kept) this.pending.set(command.client_id, { command });
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.#hurry());
    setInterval(() => this.#watch(), 5_000);
  }

  // Loading by REST: whole states, each with the event that it is true for.

  async start() {
    try {
      this.#become({ name: "loading" });
      const [conversations, notifications] = await Promise.all([
        this.call("GET", "conversations?limit=100"),
        this.call("GET", "notifications?limit=50"),
      ]);
      for (const notification of notifications.data) this.notifications.set(notification.id, notification);
      this.#notificationCursor = notifications.last_event_id;
      await Promise.all(conversations.data.map((one) => this.#load(one.id)));
      this.changed("notifications");
    } catch (error) {
      return this.#wait(`Loading failed: ${error.message}`);
    }
    this.#connect();
  }

  async #load(id) {
    if (this.#loading.has(id)) return;
    this.#loading.set(id, []);
    try {
      const path = `conversations/${id}`;
      // The messages come last: what the others say may be newer than them, never older.
      const page = await this.call("GET", `${path}/messages?limit=${HISTORY_PAGE}`);
      const [about, people] = [await this.call("GET", path), await this.call("GET", `${path}/participants?limit=100`)];
      const known = this.conversations.get(id);
      this.conversations.set(id, {
        id,
        kind: about.kind,
        title: about.title,
        people: new Map(people.data.map((one) => [one.user.id, one.user])),
        messages: new Map(page.data.map((message) => [message.id, message])),
        hasMore: page.has_more,
        cursor: page.last_event_id,
        readUpTo: new Map(people.data.map((one) => [one.user.id, one.read_up_to ?? 0])),
        delivered: known?.delivered ?? new Map(),
        typing: new Map(),
      });
    } finally {
      const frames = this.#loading.get(id);
      this.#loading.delete(id);
      if (this.conversations.has(id)) frames.forEach((frame) => this.#applyEvent(frame));
    }
    this.changed("conversation", id);
  }

  /** Loads what is new or was missed. Where that fails, the conversation's next event tries again. */
  #loadAgain(id) {
    this.#load(id).catch((error) => this.traced("note", `conversation ${id} could not be loaded: ${error.message}`));
  }

  async loadEarlier(id) {
    const conversation = this.conversations.get(id);
    const oldest = Math.min(...conversation.messages.keys());
    const page = await this.call("GET", `conversations/${id}/messages?limit=${HISTORY_PAGE}&before=${oldest}`);
    for (const message of page.data) if (!conversation.messages.has(message.id)) conversation.messages.set(message.id, message);
    conversation.hasMore = page.has_more;
    this.changed("conversation", id);
  }

  async call(method, path, body) {
    const headers = { authorization: `Bearer ${this.user.token}` };
    const response = await fetch(`/api/v1/${path}`, { method, headers, body, cache: "no-store" });
    const answer = response.status === 204 ? null : await response.json();
    if (!response.ok) throw new Error(answer.detail ?? response.statusText);
    return answer;
  }

  // The connection.

  #connect() {
    if (this.#socket || this.state.name === "offline") return;
    this.#become({ name: "connecting" });
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    // The token goes into the list of subprotocols, which no access log keeps.
    const url = `${scheme}://${location.host}/ws/user/${this.user.id}/`;
    const socket = new WebSocket(url, ["tidings.v1", `bearer.${this.user.token}`]);
    this.#socket = socket;
    this.#heardAt = Date.now();
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      this.traced("note", `connected to ${url}`);
      this.#become({ name: "resuming" });
      const cursors = Object.fromEntries([...this.conversations.values()].map((one) => [one.id, one.cursor]));
      this.#transmit({ type: "resume", cursors, notifications: this.#notificationCursor });
    };
    socket.onmessage = (event) => socket === this.#socket && this.#receive(event.data);
    socket.onclose = (event) => socket === this.#socket && this.#closed(event.code, event.reason);
  }

  #closed(code, reason) {
    this.#socket = null;
    const [name, meaning, retry] = closeCode(code);
    this.traced("note", `closed with ${code} ${reason || name}: ${meaning}`);
    for (const conversation of this.conversations.values()) conversation.typing.clear();
    if (retry !== "yes") return this.#become({ name: "closed", code, meaning });
    this.#wait(`${code} ${name}`, Number(/retry_after_ms=(\d+)/.exec(reason)?.[1] ?? 0));
  }

  /** Tries again later: full jitter over a span that doubles, and never before the server wants it. */
  #wait(why, notBeforeMs = 0) {
    const span = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** this.#attempt++);
    const delay = notBeforeMs + RETRY_MS_MIN + Math.random() * span;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#again(), delay);
    this.traced("note", `trying again in ${(delay / 1000).toFixed(1)} s`);
    this.#become({ name: "waiting", until: Date.now() + delay, notBefore: Date.now() + notBeforeMs + RETRY_MS_MIN, why });
  }

  #again() {
    if (this.#notificationCursor === 0 && this.conversations.size === 0) return void this.start();
    this.#connect();
  }

  /** The network is back, or the page is looked at: no reason to wait any longer. */
  #hurry() {
    if (this.state.name !== "waiting" || Date.now() < this.state.notBefore) return;
    clearTimeout(this.#timer);
    this.#again();
  }

  /** A dead link is judged by the client's own clock: `close` may come minutes later. */
  #watch() {
    if (!this.#socket || this.state.name === "connecting") return;
    const silence = Date.now() - this.#heardAt;
    if (silence > SILENCE_MS_MAX + ANSWER_MS_MAX) {
      const socket = this.#socket;
      this.#closed(1006, "no sign of life");
      socket.close();
    } else if (silence > SILENCE_MS_MAX && !this.#isAsked) {
      this.#isAsked = true;
      this.#transmit({ type: "ping" });
    }
  }

  /** Goes offline by hand, as a tunnel would; what is written meanwhile waits. */
  goOffline() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
    this.traced("note", "offline by hand");
    this.#become({ name: "offline" });
  }

  goOnline() {
    this.#attempt = 0;
    this.#become({ name: "connecting" });
    this.#again();
  }

  #become(state) {
    this.state = state;
    this.changed("state");
  }

  // Commands.

  /** Gives a command that takes effect exactly once, now or when there is a connection again. */
  command(command) {
    const whole = { ...command, client_id: crypto.randomUUID() };
    this.pending.set(whole.client_id, { command: whole });
    this.#keep();
    if (this.state.name === "open") this.#transmit(whole);
    this.changed("conversation", command.conversation_id);
  }

  /** Tries once more what was refused. */
  retry(clientId) {
    const waiting = this.pending.get(clientId);
    delete waiting.refusal;
    if (this.state.name === "open") this.#transmit(waiting.command);
    this.changed("conversation", waiting.command.conversation_id);
  }

  giveUp(clientId) {
    const waiting = this.pending.get(clientId);
    this.pending.delete(clientId);
    this.#keep();
    this.changed("conversation", waiting.command.conversation_id);
  }

  /** Says something that is worth nothing later: typing, reading. */
  mention(command) {
    if (this.state.name === "open") this.#transmit(command);
  }

  #transmit(frame) {
    this.traced("out", frame);
    this.#socket.send(JSON.stringify(frame));
  }

  #keep() {
    const commands = [...this.pending.values()].map((waiting) => waiting.command);
    sessionStorage.setItem(this.#storageKey, JSON.stringify(commands));
  }

  // Frames.

  #receive(text) {
    const frame = JSON.parse(text);
    this.traced("in", frame);
    this.#heardAt = Date.now();
    this.#isAsked = false;
    switch (frame.type) {
      case "connected":
      case "pong":
        return;
      case "resumed":
        this.#attempt = 0;
        this.#become({ name: "open" });
        for (const waiting of this.pending.values()) if (!waiting.refusal) this.#transmit(waiting.command);
        return;
      case "resync":
        return frame.conversation_id ? this.#loadAgain(frame.conversation_id) : void this.#reloadNotifications();
      case "error":
        return this.#refused(frame);
    }
    if (frame.client_id) this.#answered(frame.client_id);
    if (frame.type.startsWith("notification")) return this.#applyNotification(frame);
    if (frame.type === "user_status") {
      this.presence.set(frame.user_id, frame.status);
      return this.changed("presence");
    }
    if (frame.conversation_id) this.#applyEvent(frame);
  }

  #answered(clientId) {
    if (this.pending.delete(clientId)) this.#keep();
  }

  #refused(frame) {
    const waiting = this.pending.get(frame.client_id);
    if (!waiting) return;
    if (frame.retry_after_ms) {
      setTimeout(() => this.pending.has(frame.client_id) && this.mention(waiting.command), frame.retry_after_ms);
      return;
    }
    waiting.refusal = frame.message;
    // Only a message is worth showing as not sent; the rest had no place in the thread.
    if (waiting.command.type !== "chat_message") this.#answered(frame.client_id);
    this.changed("conversation", waiting.command.conversation_id);
  }

  #applyEvent(frame) {
    const id = frame.conversation_id;
    this.#loading.get(id)?.push(frame);
    if (this.#loading.has(id)) return;
    const conversation = this.conversations.get(id);
    if (frame.type === "participant_removed" && frame.user.id === this.user.id) {
      this.conversations.delete(id);
      return this.changed("conversation", id);
    }
    if (!conversation) return this.#loadAgain(id);
    if (frame.event_id) {
      if (frame.event_id <= conversation.cursor) return this.changed("conversation", id);
      conversation.cursor = frame.event_id;
    }
    const change = EVENTS[frame.type];
    if (change) change(conversation, frame);
    this.changed("conversation", id);
    if (frame.type === "typing_indicator" && frame.is_typing) setTimeout(() => this.changed("conversation", id), TYPING_MS_MAX);
  }

  #applyNotification(frame) {
    if (frame.event_id) {
      if (frame.event_id <= this.#notificationCursor) return;
      this.#notificationCursor = frame.event_id;
    }
    const meant = (id) => frame.all || frame.notification_ids?.includes(id);
    if (frame.type === "notification") {
      this.notifications.set(frame.notification.id, frame.notification);
    } else {
      for (const [id, notification] of this.notifications) {
        if (!meant(id)) continue;
        if (frame.type === "notification_read") this.notifications.set(id, { ...notification, is_read: true });
        else this.notifications.delete(id);
      }
    }
    this.changed("notifications");
  }

  async #reloadNotifications() {
    const page = await this.call("GET", "notifications?limit=50").catch(() => null);
    if (!page) return;
    this.notifications = new Map(page.data.map((one) => [one.id, one]));
    this.#notificationCursor = page.last_event_id;
    this.changed("notifications");
  }

  // What follows from all that.

  unread(conversation) {
    const readUpTo = conversation.readUpTo.get(this.user.id) ?? 0;
    const isUnread = (one) => one.id > readUpTo && one.sender.id !== this.user.id && !one.is_deleted;
    return [...conversation.messages.values()].filter(isUnread).length;
  }

  /** The others' view of one's own message: sent, delivered or read, and by whom. */
  receipt(conversation, message) {
    const others = [...conversation.people.values()].filter((person) => person.id !== this.user.id);
    const reached = (cursors) => others.filter((person) => (cursors.get(person.id) ?? 0) >= message.id);
    const readers = reached(conversation.readUpTo);
    if (readers.length) return { status: "read", people: readers };
    const receivers = reached(conversation.delivered);
    return receivers.length ? { status: "delivered", people: receivers } : { status: "sent", people: [] };
  }

  typists(conversation) {
    return [...conversation.typing.values()].filter((one) => one.until > Date.now()).map((one) => one.user);
  }
}

/** What each event changes in a conversation. */
const EVENTS = {
  chat_message(conversation, { message }) {
    conversation.messages.set(message.id, message);
    conversation.typing.delete(message.sender.id);
  },
  message_edited(conversation, { message }) {
    if (conversation.messages.has(message.id)) conversation.messages.set(message.id, message);
  },
  message_deleted(conversation, { message_id }) {
    for (const [id, message] of conversation.messages) {
      if (id === message_id) {
        conversation.messages.set(id, { ...message, is_deleted: true, content: "", attachments: [], reactions: [], data: null });
      } else if (message.reply_to?.id === message_id) {
        conversation.messages.set(id, { ...message, reply_to: { ...message.reply_to, content: "" } });
      }
    }
  },
  reaction_added(conversation, { message_id, reaction }) {
    setReaction(conversation, message_id, reaction.user.id, [reaction]);
  },
  reaction_removed(conversation, { message_id, reaction }) {
    setReaction(conversation, message_id, reaction.user.id, []);
  },
  message_read(conversation, { message_id, read_by }) {
    advance(conversation.readUpTo, read_by.id, message_id);
  },
  message_status(conversation, { message_id, user_id }) {
    advance(conversation.delivered, user_id, message_id);
  },
  typing_indicator(conversation, { user, is_typing }) {
    if (is_typing) conversation.typing.set(user.id, { user, until: Date.now() + TYPING_MS_MAX });
    else conversation.typing.delete(user.id);
  },
  participant_added(conversation, { user }) {
    conversation.people.set(user.id, user);
  },
  participant_removed(conversation, { user }) {
    conversation.people.delete(user.id);
  },
  conversation_updated(conversation, frame) {
    if (frame.event_id) conversation.title = frame.conversation.title;
  },
};

function setReaction(conversation, messageId, userId, reactions) {
  const message = conversation.messages.get(messageId);
  if (!message) return;
  const others = message.reactions.filter((one) => one.user.id !== userId);
  conversation.messages.set(messageId, { ...message, reactions: [...others, ...reactions] });
}

function advance(cursors, userId, messageId) {
  cursors.set(userId, Math.max(cursors.get(userId) ?? 0, messageId));
}
