"""Placement: which job, which site, which nodes. Pure: no I/O, no clock, no database.

    queue (Need -> jobs) ─┐
                          ├─► filter ─► score ─► assign ─► Plan
    sites (SiteSnapshot) ─┘     │
                                └─ each rejection is kept for `explain`

`needs` says what jobs ask for, `snapshot` what sites have, `constraints`, `filters` and `scores` judge one against the
other, `policies` say who goes first, `backfill` who may pass, `plan` assigns. `waits` learns, `forecast` plays the
queue through. The same snapshot gives the same plan.
"""
