"""Workflows: graphs of steps, each run where it fits. Built on `isthmus.client`; the control plane knows jobs only.

cwl, streamflow        what people write
      │ translate
   dataflow            the pure core: events in, instructions out
      │ instructions
   driver              carries them out: steps on its own machine, jobs at sites; remembers in a database
"""
