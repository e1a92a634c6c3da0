// Starts what the browser tests need, and ends it: the local SFU, pages on localhost, Chromium,
// GStreamer pipelines. Everything listens on 127.0.0.1, on ports the system chooses.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

export const APP_ID = 'browser-tests';
export const APP_SECRET = 'not-much-of-a-secret';
const PAGES = fileURLToPath(new URL('../page/', import.meta.url));

// Polls until check() gives something true; the error says what was waited for and what was seen.
export async function until(what, check, timeoutMs = 15000) {
  const end = Date.now() + timeoutMs;
  for (let seen; ;) {
    seen = await check();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function exited(child) {
  return child.exitCode !== null || child.signalCode !== null;
}

async function end(child, signal = 'SIGTERM', timeoutMs = 5000) {
  if (exited(child)) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  await gone;
  clearTimeout(timer);
}

// The output of a child as lines that can be waited for.
function watch(child, name) {
  const output = { text: '' };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (data) => { output.text = (output.text + data).slice(-200000); });
  }
  output.match = (pattern, timeoutMs) => until(`${name} printing ${pattern}`, () => {
    const found = output.text.match(pattern);
    assert.ok(found || !exited(child), `${name} ended early:\n${output.text}`);
    return found;
  }, timeoutMs);
  return output;
}

function environment(extra = {}) {
  const { GST_DEBUG, ...inherited } = process.env;
  return { ...inherited, CFREALTIME_APP_ID: APP_ID, CFREALTIME_APP_SECRET: APP_SECRET, ...extra };
}

export class World {
  constructor() {
    this.ends = [];  // run in reverse
    this.directory = mkdtempSync(path.join(tmpdir(), 'cfrealtime-browser-'));
    this.ends.push(() => rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 }));
  }

  async start() {
    await this.startSfu();
    await this.startPages();
    await this.startBrowser();
    return this;
  }

  async startSfu() {
    const program = process.env.CFREALTIME_SFU ?? 'cfrealtime-sfu';
    const child = spawn(program, ['--port', '0'], { env: environment(), stdio: ['ignore', 'pipe', 'pipe'] });
    this.ends.push(() => end(child));
    this.sfu = watch(child, 'the SFU');
    const [url] = await this.sfu.match(/http:\/\/127\.0\.0\.1:\d+/);
    this.sfuUrl = url;
    this.apiUrl = `${url}/v1`;
  }

  async startPages() {
    const types = { '.html': 'text/html', '.js': 'text/javascript' };
    const server = http.createServer(async (request, response) => {
      const name = path.basename(request.url.split('?')[0]) || 'index.html';
      try {
        const body = await readFile(path.join(PAGES, name));
        response.writeHead(200, { 'content-type': types[path.extname(name)] ?? 'text/plain' });
        response.end(body);
      } catch {
        response.writeHead(404).end();
      }
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    this.ends.push(() => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }));
    this.pagesUrl = `http://127.0.0.1:${server.address().port}/`;
  }

  async startBrowser() {
    const candidates = [process.env.CHROMIUM, '/usr/lib/chromium/chromium', '/usr/bin/chromium'];
    const executablePath = candidates.find((file) => file && existsSync(file));
    assert.ok(executablePath, 'Chromium is not installed (apt-get install chromium)');
    this.browser = await chromium.launch({
      executablePath,
      headless: true,
      env: { ...process.env, HOME: this.directory, XDG_CONFIG_HOME: this.directory },
      args: [
        '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
        '--disable-background-networking', '--disable-component-update', '--disable-sync',
        '--allow-loopback-in-peer-connection', '--autoplay-policy=no-user-gesture-required',
        '--use-fake-ui-for-media-stream', '--mute-audio',
        '--disable-features=WebRtcHideLocalIpsWithMdns,MediaRouter,OptimizationHints',
      ],
    });
    this.ends.push(() => this.browser.close());
  }

  // A page in a context of its own, as if another person's browser.
  async page() {
    const context = await this.browser.newContext();
    const page = await context.newPage();
    page.problems = [];
    page.on('pageerror', (error) => page.problems.push(String(error)));
    page.on('console', (message) => {
      if (message.type() === 'error') page.problems.push(message.text());
    });
    await page.goto(this.pagesUrl);
    await page.waitForFunction(() => window.ready);
    return page;
  }

  clientSettings() {
    return { apiUrl: this.apiUrl, appId: APP_ID, appSecret: APP_SECRET };
  }

  // gst-launch-1.0 of a pipeline, with the environment that finds plugin and SFU.
  launch(pipeline, name = 'gst-launch') {
    const child = spawn('gst-launch-1.0', ['-v', '-e', ...words(pipeline)], {
      env: environment({ CFREALTIME_API_URL: this.apiUrl }), stdio: ['ignore', 'pipe', 'pipe'],
    });
    const stop = () => end(child, 'SIGINT', 10000);
    this.ends.push(stop);
    return { child, stop, output: watch(child, name) };
  }

  file(name) {
    return path.join(this.directory, name);
  }

  async debug(what) {
    return (await fetch(`${this.sfuUrl}/debug/${what}`)).json();
  }

  async stop() {
    for (const action of this.ends.reverse()) await action();
  }
}

// A launch line as words; quotes are not needed by any of ours.
function words(line) {
  return line.trim().split(/\s+/);
}

// Colours drift in conversion and coding, never this far.
export function assertColour(seen, wanted, what) {
  const distance = Math.max(...seen.map((value, i) => Math.abs(value - wanted[i])));
  assert.ok(distance <= 48, `${what}: rgb(${seen}) instead of rgb(${wanted})`);
}

export function rgb(css) {
  return [1, 3, 5].map((at) => parseInt(css.slice(at, at + 2), 16));
}

// Middles of the camera's quarters, above its counter strip.
export const QUARTERS = [[0.25, 5 / 24], [0.75, 5 / 24], [0.25, 5 / 8], [0.75, 5 / 8]];
