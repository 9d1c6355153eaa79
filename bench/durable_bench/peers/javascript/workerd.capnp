using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    ( name = "main", worker = .counter ),
    ( name = "storage", disk = ( writable = true ) ),
  ],
  sockets = [ ( name = "http", http = (), service = "main" ) ],
);

const counter :Workerd.Worker = (
  modules = [ ( name = "worker", esModule = embed "workerd_counter.js" ) ],
  compatibilityDate = "2026-11-01",
  durableObjectNamespaces = [ ( className = "Counter", uniqueKey = "durable-bench-counter", enableSql = true ) ],
  durableObjectStorage = ( localDisk = "storage" ),
  bindings = [ ( name = "COUNTER", durableObjectNamespace = "Counter" ) ],
);
