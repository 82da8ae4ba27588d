"""Requests that no honest client sends, over HTTP and gRPC, and what a server may answer to them."""
