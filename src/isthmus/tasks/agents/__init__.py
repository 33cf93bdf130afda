"""The side of agents that asks: an engine for programs whose tasks agents run, and the line to an agent.

``ISTHMUS_TASKS=agent ISTHMUS_TASKS_ADDRESS=https://edge-1:8090 python app.py``. What answers is `isthmus.agents`.
"""
