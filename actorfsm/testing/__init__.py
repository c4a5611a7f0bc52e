"""What the project proves itself with, for the machines of its users: a simulated loop and injected faults."""
