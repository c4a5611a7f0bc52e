"""Orders of a shop, driven by a log of events: `python -m examples.orders [FILE | -]`."""
