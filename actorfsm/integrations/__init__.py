"""Where a program already lives: each module needs an extra, and says which one if it is not there."""
