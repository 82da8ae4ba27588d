"""A stand-in for a candidate's process that goes wrong as its first argument says."""

import os
import signal
import socket
import sys
import time

from ridgeline_server.engine.framing import read_frame, write_frame
from ridgeline_server.measuring.messages import Broken, Prepared

how = sys.argv[1]
connection = socket.socket(fileno=int(sys.argv[2]))
stream = connection.makefile("rb")
read_frame(stream)
if how == "cannot load":
    write_frame(connection, Broken("RuntimeError: no such\n  kernel"))
    sys.exit(0)
if how == "exits":
    sys.exit("the library said something\nand the last line of it")
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "crashes":
    os.kill(os.getpid(), signal.SIGSEGV)
if how == "hangs":
    time.sleep(60)
write_frame(connection, Prepared(1))
read_frame(stream)
