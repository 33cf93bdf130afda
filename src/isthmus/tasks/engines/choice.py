"""Which engine: made on first use, so that only the one that is wanted is imported."""

from typing import Any

from isthmus.tasks.settings import Settings


def make(settings: Settings) -> Any:
    """The program with the engine that the settings name, started."""
    if settings.engine == "sequential":
        from isthmus.tasks.engines.sequential import Sequential

        return Sequential(settings)
    from isthmus.tasks.program import Program

    program: Program
    if settings.engine == "threads":
        from isthmus.tasks.engines.threads import Threaded

        program = Threaded(settings)
        program.engine.start()
        return program

    def engine(program: Any) -> Any:
        if settings.engine == "ray":
            from isthmus.tasks.engines.ray import RayEngine

            return RayEngine(program, settings)
        if settings.engine == "agent":
            from isthmus.tasks.agents.engine import AgentEngine

            return AgentEngine(program, settings)
        from isthmus.tasks.engines.processes.engine import Processes

        return Processes(program, settings)

    program = Program(settings, engine)
    program.engine.start()
    return program
