"""The HTTP API of ``depthlight serve`` (docs/reference/http-api.md).

``api.py`` makes the application; ``server.py`` runs it. A request passes ``guard.py`` (who, from where, how much),
``forms.py`` (what is asked for), waits in a ``pool.py`` queue as a ``jobs.py`` job, and is computed in a process of its
own, ``worker.py``, so that the event loop never blocks and work can be ended at any moment.
"""
