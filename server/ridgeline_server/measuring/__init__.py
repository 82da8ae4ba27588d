"""Speed and memory of plans, each in a process of its own, through the runtimes that serve them."""
