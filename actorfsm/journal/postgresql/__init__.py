"""The journal on a PostgreSQL server: psycopg 3 from the extra `postgresql`, one connection, one writer thread."""
