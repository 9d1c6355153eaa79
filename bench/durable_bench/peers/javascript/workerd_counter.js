// A Durable Object with SQLite storage. The count is kept in memory as well, as Cloudflare's examples do, so that reads
// touch no storage. The runtime's output gate holds a reply back until what was written before it is on disk.

import { DurableObject } from "cloudflare:workers";

export class Counter extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    this.count = ctx.storage.kv.get("count") ?? 0;
  }

  add() {
    this.count += 1;
    this.ctx.storage.kv.put("count", this.count);
    return this.count;
  }

  read() {
    return this.count;
  }
}

export default {
  async fetch(request, env) {
    const [, operation, id] = new URL(request.url).pathname.split("/");
    const counter = env.COUNTER.getByName(decodeURIComponent(id));
    return new Response(String(await (operation === "add" ? counter.add() : counter.read())));
  },
};
