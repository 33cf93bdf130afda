"""Agents: each machine serves functions on request, and gives tasks to its neighbours when they are sooner done there.

    request ──> Agent ──> driver (a process a run: the function, with a graph of its own) ──> tasks ─┐
                  ▲                                                                                 │
                  └── queue of tasks <──────────────────────────────────────────────────────────────┘
                        ├── this machine's workers: a program of the processes engine
                        └── a neighbour's agent, over HTTP, which may give it on

`estimate` decides where, `agent` acts, `web` answers requests, `driver` runs a function. See docs/agents.md.
"""
