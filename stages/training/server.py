"""What the server that forks the workers imports first: Ctrl-C ends it, and new workers, without a traceback.

The stage prints the message. No other process imports this module.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)
