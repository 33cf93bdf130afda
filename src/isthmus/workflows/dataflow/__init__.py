"""The dataflow core: steps, ports and values with scatter positions. Pure, and knows no language of workflows.

graph       what there is to run: steps and how their ports are fed
gather      from what feeds a port to its value
scatter     from one set of inputs to many, and back to lists
machine     a run: events in, instructions out
"""
