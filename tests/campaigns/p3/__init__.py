"""P3: kill -9, and loss of power, while machines commit."""
