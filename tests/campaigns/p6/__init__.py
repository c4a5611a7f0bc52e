"""P6: a journal's file is damaged in every way, and must never be believed where it is wrong."""
