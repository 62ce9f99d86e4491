"""
The receiver of W&B's webhooks in Airflow's API server.

A webhook is a signed hint that an alias has changed, not the change itself: W&B's variables name neither version nor
time, and equal moves have equal bodies. So the alias is read from W&B, in a process beside the API server, and compared
with what was last reported. A replayed, late or repeated webhook finds nothing new, whoever sent it and to whichever
API server.
"""

from __future__ import annotations
