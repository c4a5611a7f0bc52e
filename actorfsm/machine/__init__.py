"""Machine definitions: pure. No asyncio, clock, randomness, logging or I/O on this floor."""
