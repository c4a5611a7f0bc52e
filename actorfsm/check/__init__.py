"""A static check of the machines of a system: what their classes, taken together, can be seen to get wrong."""
