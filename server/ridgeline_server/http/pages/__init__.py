"""The dashboard: files that a browser loads, and the data that they ask for."""
