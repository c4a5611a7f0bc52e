"""Checking an upgrade: what a journal holds, read with the classes of today, before a system does so (C28)."""
