"""The Open Inference Protocol over gRPC."""

import os

# The library reads these when it is imported. Workers are started by fork and exec at once: its handlers of forks
# have nothing to do there, and would say so each time. What it logs otherwise are its clients' mistakes, a line for
# each, before they have shown a key; what the server itself does wrong it raises.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
