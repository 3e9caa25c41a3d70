// What the browser tests share: a server process, the platform's calls, tokens, and pages in Chromium.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const SECRET = "the secret of the browser tests, long enough for HS256";
const API_KEY = "the-api-key-of-the-browser-tests";

/** An access token of the user, as PyJWT would make it; `claims` are added to the usual ones. */
export function token(userId, claims = {}) {
  const now = Math.floor(Date.now() / 1000);
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const payload = { token_type: "access", user_id: userId, iat: now, exp: now + 3600, ...claims };
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(payload)}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

/** A `tidings` process that listens, in a folder of its own. */
export class Process {
  /** The public listener, such as `127.0.0.1:41234`. */
  address = "127.0.0.1:0";
  /** All that was printed. */
  output = "";
  #command;
  #settings;
  #process;
  #folder;

  static async start(command, settings) {
    const process = new this();
    process.#command = command;
    process.#settings = settings;
    process.#folder = await mkdtemp(join(tmpdir(), "tidings-browser-"));
    await process.startAgain();
    return process;
  }

  /** Starts it after a kill, on the same port and in the same folder. */
  async startAgain() {
    const own = { PATH: process.env.PATH, TMPDIR: this.#folder, TIDINGS_DATA_DIR: this.#folder };
    const env = { ...own, ...this.#settings, TIDINGS_LISTEN: this.address };
    const options = { cwd: this.#folder, env, stdio: ["ignore", "pipe", "pipe"] };
    this.#process = spawn(process.env.TEST_TIDINGS, [this.#command], options);
    this.output = "";
    this.address = await new Promise((resolve, reject) => {
      const read = (chunk) => {
        this.output += chunk;
        const ready = this.output.match(/listening on http:\/\/([\d.:]+)/);
        if (ready) resolve(ready[1]);
      };
      this.#process.stdout.on("data", read);
      this.#process.stderr.on("data", read);
      this.#process.once("error", reject);
      this.#process.once("exit", (code) => reject(new Error(`it ended with ${code}; it printed:\n${this.output}`)));
    });
  }

  /** Ends it as a crash would. */
  async kill() {
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await ended;
  }

  async end() {
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** A server on a database of its own. */
export class Server extends Process {
  static start() {
    const settings = { TIDINGS_ADMIN_LISTEN: "off", TIDINGS_JWT_SECRET: SECRET, TIDINGS_API_KEY: API_KEY };
    return super.start("serve", settings);
  }

  /** A call of the platform's at `/api/v1`. */
  async platform(method, path, body) {
    const response = await fetch(`http://${this.address}/api/v1/${path}`, {
      method,
      headers: { authorization: `Bearer ${API_KEY}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${await response.clone().text()}`);
    return response.json();
  }

  /** Makes two users and their conversation, and gives its id. */
  async conversation() {
    await this.platform("PUT", "users/1", { first_name: "Ada", last_name: "Lovelace" });
    await this.platform("PUT", "users/2", { first_name: "John", last_name: "Doe" });
    return (await this.platform("POST", "conversations", { participant_ids: [1, 2] })).id;
  }
}

export function launch() {
  // Chromium's sandbox refuses to run as root, as which CI often runs.
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath: process.env.TEST_CHROMIUM, args });
}

/** Compiles a script with all it imports, and makes it speak to `server` where it says `localhost:8000`. */
export async function bundle(entry, server) {
  const result = await build({
    entryPoints: [new URL(entry, import.meta.url).pathname],
    bundle: true,
    write: false,
    format: "iife",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"development"' },
    logLevel: "error",
  });
  return result.outputFiles[0].text.replaceAll("localhost:8000", server.address);
}

/** Opens a page of a front end's own origin, with `script` in it and `settings` for it. */
export async function open(browser, script, settings = {}) {
  const html = `<!doctype html><meta charset="utf-8"><div id="root"></div>
    <script>window.settings = ${JSON.stringify(settings)}</script><script src="/app.js"></script>`;
  // Served for real: to a page whose address no server answered, Chromium refuses sockets on this machine.
  const frontEnd = createServer((request, response) => {
    const [type, body] = request.url === "/app.js" ? ["text/javascript", script] : ["text/html", html];
    response.writeHead(200, { "content-type": type, connection: "close" }).end(body);
  });
  await once(frontEnd.listen(0, "127.0.0.1"), "listening");
  const page = await browser.newPage();
  page.setDefaultTimeout(15_000);
  await page.goto(`http://127.0.0.1:${frontEnd.address().port}/`);
  frontEnd.close();
  return page;
}
