// What the driver itself can do: a server that answers with a number and does nothing else. Argument: the port.

import { createServer } from "node:http";

createServer((request, response) => {
  response.writeHead(200, { "content-length": 1 });
  response.end("0");
}).listen(Number(process.argv[2]), "127.0.0.1");
