"""The Open Inference Protocol over gRPC."""

import os

# The library reads these when it is imported. Workers are started by fork and exec at once: its handlers of forks
# have nothing to do there, and would say so each time.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
