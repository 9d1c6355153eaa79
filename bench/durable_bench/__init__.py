"""How fast the engine is, measured from outside: a real server process, the typed API, commits on disk.

`durable-engine bench` (`cli`) measures. A run (`runner`) goes from stores and servers (`stores`, `server`) to scenarios
(`scenarios`, `workloads`), which are put under load by callers (`measure`, `clients`, `load`), and ends in `results`,
of which `report`, `compare` and `charts` tell. What has no calls per second is measured in `alarms` and `memory`.
"""
