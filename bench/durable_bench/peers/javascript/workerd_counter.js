// A Durable Object with SQLite storage. The count is kept in memory as well, as Cloudflare's examples do, so that reads
// touch no storage. The runtime's output gate holds a reply back until what was written before it is on disk.
// It is called by `fetch`: an RPC method was a little slower when tried, with one object.

import { DurableObject } from "cloudflare:workers";

export class Counter extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    this.count = ctx.storage.kv.get("count") ?? 0;
  }

  fetch(request) {
    if (request.method === "POST") {
      this.count += 1;
      this.ctx.storage.kv.put("count", this.count);
    }
    return new Response(String(this.count));
  }
}

export default {
  fetch(request, env) {
    const id = decodeURIComponent(new URL(request.url).pathname.slice(1));
    return env.COUNTER.getByName(id).fetch(request);
  },
};
