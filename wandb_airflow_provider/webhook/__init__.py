"""
The receiver of W&B's webhooks in Airflow's API server.

A webhook is a signed hint that an alias has changed, not the change itself: W&B's variables can name a version, but no
digest, time or delivery, so that one which is sent again equals that of an equal move. So the alias is read from W&B,
in a process beside the API server, and compared with what was last reported. A replayed, late or repeated webhook finds
nothing new, whoever sent it and to whichever API server.
"""

from __future__ import annotations
