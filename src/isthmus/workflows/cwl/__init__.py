"""CWL v1.0, v1.1 and v1.2, translated into the dataflow core and into work that a machine or a site can do.

loading ─► reading ─► model ─► translation ─► dataflow graph
                                    │
  inputs ─► command ─► (the step runs) ─► outputs ─► result
"""
