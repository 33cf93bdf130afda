"""Worker processes on this machine: the engine that is used where nothing else is asked for.

engine     the program's side: what comes back, and what to do when a worker dies
dispatch   which worker gets which call; `clock`: tasks that run too long, workers that are silent
staff      the workers, as they come and go; `hands`: one of them, as the program knows it
post       what is sent to them, in batches; `errands` are calls that a worker's task has made
nursery    a process forked early, that forks the workers, and cleans up when the program is killed
worker     runs calls in batches; `nested` is the engine of the tasks that those calls call
values     how values travel: as they are, pickled, or in shared memory
arrays     arrays that the program passes again and again; `pages`: which of them were written to
store      files in shared memory, and on disk when that is full; `spare`: those that wait to serve again
mappings   a worker's mappings of such files
wire       frames over socket pairs
"""
