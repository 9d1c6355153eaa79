// The worker for peers that speak HTTP/1.1: the loop of closed_loop.py, over one connection that is kept alive for each caller.
//
// Argument: a description in JSON: {"base": "http://127.0.0.1:8080", "add": REQUEST, "read": REQUEST}, where REQUEST is
// {"method": "POST", "path": "/{id}/add", "body": "..."?}. Answers are numbers as text. Runs beside a node_modules with undici.

import { createInterface } from "node:readline";
import { Pool } from "undici";

const ERROR_PAUSE_MS = 10;
const ERROR_LETTERS_MAX = 160;
const TOTAL_CALLERS = 64;
const TIMEOUT_MS = 60_000;

const peer = JSON.parse(process.argv[2]);

class Failed extends Error {}

// Requests go to undici's dispatcher itself: its promise and stream interfaces cost half of what a call costs here.
function call(pool, request, id) {
  return new Promise((resolve, reject) => {
    let status = 0;
    let text = "";
    pool.dispatch(
      {
        method: request.method,
        path: request.path.replace("{id}", encodeURIComponent(id)),
        headers: request.body === undefined ? undefined : { "content-type": "application/json" },
        body: request.body,
      },
      {
        onRequestStart() {},
        onResponseStart(_controller, statusCode) {
          status = statusCode;
        },
        onResponseData(_controller, chunk) {
          text += chunk.toString("latin1");
        },
        onResponseEnd() {
          if (status === 200) resolve(text);
          else reject(new Failed(`HTTP ${status}: ${text}`));
        },
        onResponseError(_controller, error) {
          reject(error);
        },
      },
    );
  });
}

function number(text) {
  const found = Number(text);
  if (text === "" || !Number.isInteger(found)) throw new Failed(`not a count: ${text}`);
  return found;
}

function pooled(connections) {
  return new Pool(peer.base, { connections, pipelining: 1, headersTimeout: TIMEOUT_MS, bodyTimeout: TIMEOUT_MS });
}

const pause = () => new Promise((resolve) => setTimeout(resolve, ERROR_PAUSE_MS));
const cpuSeconds = (usage) => (usage.user + usage.system) / 1e6;

async function drive(load) {
  const pool = pooled(load.callers);
  const request = peer[load.operation];
  const latencies = [];
  const errors = {};
  let started = 0;
  const before = process.cpuUsage();
  const begun = performance.now();
  const end = begun + load.seconds * 1e3;

  async function caller() {
    let sent = performance.now();
    while (sent < end && !(load.once && started >= load.count)) {
      const index = load.once ? started : started % load.count;
      started += 1;
      try {
        number(await call(pool, request, load.prefix + index));
        const replied = performance.now();
        latencies.push(replied - sent);
        sent = replied;
      } catch (error) {
        const said = `${error.code ?? error.name}: ${error.message}`.slice(0, ERROR_LETTERS_MAX);
        errors[said] = (errors[said] ?? 0) + 1;
        await pause();
        sent = performance.now();
      }
    }
  }

  await Promise.all(Array.from({ length: load.callers }, caller));
  const seconds = (performance.now() - begun) / 1e3;
  const cpu = cpuSeconds(process.cpuUsage(before));
  await pool.close();
  return {
    calls: latencies.length,
    seconds,
    latency_us: histogram(latencies),
    driver_cpu_seconds: cpu,
    errors,
    ids_used: Math.min(started, load.count),
  };
}

// Three significant digits, as `histogram_us` in load.py.
function histogram(milliseconds) {
  const counts = {};
  for (const one of milliseconds) {
    const us = Math.max(1, Math.round(one * 1e3));
    const step = 10 ** Math.max(0, String(us).length - 3);
    const rounded = Math.round(us / step) * step;
    counts[rounded] = (counts[rounded] ?? 0) + 1;
  }
  return counts;
}

async function total({ prefix, count }) {
  const pool = pooled(TOTAL_CALLERS);
  let next = 0;
  let found = 0;
  async function reader() {
    while (next < count) {
      next += 1;
      // Into a constant first: `found +=` would read `found` before the reply, and lose what came meanwhile.
      const counted = number(await call(pool, peer.read, prefix + (next - 1)));
      found += counted;
    }
  }
  await Promise.all(Array.from({ length: TOTAL_CALLERS }, reader));
  await pool.close();
  return { total: found };
}

const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");

say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  try {
    say(asked.do === "drive" ? await drive(asked.load) : await total(asked));
  } catch (error) {
    say({ error: `${error.name}: ${error.message}` });
  }
}
