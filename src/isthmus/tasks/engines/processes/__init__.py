"""Worker processes on this machine: the engine that is used where nothing else is asked for.

engine     the program's side: which worker gets what, what comes back, what to do when one dies
hands      a worker, as the program knows it; `errands` are calls that a worker's task has made
nursery    a process forked early, that forks the workers, and cleans up when the program is killed
worker     runs calls in batches; `nested` is the engine of the tasks that those calls call
values     how values travel: as they are, pickled, or in shared memory
store      files in shared memory, and on disk when that is full
wire       frames over socket pairs
"""
