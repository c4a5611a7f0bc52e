"""Speed of actorfsm beside raw asyncio and its peers; run it with `python -m tests.benchmarks`."""
