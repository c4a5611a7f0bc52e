"""What the programmes about disks share: a shim between SQLite and the disk, and what a loss of power leaves."""
