"""Tables and models on disk: schemas, reading and writing, journals, digests."""
