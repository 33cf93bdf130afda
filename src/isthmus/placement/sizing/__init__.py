"""Joint scheduling and sizing: which job runs when, on which node, with how many GPUs of which type.

    Problem (nodes, VM types, jobs) ─┐
                                     ├─► simulate ──View──► method ──Decision──► Schedule ─► cost, Gantt chart
    method, restart costs, error   ──┘

`problem` and `schedule` are the two files' formats; `simulate` is the clock; a method answers each event with who runs
where until the next one. `greedy`, `random_greedy` and `path_relinking` are the published ones, `lists` the simple
ones; `mixing` is ours, on `hull` (cheapest ways to a deadline), `prices` (what a node's time is worth while there are
too few) and `packing` (onto nodes, moving as little as can be). `bound` says what no schedule can beat.

Pure, like all of placement: the same problem, method and seed give the same schedule. `prices`, `mixing` and `bound`
need numpy (the extra `placement`); the rest does not.
"""
