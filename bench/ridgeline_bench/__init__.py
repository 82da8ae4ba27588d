"""A load generator for text endpoints. It speaks HTTP and imports nothing of the server."""
