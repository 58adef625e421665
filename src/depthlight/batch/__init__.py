"""Work from a manifest: many pairs and photos, in shards or on a Ray cluster, each result made once.

``manifest.py`` says what is to be done, ``kinds.py`` and ``refining.py`` how an item of each kind is done, ``desk.py``
does items (here, in a shard, in a Ray worker), ``places.py`` is where files are, ``ray.py`` hands items to Ray Data.
"""
