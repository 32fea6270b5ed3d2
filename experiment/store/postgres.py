"""The event store for several writing nodes: PostgreSQL through ADBC, rows sent as Arrow by COPY."""
