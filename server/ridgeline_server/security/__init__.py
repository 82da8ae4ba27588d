"""What stands between the server and people: keys, what each key may use, and TLS. Knows no HTTP."""
