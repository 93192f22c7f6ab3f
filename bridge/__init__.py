"""The data plane: durable blob stores behind a server, its client, a cache tier, search and ingestion."""
