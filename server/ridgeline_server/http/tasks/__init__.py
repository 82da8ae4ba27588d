"""Our own protocol: every task under `/tasks/{task}`, with timings and cost in each answer."""
