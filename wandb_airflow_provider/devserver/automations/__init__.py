"""
Automations: what is done when something happens to an artifact, a collection or a run.

Triggers of the database note what happens, in the transaction in which it happens. A worker thread finds the
automations that it fires, once each, and sends their webhooks until they are delivered or given up. All of it is in
the database, so that a server which was killed goes on where it was.
"""
