"""P4: each write, sync and truncation of the journal's files fails, one after the other, and the disk is full."""
