// A Virtual Object of Restate's TypeScript SDK, served to restate-server over HTTP/2. Argument: the port.

import { createServer } from "node:http2";
import * as restate from "@restatedev/restate-sdk";

// The SDK calls it, and Node.js has it from 22 on.
Promise.withResolvers ??= () => {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};

const counter = restate.object({
  name: "counter",
  handlers: {
    add: async (ctx) => {
      const count = ((await ctx.get("count")) ?? 0) + 1;
      ctx.set("count", count);
      return count;
    },
    // Shared handlers of one key run side by side, also while an exclusive one does.
    read: restate.handlers.object.shared(async (ctx) => (await ctx.get("count")) ?? 0),
  },
});

createServer(restate.createEndpointHandler({ services: [counter] })).listen(Number(process.argv[2]), "127.0.0.1");
