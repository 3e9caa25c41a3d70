
// One user's half of the page: draws what the session knows, and turns clicks and keys into commands.

const REACTIONS = { like: "👍", love: "❤️", laugh: "😂", wow: "😮", sad: "😢", angry: "😠" };
/** The server forgets typing after six seconds. */
const TYPING_REFRESH_MS = 3_000;

class Pane {
  #openId = null;
  #drafts = new Map();
  /** What the composer is about: null, or a message with what is done with it ("reply" or "edit"). */
  #context = null;
  #files = [];
  #typedAt = 0;
  #rows = new Map();
  #isDrawing = false;
  /** Up to where each conversation was said to be read on this connection. */
  #markedUpTo = new Map();

  constructor(user, settings, traced) {
    this.settings = settings;
    this.session = new Session(user, settings.run, () => this.#draw(), traced);
    this.element = document.querySelector("#pane").content.firstElementChild.cloneNode(true);
    this.element.dataset.user = user.id;
    this.element.setAttribute("aria-label", fullName(user));
    this.#at(".name").textContent = fullName(user);
    this.#paintAvatar(this.#at(".avatar"), user);
    this.#listen();
    this.#open(null);
    // Times that count down, and typists that fall silent, need no event.
    setInterval(() => this.session.state.name === "waiting" && this.#drawState(), 500);
    void this.session.start();
  }

  #at(selector) {
    return this.element.querySelector(selector);
  }

  #listen() {
    const { session } = this;
    this.#at(".line").onclick = () => (session.state.name === "offline" ? session.goOnline() : session.goOffline());
    this.#at(".bell").onclick = () => this.#showNotifications(this.#at(".notifications").hidden);
    this.#at(".all-read").onclick = () => session.mention({ type: "mark_read", all: true });
    this.#at(".back").onclick = () => this.#open(null);
    this.#at(".context button").onclick = () => this.#setContext(null);
    this.#at(".composer").onsubmit = (event) => {
      event.preventDefault();
      void this.#send();
    };
    const input = this.#at("textarea");
    input.oninput = () => this.#typed();
    input.onblur = () => this.#stopTyping();
    input.onkeydown = (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        void this.#send();
      } else if (event.key === "Escape") {
        this.#setContext(null);
      } else if (event.key === "ArrowUp" && input.value === "") {
        const own = this.#messages().filter((one) => one.sender.id === session.user.id && !one.is_deleted).at(-1);
        if (own) this.#setContext({ kind: "edit", message: own });
      }
    };
    this.#at(".attach input").onchange = (event) => {
      this.#files.push(...event.target.files);
      event.target.value = "";
      this.#drawFiles();
    };
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#showNotifications(false);
    });
    document.addEventListener("visibilitychange", () => this.#markRead());
  }

  #open(id) {
    this.#stopTyping();
    const input = this.#at("textarea");
    if (this.#openId !== null) this.#drafts.set(this.#openId, input.value);
    this.#openId = id;
    this.#rows.clear();
    this.#at(".messages").replaceChildren();
    this.#setContext(null);
    input.value = this.#drafts.get(id) ?? "";
    this.element.classList.toggle("is-open", id !== null);
    this.#draw();
  }

  #conversation() {
    return this.session.conversations.get(this.#openId);
  }

  #messages() {
    const conversation = this.#conversation();
    return conversation ? [...conversation.messages.values()].sort((a, b) => a.id - b.id) : [];
  }

  // Commands.

  async #send() {
    const input = this.#at("textarea");
    const text = input.value;
    const id = this.#openId;
    if (id === null || (text.trim() === "" && this.#files.length === 0)) return;
    const context = this.#context;
    if (context?.kind === "edit") {
      this.session.command({ type: "edit_message", conversation_id: id, message_id: context.message.id, message: text });
    } else {
      let attachments;
      try {
        attachments = await this.#upload();
      } catch (error) {
        return this.#say(`The file was not taken: ${error.message}`);
      }
      const isImage = attachments.length > 0 && attachments.every((one) => one.content_type.startsWith("image/"));
      this.session.command({
        type: "chat_message",
        conversation_id: id,
        message: text,
        message_type: attachments.length === 0 ? "text" : isImage ? "image" : "file",
        reply_to: context?.message.id,
        attachment_ids: attachments.map((one) => one.id),
      });
      this.#files = [];
      this.#drawFiles();
    }
    this.#typedAt = 0;
    this.#setContext(null);
    input.value = "";
    this.#fit();
    this.#scrollToEnd();
  }

  #upload() {
    const upload = (file) => {
      const form = new FormData();
      form.append("file", file);
      return this.session.call("POST", "attachments", form);
    };
    return Promise.all(this.#files.map(upload));
  }

  #typed() {
    this.#fit();
    const isTyping = this.#at("textarea").value !== "";
    if (!isTyping) return this.#stopTyping();
    if (this.#context?.kind === "edit" || Date.now() - this.#typedAt < TYPING_REFRESH_MS) return;
    this.#typedAt = Date.now();
    this.session.mention({ type: "typing_indicator", conversation_id: this.#openId, is_typing: true });
  }

  #stopTyping() {
    if (this.#typedAt === 0) return;
    this.#typedAt = 0;
    this.session.mention({ type: "typing_indicator", conversation_id: this.#openId, is_typing: false });
  }

  #act(action, message, reaction) {
    const about = { conversation_id: this.#openId, message_id: message.id };
    if (action === "reply" || action === "edit") return this.#setContext({ kind: action, message });
    if (action === "delete") return this.session.command({ type: "delete_message", ...about });
    const mine = message.reactions.find((one) => one.user.id === this.session.user.id);
    const type = mine?.reaction === reaction ? "remove_reaction" : "add_reaction";
    this.session.command({ type, reaction, ...about });
  }

  /** What is on the screen is read. */
  #markRead() {
    const conversation = this.#conversation();
    if (this.session.state.name !== "open") return this.#markedUpTo.clear();
    if (!conversation || document.visibilityState !== "visible" || this.element.offsetParent === null) return;
    if (this.session.unread(conversation) === 0) return;
    const last = this.#messages().filter((one) => one.sender.id !== this.session.user.id).at(-1);
    if (this.#markedUpTo.get(conversation.id) === last.id) return;
    this.#markedUpTo.set(conversation.id, last.id);
    this.session.mention({ type: "mark_read", conversation_id: conversation.id, message_id: last.id });
  }

  #setContext(context) {
    const input = this.#at("textarea");
    if (this.#context?.kind === "edit") input.value = "";
    this.#context = context;
    this.#at(".context").hidden = !context;
    this.#at(".send").textContent = context?.kind === "edit" ? "Save" : "Send";
    if (!context) return;
    const { kind, message } = context;
    const what = kind === "edit" ? "Editing" : `Replying to ${fullName(message.sender)}:`;
    this.#at(".context span").textContent = `${what} ${message.content}`;
    if (kind === "edit") input.value = message.content;
    this.#fit();
    input.focus();
  }

  // Drawing.

  /** There is more room, or less: another side is shown. */
  resized() {
    this.#draw();
  }

  /** Draws once per frame, however much changes. A page in the background has no frames, and reads nothing. */
  #draw() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      this.#openFirst();
      this.#drawState();
      this.#drawList();
      this.#drawThread();
      this.#drawNotifications();
      this.#markRead();
    });
  }

  /** Where there is room for a thread beside the list, one is open. */
  #openFirst() {
    const hasRoom = this.element.offsetParent !== null && getComputedStyle(this.#at(".back")).display === "none";
    if (this.#openId === null && hasRoom && this.session.conversations.has(this.settings.open)) {
      this.#open(this.settings.open);
    }
    if (this.#openId !== null && !this.#conversation() && this.session.state.name === "open") this.#open(null);
  }

  #drawState() {
    const { state } = this.session;
    const texts = {
      loading: () => "loading …",
      connecting: () => "connecting …",
      resuming: () => "catching up …",
      open: () => "online",
      waiting: () => `${state.why}; again in ${Math.max(0, Math.ceil((state.until - Date.now()) / 1000))} s`,
      offline: () => "offline, by hand",
      closed: () => `closed with ${state.code}: ${state.meaning}`,
    };
    const shown = this.#at(".connection");
    const text = texts[state.name]();
    if (shown.textContent !== text) shown.textContent = text;
    shown.dataset.state = state.name;
    this.#at(".line").textContent = state.name === "offline" ? "Go online" : "Go offline";
    this.#at(".line").disabled = state.name === "closed" || state.name === "loading";
  }

  #drawList() {
    const last = (conversation) => Math.max(0, ...conversation.messages.keys());
    const sorted = [...this.session.conversations.values()].sort((a, b) => last(b) - last(a));
    const rows = sorted.map((conversation) => this.#listRow(conversation, conversation.messages.get(last(conversation))));
    replaceRows(this.#at(".conversations ul"), this.#rows, rows);
  }

  #listRow(conversation, message) {
    const other = this.#other(conversation);
    const unread = this.session.unread(conversation);
    const typists = this.session.typists(conversation);
    const preview = !message ? "" : message.is_deleted ? "Message deleted" : message.content || "Attachment";
    const sender = message && (message.sender.id === this.session.user.id ? "You: " : other ? "" : `${message.sender.first_name}: `);
    const facts = {
      name: this.#title(conversation),
      text: typists.length ? "typing …" : `${sender ?? ""}${preview}`,
      unread,
      time: message ? clockTime(message.timestamp) : "",
      status: other && this.session.presence.get(other.id),
      isOpen: conversation.id === this.#openId,
    };
    const make = () => {
      const avatar = element("span", { className: "avatar" });
      this.#paintAvatar(avatar, other ?? { id: 0, first_name: facts.name, last_name: "" }, facts.status);
      const button = element(
        "button",
        { type: "button", onclick: () => this.#open(conversation.id), data: { conversation: conversation.id, focus: "open" } },
        avatar,
        element("span", { className: "row" }, element("strong", {}, facts.name), element("time", {}, facts.time)),
        element(
          "span",
          { className: "row" },
          element("span", { className: typists.length ? "preview is-typing" : "preview" }, facts.text),
          unread > 0 && element("span", { className: "badge", title: `${unread} unread` }, String(unread)),
        ),
      );
      if (facts.isOpen) button.setAttribute("aria-current", "true");
      return element("li", {}, button);
    };
    return { key: `conversation ${conversation.id}`, facts, make };
  }

  #drawThread() {
    const conversation = this.#conversation();
    this.#at(".thread").classList.toggle("is-empty", !conversation);
    if (!conversation) return;
    this.#at(".title").textContent = this.#title(conversation);
    this.#at(".about").textContent = this.#about(conversation);
    const typists = this.session.typists(conversation).map((one) => one.first_name || fullName(one));
    this.#at(".typing").textContent = typists.length ? `${typists.join(", ")} ${typists.length > 1 ? "are" : "is"} typing …` : "";

    const list = this.#at(".messages");
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
    const rows = this.#messages().map((message) => this.#messageRow(conversation, message));
    if (conversation.hasMore) rows.unshift(this.#earlierRow(conversation));
    for (const waiting of this.session.pending.values()) {
      if (waiting.command.type === "chat_message" && waiting.command.conversation_id === conversation.id) {
        rows.push(this.#pendingRow(waiting));
      }
    }
    const isNew = list.childElementCount === 0;
    replaceRows(list, this.#rows, rows);
    if (isAtEnd || isNew) this.#scrollToEnd();
  }

  #earlierRow(conversation) {
    const make = () => {
      const load = () => void this.session.loadEarlier(conversation.id);
      return element("li", { className: "earlier" }, element("button", { type: "button", className: "quiet", onclick: load }, "Earlier messages"));
    };
    return { key: "earlier", facts: Math.min(...conversation.messages.keys()), make };
  }

  #messageRow(conversation, message) {
    const isOwn = message.sender.id === this.session.user.id;
    const receipt = isOwn && !message.is_deleted ? this.session.receipt(conversation, message) : null;
    const facts = { message, receipt: receipt && [receipt.status, receipt.people.map((one) => one.id)] };
    return { key: `message ${message.id}`, facts, make: () => this.#messageNode(conversation, message, isOwn, receipt) };
  }

  #messageNode(conversation, message, isOwn, receipt) {
    const avatar = element("span", { className: "avatar" });
    this.#paintAvatar(avatar, message.sender);
    const text = message.is_deleted ? "This message was deleted" : message.content;
    const about = element("p", { className: "meta" }, element("time", { title: message.timestamp }, clockTime(message.timestamp)));
    if (message.edited_at && !message.is_deleted) about.append(" · edited");
    if (receipt) about.append(" ", ticks(receipt));
    const bubble = element(
      "div",
      { className: message.is_deleted ? "bubble is-deleted" : "bubble" },
      !isOwn && conversation.kind === "group" && element("strong", { className: "sender" }, fullName(message.sender)),
      message.reply_to && quote(message.reply_to),
      ...message.attachments.map((one) => attachment(one)),
      text !== "" && element("p", { className: "text", dir: "auto" }, text),
      about,
    );
    return element(
      "li",
      { className: isOwn ? "message is-own" : "message", data: { message: message.id } },
      !isOwn && avatar,
      element("div", { className: "body" }, bubble, this.#reactions(message), !message.is_deleted && this.#tools(message, isOwn)),
    );
  }

  #reactions(message) {
    if (message.reactions.length === 0) return null;
    const groups = Map.groupBy?.(message.reactions, (one) => one.reaction) ?? groupBy(message.reactions);
    const chips = [...groups].map(([reaction, all]) => {
      const isMine = all.some((one) => one.user.id === this.session.user.id);
      const chip = element(
        "button",
        { type: "button", title: all.map((one) => fullName(one.user)).join(", "), onclick: () => this.#act("react", message, reaction), data: { focus: `chip ${reaction}` } },
        `${all[0].emoji} ${all.length}`,
      );
      chip.setAttribute("aria-pressed", String(isMine));
      return chip;
    });
    return element("div", { className: "chips" }, ...chips);
  }

  #tools(message, isOwn) {
    const tool = (label, title, action, reaction) => {
      const onclick = () => this.#act(action, message, reaction);
      const button = element("button", { type: "button", title, onclick, data: { focus: title } }, label);
      button.setAttribute("aria-label", title);
      return button;
    };
    const bar = element(
      "div",
      { className: "tools" },
      ...Object.entries(REACTIONS).map(([name, emoji]) => tool(emoji, name, "react", name)),
      tool("↩", "Reply", "reply"),
      ...(isOwn ? [tool("✎", "Edit", "edit"), tool("🗑", "Delete", "delete")] : []),
    );
    bar.setAttribute("role", "toolbar");
    bar.setAttribute("aria-label", "What to do with this message");
    // One stop for the tab key in each message; the arrows go on from there.
    const buttons = [...bar.children];
    buttons.forEach((button, at) => (button.tabIndex = at === 0 ? 0 : -1));
    bar.onkeydown = ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      const at = buttons.indexOf(document.activeElement);
      if (step && at >= 0) buttons[(at + step + buttons.length) % buttons.length].focus();
    };
    return bar;
  }

  #pendingRow({ command, refusal }) {
    const { client_id: clientId } = command;
    const make = () => {
      const about = element("p", { className: "meta" }, refusal ?? "waiting to be stored …");
      if (refusal) {
        about.append(
          " ",
          element("button", { type: "button", className: "quiet", onclick: () => this.session.retry(clientId) }, "Try again"),
          element("button", { type: "button", className: "quiet", onclick: () => this.session.giveUp(clientId) }, "Discard"),
        );
      }
      const bubble = element("div", { className: "bubble" }, element("p", { className: "text", dir: "auto" }, command.message), about);
      const kind = refusal ? "message is-own is-refused" : "message is-own is-pending";
      return element("li", { className: kind }, element("div", { className: "body" }, bubble));
    };
    return { key: `pending ${clientId}`, facts: refusal ?? "", make };
  }

  #drawFiles() {
    const files = this.#at(".files");
    files.hidden = this.#files.length === 0;
    const chip = (file) => {
      const remove = () => {
        this.#files = this.#files.filter((one) => one !== file);
        this.#drawFiles();
      };
      return element("button", { type: "button", className: "quiet", title: "Remove", onclick: remove }, `${file.name} ✕`);
    };
    files.replaceChildren(...this.#files.map(chip));
  }

  #drawNotifications() {
    const sorted = [...this.session.notifications.values()].sort((a, b) => b.id - a.id);
    const unread = sorted.filter((one) => !one.is_read).length;
    const badge = this.#at(".bell .badge");
    badge.hidden = unread === 0;
    badge.textContent = String(unread);
    this.#at(".bell").setAttribute("aria-label", `Notifications, ${unread} unread`);
    this.#at(".all-read").disabled = unread === 0;
    const rows = sorted.map((one) => ({ key: `notification ${one.id}`, facts: one, make: () => this.#notification(one) }));
    replaceRows(this.#at(".notifications ul"), this.#rows, rows);
  }

  #notification(one) {
    const read = () => {
      this.session.mention({ type: "mark_read", notification_ids: [one.id] });
      this.#showNotifications(false);
      if (this.session.conversations.has(one.data.conversation_id)) this.#open(one.data.conversation_id);
    };
    const button = element(
      "button",
      { type: "button", className: one.is_read ? "" : "is-unread", onclick: read, data: { focus: "notification" } },
      element("span", { className: "row" }, element("strong", {}, one.title), element("time", {}, clockTime(one.timestamp))),
      element("span", { dir: "auto" }, one.message),
    );
    return element("li", {}, button);
  }

  #showNotifications(isShown) {
    this.#at(".notifications").hidden = !isShown;
    this.#at(".bell").setAttribute("aria-expanded", String(isShown));
  }

  // Small things.

  #other(conversation) {
    if (conversation.kind !== "direct") return null;
    return [...conversation.people.values()].find((person) => person.id !== this.session.user.id) ?? null;
  }

  #title(conversation) {
    const other = this.#other(conversation);
    return conversation.title ?? (other ? fullName(other) : `Conversation ${conversation.id}`);
  }

  #about(conversation) {
    const other = this.#other(conversation);
    if (other) return this.session.presence.get(other.id) ?? "offline";
    const people = [...conversation.people.values()].sort((a, b) => a.id - b.id);
    const online = people.filter((one) => this.session.presence.get(one.id) === "online" || one.id === this.session.user.id);
    return `${people.map((one) => one.first_name).join(", ")} · ${online.length} online`;
  }

  #paintAvatar(avatar, person, status) {
    avatar.textContent = person.id === this.settings.bot_id ? "🤖" : initials(person);
    avatar.dataset.hue = String(person.id % 5);
    if (status) avatar.dataset.status = status;
    avatar.setAttribute("aria-hidden", "true");
  }

  #say(text) {
    this.#at(".typing").textContent = text;
  }

  #fit() {
    const input = this.#at("textarea");
    input.style.height = "auto";
    input.style.height = `${Math.min(input.scrollHeight, 140)}px`;
  }

  #scrollToEnd() {
    const list = this.#at(".messages");
    list.scrollTop = list.scrollHeight;
  }
}
